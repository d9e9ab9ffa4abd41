//! A broker that ends a shared link for somebody's fault: who it was, and who pays (SPEC T3, T5, D4).
//!
//! We let nothing through that is known to end a connection; this is for what only the broker knows (RabbitMQ 4.3 answers 541 to a
//! transient queue). Its words name the kind of method at most. One suspect: it was that. Several: each goes alone next time, on a link
//! that carries nothing else (`alone`), so that no third client pays twice.

use super::Hub;
use super::aside::Again;
use super::books::Exit;
use super::link::Words;
use crate::session::aside::Refused;
use crate::session::client::State;
use crate::session::lane::{Item, Kind};
use crate::session::{LaneId, LinkId, Now};
use crate::wire::method::MethodId;

/// Links that may be ended while one thing was first on its lane, before it is given up.
const STRIKES_MAX: u8 = 32;

/// What it counts for where the broker goes on working for others: it is one of these, then, and not the broker that is ill.
const STRONG_STRIKE: u8 = 8;

/// What it counts for where nothing else was on the link: it is this one.
const ALONE_STRIKE: u8 = 16;

/// From here on what is suspected goes alone: at once where the broker works for others, else when it has happened again and again.
const SUSPECT_STRIKES: u8 = 3;

impl Hub {
    /// The broker has ended a shared link and says that a client's doing was the cause.
    pub(super) fn strike(&mut self, now: Now, lid: LinkId, words: &Words) {
        let cause = words.2;
        let named = cause != MethodId::NONE && cause != MethodId::BASIC_PUBLISH;
        let suspects: Vec<(LaneId, usize)> = self
            .lanes_of(lid)
            .into_iter()
            .filter_map(|lane_id| {
                self.part(lane_id);
                Some((lane_id, self.suspect(lane_id, named.then_some(cause))?))
            })
            .collect();
        if let ([(lane_id, index)], true) = (suspects.as_slice(), named) {
            self.convict(now, *lane_id, *index, words);
            return;
        }
        let worked = self.links.get(lid.0).is_some_and(|l| l.worked);
        let strength = match (self.is_alone(lid), worked) {
            (true, _) if self.others_work(lid) => ALONE_STRIKE,
            (_, true) => STRONG_STRIKE,
            _ => 1,
        };
        for (lane_id, index) in suspects {
            let Some(lane) = self.lanes.get_mut(lane_id.0) else { continue };
            lane.careful = lane.careful.max(lane.sent);
            let Some(item) = lane.items.get_mut(index) else { continue };
            item.strikes = item.strikes.saturating_add(strength);
            let strikes = item.strikes;
            if strikes >= STRIKES_MAX {
                self.convict(now, lane_id, index, words);
            } else if strikes >= SUSPECT_STRIKES {
                self.suspect_lane(lane_id, usize::MAX);
            }
        }
    }

    /// A broker has hung up on a shared link and has not said why: it may be a cut, and nobody is given up for that; but what was first on
    /// its lane again and again goes alone, for once.
    pub(super) fn strike_without_words(&mut self, lid: LinkId) {
        for lane_id in self.lanes_of(lid) {
            self.part(lane_id);
            let Some(index) = self.suspect(lane_id, None) else { continue };
            let Some(lane) = self.lanes.get_mut(lane_id.0) else { continue };
            let Some(item) = lane.items.get_mut(index) else { continue };
            if item.strikes + 1 < STRIKES_MAX {
                item.strikes += 1;
            }
            if item.strikes >= SUSPECT_STRIKES {
                self.suspect_lane(lane_id, 1);
            }
        }
    }

    /// Whether a link is its pool's for suspects.
    fn is_alone(&self, lid: LinkId) -> bool {
        self.pools.iter().any(|(_, p)| p.alone == Some(lid))
    }

    /// What on a lane may have been it: the first that is unanswered, of the kind that the broker named.
    fn suspect(&self, lane_id: LaneId, named: Option<MethodId>) -> Option<usize> {
        let lane = self.lanes.get(lane_id.0)?;
        lane.items.iter().take(lane.sent).position(|i| {
            !i.settled
                && match (&i.kind, named) {
                    (Kind::Method { id, .. }, Some(named)) => *id == named,
                    (Kind::Publish(_), Some(_)) => false,
                    (_, None) => true,
                }
        })
    }

    /// Whether a suspect's method is on its way: another lane's waits, so that the next time there is only one that it can be.
    pub(super) fn other_suspect(&self, lane_id: LaneId) -> bool {
        let Some(pool) = self.lanes.get(lane_id.0).map(|l| l.pool) else { return false };
        self.lanes.iter().any(|(id, lane)| {
            let asked = |i: &Item| !i.settled && matches!(i.kind, Kind::Method { .. });
            id != lane_id.0
                && lane.one_by_one()
                && lane.pool == pool
                && lane.items.iter().take(lane.sent).any(asked)
        })
    }

    /// It was this one: it is given up. A publish is refused; a method's client hears what the broker said, in the broker's scope.
    fn convict(&mut self, now: Now, lane_id: LaneId, index: usize, words: &Words) {
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        lane.careful = 0;
        let session = lane.session;
        let Some(item) = lane.items.get_mut(index) else { return };
        self.counters.poisoned += 1;
        if let Kind::Publish(_) = item.kind {
            let refused = Refused::of(words);
            if self.must_stay(lane_id, index) && self.put_aside(now, lane_id, index, refused, Again::NextLife)
            {
                return;
            }
            self.settle_item(lane_id, index, Exit::Error);
            return;
        }
        item.seq = 0;
        self.settle_item(lane_id, index, Exit::Error);
        let (code, text, cause) = words;
        if let Some(sid) = session
            && self.sessions.get(sid.0).is_some_and(|s| s.state == State::Running)
        {
            self.counters.connection_errors += 1;
            self.close_client(now, sid, *code, text, *cause);
        }
    }
}
