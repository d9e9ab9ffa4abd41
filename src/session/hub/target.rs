//! Targets: places that a policy sends to and that must be there first (SPEC P2, P9). Asked for on a channel of the pool's own, so
//! that a refusal closes nobody else's.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Hub;
use super::books::Exit;
use super::link::Words;
use crate::session::lane::Store;
use crate::session::upstream::{ChannelUse, ControlStep, LinkUse, TargetState};
use crate::session::{LaneId, LinkId, Now, PoolId, Target};
use crate::wire::frame::{ChannelId, FrameKind, parse_frame, write_frame};

/// A target that was refused is asked for again after this long.
const MISSING_MS: u64 = 10_000;
/// Targets remembered for a pool.
const TARGETS_MAX: usize = 10_000;

impl Hub {
    /// Whether an item may go: its target is there, or it goes where it was going, or it is left out.
    pub(super) fn target_met(&mut self, now: Now, lane_id: LaneId, index: usize) -> bool {
        let Some(lane) = self.lanes.get(lane_id.0) else { return false };
        let pool = lane.pool;
        let Some(target) =
            lane.items.get(index).and_then(|i| i.wait.as_ref()).and_then(|w| w.way.target.clone())
        else {
            return true;
        };
        let Some((lid, _)) = lane.lease else { return false };
        let state = if target.methods.is_empty() {
            Some(TargetState::Ready)
        } else {
            self.target_state(pool, &target)
        };
        match state {
            Some(TargetState::Ready) => {
                if let Some(wait) = self
                    .lanes
                    .get_mut(lane_id.0)
                    .and_then(|l| l.items.get_mut(index))
                    .and_then(|i| i.wait.as_mut())
                {
                    wait.met = true;
                }
                true
            }
            Some(TargetState::Missing(until_ms)) if now.ms < until_ms => {
                self.otherwise(now, lane_id, index);
                true
            }
            Some(TargetState::Asked) => {
                if let Some(p) = self.pools.get_mut(pool.0) {
                    p.target_waiters.insert(lane_id);
                }
                false
            }
            Some(TargetState::Missing(_)) | None => {
                let asked = self.ask(now, lid, &target);
                let state =
                    if asked { TargetState::Asked } else { TargetState::Missing(now.ms + MISSING_MS) };
                self.remember_target(pool, &target, state);
                if let (Some(p), true) = (self.pools.get_mut(pool.0), asked) {
                    p.target_waiters.insert(lane_id);
                }
                if !asked {
                    self.otherwise(now, lane_id, index);
                }
                !asked
            }
        }
    }

    /// What is known of targets is bounded: what could be asked again is forgotten first.
    fn remember_target(&mut self, pool: PoolId, target: &Rc<Target>, state: TargetState) {
        let Some(p) = self.pools.get_mut(pool.0) else { return };
        if p.targets.len() >= TARGETS_MAX && !p.targets.contains_key(target) {
            p.targets.retain(|_, state| *state == TargetState::Asked);
        }
        p.targets.insert(Rc::clone(target), state);
    }

    /// The broker says that the place of a publish is not there, although it was, or was never asked for: as if it had been refused.
    pub(super) fn target_vanished(&mut self, now: Now, lane_id: LaneId, index: usize) {
        let Some(lane) = self.lanes.get(lane_id.0) else { return };
        let pool = lane.pool;
        if let Some(target) =
            lane.items.get(index).and_then(|i| i.wait.as_ref()).and_then(|w| w.way.target.clone())
        {
            self.remember_target(pool, &target, TargetState::Missing(now.ms + MISSING_MS));
        }
        self.otherwise(now, lane_id, index);
    }

    /// The target is not to be had: the message goes where it was going before the policy spoke, or is left out.
    fn otherwise(&mut self, now: Now, lane_id: LaneId, index: usize) {
        self.counters.targets_missing += 1;
        let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) else { return };
        let Some(wait) = item.wait.take() else { return };
        let Some(method) = &wait.way.otherwise else {
            self.settle_item(lane_id, index, Exit::LeftOut);
            self.ending.push(lane_id);
            return;
        };
        if let Some(home) = wait.way.home {
            self.go_home(now, lane_id, index, home, method);
            return;
        }
        let Store::Own(bytes) = &item.store else { return };
        let Ok(Some(first)) = parse_frame(bytes, 0) else { return };
        let mut frames = Vec::with_capacity(bytes.len() + method.len());
        write_frame(&mut frames, FrameKind::Method, ChannelId(0), method);
        frames.extend_from_slice(bytes.get(first.wire_len()..).unwrap_or(&[]));
        let before = item.len;
        item.len = crate::wire::num::u32_clamped(frames.len());
        let after = item.len;
        item.store = Store::Own(frames.into());
        let upstream = self.lanes.get(lane_id.0).map(|l| l.upstream);
        if let Some(u) = upstream.and_then(|u| self.upstreams.get_mut(u.0)) {
            u.unsettled_bytes = (u.unsettled_bytes + u64::from(after)).saturating_sub(u64::from(before));
        }
    }

    /// Asks for a target; `false`: the upstream allows no channel for that.
    fn ask(&mut self, now: Now, lid: LinkId, target: &Rc<Target>) -> bool {
        if !self.links.get(lid.0).is_some_and(super::lease::room_for_control) {
            return false;
        }
        let control = match self.links.get(lid.0).and_then(|l| l.control) {
            Some(up) => Some(up),
            None => {
                let up = self.open_channel(now, lid);
                if let (Some(up), Some(link)) = (up, self.links.get_mut(lid.0)) {
                    link.control = Some(up);
                    if let Some(c) = link.channel(up) {
                        c.used = ChannelUse::Control(VecDeque::new());
                    }
                }
                up
            }
        };
        let Some(up) = control else { return false };
        self.counters.targets_declared += 1;
        for (index, method) in target.methods.iter().enumerate() {
            self.link_push(lid, up, method);
            if let Some(ChannelUse::Control(steps)) =
                self.links.get_mut(lid.0).and_then(|l| l.channel(up)).map(|c| &mut c.used)
            {
                steps.push_back(ControlStep { target: Rc::clone(target), index, asked_ms: now.ms });
            }
        }
        true
    }

    /// One method of a target was answered with its -ok.
    pub(super) fn target_answered(&mut self, now: Now, lid: LinkId, up: u16) {
        let step = match self.links.get_mut(lid.0).and_then(|l| l.channel(up)).map(|c| &mut c.used) {
            Some(ChannelUse::Control(steps)) => steps.pop_front(),
            _ => None,
        };
        let (Some(step), Some(LinkUse::Pooled(pool))) = (step, self.links.get(lid.0).map(|l| l.used)) else {
            return;
        };
        if step.index + 1 == step.target.methods.len() {
            self.target_known(now, pool, &step.target, TargetState::Ready);
        }
    }

    /// The control channel was closed by the method at the front. A thing that is there with other arguments is there (406).
    pub(super) fn control_closed(
        &mut self,
        now: Now,
        lid: LinkId,
        up: u16,
        mut steps: VecDeque<ControlStep>,
        words: &Words,
    ) {
        let Some(LinkUse::Pooled(pool)) = self.links.get(lid.0).map(|l| l.used) else { return };
        let failed = steps.pop_front();
        let mut ended = None;
        if let Some(step) = failed {
            let exists = words.0 == 406 || words.0 == 405;
            let last = step.index + 1 == step.target.methods.len();
            if !exists {
                steps.retain(|s| s.target != step.target);
                ended = Some((step.target, TargetState::Missing(now.ms + MISSING_MS)));
            } else if last {
                ended = Some((step.target, TargetState::Ready));
            }
        }
        self.open_anew(now, lid, up, ChannelUse::Control(VecDeque::new()));
        for step in &steps {
            if let Some(method) = step.target.methods.get(step.index).cloned() {
                self.link_push(lid, up, &method);
            }
        }
        if let Some(c) = self.links.get_mut(lid.0).and_then(|l| l.channel(up)) {
            c.used = ChannelUse::Control(steps);
        }
        if let Some((target, state)) = ended {
            self.target_known(now, pool, &target, state);
        }
    }

    fn target_known(&mut self, now: Now, pool: PoolId, target: &Rc<Target>, state: TargetState) {
        self.remember_target(pool, target, state);
        self.wake_target_waiters(now, pool);
    }

    /// Those who wait for any target of a pool look again.
    pub(super) fn wake_target_waiters(&mut self, now: Now, pool: PoolId) {
        let waiters =
            self.pools.get_mut(pool.0).map(|p| std::mem::take(&mut p.target_waiters)).unwrap_or_default();
        for lane_id in waiters {
            self.pump(now, lane_id);
            self.sweep(now, lane_id);
        }
    }
}
