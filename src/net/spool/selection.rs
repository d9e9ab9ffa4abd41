//! Which of a spool's records a person means: by upstream, vhost, user, task and age.

use super::block::Record;
use super::line::task_of;
use super::queue::QueueId;
use super::report::QueueReport;
use crate::policy::Pattern;

/// Everything given must hold; nothing given: all of it.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only what waits for this upstream.
    pub upstream: Option<String>,
    /// Only what was published on this vhost.
    pub vhost: Option<String>,
    /// Only what this user published.
    pub user: Option<String>,
    /// Only this queue of the spool.
    pub queue: Option<QueueId>,
    /// Only tasks whose name matches.
    pub task: Option<Pattern>,
    /// Only what was accepted before, microseconds of Unix time.
    pub before_us: Option<u64>,
}

fn is(wanted: Option<&String>, value: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == value)
}

impl Selection {
    /// Whether anything in this queue can be meant.
    #[must_use]
    pub fn has_queue(&self, queue: &QueueReport) -> bool {
        self.queue.is_none_or(|wanted| wanted == queue.queue)
            && is(self.upstream.as_ref(), &queue.key.upstream)
            && is(self.vhost.as_ref(), &queue.key.vhost)
            && is(self.user.as_ref(), &queue.key.user)
    }

    /// Whether this record of such a queue is meant.
    #[must_use]
    pub fn has(&self, record: &Record) -> bool {
        self.before_us.is_none_or(|before| record.at_us < before)
            && self
                .task
                .as_ref()
                .is_none_or(|wanted| task_of(record).is_some_and(|task| wanted.matches(task.as_bytes())))
    }
}
