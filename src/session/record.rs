//! A record: one publish's place in the spool, by which whoever has the publish knows it. It stays on disk until it is done, whichever
//! upstream takes it in the end.

use crate::wire::num::{u32_clamped, usize_of};

/// Which backlog, in this life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BacklogId(u32);

impl BacklogId {
    /// By its place among the backlogs: one for each login, far fewer than there are numbers.
    pub(super) fn new(index: usize) -> Self {
        Self(u32_clamped(index))
    }

    /// Its place among the backlogs.
    pub(super) const fn index(self) -> usize {
        usize_of(self.0)
    }
}

/// Which line of a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Which {
    Ahead,
    Main,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Record {
    pub(super) backlog: BacklogId,
    pub(super) which: Which,
    /// Its number in its queue.
    pub(super) number: u64,
}

impl Record {
    /// Whether that record comes right after number `last` of this one's line.
    pub(super) fn is_followed(self, last: u64, by: Self) -> bool {
        (self.backlog, self.which, last + 1) == (by.backlog, by.which, by.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_that_has_no_record_pays_nothing_for_those_that_have_one() {
        assert_eq!(std::mem::size_of::<Option<Record>>(), 16);
    }
}
