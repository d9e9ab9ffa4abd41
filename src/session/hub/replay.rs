//! How a backlog comes back: read a piece at a time, asked whether time has run out, sent in order, removed as it is confirmed.

use std::rc::Rc;

use super::Hub;
use super::books::Exit;
use super::frames::Frames;
use crate::session::backlog::{Backlog, Held};
use crate::session::judge::{Decision, Judge, PublishView, SessionFacts};
use crate::session::lane::{Kind, Lane, PublishFlags, Wait, Way};
use crate::session::record::{BacklogId, Record};
use crate::session::spool::{DECLARES, HAS_NEEDS, Needs, SpoolQueue, SpoolRecord};
use crate::session::{LaneId, Now, PoolId, SessionId, Target, UpstreamId};
use crate::wire::frame::{ChannelId, FrameKind, write_frame};
use crate::wire::method;
use crate::wire::num::u64_of;
use crate::wire::props::ContentHeader;

/// Octets of the spool read at a time.
const READ_BYTES: usize = 1 << 20;
/// Records on their way at a time, and never more than this part of the upstream's window: live traffic of others is not starved.
const REPLAY_WINDOW: usize = 4096;
const REPLAY_SHARE: u64 = 4;

impl Hub {
    /// Records that were asked for. `end`: nothing was behind them.
    pub fn spool_records(
        &mut self,
        now: Now,
        queue: SpoolQueue,
        mut records: Vec<SpoolRecord>,
        end: bool,
        judge: &mut dyn Judge,
    ) {
        let mut was_empty = records.is_empty();
        let Some((b, which)) = self.line_of(queue) else { return };
        let on_lane = self.on_lane(b);
        if let Some(backlog) = self.backlogs.get_mut(b.index()) {
            let line = backlog.line(which);
            line.reading = false;
            let turn = std::mem::take(&mut line.turning);
            if turn {
                line.tried = records.last().map_or(u64::MAX - 1, |r| r.number);
                // What is refused a second time counts once more.
                records.retain(|r| line.aside.take(r.number));
                line.waiting += u64_of(records.len());
            } else {
                line.read = records.last().map(|r| r.number).or(line.read);
                was_empty = records.is_empty();
                records.retain(|r| !line.aside.has(r.number));
            }
            if !turn && end && was_empty && on_lane == 0 && line.synced >= line.last {
                // What the count says is there is not: set aside by the store, which has said so.
                line.waiting = u64_of(line.lent.len());
            }
            let here = records.into_iter().filter(|r| !line.lent.contains(&r.number)).collect::<Vec<_>>();
            backlog.ready.extend(here);
            backlog.ready_of = which;
        }
        self.send_ready(now, b, judge);
        self.replay(now, b);
        self.send_answers(now);
    }

    /// A read was not possible; it is asked for again by the clock.
    pub fn spool_read_failed(&mut self, queue: SpoolQueue) {
        let Some((b, which)) = self.line_of(queue) else { return };
        if let Some(backlog) = self.backlogs.get_mut(b.index()) {
            let line = backlog.line(which);
            (line.reading, line.turning) = (false, false);
        }
    }

    /// Backlogs that spill: from `tick`.
    pub(super) fn tick_spool(&mut self, now: Now, judge: &mut dyn Judge) {
        if self.spool.is_none() {
            return;
        }
        let ids: Vec<usize> =
            self.backlogs.iter().filter(|(_, b)| b.spilling || !b.ready.is_empty()).map(|(i, _)| i).collect();
        for id in ids {
            self.find_way(now, BacklogId::new(id));
            self.send_ready(now, BacklogId::new(id), judge);
            self.replay(now, BacklogId::new(id));
        }
        self.tick_aside(now);
        self.flush_spool();
    }

    pub(super) fn on_lane(&self, b: BacklogId) -> usize {
        let lane = self.backlogs.get(b.index()).and_then(|b| b.replay);
        lane.and_then(|l| self.lanes.get(l.0)).map_or(0, Lane::len)
    }

    /// How many more of a backlog may be on their way.
    fn room(&self, b: BacklogId) -> usize {
        let via = self.backlogs.get(b.index()).and_then(|b| b.via).and_then(|via| self.pools.get(via.0));
        let window =
            via.and_then(|p| self.upstreams.get(p.upstream.0)).map_or(0, |u| u.settings.window_messages);
        let most = crate::wire::num::usize_clamped(window / REPLAY_SHARE).clamp(1, REPLAY_WINDOW);
        let lent = self.backlogs.get(b.index()).map_or(0, Backlog::lent);
        most.saturating_sub(self.on_lane(b) + lent)
    }

    /// What has been read and found no room goes on, now that something was confirmed.
    pub(super) fn resume_replays(&mut self, now: Now, judge: &mut dyn Judge) {
        if !std::mem::take(&mut self.replay_due) {
            return;
        }
        let ids: Vec<usize> =
            self.backlogs.iter().filter(|(_, b)| !b.ready.is_empty()).map(|(i, _)| i).collect();
        for id in ids {
            self.send_ready(now, BacklogId::new(id), judge);
            self.replay(now, BacklogId::new(id));
        }
    }

    /// Whether some link can carry a backlog now.
    pub(super) fn has_way(&self, via: PoolId) -> bool {
        self.pools.get(via.0).is_some_and(|p| self.answers(p))
    }

    /// Whether something that came before the spilling began is still under way.
    fn is_in_memory(&self, b: BacklogId) -> bool {
        self.lanes.iter().any(|(_, l)| {
            !l.replay
                && self.pools.get(l.pool.0).is_some_and(|p| p.backlog == Some(b))
                // What stands behind something that waits for the backlog waits for it, too.
                && l.items
                    .iter()
                    .find(|i| !i.settled)
                    .is_some_and(|i| !i.wait.as_ref().is_some_and(|w| w.behind))
        })
    }

    /// Reads on where it can: a link is up, what was in memory before the spilling began is settled, and there is room.
    pub(super) fn replay(&mut self, now: Now, b: BacklogId) {
        let on_lane = self.on_lane(b);
        let Some(backlog) = self.backlogs.get_mut(b.index()) else { return };
        let reading = backlog.ahead.reading || backlog.main.reading;
        self.replay_due |= !backlog.ready.is_empty();
        if !backlog.spilling || reading || !backlog.ready.is_empty() {
            return;
        }
        if backlog.is_through() && on_lane == 0 {
            backlog.spilling = false;
            backlog.declared.clear();
            self.release_behind(now, b);
            return;
        }
        let (Some(via), which) = (backlog.via, backlog.current()) else { return };
        // What is on disk when a drain begins stays there.
        if self.draining || self.room(b) == 0 {
            return;
        }
        if !self.has_way(via) {
            self.serve(now, via);
            return;
        }
        if self.is_in_memory(b) {
            return;
        }
        let Some(queue) = self.line_queue(b, which) else { return };
        let Some(backlog) = self.backlogs.get_mut(b.index()) else { return };
        let line = backlog.line(which);
        if line.to_come() > u64_of(on_lane) {
            line.reading = true;
            let after = line.read;
            // Removals first: what is done is not read again.
            self.spool_dirty = true;
            self.flush_spool();
            if let Some(spool) = &mut self.spool {
                spool.read(queue, after, READ_BYTES);
                spool.flush();
            }
        } else if on_lane == 0 && line.to_come() == 0 {
            let held = std::mem::take(&mut line.held);
            line.held_lately = 0;
            for Held { record, older } in held {
                self.replay_record(now, b, &record, older, &mut crate::session::PassAll);
            }
        }
    }

    /// The backlog is empty: what waited behind it goes on, and what comes after that does not wait, so none of it is behind any more.
    fn release_behind(&mut self, now: Now, b: BacklogId) {
        let lanes: Vec<LaneId> = self
            .lanes
            .iter()
            .filter(|(_, l)| l.waiting() && self.pools.get(l.pool.0).is_some_and(|p| p.backlog == Some(b)))
            .map(|(i, _)| LaneId(i))
            .collect();
        for lane_id in lanes {
            for item in self.lanes.get_mut(lane_id.0).into_iter().flat_map(|l| &mut l.items) {
                item.stop_waiting_behind();
            }
            self.seek(now, lane_id);
        }
    }

    /// What has been read goes on its way, as many as may.
    fn send_ready(&mut self, now: Now, b: BacklogId, judge: &mut dyn Judge) {
        let (rate, room) = (self.replay_rate, self.room(b));
        let Some(backlog) = self.backlogs.get_mut(b.index()).filter(|b| !b.ready.is_empty()) else { return };
        let count = backlog.allowance(now.ms, rate).min(backlog.ready.len()).min(room);
        backlog.spend(count);
        let which = backlog.ready_of;
        let records: Vec<SpoolRecord> = backlog.ready.drain(..count).collect();
        for record in records {
            let place = Record { backlog: b, which, number: record.number };
            self.replay_record(now, b, &record, Some(place), judge);
        }
    }

    /// One record goes on its way, unless time has run out for it (P4).
    fn replay_record(
        &mut self,
        now: Now,
        b: BacklogId,
        record: &SpoolRecord,
        place: Option<Record>,
        judge: &mut dyn Judge,
    ) {
        if self.leave_unsent(now, record, place) {
            return;
        }
        let Some((lane_id, pool)) = self.replay_lane(now, b) else { return };
        let done = |hub: &mut Self| {
            if let Some(place) = place {
                hub.record_done(place);
            }
            // Nothing may be on it.
            hub.ending.push(lane_id);
        };
        if record.flags & DECLARES != 0 {
            let id = method::split(&record.method).map_or(method::MethodId::NONE, |(id, _)| id);
            let mut frame = Vec::with_capacity(record.method.len() + 8);
            write_frame(&mut frame, FrameKind::Method, ChannelId(0), &record.method);
            self.put_record(now, lane_id, Frames::Raw(&frame), Kind::Method { id, tell: false }, None, place);
            return;
        }
        if record.aged {
            self.counters.spool_aged += 1;
            self.counters.replayed_expired += 1;
            done(self);
            return;
        }
        let (method, wait) = match self.needs(record) {
            Some((method, wait)) => (method, Some(wait)),
            None => (record.method.as_slice(), None),
        };
        let body: [&[u8]; 1] = [&record.body];
        let publish = method::split(method).ok().and_then(|(_, args)| method::publish(args).ok());
        let (Some(publish), Ok(header)) = (publish, ContentHeader::parse(&record.header)) else {
            self.counters.replayed_refused += 1;
            done(self);
            return;
        };
        // What asked to be told of returns still does; its client is not here to hear of them.
        let flags = PublishFlags {
            replayed: true,
            watched: publish.mandatory,
            late: true,
            ..PublishFlags::default()
        };
        let wants_queue;
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
            wants_queue = wait.is_none() && judge.wants_queue(now, &view);
            judge.again(now, &view)
        };
        if let Decision::Settle(settled) = decision {
            self.counters.book(flags, Exit::Kept(settled.kept));
            // It leaves the disk when the last of what goes instead is confirmed.
            if !self.author_beside(now, lane_id, place, settled.instead) {
                done(self);
            }
            return;
        }
        // It was accepted when its queue was there: where that is gone, it waits for it (D4), for which its broker must tell us.
        let told;
        let (method, flags) = if wants_queue && !publish.mandatory {
            told = method::write_publish(publish.exchange, publish.routing_key, true);
            (told.as_slice(), PublishFlags { watched: true, ..flags })
        } else {
            (method, flags)
        };
        let frames = Frames::Parts { method, header: &record.header, body: &body };
        self.counters.replayed += 1;
        self.put_record(now, lane_id, frames, Kind::Publish(flags), wait, place);
    }

    /// The lane that a backlog travels on, and its pool.
    fn replay_lane(&mut self, now: Now, b: BacklogId) -> Option<(LaneId, PoolId)> {
        let backlog = self.backlogs.get(b.index())?;
        if let Some(lane) = backlog.replay {
            return self.lanes.get(lane.0).map(|l| (lane, l.pool));
        }
        let pool = backlog.via?;
        let upstream = self.pools.get(pool.0)?.upstream;
        let mut lane = Lane::new(SessionId(0), 0, upstream, pool, now.ms);
        lane.session = None;
        lane.replay = true;
        let lane = LaneId(self.lanes.insert(lane));
        self.backlogs.get_mut(b.index())?.replay = Some(lane);
        self.pools.get_mut(pool.0)?.lanes += 1;
        Some((lane, pool))
    }

    /// A lane has ended; if it carried a backlog, the next record gets another.
    pub(super) fn forget_replay_lane(&mut self, pool: PoolId, lane: LaneId) {
        let b = self.pools.get(pool.0).and_then(|p| p.backlog);
        if let Some(backlog) =
            b.and_then(|b| self.backlogs.get_mut(b.index())).filter(|b| b.replay == Some(lane))
        {
            backlog.replay = None;
        }
    }

    /// What must be there before a record goes out, and its publish.
    fn needs<'r>(&self, record: &'r SpoolRecord) -> Option<(&'r [u8], Wait)> {
        if record.flags & HAS_NEEDS == 0 {
            return None;
        }
        let (needs, declarations) = Needs::unpack(&record.method)?;
        let target = (!declarations.is_empty()).then(|| {
            Rc::new(Target {
                name: String::from_utf8_lossy(needs.name).into_owned(),
                methods: declarations.into_iter().map(<[u8]>::to_vec).collect(),
            })
        });
        let met = target.is_none();
        let otherwise = (!needs.otherwise.is_empty()).then(|| needs.otherwise.to_vec());
        let home =
            self.upstreams.iter().position(|u| u.settings.name.as_bytes() == needs.home).map(UpstreamId);
        Some((needs.publish, Wait::on(Way { target, otherwise, home }, met)))
    }
}
