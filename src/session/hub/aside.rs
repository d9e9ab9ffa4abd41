//! What was accepted and a broker then refuses (permissions revoked, an exchange or a queue deleted) stays on disk, and is tried again,
//! in order, when its turn comes. What else waits is not held up by it (SPEC D4).
//!
//! ```text
//! replay ─▶ sent ─┬ confirmed ─▶ gone
//!                 ├ refused, or no queue takes it ─▶ aside ─▶ a turn, once the backlog is empty: sent again
//!                 └ to a place that has just refused another ─▶ aside, without being sent
//! ```

use std::rc::Rc;

use super::Hub;
use super::books::Exit;
use super::frames::Frames;
use super::link::Words;
use crate::session::aside::{Refused, place};
use crate::session::client::State;
use crate::session::judge::Judge;
use crate::session::lane::{Kind, Store};
use crate::session::record::{BacklogId, Record, Which};
use crate::session::spool::{DECLARES, ONLY_HERE, SpoolRecord};
use crate::session::{LaneId, Now, PoolId};
use crate::wire::frame::parse_frame;
use crate::wire::method::{self, MethodId};

/// Octets of the spool read at a time in a turn.
const READ_BYTES: usize = 1 << 20;
/// What was not on disk goes there only while no more than so many are aside: somebody who publishes to nowhere and leaves must not
/// fill what others need in an outage.
const NOT_SPOOLED_MAX: u64 = 10_000;

/// Whether what is aside is tried again in this life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// When its turn comes.
    InTurn,
    /// It would end the links of others once more.
    NextLife,
}

impl Hub {
    /// Records that stay on disk because they were refused.
    #[must_use]
    pub fn spool_aside(&self) -> u64 {
        self.backlogs.iter().map(|(_, b)| b.aside() + b.ahead.left + b.main.left).sum()
    }

    /// Whether an item that its broker refuses must be kept: it was accepted, and nobody can be told.
    pub(super) fn must_stay(&self, lane_id: LaneId, index: usize) -> bool {
        let Some(lane) = self.lanes.get(lane_id.0) else { return false };
        let Some(item) = lane.items.get(index).filter(|i| !i.settled) else { return false };
        let listens = |sid: crate::session::SessionId| {
            self.sessions.get(sid.0).is_some_and(|s| s.state == State::Running)
        };
        match item.kind {
            Kind::Method { id, .. } => {
                lane.replay && item.record.is_some() && super::spool::is_declaration(id)
            }
            Kind::Publish(flags) if flags.authored => item.record.is_some(),
            Kind::Publish(_) => {
                !lane.session.is_some_and(listens) || self.has_been_acked(item.record, item.seq)
            }
        }
    }

    /// Whether a client has had the disk's ack for it.
    fn has_been_acked(&self, record: Option<Record>, seq: u64) -> bool {
        let Some(record) = record.filter(|_| seq != 0) else { return false };
        let Some(b) = self.backlogs.get(record.backlog.index()) else { return false };
        record.number <= if record.which == Which::Main { b.main.synced } else { b.ahead.synced }
    }

    /// A refused item stays on disk, or goes there. `false`: there is no disk that takes it.
    pub(super) fn put_aside(
        &mut self,
        now: Now,
        lane_id: LaneId,
        index: usize,
        refused: Refused,
        again: Again,
    ) -> bool {
        let Some(lane) = self.lanes.get(lane_id.0) else { return false };
        let pool = lane.pool;
        let record = match lane.items.get(index).map(|i| i.record) {
            Some(Some(record)) => record,
            Some(None) => {
                let b = self.pools.get(pool.0).and_then(|p| p.backlog);
                let b = b.and_then(|b| self.backlogs.get(b.index()));
                if self.spool.is_none() || b.is_some_and(|b| b.aside() >= NOT_SPOOLED_MAX) {
                    return false;
                }
                let Some(bytes) = self.item_bytes(lane_id, index) else { return false };
                let appended =
                    self.append_publish(now, Which::Main, lane_id, ONLY_HERE, &Frames::Raw(&bytes), None);
                let Some(record) = appended else { return false };
                record
            }
            None => return false,
        };
        if let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) {
            item.record = None;
        }
        self.leave_aside(now, record, refused, again);
        self.counters.put_aside += 1;
        self.settle_item(lane_id, index, Exit::Aside);
        true
    }

    /// A record is not counted among those that wait any more.
    fn leave_aside(&mut self, now: Now, record: Record, refused: Refused, again: Again) {
        self.note_refusal(record, &refused.why);
        let Some(backlog) = self.backlogs.get_mut(record.backlog.index()) else { return };
        let line = backlog.line(record.which);
        line.waiting = line.waiting.saturating_sub(1);
        line.lent.remove(&record.number);
        if again == Again::InTurn {
            line.aside.insert(record.number);
            backlog.turns.refused(now.ms, refused);
        } else {
            line.left += 1;
        }
    }

    /// The broker's words stay beside the record, for whoever looks at the spool.
    fn note_refusal(&mut self, record: Record, why: &Rc<str>) {
        let queue = self.line_queue(record.backlog, record.which);
        if let (Some(queue), Some(spool)) = (queue, &mut self.spool) {
            spool.refused(queue, record.number, why);
            self.spool_dirty = true;
        }
    }

    /// A record that has been read and need not be sent: it would be refused as others have just been.
    pub(super) fn leave_unsent(&mut self, now: Now, record: &SpoolRecord, place: Option<Record>) -> bool {
        let Some(place) = place.filter(|_| record.flags & DECLARES == 0) else { return false };
        let Some(backlog) = self.backlogs.get_mut(place.backlog.index()) else { return false };
        let publish = method::split(&record.method).ok().and_then(|(_, args)| method::publish(args).ok());
        let forbidden = publish.and_then(|p| backlog.turns.forbids(p.exchange, p.routing_key));
        if forbidden.is_none() && !backlog.turns.is_spent() {
            return false;
        }
        let line = backlog.line(place.which);
        line.waiting = line.waiting.saturating_sub(1);
        line.aside.insert(place.number);
        backlog.turns.schedule(now.ms);
        self.counters.put_aside += 1;
        if let Some(why) = forbidden {
            self.note_refusal(place, &why);
        }
        true
    }

    /// A task that waits in memory while its broker is away may find its queue gone: its broker is asked to say so, where there is a disk
    /// that can keep it.
    pub(super) fn ask_for_return(&mut self, now: Now, lane_id: LaneId, index: usize, judge: &mut dyn Judge) {
        let Some(item) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(index)) else { return };
        let Kind::Publish(mut flags) = item.kind else { return };
        let asked = flags.mandatory || flags.watched || flags.authored || flags.late;
        if asked || item.settled || item.wait.is_some() || self.spool.is_none() {
            return;
        }
        if !self.view_item(lane_id, index, |view| judge.wants_queue(now, view)).unwrap_or(false) {
            return;
        }
        let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) else { return };
        let Store::Own(frames) = &mut item.store else { return };
        // The bits are the method's last octet, before the frame's end.
        let end = parse_frame(frames, 0).ok().flatten().map(|f| f.wire_len() - 2);
        if let Some(bits) = end.and_then(|end| frames.get_mut(end)) {
            *bits |= 1;
            (flags.watched, flags.late) = (true, true);
            item.kind = Kind::Publish(flags);
        }
    }

    /// A publish that no queue takes, and that the policy has no better place for, is confirmed.
    pub(super) fn stays_unrouted(&mut self, now: Now, lane_id: LaneId, index: usize) -> bool {
        let bytes = self.item_bytes(lane_id, index);
        let frame = bytes.as_deref().and_then(|b| parse_frame(b, 0).ok().flatten());
        let publish = frame.and_then(|f| method::publish(method::split(f.payload).ok()?.1).ok());
        let place = publish.map(|p| place(p.exchange, Some(p.routing_key)));
        let refused = Refused { place, why: "312 NO_ROUTE".into() };
        self.put_aside(now, lane_id, index, refused, Again::InTurn)
    }

    /// What a refusal forbids, of a publish on a lane: its exchange, or one topic of it.
    pub(super) fn refused_place(&self, lane_id: LaneId, index: usize, words: &Words) -> Option<Vec<u8>> {
        if !matches!(words.0, 403 | 404) {
            return None;
        }
        let bytes = self.item_bytes(lane_id, index)?;
        let frame = parse_frame(&bytes, 0).ok()??;
        let (id, args) = method::split(frame.payload).ok()?;
        let publish = method::publish(args).ok().filter(|_| id == MethodId::BASIC_PUBLISH)?;
        Some(place(publish.exchange, words.1.contains("to topic '").then_some(publish.routing_key)))
    }

    /// Turns that are due: from `tick`.
    pub(super) fn tick_aside(&mut self, now: Now) {
        let due = |b: &crate::session::backlog::Backlog| {
            b.turns.under_way || (b.turns.at_ms > 0 && now.ms >= b.turns.at_ms)
        };
        let ids: Vec<usize> =
            self.backlogs.iter().filter(|(_, b)| b.aside() > 0 && due(b)).map(|(i, _)| i).collect();
        for id in ids {
            self.turn(now, BacklogId::new(id));
        }
    }

    /// Goes on with a turn, or begins one: once all else of the backlog has gone, and a link is there.
    fn turn(&mut self, now: Now, b: BacklogId) {
        self.find_way(now, b);
        let on_lane = self.on_lane(b);
        let Some(backlog) = self.backlogs.get_mut(b.index()) else { return };
        if backlog.spilling && backlog.turns.under_way {
            // What comes now goes before: the rest has its turn another time.
            let count = backlog.aside();
            backlog.turns.end(now.ms, count);
        }
        let busy = backlog.spilling
            || !backlog.ready.is_empty()
            || backlog.ahead.reading
            || backlog.main.reading
            || on_lane > 0;
        let Some(via) = backlog.via.filter(|_| !busy && !self.draining) else { return };
        if !self.has_way(via) {
            self.serve(now, via);
            return;
        }
        let Some(backlog) = self.backlogs.get_mut(b.index()) else { return };
        let count = backlog.aside();
        if !backlog.turns.under_way {
            backlog.turns.begin(count);
        }
        let next = [Which::Ahead, Which::Main].into_iter().find_map(|which| {
            let line = backlog.line(which);
            line.aside.first_behind(line.tried).map(|first| (which, first))
        });
        let Some((which, first)) = next.filter(|_| !backlog.turns.is_spent()) else {
            if !backlog.turns.is_spent() {
                (backlog.ahead.tried, backlog.main.tried) = (0, 0);
            }
            backlog.turns.end(now.ms, count);
            return;
        };
        let Some(queue) = self.line_queue(b, which) else { return };
        if let Some(backlog) = self.backlogs.get_mut(b.index()) {
            let line = backlog.line(which);
            (line.reading, line.turning) = (true, true);
        }
        self.spool_dirty = true;
        self.flush_spool();
        if let Some(spool) = &mut self.spool {
            spool.read(queue, Some(first - 1), READ_BYTES);
            spool.flush();
        }
    }

    /// Whether a turn waits for a link of this pool, or has something aside that will.
    pub(super) fn has_aside(&self, pool: PoolId) -> bool {
        let b = self.pools.get(pool.0).and_then(|p| p.backlog);
        b.and_then(|b| self.backlogs.get(b.index())).is_some_and(|b| b.aside() > 0)
    }

    /// Whether a turn of what this pool carries is due.
    pub(super) fn turn_waits(&self, now: Now, pool: PoolId) -> bool {
        let b = self.pools.get(pool.0).and_then(|p| p.backlog);
        b.and_then(|b| self.backlogs.get(b.index())).is_some_and(|b| {
            b.via == Some(pool) && b.aside() > 0 && b.turns.at_ms > 0 && now.ms >= b.turns.at_ms
        })
    }
}
