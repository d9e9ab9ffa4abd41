//! One message from its frames: looked ahead where all of it is in the buffer, collected where it comes in pieces.

use super::{Hub, Step};
use crate::session::client::Session;
use crate::session::judge::Judge;
use crate::session::{Now, Refusal, SessionId};
use crate::wire::frame::{Frame, FrameKind, parse_frame, write_frame};
use crate::wire::method::{self, MethodId, Publish};
use crate::wire::num::{u64_of, usize_clamped};
use crate::wire::props::{ContentHeader, PropsError};
use crate::wire::table::{Outline, TableError, check_and_outline};

/// A message that is all there.
pub(super) struct Whole<'a> {
    /// Its frames as the client sent them, one after the other.
    pub(super) frames: &'a [u8],
    pub(super) method_payload: &'a [u8],
    pub(super) publish: Publish<'a>,
    pub(super) header: ContentHeader<'a>,
    pub(super) header_payload: &'a [u8],
    pub(super) body: &'a [&'a [u8]],
}

/// A message that is collected is given so much room at once, where so much is to follow: what is not written to takes no memory.
const STEP_BYTES: usize = 128 * 1024;

impl Hub {
    pub(super) fn read_header<'a>(
        &mut self,
        payload: &'a [u8],
        outline: &'a mut Outline,
    ) -> Result<ContentHeader<'a>, Refusal> {
        let mut header = ContentHeader::parse(payload).map_err(|e| {
            let code = if matches!(e, PropsError::Class(_) | PropsError::Weight(_)) { 505 } else { 541 };
            Refusal::connection(code, e.to_string(), MethodId::BASIC_PUBLISH)
        })?;
        if let Some(table) = header.headers() {
            check_and_outline(table.bytes(), &self.limits.table, outline).map_err(|e| {
                self.counters.limit_table += 1;
                let code =
                    if matches!(e, TableError::TooDeep | TableError::TooManyEntries) { 502 } else { 541 };
                Refusal::connection(code, e.to_string(), MethodId::BASIC_PUBLISH)
            })?;
            header.set_outline(outline);
        }
        Ok(header)
    }

    fn bounded(&mut self, size: u64) -> Result<(), Refusal> {
        if size > self.limits.message_bytes {
            self.counters.limit_message += 1;
            return Err(Refusal::channel(
                406,
                format!(
                    "message size {size} is larger than configured max size {}",
                    self.limits.message_bytes
                ),
                MethodId::BASIC_PUBLISH,
            ));
        }
        Ok(())
    }

    /// A header or body frame of a message that is being collected.
    pub(super) fn content_frame(
        &mut self,
        now: Now,
        sid: SessionId,
        frame: Frame<'_>,
        judge: &mut dyn Judge,
    ) -> Result<Step, Refusal> {
        let ch = frame.channel.0;
        let took = Step::Took(frame.wire_len());
        let left = self
            .sessions
            .get_mut(sid.0)
            .and_then(|s| s.channel(ch))
            .and_then(|c| c.assembly.as_ref())
            .and_then(|a| a.left);
        let begins = left.is_none();
        let left = still_to_come(left, frame)?.flatten().unwrap_or(0);
        if begins {
            self.bounded(left)?;
            self.read_header(frame.payload, &mut Outline::default())?;
        }
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) else { return Ok(took) };
        let Some(assembly) = &mut c.assembly else { return Ok(took) };
        assembly.left = Some(left);
        make_room(&mut assembly.frames, frame.wire_len(), usize_clamped(left));
        write_frame(&mut assembly.frames, frame.kind, frame.channel, frame.payload);
        if left > 0 {
            assembly.count();
            return self.make_room(now, sid).map_or(Ok(took), Err);
        }
        let Some(assembly) = c.assembly.take() else { return Ok(took) };
        self.collected(now, sid, ch, &assembly.frames, judge)?;
        Ok(took)
    }

    /// Messages that are begun and not finished take no more than may wait for confirms, or than the largest message: beyond it goes
    /// whoever holds most of them (SPEC S1, T5). What is to be said, where that is the client that speaks.
    fn make_room(&mut self, now: Now, sid: SessionId) -> Option<Refusal> {
        let bound = self.limits.memory_bytes.max(self.limits.message_bytes);
        // A buffer that grows takes up to twice what it holds.
        while u64_of(self.assembling.get()) > bound.saturating_mul(2) {
            let held = |s: &Session| -> usize {
                s.channels.iter().filter_map(|(_, c)| c.assembly.as_ref()).map(|a| a.frames.capacity()).sum()
            };
            let (most, _) =
                self.sessions.iter().map(|(id, s)| (id, held(s))).max_by_key(|(_, held)| *held)?;
            self.counters.limit_assembly += 1;
            for (_, c) in &mut self.sessions.get_mut(most)?.channels {
                c.assembly = None;
            }
            let words = "messages that are begun and not finished take too much memory";
            let refusal = Refusal::connection(506, words, MethodId::BASIC_PUBLISH);
            if most == sid.0 {
                return Some(refusal);
            }
            self.refuse(now, SessionId(most), 0, &refusal);
        }
        None
    }

    fn collected(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        frames: &[u8],
        judge: &mut dyn Judge,
    ) -> Result<(), Refusal> {
        let mut rest = frames;
        let mut next = || match parse_frame(rest, 0) {
            Ok(Some(frame)) => {
                rest = rest.get(frame.wire_len()..).unwrap_or(&[]);
                Some(frame.payload)
            }
            _ => None,
        };
        let (Some(method_payload), Some(header_payload)) = (next(), next()) else { return Ok(()) };
        let mut body = Vec::new();
        while let Some(part) = next() {
            body.push(part);
        }
        let (_, args) = method::split(method_payload).map_err(super::connection::syntax)?;
        let publish =
            method::publish(args).map_err(|_| super::connection::syntax(method::MethodError::Short))?;
        let mut outline = Outline::default();
        let header = self.read_header(header_payload, &mut outline)?;
        let whole = Whole { frames, method_payload, publish, header, header_payload, body: &body };
        self.whole(now, sid, ch, &whole, judge)
    }
}

/// What is still to come of a content once this frame of it is in: octets, `None` before the header; outside, nothing.
pub(super) fn still_to_come(left: Option<u64>, frame: Frame<'_>) -> Result<Option<Option<u64>>, Refusal> {
    let refused = |code, words: &'static str| Err(Refusal::connection(code, words, MethodId::BASIC_PUBLISH));
    let left = match (left, frame.kind) {
        (None, FrameKind::Header) => announced(frame.payload)?,
        (Some(left), FrameKind::Body) => match left.checked_sub(u64_of(frame.payload.len())) {
            Some(left) => left,
            None => return refused(501, "body of the message is longer than its header declared"),
        },
        (None, _) => {
            let words = "expected content header for class 60, got non content header frame instead";
            return refused(505, words);
        }
        (Some(_), _) => {
            return refused(505, "expected content body, got non content body frame instead");
        }
    };
    Ok((left > 0).then_some(Some(left)))
}

/// How many octets a content header announces.
fn announced(payload: &[u8]) -> Result<u64, Refusal> {
    let mut r = crate::wire::Reader::new(payload);
    let short = |_| {
        let words = format!("type 2, all octets = {}: unknown_frame", super::connection::octets(payload));
        Refusal::connection(501, words, MethodId::NONE)
    };
    let class = r.u16().map_err(short)?;
    if class != 60 {
        let words = format!("expected content header for class 60, got one for class {class} instead");
        return Err(Refusal::connection(505, words, MethodId::BASIC_PUBLISH));
    }
    r.u16().and_then(|_| r.u64()).map_err(short)
}

/// Room for a frame, and for some of the octets that are to follow: many clients may be in the middle of a message at once, and room for
/// twice what has come of each is more than all of them need.
fn make_room(frames: &mut Vec<u8>, frame: usize, to_follow: usize) {
    if frames.capacity() - frames.len() < frame {
        frames.reserve_exact(frame + to_follow.min(STEP_BYTES.max(frames.len() / 4)));
    }
}

/// Whether a method frame of basic.publish, or as much of it as tells, is at the front.
pub(super) fn begins_publish(buf: &[u8]) -> bool {
    matches!(buf, [1, _, _, _, _, _, _, 0, 60, 0, 40, ..])
}

/// The header's payload, the number of body pieces and the octets of the whole message, when all of it is in the buffer, in order,
/// and in few enough pieces.
pub(super) fn look_ahead<'a>(
    method: Frame<'_>,
    rest: &'a [u8],
    frame_max: u32,
    message_bytes: u64,
    body: &mut [&'a [u8]; 8],
) -> Option<(&'a [u8], usize, usize)> {
    let mut at = method.wire_len();
    let header = parse_frame(rest.get(at..)?, frame_max).ok()??;
    if header.kind != FrameKind::Header || header.channel != method.channel {
        return None;
    }
    let size = u64::from_be_bytes(*header.payload.get(4..12)?.first_chunk::<8>()?);
    if header.payload.first_chunk::<2>() != Some(&[0, 60]) || size > message_bytes {
        return None;
    }
    at += header.wire_len();
    let (mut seen, mut parts) = (0, 0);
    while seen < size {
        let part = parse_frame(rest.get(at..)?, frame_max).ok()??;
        if part.kind != FrameKind::Body || part.channel != method.channel {
            return None;
        }
        seen += u64_of(part.payload.len());
        *body.get_mut(parts)? = part.payload;
        parts += 1;
        at += part.wire_len();
    }
    (seen == size).then_some((header.payload, parts, at))
}
