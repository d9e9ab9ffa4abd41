//! The end of items: confirms, nacks, replies, returns, and the answers that clients get for them (SPEC D2).

use super::Hub;
use super::aside::Again;
use super::books::Exit;
use crate::session::aside::Refused;
use crate::session::client::State;
use crate::session::lane::{Kind, Lane, Store};
use crate::session::record::Record;
use crate::session::{LaneId, LinkId, Now, SessionId};
use crate::wire::frame::{ChannelId, FrameKind, write_frame};
use crate::wire::method::{MethodId, MethodWriter};

/// Exchanges remembered for one pool.
const EXCHANGES_REMEMBERED_MAX: usize = 10_000;

impl Hub {
    /// basic.ack or basic.nack from an upstream.
    pub(super) fn confirmed(&mut self, now: Now, lid: LinkId, up: u16, tag: u64, multiple: bool, ack: bool) {
        let Some(lane_id) = self.lane_on(lid, up) else { return };
        if !self.links.get(lid.0).is_some_and(|l| l.worked) {
            self.link_worked(lid);
        }
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        if multiple {
            // 0: everything so far.
            let upto = if tag == 0 { u64::MAX - 1 } else { tag };
            if ack {
                self.acked_run(now, lane_id, upto);
            }
            let left = |l: &Lane| l.items.front().is_some_and(|i| i.tag <= upto);
            if self.lanes.get(lane_id.0).is_some_and(left) {
                self.part(lane_id);
            }
            let Some(lane) = self.lanes.get(lane_id.0) else { return };
            let count = lane.items.iter().take(lane.sent).take_while(|i| i.tag <= upto).count();
            for index in 0..count {
                let is_publish = self
                    .lanes
                    .get(lane_id.0)
                    .and_then(|l| l.items.get(index))
                    .is_some_and(|i| !i.settled && matches!(i.kind, Kind::Publish(_)));
                if is_publish {
                    self.settle_publish(now, lane_id, index, ack);
                }
            }
        } else if ack && lane.items.front().is_some_and(|i| i.count > 1 && i.tag == tag) {
            self.acked_run(now, lane_id, tag);
        } else if let Some(index) = self.one_tagged(lane_id, tag) {
            self.settle_publish(now, lane_id, index, ack);
        }
        self.sweep(now, lane_id);
    }

    /// The publish with this delivery tag, alone.
    fn one_tagged(&mut self, lane_id: LaneId, tag: u64) -> Option<usize> {
        let lane = self.lanes.get(lane_id.0)?;
        let index = lane.tagged(tag)?;
        if lane.items.get(index)?.count == 1 {
            return Some(index);
        }
        self.part(lane_id);
        self.lanes.get(lane_id.0)?.tagged(tag)
    }

    /// What becomes of one of a run is not the others' business: each gets an item of its own.
    pub(super) fn part(&mut self, lane_id: LaneId) {
        let Some(lane) = self.lanes.get_mut(lane_id.0).filter(|l| l.in_runs > 0) else { return };
        let Some(link) = lane.lease.and_then(|(lid, _)| self.links.get(lid.0)) else { return };
        lane.part(|spot| link.out.bytes_at(spot));
    }

    /// The lane on a channel of a pooled link.
    pub(super) fn lane_on(&mut self, lid: LinkId, up: u16) -> Option<LaneId> {
        match self.links.get_mut(lid.0)?.channel(up)?.used {
            crate::session::upstream::ChannelUse::Lane(lane) => Some(lane),
            _ => None,
        }
    }

    /// One publish is settled by its broker.
    fn settle_publish(&mut self, now: Now, lane_id: LaneId, index: usize, ack: bool) {
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        let Some(item) = lane.items.get(index) else { return };
        if item.settled {
            return;
        }
        let Kind::Publish(flags) = item.kind else { return };
        let (seq, at_ms, upstream, on_disk) = (item.seq, item.at_ms, lane.upstream, item.record.is_some());
        if ack && flags.unrouted && self.stays_unrouted(now, lane_id, index) {
            return;
        }
        if ack {
            if let Some(u) = self.upstreams.get_mut(upstream.0) {
                u.confirmed += 1;
            }
            if flags.risky {
                self.learn_exchange(lane_id, index);
            }
            self.counters.confirmed += 1;
            self.counters.confirm_count += 1;
            self.counters.confirm_wait_ms += now.ms.saturating_sub(at_ms);
            if flags.again {
                self.send_again(now, lane_id, index);
                return;
            }
        } else {
            let told = self.lanes.get(lane_id.0).is_some_and(|l| l.session.is_some()) && seq != 0;
            if (!told || on_disk) && !flags.authored {
                // Nobody would hear of it, or its client has had its ack of the disk: it is tried again (SPEC D4: nothing accepted
                // is dropped).
                let for_good = self.nacked_for_good(lane_id, index, flags);
                if for_good
                    && on_disk
                    && self.put_aside(now, lane_id, index, Refused::nacked(), Again::InTurn)
                {
                    return;
                }
                if !for_good || on_disk {
                    self.try_again(now, lane_id, index);
                    return;
                }
            }
            self.counters.nacked += 1;
        }
        self.settle_item(lane_id, index, if ack { Exit::Forwarded } else { Exit::Nacked });
    }

    /// A publish to this exchange has been taken.
    fn learn_exchange(&mut self, lane_id: LaneId, index: usize) {
        let Some(bytes) = self.item_bytes(lane_id, index) else { return };
        let Ok(Some(frame)) = crate::wire::frame::parse_frame(&bytes, 0) else { return };
        let exchange = super::publish::exchange_of(frame.payload);
        let pool = self.lanes.get(lane_id.0).map(|l| l.pool);
        if let Some(p) = pool.and_then(|p| self.pools.get_mut(p.0)) {
            if p.known_exchanges.len() < EXCHANGES_REMEMBERED_MAX {
                p.known_exchanges.insert(exchange.into());
            }
        }
    }

    /// The frames of an item, wherever they are.
    pub(super) fn item_bytes(&self, lane_id: LaneId, index: usize) -> Option<Vec<u8>> {
        let lane = self.lanes.get(lane_id.0)?;
        let item = lane.items.get(index)?;
        debug_assert_eq!(item.count, 1, "a run is parted before one of it is looked at");
        match &item.store {
            Store::Own(bytes) => Some(bytes.to_vec()),
            Store::Stream(spot) => Some(self.links.get(lane.lease?.0.0)?.out.bytes_at(*spot).to_vec()),
        }
    }

    /// An item is done with: booked, counted off, its bytes released, its client's number settled. `sweep` takes it off the lane.
    pub(super) fn settle_item(&mut self, lane_id: LaneId, index: usize, exit: Exit) {
        let Some(kind) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(index)).map(|i| i.kind) else {
            return;
        };
        let Some((seq, record)) = self.take_off(lane_id, index) else { return };
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        let (session, channel) = (lane.session, lane.channel);
        if let Kind::Publish(flags) = kind {
            self.counters.book(flags, exit);
        }
        if let Some(record) = record {
            self.record_done(record);
        }
        if let Some(sid) = session {
            let owed = matches!(kind, Kind::Method { tell: true, .. });
            if let (true, Some(c)) = (owed, self.sessions.get_mut(sid.0).and_then(|s| s.channel(channel))) {
                c.lane_replies = c.lane_replies.saturating_sub(1);
            }
            self.settle_seq(sid, channel, seq, exit.acks());
        }
    }

    /// Takes an item's weight off its lane: what is counted of it, and the bytes that are kept. Its client's number and its record.
    pub(super) fn take_off(&mut self, lane_id: LaneId, index: usize) -> Option<(u64, Option<Record>)> {
        let lane = self.lanes.get_mut(lane_id.0)?;
        let (session, upstream, lease) = (lane.session, lane.upstream, lane.lease);
        let orphaned = lane.orphaned();
        let item = lane.items.get_mut(index).filter(|i| !i.settled)?;
        debug_assert_eq!(item.count, 1, "a run is parted before one of it is settled");
        item.settled = true;
        let (seq, len, record) = (item.seq, item.len, item.record.take());
        let store = std::mem::replace(&mut item.store, Store::Own(Box::default()));
        if let (Store::Stream(spot), Some((lid, _))) = (store, lease) {
            if let Some(link) = self.links.get_mut(lid.0) {
                link.out.release(&mut self.spares, spot);
            }
        }
        if let Some(u) = self.upstreams.get_mut(upstream.0) {
            u.unsettled = u.unsettled.saturating_sub(1);
            u.unsettled_bytes = u.unsettled_bytes.saturating_sub(u64::from(len));
            if orphaned {
                u.orphaned = u.orphaned.saturating_sub(1);
                u.orphans_settled += 1;
            }
        }
        if let Some(s) = session.and_then(|sid| self.sessions.get_mut(sid.0)) {
            s.unsettled = s.unsettled.saturating_sub(1);
        }
        Some((seq, record))
    }

    /// Takes settled items off the front; an orphan that is empty is gone. What waited for room goes on.
    pub(super) fn sweep(&mut self, now: Now, lane_id: LaneId) {
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        while lane.items.front().is_some_and(|i| i.settled) {
            lane.items.pop_front();
            lane.sent = lane.sent.saturating_sub(1);
            lane.careful = lane.careful.saturating_sub(1);
            lane.first_ms = now.ms;
        }
        lane.busy_ms = now.ms;
        if lane.suspects > 0 {
            self.tried(now, lane_id);
        }
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        let (pool, replay) = (lane.pool, lane.replay);
        if lane.items.is_empty() {
            lane.careful = 0;
            if lane.items.capacity() > 1024 {
                lane.items.shrink_to(64);
            }
            if lane.session.is_none() {
                self.end_lane(now, lane_id);
            }
        } else if lane.waiting() {
            self.seek(now, lane_id);
        }
        if let Some(b) =
            self.pools.get(pool.0).and_then(|p| p.backlog).filter(|_| replay || self.spills(pool))
        {
            self.replay(now, b);
        }
    }

    /// A reply of an upstream to a method of a lane.
    pub(super) fn replied(&mut self, now: Now, lid: LinkId, up: u16, id: MethodId, payload: &[u8]) {
        let Some(lane_id) = self.lane_on(lid, up) else { return };
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        let asked = lane
            .items
            .iter()
            .take(lane.sent)
            .position(|i| !i.settled && matches!(i.kind, Kind::Method { .. }));
        let Some(index) = asked else { return };
        let tell = matches!(lane.items.get(index).map(|i| &i.kind), Some(Kind::Method { tell: true, .. }));
        let (session, channel, pool) = (lane.session, lane.channel, lane.pool);
        self.link_worked(lid);
        self.remember_declare(pool, lane_id, index, payload);
        if let Some(sid) = session {
            self.note_reply(sid, channel, id, payload);
            if tell {
                self.send_answers(now);
                self.client_push(sid, channel, payload);
            }
        }
        self.settle_item(lane_id, index, Exit::Forwarded);
        self.sweep(now, lane_id);
    }

    /// A declaration that worked is remembered, so that an outage need not keep a producer from starting (SPEC D4).
    fn remember_declare(
        &mut self,
        pool: crate::session::PoolId,
        lane_id: LaneId,
        index: usize,
        reply: &[u8],
    ) {
        let declares =
            self.lanes.get(lane_id.0).and_then(|l| l.items.get(index)).is_some_and(
                |i| matches!(i.kind, Kind::Method { id, .. } if super::spool::is_declaration(id)),
            );
        if !declares {
            return;
        }
        let Some(bytes) = self.item_bytes(lane_id, index) else { return };
        let Ok(Some(frame)) = crate::wire::frame::parse_frame(&bytes, 0) else { return };
        self.declared_is_known(pool, frame.payload, reply);
    }

    /// What a reply teaches us about the client's channel.
    pub(super) fn note_reply(&mut self, sid: SessionId, ch: u16, id: MethodId, payload: &[u8]) {
        if id == MethodId::QUEUE_DECLARE_OK {
            let name = crate::wire::method::split(payload).ok().and_then(|(_, mut r)| r.shortstr().ok());
            if let (Some(name), Some(c)) = (name, self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch))) {
                c.last_queue = name.into();
            }
        }
    }

    /// Acks and nacks that are due to clients, runs as one `multiple`.
    pub(super) fn send_answers(&mut self, now: Now) {
        while let Some(lane_id) = self.ending.pop() {
            self.sweep(now, lane_id);
        }
        while let Some((sid, ch)) = self.answers_due.pop() {
            let Some(s) = self.sessions.get_mut(sid.0) else { continue };
            let running = s.state == State::Running;
            let mut out = std::mem::take(&mut s.out);
            if let Some(c) = s.channel(ch) {
                c.answers_due = false;
                if let (Some(window), true) = (&mut c.confirm, running) {
                    let out = if c.relaying.is_some() { &mut c.deferred } else { &mut out };
                    window.answers(|a| {
                        let writer = if a.ack {
                            MethodWriter::new(MethodId::BASIC_ACK).longlong(a.tag).octet(u8::from(a.multiple))
                        } else {
                            MethodWriter::new(MethodId::BASIC_NACK)
                                .longlong(a.tag)
                                .octet(u8::from(a.multiple))
                        };
                        write_frame(out, FrameKind::Method, ChannelId(ch), &writer.done());
                    });
                }
            }
            if let Some(s) = self.sessions.get_mut(sid.0) {
                s.out = out;
            }
            self.mark_client(sid);
        }
    }
}

/// Frames of an upstream to a client, with its channel number; bodies split where it takes less (SPEC L6).
pub(in crate::session) fn relay_frames(out: &mut Vec<u8>, mut frames: &[u8], channel: u16, frame_max: u32) {
    while let Ok(Some(frame)) = crate::wire::frame::parse_frame(frames, 0) {
        match frame.kind {
            FrameKind::Body => {
                crate::wire::frame::write_body(out, ChannelId(channel), frame.payload, frame_max)
            }
            kind => write_frame(out, kind, ChannelId(channel), frame.payload),
        }
        frames = frames.get(frame.wire_len()..).unwrap_or(&[]);
    }
}
