//! connection.blocked and unblocked: told to the clients it concerns as the broker would (SPEC D4). Nothing else changes for them: what
//! they publish waits.

use super::Hub;
use crate::session::client::{Pin, State};
use crate::session::upstream::LinkUse;
use crate::session::{LaneId, LinkId, SessionId};
use crate::wire::method::{MethodId, MethodWriter};

impl Hub {
    /// The broker has said connection.blocked or unblocked on a link.
    pub(super) fn blocked(&mut self, lid: LinkId, used: LinkUse, payload: &[u8], blocked: bool) {
        let Some(link) = self.links.get_mut(lid.0) else { return };
        link.blocked = blocked;
        if !blocked {
            self.review_blocked();
            return;
        }
        link.blocked_words = payload.into();
        match used {
            LinkUse::Pinned(sid) => self.tell_blocked(sid, lid),
            LinkUse::Pooled(_) if self.relays_blocked(lid) => {
                let on_link: Vec<SessionId> = self
                    .lanes
                    .iter()
                    .filter(|(_, l)| l.lease.is_some_and(|(k, _)| k == lid))
                    .filter_map(|(_, l)| l.session)
                    .collect();
                for sid in on_link {
                    self.tell_blocked(sid, lid);
                }
            }
            _ => {}
        }
    }

    /// A lane has got a lease on a link that may be blocked already.
    pub(super) fn tell_leased(&mut self, lane_id: LaneId, lid: LinkId) {
        if !self.links.get(lid.0).is_some_and(|l| l.blocked) || !self.relays_blocked(lid) {
            return;
        }
        if let Some(sid) = self.lanes.get(lane_id.0).and_then(|l| l.session) {
            self.tell_blocked(sid, lid);
        }
    }

    /// Something is not blocked any more, or is gone: clients that were told so, and have nothing on a blocked link, are told otherwise.
    pub(super) fn review_blocked(&mut self) {
        let told: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| s.told_blocked).map(|(i, _)| SessionId(i)).collect();
        for sid in told {
            if self.is_blocked(sid) {
                continue;
            }
            if let Some(s) = self.sessions.get_mut(sid.0) {
                s.told_blocked = false;
                if s.state == State::Running {
                    self.client_push(sid, 0, &MethodWriter::new(MethodId::CONNECTION_UNBLOCKED).done());
                }
            }
        }
    }

    fn is_blocked(&self, sid: SessionId) -> bool {
        let Some(s) = self.sessions.get(sid.0) else { return false };
        let blocked =
            |lid: &LinkId| self.links.get(lid.0).is_some_and(|l| l.blocked && l.used != LinkUse::Dead);
        let own = matches!(&s.pin, Pin::Up(lid) if blocked(lid));
        own || s.channels.iter().flat_map(|(_, c)| &c.lanes).any(|(_, lane)| {
            let lease = self.lanes.get(lane.0).and_then(|l| l.lease);
            lease.is_some_and(|(lid, _)| blocked(&lid))
        })
    }

    fn relays_blocked(&self, lid: LinkId) -> bool {
        let upstream = self.links.get(lid.0).and_then(|l| self.upstreams.get(l.upstream.0));
        upstream.is_some_and(|u| u.settings.relay_blocked)
    }

    fn tell_blocked(&mut self, sid: SessionId, lid: LinkId) {
        let Some(link) = self.links.get(lid.0) else { return };
        let words = link.blocked_words.clone();
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if s.takes_blocked && !s.told_blocked && s.state == State::Running {
            s.told_blocked = true;
            self.client_push(sid, 0, &words);
        }
    }
}
