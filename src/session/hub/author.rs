//! What is published in a client's place or besides: results, events, dead letters; and what goes back where it was going (P4, P6, P9).

use std::rc::Rc;

use super::Hub;
use super::books::Exit;
use super::frames::Frames;
use crate::session::client::State;
use crate::session::judge::{Authored, Settle, Settled};
use crate::session::lane::{Kind, Lane, PublishFlags, Wait};
use crate::session::record::Record;
use crate::session::{LaneId, Now, Refusal, SessionId, UpstreamId};
use crate::wire::frame::{ChannelId, FrameKind, parse_frame, write_frame};
use crate::wire::method::{self, MethodId};
use crate::wire::num::u64_of;

/// What is published by us.
const OURS: PublishFlags = PublishFlags {
    mandatory: false,
    watched: false,
    durable: None,
    returned: false,
    returned_before: false,
    risky: false,
    authored: true,
    replayed: false,
    again: false,
    redone: false,
    late: false,
    unrouted: false,
    nacks: 0,
};

impl Hub {
    /// Publishes ours in place of what a client's channel has published; the last one carries the client's number.
    pub(super) fn author_all(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        seq: u64,
        authored: Vec<Authored>,
    ) {
        let count = authored.len();
        let mut told = false;
        for (i, a) in authored.into_iter().enumerate() {
            let Some(upstream) = self.upstream_at(a.upstream.0) else { continue };
            let Some(lane) = self.lane_for(now, sid, ch, upstream) else { continue };
            let its_seq = if i + 1 == count { seq } else { 0 };
            told |= self.author_on(now, lane, its_seq, a) && i + 1 == count;
        }
        if !told {
            self.settle_seq(sid, ch, seq, true);
        }
    }

    /// Publishes ours in place of something that was on a lane, whose client may be gone; the last one carries the client's number.
    pub(super) fn author(&mut self, now: Now, lane_id: LaneId, seq: u64, authored: Vec<Authored>) {
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        match lane.session {
            Some(sid) => {
                let ch = lane.channel;
                self.author_all(now, sid, ch, seq, authored);
            }
            None => {
                self.author_beside(now, lane_id, None, authored);
            }
        }
    }

    /// Publishes ours in place of something on a lane that has no client. Its record stays on disk until the last of them is confirmed,
    /// wherever that goes; whether one of them carries it.
    pub(super) fn author_beside(
        &mut self,
        now: Now,
        lane_id: LaneId,
        record: Option<Record>,
        authored: Vec<Authored>,
    ) -> bool {
        let last = authored.len().saturating_sub(1);
        let mut carried = false;
        for (n, a) in authored.into_iter().enumerate() {
            let Some(upstream) = self.upstream_at(a.upstream.0) else { continue };
            let Some(lane) = self.lane_beside(now, lane_id, upstream) else { continue };
            let record = record.filter(|_| n == last);
            carried |= record.is_some();
            if let Some(record) = record.filter(|_| lane != lane_id) {
                self.lend(record);
            }
            self.counters.authored += 1;
            let method = method::write_publish(&a.exchange, &a.routing_key, false);
            let body: [&[u8]; 1] = [&a.body];
            let frames = Frames::Parts { method: &method, header: &a.header, body: &body };
            self.put(now, lane, frames, Kind::Publish(OURS), 0, a.target.map(Wait::of), record);
        }
        carried
    }

    fn author_on(&mut self, now: Now, lane: LaneId, seq: u64, a: Authored) -> bool {
        let method = method::write_publish(&a.exchange, &a.routing_key, false);
        self.counters.authored += 1;
        let body: [&[u8]; 1] = [&a.body];
        let frames = Frames::Parts { method: &method, header: &a.header, body: &body };
        let taken = self.put_publish(now, lane, frames, OURS, seq, a.target.map(Wait::of)).is_ok();
        self.counters.authored_left_out += u64::from(!taken);
        taken
    }

    /// The policy keeps a publish that is on a lane already: what it publishes instead carries the client's number, if there is one.
    pub(super) fn keep_back(&mut self, now: Now, lane_id: LaneId, index: usize, settled: Settled) {
        let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) else { return };
        let seq = std::mem::take(&mut item.seq);
        let session = self.lanes.get(lane_id.0).and_then(|l| l.session.map(|sid| (sid, l.channel)));
        self.settle_item(lane_id, index, Exit::Kept(settled.kept));
        match (session, settled.settle) {
            (Some((sid, ch)), Settle::Nack) => {
                self.settle_seq(sid, ch, seq, false);
                self.author(now, lane_id, 0, settled.instead);
            }
            _ => self.author(now, lane_id, seq, settled.instead),
        }
        self.ending.push(lane_id);
    }

    /// Refuses a publish that is on no lane any more, if its client can know it: by a nack, or by a close with the next tick.
    fn refuse_homecomer(
        &mut self,
        session: Option<SessionId>,
        channel: u16,
        seq: u64,
        flags: PublishFlags,
    ) -> bool {
        let running = |sid: &SessionId| self.sessions.get(sid.0).is_some_and(|s| s.state == State::Running);
        let Some(sid) = session.filter(running).filter(|_| !flags.authored) else { return false };
        let counter = match self.spool {
            Some(_) => &mut self.counters.refused_spool,
            None => &mut self.counters.refused_window,
        };
        *counter += 1;
        if seq != 0 {
            self.settle_seq(sid, channel, seq, false);
        } else {
            let who = (sid, self.sessions.get(sid.0).map_or(0, |s| s.serial));
            if !self.unhoused.contains(&who) {
                self.unhoused.push(who);
            }
        }
        true
    }

    /// Closes those whose publishes came home and found no room: from `tick`, when nobody is in the middle of saying something to them.
    pub(super) fn close_unhoused(&mut self, now: Now) {
        while let Some((sid, serial)) = self.unhoused.pop() {
            if self.sessions.get(sid.0).is_some_and(|s| s.serial == serial && s.state == State::Running) {
                let why = "what a route sent elsewhere came back, and nothing takes more";
                self.refuse(now, sid, 0, &Refusal::connection(506, why, MethodId::BASIC_PUBLISH));
            }
        }
    }

    /// A lane to an upstream for what was on a lane that has no client.
    fn lane_beside(&mut self, now: Now, lane_id: LaneId, upstream: UpstreamId) -> Option<LaneId> {
        let lane = self.lanes.get(lane_id.0)?;
        if lane.upstream == upstream {
            return Some(lane_id);
        }
        let pool = self.pools.get(lane.pool.0)?;
        let settings = self.upstreams.get(upstream.0).map(|u| Rc::clone(&u.settings))?;
        let credentials = settings.credentials.clone().unwrap_or_else(|| pool.credentials.clone());
        let vhost = settings.vhost.clone().unwrap_or_else(|| Rc::clone(&pool.vhost));
        let pool = self.pool_for(now, upstream, &vhost, &credentials);
        let mut lane = Lane::new(SessionId(0), 0, upstream, pool, now.ms);
        lane.session = None;
        let lane_id = LaneId(self.lanes.insert(lane));
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.lanes += 1;
        }
        // Should nothing be put on it after all, it ends.
        self.ending.push(lane_id);
        Some(lane_id)
    }

    /// A publish that a route has sent to another upstream, where its place is not to be had, goes where it was going (P9). If it is on
    /// disk, its record stays where it is until the disk has it at home, or the home broker has confirmed it. Where home takes no more,
    /// neither in memory nor on disk, its client is told, as it would have been had it gone there at once.
    pub(super) fn go_home(
        &mut self,
        now: Now,
        lane_id: LaneId,
        index: usize,
        home: UpstreamId,
        method: &[u8],
    ) {
        let Some(bytes) = self.item_bytes(lane_id, index) else { return };
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        let (session, channel) = (lane.session, lane.channel);
        let Some(Kind::Publish(flags)) = lane.items.get(index).map(|i| i.kind) else { return };
        let to = match session {
            Some(sid) => self.lane_for(now, sid, channel, home),
            None => self.lane_beside(now, lane_id, home),
        };
        let Ok(Some(first)) = parse_frame(&bytes, 0) else { return };
        let mut frames = Vec::with_capacity(bytes.len() + method.len());
        write_frame(&mut frames, FrameKind::Method, ChannelId(0), method);
        frames.extend_from_slice(bytes.get(first.wire_len()..).unwrap_or(&[]));
        let (Some(to), Some((seq, record))) = (to, self.take_off(lane_id, index)) else { return };
        self.ending.push(lane_id);
        self.counters.routes_turned_back += 1;
        if let Some(record) = record {
            self.lend(record);
        }
        let spills = self.lanes.get(to.0).is_some_and(|l| self.spills(l.pool));
        let full = self.window_full(to, u64_of(frames.len()));
        let frames = Frames::Raw(&frames);
        let spilled = if spills || full { self.spill(now, to, &frames, flags, seq, None) } else { None };
        let kept = match record {
            Some(_) if spilled.is_none() && !spills => self.keep_on_disk(now, to, &frames, seq, None),
            _ => None,
        };
        if let (Some(at_home), Some(record)) = (spilled.or(kept), record) {
            self.stop_waiting(record);
            self.replaces(at_home, record);
        }
        if spilled.is_none() {
            if full && record.is_none() && self.refuse_homecomer(session, channel, seq, flags) {
                return;
            }
            // Nobody can be told: it was accepted, and a full window does not turn it away. What comes after it must see that this lane waits for the backlog.
            let wait = spills.then(Wait::behind);
            self.put(now, to, frames, Kind::Publish(flags), seq, wait, kept.or(record));
        }
    }
}
