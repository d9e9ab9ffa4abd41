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

use rustc_hash::FxHashMap;

use super::Hub;
use super::books::Exit;
use super::frames::Frames;
use crate::session::awaited::Whose;
use crate::session::backlog::{Backlog, Held, Line};
use crate::session::lane::{Item, Kind, PublishFlags, Wait};
use crate::session::record::{BacklogId, Record, Which};
use crate::session::spool::{
    DECLARES, HAS_NEEDS, Needs, ONLY_HERE, Spool, SpoolAppend, SpoolFound, SpoolKey, SpoolQueue, SpoolRecord,
};
use crate::session::{LaneId, Now, PoolId, SessionId};
use crate::wire::frame::parse_frame;
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
        self.replay_rate = replay_rate;
        for queue in found {
            self.spool_found(now, queue);
        }
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
    fn backlog_of(&mut self, pool: PoolId) -> Option<BacklogId> {
        let p = self.pools.get(pool.0)?;
        if let Some(b) = p.backlog {
            return Some(b);
        }
        let key = SpoolKey {
            upstream: std::rc::Rc::clone(&self.upstreams.get(p.upstream.0)?.settings.name),
            vhost: std::rc::Rc::clone(&p.vhost),
            user: std::rc::Rc::clone(&p.credentials.user),
            identity: p.identity.bytes(),
            ahead: false,
        };
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

    fn append(
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
        let append = SpoolAppend { lane: u64_of(lane.0), at_us: now.wall_us, flags, method, header, body };
        let number = self.spool.as_mut()?.append(queue, &append)?;
        let line = self.backlogs.get_mut(b.index())?.line(which);
        line.waiting += 1;
        line.last = number;
        self.spool_dirty = true;
        Some(Record { backlog: b, which, number })
    }

    /// Appends a publish with whatever must be there before it goes out.
    fn append_publish(
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

    fn await_disk(&mut self, lane_id: LaneId, record: Record, seq: u64) {
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        let (Some(sid), channel) = (lane.session, lane.channel) else { return };
        let serial = self.sessions.get(sid.0).map_or(0, |s| s.serial);
        if let (Some(b), true) = (self.backlogs.get_mut(record.backlog.index()), seq != 0) {
            b.line(record.which).awaited.push(record.number, Whose { sid, serial, channel }, seq);
        }
    }

    /// The disk has what so many of a client's numbers stand for. The session may be another client's by now.
    fn ack_awaited(&mut self, whose: Whose, seq: u64, count: usize) {
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

    /// What has been appended or removed since the last call goes to the writer.
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
        spool.flush();
    }

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
            let only_here = record.flags & ONLY_HERE != 0;
            if only_here || replaced.is_some() || self.forget_record(place, older) {
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

    /// The drain's time is up: what is in memory and not confirmed goes to disk, in order (SPEC D7), as far as the spool takes it at once;
    /// asked again when it has written. How many are in memory only.
    pub fn spool_the_rest(&mut self, now: Now) -> u64 {
        let lanes: Vec<usize> = self.lanes.iter().map(|(i, _)| i).collect();
        // What the disk has given back came before what waits behind it.
        let held = self.spool_held(now);
        let left =
            lanes.into_iter().map(|id| self.spool_lane(now, LaneId(id), Stays::InMemoryToo)).sum::<u64>()
                + held;
        self.spool_dirty = true;
        self.flush_spool();
        left
    }

    /// All of a lane goes ahead of what is on disk, for it came before it; only what waits behind the backlog goes to its end. How many
    /// are in memory only.
    pub(super) fn spool_lane(&mut self, now: Now, lane_id: LaneId, stays: Stays) -> u64 {
        if self.spool.is_none() {
            return 0;
        }
        let Some(lane) = self.lanes.get(lane_id.0) else { return 0 };
        let bare = |i: &Item| !i.settled && i.record.is_none() && matches!(i.kind, Kind::Publish(_));
        let (mut left, replays, count) =
            (u64_of(lane.items.iter().filter(|i| bare(i)).count()), lane.replay, lane.items.len());
        let b = self.pools.get(lane.pool.0).and_then(|p| p.backlog);
        if left == 0 || b.is_some_and(|b| self.spool_held_of(now, b) > 0) {
            return left;
        }
        for index in 0..count {
            let Some(item) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(index)) else { continue };
            // What a lane of the spool carries without a record was given back once: all that is on disk came after it.
            let behind = item.wait.as_ref().is_some_and(|w| w.behind);
            let which = if behind { Which::Main } else { Which::Ahead };
            let before = item.record;
            // Nor does what another upstream's disk has belong here.
            let is_there =
                before.is_some_and(|r| replays || behind || r.which == Which::Ahead || Some(r.backlog) != b);
            let bare = bare(item);
            let declares = matches!(item.kind, Kind::Method { id, .. } if is_declaration(id));
            let asked = matches!(item.kind, Kind::Method { tell: true, .. });
            if item.settled || is_there || !(declares || matches!(item.kind, Kind::Publish(_))) {
                continue;
            }
            let Some(bytes) = self.item_bytes(lane_id, index) else { continue };
            // What memory has too goes on from there if the disk gives it back, in its old place.
            let flags = if stays == Stays::OnDisk { ONLY_HERE } else { 0 };
            let record = if declares {
                let payload = parse_frame(&bytes, 0).ok().flatten().map(|f| f.payload.to_vec());
                let b = self.lanes.get(lane_id.0).map(|l| l.pool).and_then(|pool| self.backlog_of(pool));
                b.zip(payload).and_then(|(b, payload)| {
                    self.append(now, b, which, lane_id, DECLARES | flags, (&payload, &[], &[]))
                })
            } else {
                let wait = self
                    .lanes
                    .get_mut(lane_id.0)
                    .and_then(|l| l.items.get_mut(index))
                    .and_then(|i| i.wait.take());
                let frames = Frames::Raw(&bytes);
                let record = self.append_publish(now, which, lane_id, flags, &frames, wait.as_ref());
                if let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) {
                    item.wait = wait;
                }
                record
            };
            // What follows must not get there first.
            let Some(record) = record else {
                if stays == Stays::OnDisk {
                    self.wait_behind(lane_id, index);
                }
                break;
            };
            left -= u64::from(bare);
            let Some(lane) = self.lanes.get_mut(lane_id.0) else { break };
            let mut seq = 0;
            if let Some(item) = lane.items.get_mut(index) {
                item.record = (stays == Stays::InMemoryToo).then_some(record);
                if stays == Stays::OnDisk {
                    // Its record speaks for its client's number, too.
                    seq = std::mem::take(&mut item.seq);
                }
            }
            if let Some(before) = before {
                self.replaces(record, before);
            }
            if stays == Stays::OnDisk {
                self.await_disk(lane_id, record, seq);
                // Whoever waits for a reply is not left waiting: that is refused, although it will be declared.
                if !asked {
                    self.settle_item(lane_id, index, Exit::Spooled);
                }
                if let Some(b) = self.backlogs.get_mut(record.backlog.index()) {
                    b.spilling = true;
                }
            }
        }
        left
    }

    /// The disk has what came before this on a lane, and takes no more: this and what follows waits until that has gone.
    fn wait_behind(&mut self, lane_id: LaneId, from: usize) {
        if !self.lanes.get(lane_id.0).is_some_and(|l| self.spills(l.pool)) {
            return;
        }
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        // What has a record would be read while it waits.
        if lane.items.iter().skip(from).any(|i| !i.settled && i.record.is_some()) {
            return;
        }
        for item in lane.items.iter_mut().skip(from).filter(|i| !i.settled) {
            item.wait.get_or_insert_with(Wait::behind).behind = true;
        }
    }

    /// What the disk gave back is tried once more.
    fn spool_held(&mut self, now: Now) -> u64 {
        let ids: Vec<usize> = self.backlogs.iter().filter(|(_, b)| b.held() > 0).map(|(i, _)| i).collect();
        ids.into_iter().map(|id| self.spool_held_of(now, BacklogId::new(id))).sum()
    }

    /// How many of a backlog's the disk does not take.
    fn spool_held_of(&mut self, now: Now, b: BacklogId) -> u64 {
        for which in [Which::Ahead, Which::Main] {
            while let Some(held) = self.backlogs.get_mut(b.index()).and_then(|b| b.line(which).next_held()) {
                let Held { record, older } = &held;
                let body: [&[u8]; 1] = [&record.body];
                let parts = (record.method.as_slice(), record.header.as_slice(), &body[..]);
                let Some(written) = self.append(now, b, which, LaneId(0), record.flags, parts) else {
                    let Some(backlog) = self.backlogs.get_mut(b.index()) else { break };
                    backlog.line(which).held.push_front(held);
                    return backlog.held();
                };
                if let Some(older) = *older {
                    self.replaces(written, older);
                }
            }
        }
        0
    }
}

/// Where an item is once the disk has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    /// On its lane as well.
    InMemoryToo,
    /// Off its lane: it comes back when its record is read.
    OnDisk,
}

/// What can be said twice, and must be said before publishes that follow it.
pub(super) const fn is_declaration(id: MethodId) -> bool {
    matches!(
        id,
        MethodId::EXCHANGE_DECLARE | MethodId::QUEUE_DECLARE | MethodId::QUEUE_BIND | MethodId::EXCHANGE_BIND
    )
}
