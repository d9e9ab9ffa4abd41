//! Links: bytes from upstreams, and their deaths. Logins are in `login`, what a client's own link says is in `pin`, who is at fault when
//! a leased channel is closed in `blame`.

use std::rc::Rc;

use super::Hub;
use super::parted::blames_its_client;
use crate::session::judge::Judge;
use crate::session::upstream::{ChannelUse, LinkState, LinkUse, UpstreamState};
use crate::session::{LaneId, LinkId, Now};
use crate::wire::frame::{Frame, FrameKind, parse_frame};
use crate::wire::method::{self, MethodId, MethodWriter};

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
        let (url, user) = self.links.get(lid.0).map_or((0, Rc::default()), |link| {
            (link.url, link.credentials.as_ref().map_or_else(Rc::default, |c| Rc::clone(&c.user)))
        });
        if let Some(u) = self.upstreams.get_mut(upstream.0) {
            let probed = used == LinkUse::Probe && u.facts.is_some() && state == LinkState::Closing;
            // A login that has worked and is refused now is everybody's concern who shares it.
            if refused && matches!(used, LinkUse::Pooled(_)) {
                u.last_error = Some(u.at(url, &format!("the login of '{user}' is refused: {why}")));
            }
            // A client's own link that ends by its fault says nothing about the upstream: it works, and keeps its rules.
            let own_fault = was_up && matches!(used, LinkUse::Pinned(_)) && blames_its_client(words.as_ref());
            if !refused && !probed && !own_fault {
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
            LinkUse::Pinned(sid) => {
                if refused {
                    self.note_turned_away(sid, || why.to_owned());
                } else if let Some(words) = words.as_ref().filter(|w| blames_its_client(Some(w))) {
                    self.note_parted(sid, words);
                }
                self.pin_lost(now, sid, lid, why, words);
            }
            LinkUse::Pooled(pool) => {
                let silent = self.links.get(lid.0).is_some_and(|l| l.hung_up_by_peer);
                match words.as_ref() {
                    Some(words) if was_up && words.0 >= 500 => self.strike(now, lid, words),
                    None if was_up && silent => self.strike_without_words(lid),
                    _ => {}
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
