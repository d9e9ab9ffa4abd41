//! How an item enters its lane: onto the link, behind what waits, to disk, or not at all because every bound is reached.

use std::rc::Rc;

use super::Hub;
use super::frames::Frames;
use super::publish::exchange_of;
use crate::session::lane::{Item, Kind, Lane, PublishFlags, Store, UNSENT, Wait};
use crate::session::record::Record;
use crate::session::stream::CHUNK_BYTES;
use crate::session::{LaneId, Now, Refusal, SessionId, UpstreamId};
use crate::wire::frame::parse_frame;
use crate::wire::method::MethodId;
use crate::wire::num::{u32_clamped, u64_of};

impl Hub {
    /// The lane of a client's channel to an upstream; made on first use.
    pub(super) fn lane_for(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        upstream: UpstreamId,
    ) -> Option<LaneId> {
        let s = self.sessions.get_mut(sid.0)?;
        let (own, pool) = (s.upstream, s.pool?);
        let c = s.channel(ch)?;
        if let Some(&(_, lane)) = c.lanes.iter().find(|(u, _)| *u == upstream) {
            return Some(lane);
        }
        let pool = if upstream == own {
            pool
        } else {
            let settings = self.upstreams.get(upstream.0).map(|u| Rc::clone(&u.settings))?;
            let s = self.sessions.get(sid.0)?;
            let credentials = self.login_at(sid, upstream)?;
            let vhost = settings.vhost.clone().unwrap_or_else(|| Rc::clone(&s.vhost));
            self.pool_for(now, upstream, &vhost, &credentials)
        };
        let mut lane = Lane::new(sid, ch, upstream, pool, now.ms);
        lane.user = self.sessions.get(sid.0).and_then(|s| s.credentials.as_ref()).map(|c| Rc::clone(&c.user));
        let lane = LaneId(self.lanes.insert(lane));
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.lanes += 1;
        }
        let c = self.sessions.get_mut(sid.0)?.channel(ch)?;
        c.lanes.push((upstream, lane));
        Some(lane)
    }

    /// A publish enters its lane, or goes to disk, or is refused because every bound is reached (SPEC D4).
    pub(super) fn put_publish(
        &mut self,
        now: Now,
        lid: LaneId,
        frames: Frames<'_>,
        flags: PublishFlags,
        seq: u64,
        wait: Option<Wait>,
    ) -> Result<(), Refusal> {
        let Some(lane) = self.lanes.get(lid.0) else { return Ok(()) };
        let (sid, ch, pool, upstream) = (lane.session, lane.channel, lane.pool, lane.upstream);
        let full = self.window_full(lid, u64_of(frames.len(0)));
        let spilling = self.spills(pool);
        let mut wait = wait;
        if (full || spilling) && self.spool.is_some() {
            // Once something of a lane waits behind the backlog, so does what follows.
            let behind = spilling && self.waits_behind(lid);
            if !behind && self.spill(now, lid, &frames, flags, seq, wait.as_ref()).is_some() {
                return Ok(());
            }
            if full {
                self.counters.refused_spool += u64::from(!flags.authored);
                return self.refuse_publish(
                    sid,
                    ch,
                    seq,
                    "the upstream takes no more, and neither does the spool",
                );
            }
            wait.get_or_insert_with(Wait::behind).behind = true;
        }
        if full {
            self.counters.refused_window += u64::from(!flags.authored);
            return self.refuse_publish(sid, ch, seq, "the upstream takes no more, and the window is full");
        }
        let mut flags = flags;
        flags.risky = self.is_risky(pool, &frames);
        let by_tier = self.upstreams.get(upstream.0).is_some_and(|u| u.settings.durable);
        let durable = !flags.authored && flags.durable.unwrap_or(by_tier) && !spilling;
        let record = if durable && self.spool.is_some() {
            self.keep_on_disk(now, lid, &frames, seq, wait.as_ref())
        } else {
            None
        };
        self.put(now, lid, frames, Kind::Publish(flags), seq, wait, record);
        Ok(())
    }

    /// Whether the last publish of a lane waits behind its login's backlog.
    fn waits_behind(&self, lane: LaneId) -> bool {
        let last = self
            .lanes
            .get(lane.0)
            .and_then(|l| l.items.iter().rev().find(|i| !i.settled && matches!(i.kind, Kind::Publish(_))));
        last.is_some_and(|i| i.wait.as_ref().is_some_and(|w| w.behind))
    }

    /// Whether a publish goes to an exchange that nothing has been confirmed on yet, on this pool.
    fn is_risky(&self, pool: crate::session::PoolId, frames: &Frames<'_>) -> bool {
        let exchange = match frames {
            Frames::Parts { method, .. } => exchange_of(method),
            Frames::Raw(bytes) => {
                parse_frame(bytes, 0).ok().flatten().map_or(&[][..], |f| exchange_of(f.payload))
            }
        };
        !exchange.is_empty() && self.pools.get(pool.0).is_some_and(|p| !p.known_exchanges.contains(exchange))
    }

    /// Whether a lane takes no more: the upstream's messages, its octets, the memory that its link really holds (whole chunks), what
    /// is remembered behind one message that is never confirmed, or the memory of all of it.
    pub(super) fn window_full(&mut self, lane: LaneId, more: u64) -> bool {
        let Some(lane) = self.lanes.get(lane.0) else { return true };
        let Some(u) = self.upstreams.get(lane.upstream.0) else { return true };
        let held = lane.lease.and_then(|(l, _)| self.links.get(l.0)).map_or(0, |l| u64_of(l.out.held()));
        let full = u.unsettled >= u.settings.window_messages
            || u.unsettled_bytes.saturating_add(more) > u.settings.window_bytes
            || held > u.settings.window_bytes.saturating_add(u64_of(CHUNK_BYTES))
            || u64_of(lane.len()) >= u.settings.window_messages.saturating_mul(2);
        let memory: u64 = self.upstreams.iter().map(|u| u.unsettled_bytes).sum();
        let over_memory = memory.saturating_add(more) > self.limits.memory_bytes;
        self.counters.limit_window += u64::from(full);
        self.counters.limit_memory += u64::from(over_memory);
        full || over_memory
    }

    /// Refused where the client can know it: a nack to those who use confirms, connection.close 506 to the others.
    fn refuse_publish(
        &mut self,
        sid: Option<SessionId>,
        ch: u16,
        seq: u64,
        why: &'static str,
    ) -> Result<(), Refusal> {
        match (sid, seq) {
            (Some(sid), 1..) => {
                self.settle_seq(sid, ch, seq, false);
                Ok(())
            }
            _ => Err(Refusal::connection(506, why, MethodId::BASIC_PUBLISH)),
        }
    }

    /// A record of the spool on its lane.
    pub(super) fn put_record(
        &mut self,
        now: Now,
        lane: LaneId,
        frames: Frames<'_>,
        kind: Kind,
        wait: Option<Wait>,
        record: Option<Record>,
    ) {
        self.put(now, lane, frames, kind, 0, wait, record);
    }

    /// An item enters its lane: straight into the link's out-stream where nothing is before it, else it waits in order.
    #[expect(clippy::too_many_arguments, reason = "an item, field by field, made in one place")]
    pub(super) fn put(
        &mut self,
        now: Now,
        lane_id: LaneId,
        frames: Frames<'_>,
        kind: Kind,
        seq: u64,
        wait: Option<Wait>,
        record: Option<Record>,
    ) {
        self.leave_crowd(now, lane_id);
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        lane.busy_ms = now.ms;
        let straight =
            !lane.waiting() && !lane.one_by_one() && wait.as_ref().is_none_or(|w| w.met && !w.behind);
        let link = lane
            .lease
            .filter(|_| straight)
            .and_then(|(l, up)| self.links.get_mut(l.0).map(|link| (l, up, link)));
        let item = match link {
            Some((lid, up, link)) => {
                let frame_max = link.tune.frame_max;
                let spot = frames.keep(&mut link.out, &mut self.spares, up, frame_max);
                let tag = link.channel(up).map_or(0, |c| {
                    if matches!(kind, Kind::Publish(_)) {
                        c.next_tag += 1;
                    }
                    c.next_tag - 1
                });
                if lane.sent == 0 {
                    lane.first_ms = now.ms;
                }
                lane.sent += 1;
                if !link.dirty {
                    link.dirty = true;
                    self.dirty_links.push(lid);
                }
                Item {
                    store: Store::Stream(spot),
                    kind,
                    settled: false,
                    strikes: 0,
                    tag,
                    seq,
                    len: spot.len(),
                    count: 1,
                    at_ms: now.ms,
                    wait,
                    record,
                }
            }
            None => {
                let mut own = Vec::with_capacity(frames.len(0));
                frames.write(&mut own, 0, 0);
                let len = u32_clamped(own.len());
                Item {
                    store: Store::Own(own.into()),
                    kind,
                    settled: false,
                    strikes: 0,
                    tag: UNSENT,
                    seq,
                    len,
                    count: 1,
                    at_ms: now.ms,
                    record,
                    wait,
                }
            }
        };
        let (bytes, waits) = (u64::from(item.len), item.tag == UNSENT);
        lane.items.push_back(item);
        let (session, upstream, orphaned) = (lane.session, lane.upstream, lane.orphaned());
        if let Some(u) = self.upstreams.get_mut(upstream.0) {
            u.unsettled += 1;
            u.unsettled_bytes += bytes;
            u.orphaned += u64::from(orphaned);
        }
        if let Some(s) = session.and_then(|sid| self.sessions.get_mut(sid.0)) {
            s.unsettled += 1;
        }
        if waits {
            self.seek(now, lane_id);
        }
    }
}
