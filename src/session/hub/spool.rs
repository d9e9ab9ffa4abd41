//! When publishes go to the spool, and how they come back (SPEC D4, D8).
//!
//! ```text
//! Direct ──── the window is full ───▶ Spilling: every publish of the pool goes to the end of its queue on disk
//!   ▲                                    │  what is in memory is settled, then records are read, oldest first,
//!   └────── the queue is empty ──────────┘  sent on a lane of their own, and removed as they are confirmed
//! ```
//! Order is kept because nothing overtakes: while a pool spills, nothing goes past its queue. Tier `durable` appends in `Direct` too,
//! and the record goes with the confirm.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Hub;
use crate::session::judge::{Decision, Judge, PublishView, SessionFacts};
use crate::session::lane::{Kind, Lane, PublishFlags};
use crate::session::spool::{Spool, SpoolAppend, SpoolFound, SpoolKey, SpoolQueue, SpoolRecord};
use crate::session::upstream::{LinkState, Pool};
use crate::session::{Credentials, LaneId, Now, PoolId, SessionId, UpstreamId};
use crate::wire::method;
use crate::wire::num::u64_of;
use crate::wire::props::ContentHeader;

/// Octets of the spool read at a time, and on their way at a time: live traffic of other pools is not starved.
const READ_BYTES: usize = 1 << 20;
const REPLAY_WINDOW: usize = 4096;

/// A client's number that waits for its record to be on disk.
#[derive(Debug)]
struct Awaited {
    number: u64,
    sid: SessionId,
    serial: u64,
    channel: u16,
    seq: u64,
}

/// What a pool has in the spool.
#[derive(Debug, Default)]
pub(in crate::session) struct PoolSpool {
    queue: Option<SpoolQueue>,
    /// Records appended and not removed.
    pub(in crate::session) waiting: u64,
    pub(in crate::session) spilling: bool,
    reading: bool,
    /// The last record read.
    read: Option<u64>,
    /// Nothing is behind the last record read, as far as is known.
    read_all: bool,
    awaited: VecDeque<Awaited>,
    replay: Option<LaneId>,
    /// Given back by the spool: sent once everything on disk is.
    held: VecDeque<SpoolRecord>,
    /// A run of records that may be removed.
    done: Option<(u64, u64)>,
}

impl PoolSpool {
    /// The lane that carried records is gone; the next record gets another.
    pub(super) fn forget_lane(&mut self, lane: LaneId) {
        if self.replay == Some(lane) {
            self.replay = None;
        }
    }
}

impl Hub {
    /// A spool to use, with what was found in it. Before `start`.
    pub fn set_spool(&mut self, now: Now, spool: Box<dyn Spool>, found: Vec<SpoolFound>) {
        self.spool = Some(spool);
        for queue in found {
            self.spool_found(now, queue);
        }
    }

    /// A queue of an earlier life: replayed with the configured login, or when somebody logs in as its owner did.
    pub fn spool_found(&mut self, now: Now, found: SpoolFound) {
        let Some(upstream) =
            self.upstreams.iter().position(|u| u.settings.name == found.key.upstream).map(UpstreamId)
        else {
            self.spool_strangers.push(found);
            return;
        };
        // A certificate of ours alone may be there for TLS's sake: whoever left the records comes again.
        let login = self.upstreams.get(upstream.0).and_then(|u| {
            let is_configured = u.settings.credentials.is_some();
            u.settings.own.clone().filter(|own| is_configured || &*own.mechanism == b"PLAIN")
        });
        let Some(credentials) = login else {
            self.spool_strangers.push(found);
            return;
        };
        let pool = self.add_pool(now, upstream, &found.key.vhost, &credentials);
        self.adopt(pool, &found);
    }

    fn adopt(&mut self, pool: PoolId, found: &SpoolFound) {
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.spool.queue = Some(found.queue);
            p.spool.waiting = found.records;
            p.spool.spilling = found.records > 0;
        }
    }

    /// A pool has come to be: whether an earlier life left something for it. What it left for the same user under another password
    /// gets a pool beside it: the broker has accepted this one.
    pub(super) fn claim(&mut self, now: Now, pool: PoolId) {
        let Some(p) = self.pools.get(pool.0) else { return };
        let (upstream, vhost, credentials) = (p.upstream, Rc::clone(&p.vhost), p.credentials.clone());
        let identity = p.identity.bytes();
        let Some(name) = self.upstreams.get(upstream.0).map(|u| Rc::clone(&u.settings.name)) else { return };
        let (mine, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.spool_strangers).into_iter().partition(|f| {
                f.key.upstream == name
                    && f.key.vhost == vhost
                    && (f.key.identity == identity
                        || (!credentials.user.is_empty() && f.key.user == credentials.user))
            });
        self.spool_strangers = others;
        for found in mine {
            let own = found.key.identity == identity;
            let pool = if own { pool } else { self.add_pool(now, upstream, &vhost, &credentials) };
            self.adopt(pool, &found);
        }
    }

    fn spool_queue(&mut self, pool: PoolId) -> Option<SpoolQueue> {
        let p = self.pools.get(pool.0)?;
        if let Some(queue) = p.spool.queue {
            return Some(queue);
        }
        let key = SpoolKey {
            upstream: Rc::clone(&self.upstreams.get(p.upstream.0)?.settings.name),
            vhost: Rc::clone(&p.vhost),
            user: Rc::clone(&p.credentials.user),
            identity: p.identity.bytes(),
        };
        let queue = self.spool.as_mut()?.queue(&key);
        self.pools.get_mut(pool.0)?.spool.queue = Some(queue);
        Some(queue)
    }

    /// Whether this pool's publishes go to disk only.
    pub(super) fn spills(&self, pool: PoolId) -> bool {
        self.pools.get(pool.0).is_some_and(|p| p.spool.spilling)
    }

    /// Whether there is a spool that would take a publish.
    #[must_use]
    pub fn spool_takes(&self) -> bool {
        self.spool.as_ref().is_some_and(|s| s.takes())
    }

    /// The drain's time is up: what is in memory and not confirmed goes to disk, in order (SPEC D7). How many could not.
    pub fn spool_the_rest(&mut self, now: Now) -> u64 {
        let lanes: Vec<usize> = self.lanes.iter().map(|(i, _)| i).collect();
        for id in &lanes {
            self.spool_lane(now, LaneId(*id), false);
        }
        self.flush_spool();
        let in_memory_only = |i: &&crate::session::lane::Item| {
            !i.settled && i.record.is_none() && matches!(i.kind, Kind::Publish(_))
        };
        u64_of(self.lanes.iter().map(|(_, l)| l.items.iter().filter(in_memory_only).count()).sum())
    }

    /// Appends a publish to its pool's queue; its number. The client's own number is settled when the disk has it.
    pub(super) fn spool_append(
        &mut self,
        now: Now,
        lane_id: LaneId,
        frames: &super::publish::Frames<'_>,
        seq: u64,
    ) -> Option<u64> {
        let lane = self.lanes.get(lane_id.0)?;
        let (pool, session, channel) = (lane.pool, lane.session, lane.channel);
        let queue = self.spool_queue(pool)?;
        let (method, header, body) = frames.parts()?;
        let append = SpoolAppend { lane: u64_of(lane_id.0), at_us: now.wall_us, method, header, body: &body };
        let number = self.spool.as_mut()?.append(queue, &append)?;
        let serial = session.and_then(|s| self.sessions.get(s.0)).map_or(0, |s| s.serial);
        let p = self.pools.get_mut(pool.0)?;
        p.spool.waiting += 1;
        p.spool.read_all = false;
        if let (Some(sid), true) = (session, seq != 0) {
            p.spool.awaited.push_back(Awaited { number, sid, serial, channel, seq });
        }
        self.spool_dirty = true;
        Some(number)
    }

    /// A publish that goes to disk only, from now on with all of its pool's.
    pub(super) fn spill(
        &mut self,
        now: Now,
        lane_id: LaneId,
        frames: &super::publish::Frames<'_>,
        seq: u64,
    ) -> bool {
        if self.spool_append(now, lane_id, frames, seq).is_none() {
            return false;
        }
        self.counters.spooled += 1;
        let pool = self.lanes.get(lane_id.0).map(|l| l.pool);
        if let Some(p) = pool.and_then(|p| self.pools.get_mut(p.0)) {
            p.spool.spilling = true;
        }
        true
    }

    /// What has been appended or removed since the last call goes to the writer.
    pub fn flush_spool(&mut self) {
        if !std::mem::take(&mut self.spool_dirty) {
            return;
        }
        let ids: Vec<usize> =
            self.pools.iter().filter(|(_, p)| p.spool.done.is_some()).map(|(i, _)| i).collect();
        for id in ids {
            self.remove_run(PoolId(id));
        }
        if let Some(spool) = &mut self.spool {
            spool.flush();
        }
    }

    fn pool_of_queue(&self, queue: SpoolQueue) -> Option<PoolId> {
        self.pools.iter().find(|(_, p)| p.spool.queue == Some(queue)).map(|(i, _)| PoolId(i))
    }

    /// Records up to this one are on disk.
    pub fn spool_synced(&mut self, now: Now, queue: SpoolQueue, upto: u64) {
        let Some(pool) = self.pool_of_queue(queue) else { return };
        while let Some(p) = self.pools.get_mut(pool.0) {
            if p.spool.awaited.front().is_none_or(|a| a.number > upto) {
                break;
            }
            let Some(a) = p.spool.awaited.pop_front() else { break };
            // The number may be another client's by now.
            if self.sessions.get(a.sid.0).is_some_and(|s| s.serial == a.serial) {
                self.settle_seq(a.sid, a.channel, a.seq, true);
            }
        }
        self.send_answers(now);
        self.replay(now, pool);
    }

    /// These could not be written: they stay in memory, and go when everything on disk has gone.
    pub fn spool_given_back(&mut self, now: Now, queue: SpoolQueue, records: Vec<SpoolRecord>) {
        let Some(pool) = self.pool_of_queue(queue) else { return };
        self.counters.spool_given_back += u64_of(records.len());
        let numbers: Vec<u64> = records.iter().map(|r| r.number).collect();
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.spool.awaited.retain(|a| !numbers.contains(&a.number));
            p.spool.waiting = p.spool.waiting.saturating_sub(u64_of(numbers.len()));
        }
        // Those of the durable tier are on their lanes already.
        let mut on_lanes = Vec::new();
        for (_, lane) in &mut self.lanes {
            if lane.pool == pool {
                for item in &mut lane.items {
                    if item.record.is_some_and(|n| numbers.contains(&n)) {
                        on_lanes.extend(item.record.take());
                    }
                }
            }
        }
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.spool.held.extend(records.into_iter().filter(|r| !on_lanes.contains(&r.number)));
        }
        self.replay(now, pool);
    }

    /// Records that were asked for. `end`: nothing was behind them.
    pub fn spool_records(
        &mut self,
        now: Now,
        queue: SpoolQueue,
        records: Vec<SpoolRecord>,
        end: bool,
        judge: &mut dyn Judge,
    ) {
        let Some(pool) = self.pool_of_queue(queue) else { return };
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.spool.reading = false;
            p.spool.read_all = end;
            p.spool.read = records.last().map(|r| r.number).or(p.spool.read);
            if end
                && records.is_empty()
                && p.spool.replay.is_none_or(|l| self.lanes.get(l.0).is_none_or(|l| l.items.is_empty()))
            {
                // What the count says is there is not: set aside by the store, which has said so.
                p.spool.waiting = 0;
            }
        }
        for record in records {
            self.replay_record(now, pool, &record, true, judge);
        }
        self.replay(now, pool);
    }

    /// A read was not possible; it is asked for again by the clock.
    pub fn spool_read_failed(&mut self, queue: SpoolQueue) {
        if let Some(p) = self.pool_of_queue(queue).and_then(|p| self.pools.get_mut(p.0)) {
            p.spool.reading = false;
        }
    }

    /// One record goes on its way, unless time has run out for it (P4).
    fn replay_record(
        &mut self,
        now: Now,
        pool: PoolId,
        record: &SpoolRecord,
        on_disk: bool,
        judge: &mut dyn Judge,
    ) {
        let number = on_disk.then_some(record.number);
        let done = |hub: &mut Self| {
            if let Some(n) = number {
                hub.record_done(pool, n);
            }
        };
        if record.aged {
            self.counters.spool_aged += 1;
            done(self);
            return;
        }
        let Some(lane_id) = self.replay_lane(now, pool) else { return };
        let body: [&[u8]; 1] = [&record.body];
        let (Ok((_, args)), Ok(header)) =
            (method::split(&record.method), ContentHeader::parse(&record.header))
        else {
            self.counters.refused += 1;
            done(self);
            return;
        };
        let Ok(publish) = method::publish(args) else {
            self.counters.refused += 1;
            done(self);
            return;
        };
        let decision = {
            let Some(p) = self.pools.get(pool.0) else { return };
            let view = PublishView {
                session: SessionFacts {
                    vhost: &p.vhost,
                    user: &p.credentials.user,
                    peer: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
                    confirms: false,
                    frame_max: 0,
                },
                exchange: publish.exchange,
                routing_key: publish.routing_key,
                mandatory: false,
                header: &header,
                header_payload: &record.header,
                body: &body,
            };
            judge.again(now, &view)
        };
        if let Decision::Settle(settled) = decision {
            self.counters.settled_here += 1;
            for a in settled.instead {
                self.author_on(now, lane_id, a);
            }
            done(self);
            return;
        }
        let frames =
            super::publish::Frames::Parts { method: &record.method, header: &record.header, body: &body };
        self.counters.replayed += 1;
        self.put_record(now, lane_id, frames, Kind::Publish(PublishFlags::default()), number);
    }

    /// The lane that a pool's records travel on.
    fn replay_lane(&mut self, now: Now, pool: PoolId) -> Option<LaneId> {
        let p = self.pools.get(pool.0)?;
        if let Some(lane) = p.spool.replay {
            return Some(lane);
        }
        let upstream = p.upstream;
        let mut lane = Lane::new(SessionId(0), 0, upstream, pool, now.ms);
        lane.session = None;
        lane.replay = true;
        let lane = LaneId(self.lanes.insert(lane));
        let p = self.pools.get_mut(pool.0)?;
        p.spool.replay = Some(lane);
        p.lanes += 1;
        Some(lane)
    }

    /// A record's publish is settled: it leaves the disk.
    pub(super) fn record_done(&mut self, pool: PoolId, number: u64) {
        let Some(p) = self.pools.get_mut(pool.0) else { return };
        p.spool.waiting = p.spool.waiting.saturating_sub(1);
        p.spool.done = match p.spool.done {
            Some((from, to)) if to + 1 == number => Some((from, number)),
            None => Some((number, number)),
            Some(_) => {
                self.remove_run(pool);
                if let Some(p) = self.pools.get_mut(pool.0) {
                    p.spool.done = Some((number, number));
                }
                self.spool_dirty = true;
                return;
            }
        };
        self.spool_dirty = true;
    }

    fn remove_run(&mut self, pool: PoolId) {
        let Some(p) = self.pools.get_mut(pool.0) else { return };
        if let (Some((from, to)), Some(queue), Some(spool)) =
            (p.spool.done.take(), p.spool.queue, &mut self.spool)
        {
            spool.remove(queue, from, to);
        }
    }

    /// Reads on where it can: a link is up, what was in memory before the spilling began is settled, and there is room.
    pub(super) fn replay(&mut self, now: Now, pool: PoolId) {
        let Some(p) = self.pools.get(pool.0) else { return };
        if !p.spool.spilling || p.spool.reading {
            return;
        }
        let replaying = p.spool.replay.and_then(|l| self.lanes.get(l.0)).map_or(0, |l| l.items.len());
        if p.spool.waiting == 0 && p.spool.held.is_empty() && replaying == 0 {
            if let Some(p) = self.pools.get_mut(pool.0) {
                p.spool.spilling = false;
            }
            return;
        }
        if replaying >= REPLAY_WINDOW {
            return;
        }
        let up = p
            .links
            .iter()
            .any(|l| self.links.get(l.0).is_some_and(|l| l.state == LinkState::Up && !l.blocked));
        if !up {
            self.serve(now, pool);
            return;
        }
        let in_memory =
            self.lanes.iter().any(|(_, l)| l.pool == pool && !l.replay && l.items.iter().any(|i| !i.settled));
        if in_memory {
            return;
        }
        let Some(p) = self.pools.get_mut(pool.0) else { return };
        let (queue, read, on_disk) = (p.spool.queue, p.spool.read, p.spool.waiting > u64_of(replaying));
        if on_disk {
            p.spool.reading = true;
            self.remove_run(pool);
            if let (Some(queue), Some(spool)) = (queue, &mut self.spool) {
                spool.flush();
                spool.read(queue, read, READ_BYTES);
                spool.flush();
            }
        } else if replaying == 0 {
            let held =
                self.pools.get_mut(pool.0).map(|p| std::mem::take(&mut p.spool.held)).unwrap_or_default();
            for record in held {
                self.replay_record(now, pool, &record, false, &mut crate::session::PassAll);
            }
        }
    }

    /// Pools with something on disk: from `tick`.
    pub(super) fn tick_spool(&mut self, now: Now) {
        if self.spool.is_none() {
            return;
        }
        let ids: Vec<usize> = self.pools.iter().filter(|(_, p)| p.spool.spilling).map(|(i, _)| i).collect();
        for id in ids {
            self.replay(now, PoolId(id));
        }
        self.flush_spool();
    }

    /// A pool made for records of an earlier life, beside those that clients log in to.
    fn add_pool(
        &mut self,
        now: Now,
        upstream: UpstreamId,
        vhost: &Rc<[u8]>,
        credentials: &Credentials,
    ) -> PoolId {
        let hash = self.remembered.hash(credentials, Some(vhost));
        PoolId(self.pools.insert(Pool::new(upstream, Rc::clone(vhost), credentials.clone(), hash, now.ms)))
    }

    /// Records on disk, and clients' numbers that wait for it, over all pools.
    #[must_use]
    pub fn spool_waiting(&self) -> (u64, usize) {
        self.pools.iter().fold((0, 0), |(records, awaited), (_, p)| {
            (records + p.spool.waiting + u64_of(p.spool.held.len()), awaited + p.spool.awaited.len())
        })
    }
}
