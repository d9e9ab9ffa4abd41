//! Targets: places that a policy sends to and that must be there first (SPEC P2, P9). Asked for on a channel of the pool's own, so
//! that a refusal closes nobody else's.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Hub;
use super::link::Words;
use crate::session::lane::Store;
use crate::session::upstream::{ChannelUse, ControlStep, LinkUse, TargetState};
use crate::session::{LaneId, LinkId, Now, PoolId, Target};
use crate::wire::frame::{ChannelId, FrameKind, parse_frame, write_frame};

/// A target that was refused is asked for again after this long.
const MISSING_MS: u64 = 10_000;

impl Hub {
    /// Whether an item may go: its target is there, or it goes where it was going, or it is left out.
    pub(super) fn target_met(&mut self, now: Now, lane_id: LaneId, index: usize) -> bool {
        let Some(lane) = self.lanes.get(lane_id.0) else { return false };
        let pool = lane.pool;
        let Some(target) = lane.items.get(index).and_then(|i| i.wait.as_ref()).map(|w| Rc::clone(&w.target))
        else {
            return true;
        };
        match self.target_state(pool, &target) {
            Some(TargetState::Ready) => {
                if let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) {
                    item.wait = None;
                }
                true
            }
            Some(TargetState::Missing(until_ms)) if now.ms < until_ms => {
                self.otherwise(lane_id, index);
                true
            }
            state => {
                let lid = lane.lease.map(|(l, _)| l);
                if let Some(p) = self.pools.get_mut(pool.0) {
                    p.target_waiters.insert(lane_id);
                    if state != Some(TargetState::Asked) {
                        p.targets.insert(Rc::clone(&target), TargetState::Asked);
                        if let Some(lid) = lid {
                            self.ask(now, lid, &target);
                        }
                    }
                }
                false
            }
        }
    }

    /// The target is not to be had: the message goes where it was going before the policy spoke, or is left out.
    fn otherwise(&mut self, lane_id: LaneId, index: usize) {
        self.counters.targets_missing += 1;
        let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) else { return };
        let Some(wait) = item.wait.take() else { return };
        let Some(method) = wait.otherwise else {
            self.counters.authored_left_out += 1;
            self.settle_item(lane_id, index, true);
            return;
        };
        let Store::Own(bytes) = &item.store else { return };
        let Ok(Some(first)) = parse_frame(bytes, 0) else { return };
        let mut frames = Vec::with_capacity(bytes.len() + method.len());
        write_frame(&mut frames, FrameKind::Method, ChannelId(0), &method);
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

    fn ask(&mut self, now: Now, lid: LinkId, target: &Rc<Target>) {
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
        let Some(up) = control else { return };
        self.counters.targets_declared += 1;
        for (index, method) in target.methods.iter().enumerate() {
            self.link_push(lid, up, method);
            if let Some(ChannelUse::Control(steps)) =
                self.links.get_mut(lid.0).and_then(|l| l.channel(up)).map(|c| &mut c.used)
            {
                steps.push_back(ControlStep { target: Rc::clone(target), index });
            }
        }
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
        self.reopen_channel(now, lid, up);
        if let Some(link) = self.links.get_mut(lid.0) {
            link.free.retain(|&n| n != up);
        }
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
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.targets.insert(Rc::clone(target), state);
        }
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
