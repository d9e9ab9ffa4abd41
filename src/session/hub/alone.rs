//! Suspects: what was on its way when a broker ended a shared link, each tried again on a link that carries nothing else (SPEC T5).
//!
//! ```text
//! a shared link is ended for somebody's fault ─▶ its lanes' unanswered items are suspects ─▶ one at a time on the pool's own link for that
//!        answered ─▶ the next of another lane, and so on ─▶ no more of a lane's are suspects: it goes where all go
//!        ended again ─▶ it was this one: `strike` counts it as such
//! ```
//! A pool has one such link, beside those that it may have, for as long as there are suspects.

use super::Hub;
use crate::session::lane::Lane;
use crate::session::upstream::{ChannelUse, Link, LinkState, LinkUse};
use crate::session::{LaneId, LinkId, Now, PoolId};

impl Hub {
    /// What was sent on a lane and is not answered is tried alone from here on: so many of it, from the front.
    pub(super) fn suspect_lane(&mut self, lane_id: LaneId, most: usize) {
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        let unanswered = lane.items.iter().take(lane.sent).filter(|i| !i.settled).count();
        lane.suspects = lane.suspects.max(unanswered.min(most));
    }

    /// The first lane with a suspect gets the link that carries nothing else, once that is there and empty.
    pub(super) fn try_alone(&mut self, now: Now, pool: PoolId) {
        let Some(p) = self.pools.get_mut(pool.0) else { return };
        while p.suspects.front().is_some_and(|l| !self.lanes.contains(l.0)) {
            p.suspects.pop_front();
        }
        let (first, alone) = (p.suspects.front().copied(), p.alone);
        let Some(lane_id) = first else {
            if let Some(lid) = alone {
                self.let_join(now, pool, lid);
            }
            return;
        };
        let Some(lid) = alone else {
            if now.ms >= p.dial_at_ms.max(p.alone_at_ms) {
                let lid = self.dial_for(now, pool);
                if let (Some(lid), Some(p)) = (lid, self.pools.get_mut(pool.0)) {
                    p.alone = Some(lid);
                }
            }
            return;
        };
        let ready = |k: &Link| k.state == LinkState::Up && k.leased == 0;
        if !self.links.get(lid.0).is_some_and(ready) {
            return;
        }
        let given_back = self.links.get_mut(lid.0).and_then(|k| k.free.pop());
        let Some(up) = given_back.or_else(|| self.open_channel(now, lid)) else { return };
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.suspects.pop_front();
        }
        self.lease_out(lane_id, lid, up);
        if let Some(lane) = self.lanes.get_mut(lane_id.0) {
            // Something new may stand where its suspects stood: it goes on once it has been there.
            lane.suspects = lane.suspects.max(1);
        }
        self.pump(now, lane_id);
    }

    /// Whether a lane's suspect has been answered, and it gives others their turn.
    pub(super) fn tried(&mut self, now: Now, lane_id: LaneId) {
        let over = |l: &&mut Lane| l.sent == 0 && (l.tried || l.items.is_empty());
        let Some(lane) = self.lanes.get_mut(lane_id.0).filter(over) else { return };
        lane.tried = false;
        lane.suspects = if lane.items.is_empty() { 0 } else { lane.suspects.saturating_sub(1) };
        if lane.suspects == 0 {
            lane.careful = 0;
        }
        let pool = lane.pool;
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.alone_attempt = 0;
            p.acquitted = true;
        }
        self.give_back(now, lane_id);
    }

    /// Nobody is suspected any more: the link is one of all, or says goodbye where that is one too many.
    fn let_join(&mut self, now: Now, pool: PoolId, lid: LinkId) {
        let Some(link) = self.links.get(lid.0).filter(|k| k.state == LinkState::Up && k.leased == 0) else {
            return;
        };
        let most = self.upstreams.get(link.upstream.0).map_or(1, |u| u.settings.links);
        let Some(p) = self.pools.get_mut(pool.0) else { return };
        p.alone = None;
        p.acquitted = false;
        let up = p.links.iter().filter_map(|l| self.links.get(l.0)).filter(|k| k.state == LinkState::Up);
        if up.count() > most
            && let Some(link) = self.links.get_mut(lid.0)
        {
            link.retire_at_ms = now.ms;
        }
        self.serve(now, pool);
    }

    /// A link that was for suspects has been lost although the upstream is there: how long until the next one is dialed, whatever the
    /// others do.
    pub(super) fn alone_lost(&mut self, now: Now, pool: PoolId) {
        let random = self.random();
        let Some(p) = self.pools.get_mut(pool.0) else { return };
        p.alone_attempt = p.alone_attempt.saturating_add(1);
        let retry = self.upstreams.get(p.upstream.0).map(|u| u.settings.retry.clone()).unwrap_or_default();
        p.alone_at_ms = now.ms + retry.wait_ms(p.alone_attempt, random);
    }

    /// Whether others work at the same upstream, or have been tried alone and answered: what ends a link there is no illness of the broker.
    pub(super) fn others_work(&self, lid: LinkId) -> bool {
        if self.pools.iter().any(|(_, p)| p.alone == Some(lid) && p.acquitted) {
            return true;
        }
        let Some(upstream) = self.links.get(lid.0).map(|l| l.upstream) else { return false };
        self.links.iter().any(|(id, k)| {
            id != lid.0
                && k.upstream == upstream
                && k.worked
                && k.state == LinkState::Up
                && matches!(k.used, LinkUse::Pooled(_))
        })
    }

    /// A channel of a link is a lane's.
    pub(super) fn lease_out(&mut self, lane_id: LaneId, lid: LinkId, up: u16) {
        self.counters.leases += 1;
        if let Some(link) = self.links.get_mut(lid.0) {
            link.leased += 1;
            if let Some(c) = link.channel(up) {
                c.used = ChannelUse::Lane(lane_id);
            }
        }
        if let Some(lane) = self.lanes.get_mut(lane_id.0) {
            lane.queued = false;
            lane.lease = Some((lid, up));
            lane.sent = 0;
        }
        self.tell_leased(lane_id, lid);
    }
}
