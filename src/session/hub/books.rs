//! The books: every publish that is taken from a client leaves under exactly one word (FAULTS, M).
//!
//! ```text
//! accepted = forwarded + spooled + refused + expired + what is in flight
//! spool:   appended + found = forwarded + expired + refused + what still waits
//! ```
//! What is published in a client's place (a dead letter, a result) is nobody's publish and stands in neither.

use super::Counters;
use crate::session::judge::Kept;
use crate::session::lane::PublishFlags;

/// How a publish leaves its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Its broker has it.
    Forwarded,
    /// Its broker has said nack, and its client hears that.
    Nacked,
    /// Its broker has refused it with an error, or thrown it away behind one.
    Error,
    /// `max_retries` is used up.
    GivenUp,
    /// It is on disk.
    Spooled,
    /// It stays on disk, refused: its record is not done.
    Aside,
    /// The policy keeps it.
    Kept(Kept),
    /// Ours, and not to be had.
    LeftOut,
}

impl Exit {
    /// Whether a client that numbers its publishes hears ack.
    pub(super) const fn acks(self) -> bool {
        matches!(self, Self::Forwarded | Self::Spooled | Self::Aside | Self::Kept(_) | Self::LeftOut)
    }
}

impl Counters {
    /// A publish has left its lane.
    pub(super) fn book(&mut self, flags: PublishFlags, exit: Exit) {
        if exit == Exit::Aside && (flags.replayed || flags.authored) {
            return;
        }
        if flags.authored {
            self.authored_left_out += u64::from(exit != Exit::Forwarded && exit != Exit::Spooled);
            return;
        }
        let count = if flags.replayed {
            match exit {
                Exit::Forwarded => &mut self.replayed_forwarded,
                Exit::Kept(Kept::Expired) => &mut self.replayed_expired,
                // Its old record is booked when the new one is on disk.
                Exit::Spooled => return,
                _ => &mut self.replayed_refused,
            }
        } else {
            match exit {
                Exit::Forwarded => &mut self.forwarded,
                Exit::Nacked => &mut self.refused_nack,
                Exit::Error | Exit::LeftOut => &mut self.refused_error,
                Exit::GivenUp => &mut self.refused_retries,
                Exit::Spooled | Exit::Aside => &mut self.spooled,
                Exit::Kept(Kept::Expired) => &mut self.expired,
                Exit::Kept(Kept::Refused) => &mut self.refused_policy,
            }
        };
        *count += 1;
    }

    /// Publishes that were refused, for whatever reason.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused_window
            + self.refused_spool
            + self.refused_policy
            + self.refused_nack
            + self.refused_error
            + self.refused_retries
    }

    /// Publishes that were accepted and have not left.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        let left = self.forwarded + self.spooled + self.refused() + self.expired;
        self.accepted.saturating_sub(left)
    }
}
