//! Pinned sessions: a link of one's own, with the client's properties and channel numbers (SPEC T6, T7, D5).

use std::rc::Rc;

use super::link::Words;
use super::settle::relay_frames;
use super::{Action, Hub};
use crate::session::client::{Channel, ChannelState, Gate, Pin, Reply, State};
use crate::session::judge::Judge;
use crate::session::upstream::{LinkState, LinkUse};
use crate::session::{LinkId, Now, SessionId};
use crate::wire::frame::{Frame, FrameKind};
use crate::wire::method::{self, MethodId, MethodWriter};
use crate::wire::num::usize_of;

impl Hub {
    /// The client's own link; `None` while it is on its way: the gate is closed and the frame comes again.
    pub(super) fn ensure_pinned(&mut self, now: Now, sid: SessionId) -> Option<LinkId> {
        let s = self.sessions.get_mut(sid.0)?;
        match s.pin {
            Pin::Up(lid) => return Some(lid),
            Pin::Dialing(_) => s.gate = Gate::Upstream,
            Pin::None => {
                s.gate = Gate::Upstream;
                let pool = s.pool.and_then(|p| self.pools.get(p.0))?;
                let (upstream, vhost, credentials) =
                    (pool.upstream, Rc::clone(&pool.vhost), pool.credentials.clone());
                let properties = Rc::clone(&s.properties);
                self.counters.pins += 1;
                let lid =
                    self.dial(now, upstream, LinkUse::Pinned(sid), Some(credentials), vhost, properties);
                if let Some(s) = self.sessions.get_mut(sid.0) {
                    s.pin = Pin::Dialing(lid);
                }
            }
        }
        None
    }

    /// The link is there: the client's channels are opened on it, and its frame is looked at again.
    pub(super) fn pin_up(&mut self, now: Now, sid: SessionId, lid: LinkId) {
        let _ = now;
        let Some(s) = self.sessions.get_mut(sid.0) else {
            self.abandon_link(lid);
            return;
        };
        s.pin = Pin::Up(lid);
        s.gate = Gate::Open;
        let open: Vec<u16> =
            s.channels.iter().filter(|(_, c)| c.state == ChannelState::Open).map(|(n, _)| *n).collect();
        for ch in open {
            if let Some(link) = self.links.get_mut(lid.0) {
                link.swallow_open_ok.insert(ch);
            }
            self.link_push(lid, ch, &MethodWriter::new(MethodId::CHANNEL_OPEN).shortstr(b"").done());
        }
        self.actions.push_back(Action::Resume(sid));
    }

    /// The client is gone or going: its link with it. The broker requeues and cleans up at once.
    pub(super) fn unpin(&mut self, now: Now, sid: SessionId) {
        let _ = now;
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        let pin = std::mem::replace(&mut s.pin, Pin::None);
        for (_, c) in &mut s.channels {
            c.broker_closed = false;
        }
        if let Pin::Up(lid) | Pin::Dialing(lid) = pin {
            self.abandon_link(lid);
        }
    }

    /// The client's own link has died: its session sees it as the broker would show it (D5).
    pub(super) fn pin_lost(
        &mut self,
        now: Now,
        sid: SessionId,
        lid: LinkId,
        why: &str,
        words: Option<Words>,
    ) {
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if s.pin != Pin::Up(lid) && s.pin != Pin::Dialing(lid) {
            return;
        }
        let waits_for_close_ok = s.gate == Gate::Upstream && matches!(s.pin, Pin::Up(_));
        s.pin = Pin::None;
        if waits_for_close_ok {
            self.part_from(now, sid);
            return;
        }
        let (code, text, cause) = words.unwrap_or_else(|| {
            (320, format!("CONNECTION_FORCED - upstream link lost: {why}"), MethodId::NONE)
        });
        self.close_client(now, sid, code, &text, cause);
    }

    /// The broker's answer to the client's own connection.close.
    pub(super) fn pinned_close_ok(&mut self, now: Now, lid: LinkId) {
        let Some(LinkUse::Pinned(sid)) = self.links.get(lid.0).map(|l| l.used) else { return };
        self.send_answers(now);
        self.unpin(now, sid);
        self.orphan_lanes(now, sid);
        self.part_from(now, sid);
    }

    /// A frame on a channel of a client's own link: it goes to the client as it is.
    pub(super) fn pinned_frame(
        &mut self,
        now: Now,
        lid: LinkId,
        sid: SessionId,
        frame: Frame<'_>,
        rest: &[u8],
        judge: &mut dyn Judge,
    ) {
        let ch = frame.channel.0;
        if self.delivery_frame(now, lid, sid, frame, judge) {
            return;
        }
        if frame.kind == FrameKind::Method {
            let Ok((id, args)) = method::split(frame.payload) else {
                self.link_failed(now, lid, "a method frame of the upstream ends early");
                return;
            };
            if !self.pinned_method(now, lid, sid, ch, id, args, frame.payload) {
                return;
            }
        } else if !self.is_relaying(sid, ch) {
            // The content of a delivery on a channel that we have closed.
            return;
        }
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if s.state != State::Running {
            return;
        }
        let bytes = rest.get(..frame.wire_len()).unwrap_or(&[]);
        if frame.kind == FrameKind::Body && s.frame_max != 0 && frame.wire_len() > usize_of(s.frame_max) {
            let frame_max = s.frame_max;
            relay_frames(&mut s.out, bytes, ch, frame_max);
        } else {
            s.out.extend_from_slice(bytes);
        }
        if let Ok(index) = s.channels.binary_search_by_key(&ch, |(n, _)| *n) {
            if let Some((_, c)) = s.channels.get_mut(index) {
                note_content(c, frame);
                if c.relaying.is_none() {
                    s.out.append(&mut c.deferred);
                }
            }
        }
        self.mark_client(sid);
    }

    fn is_relaying(&mut self, sid: SessionId, ch: u16) -> bool {
        self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)).is_some_and(|c| c.relaying.is_some())
    }

    /// What a method on a client's own link means to us; `false`: the client does not see it.
    #[expect(clippy::too_many_arguments, reason = "a method with its whole context, taken apart once")]
    fn pinned_method(
        &mut self,
        now: Now,
        lid: LinkId,
        sid: SessionId,
        ch: u16,
        id: MethodId,
        args: crate::wire::Reader<'_>,
        payload: &[u8],
    ) -> bool {
        let Some(link) = self.links.get_mut(lid.0) else { return false };
        if link.swallow_close_ok.contains(&ch) {
            match id {
                MethodId::CHANNEL_CLOSE_OK => drop(link.swallow_close_ok.remove(&ch)),
                // An answer to our own channel.open, which we closed again before it came.
                MethodId::CHANNEL_OPEN_OK => drop(link.swallow_open_ok.remove(&ch)),
                // Both said close: the broker waits for our close-ok as we for its own.
                MethodId::CHANNEL_CLOSE => {
                    self.link_push(lid, ch, &MethodWriter::new(MethodId::CHANNEL_CLOSE_OK).done());
                }
                _ => {}
            }
            return false;
        }
        match id {
            MethodId::CHANNEL_OPEN_OK => !link.swallow_open_ok.remove(&ch) && self.reply_came(sid, ch),
            // We asked for confirms on an own channel without the client's knowledge of when.
            MethodId::CONFIRM_SELECT_OK => false,
            MethodId::BASIC_ACK | MethodId::BASIC_NACK => {
                self.own_confirmed(now, sid, ch, id, args);
                false
            }
            MethodId::CHANNEL_CLOSE => {
                self.send_answers(now);
                self.orphan_channel(now, sid, ch);
                let open = self
                    .sessions
                    .get_mut(sid.0)
                    .and_then(|s| s.channel(ch))
                    .filter(|c| c.state == ChannelState::Open);
                match open {
                    Some(c) => {
                        c.begin_closing();
                        c.broker_closed = true;
                        self.counters.channel_errors += 1;
                        true
                    }
                    None => {
                        // The client is closing it as well: both get their close-ok.
                        self.link_push(lid, ch, &MethodWriter::new(MethodId::CHANNEL_CLOSE_OK).done());
                        false
                    }
                }
            }
            MethodId::CHANNEL_CLOSE_OK => {
                if let Some(s) = self.sessions.get_mut(sid.0) {
                    s.remove_channel(ch);
                    s.last_closed = ch;
                }
                true
            }
            MethodId::BASIC_CONSUME_OK => {
                self.note_consume_ok(sid, ch, args);
                self.reply_came(sid, ch)
            }
            MethodId::CHANNEL_FLOW => {
                if let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) {
                    c.flows += 1;
                }
                true
            }
            MethodId::BASIC_CANCEL_OK => {
                self.note_cancel(sid, ch, args);
                self.reply_came(sid, ch)
            }
            MethodId::BASIC_CANCEL => {
                self.note_cancel(sid, ch, args);
                true
            }
            MethodId::BASIC_DELIVER | MethodId::BASIC_RETURN => true,
            _ => {
                self.note_reply(sid, ch, id, payload);
                self.reply_came(sid, ch)
            }
        }
    }

    /// A reply has come on a client's own link; whether the client waits for it.
    fn reply_came(&mut self, sid: SessionId, ch: u16) -> bool {
        let reply =
            self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)).and_then(|c| c.own_replies.pop_front());
        reply != Some(Reply::Ours)
    }

    /// Confirms of an own channel: the broker counts from where it was switched.
    fn own_confirmed(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        id: MethodId,
        args: crate::wire::Reader<'_>,
    ) {
        let Ok((tag, multiple)) = method::ack(args) else { return };
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) else { return };
        let Some(window) = &c.confirm else { return };
        let last = c.own_offset.saturating_add(tag);
        let first = if multiple { window.first().max(c.own_offset + 1) } else { last };
        // A broker may say any number.
        for seq in first..=last.min(window.last()) {
            self.settle_seq(sid, ch, seq, id == MethodId::BASIC_ACK);
        }
        self.send_answers(now);
    }

    /// Whether a link is a client's own and up: for `look`.
    pub(super) fn pinned_to(&self, lid: LinkId) -> Option<SessionId> {
        match self.links.get(lid.0) {
            Some(l) if l.state != LinkState::Dead => match l.used {
                LinkUse::Pinned(sid) => Some(sid),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Follows a content through its frames.
fn note_content(c: &mut Channel, frame: Frame<'_>) {
    c.relaying = match (frame.kind, c.relaying) {
        (FrameKind::Method, _) => {
            let carries = method::split(frame.payload).is_ok_and(|(id, _)| {
                matches!(id, MethodId::BASIC_DELIVER | MethodId::BASIC_RETURN | MethodId::BASIC_GET_OK)
            });
            carries.then_some(None)
        }
        (FrameKind::Header, Some(None)) => {
            let size = frame
                .payload
                .get(4..12)
                .and_then(|b| b.first_chunk::<8>())
                .map_or(0, |b| u64::from_be_bytes(*b));
            (size > 0).then_some(Some(size))
        }
        (FrameKind::Body, Some(Some(left))) => {
            let left = left.saturating_sub(crate::wire::num::u64_of(frame.payload.len()));
            (left > 0).then_some(Some(left))
        }
        (_, as_it_was) => as_it_was,
    };
}
