//! How a client's connection ends: who says close, who answers, and who hangs up first.
//!
//! ```text
//! the client closes:  close ─▶ (what must settle first) ─▶ close-ok ─▶ Leaving ─▶ it hangs up, or the deadline
//! we close:           connection.close ─▶ Closing ─▶ close-ok, or the deadline: we hang up
//! it takes nothing:   Done, and not an octet written for longer than the deadline: it is cut
//! ```

use super::{Action, Hub, Step};
use crate::session::client::{Gate, Pin, State};
use crate::session::{Now, Refusal, Scope, SessionId};
use crate::wire::frame::{ChannelId, Frame, FrameKind, write_frame};
use crate::wire::method::{self, MethodId, MethodWriter};

impl Hub {
    /// Everything is said to this client.
    pub(super) fn finish(&mut self, sid: SessionId) {
        if let Some(s) = self.sessions.get_mut(sid.0) {
            if s.state != State::Done {
                s.state = State::Done;
                s.gate = Gate::Open;
                self.actions.push_back(Action::HangUp(sid));
            }
        }
    }

    /// connection.close-ok to a client that has said goodbye, whatever we have said to it. Whoever was logged in closes the socket
    /// itself, in its own time.
    pub(super) fn part_from(&mut self, now: Now, sid: SessionId) {
        let (draining, leave_ms) = (self.draining, self.limits.leave_ms);
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if s.state == State::Done {
            return;
        }
        let close_ok = MethodWriter::new(MethodId::CONNECTION_CLOSE_OK).done();
        write_frame(&mut s.out, FrameKind::Method, ChannelId::CONNECTION, &close_ok);
        self.mark_client(sid);
        let Some(s) = self.sessions.get_mut(sid.0).filter(|s| s.state != State::Leaving) else { return };
        let beat_ms = u64::from(s.heartbeat_s) * 1000;
        let wait_ms = if beat_ms > 0 { beat_ms.min(leave_ms) } else { leave_ms };
        s.state = State::Leaving;
        s.gate = Gate::Open;
        s.deadline_ms = now.ms + wait_ms;
        self.actions.push_back(Action::Resume(sid));
        if draining {
            self.finish(sid);
        }
    }

    /// We have said connection.close: everything but the end is thrown away.
    pub(super) fn while_closing(&mut self, now: Now, sid: SessionId, frame: Frame<'_>) {
        if frame.kind != FrameKind::Method || frame.channel.0 != 0 {
            return;
        }
        match method::split(frame.payload).map(|(id, _)| id) {
            Ok(MethodId::CONNECTION_CLOSE_OK) => self.finish(sid),
            Ok(MethodId::CONNECTION_CLOSE) => self.part_from(now, sid),
            _ => {}
        }
    }

    /// connection.close from a client: at once, except where a link of its own must be gone first (its exclusive queues).
    pub(super) fn client_closes(
        &mut self,
        now: Now,
        sid: SessionId,
        frame: Frame<'_>,
    ) -> Result<Step, Refusal> {
        let Some(s) = self.sessions.get(sid.0) else { return Ok(Step::Took(0)) };
        if let (Pin::Up(lid), State::Running) = (s.pin, s.state) {
            if !self.barrier(now, sid, false) {
                return Ok(Step::Hold);
            }
            self.link_push(lid, 0, frame.payload);
            if let Some(link) = self.links.get_mut(lid.0) {
                link.said_close = true;
            }
            if let Some(s) = self.sessions.get_mut(sid.0) {
                s.gate = Gate::Upstream;
                s.deadline_ms = now.ms + self.limits.close_ms;
            }
            return Ok(Step::Took(frame.wire_len()));
        }
        if self.may_still_be_told(sid, None) && !self.barrier(now, sid, false) {
            return Ok(Step::Hold);
        }
        self.send_answers(now);
        self.orphan_lanes(now, sid);
        self.drop_verify(sid);
        self.part_from(now, sid);
        Ok(Step::Took(frame.wire_len()))
    }

    /// Tells a client what is refused, in its scope.
    pub(super) fn refuse(&mut self, now: Now, sid: SessionId, channel: u16, refusal: &Refusal) {
        match refusal.scope {
            Scope::Channel => {
                self.counters.channel_errors += 1;
                self.close_client_channel(
                    now,
                    sid,
                    channel,
                    refusal.code,
                    &refusal.reply_text(),
                    refusal.cause,
                );
            }
            Scope::Connection => {
                self.counters.connection_errors += 1;
                // RabbitMQ hangs up without a word on whatever is malformed before tune-ok; only logins are answered.
                let early = self.sessions.get(sid.0).is_some_and(|s| match s.state {
                    State::StartOk | State::TuneOk | State::Verifying => !matches!(refusal.code, 403 | 320),
                    State::Open => refusal.code == 541,
                    _ => false,
                });
                if early {
                    self.drop_verify(sid);
                    self.finish(sid);
                    return;
                }
                self.close_client(now, sid, refusal.code, &refusal.reply_text(), refusal.cause);
            }
        }
    }

    /// connection.close to a client, once; its publishes so far go on.
    pub(super) fn close_client(&mut self, now: Now, sid: SessionId, code: u16, text: &str, cause: MethodId) {
        self.send_answers(now);
        let payload = method::write_close(MethodId::CONNECTION_CLOSE, code, text, cause);
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if matches!(s.state, State::Closing | State::Leaving | State::Done | State::Draining) {
            return;
        }
        write_frame(&mut s.out, FrameKind::Method, ChannelId::CONNECTION, &payload);
        s.state = State::Closing;
        s.gate = Gate::Open;
        s.deadline_ms = now.ms + self.limits.close_ms;
        self.mark_client(sid);
        self.unpin(now, sid);
        self.drop_verify(sid);
        self.orphan_lanes(now, sid);
        self.actions.push_back(Action::Resume(sid));
    }
}
