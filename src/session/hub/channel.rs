//! A client's channel: how it opens, and how it closes from either side.

use super::assembly::still_to_come;
use super::connection::syntax;
use super::{Hub, Step};
use crate::session::client::{ChannelState, Gate, Pin, Reply, Unfinished};
use crate::session::{Now, Refusal, SessionId};
use crate::wire::frame::{Frame, FrameKind};
use crate::wire::method::{self, MethodId, MethodWriter};

impl Hub {
    pub(super) fn channel_open(&mut self, sid: SessionId, frame: Frame<'_>) -> Result<Step, Refusal> {
        let ch = frame.channel.0;
        let took = Ok(Step::Took(frame.wire_len()));
        let Some(s) = self.sessions.get_mut(sid.0) else { return took };
        if frame.kind != FrameKind::Method {
            return Err(Refusal::no_method());
        }
        let (id, _) = method::split(frame.payload).map_err(syntax)?;
        if id != MethodId::CHANNEL_OPEN {
            // RabbitMQ is still busy with a channel's end when it is closed a second time, and answers that too.
            if id == MethodId::CHANNEL_CLOSE && s.last_closed == ch {
                self.client_push(sid, ch, &MethodWriter::new(MethodId::CHANNEL_CLOSE_OK).done());
                return took;
            }
            return Err(Refusal::connection(504, "expected 'channel.open'", id));
        }
        method::check(frame.payload, &self.limits.table).map_err(syntax)?;
        // RabbitMQ counts open channels, whatever their numbers.
        if s.channel_max != 0 && s.channels.len() >= usize::from(s.channel_max) {
            self.counters.limit_channels += 1;
            let max = s.channel_max;
            return Err(Refusal::connection(
                530,
                format!("number of channels opened ({max}) has reached the negotiated channel_max ({max})"),
                MethodId::NONE,
            ));
        }
        let pin = s.pin;
        match pin {
            Pin::Up(lid) => {
                if self.number_is_taken(sid, ch) {
                    if let Some(s) = self.sessions.get_mut(sid.0) {
                        s.gate = Gate::Number(ch);
                        self.barriers.push(sid);
                    }
                    return Ok(Step::Hold);
                }
                if let Some(s) = self.sessions.get_mut(sid.0) {
                    s.add_channel(ch);
                    if let Some(c) = s.channel(ch) {
                        c.own_replies.push_back(Reply::Told);
                    }
                }
                self.link_push(lid, ch, frame.payload);
            }
            _ => {
                s.add_channel(ch);
                self.client_push(sid, ch, &MethodWriter::new(MethodId::CHANNEL_OPEN_OK).longstr(b"").done());
            }
        }
        took
    }

    /// Whether a channel number is still being closed on the client's own link: the broker may have said close as well, and throws
    /// everything away but the answer to that.
    pub(super) fn number_is_taken(&self, sid: SessionId, ch: u16) -> bool {
        self.pinned_link(sid)
            .and_then(|l| self.links.get(l.0))
            .is_some_and(|l| l.swallow_close_ok.contains(&ch))
    }

    /// What comes on a channel that is closing does nothing; but RabbitMQ goes on putting frames together, and so whoever breaks a
    /// content off there is told (rabbit_reader: the assembler knows nothing of a channel's state).
    pub(super) fn while_channel_closes(&mut self, sid: SessionId, frame: Frame<'_>) -> Result<(), Refusal> {
        let ch = frame.channel.0;
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) else { return Ok(()) };
        match c.unfinished.take() {
            Some(Unfinished::Due(left)) => {
                c.unfinished = still_to_come(left, frame)?.map(Unfinished::Due);
                return Ok(());
            }
            Some(Unfinished::Refused(left)) if frame.kind == FrameKind::Body => {
                c.unfinished = still_to_come(Some(left), frame)?.flatten().map(Unfinished::Refused);
                return Ok(());
            }
            Some(Unfinished::Refused(_)) | None => {}
        }
        if frame.kind != FrameKind::Method {
            return Err(Refusal::no_method());
        }
        let (id, _) = method::split(frame.payload).map_err(syntax)?;
        if id == MethodId::BASIC_PUBLISH {
            c.unfinished = Some(Unfinished::Due(None));
            return Ok(());
        }
        method::check(frame.payload, &self.limits.table).map_err(syntax)?;
        let pin = self.sessions.get(sid.0).map(|s| s.pin);
        match id {
            MethodId::CHANNEL_CLOSE_OK => {
                let broker_closed =
                    self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)).is_some_and(|c| c.broker_closed);
                if let (Some(Pin::Up(lid)), true) = (pin, broker_closed) {
                    self.link_push(lid, ch, frame.payload);
                }
                self.forget_channel(sid, ch);
            }
            // RabbitMQ's own word for it.
            MethodId::CHANNEL_OPEN => {
                return Err(Refusal::connection(504, "second 'channel.open' seen", MethodId::CHANNEL_OPEN));
            }
            // Both said close: each answers the other's, and close-ok is still to come.
            MethodId::CHANNEL_CLOSE => {
                self.client_push(sid, ch, &MethodWriter::new(MethodId::CHANNEL_CLOSE_OK).done());
            }
            _ => {}
        }
        Ok(())
    }

    /// A client's channel is closed for what this frame says: the rest of a content whose frame it is may still come.
    pub(super) fn note_unfinished(&mut self, sid: SessionId, frame: Frame<'_>) {
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(frame.channel.0)) else { return };
        c.unfinished = match frame.kind {
            FrameKind::Method => {
                let publishes =
                    method::split(frame.payload).is_ok_and(|(id, _)| id == MethodId::BASIC_PUBLISH);
                publishes.then_some(Unfinished::Due(None))
            }
            FrameKind::Header => {
                still_to_come(None, frame).unwrap_or_default().flatten().map(Unfinished::Refused)
            }
            FrameKind::Body | FrameKind::Heartbeat => None,
        };
    }

    pub(super) fn client_closes_channel(
        &mut self,
        now: Now,
        sid: SessionId,
        frame: Frame<'_>,
    ) -> Result<Step, Refusal> {
        let ch = frame.channel.0;
        let pin = self.sessions.get(sid.0).map(|s| s.pin);
        match pin {
            Some(Pin::Up(lid)) => {
                if !self.barrier(now, sid, false) {
                    return Ok(Step::Hold);
                }
                self.send_answers(now);
                self.link_push(lid, ch, frame.payload);
                self.orphan_channel(now, sid, ch);
                if let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) {
                    c.state = ChannelState::ClosingByClient;
                }
            }
            _ => {
                if self.may_still_be_told(sid, Some(ch)) && !self.barrier(now, sid, false) {
                    return Ok(Step::Hold);
                }
                self.forget_pass(sid);
                self.send_answers(now);
                self.orphan_channel(now, sid, ch);
                self.forget_channel(sid, ch);
                if let Some(s) = self.sessions.get_mut(sid.0) {
                    s.last_closed = ch;
                }
                self.client_push(sid, ch, &MethodWriter::new(MethodId::CHANNEL_CLOSE_OK).done());
            }
        }
        Ok(Step::Took(frame.wire_len()))
    }

    /// channel.close to a client; what it handed over on the channel goes on.
    pub(super) fn close_client_channel(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        code: u16,
        text: &str,
        cause: MethodId,
    ) {
        self.send_answers(now);
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        let pin = s.pin;
        let Some(c) = s.channel(ch) else { return };
        if c.state != ChannelState::Open {
            return;
        }
        c.begin_closing();
        self.client_push(sid, ch, &method::write_close(MethodId::CHANNEL_CLOSE, code, text, cause));
        self.orphan_channel(now, sid, ch);
        if let Pin::Up(lid) = pin {
            // The broker's side of the channel goes with it: its consumers, its unacknowledged deliveries.
            if let Some(link) = self.links.get_mut(lid.0) {
                link.swallow_close_ok.insert(ch);
            }
            self.link_push(
                lid,
                ch,
                &method::write_close(MethodId::CHANNEL_CLOSE, 200, "closed by umbel", MethodId::NONE),
            );
        }
    }

    pub(super) fn forget_channel(&mut self, sid: SessionId, ch: u16) {
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.remove_channel(ch);
        }
    }
}
