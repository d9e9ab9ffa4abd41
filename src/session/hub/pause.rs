//! Who is read: not a client that is paused, waits behind a gate or floods, nor a link whose one client takes nothing (SPEC D4).

use super::{Action, Hub};
use crate::session::client::{Channel, Gate, State};
use crate::session::upstream::{LinkState, LinkUse};
use crate::session::{LinkId, Now, SessionId};

/// How full a window is when its clients begin to be left unread for moments.
const PAUSE_FROM_PERCENT: u64 = 50;

/// The longest such moment.
const PAUSE_MS_MAX: u64 = 400;

/// A client with fewer publishes under way floods nobody.
const FLOOD_MESSAGES: u64 = 16;

/// What may wait unwritten on a link before floods pause. As much as one call writes: smaller writes cost the broker.
const FLOOD_BYTES: usize = 1024 * 1024;

/// Deliveries that lie unread before their link is not read any more: the broker keeps the rest better.
const DELIVERIES_BYTES: usize = 4 * 1024 * 1024;

impl Hub {
    /// A client whose upstream takes less than it sends is left unread for a moment: never for half a second, since py-amqp's kernel
    /// throws away what it has sent after one (TCP_USER_TIMEOUT), and only while its upstream takes anything at all (SPEC D4).
    pub(super) fn throttle(&mut self, now: Now, sid: SessionId) {
        let Some(s) = self.sessions.get(sid.0) else { return };
        if s.state != State::Running || s.unsettled == 0 {
            return;
        }
        // What goes to disk takes no room in the window.
        if s.pool.is_some_and(|pool| self.spills(pool)) && self.spool_takes() {
            return;
        }
        let Some(u) = self.upstreams.get(s.upstream.0) else { return };
        let fill = u.fill_percent();
        if fill < PAUSE_FROM_PERCENT {
            return;
        }
        let takes = self
            .links
            .iter()
            .any(|(_, l)| l.upstream == s.upstream && l.state == LinkState::Up && !l.blocked);
        if !takes {
            return;
        }
        let pause_ms =
            (PAUSE_MS_MAX * (fill - PAUSE_FROM_PERCENT) / (90 - PAUSE_FROM_PERCENT)).clamp(20, PAUSE_MS_MAX);
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.paused = true;
            s.paused_until_ms = now.ms + pause_ms;
            self.counters.reads_paused_ms += pause_ms;
            self.paused.push(sid);
        }
    }

    /// Clients whose pause is over, or whose upstream has room again.
    pub(super) fn unpause(&mut self, now: Now) {
        if self.paused.is_empty() {
            return;
        }
        let paused = std::mem::take(&mut self.paused);
        for sid in paused {
            let Some(s) = self.sessions.get_mut(sid.0) else { continue };
            let room = self.upstreams.get(s.upstream.0).is_none_or(|u| u.fill_percent() < PAUSE_FROM_PERCENT);
            if room || now.ms >= s.paused_until_ms {
                s.paused = false;
                self.actions.push_back(Action::Resume(sid));
            } else {
                self.paused.push(sid);
            }
        }
    }

    /// Whether a client floods: much of its own is under way on a link that has much unwritten. Read it again when the link has
    /// written, or after a moment: what others publish is not to stand behind all that it has to say.
    #[must_use]
    pub fn client_floods(&self, sid: SessionId) -> bool {
        let Some(s) = self.sessions.get(sid.0).filter(|s| s.unsettled >= FLOOD_MESSAGES) else {
            return false;
        };
        s.channels.iter().flat_map(|(_, c)| &c.lanes).any(|(_, lane)| {
            let lease = self.lanes.get(lane.0).and_then(|l| l.lease);
            lease
                .and_then(|(lid, _)| self.links.get(lid.0))
                .is_some_and(|l| l.out.unwritten() >= FLOOD_BYTES && !l.blocked)
        })
    }

    /// Whether a client is in the middle of a message, and so much of it is collected: that takes memory until the rest is there.
    #[must_use]
    pub fn client_is_within_a_message(&self, sid: SessionId, bytes: usize) -> bool {
        let large = |c: &Channel| c.assembly.as_ref().is_some_and(|a| a.frames.len() >= bytes);
        self.sessions.get(sid.0).is_some_and(|s| s.channels.iter().any(|(_, c)| large(c)))
    }

    /// Whether a client should be read: not while it is paused, nor while its next frame waits behind a gate and `kept` octets, more
    /// than its backlog may be, wait with it.
    #[must_use]
    pub fn client_wants_reads(&self, sid: SessionId, kept: usize) -> bool {
        self.sessions
            .get(sid.0)
            .is_some_and(|s| !s.paused && (s.gate == Gate::Open || kept <= self.limits.input_backlog_bytes))
    }

    /// Whether a client's next frame may be looked at.
    #[must_use]
    pub fn client_gate_open(&self, sid: SessionId) -> bool {
        self.sessions.get(sid.0).is_none_or(|s| s.gate == Gate::Open)
    }

    /// Whether a link should be read: not while the one client it belongs to leaves its deliveries lying.
    #[must_use]
    pub fn link_wants_reads(&self, lid: LinkId) -> bool {
        let Some(link) = self.links.get(lid.0) else { return false };
        match link.used {
            LinkUse::Pinned(sid) => self.sessions.get(sid.0).is_none_or(|s| {
                s.out.len() - s.unsent < DELIVERIES_BYTES.min(self.limits.output_backlog_bytes / 2)
            }),
            _ => true,
        }
    }
}
