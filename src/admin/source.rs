//! The way to the data thread for a snapshot: few may wait, and none for longer than a second.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::metrics::status::Status;

/// Requests that may wait at once; one more is answered 503.
const WAITING_MAX: usize = 8;
/// After this the data thread counts as busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the data thread receives: fill in a [`Status`] and send it; an error in sending means that nobody waits any more.
pub type StatusRequests = mpsc::Receiver<oneshot::Sender<Status>>;

/// Asks the data thread. Clones share the queue.
#[derive(Debug, Clone)]
pub struct StatusSource(mpsc::Sender<oneshot::Sender<Status>>);

impl StatusSource {
    /// The asking end, and the end that the data thread answers from.
    #[must_use]
    pub fn new() -> (Self, StatusRequests) {
        let (asks, requests) = mpsc::channel(WAITING_MAX);
        (Self(asks), requests)
    }

    /// A snapshot, or `None` where too many wait, the data thread is gone, or a second has passed.
    pub async fn snapshot(&self) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(reply).ok()?;
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }
}
