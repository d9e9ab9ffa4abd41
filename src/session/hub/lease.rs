//! Leases: channels leased to lanes and given back, lanes that lost theirs (SPEC L2, D3).

use std::rc::Rc;

use super::Hub;
use super::aside::Again;
use super::books::Exit;
use crate::session::aside::Refused;
use crate::session::lane::{Kind, Lane, Store, UNSENT};
use crate::session::upstream::{ChannelUse, Link, LinkState, LinkUse, TargetState, UpChannel};
use crate::session::{LaneId, LinkId, Now, PoolId, SessionId};
use crate::wire::method::{MethodId, MethodWriter};

/// Octets unconfirmed on a link from which on it is crowded: whoever has nothing on it is better off on another.
pub(super) const CROWDED_BYTES: usize = 256 * 1024;

impl Hub {
    /// A lane has something to send: it gets a lease, or waits for one, or goes on with the one it has.
    pub(super) fn seek(&mut self, now: Now, lane_id: LaneId) {
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        if lane.lease.is_some() {
            self.pump(now, lane_id);
            return;
        }
        if lane.queued || !lane.waiting() {
            return;
        }
        lane.queued = true;
        let (pool, suspect) = (lane.pool, lane.suspects > 0);
        if let Some(p) = self.pools.get_mut(pool.0) {
            if suspect { p.suspects.push_back(lane_id) } else { p.waiting.push_back(lane_id) }
        }
        self.serve(now, pool);
    }

    /// Leases to those who wait, as far as there are any; dials where there are too few.
    pub(super) fn serve(&mut self, now: Now, pool: PoolId) {
        loop {
            let Some(p) = self.pools.get_mut(pool.0) else { return };
            let Some(&lane_id) = p.waiting.front() else { break };
            if !self.lanes.contains(lane_id.0) {
                p.waiting.pop_front();
                continue;
            }
            let Some((lid, up)) = self.find_lease(now, pool) else { break };
            if let Some(p) = self.pools.get_mut(pool.0) {
                p.waiting.pop_front();
            }
            self.lease_out(lane_id, lid, up);
            self.pump(now, lane_id);
        }
        self.dial_more(now, pool);
        self.try_alone(now, pool);
    }

    /// A channel for a lane: one given back, or a new one, on the link with the fewest leases.
    fn find_lease(&mut self, now: Now, pool: PoolId) -> Option<(LinkId, u16)> {
        let p = self.pools.get(pool.0)?;
        let limit = self.upstreams.get(p.upstream.0)?.settings.channels_per_link;
        let lid = *p
            .links
            .iter()
            .filter(|l| {
                Some(**l) != p.alone
                    && self.links.get(l.0).is_some_and(|k| {
                        k.state == LinkState::Up
                            && k.retire_at_ms > now.ms
                            && (!k.free.is_empty() || lendable(k) < room(k, limit))
                    })
            })
            .min_by_key(|l| self.links.get(l.0).map(|k| (k.out.held() >= CROWDED_BYTES, k.leased)))?;
        let link = self.links.get_mut(lid.0)?;
        if let Some(up) = link.free.pop() {
            return Some((lid, up));
        }
        let up = self.open_channel(now, lid)?;
        Some((lid, up))
    }

    /// A lane with nothing under way leaves a link that others have filled for one that they have not, or that is dialed now: what one
    /// client floods is not to stand before what another says. Its order does not suffer: all that it said is confirmed.
    pub(super) fn leave_crowd(&mut self, now: Now, lane_id: LaneId) {
        let Some(lane) = self.lanes.get(lane_id.0).filter(|l| l.items.is_empty()) else { return };
        let held = |l: LinkId| self.links.get(l.0).map_or(0, |k| k.out.held());
        let Some((lid, _)) = lane.lease.filter(|(lid, _)| held(*lid) >= CROWDED_BYTES) else { return };
        let pool = lane.pool;
        let Some(p) = self.pools.get(pool.0) else { return };
        let limit = self.upstreams.get(p.upstream.0).map_or(0, |u| u.settings.channels_per_link);
        let calm = |l: &LinkId| {
            *l != lid
                && Some(*l) != p.alone
                && self.links.get(l.0).is_some_and(|k| {
                    k.state == LinkState::Up
                        && !k.blocked
                        && k.retire_at_ms > now.ms
                        && k.out.held() < CROWDED_BYTES / 2
                        && (!k.free.is_empty() || lendable(k) < room(k, limit))
                })
        };
        if p.links.iter().any(calm) {
            self.counters.crowds_left += 1;
            self.give_back(now, lane_id);
        } else {
            self.dial_more(now, pool);
        }
    }

    /// Opens a channel on a pooled link and puts it into confirm mode; what follows need not wait for the answers.
    pub(super) fn open_channel(&mut self, now: Now, lid: LinkId) -> Option<u16> {
        let link = self.links.get_mut(lid.0)?;
        let up = u16::try_from(link.channels.len() + 1).ok()?;
        link.channels.push(UpChannel {
            used: ChannelUse::Free,
            next_tag: 1,
            returning: None,
            free_since_ms: now.ms,
        });
        self.say_open(lid, up);
        Some(up)
    }

    fn say_open(&mut self, lid: LinkId, up: u16) {
        self.link_push(lid, up, &MethodWriter::new(MethodId::CHANNEL_OPEN).shortstr(b"").done());
        self.link_push(lid, up, &MethodWriter::new(MethodId::CONFIRM_SELECT).octet(0).done());
    }

    /// A channel that was closed is opened again under its number, clean. Whose it is, the caller says.
    pub(super) fn open_anew(&mut self, now: Now, lid: LinkId, up: u16, used: ChannelUse) {
        if let Some(c) = self.links.get_mut(lid.0).and_then(|l| l.channel(up)) {
            c.used = used;
            c.next_tag = 1;
            c.returning = None;
            c.free_since_ms = now.ms;
        }
        self.say_open(lid, up);
    }

    /// A lane's channel that was closed is opened again for the next lane.
    pub(super) fn reopen_channel(&mut self, now: Now, lid: LinkId, up: u16) {
        self.open_anew(now, lid, up, ChannelUse::Free);
        let pool = self.links.get_mut(lid.0).and_then(|l| {
            l.free.push(up);
            match l.used {
                LinkUse::Pooled(pool) => Some(pool),
                _ => None,
            }
        });
        if let Some(pool) = pool {
            self.serve(now, pool);
        }
    }

    /// Sends what waits on a lane, as far as it may go.
    pub(super) fn pump(&mut self, now: Now, lane_id: LaneId) {
        loop {
            let Some(lane) = self.lanes.get(lane_id.0) else { return };
            let Some((lid, up)) = lane.lease else { return };
            let index = lane.sent;
            let Some(item) = lane.items.get(index) else { return };
            let after_others = lane.one_by_one()
                && (lane.items.iter().take(index).any(|i| !i.settled)
                    || matches!(item.kind, Kind::Method { .. }) && self.other_suspect(lane_id));
            if now.ms < lane.not_before_ms || after_others || self.comes_back_first(lane, index) {
                return;
            }
            if item.settled {
                // It takes its place among the sent with the tag before it: tags ascend along a lane.
                let tag = self.links.get_mut(lid.0).and_then(|l| l.channel(up)).map_or(0, |c| c.next_tag - 1);
                if let Some(l) = self.lanes.get_mut(lane_id.0) {
                    l.sent += 1;
                    if let Some(i) = l.items.get_mut(index) {
                        i.tag = tag;
                    }
                }
                continue;
            }
            if item.wait.as_ref().is_some_and(|w| w.behind) {
                return;
            }
            if item.wait.as_ref().is_some_and(|w| !w.met) && !self.target_met(now, lane_id, index) {
                return;
            }
            if self.refused_before(lane_id, index) {
                let stays = self.must_stay(lane_id, index);
                let why = "its exchange has refused another".into();
                let refused = Refused { place: None, why };
                if !(stays && self.put_aside(now, lane_id, index, refused, Again::InTurn)) {
                    self.settle_unanswered(lane_id, index, Exit::Error);
                }
                self.ending.push(lane_id);
                continue;
            }
            let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
            let Some(item) = lane.items.get_mut(index) else { return };
            if item.settled {
                continue;
            }
            let Some(link) = self.links.get_mut(lid.0) else { return };
            if let Store::Own(bytes) = &item.store {
                let frame_max = link.tune.frame_max;
                let frames = super::frames::Frames::Raw(bytes);
                let spot = frames.keep(&mut link.out, &mut self.spares, up, frame_max);
                item.store = Store::Stream(spot);
            }
            if let Some(c) = link.channel(up) {
                if matches!(item.kind, Kind::Publish(_)) {
                    c.next_tag += 1;
                }
                item.tag = c.next_tag - 1;
            }
            if lane.sent == 0 {
                lane.first_ms = now.ms;
            }
            lane.sent += 1;
            lane.tried = lane.suspects > 0;
            self.mark_link(lid);
        }
    }

    /// Whether an item's missing queue is not asked for yet because of what is before it: sent before anybody knew that it is missing,
    /// that comes back too, and goes first.
    fn comes_back_first(&self, lane: &Lane, index: usize) -> bool {
        let Some(item) = lane.items.get(index) else { return false };
        let redone = matches!(item.kind, Kind::Publish(f) if f.redone);
        let Some(target) =
            item.wait.as_ref().filter(|w| redone && !w.met).and_then(|w| w.way.target.as_ref())
        else {
            return false;
        };
        self.target_state(lane.pool, target) != Some(TargetState::Ready)
            && lane.items.iter().take(index).any(|i| !i.settled)
    }

    /// A lane has lost its lease: what was sent and not confirmed is copied out and will be sent again, in order (SPEC D3).
    pub(super) fn homeless(&mut self, now: Now, lane_id: LaneId) {
        let sent = self.detach(lane_id);
        self.count_resent(lane_id, sent);
        self.find_home(now, lane_id);
    }

    /// How many of those that were sent will be sent again.
    pub(super) fn count_resent(&mut self, lane_id: LaneId, sent: usize) {
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        let again =
            lane.items.iter().take(sent).filter(|i| !i.settled).map(|i| u64::from(i.count)).sum::<u64>();
        if let Some(u) = self.upstreams.get_mut(lane.upstream.0) {
            u.resent += again;
        }
    }

    /// Takes what is on a lane out of its lost lease's stream; how many from the front were sent. Nothing leaves the lane, so that
    /// places on it stay what they are.
    pub(super) fn detach(&mut self, lane_id: LaneId) -> usize {
        self.part(lane_id);
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return 0 };
        let Some((lid, _)) = lane.lease.take() else { return 0 };
        // What was not sent is its own already: a lane that loses one lease after the other must not be walked for each.
        for item in lane.items.iter_mut().take(lane.sent) {
            item.tag = UNSENT;
            if let Kind::Publish(flags) = &mut item.kind {
                (flags.returned, flags.redone, flags.again) = (false, flags.redone || flags.again, false);
            }
            if let Store::Stream(spot) = item.store {
                if let Some(link) = self.links.get_mut(lid.0) {
                    item.store = Store::Own(link.out.bytes_at(spot).into());
                    link.out.release(&mut self.spares, spot);
                }
            }
        }
        lane.tried = false;
        std::mem::take(&mut lane.sent)
    }

    /// A lane without a lease seeks one, or ends if nothing is on it and nobody will put anything there.
    pub(super) fn find_home(&mut self, now: Now, lane_id: LaneId) {
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        while lane.items.front().is_some_and(|i| i.settled) {
            lane.items.pop_front();
            lane.careful = lane.careful.saturating_sub(1);
        }
        if !lane.forsaken {
            lane.careful = lane.items.iter().take(lane.careful).filter(|i| !i.settled).count();
            lane.items.retain(|i| !i.settled);
        }
        if lane.items.is_empty() && lane.session.is_none() {
            self.end_lane(now, lane_id);
        } else {
            self.seek(now, lane_id);
        }
    }

    /// A client's lanes lose their client: what is on them goes on (SPEC L2).
    pub(super) fn orphan_lanes(&mut self, now: Now, sid: SessionId) {
        let channels: Vec<u16> = self
            .sessions
            .get(sid.0)
            .map(|s| s.channels.iter().map(|(n, _)| *n).collect())
            .unwrap_or_default();
        for ch in channels {
            self.orphan_channel(now, sid, ch);
        }
    }

    pub(super) fn orphan_channel(&mut self, now: Now, sid: SessionId, ch: u16) {
        let lanes = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)).map(|c| {
            c.lane_replies = 0;
            std::mem::take(&mut c.lanes)
        });
        for (_, lane_id) in lanes.unwrap_or_default() {
            let Some(lane) = self.lanes.get_mut(lane_id.0) else { continue };
            lane.session = None;
            let pool = lane.pool;
            let count = crate::wire::num::u64_of(lane.unsettled());
            if let (true, Some(u)) = (lane.orphaned(), self.upstreams.get_mut(lane.upstream.0)) {
                u.orphaned += count;
            }
            if let Some(s) = self.sessions.get_mut(sid.0) {
                s.unsettled = s.unsettled.saturating_sub(count);
            }
            let ended = lane.items.iter().all(|i| i.settled);
            self.forget_awaited(pool, sid, ch);
            if ended {
                self.end_lane(now, lane_id);
            }
        }
    }

    /// An empty lane without a client: its lease goes back.
    pub(super) fn end_lane(&mut self, now: Now, lane_id: LaneId) {
        self.give_back(now, lane_id);
        if !self.lanes.contains(lane_id.0) {
            return;
        }
        let lane = self.lanes.remove(lane_id.0);
        self.forget_replay_lane(lane.pool, lane_id);
        if let Some(p) = self.pools.get_mut(lane.pool.0) {
            p.lanes = p.lanes.saturating_sub(1);
            p.idle_since_ms = now.ms;
            p.target_waiters.remove(&lane_id);
            if lane.queued {
                p.waiting.retain(|&l| l != lane_id);
                p.suspects.retain(|&l| l != lane_id);
            }
        }
    }

    /// A lease that is clean and confirmed goes back to its link, open as it is.
    pub(super) fn give_back(&mut self, now: Now, lane_id: LaneId) {
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        let Some((lid, up)) = lane.lease.take() else { return };
        lane.sent = 0;
        let pool = lane.pool;
        if let Some(link) = self.links.get_mut(lid.0) {
            link.leased = link.leased.saturating_sub(1);
            if let Some(c) = link.channel(up) {
                c.used = ChannelUse::Free;
                c.free_since_ms = now.ms;
            }
            link.free.push(up);
        }
        self.serve(now, pool);
    }

    /// Whether a target is known to be there, on this pool.
    pub(super) fn target_state(
        &self,
        pool: PoolId,
        target: &Rc<crate::session::Target>,
    ) -> Option<TargetState> {
        self.pools.get(pool.0)?.targets.get(target).copied()
    }
}

/// Channels that may be opened on a link for lanes. One of what the upstream allows is kept for the pool's own, where there are two.
fn room(link: &Link, limit: u16) -> usize {
    let theirs = if link.tune.channel_max == 0 { u16::MAX } else { link.tune.channel_max };
    usize::from(limit.max(1).min(theirs.saturating_sub(1).max(1)))
}

/// Channels that are open on a link for lanes.
fn lendable(link: &Link) -> usize {
    link.channels.len() - usize::from(link.control.is_some())
}

/// Whether the pool's own channel can be opened on a link.
pub(super) fn room_for_control(link: &Link) -> bool {
    let theirs = if link.tune.channel_max == 0 { u16::MAX } else { link.tune.channel_max };
    link.control.is_some() || link.channels.len() < usize::from(theirs)
}
