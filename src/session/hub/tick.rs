//! Time: heartbeats both ways on our own clocks, deadlines, barriers, leases that go back, links that retire (SPEC L3, L5).

use std::collections::VecDeque;

use super::{Action, Hub};
use crate::session::client::{Gate, State};
use crate::session::judge::{Decision, Judge, Settled};
use crate::session::lane::{Kind, Store};
use crate::session::upstream::{LinkState, LinkUse};
use crate::session::{LaneId, LinkId, Now, PoolId, SessionId};
use crate::wire::frame::HEARTBEAT;
use crate::wire::method::{MethodId, MethodWriter};

/// A lane without anything for so long gives back the room that it had for it.
const QUIET_MS: u64 = 1_000;

/// The confirm timeout is doubled so often at most: from 30 s to 16 minutes.
const PATIENCE_MAX: u32 = 5;

/// Publishes that wait and are judged again in one go.
const WAITING_JUDGED_MAX: usize = 20_000;

/// How long a client may take to read what is left for it when everything is said, as long as it reads at all.
const LAST_WORDS_MS_MAX: u64 = 60_000;

impl Hub {
    /// To be called about ten times a second.
    pub fn tick(&mut self, now: Now, judge: &mut dyn Judge) {
        self.judge_waiting(now, judge);
        self.tick_sessions(now);
        self.tick_links(now);
        self.tick_lanes(now);
        self.tick_pools(now);
        self.probe_again(now);
        self.tick_spool(now, judge);
        self.open_barriers(now);
        self.unpause(now);
        self.close_unhoused(now);
        self.send_answers(now);
        judge.rest(now);
    }

    fn tick_sessions(&mut self, now: Now) {
        let mut over = Vec::new();
        let mut beats = Vec::new();
        let mut idle = Vec::new();
        let mut cut = Vec::new();
        for (id, s) in &mut self.sessions {
            if s.state == State::Done {
                let done_ms = *s.done_ms.get_or_insert(now.ms);
                let stuck = now.ms.saturating_sub(done_ms.max(s.tx_ms)) >= self.limits.close_ms;
                if stuck || now.ms.saturating_sub(done_ms) >= LAST_WORDS_MS_MAX {
                    s.done_ms = Some(u64::MAX);
                    cut.push(SessionId(id));
                }
                continue;
            }
            if now.ms >= s.deadline_ms {
                over.push((SessionId(id), s.state));
                continue;
            }
            let interval = u64::from(s.heartbeat_s) * 1000;
            if let (0, Some(idle_ms), State::Running) = (interval, self.limits.idle_ms, s.state) {
                if now.ms.saturating_sub(s.rx_ms) > idle_ms {
                    idle.push(SessionId(id));
                }
            }
            // Whoever has been told connection.close and says nothing to it is found as quickly as before (L5); nothing more is said.
            if interval == 0 || !matches!(s.state, State::Running | State::Closing) {
                continue;
            }
            // While we do not look at what it sends, its silence says nothing.
            if s.gate != Gate::Open || s.paused {
                s.rx_ms = now.ms;
            }
            if now.ms.saturating_sub(s.rx_ms) > 2 * interval {
                over.push((SessionId(id), s.state));
            } else if s.state == State::Running && now.ms.saturating_sub(s.tx_ms) >= interval / 2 {
                s.tx_ms = now.ms;
                s.out.extend_from_slice(&HEARTBEAT);
                beats.push(SessionId(id));
            }
        }
        for sid in beats {
            self.mark_client(sid);
        }
        self.actions.extend(cut.into_iter().map(Action::Cut));
        for sid in idle {
            self.counters.limit_idle += 1;
            self.close_client(
                now,
                sid,
                320,
                "CONNECTION_FORCED - silent for longer than the idle timeout",
                MethodId::NONE,
            );
        }
        for (sid, state) in over {
            match state {
                // Its own link has not answered its connection.close: we do.
                State::Running if self.sessions.get(sid.0).is_some_and(|s| now.ms >= s.deadline_ms) => {
                    self.unpin(now, sid);
                    self.part_from(now, sid);
                }
                State::Running => {
                    self.counters.heartbeats_missed += 1;
                    self.unpin(now, sid);
                    self.finish(sid);
                }
                State::Verifying | State::Opening | State::Probing => {
                    self.counters.limit_handshake += 1;
                    self.drop_verify(sid);
                    self.login_unreachable(now, sid, "the login took too long");
                }
                _ => {
                    self.counters.limit_handshake +=
                        u64::from(!matches!(state, State::Closing | State::Leaving));
                    self.drop_verify(sid);
                    self.finish(sid);
                }
            }
        }
    }

    fn tick_links(&mut self, now: Now) {
        let mut dead = Vec::new();
        let mut beats = Vec::new();
        let mut retired = Vec::new();
        for (id, link) in &self.links {
            let lid = LinkId(id);
            match link.state {
                LinkState::Dead | LinkState::Dialing => {}
                LinkState::Closing if now.ms >= link.deadline_ms => retired.push(lid),
                LinkState::Up => {
                    let interval = u64::from(link.tune.heartbeat) * 1000;
                    let silent_ms = now.ms.saturating_sub(link.rx_ms);
                    let busy = link.out.unwritten() > 0;
                    let confirm_ms = self
                        .upstreams
                        .get(link.upstream.0)
                        .map_or(u64::MAX, |u| u.settings.confirm_timeout_ms);
                    if interval > 0 && silent_ms > 2 * interval {
                        dead.push((lid, "missed heartbeats"));
                    } else if interval == 0 && busy && silent_ms > confirm_ms && !link.blocked {
                        dead.push((lid, "silent for longer than the confirm timeout"));
                    } else if interval > 0 && now.ms.saturating_sub(link.tx_ms) >= interval / 2 {
                        beats.push(lid);
                    }
                    let late = link
                        .asked()
                        .and_then(VecDeque::front)
                        .is_some_and(|s| now.ms.saturating_sub(s.asked_ms) > confirm_ms);
                    if late && !link.blocked {
                        dead.push((lid, "no answer within the confirm timeout"));
                    }
                    let retire = now.ms >= link.retire_at_ms && link.is_quiet();
                    if retire && matches!(link.used, LinkUse::Pooled(_)) {
                        retired.push(lid);
                    }
                }
                LinkState::Closing => {}
                LinkState::Start | LinkState::Tune | LinkState::Vhost | LinkState::OpenOk => {
                    let waits_for_client = link.state == LinkState::Vhost;
                    if now.ms >= link.deadline_ms && !waits_for_client {
                        dead.push((lid, "no answer within the connect timeout"));
                    }
                }
            }
        }
        for lid in beats {
            // What a client leaves lying in its own link's socket is no silence of the upstream.
            let paused = !self.link_wants_reads(lid);
            if let Some(link) = self.links.get_mut(lid.0) {
                link.tx_ms = now.ms;
                if paused {
                    link.rx_ms = now.ms;
                }
            }
            self.link_push_raw(lid, &HEARTBEAT);
        }
        for (lid, why) in dead {
            if self.link_wants_reads(lid) {
                self.link_failed(now, lid, why);
            } else if let Some(link) = self.links.get_mut(lid.0) {
                link.rx_ms = now.ms;
            }
        }
        for lid in retired {
            self.retire(now, lid);
        }
    }

    /// A pooled link that nobody needs says goodbye.
    fn retire(&mut self, now: Now, lid: LinkId) {
        let Some(link) = self.links.get_mut(lid.0) else { return };
        if link.state == LinkState::Closing {
            self.abandon_link(lid);
            return;
        }
        let LinkUse::Pooled(pool) = link.used else { return };
        link.state = LinkState::Closing;
        link.used = LinkUse::Dead;
        link.deadline_ms = now.ms + 1000;
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.forget_link(lid);
        }
        self.review_blocked();
        self.link_push(
            lid,
            0,
            &MethodWriter::new(MethodId::CONNECTION_CLOSE).short(200).shortstr(b"idle").long(0).done(),
        );
    }

    fn tick_lanes(&mut self, now: Now) {
        let mut idle = Vec::new();
        let mut due = Vec::new();
        let mut late = Vec::new();
        for (id, lane) in &mut self.lanes {
            let lane_id = LaneId(id);
            if lane.items.is_empty() {
                // Whoever is quiet needs no room for what it has sent.
                if lane.items.capacity() > 0 && now.ms.saturating_sub(lane.busy_ms) >= QUIET_MS {
                    lane.items = VecDeque::new();
                    let session = lane.session.and_then(|sid| self.sessions.get_mut(sid.0));
                    if let Some(window) =
                        session.and_then(|s| s.channel(lane.channel)).and_then(|c| c.confirm.as_mut())
                    {
                        window.shrink();
                    }
                }
                let limit = self.upstreams.get(lane.upstream.0).map_or(5000, |u| u.settings.lease_idle_ms);
                if lane.lease.is_some() && now.ms.saturating_sub(lane.busy_ms) >= limit {
                    idle.push(lane_id);
                }
                continue;
            }
            if lane.waiting() {
                due.push(lane_id);
                // Nothing is under way, and what is next waits for the backlog: whoever carries that may need the lease.
                let next = lane.items.get(lane.sent).and_then(|i| i.wait.as_ref());
                if lane.sent == 0 && lane.lease.is_some() && next.is_some_and(|w| w.behind) {
                    idle.push(lane_id);
                }
            }
            let (Some((lid, _)), 1..) = (lane.lease, lane.sent) else { continue };
            let Some(link) = self.links.get(lid.0) else { continue };
            // What the broker has not got, or does not read, it does not owe.
            let owed =
                lane.first_spot(|spot| link.out.bytes_at(spot)).is_none_or(|spot| link.out.is_written(spot));
            if link.blocked || !owed {
                lane.first_ms = now.ms;
            }
            let limit =
                self.upstreams.get(lane.upstream.0).map_or(u64::MAX, |u| u.settings.confirm_timeout_ms);
            let patience = self.pools.get(lane.pool.0).map_or(0, |p| p.patience);
            let limit = limit.saturating_mul(1 << patience);
            if now.ms.saturating_sub(lane.first_ms) > limit && !late.contains(&lid) {
                late.push(lid);
            }
        }
        for lid in late {
            self.be_patient(now, lid);
            self.link_failed(now, lid, "no confirm within the confirm timeout");
        }
        for lane_id in idle {
            // Unless what a lost link had has come home to it meanwhile.
            if self.lanes.get(lane_id.0).is_some_and(|l| l.sent == 0) {
                self.give_back(now, lane_id);
            }
        }
        if self.upstreams.iter().all(|u| u.unsettled == 0) {
            self.spares.shrink();
        }
        for lane_id in due {
            self.seek(now, lane_id);
        }
    }

    /// A broker that was too late, and now gets all of it once more, needs longer, not the same again: what is sent over and over before
    /// anything of it is confirmed keeps a slow broker from ever being done.
    fn be_patient(&mut self, now: Now, lid: LinkId) {
        let Some(link) = self.links.get(lid.0) else { return };
        let LinkUse::Pooled(pool) = link.used else { return };
        let confirm_ms = self.upstreams.get(link.upstream.0).map_or(0, |u| u.settings.confirm_timeout_ms);
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.patience = (p.patience + 1).min(PATIENCE_MAX);
            p.patience_fades_ms = now.ms.saturating_add(confirm_ms.saturating_mul(4 << p.patience));
        }
    }

    /// What waits for an upstream may expire meanwhile (P4): asked once a second, a bounded number at a time.
    fn judge_waiting(&mut self, now: Now, judge: &mut dyn Judge) {
        if now.ms < self.judge_at_ms {
            return;
        }
        self.judge_at_ms = now.ms + 1000;
        let mut budget = WAITING_JUDGED_MAX;
        let lanes: Vec<usize> = self
            .lanes
            .iter()
            .filter(|(_, l)| l.lease.is_none() && l.waiting() && !l.replay)
            .map(|(i, _)| i)
            .collect();
        for id in lanes {
            let lane_id = LaneId(id);
            let count = self.lanes.get(id).map_or(0, |l| l.items.len());
            for index in 0..count.min(budget) {
                let settled = self.again(now, lane_id, index, judge);
                match settled {
                    Some(settled) => self.keep_back(now, lane_id, index, *settled),
                    None => self.ask_for_return(now, lane_id, index, judge),
                }
            }
            budget = budget.saturating_sub(count);
            self.sweep(now, lane_id);
        }
    }

    /// What time has done to a publish that waits.
    fn again(&self, now: Now, lane_id: LaneId, index: usize, judge: &mut dyn Judge) -> Option<Box<Settled>> {
        let item = self.lanes.get(lane_id.0)?.items.get(index)?;
        let (Store::Own(_), Kind::Publish(flags), false) = (&item.store, &item.kind, item.settled) else {
            return None;
        };
        if flags.authored {
            return None;
        }
        match self.view_item(lane_id, index, |view| judge.again(now, view))? {
            Decision::Settle(settled) => Some(settled),
            Decision::Pass | Decision::Edit(_) => None,
        }
    }

    fn tick_pools(&mut self, now: Now) {
        let ids: Vec<usize> = self.pools.iter().map(|(i, _)| i).collect();
        for id in ids {
            let pool = PoolId(id);
            self.serve(now, pool);
            let Some(p) = self.pools.get_mut(id) else { continue };
            if p.patience > 0 && now.ms >= p.patience_fades_ms {
                p.patience = 0;
            }
            let idle_ms = self.upstreams.get(p.upstream.0).map_or(60_000, |u| u.settings.link_idle_ms);
            if p.lanes > 0 || now.ms.saturating_sub(p.idle_since_ms) < idle_ms {
                continue;
            }
            let (links, users) = (p.links.clone(), p.users);
            for lid in links {
                let idle = self.links.get(lid.0).is_some_and(|l| l.state == LinkState::Up && l.is_quiet());
                if idle {
                    self.retire(now, lid);
                }
            }
            let needed = users > 0 || self.spills(pool) || self.has_aside(pool);
            if !needed && self.pools.get(id).is_some_and(|p| p.links.is_empty()) {
                self.forget_pool(pool);
            }
        }
    }
}
