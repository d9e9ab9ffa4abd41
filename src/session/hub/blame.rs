//! Blame: the broker has closed a leased channel, and one item on it is at fault.

use std::rc::Rc;

use super::Hub;
use super::aside::Again;
use super::books::Exit;
use super::link::Words;
use crate::session::aside::Refused;
use crate::session::client::State;
use crate::session::lane::{Item, Kind, PublishFlags, Store};
use crate::session::upstream::ChannelUse;
use crate::session::{LaneId, LinkId, Now, SessionId};
use crate::wire::frame::parse_frame;
use crate::wire::method::{self, MethodId};

/// How long a lane waits that made its broker close a channel, nobody knows by what: it is not to become a hot loop.
const CAREFUL_MS: u64 = 200;

/// What a broker closed a channel for.
struct Fault<'a> {
    /// The item at fault.
    index: usize,
    /// Where an exchange is missing or forbidden: that one.
    exchange: Option<&'a [u8]>,
    /// Where publishes are put aside for: see `aside`.
    place: Option<Vec<u8>>,
    words: &'a Words,
}

impl Hub {
    /// The broker has closed a leased channel: one item is at fault, the others are not (SPEC T3, T5).
    ///
    /// RabbitMQ handles a channel's methods in order and confirms what it took before it closes: what stands before the culprit was
    /// taken, what stands after it was thrown away and is sent again.
    pub(super) fn lease_closed(&mut self, now: Now, lid: LinkId, up: u16, words: &Words) {
        let used = self
            .links
            .get_mut(lid.0)
            .and_then(|l| l.channel(up))
            .map(|c| std::mem::replace(&mut c.used, ChannelUse::Free));
        let lane_id = match used {
            Some(ChannelUse::Lane(lane)) => lane,
            Some(ChannelUse::Control(steps)) => {
                self.control_closed(now, lid, up, steps, words);
                return;
            }
            // Nobody's: it is on the free list, and stays there.
            Some(ChannelUse::Free) => {
                self.open_anew(now, lid, up, ChannelUse::Free);
                return;
            }
            None => {
                self.link_failed(now, lid, "the upstream closes a channel that was never opened");
                return;
            }
        };
        self.part(lane_id);
        let culprit = self.culprit(lid, lane_id, words);
        // Where an exchange is missing or forbidden, what follows to it on the channel would be refused one by one.
        let exchange =
            culprit.filter(|_| matches!(words.0, 403 | 404)).and_then(|n| self.exchange_on(lane_id, n));
        let pool = self.lanes.get(lane_id.0).map(|l| l.pool);
        if let (Some(exchange), Some(p)) = (&exchange, pool.and_then(|p| self.pools.get_mut(p.0))) {
            p.known_exchanges.remove(exchange.as_slice());
        }
        if let Some(link) = self.links.get_mut(lid.0) {
            link.leased = link.leased.saturating_sub(1);
        }
        // The lease is off the lane before anybody is blamed: the lane may end with its client's channel.
        let sent = self.detach(lane_id);
        self.take_blame(now, lane_id, (culprit, sent), exchange.as_deref(), words);
        self.count_resent(lane_id, sent);
        self.find_home(now, lane_id);
        self.reopen_channel(now, lid, up);
    }

    fn take_blame(
        &mut self,
        now: Now,
        lane_id: LaneId,
        (culprit, sent): (Option<usize>, usize),
        exchange: Option<&[u8]>,
        words: &Words,
    ) {
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        let (session, channel, replays) = (lane.session, lane.channel, lane.replay);
        let Some(index) = culprit else {
            // Nobody named: those that were there are sent one by one until the one at fault is alone.
            lane.careful = lane.careful.max(sent);
            lane.not_before_ms = lane.not_before_ms.max(now.ms + CAREFUL_MS);
            return;
        };
        lane.careful = 0;
        let Some(item) = lane.items.get(index) else { return };
        let authored = matches!(item.kind, Kind::Publish(f) if f.authored);
        let rerouted = matches!(words.0, 403 | 404) && item.wait.is_some();
        let told = session.filter(|sid| {
            !authored && !rerouted && self.sessions.get(sid.0).is_some_and(|s| s.state == State::Running)
        });
        self.clear_those_before(lane_id, index, session.is_some() && told.is_none());
        if rerouted {
            self.target_vanished(now, lane_id, index);
            return;
        }
        let place = self.refused_place(lane_id, index, words);
        let stays = self.must_stay(lane_id, index) && !is_there(words);
        let refused = Refused { place: place.clone(), ..Refused::of(words) };
        let said = Rc::clone(&refused.why);
        let kept = stays && self.put_aside(now, lane_id, index, refused, Again::InTurn);
        if kept && let Some(u) = self.upstream_of(lane_id) {
            u.last_error = Some(said);
        }
        match (authored, kept) {
            (true, false) => self.settle_item(lane_id, index, Exit::LeftOut),
            (false, false) => self.settle_unanswered(lane_id, index, Exit::Error),
            (_, true) => {}
        }
        if authored {
            return;
        }
        let fault = Fault { index, exchange, place, words };
        // Each of the others might close the next channel under all that are behind it: they find out one by one.
        let unsure = match session.filter(|_| told.is_some() && !replays) {
            Some(sid) => self.blame_with_a_channel(now, lane_id, (sid, channel), &fault),
            None => self.blame_without_a_channel(now, lane_id, replays, &fault),
        };
        if let Some(lane) = self.lanes.get_mut(lane_id.0) {
            lane.careful = if unsure { lane.items.len() } else { 0 };
            lane.forsaken |= told.is_some();
            if let (true, false, Some(exchange)) = (lane.forsaken && unsure, replays, exchange) {
                lane.refused.get_or_insert_default().insert(exchange.into());
            }
        }
        if let Some(sid) = told {
            let (code, text, cause) = words;
            self.counters.channel_errors += 1;
            self.close_client_channel(now, sid, channel, *code, text, *cause);
        }
    }

    /// The broker took what stands before the culprit and has not said so. A client that waits for an ack, and whose channel lives on,
    /// must get the broker's own: that is sent again.
    fn clear_those_before(&mut self, lane_id: LaneId, index: usize, channel_lives: bool) {
        for before in 0..index {
            let Some(item) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(before)) else { continue };
            let awaited = item.seq != 0 && channel_lives;
            let again = matches!(item.kind, Kind::Publish(f) if f.again);
            if !item.settled && !awaited && !again {
                self.counters.implied += 1;
                self.settle_unanswered(lane_id, before, Exit::Forwarded);
            }
        }
    }

    /// What stands behind a culprit whose client's channel is closed with it: methods are thrown away, as a broker does, and so are
    /// publishes: where they are numbered, the client knows that they were not confirmed; where not, they were accepted and go on, but for
    /// those with the same fault. Whether another may be at fault, too.
    fn blame_with_a_channel(
        &mut self,
        now: Now,
        lane_id: LaneId,
        (sid, channel): (SessionId, u16),
        fault: &Fault<'_>,
    ) -> bool {
        let session = self.sessions.get_mut(sid.0);
        let confirms = session.and_then(|s| s.channel(channel)).is_some_and(|c| c.confirm.is_some());
        let mut unsure = false;
        for after in self.behind(lane_id, fault) {
            if self.has_looked(lane_id, unsure) {
                break;
            }
            let Some(item) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(after)) else { continue };
            let Kind::Publish(flags) = item.kind else {
                self.settle_unanswered(lane_id, after, Exit::Error);
                continue;
            };
            let numbered = confirms && item.seq != 0 && item.record.is_none();
            let (plain, risky) = (is_plain(item, flags), flags.risky && !item.settled);
            let exchange = fault.exchange.filter(|_| plain);
            let same = exchange.is_some() && self.exchange_on(lane_id, after).as_deref() == exchange;
            if same && self.must_stay(lane_id, after) {
                self.put_aside(now, lane_id, after, Refused::of(fault.words), Again::InTurn);
            } else if same || numbered {
                self.settle_unanswered(lane_id, after, Exit::Error);
            } else {
                unsure |= risky;
            }
        }
        unsure
    }

    /// What stands behind a culprit of which no client is told: it goes on, but for publishes to the place that has refused one. A lane of
    /// the spool (`replays`) is many clients': nobody's mistake is another's. Whether another may be at fault, too.
    fn blame_without_a_channel(
        &mut self,
        now: Now,
        lane_id: LaneId,
        replays: bool,
        fault: &Fault<'_>,
    ) -> bool {
        let mut unsure = false;
        for after in self.behind(lane_id, fault) {
            if self.has_looked(lane_id, unsure) {
                break;
            }
            let Some(item) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(after)) else { continue };
            let Kind::Publish(flags) = item.kind else {
                if !replays {
                    self.settle_unanswered(lane_id, after, Exit::Error);
                }
                continue;
            };
            let place = fault.place.as_ref().filter(|_| is_plain(item, flags));
            if place.is_some() && self.refused_place(lane_id, after, fault.words).as_ref() == place {
                let refused = Refused::of(fault.words);
                if !self.put_aside(now, lane_id, after, refused, Again::InTurn) && !replays {
                    self.settle_unanswered(lane_id, after, Exit::Error);
                }
            } else {
                unsure |= flags.risky && !flags.authored;
            }
        }
        unsure
    }

    /// The items behind a culprit.
    fn behind(&self, lane_id: LaneId, fault: &Fault<'_>) -> std::ops::Range<usize> {
        fault.index + 1..self.lanes.get(lane_id.0).map_or(0, |l| l.items.len())
    }

    /// All behind were looked at when the first was refused; what is like this one is settled when its turn comes.
    fn has_looked(&self, lane_id: LaneId, unsure: bool) -> bool {
        unsure && self.lanes.get(lane_id.0).is_some_and(|l| l.forsaken)
    }

    /// Where a publish on a lane goes, while it is one.
    fn exchange_on(&self, lane_id: LaneId, index: usize) -> Option<Vec<u8>> {
        let lane = self.lanes.get(lane_id.0)?;
        let bytes = match &lane.items.get(index)?.store {
            Store::Own(bytes) => bytes,
            Store::Stream(spot) => self.links.get(lane.lease?.0.0)?.out.bytes_at(*spot),
        };
        let frame = parse_frame(bytes, 0).ok()??;
        matches!(method::split(frame.payload), Ok((MethodId::BASIC_PUBLISH, _)))
            .then(|| super::publish::exchange_of(frame.payload).to_vec())
    }

    /// Whether an item goes where its channel has been refused before.
    pub(super) fn refused_before(&self, lane_id: LaneId, index: usize) -> bool {
        let Some(lane) = self.lanes.get(lane_id.0) else { return false };
        let (Some(refused), Some(item)) = (&lane.refused, lane.items.get(index)) else { return false };
        matches!(item.kind, Kind::Publish(f) if !f.authored)
            && item.wait.is_none()
            && self.exchange_on(lane_id, index).is_some_and(|exchange| refused.contains(exchange.as_slice()))
    }

    fn upstream_of(&mut self, lane_id: LaneId) -> Option<&mut crate::session::upstream::Upstream> {
        let upstream = self.lanes.get(lane_id.0)?.upstream;
        self.upstreams.get_mut(upstream.0)
    }

    /// Settles an item without an answer for the client's number.
    pub(super) fn settle_unanswered(&mut self, lane_id: LaneId, index: usize, exit: Exit) {
        if let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) {
            item.seq = 0;
        }
        self.settle_item(lane_id, index, exit);
    }

    /// Which item made the broker close its channel.
    fn culprit(&self, lid: LinkId, lane_id: LaneId, words: &Words) -> Option<usize> {
        let lane = self.lanes.get(lane_id.0)?;
        let (code, text, cause) = words;
        let mut open = lane.items.iter().take(lane.sent).enumerate().filter(|(_, i)| !i.settled);
        if *cause != MethodId::BASIC_PUBLISH {
            return open
                .find(|(_, i)| matches!(i.kind, Kind::Method { id, .. } if id == *cause))
                .map(|(n, _)| n);
        }
        let publishes: Vec<usize> =
            open.filter(|(_, i)| matches!(i.kind, Kind::Publish(_))).map(|(n, _)| n).collect();
        if let [only] = publishes.as_slice() {
            return Some(*only);
        }
        if !matches!(code, 403 | 404) {
            return None;
        }
        publishes.into_iter().find(|&n| {
            let Some(Store::Stream(spot)) = lane.items.get(n).map(|i| &i.store) else {
                return false;
            };
            let Some(link) = self.links.get(lid.0) else { return false };
            let Ok(Some(frame)) = parse_frame(link.out.bytes_at(*spot), 0) else { return false };
            let Ok((_, args)) = method::split(frame.payload) else { return false };
            let Ok(publish) = method::publish(args) else { return false };
            let exchange =
                if publish.exchange.is_empty() { b"amq.default".as_slice() } else { publish.exchange };
            text.contains(&format!("exchange '{}'", String::from_utf8_lossy(exchange)))
        })
    }
}

/// A client's own publish as it came, not yet settled.
fn is_plain(item: &Item, flags: PublishFlags) -> bool {
    !flags.authored && item.wait.is_none() && !item.settled
}

/// Whether the broker's words mean that what was to be declared is there, as something else.
fn is_there(words: &Words) -> bool {
    matches!(words.0, 405 | 406) && words.2 != MethodId::BASIC_PUBLISH
}
