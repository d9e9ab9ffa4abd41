//! The pages as a client sees them: real HTTP on loopback, and a data thread played by the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::metrics::status::{LinkStatus, SessionStatus, UpstreamState, UpstreamStatus};

/// A server, and what its data thread answers with.
struct Served {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinSet<()>,
}

/// Serves; `answer` is what the data thread says, `None` for one that never does.
async fn served(answer: Option<Status>) -> Served {
    let (source, mut requests) = StatusSource::new();
    let metrics = Arc::new(Metrics::new(8));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = AdminState::new(Arc::clone(&metrics), source, Recent::new());
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut unanswered = Vec::new();
        while let Some(request) = requests.recv().await {
            match &answer {
                Some(status) => drop(request.send(status.clone())),
                None => unanswered.push(request),
            }
        }
    });
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move {
        serve(listener, state, stopped).await;
        drop(tasks);
    });
    Served { address, metrics, stop, server }
}

async fn fetch(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: umbel\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let code = response.split(' ').nth(1).unwrap().parse().unwrap();
    (code, response)
}

fn body_of(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

fn sample(state: UpstreamState) -> Status {
    let link = LinkStatus { id: 3, identity: "app@/".into(), state: "open".into(), ..LinkStatus::default() };
    let upstream =
        UpstreamStatus { name: "default".into(), state, links: vec![link], ..UpstreamStatus::default() };
    let mut status = Status { upstreams: vec![upstream], ..Status::default() };
    status.sessions.listed.push(SessionStatus {
        id: 1,
        peer: "127.0.0.1:4".into(),
        ..SessionStatus::default()
    });
    status
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_reads_them() {
    let served = served(Some(Status::default())).await;
    served.metrics.delivery.ledger.accepted.inc_by(7);
    let (code, response) = fetch(served.address, "/metrics").await;
    assert_eq!(code, 200);
    assert!(response.contains("content-type: text/plain; version=0.0.4"));
    assert!(response.contains("\numbel_publishes_accepted_total 7\n"));
}

#[tokio::test]
async fn metrics_are_those_of_the_moment_they_are_asked_for() {
    let (source, mut requests) = StatusSource::new();
    let metrics = Arc::new(Metrics::new(8));
    let state = AdminState::new(Arc::clone(&metrics), source, Recent::new());
    let asked = super::metrics(State(state));
    let data_thread = async {
        let request = requests.recv().await.unwrap();
        metrics.delivery.ledger.accepted.inc_by(7);
        request.send(Status::default()).unwrap();
    };
    let (response, ()) = tokio::join!(asked, data_thread);
    let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&text).contains("\numbel_publishes_accepted_total 7\n"));
}

#[tokio::test]
async fn status_is_the_data_threads_snapshot_with_the_metrics_sums() {
    let served = served(Some(sample(UpstreamState::Up))).await;
    served.metrics.delivery.ledger.accepted.inc_by(7);
    let (code, response) = fetch(served.address, "/status").await;
    assert_eq!(code, 200);
    let status: serde_json::Value = serde_json::from_str(body_of(&response)).unwrap();
    assert_eq!(status["upstreams"][0]["state"], "up");
    assert_eq!(status["upstreams"][0]["links"][0]["identity"], "app@/");
    assert_eq!(status["sessions"]["listed"][0]["peer"], "127.0.0.1:4");
    assert_eq!(status["counters"]["in_flight"], 7);
}

#[tokio::test]
async fn readyz_says_why_it_is_not() {
    let up = served(Some(sample(UpstreamState::Up))).await;
    assert_eq!(fetch(up.address, "/readyz").await.0, 200);
    let down = served(Some(sample(UpstreamState::Down))).await;
    let (code, response) = fetch(down.address, "/readyz").await;
    assert_eq!(code, 503);
    assert!(body_of(&response).contains("upstream default: down"));
}

#[tokio::test]
async fn a_data_thread_that_is_busy_leaves_health_and_metrics_alone() {
    let served = served(None).await;
    assert_eq!(fetch(served.address, "/status").await.0, 503);
    assert_eq!(fetch(served.address, "/readyz").await.0, 503);
    assert_eq!(fetch(served.address, "/healthz").await.0, 200);
    assert_eq!(fetch(served.address, "/metrics").await.0, 200);
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let served = served(Some(Status::default())).await;
    let (code, response) = fetch(served.address, "/").await;
    assert_eq!(code, 200);
    assert!(response.contains("content-security-policy: default-src 'none'"));
    for outside in ["http://", "https://", "src=", "@import", "innerHTML"] {
        assert!(!body_of(&response).contains(outside), "{outside}");
    }
    assert_eq!(fetch(served.address, "/etc/passwd").await.0, 404);
}

#[tokio::test]
async fn a_request_with_endless_headers_is_cut_off() {
    let served = served(Some(Status::default())).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(64 * 1024));
    _ = stream.write_all(endless.as_bytes()).await;
    let mut response = Vec::new();
    _ = stream.read_to_end(&mut response).await;
    assert!(!response.starts_with(b"HTTP/1.1 200"));
    assert_eq!(fetch(served.address, "/healthz").await.0, 200);
}

#[tokio::test]
async fn shutdown_ends_the_server_although_a_connection_idles() {
    let mut served = served(Some(Status::default())).await;
    let _idle = TcpStream::connect(served.address).await.unwrap();
    served.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), served.server.join_next()).await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}
