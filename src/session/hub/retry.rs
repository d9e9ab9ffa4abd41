//! Links that cannot be had: how long a pool waits before it dials again, and what becomes of what waits meanwhile (SPEC D3, D4).
//!
//! ```text
//! a link is lost ─▶ attempt + 1 ─▶ wait (start + step × attempt, up to max) ─▶ dial ─▶ up ─▶ a confirm or a reply: attempt = 0
//!                        └─ more than max_retries ─▶ what waits goes to the spool, or is refused where its client can see it
//! ```
//! A link that is up has not worked yet: one that dies before it has answered anything counts as a failure, or a broker that hangs
//! up on whatever it is sent would be dialed in a circle.

use std::rc::Rc;

use super::Hub;
use super::books::Exit;
use super::rest::Stays;
use crate::session::client::State;
use crate::session::lane::Kind;
use crate::session::upstream::{LinkState, LinkUse, TargetState};
use crate::session::{LaneId, LinkId, Now, PoolId, Refusal, SessionId};
use crate::wire::method::MethodId;

/// A link that has been up for this long has worked, even if nobody had anything for it.
const WORKED_MS: u64 = 10_000;

impl Hub {
    /// A shared link is gone: what was on it waits for another, which is dialed when its time has come.
    pub(super) fn pooled_link_lost(
        &mut self,
        now: Now,
        lid: LinkId,
        pool: PoolId,
        was_up: bool,
        refused: bool,
    ) {
        let random = self.random();
        let worked = was_up
            && self
                .links
                .get(lid.0)
                .is_some_and(|l| l.worked || now.ms.saturating_sub(l.since_ms) >= WORKED_MS);
        let mut given_up = false;
        // Where the upstream works for others, a suspect delays nobody's next link.
        let others_work = was_up && self.others_work(lid);
        let alone = self.pools.get_mut(pool.0).is_some_and(|p| p.forget_link(lid)) && others_work;
        if alone {
            self.alone_lost(now, pool);
        } else if let Some(p) = self.pools.get_mut(pool.0) {
            p.targets.retain(|_, state| *state == TargetState::Ready);
            let retry =
                self.upstreams.get(p.upstream.0).map(|u| u.settings.retry.clone()).unwrap_or_default();
            p.attempt = if worked { 0 } else { p.attempt.saturating_add(1) };
            let wait = retry.wait_ms(p.attempt, random);
            p.dial_at_ms = now.ms + if refused { wait.max(retry.interval_max_ms) } else { wait };
            p.refused = refused;
            given_up = !worked && retry.max_retries.is_some_and(|most| p.attempt > most);
        }
        if refused {
            self.login_failed(pool);
        }
        let upstream = self.pools.get(pool.0).map(|p| p.upstream);
        if let Some(u) = upstream.and_then(|u| self.upstreams.get_mut(u.0)) {
            u.retries += u64::from(!worked);
        }
        for lane in self.lanes_of(lid) {
            self.homeless(now, lane);
        }
        if given_up && !self.pool_is_up(pool) {
            self.give_up_waiting(now, pool);
        }
        self.wake_target_waiters(now, pool);
        self.review_blocked();
        self.serve(now, pool);
    }

    /// A link has answered something that was sent on it: its pool's retries begin anew.
    pub(super) fn link_worked(&mut self, lid: LinkId) {
        let Some(link) = self.links.get_mut(lid.0) else { return };
        link.worked = true;
        if let LinkUse::Pooled(pool) = link.used {
            if let Some(p) = self.pools.get_mut(pool.0) {
                p.attempt = 0;
            }
        }
    }

    fn pool_is_up(&self, pool: PoolId) -> bool {
        let up = |l: &LinkId| self.links.get(l.0).is_some_and(|l| l.state == LinkState::Up);
        self.pools.get(pool.0).is_some_and(|p| p.links.iter().any(up))
    }

    /// A login has worked: pools of the same user whose own was refused go on with it (a password that was changed while something
    /// waited).
    pub(super) fn renew_logins(&mut self, now: Now, with: LinkId) {
        let Some(link) = self.links.get(with.0) else { return };
        let Some(fresh) = link.credentials.clone().filter(|c| !c.user.is_empty()) else { return };
        let (upstream, vhost) = (link.upstream, Rc::clone(&link.vhost));
        let stale: Vec<usize> = self
            .pools
            .iter()
            .filter(|(_, p)| {
                p.refused && p.upstream == upstream && p.vhost == vhost && p.credentials.user == fresh.user
            })
            .map(|(i, _)| i)
            .collect();
        for id in stale {
            if let Some(p) = self.pools.get_mut(id) {
                p.credentials = fresh.clone();
                p.refused = false;
                p.attempt = 0;
                p.dial_at_ms = now.ms;
            }
            self.serve(now, PoolId(id));
        }
    }

    /// The retries of a pool are used up: what waits goes to the spool, or is refused where its client can see it. What nobody can be
    /// told of any more goes on waiting: it was accepted (SPEC D4).
    fn give_up_waiting(&mut self, now: Now, pool: PoolId) {
        let lanes: Vec<LaneId> = self
            .lanes
            .iter()
            .filter(|(_, l)| l.pool == pool && l.lease.is_none() && !l.replay)
            .map(|(i, _)| LaneId(i))
            .collect();
        let mut told: Vec<SessionId> = Vec::new();
        for lane_id in lanes {
            self.spool_lane(now, lane_id, Stays::OnDisk);
            if let Some(sid) = self.refuse_waiting(lane_id).filter(|sid| !told.contains(sid)) {
                told.push(sid);
            }
            self.sweep(now, lane_id);
        }
        for sid in told {
            let why = "the upstream cannot be reached, and max_retries is used up";
            self.refuse(now, sid, 0, &Refusal::connection(506, why, MethodId::BASIC_PUBLISH));
        }
        self.flush_spool();
        self.send_answers(now);
    }

    /// Refuses what waits on a lane and has a client: by a nack where it is numbered. The client, if it must be told by a close.
    fn refuse_waiting(&mut self, lane_id: LaneId) -> Option<SessionId> {
        let lane = self.lanes.get(lane_id.0)?;
        let (sid, count) = (lane.session?, lane.items.len());
        // Whoever has said goodbye, or was told so by a drain, hears nothing more.
        if self.sessions.get(sid.0).is_none_or(|s| s.state != State::Running) {
            return None;
        }
        let mut by_close = false;
        for index in 0..count {
            let Some(item) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(index)) else { continue };
            let goes = match item.kind {
                // On disk already (and the disk took no more of the others).
                _ if item.settled || item.record.is_some() => false,
                Kind::Publish(flags) => !flags.authored || item.seq != 0,
                Kind::Method { tell, .. } => tell,
            };
            if !goes {
                continue;
            }
            by_close |= item.seq == 0;
            self.settle_item(lane_id, index, Exit::GivenUp);
        }
        by_close.then_some(sid)
    }
}
