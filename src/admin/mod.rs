//! Sight over HTTP, on an address of its own: `/metrics`, `/healthz`, `/readyz`, `/status`, and a page for a person (M1).
//!
//! Asks the data thread for a snapshot and reads atomics; never makes it wait, changes nothing, knows no secret.

mod health;
mod recent;
mod serve;
mod source;

pub use health::Pulse;
pub use recent::Recent;
pub use serve::serve;
pub use source::{StatusRequests, StatusSource};

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::status::Status;
use crate::metrics::{CONTENT_TYPE, Metrics};

const PAGE: &str = include_str!("page.html");
const TEXT: &str = "text/plain; charset=utf-8";
/// The page brings all it needs and may ask only us.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the pages are made from. Clones share it.
#[derive(Debug, Clone)]
pub struct AdminState {
    metrics: Arc<Metrics>,
    status: StatusSource,
    recent: Recent,
    pulse: Arc<Pulse>,
}

impl AdminState {
    /// From the numbers, the way to the data thread, and the log's last warnings.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, status: StatusSource, recent: Recent) -> Self {
        let pulse = Arc::new(Pulse::new(serve::now(), metrics.ticks.get()));
        Self { metrics, status, recent, pulse }
    }

    /// A snapshot with the parts that the data thread need not be asked for.
    async fn snapshot(&self) -> Option<Status> {
        let mut status = self.status.snapshot().await?;
        status.counters = self.metrics.counters();
        status.rules = self.metrics.rules();
        status.warnings = self.recent.list();
        Some(status)
    }
}

fn router(state: AdminState) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(state)
}

async fn page() -> Response {
    let mut response = body(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    response
}

/// As of now: the data thread hands its numbers over when it is asked; one that is busy leaves those of its last tick.
async fn metrics(State(state): State<AdminState>) -> Response {
    drop(state.status.snapshot().await);
    body(StatusCode::OK, CONTENT_TYPE, state.metrics.render())
}

/// Alive: the data thread's clock turns. Asks it nothing, so that a busy one is not a dead one.
async fn healthz(State(state): State<AdminState>) -> Response {
    match state.pulse.check(serve::now(), state.metrics.ticks.get()) {
        Ok(()) => body(StatusCode::OK, TEXT, "alive\n"),
        Err(silent) => body(
            StatusCode::SERVICE_UNAVAILABLE,
            TEXT,
            format!("the data thread has not ticked for {} s\n", silent.as_secs()),
        ),
    }
}

async fn readyz(State(state): State<AdminState>) -> Response {
    let Some(status) = state.snapshot().await else {
        return busy(TEXT, "the data thread did not answer within a second\n");
    };
    match health::readiness(&status) {
        Ok(words) => body(StatusCode::OK, TEXT, words),
        Err(words) => body(StatusCode::SERVICE_UNAVAILABLE, TEXT, words),
    }
}

async fn status(State(state): State<AdminState>) -> Response {
    let json = "application/json";
    let Some(status) = state.snapshot().await else {
        return busy(json, r#"{"error":"the data thread did not answer within a second"}"#);
    };
    match serde_json::to_string_pretty(&status) {
        Ok(text) => body(StatusCode::OK, json, text),
        Err(error) => body(
            StatusCode::INTERNAL_SERVER_ERROR,
            TEXT,
            format!("status cannot be written as JSON: {error}\n"),
        ),
    }
}

fn busy(content_type: &'static str, words: &'static str) -> Response {
    body(StatusCode::SERVICE_UNAVAILABLE, content_type, words)
}

fn body(code: StatusCode, content_type: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (code, headers, body.into()).into_response()
}

#[cfg(test)]
mod tests;
