//! What the spool tells whoever gave it records: what is on disk, what came back, how it is.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::block::Record;
use super::queue::{QueueId, QueueKey, Refusals};
use super::store::StoreError;

/// Whether the spool can take records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SpoolHealth {
    /// It can.
    #[default]
    Ok,
    /// The disk is full. What is there can be read and removed.
    Full,
    /// The disk cannot be written to. What is there can be read.
    ReadOnly,
    /// Another process owns it, and is waited for.
    Owned(String),
    /// Something else: its words.
    Failed(String),
}

impl fmt::Display for SpoolHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ready"),
            Self::Full => f.write_str("the spool's disk is full"),
            Self::ReadOnly => f.write_str("the spool's disk is read-only"),
            Self::Owned(why) => f.write_str(why),
            Self::Failed(why) => write!(f, "the spool failed: {why}"),
        }
    }
}

impl SpoolHealth {
    pub(super) fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, ResourceBusy, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::Full,
            ReadOnlyFilesystem => Self::ReadOnly,
            ResourceBusy => Self::Owned(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }

    pub(super) fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Io(error) => Self::of_io(error),
            StoreError::Damaged(why) => Self::Failed(why.clone()),
        }
    }
}

/// A queue with something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueReport {
    /// Its number in this spool.
    pub queue: QueueId,
    /// Whose it is.
    pub key: QueueKey,
    /// Records that wait.
    pub records: u64,
    /// Octets they take on disk.
    pub bytes: u64,
    /// About when the oldest was accepted, microseconds of Unix time.
    pub oldest_us: Option<u64>,
    /// Why brokers have refused some of them, and how many for each reason.
    pub refused: BTreeMap<Arc<str>, u64>,
}

impl QueueReport {
    /// With the refusals of its records.
    pub(super) fn with_refusals(mut self, refusals: &Refusals) -> Self {
        for why in refusals.range((self.queue, 0)..=(self.queue, u64::MAX)).map(|(_, why)| why) {
            *self.refused.entry(Arc::clone(why)).or_default() += 1;
        }
        self
    }
}

/// What was found when the spool was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Queues that have records.
    pub queues: Vec<QueueReport>,
    /// Records of all queues.
    pub records: u64,
    /// Records set aside because they failed their check.
    pub unsound: u64,
    /// Records that a salvage brought back.
    pub salvaged: u64,
    /// The store could not be opened and was set aside under this name.
    pub set_aside: Option<String>,
    /// All queues, the empty ones too, each with its next number.
    pub(super) names: Vec<(QueueId, QueueKey, u64)>,
}

/// What has happened since the last look.
#[derive(Debug)]
pub enum Completion {
    /// All records of a queue from one number to another, both included, are on disk.
    Appended {
        /// Their queue.
        queue: QueueId,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
        /// How long the commit took.
        took: Duration,
    },
    /// These are not on disk and will not be: they are the caller's again. Whatever was appended to any queue after them and
    /// before this was seen comes back too, in order.
    NotKept {
        /// Their queue.
        queue: QueueId,
        /// The records, in order.
        records: Vec<Record>,
        /// Why.
        why: SpoolHealth,
    },
    /// What was asked for by [`super::Spool::read`].
    Records {
        /// Their queue.
        queue: QueueId,
        /// In order; some may be removed already if that was asked for after the read.
        records: Vec<Record>,
        /// Nothing more was on disk behind them.
        end: bool,
        /// Records that were set aside on the way because they failed their check.
        unsound: u64,
    },
    /// A read could not be done; it may be asked for again once the health has changed, or after a while.
    ReadFailed {
        /// The queue.
        queue: QueueId,
        /// Why.
        why: SpoolHealth,
    },
    /// The store was opened (again), late: what was found in it.
    Recovered(Recovered),
    /// The health has changed.
    Health(SpoolHealth),
}

/// Numbers that may be read at any time.
#[derive(Debug, Default)]
pub struct Gauges {
    records: AtomicU64,
    bytes: AtomicU64,
    oldest_us: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) unsound: AtomicU64,
}

impl Gauges {
    /// Records on disk.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Octets they take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// About when the oldest was accepted, microseconds of Unix time.
    #[must_use]
    pub fn oldest_us(&self) -> Option<u64> {
        Some(self.oldest_us.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// Octets given to the spool that are not on disk yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Records set aside because they failed their check, since the start.
    #[must_use]
    pub fn unsound(&self) -> u64 {
        self.unsound.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, records: u64, bytes: u64, oldest_us: Option<u64>) {
        self.records.store(records, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.oldest_us.store(oldest_us.unwrap_or(0), Ordering::Relaxed);
    }
}
