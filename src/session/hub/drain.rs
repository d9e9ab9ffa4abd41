//! The stop of the whole: every client is told, and what they have handed over goes on (SPEC D7).

use super::{Action, Hub};
use crate::session::client::{Gate, State};
use crate::session::lane::Lane;
use crate::session::{Now, SessionId};
use crate::wire::frame::{ChannelId, FrameKind, write_frame};
use crate::wire::method::{self, MethodId};

/// Rounds that bring nothing before the rest is given up: a disk that gives back what it took is asked again.
const VAIN_ROUNDS_MAX: u32 = 10;

/// Rounds in which what is left goes to the spool, as much at a time as it takes (`spool_the_rest`), until no more of it will.
#[derive(Debug, Default)]
pub struct Rounds {
    before: Option<u64>,
    in_vain: u32,
}

impl Rounds {
    /// Whether another round would bring nothing: `left` were in memory only, and `nothing_new`: nothing was on its way to the disk.
    /// What was on its way may have been given back: only what stays away is kept.
    pub fn is_over(&mut self, left: u64, nothing_new: bool) -> bool {
        let before = self.before.replace(left);
        self.in_vain += u32::from(left > 0 && before.is_some_and(|before| left >= before));
        nothing_new || self.in_vain >= VAIN_ROUNDS_MAX
    }
}

impl Hub {
    /// Stop: tell every client, keep what they have handed over (SPEC D7). `drained` says when it is done.
    pub fn drain(&mut self, now: Now) {
        self.draining = true;
        let ids: Vec<usize> = self.sessions.iter().map(|(i, _)| i).collect();
        for id in ids {
            let sid = SessionId(id);
            let Some(s) = self.sessions.get_mut(id) else { continue };
            if s.state == State::Leaving {
                self.finish(sid);
                continue;
            }
            if s.state != State::Running {
                self.close_client(
                    now,
                    sid,
                    320,
                    "CONNECTION_FORCED - umbel is shutting down",
                    MethodId::NONE,
                );
                continue;
            }
            let payload = method::write_close(
                MethodId::CONNECTION_CLOSE,
                320,
                "CONNECTION_FORCED - umbel is shutting down",
                MethodId::NONE,
            );
            write_frame(&mut s.out, FrameKind::Method, ChannelId::CONNECTION, &payload);
            s.state = State::Draining;
            s.gate = Gate::Open;
            self.mark_client(sid);
            self.actions.push_back(Action::Resume(sid));
            self.unpin(now, sid);
        }
    }

    /// Whether nothing is left to do after `drain`: no client, nothing unsettled.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.draining && self.sessions.is_empty() && self.upstreams.iter().all(|u| u.unsettled == 0)
    }

    /// Whether all clients have gone, and what is left has no link that takes it.
    #[must_use]
    pub fn waits_in_vain(&self) -> bool {
        let waits = |l: &Lane| l.items.iter().any(|i| !i.settled);
        self.draining
            && self.sessions.is_empty()
            && self.lanes.iter().filter(|(_, l)| waits(l)).all(|(_, l)| !self.has_way(l.pool))
    }

    /// Unsettled publishes and methods over all upstreams.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.upstreams.iter().map(|u| u.unsettled).sum()
    }
}
