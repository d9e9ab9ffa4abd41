//! The spool: publishes that wait on disk, in order, until an upstream takes them (SPEC D4, tier `durable`).
//!
//! It only stores. The Hub decides what is spooled, when it is read back and what is done with it; the data thread holds a
//! [`Spool`], which never waits: it hands buffers to a thread of its own and polls what came of them.
//!
//! ```text
//! append ─▶ run per queue ──flush──▶ ┌─ writer thread ──────────────────────────┐
//! remove ─▶ ranges        ─────────▶ │ seal · group up to 256 KiB · one commit,  │──▶ redb, one file
//! read   ─────────────────────────▶ │ one fsync for all that has gathered       │
//! poll   ◀── Appended, Records … ◀── └──────────────────────────────────────────┘
//! ```
//!
//! # What it promises
//! * What was told as [`Completion::Appended`] is there after `kill -9` and, with `fsync`, after a power cut.
//! * Each record has a checksum. Sound ones come back whatever lies beside them: the store is checked as a whole when it is
//!   opened; if it is damaged, the file is searched for records, those still wanted begin a new store, and the old one is set aside.
//! * What cannot be written comes back to the caller ([`Completion::NotKept`]) with everything after it, so order can be kept.
//! * Bounded: what would exceed `max_bytes` is refused, never an old record dropped. `max_age` only marks records as aged.
//! * Duplicates: what was removed less than some 20 ms before a `kill -9` may come back.
//!
//! # Why redb
//! Measured beside fjall 3 with `cargo run --release --example spool_stores`, 400,000 records of 1 KiB in groups of 248, each
//! group committed with fsync, FIFO reads and removals half of all records behind (2 cores, ext4; ratios are what counts):
//!
//! | | records/s | commit p50 / p99 / max | written | disk at peak | when emptied |
//! |---|---|---|---|---|---|
//! | a bare file, `fdatasync` | 222,000 | 1.20 / 2.2 / 14 ms | 1.0 × | – | – |
//! | **redb 4** | 358,000 | 0.62 / 1.3 / 2.8 ms | 1.2 × | 204 MB of 195 | 0 MB |
//! | fjall 3 | 200,000 | 0.73 / 8.9 / 27 ms | 2.0 × | 390 MB | 260 MB |
//!
//! fjall is faster with tiny commits (16 records: 0.29 against 0.50 ms), but its flushes write everything a second time in
//! bursts, and its space comes back late. LMDB (heed) was left out: a flipped bit in a mapped page ends the process, and to open it
//! takes `unsafe`, which this crate forbids.

mod block;
mod disk;
mod gathered;
mod handle;
mod index;
mod keeper;
mod line;
mod offline;
mod place;
mod queue;
mod report;
mod salvage;
mod selection;
mod store;
#[cfg(test)]
pub(in crate::net) mod testing;
mod writer;

use std::time::Duration;

pub use block::Record;
pub use handle::Spool;
pub use line::{Asks, asks};
pub use offline::{Custody, Inspection};
pub use queue::{QueueId, QueueKey};
pub use report::{Completion, Gauges, QueueReport, Recovered, SpoolHealth};
pub use selection::Selection;
pub use writer::Waker;

/// The spool's bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// Octets on disk at most.
    pub max_bytes: u64,
    /// Older records are marked as aged when they are read.
    pub max_age: Option<Duration>,
    /// Commits are this far apart, unless much is waiting, or one record at a time; and none waits longer than the one before it took.
    pub group_commit: Duration,
    /// Whether a commit waits for the disk.
    pub fsync: bool,
    /// Octets on their way to the disk at most.
    pub in_flight_max: u64,
    /// What becomes of a spool that another process owns.
    pub owned: Owned,
}

/// What becomes of a spool that another process owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owned {
    /// It cannot be opened.
    Refuse,
    /// It takes nothing until that process has gone: a successor starts while its predecessor drains.
    Wait,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_age: None,
            group_commit: Duration::from_millis(2),
            fsync: true,
            in_flight_max: 32 << 20,
            owned: Owned::Refuse,
        }
    }
}

/// A publish to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Whose order it keeps: any number of the caller's.
    pub lane: u64,
    /// When it was accepted, microseconds of Unix time.
    pub at_us: u64,
    /// Any bits of the caller's.
    pub flags: u32,
    /// The basic.publish method frame's payload.
    pub method: &'a [u8],
    /// The header frame's payload.
    pub header: &'a [u8],
    /// The body's parts, in order, joined: one slice.
    pub body: &'a [u8],
}

/// Why a publish was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// `max_bytes` is reached.
    Bound,
    /// More is on its way to the disk than may be, or an earlier failure is still being answered: try again after a poll.
    Busy,
    /// The disk does not take any.
    Disk(SpoolHealth),
    /// It is too large to be kept at all.
    TooLarge,
}

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::disallowed_methods, reason = "a test counts and waits")]
mod tests;
