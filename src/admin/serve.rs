//! The HTTP server: bounded in connections, header size, header time and connection life.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::{AdminState, router};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// From the start of waiting for a request to the end of its headers.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Octets of a request's headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// A connection is closed after this, whoever reads slowly on it.
const CONNECTION_LIFE: Duration = Duration::from_secs(120);
/// What requests in progress get when the server stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// After a failed accept (out of descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[expect(
    clippy::disallowed_methods,
    reason = "the admin floor has a clock of its own, to notice a data thread that stands still"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Serves until `shutdown` is done. Never fails: a bad connection costs itself only, a failed accept is tried again.
pub async fn serve(listener: TcpListener, state: AdminState, shutdown: impl Future) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut looks = tokio::time::interval(Duration::from_secs(1));
    let pulse = (Arc::clone(&state.pulse), Arc::clone(&state.metrics));
    let service = TowerToHyperService::new(router(state));
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            _ = &mut shutdown => break,
            (stream, place) = accept(&listener, &places) => {
                let service = service.clone();
                connections.spawn(async move {
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEADER_TIME)
                        .max_buf_size(HEADER_BYTES_MAX)
                        .serve_connection(TokioIo::new(stream), service);
                    // How a connection ended is its client's business.
                    _ = tokio::time::timeout(CONNECTION_LIFE, connection).await;
                    drop(place);
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            // So that `/healthz` knows when the clock last turned even if nobody asked for a while.
            _ = looks.tick() => drop(pulse.0.check(now(), pulse.1.ticks.get())),
        }
    }
    _ = tokio::time::timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

/// The next connection, and its place, taken before it is accepted.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "admin: accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
