//! A method that goes along a lane, as publishes do, and what is answered for an upstream that cannot be asked.

use super::Hub;
use super::frames::Frames;
use super::recall::owner;
use crate::session::lane::Kind;
use crate::session::upstream::LinkState;
use crate::session::{LaneId, Now, Refusal, SessionId, UpstreamId};
use crate::wire::frame::{ChannelId, FRAME_OVERHEAD, FrameKind, write_frame};
use crate::wire::method::{self, MethodId};
use crate::wire::num::u64_of;

impl Hub {
    /// A method whose reply the lane waits for.
    pub(super) fn relay(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        id: MethodId,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        let own = self.sessions.get(sid.0).map_or(UpstreamId(0), |s| s.upstream);
        let Some(lane) = self.lane_for(now, sid, ch, own) else { return Ok(()) };
        let full = self.window_full(lane, u64_of(payload.len()));
        let (payload, nowait) = super::needs::without_nowait(id, payload);
        let mut frame = Vec::with_capacity(payload.len() + FRAME_OVERHEAD);
        write_frame(&mut frame, FrameKind::Method, ChannelId(ch), &payload);
        if super::needs::has_reply(id) {
            // What is answered here does not overtake what the broker has yet to answer.
            let owing =
                self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)).is_some_and(|c| c.lane_replies > 0);
            let remembered = if owing { None } else { self.remembered_declare(lane, &payload) };
            if let Some(reply) = remembered {
                // The upstream cannot be asked: what worked before works again, and is declared when it is back (SPEC D4).
                let spills = full || self.lanes.get(lane.0).is_some_and(|l| self.spills(l.pool));
                let spilled = spills && self.spill_declaration(now, lane, id, &payload);
                if full && !spilled {
                    return Err(window_refusal(id));
                }
                self.counters.declares_remembered += 1;
                if !nowait {
                    self.send_answers(now);
                    self.note_reply(sid, ch, method_of(&reply), &reply);
                    self.client_push(sid, ch, &reply);
                }
                if !spilled {
                    self.put(now, lane, Frames::Raw(&frame), Kind::Method { id, tell: false }, 0, None, None);
                }
                return Ok(());
            }
            if full {
                return Err(window_refusal(id));
            }
            if let (false, Some(c)) = (nowait, self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch))) {
                c.lane_replies += 1;
            }
            self.put(now, lane, Frames::Raw(&frame), Kind::Method { id, tell: !nowait }, 0, None, None);
        }
        Ok(())
    }

    /// Whether a pool's upstream answers at the moment.
    pub(super) fn answers(&self, pool: &crate::session::upstream::Pool) -> bool {
        pool.links.iter().any(|l| self.links.get(l.0).is_some_and(|l| l.state == LinkState::Up && !l.blocked))
    }

    /// The answer that this very declaration got before, where its upstream cannot answer now.
    fn remembered_declare(&self, lane: LaneId, payload: &[u8]) -> Option<Box<[u8]>> {
        let pool = self.pools.get(self.lanes.get(lane.0)?.pool.0)?;
        if self.answers(pool) { None } else { self.declared.answer(&owner(pool), payload) }
    }
}

fn method_of(payload: &[u8]) -> MethodId {
    method::split(payload).map_or(MethodId::NONE, |(id, _)| id)
}

fn window_refusal(cause: MethodId) -> Refusal {
    Refusal::connection(506, "the upstream takes no more and the window is full", cause)
}
