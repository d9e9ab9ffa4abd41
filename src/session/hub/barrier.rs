//! Barriers: a frame that must not overtake what is before it waits until that is settled or answered, or for a bounded time.

use super::{Action, Hub};
use crate::session::client::{Gate, Owed, Pin, State};
use crate::session::lane::Kind;
use crate::session::{Now, SessionId};

impl Hub {
    /// Whether replies that are owed on a channel have come, so that what is said next does not overtake them. Closes the gate if not.
    pub(super) fn replies_came(&mut self, sid: SessionId, ch: u16, owed: Owed, until_ms: u64) -> bool {
        let Some(s) = self.sessions.get_mut(sid.0) else { return true };
        if s.state == State::Draining || !s.channel(ch).is_some_and(|c| c.owes(owed)) {
            return true;
        }
        s.gate = Gate::Replies { channel: ch, owed, until_ms };
        self.barriers.push(sid);
        false
    }

    /// Whether something a client has published may yet come back to it: a confirm, a return, a refusal of its exchange, the answer to
    /// a method. Only then does a goodbye wait: a publish that nobody will speak of costs no round trip (SPEC L1, T3).
    pub(super) fn may_still_be_told(&self, sid: SessionId, ch: Option<u16>) -> bool {
        let Some(s) = self.sessions.get(sid.0) else { return false };
        if s.unsettled == 0 || s.state != State::Running {
            return false;
        }
        let answers = s.pool.and_then(|p| self.pools.get(p.0)).is_some_and(|p| self.answers(p));
        answers
            && s.channels.iter().filter(|(n, _)| ch.is_none_or(|ch| ch == *n)).any(|(_, c)| {
                // What the disk has vouched for has been answered.
                let awaited = |seq| seq != 0 && c.confirm.as_ref().is_none_or(|window| window.awaits(seq));
                c.lanes.iter().filter_map(|(_, l)| self.lanes.get(l.0)).any(|l| {
                    l.items.iter().any(|i| {
                        !i.settled
                            && match i.kind {
                                Kind::Publish(f) => awaited(i.seq) || f.mandatory || f.risky,
                                Kind::Method { tell, .. } => tell,
                            }
                    })
                })
            })
    }

    /// Whether everything before has settled, so that a method that can see messages may go. Closes the gate if not.
    pub(super) fn barrier(&mut self, now: Now, sid: SessionId, orphans: bool) -> bool {
        let until_ms = now.ms + self.limits.barrier_ms;
        let Some(s) = self.sessions.get_mut(sid.0) else { return true };
        if std::mem::take(&mut s.passed) {
            return true;
        }
        let orphans = self
            .upstreams
            .get(s.upstream.0)
            .filter(|u| orphans && u.orphaned > 0)
            .map(|u| u.orphans_settled + u.orphaned);
        if s.unsettled == 0 && orphans.is_none() {
            return true;
        }
        s.gate = Gate::Barrier { until_ms, orphans };
        self.barriers.push(sid);
        false
    }

    /// A barrier's pass counts for one frame only.
    pub(super) fn forget_pass(&mut self, sid: SessionId) {
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.passed = false;
        }
    }

    /// Barriers whose wait is over.
    pub(super) fn open_barriers(&mut self, now: Now) {
        if self.barriers.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.barriers);
        for sid in waiting {
            let number = match self.sessions.get(sid.0).map(|s| s.gate) {
                Some(Gate::Number(ch)) => self.number_is_taken(sid, ch),
                _ => false,
            };
            let Some(s) = self.sessions.get_mut(sid.0) else { continue };
            match s.gate {
                Gate::Number(_) => {
                    if number {
                        self.barriers.push(sid);
                        continue;
                    }
                }
                Gate::Barrier { until_ms, orphans } => {
                    let ghosts = orphans.is_some_and(|settled| {
                        self.upstreams
                            .get(s.upstream.0)
                            .is_some_and(|u| u.orphaned > 0 && u.orphans_settled < settled)
                    });
                    if (s.unsettled > 0 || ghosts) && now.ms < until_ms {
                        self.barriers.push(sid);
                        continue;
                    }
                    s.passed = true;
                }
                Gate::Replies { channel, owed, until_ms } => {
                    if let Some(c) = s.channel(channel)
                        && c.owes(owed)
                    {
                        if now.ms < until_ms {
                            self.barriers.push(sid);
                            continue;
                        }
                        c.waived = true;
                    }
                }
                Gate::Open | Gate::Upstream => continue,
            }
            s.gate = Gate::Open;
            debug_assert!(!matches!(s.pin, Pin::Dialing(_)), "a barrier stands behind the pin");
            self.actions.push_back(Action::Resume(sid));
        }
    }
}
