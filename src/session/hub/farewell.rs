//! How a client's connection ends: who says close, who answers, and who hangs up first.
//!
//! ```text
//! the client closes:  close ─▶ (what must settle first) ─▶ close-ok ─▶ Leaving ─▶ it hangs up, or the deadline
//! we close:           connection.close ─▶ Closing ─▶ close-ok, or the deadline: we hang up
//! it takes nothing:   Done, and not an octet written for longer than the deadline: it is cut
//! ```

use super::{Action, Hub, Step};
use crate::session::client::{Gate, Pin, State};
use crate::session::{Now, Refusal, SessionId};
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
}
