//! basic.return on shared links: told to the client that asked for it, or dealt with where only we did (SPEC D6).
//!
//! ```text
//! returned ─┬ the client asked: it is relayed, with the client's channel number
//!           └ only we asked ─▶ Judge::unrouted ─┬ counted: its confirm ends it
//!                                               ├ published elsewhere (a dead letter), which carries the client's number
//!                                               └ its queue is declared; its confirm puts it before all that waits, once
//! ```
//! A return carries no tag and comes before its confirm: it belongs to the first mandatory publish on the lease that went there.

use super::Hub;
use crate::session::client::State;
use crate::session::judge::{Judge, Unrouted};
use crate::session::lane::{Kind, PublishFlags, Store, Wait, Way};
use crate::session::upstream::{Returning, TargetState};
use crate::session::{LaneId, LinkId, Now, UpstreamId};
use crate::wire::frame::{Frame, FrameKind, parse_frame, write_frame};
use crate::wire::method;
use crate::wire::num::u64_of;

impl Hub {
    pub(super) fn begin_return(
        &mut self,
        lid: LinkId,
        up: u16,
        frame: Frame<'_>,
        args: crate::wire::Reader<'_>,
    ) {
        let mut r = args;
        let (Ok(_), Ok(_), Ok(exchange), Ok(routing_key)) =
            (r.u16(), r.shortstr(), r.shortstr(), r.shortstr())
        else {
            return;
        };
        let mut frames = Vec::new();
        write_frame(&mut frames, frame.kind, frame.channel, frame.payload);
        if let Some(c) = self.links.get_mut(lid.0).and_then(|l| l.channel(up)) {
            c.returning = Some(Box::new(Returning {
                frames,
                exchange: exchange.into(),
                routing_key: routing_key.into(),
                left: None,
            }));
        }
    }

    pub(super) fn returning_content(
        &mut self,
        now: Now,
        lid: LinkId,
        up: u16,
        frame: Frame<'_>,
        judge: &mut dyn Judge,
    ) {
        let Some(c) = self.links.get_mut(lid.0).and_then(|l| l.channel(up)) else { return };
        let Some(returning) = &mut c.returning else { return };
        returning.left = match (returning.left, frame.kind) {
            (None, FrameKind::Header) => {
                frame.payload.get(4..12).and_then(|b| b.first_chunk::<8>()).map(|b| u64::from_be_bytes(*b))
            }
            (Some(left), FrameKind::Body) => Some(left.saturating_sub(u64_of(frame.payload.len()))),
            (left, _) => left,
        };
        write_frame(&mut returning.frames, frame.kind, frame.channel, frame.payload);
        if returning.left == Some(0) {
            if let Some(r) = c.returning.take() {
                self.returned(now, lid, up, &r, judge);
            }
        }
    }

    fn returned(&mut self, now: Now, lid: LinkId, up: u16, r: &Returning, judge: &mut dyn Judge) {
        let Some(lane_id) = self.lane_on(lid, up) else { return };
        self.part(lane_id);
        let Some((index, mut flags)) = self.returned_item(lid, lane_id, r) else { return };
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        let (session, channel) = (lane.session, lane.channel);
        flags.returned = true;
        let known = std::mem::replace(&mut flags.returned_before, true);
        self.flag_item(lane_id, index, flags);
        if known {
            // It came back before: on a link that died before its confirm, or although its queue was declared.
            return;
        }
        if !flags.mandatory {
            self.counters.returned_watched += 1;
            // What the judge knows is the upstream's place in the configuration, if it still has one.
            let upstream = self.lanes.get(lane_id.0).map(|l| l.upstream);
            let from = self.order.iter().position(|u| Some(*u) == upstream).map(UpstreamId);
            let verdict =
                from.and_then(|from| self.view_item(lane_id, index, |view| judge.unrouted(now, view, from)));
            self.deal_with_return(now, lane_id, index, flags, verdict.unwrap_or(Unrouted::Counted));
            return;
        }
        self.counters.returned += 1;
        let Some(sid) = session else { return };
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if s.state == State::Running {
            s.put_whole(&r.frames, channel);
        }
        self.mark_client(sid);
    }

    fn returned_item(&self, lid: LinkId, lane_id: LaneId, r: &Returning) -> Option<(usize, PublishFlags)> {
        let lane = self.lanes.get(lane_id.0)?;
        lane.items.iter().take(lane.sent).enumerate().find_map(|(index, item)| match item.kind {
            Kind::Publish(f) if !item.settled && (f.mandatory || f.watched) && !f.returned => {
                let Store::Stream(spot) = item.store else { return None };
                let bytes = self.links.get(lid.0)?.out.bytes_at(spot);
                let payload = parse_frame(bytes, 0).ok()??.payload;
                let (_, args) = method::split(payload).ok()?;
                let publish = method::publish(args).ok()?;
                let there = publish.exchange == r.exchange && publish.routing_key == r.routing_key;
                there.then_some((index, f))
            }
            _ => None,
        })
    }

    fn deal_with_return(
        &mut self,
        now: Now,
        lane_id: LaneId,
        index: usize,
        mut flags: PublishFlags,
        verdict: Unrouted,
    ) {
        match verdict {
            Unrouted::Counted => {
                flags.unrouted = flags.late;
                self.flag_item(lane_id, index, flags);
            }
            Unrouted::Instead(letters) if letters.is_empty() => {}
            Unrouted::Instead(letters) => {
                let seq = self
                    .lanes
                    .get_mut(lane_id.0)
                    .and_then(|l| l.items.get_mut(index))
                    .map_or(0, |i| std::mem::take(&mut i.seq));
                self.author(now, lane_id, seq, letters);
            }
            Unrouted::Declare(target) => {
                let Some(lane) = self.lanes.get(lane_id.0) else { return };
                let pool = lane.pool;
                // Whatever was known of it: it is not there.
                if let Some(p) = self.pools.get_mut(pool.0) {
                    if p.targets.get(&target).is_some_and(|state| *state == TargetState::Ready) {
                        p.targets.remove(&target);
                    }
                }
                let Some(bytes) = self.item_bytes(lane_id, index) else { return };
                let Ok(Some(first)) = parse_frame(&bytes, 0) else { return };
                let otherwise = Some(first.payload.to_vec());
                flags.again = true;
                self.flag_item(lane_id, index, flags);
                if let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) {
                    item.wait = Some(Wait::on(Way { target: Some(target), otherwise, home: None }, false));
                }
            }
        }
    }

    fn flag_item(&mut self, lane_id: LaneId, index: usize, flags: PublishFlags) {
        if let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) {
            item.kind = Kind::Publish(flags);
        }
    }
}
