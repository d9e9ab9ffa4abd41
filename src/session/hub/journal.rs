//! The journal of a row: what its publishes are written into on their way to the lane, where the disk is to have them too (tier `durable`).

use super::Hub;
use crate::session::LaneId;
use crate::session::awaited::Whose;
use crate::session::backlog::Line;
use crate::session::lane::Way;
use crate::session::record::{BacklogId, Record, Which};
use crate::session::spool::{HAS_NEEDS, Needs, Spool, SpoolAppend, SpoolQueue};
use crate::wire::num::u64_of;

/// Method payload, header payload, body pieces.
type Parts<'a> = (&'a [u8], &'a [u8], &'a [&'a [u8]]);

/// The end of a login's backlog. Does for each publish what `keep_on_disk` does for one.
pub(super) struct Journal<'h> {
    pub(super) spool: &'h mut dyn Spool,
    pub(super) queue: SpoolQueue,
    pub(super) backlog: BacklogId,
    pub(super) line: &'h mut Line,
    pub(super) lane: LaneId,
    pub(super) whose: Whose,
    pub(super) at_us: i64,
}

impl Journal<'_> {
    /// Appends a publish; its record, unless the disk does not take it. `way`: what must be there before it goes out again, on its own
    /// upstream; `seq`: its client's number.
    pub(super) fn keep(&mut self, parts: Parts<'_>, way: Option<&Way>, seq: u64) -> Option<Record> {
        let (publish, header, body) = parts;
        let way = way.filter(|way| way.target.is_some() || way.otherwise.is_some());
        let packed = way.map(|way| {
            let otherwise = way.otherwise.as_deref().unwrap_or_default();
            let target = way.target.as_ref();
            let name = target.map_or(&[][..], |t| t.name.as_bytes());
            Needs { name, otherwise, home: &[], publish }.pack(target.map_or(&[][..], |t| &t.methods))
        });
        let (method, flags) = packed.as_deref().map_or((publish, 0), |packed| (packed, HAS_NEEDS));
        let lane = u64_of(self.lane.0);
        let append = SpoolAppend { lane, at_us: self.at_us, flags, method, header, body };
        let number = self.spool.append(self.queue, &append)?;
        self.line.waiting += 1;
        self.line.last = number;
        if seq != 0 {
            self.line.awaited.push(number, self.whose, seq);
        }
        Some(Record { backlog: self.backlog, which: Which::Main, number })
    }
}

impl Hub {
    /// Records that follow each other are settled: they leave the disk. See `record_done`.
    pub(super) fn records_done(&mut self, first: Record, last: u64) {
        // Some may have been to replace others.
        if self.backlogs.get(first.backlog.index()).is_some_and(|b| !b.moved.is_empty()) {
            (first.number..=last).for_each(|number| self.record_done(Record { number, ..first }));
            return;
        }
        self.lines_done(first, last);
        self.counters.records_done += last - first.number + 1;
    }
}
