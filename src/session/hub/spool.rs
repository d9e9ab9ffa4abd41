//! When publishes go to the spool, and what the disk says of them (SPEC D4, D8).
//!
//! ```text
//! Direct ──── the window is full ───▶ Spilling: every publish of the login goes to the end of its backlog
//!   ▲                                    │  what is in memory is settled, then records are read, oldest first,
//!   └────── the backlog is empty ────────┘  sent on a lane of their own, and removed as they are confirmed   (replay)
//! ```
//! Order is kept because nothing overtakes: while a backlog spills, nothing goes past it. What the spool cannot take then waits on
//! its lane behind all that it has, as far as the window goes. Tier `durable` appends in `Direct` too, and the record goes with the
//! confirm.

use super::Hub;
use super::books::Exit;
use super::frames::Frames;
use crate::session::awaited::Whose;
use crate::session::backlog::{Backlog, Line};
use crate::session::lane::{PublishFlags, Wait};
use crate::session::record::{BacklogId, Record, Which};
use crate::session::spool::{
    DECLARES, HAS_NEEDS, Needs, ONLY_HERE, Spool, SpoolAppend, SpoolFound, SpoolKey, SpoolQueue,
};
use crate::session::{LaneId, Now, PoolId, SessionId};
use crate::wire::method::MethodId;
use crate::wire::num::u64_of;

/// Declarations of one backlog that are known to be on disk.
const DECLARED_MAX: usize = 10_000;

impl Hub {
    /// A spool to use, with what was found in it, and how many of its messages a second go out again. Before `start`.
    pub fn set_spool(
        &mut self,
        now: Now,
        spool: Box<dyn Spool>,
        found: Vec<SpoolFound>,
        replay_rate: Option<u64>,
    ) {
        self.spool = Some(spool);
        self.ages_from_us = now.wall_us.saturating_sub(micros(now));
        self.replay_rate = replay_rate;
        for queue in found {
            self.spool_found(now, queue);
        }
    }

    /// When something is accepted, as the spool counts it: by the wall clock of our beginning, steady since, so that what waits does not age
    /// by a jump.
    pub(super) fn accepted_us(&self, now: Now) -> i64 {
        self.ages_from_us.saturating_add(micros(now))
    }

    /// Whether there is a spool that would take a publish.
    #[must_use]
    pub fn spool_takes(&self) -> bool {
        self.spool.as_ref().is_some_and(|s| s.takes())
    }

    /// Records that wait, and clients' numbers that wait for the disk.
    #[must_use]
    pub fn spool_waiting(&self) -> (u64, usize) {
        self.backlogs.iter().fold((0, 0), |(records, awaited), (_, b)| {
            (records + b.records(), awaited + b.ahead.awaited.len() + b.main.awaited.len())
        })
    }

    /// The backlog of a pool's login; made where there is none.
    pub(super) fn backlog_of(&mut self, pool: PoolId) -> Option<BacklogId> {
        let p = self.pools.get(pool.0)?;
        if let Some(b) = p.backlog {
            return Some(b);
        }
        let key = SpoolKey {
            upstream: std::rc::Rc::clone(&self.upstreams.get(p.upstream.0)?.settings.name),
            vhost: std::rc::Rc::clone(&p.vhost),
            user: std::rc::Rc::clone(&p.credentials.user),
            identity: p.credentials.owner(),
            ahead: false,
        };
        // Another pool of the same owner, with another password, may have made it.
        if let Some(b) = self.backlogs.iter().find(|(_, b)| b.key == key).map(|(i, _)| BacklogId::new(i)) {
            self.attach(pool, b);
            return Some(b);
        }
        let mut backlog = Backlog::new(key);
        backlog.via = Some(pool);
        let b = BacklogId::new(self.backlogs.insert(backlog));
        self.pools.get_mut(pool.0)?.backlog = Some(b);
        Some(b)
    }

    pub(super) fn line_queue(&mut self, b: BacklogId, which: Which) -> Option<SpoolQueue> {
        let backlog = self.backlogs.get_mut(b.index())?;
        if let Some(queue) = backlog.line(which).queue {
            return Some(queue);
        }
        let key = SpoolKey { ahead: which == Which::Ahead, ..backlog.key.clone() };
        let queue = self.spool.as_mut()?.queue(&key);
        backlog.line(which).queue = Some(queue);
        Some(queue)
    }

    /// Whether this pool's publishes go behind its backlog.
    pub(super) fn spills(&self, pool: PoolId) -> bool {
        let b = self.pools.get(pool.0).and_then(|p| p.backlog);
        b.and_then(|b| self.backlogs.get(b.index())).is_some_and(|b| b.spilling)
    }

    /// Whether a spilling backlog needs this pool's links.
    pub(super) fn carries(&self, pool: PoolId) -> bool {
        let b = self.pools.get(pool.0).and_then(|p| p.backlog);
        b.and_then(|b| self.backlogs.get(b.index())).is_some_and(|b| b.spilling && b.via == Some(pool))
    }

    pub(super) fn append(
        &mut self,
        now: Now,
        b: BacklogId,
        which: Which,
        lane: LaneId,
        flags: u32,
        parts: (&[u8], &[u8], &[&[u8]]),
    ) -> Option<Record> {
        let queue = self.line_queue(b, which)?;
        let (method, header, body) = parts;
        let at_us = self.accepted_us(now);
        let append = SpoolAppend { lane: u64_of(lane.0), at_us, flags, method, header, body };
        let number = self.spool.as_mut()?.append(queue, &append)?;
        let line = self.backlogs.get_mut(b.index())?.line(which);
        line.waiting += 1;
        line.last = number;
        self.spool_dirty = true;
        Some(Record { backlog: b, which, number })
    }

    /// Appends a publish with whatever must be there before it goes out.
    pub(super) fn append_publish(
        &mut self,
        now: Now,
        which: Which,
        lane_id: LaneId,
        flags: u32,
        frames: &Frames<'_>,
        wait: Option<&Wait>,
    ) -> Option<Record> {
        let b = self.backlog_of(self.lanes.get(lane_id.0)?.pool)?;
        let (method, header, body) = frames.parts()?;
        let packed;
        // What is there now may be gone when it comes back: its way out goes with it.
        let way = wait.map(|w| &w.way).filter(|way| way.target.is_some() || way.otherwise.is_some());
        let (method, flags) = match way {
            Some(way) => {
                let otherwise = way.otherwise.as_deref().unwrap_or_default();
                let home = way.home.and_then(|home| self.upstreams.get(home.0));
                let home = home.map_or(&[][..], |u| u.settings.name.as_bytes());
                let (name, methods) =
                    way.target.as_ref().map_or((&[][..], &[][..]), |t| (t.name.as_bytes(), &t.methods[..]));
                packed = Needs { name, otherwise, home, publish: method }.pack(methods);
                (packed.as_slice(), flags | HAS_NEEDS)
            }
            None => (method, flags),
        };
        self.append(now, b, which, lane_id, flags, (method, header, &body))
    }

    /// Appends a publish that memory has too. The client's own number is settled when the disk has it.
    pub(super) fn keep_on_disk(
        &mut self,
        now: Now,
        lane_id: LaneId,
        frames: &Frames<'_>,
        seq: u64,
        wait: Option<&Wait>,
    ) -> Option<Record> {
        let record = self.append_publish(now, Which::Main, lane_id, 0, frames, wait)?;
        self.await_disk(lane_id, record, seq);
        Some(record)
    }

    /// A publish goes to disk only, and from now on all of its login's.
    pub(super) fn spill(
        &mut self,
        now: Now,
        lane_id: LaneId,
        frames: &Frames<'_>,
        kind: PublishFlags,
        seq: u64,
        wait: Option<&Wait>,
    ) -> Option<Record> {
        // What the disk has given back comes first.
        let b = self.lanes.get(lane_id.0).map(|l| l.pool).and_then(|pool| self.backlog_of(pool))?;
        if self.spool_held_of(now, b) > 0 {
            return None;
        }
        let record = self.append_publish(now, Which::Main, lane_id, ONLY_HERE, frames, wait)?;
        self.await_disk(lane_id, record, seq);
        self.counters.book(kind, Exit::Spooled);
        self.backlogs.get_mut(b.index())?.spilling = true;
        Some(record)
    }

    /// A declaration that was answered from memory while its upstream cannot be asked. While the login's publishes go to disk, so does
    /// it, before what follows, and once is enough.
    pub(super) fn spill_declaration(
        &mut self,
        now: Now,
        lane_id: LaneId,
        id: MethodId,
        payload: &[u8],
    ) -> bool {
        if !is_declaration(id) || self.spool.is_none() {
            return false;
        }
        let pool = self.lanes.get(lane_id.0).map(|l| l.pool);
        let Some(b) = pool.and_then(|pool| self.backlog_of(pool)) else { return false };
        if self.backlogs.get(b.index()).is_some_and(|b| b.declared.contains(payload)) {
            return true;
        }
        let parts = (payload, &[][..], &[][..]);
        let appended = self.append(now, b, Which::Main, lane_id, DECLARES | ONLY_HERE, parts).is_some();
        if let (Some(backlog), true) = (self.backlogs.get_mut(b.index()), appended) {
            backlog.spilling = true;
            if backlog.declared.len() < DECLARED_MAX {
                backlog.declared.insert(payload.into());
            }
        }
        appended
    }

    pub(super) fn await_disk(&mut self, lane_id: LaneId, record: Record, seq: u64) {
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        let (Some(sid), channel) = (lane.session, lane.channel) else { return };
        let serial = self.sessions.get(sid.0).map_or(0, |s| s.serial);
        if let (Some(b), true) = (self.backlogs.get_mut(record.backlog.index()), seq != 0) {
            b.line(record.which).awaited.push(record.number, Whose { sid, serial, channel }, seq);
        }
    }

    /// The disk has what so many of a client's numbers stand for. The session may be another client's by now.
    pub(super) fn ack_awaited(&mut self, whose: Whose, seq: u64, count: usize) {
        let session = self.sessions.get_mut(whose.sid.0).filter(|s| s.serial == whose.serial);
        let Some(c) = session.and_then(|s| s.channel(whose.channel)) else { return };
        let Some(window) = &mut c.confirm else { return };
        window.ack_run(seq, count);
        if !c.answers_due {
            c.answers_due = true;
            self.answers_due.push((whose.sid, whose.channel));
        }
    }

    /// A client's channel is closed: its number may be another channel's from now on.
    pub(super) fn forget_awaited(&mut self, pool: PoolId, sid: SessionId, channel: u16) {
        let b = self.pools.get(pool.0).and_then(|p| p.backlog);
        if let Some(b) = b.and_then(|b| self.backlogs.get_mut(b.index())) {
            for which in [Which::Ahead, Which::Main] {
                b.line(which).awaited.forget(sid, channel);
            }
        }
    }

    /// A client's number is not settled by this record any more.
    pub(super) fn stop_waiting(&mut self, record: Record) {
        if let Some(b) = self.backlogs.get_mut(record.backlog.index()) {
            b.line(record.which).awaited.take(record.number);
        }
    }

    /// What has this record goes another upstream's way: the record stays until it is done, and is not read meanwhile.
    pub(super) fn lend(&mut self, record: Record) {
        if let Some(b) = self.backlogs.get_mut(record.backlog.index()) {
            b.line(record.which).lent.insert(record.number);
        }
    }

    /// A record takes an older one's place, as soon as it is on disk.
    pub(super) fn replaces(&mut self, record: Record, older: Record) {
        if let Some(b) = self.backlogs.get_mut(record.backlog.index()) {
            b.moved.insert(record, older);
        }
    }

    /// What has been appended or removed since the last call goes to the writer. What it has no room for is not forgotten: nothing else
    /// may come that would ask for it.
    pub fn flush_spool(&mut self) {
        if !std::mem::take(&mut self.spool_dirty) {
            return;
        }
        let Some(spool) = &mut self.spool else { return };
        for (_, backlog) in &mut self.backlogs {
            for which in [Which::Ahead, Which::Main] {
                let line: &mut Line = backlog.line(which);
                if let (Some(queue), Some((from, to))) = (line.queue, line.done.take()) {
                    spool.remove(queue, from, to);
                }
            }
        }
        self.spool_dirty = !spool.flush();
    }
}

/// Of the steady clock.
fn micros(now: Now) -> i64 {
    i64::try_from(now.ms.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// What can be said twice, and must be said before publishes that follow it.
pub(super) const fn is_declaration(id: MethodId) -> bool {
    matches!(
        id,
        MethodId::EXCHANGE_DECLARE | MethodId::QUEUE_DECLARE | MethodId::QUEUE_BIND | MethodId::EXCHANGE_BIND
    )
}
