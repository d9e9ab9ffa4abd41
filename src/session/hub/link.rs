//! Links: bytes from upstreams, and their deaths. Logins are in `login`, what a client's own link says is in `pin`.

use super::Hub;
use super::aside::Again;
use super::books::Exit;
use crate::session::client::State;
use crate::session::judge::Judge;
use crate::session::lane::{Kind, Store};
use crate::session::upstream::{ChannelUse, LinkState, LinkUse, UpstreamState};
use crate::session::{LaneId, LinkId, Now};
use crate::wire::frame::{Frame, FrameKind, parse_frame};
use crate::wire::method::{self, MethodId, MethodWriter};

/// How long a lane waits that made its broker close a channel, nobody knows by what: it is not to become a hot loop.
const CAREFUL_MS: u64 = 200;

/// A broker's words when it closes.
pub(super) type Words = (u16, String, MethodId);

impl Hub {
    /// Bytes from an upstream; how many of them are done with.
    pub fn link_bytes(&mut self, now: Now, lid: LinkId, buf: &[u8], judge: &mut dyn Judge) -> usize {
        let mut at = 0;
        if let Some(link) = self.links.get_mut(lid.0) {
            link.rx_ms = now.ms;
        }
        while let Some(link) = self.links.get(lid.0) {
            if link.state == LinkState::Dead || link.state == LinkState::Dialing {
                at = buf.len();
                break;
            }
            let rest = buf.get(at..).unwrap_or(&[]);
            // Before tune a broker may send a long connection.start; afterwards what was agreed, with RabbitMQ's own leniency.
            let frame_max = if link.state <= LinkState::Tune { 1 << 20 } else { link.tune.frame_max };
            let frame = match parse_frame(rest, frame_max) {
                Ok(None) => break,
                Ok(Some(frame)) => frame,
                Err(error) => {
                    if rest.starts_with(b"AMQP") {
                        self.link_failed(now, lid, "the upstream does not speak AMQP 0-9-1");
                    } else {
                        self.link_failed(now, lid, &format!("malformed frame from the upstream: {error}"));
                    }
                    at = buf.len();
                    break;
                }
            };
            at += frame.wire_len();
            self.link_frame(now, lid, frame, rest, judge);
        }
        self.resume_replays(now, judge);
        self.send_answers(now);
        self.open_barriers(now);
        self.unpause(now);
        at
    }

    fn link_frame(&mut self, now: Now, lid: LinkId, frame: Frame<'_>, rest: &[u8], judge: &mut dyn Judge) {
        if frame.kind == FrameKind::Heartbeat {
            return;
        }
        let Some(link) = self.links.get(lid.0) else { return };
        let (state, used) = (link.state, link.used);
        if frame.channel.0 == 0 {
            match method::split(frame.payload) {
                Ok((id, args)) if frame.kind == FrameKind::Method => {
                    self.link_method(now, lid, id, args, frame.payload)
                }
                _ => self.link_failed(now, lid, "content on channel 0 from the upstream"),
            }
            return;
        }
        if state != LinkState::Up {
            return;
        }
        match used {
            LinkUse::Pinned(sid) => self.pinned_frame(now, lid, sid, frame, rest, judge),
            LinkUse::Pooled(_) => self.pooled_frame(now, lid, frame, judge),
            LinkUse::Probe | LinkUse::Verify(_) | LinkUse::Dead => {}
        }
    }

    fn pooled_frame(&mut self, now: Now, lid: LinkId, frame: Frame<'_>, judge: &mut dyn Judge) {
        let up = frame.channel.0;
        if frame.kind != FrameKind::Method {
            self.returning_content(now, lid, up, frame, judge);
            return;
        }
        let Ok((id, args)) = method::split(frame.payload) else {
            self.link_failed(now, lid, "a method frame of the upstream ends early");
            return;
        };
        match id {
            MethodId::BASIC_ACK | MethodId::BASIC_NACK => {
                if let Ok((tag, multiple)) = method::ack(args) {
                    self.confirmed(now, lid, up, tag, multiple, id == MethodId::BASIC_ACK);
                }
            }
            MethodId::BASIC_RETURN => self.begin_return(lid, up, frame, args),
            MethodId::CHANNEL_OPEN_OK | MethodId::CONFIRM_SELECT_OK | MethodId::CHANNEL_FLOW_OK => {}
            MethodId::CHANNEL_FLOW => {
                let active = frame.payload.last().copied().unwrap_or(1);
                self.link_push(lid, up, &MethodWriter::new(MethodId::CHANNEL_FLOW_OK).octet(active).done());
            }
            MethodId::CHANNEL_CLOSE => {
                if let Ok(close) = method::close(args) {
                    let words = (close.code, String::from_utf8_lossy(close.text).into_owned(), close.cause);
                    self.link_push(lid, up, &MethodWriter::new(MethodId::CHANNEL_CLOSE_OK).done());
                    self.lease_closed(now, lid, up, &words);
                }
            }
            // We close no channel of a shared link: whatever this answers, nobody asked.
            MethodId::CHANNEL_CLOSE_OK => {}
            _ => {
                let control = matches!(
                    self.links.get_mut(lid.0).and_then(|l| l.channel(up)).map(|c| &c.used),
                    Some(ChannelUse::Control(_))
                );
                if control {
                    self.target_answered(now, lid, up);
                } else {
                    self.replied(now, lid, up, id, frame.payload);
                }
            }
        }
    }

    /// The broker has closed a leased channel: one item is at fault, the others are not (SPEC T3, T5).
    ///
    /// RabbitMQ handles a channel's methods in order and confirms what it took before it closes: what stands before the culprit was
    /// taken, what stands after it was thrown away and is sent again.
    fn lease_closed(&mut self, now: Now, lid: LinkId, up: u16, words: &Words) {
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
        self.take_blame(now, lane_id, culprit, exchange.as_deref(), words);
        self.count_resent(lane_id, sent);
        self.find_home(now, lane_id);
        self.reopen_channel(now, lid, up);
    }

    fn take_blame(
        &mut self,
        now: Now,
        lane_id: LaneId,
        culprit: Option<usize>,
        exchange: Option<&[u8]>,
        words: &Words,
    ) {
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        let (session, channel, replays) = (lane.session, lane.channel, lane.replay);
        let Some(index) = culprit else {
            // Nobody named: those that are left are sent one by one until the one at fault is alone.
            lane.careful = true;
            lane.not_before_ms = lane.not_before_ms.max(now.ms + CAREFUL_MS);
            return;
        };
        lane.careful = false;
        let Some(item) = lane.items.get(index) else { return };
        let authored = matches!(item.kind, Kind::Publish(f) if f.authored);
        let rerouted = matches!(words.0, 403 | 404) && item.wait.is_some();
        let told = session.filter(|sid| {
            !authored && !rerouted && self.sessions.get(sid.0).is_some_and(|s| s.state == State::Running)
        });
        for before in 0..index {
            let Some(item) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(before)) else { continue };
            // The broker took it and has not said so. A client that waits for an ack, and whose channel lives on, must get the
            // broker's own: it is sent again.
            let awaited = item.seq != 0 && session.is_some() && told.is_none();
            let again = matches!(item.kind, Kind::Publish(f) if f.again);
            if !item.settled && !awaited && !again {
                self.counters.implied += 1;
                self.settle_unanswered(lane_id, before, Exit::Forwarded);
            }
        }
        if rerouted {
            self.target_vanished(now, lane_id, index);
            return;
        }
        let place = self.refused_place(lane_id, index, words);
        let stays = self.must_stay(lane_id, index) && !is_there(words);
        let kept = stays && self.put_aside(now, lane_id, index, place.clone(), Again::InTurn);
        if kept && let Some(u) = self.upstream_of(lane_id) {
            u.last_error = Some(format!("{} {}", words.0, words.1).into());
        }
        if authored && !kept {
            self.settle_item(lane_id, index, Exit::LeftOut);
        }
        if authored {
            return;
        }
        if !kept {
            self.settle_unanswered(lane_id, index, Exit::Error);
        }
        let confirms = session
            .and_then(|sid| self.sessions.get_mut(sid.0))
            .and_then(|s| s.channel(channel))
            .is_some_and(|c| c.confirm.is_some());
        let (count, forsaken) = self.lanes.get(lane_id.0).map_or((0, false), |l| (l.items.len(), l.forsaken));
        let mut unsure = false;
        for after in index + 1..count {
            // All behind were looked at when the first was refused; what is like this one is settled when its turn comes.
            if forsaken && unsure {
                break;
            }
            // Methods behind an error are thrown away by a broker, and so are publishes: where they are numbered, the client knows
            // that they were not confirmed; where not, they were accepted and go on, but for those with the same fault.
            let Some(item) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(after)) else { continue };
            let Kind::Publish(flags) = item.kind else {
                // A lane of the spool is many clients': nobody's mistake is another's.
                if !replays {
                    self.settle_unanswered(lane_id, after, Exit::Error);
                }
                continue;
            };
            let plain = !flags.authored && item.wait.is_none() && !item.settled;
            let there = |hub: &Self| hub.refused_place(lane_id, after, words);
            if replays || told.is_none() {
                if plain && place.is_some() && there(self) == place {
                    if !self.put_aside(now, lane_id, after, None, Again::InTurn) && !replays {
                        self.settle_unanswered(lane_id, after, Exit::Error);
                    }
                } else {
                    unsure |= flags.risky && !flags.authored;
                }
                continue;
            }
            let same = plain && exchange.is_some() && self.exchange_on(lane_id, after).as_deref() == exchange;
            if same && self.must_stay(lane_id, after) {
                self.put_aside(now, lane_id, after, None, Again::InTurn);
            } else if same || (confirms && item.seq != 0 && item.record.is_none()) {
                self.settle_unanswered(lane_id, after, Exit::Error);
            } else {
                unsure |= flags.risky && !item.settled;
            }
        }
        // Each of the others might close the next channel under all that are behind it: they find out one by one.
        if let Some(lane) = self.lanes.get_mut(lane_id.0) {
            lane.careful = unsure;
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

    /// A link that we give up: net hangs up, what was on it finds another.
    pub(super) fn link_failed(&mut self, now: Now, lid: LinkId, why: &str) {
        self.bury(now, lid, why, None);
        self.abandon_link(lid);
    }

    /// net hangs up; nothing more is said or heard.
    pub(super) fn abandon_link(&mut self, lid: LinkId) {
        if let Some(link) = self.links.get_mut(lid.0) {
            if link.state != LinkState::Dead {
                link.state = LinkState::Dead;
                link.used = LinkUse::Dead;
            }
            self.actions.push_back(super::Action::HangUpLink(lid));
        }
    }

    /// The socket of a link is gone.
    pub fn link_gone(&mut self, now: Now, lid: LinkId, why: &str) {
        if let Some(link) = self.links.get_mut(lid.0) {
            link.hung_up_by_peer = true;
        }
        self.bury(now, lid, why, None);
        if let Some(mut link) = self.links.try_remove(lid.0) {
            link.out.clear(&mut self.spares);
        }
        self.send_answers(now);
        self.open_barriers(now);
    }

    /// A link could not be connected. net does not know it any more.
    pub fn dial_failed(&mut self, now: Now, lid: LinkId, why: &str) {
        self.link_gone(now, lid, why);
    }

    /// Everything that depends on a link learns that it is dead.
    pub(super) fn bury(&mut self, now: Now, lid: LinkId, why: &str, words: Option<Words>) {
        let Some(link) = self.links.get_mut(lid.0) else { return };
        let (used, state, upstream) = (link.used, link.state, link.upstream);
        link.used = LinkUse::Dead;
        link.state = LinkState::Dead;
        if used == LinkUse::Dead {
            return;
        }
        let was_up = state >= LinkState::Up;
        self.counters.links_lost += u64::from(was_up);
        // A refused login is the login's fault, not the upstream's.
        let refused = !was_up && self.is_refusal(lid, upstream, state, used, words.as_ref());
        let url = self.links.get(lid.0).map_or(0, |link| link.url);
        if let Some(u) = self.upstreams.get_mut(upstream.0) {
            let probed = used == LinkUse::Probe && u.facts.is_some() && state == LinkState::Closing;
            // A login that has worked and is refused now is everybody's concern who shares it.
            if refused && matches!(used, LinkUse::Pooled(_)) {
                u.last_error = Some(u.at(url, why));
            }
            if !refused && !probed {
                u.last_error = Some(u.at(url, why));
                if !was_up {
                    u.state = UpstreamState::Down;
                    u.doubted = false;
                } else if state == LinkState::Up {
                    // It may be this link alone. Whoever asks whether we are ready is to hear how it is now, not how it was.
                    u.doubted = true;
                    u.probe_at_ms = now.ms;
                }
                u.next_url = u.next_url.wrapping_add(1);
            }
        }
        match used {
            LinkUse::Probe => self.probe_ended(now, upstream, why),
            LinkUse::Verify(sid) => {
                if self.verified_by(sid, lid) {
                    if let Some(s) = self.sessions.get_mut(sid.0) {
                        s.verify = None;
                    }
                    if refused && words.as_ref().is_none_or(|w| w.0 == 403) {
                        self.verified_no_more(lid);
                    }
                    let hung_up = self.links.get(lid.0).is_some_and(|l| l.hung_up_by_peer);
                    if refused || words.is_some() {
                        self.login_refused(now, sid, words);
                    } else if state >= LinkState::Tune && hung_up {
                        // RabbitMQ says nothing to a login that it cannot read: the client sees just that (SPEC T3).
                        self.login_dropped(sid);
                    } else {
                        self.login_unreachable(now, sid, why);
                    }
                }
            }
            LinkUse::Pinned(sid) => self.pin_lost(now, sid, lid, why, words),
            LinkUse::Pooled(pool) => {
                if let Some(words) = words.as_ref().filter(|w| was_up && w.0 >= 500) {
                    self.strike(now, lid, words);
                }
                self.pooled_link_lost(now, lid, pool, was_up, refused);
            }
            LinkUse::Dead => {}
        }
    }

    pub(super) fn lanes_of(&self, lid: LinkId) -> Vec<LaneId> {
        let lane = |c: &crate::session::upstream::UpChannel| {
            if let ChannelUse::Lane(lane) = c.used { Some(lane) } else { None }
        };
        self.links.get(lid.0).map(|l| l.channels.iter().filter_map(lane).collect()).unwrap_or_default()
    }

    /// Whether a link that was logging in was refused, as opposed to lost. A broker that can says 403; one that cannot, or was not
    /// told that it may (a client's own properties), hangs up without a word.
    fn is_refusal(
        &self,
        lid: LinkId,
        upstream: crate::session::UpstreamId,
        state: LinkState,
        used: LinkUse,
        words: Option<&Words>,
    ) -> bool {
        if let Some((code, text, _)) = words {
            // A limit that has been reached says nothing about whoever ran into it.
            return matches!(code, 403 | 530) && !text.contains("limit");
        }
        if state != LinkState::Tune || !self.links.get(lid.0).is_some_and(|l| l.hung_up_by_peer) {
            return false;
        }
        let speaks = self.upstreams.get(upstream.0).and_then(|u| u.facts.as_ref()).is_some_and(|f| {
            match crate::wire::Table::new(&f.server_properties).get(b"capabilities") {
                Some(crate::wire::Value::Table(t)) => {
                    t.get(b"authentication_failure_close").and_then(|v| v.bool()) == Some(true)
                }
                _ => false,
            }
        });
        !speaks || matches!(used, LinkUse::Pinned(_))
    }
}

/// Whether the broker's words mean that what was to be declared is there, as something else.
fn is_there(words: &Words) -> bool {
    matches!(words.0, 405 | 406) && words.2 != MethodId::BASIC_PUBLISH
}
