//! Deliveries looked at on their way to a worker, where a rule asks for it (SPEC P4): an expired task is not handed on.

use super::Hub;
use crate::session::client::State;
use crate::session::consumers::Consumers;
use crate::session::judge::{Judge, PublishView, SessionFacts};
use crate::session::upstream::{Delivering, Returning};
use crate::session::{LinkId, Now, SessionId};
use crate::wire::Reader;
use crate::wire::frame::{Frame, FrameKind, parse_frame, write_frame};
use crate::wire::method::{self, MethodId, MethodWriter};
use crate::wire::num::u64_of;
use crate::wire::props::ContentHeader;

impl Hub {
    /// Whether deliveries are to be looked at from now on.
    pub fn watch_deliveries(&mut self, watch: bool) {
        self.watch_deliveries = watch;
    }

    /// A client consumes: whether it acknowledges decides how a delivery can be held back.
    pub(super) fn note_consume(&mut self, sid: SessionId, ch: u16, args: Reader<'_>) {
        let mut r = args;
        let (Ok(_), Ok(_), Ok(tag), Ok(bits)) = (r.u16(), r.shortstr(), r.shortstr(), r.u8()) else { return };
        let (no_ack, nowait) = (bits & 2 != 0, bits & 8 != 0);
        // A tag that the broker makes up and does not tell is nobody's.
        if let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch))
            && !(tag.is_empty() && nowait)
        {
            c.consumers.get_or_insert_default().consumes(tag, !no_ack);
        }
    }

    /// The broker has named a consumer.
    pub(super) fn note_consume_ok(&mut self, sid: SessionId, ch: u16, args: Reader<'_>) {
        let mut r = args;
        if let (Ok(tag), Some(consumers)) = (r.shortstr(), self.consumers(sid, ch)) {
            consumers.named(tag);
        }
    }

    /// A consumer has ended: cancelled by its client, and that answered where it waits for an answer; or cancelled by the broker.
    pub(super) fn note_cancel(&mut self, sid: SessionId, ch: u16, args: Reader<'_>) {
        let mut r = args;
        if let (Ok(tag), Some(consumers)) = (r.shortstr(), self.consumers(sid, ch)) {
            consumers.cancelled(tag);
        }
    }

    fn consumers(&mut self, sid: SessionId, ch: u16) -> Option<&mut Consumers> {
        self.sessions.get_mut(sid.0)?.channel(ch)?.consumers.as_deref_mut()
    }

    /// Whether a frame belongs to a delivery that is being looked at.
    pub(super) fn delivery_frame(
        &mut self,
        now: Now,
        lid: LinkId,
        sid: SessionId,
        frame: Frame<'_>,
        judge: &mut dyn Judge,
    ) -> bool {
        let ch = frame.channel.0;
        if frame.kind == FrameKind::Method {
            return self.watch_deliveries && self.begin_delivery(lid, sid, frame);
        }
        let Some(link) = self.links.get_mut(lid.0) else { return false };
        let Some(delivering) = link.delivering.get_mut(&ch) else { return false };
        let content = &mut delivering.content;
        content.left = match (content.left, frame.kind) {
            (None, FrameKind::Header) => {
                frame.payload.get(4..12).and_then(|b| b.first_chunk::<8>()).map(|b| u64::from_be_bytes(*b))
            }
            (Some(left), FrameKind::Body) => Some(left.saturating_sub(u64_of(frame.payload.len()))),
            (left, _) => left,
        };
        write_frame(&mut content.frames, frame.kind, frame.channel, frame.payload);
        if content.left == Some(0) {
            if let Some(whole) = link.delivering.remove(&ch) {
                self.delivered(now, lid, sid, ch, &whole, judge);
            }
        }
        true
    }

    /// basic.deliver to a consumer that acknowledges: kept until it is whole.
    fn begin_delivery(&mut self, lid: LinkId, sid: SessionId, frame: Frame<'_>) -> bool {
        let Ok((MethodId::BASIC_DELIVER, mut r)) = method::split(frame.payload) else { return false };
        let (Ok(consumer), Ok(tag), Ok(_), Ok(exchange), Ok(routing_key)) =
            (r.shortstr(), r.u64(), r.u8(), r.shortstr(), r.shortstr())
        else {
            return false;
        };
        let acknowledges = self.consumers(sid, frame.channel.0).is_some_and(|c| c.acknowledges(consumer));
        let Some(link) = self.links.get_mut(lid.0) else { return false };
        if !acknowledges || link.swallow_close_ok.contains(&frame.channel.0) {
            return false;
        }
        let mut frames = Vec::new();
        write_frame(&mut frames, frame.kind, frame.channel, frame.payload);
        let content =
            Returning { frames, exchange: exchange.into(), routing_key: routing_key.into(), left: None };
        link.delivering.insert(frame.channel.0, Delivering { content, tag });
        true
    }

    fn delivered(
        &mut self,
        now: Now,
        lid: LinkId,
        sid: SessionId,
        ch: u16,
        whole: &Delivering,
        judge: &mut dyn Judge,
    ) {
        let held = self.hold(now, sid, whole, judge);
        if let Some(held) = held {
            self.counters.deliveries_held += 1;
            self.author_all(now, sid, ch, 0, held.instead);
            let answer = if held.reject {
                MethodWriter::new(MethodId::BASIC_REJECT).longlong(whole.tag).octet(0)
            } else {
                MethodWriter::new(MethodId::BASIC_ACK).longlong(whole.tag).octet(0)
            };
            self.link_push(lid, ch, &answer.done());
            return;
        }
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if s.state == State::Running {
            s.put_whole(&whole.content.frames, ch);
        }
        self.mark_client(sid);
    }

    fn hold(
        &self,
        now: Now,
        sid: SessionId,
        whole: &Delivering,
        judge: &mut dyn Judge,
    ) -> Option<crate::session::Held> {
        let s = self.sessions.get(sid.0)?;
        let mut rest = whole.content.frames.as_slice();
        let mut next = || {
            let frame = parse_frame(rest, 0).ok()??;
            rest = rest.get(frame.wire_len()..).unwrap_or(&[]);
            Some(frame.payload)
        };
        let (_, header_payload) = (next()?, next()?);
        let header = ContentHeader::parse(header_payload).ok()?;
        let mut body = Vec::new();
        while let Some(part) = next() {
            body.push(part);
        }
        let view = PublishView {
            session: SessionFacts {
                vhost: &s.vhost,
                user: s.credentials.as_ref().map_or("", |c| &c.user),
                peer: s.peer,
                confirms: false,
                frame_max: 0,
            },
            exchange: &whole.content.exchange,
            routing_key: &whole.content.routing_key,
            mandatory: false,
            header: &header,
            header_payload,
            body: &body,
        };
        judge.delivery(now, &view)
    }
}
