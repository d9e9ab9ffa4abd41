//! What the disk says of records: they are kept, they could not be written, they are done with (SPEC D2, D4).

use rustc_hash::FxHashMap;

use super::Hub;
use crate::session::Now;
use crate::session::awaited::Whose;
use crate::session::backlog::Held;
use crate::session::record::{BacklogId, Record, Which};
use crate::session::spool::{ONLY_HERE, SpoolQueue, SpoolRecord};
use crate::wire::num::u64_of;

impl Hub {
    pub(super) fn line_of(&self, queue: SpoolQueue) -> Option<(BacklogId, Which)> {
        self.backlogs.iter().find_map(|(i, b)| b.which(queue).map(|which| (BacklogId::new(i), which)))
    }

    /// Records up to this one are on disk.
    pub fn spool_synced(&mut self, now: Now, queue: SpoolQueue, upto: u64) {
        let Some((b, which)) = self.line_of(queue) else { return };
        let mut replaced = Vec::new();
        if let Some(backlog) = self.backlogs.get_mut(b.index()) {
            let line = backlog.line(which);
            line.synced = line.synced.max(upto);
            let is_there = |r: &Record| r.which == which && r.number <= upto;
            replaced.extend(backlog.moved.extract_if(|r, _| is_there(r)).map(|(_, older)| older));
        }
        replaced.sort_unstable();
        for older in replaced {
            self.counters.records_moved += 1;
            self.line_done(older);
        }
        while let Some(run) =
            self.backlogs.get_mut(b.index()).and_then(|b| b.line(which).awaited.pop_upto(upto))
        {
            self.ack_awaited(run.whose, run.seq, run.count);
        }
        self.send_answers(now);
        self.replay(now, b);
    }

    /// These could not be written. What memory has too goes on from there. Of the others, a client that uses confirms is told; the rest
    /// stays in memory, and goes when everything on disk has gone.
    pub fn spool_given_back(&mut self, now: Now, queue: SpoolQueue, records: Vec<SpoolRecord>) {
        let Some((b, which)) = self.line_of(queue) else { return };
        self.counters.spool_given_back += u64_of(records.len());
        // Those that others were to replace: the others are all there is now.
        let moved = self.backlogs.iter().flat_map(|(_, k)| &k.moved);
        let moved: FxHashMap<Record, Record> = moved
            .filter(|(_, older)| (older.backlog, older.which) == (b, which))
            .map(|(by, older)| (*older, *by))
            .collect();
        for record in records {
            let place = Record { backlog: b, which, number: record.number };
            let replaced = moved.get(&place);
            if let Some(by) = replaced {
                self.backlogs.get_mut(by.backlog.index()).and_then(|k| k.moved.remove(by));
            }
            let Some(backlog) = self.backlogs.get_mut(b.index()) else { return };
            let awaited = backlog.line(which).awaited.take(record.number);
            let older = backlog.moved.remove(&place);
            // Put aside before it was on disk: it does not count among those that wait.
            let was_aside = backlog.line(which).aside.take(record.number);
            let only_here = record.flags & ONLY_HERE != 0;
            if !was_aside && (only_here || replaced.is_some() || self.forget_record(place, older)) {
                if let Some(backlog) = self.backlogs.get_mut(b.index()) {
                    let line = backlog.line(which);
                    line.waiting = line.waiting.saturating_sub(1);
                    line.lent.remove(&record.number);
                }
            }
            if only_here {
                self.only_copy_given_back(record, place, awaited, older);
            }
        }
        self.send_answers(now);
        self.replay(now, b);
    }

    /// What is nowhere else could not be written, unless it was to replace an older record that is on disk.
    fn only_copy_given_back(
        &mut self,
        record: SpoolRecord,
        place: Record,
        awaited: Option<(Whose, u64)>,
        older: Option<Record>,
    ) {
        let elsewhere = older.filter(|older| older.backlog != place.backlog);
        let stands = older.is_some_and(|older| self.is_on_disk(older));
        if let Some((whose, seq)) = awaited {
            self.counters.replayed_refused += u64::from(!stands);
            if self.sessions.get(whose.sid.0).is_some_and(|s| s.serial == whose.serial) {
                self.settle_seq(whose.sid, whose.channel, seq, stands);
            }
        }
        let refused = awaited.is_some() && !stands;
        if let Some(older) = older.filter(|_| !stands && (refused || elsewhere.is_none())) {
            self.stop_waiting(older);
            self.line_done(older);
        }
        // What stands in its own backlog is read there; what stands elsewhere nobody reads.
        let comes_back = stands && elsewhere.is_none();
        if let (false, Some(backlog)) = (refused || comes_back, self.backlogs.get_mut(place.backlog.index()))
        {
            backlog.line(place.which).hold(Held { record, older: elsewhere });
        }
    }

    /// Whether a record is known to be on disk.
    fn is_on_disk(&mut self, record: Record) -> bool {
        let backlog = self.backlogs.get_mut(record.backlog.index());
        backlog.is_some_and(|k| k.line(record.which).has(record.number))
    }

    /// What has this record is not on disk after all, or no more than it was before. Whether anything has it still.
    fn forget_record(&mut self, record: Record, before: Option<Record>) -> bool {
        let lent = self
            .backlogs
            .get_mut(record.backlog.index())
            .is_some_and(|k| k.line(record.which).lent.contains(&record.number));
        for (_, lane) in &mut self.lanes {
            if !lent && self.pools.get(lane.pool.0).is_none_or(|p| p.backlog != Some(record.backlog)) {
                continue;
            }
            if let Some(item) = lane.items.iter_mut().find(|i| i.record == Some(record)) {
                item.record = before;
                return true;
            }
        }
        for (_, backlog) in self.backlogs.iter_mut().filter(|_| lent) {
            let mut held = backlog.ahead.held.iter_mut().chain(&mut backlog.main.held);
            if let Some(held) = held.find(|held| held.older == Some(record)) {
                held.older = before;
                return true;
            }
        }
        false
    }

    /// A record's publish is settled: it leaves the disk.
    pub(super) fn record_done(&mut self, record: Record) {
        let backlog = self.backlogs.get_mut(record.backlog.index());
        if let Some(older) = backlog.and_then(|k| k.moved.remove(&record)) {
            self.counters.records_moved += 1;
            self.line_done(older);
        }
        self.line_done(record);
        self.counters.records_done += 1;
    }

    fn line_done(&mut self, record: Record) {
        self.lines_done(record, record.number);
    }

    /// Records in a row.
    pub(super) fn lines_done(&mut self, first: Record, last: u64) {
        let Record { backlog, which, number } = first;
        let Some(backlog) = self.backlogs.get_mut(backlog.index()) else { return };
        if let (Some((from, to)), Some(queue), Some(spool)) =
            (backlog.done(which, number, last), backlog.line(which).queue, &mut self.spool)
        {
            spool.remove(queue, from, to);
        }
        self.spool_dirty = true;
    }
}
