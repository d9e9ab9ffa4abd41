//! A backlog: what one login on one vhost of an upstream has in the spool, and how far it has come back.
//!
//! ```text
//! on disk:  ahead │ ▮▮▮ │  then  main │ ▮▮▮▮▮▮▮▮ … ◀── new ones, while it spills
//! in hand:  ready ◀── read, a piece at a time; behind each line, what the disk gave back of it; then what waits behind on its lanes
//! ```
//! Nothing overtakes: a lane's publish goes behind all that the backlog has, until there is nothing.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use super::aside::{Aside, Turns};
use super::awaited::AwaitedRuns;
use super::record::{Record, Which};
use super::spool::{SpoolKey, SpoolQueue, SpoolRecord};
use super::{LaneId, PoolId};
use crate::wire::num::u64_of;

/// One queue of the spool.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) queue: Option<SpoolQueue>,
    /// Records appended and not done.
    pub(super) waiting: u64,
    /// The last record appended in this life, and the last known to be on disk.
    pub(super) last: u64,
    pub(super) synced: u64,
    /// The last record read.
    pub(super) read: Option<u64>,
    pub(super) reading: bool,
    /// What is read is for a turn of those that were refused.
    pub(super) turning: bool,
    /// Clients' numbers that wait for their records to be on disk.
    pub(super) awaited: AwaitedRuns,
    /// Records whose publishes another upstream's lane or backlog has now: on disk until they are safe there, and not read again.
    pub(super) lent: FxHashSet<u64>,
    /// Refused: they stay on disk, and are tried again in turn; the last that has been.
    pub(super) aside: Aside,
    pub(super) tried: u64,
    /// Refused, and not tried again in this life.
    pub(super) left: u64,
    /// A run of records that may be removed.
    pub(super) done: Option<(u64, u64)>,
    /// Given back by the disk, in order: on disk again before anything else, or sent once everything of the line is.
    pub(super) held: VecDeque<Held>,
    /// So many of them, at the front, were given back since one was last tried again.
    pub(super) held_lately: usize,
}

/// What the disk gave back, and the older record that it was to replace, which is another upstream's.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: SpoolRecord,
    pub(super) older: Option<Record>,
}

impl Line {
    /// The disk gives a record back: before what it has not been given again.
    pub(super) fn hold(&mut self, held: Held) {
        self.held.insert(self.held_lately.min(self.held.len()), held);
        self.held_lately += 1;
    }

    /// The next to be tried again.
    pub(super) fn next_held(&mut self) -> Option<Held> {
        self.held_lately = 0;
        self.held.pop_front()
    }

    /// Records that are to come back here: all that are not done, but for those that went elsewhere.
    pub(super) fn to_come(&self) -> u64 {
        self.waiting.saturating_sub(u64_of(self.lent.len()))
    }

    /// Whether the disk is known to have a record: appended and synced in this life, or read.
    pub(super) fn has(&self, number: u64) -> bool {
        number <= self.synced.max(self.read.unwrap_or(0))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) key: SpoolKey,
    /// The pool whose links carry it; none: nobody has come who may.
    pub(super) via: Option<PoolId>,
    /// Everything of this login goes to the end of it.
    pub(super) spilling: bool,
    pub(super) ahead: Line,
    pub(super) main: Line,
    /// By records of this backlog, the older ones that they are to replace: of `main` by those that go ahead of it, of another
    /// upstream by those that came home from there. The old ones go when these are on disk, not before.
    pub(super) moved: FxHashMap<Record, Record>,
    /// Read from this line, not sent yet.
    pub(super) ready: VecDeque<SpoolRecord>,
    pub(super) ready_of: Which,
    /// The lane that it travels on.
    pub(super) replay: Option<LaneId>,
    /// Declarations that are in it.
    pub(super) declared: FxHashSet<Box<[u8]>>,
    /// When what was refused is tried again.
    pub(super) turns: Turns,
    /// How many may be sent now, in thousandths, and when that was last counted.
    pub(super) credit: u64,
    pub(super) credit_ms: u64,
}

impl Backlog {
    pub(super) fn new(key: SpoolKey) -> Self {
        Self {
            key: SpoolKey { ahead: false, ..key },
            via: None,
            spilling: false,
            ahead: Line::default(),
            main: Line::default(),
            moved: FxHashMap::default(),
            ready: VecDeque::new(),
            ready_of: Which::Main,
            replay: None,
            declared: FxHashSet::default(),
            turns: Turns::default(),
            credit: 0,
            credit_ms: 0,
        }
    }

    /// Records that were refused.
    pub(super) fn aside(&self) -> u64 {
        self.ahead.aside.len() + self.main.aside.len()
    }

    /// Whether nothing of it is left on disk either.
    pub(super) fn is_gone(&self) -> bool {
        self.is_empty() && self.aside() + self.ahead.left + self.main.left == 0
    }

    pub(super) fn line(&mut self, which: Which) -> &mut Line {
        match which {
            Which::Ahead => &mut self.ahead,
            Which::Main => &mut self.main,
        }
    }

    /// The line that is this queue of the spool.
    pub(super) fn which(&self, queue: SpoolQueue) -> Option<Which> {
        if self.main.queue == Some(queue) {
            Some(Which::Main)
        } else {
            (self.ahead.queue == Some(queue)).then_some(Which::Ahead)
        }
    }

    /// The line that is read now.
    pub(super) fn current(&self) -> Which {
        if self.ahead.to_come() > 0 || !self.ahead.held.is_empty() { Which::Ahead } else { Which::Main }
    }

    /// Records of both lines, and those that the disk gave back.
    pub(super) fn records(&self) -> u64 {
        self.ahead.waiting + self.main.waiting + self.held()
    }

    /// Those that the disk gave back.
    pub(super) fn held(&self) -> u64 {
        u64_of(self.ahead.held.len() + self.main.held.len())
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.records() == 0 && self.ready.is_empty()
    }

    /// Whether nothing is to come back, so that publishes may go straight on.
    pub(super) fn is_through(&self) -> bool {
        self.ahead.to_come() + self.main.to_come() + self.held() == 0 && self.ready.is_empty()
    }

    /// Records whose publishes went elsewhere.
    pub(super) fn lent(&self) -> usize {
        self.ahead.lent.len() + self.main.lent.len()
    }

    /// Records in a row are done. The run that must be removed before these can be remembered, if any.
    pub(super) fn done(&mut self, which: Which, first: u64, last: u64) -> Option<(u64, u64)> {
        let line = self.line(which);
        line.waiting = line.waiting.saturating_sub(last.saturating_sub(first) + 1);
        if !line.lent.is_empty() {
            (first..=last).for_each(|number| _ = line.lent.remove(&number));
        }
        match line.done {
            Some((from, to)) if to + 1 == first => {
                line.done = Some((from, last));
                None
            }
            before => {
                line.done = Some((first, last));
                before
            }
        }
    }

    /// So many may be sent at this rate, at most a second's worth at once.
    pub(super) fn allowance(&mut self, now_ms: u64, rate: Option<u64>) -> usize {
        let Some(rate) = rate else { return usize::MAX };
        let gained = rate.saturating_mul(now_ms.saturating_sub(self.credit_ms));
        self.credit = self.credit.saturating_add(gained).min(rate.saturating_mul(1000));
        self.credit_ms = now_ms;
        crate::wire::num::usize_clamped(self.credit / 1000)
    }

    /// So many were sent.
    pub(super) fn spend(&mut self, count: usize) {
        self.credit = self.credit.saturating_sub(u64_of(count) * 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog() -> Backlog {
        let key = SpoolKey {
            upstream: "default".into(),
            vhost: b"/".as_slice().into(),
            user: "app".into(),
            identity: [0; 32],
            ahead: true,
        };
        Backlog::new(key)
    }

    #[test]
    fn a_rate_allows_its_share_of_time_and_never_a_burst_of_more_than_a_second() {
        let mut backlog = backlog();
        assert_eq!(backlog.allowance(1000, None), usize::MAX);
        assert_eq!(backlog.allowance(100_000, Some(100)), 100);
        backlog.spend(100);
        assert_eq!(backlog.allowance(100_000, Some(100)), 0);
        assert_eq!(backlog.allowance(100_055, Some(100)), 5);
        let mut sent = 0;
        for ms in 100_055..110_055 {
            let now = backlog.allowance(ms, Some(7));
            backlog.spend(now);
            sent += now;
        }
        assert!((70..=75).contains(&sent), "{sent}");
    }

    #[test]
    fn what_the_disk_gives_back_twice_keeps_its_place_before_what_it_was_given_once() {
        let record = |number| Held {
            record: SpoolRecord {
                number,
                flags: 0,
                method: Vec::new(),
                header: Vec::new(),
                body: Vec::new(),
                aged: false,
            },
            older: None,
        };
        let mut line = Line::default();
        (1..=4).for_each(|number| line.hold(record(number)));
        // Two are on their way to the disk again, under new numbers, and come back one by one.
        let next = [line.next_held().unwrap(), line.next_held().unwrap()].map(|held| held.record.number);
        assert_eq!(next, [1, 2]);
        line.hold(record(5));
        line.hold(record(6));
        let numbers: Vec<u64> = line.held.iter().map(|held| held.record.number).collect();
        assert_eq!(numbers, [5, 6, 3, 4]);
    }

    #[test]
    fn records_that_are_done_in_a_row_are_one_run() {
        let mut backlog = backlog();
        backlog.main.waiting = 6;
        assert_eq!(backlog.done(Which::Main, 5, 5), None);
        assert_eq!(backlog.done(Which::Main, 6, 8), None);
        assert_eq!(backlog.done(Which::Main, 10, 10), Some((5, 8)));
        assert_eq!((backlog.main.done, backlog.main.waiting), (Some((10, 10)), 1));
    }
}
