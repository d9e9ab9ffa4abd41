//! A stencil: the shape of one publish that has been read, laid over those behind it (SPEC F1).
//!
//! ```text
//! read:     method frame │ header frame … task S 14 ▒▒▒▒▒ id S 36 ▒▒▒▒ … │ body frame's head │ body │ end
//! the next:   the same   │     the same            any         any       │     the same      │ any  │ end
//! ```
//! Producers send the same names, types and lengths again and again. Where every octet that says where something is, or what it is, is
//! the same as in a publish that was read and checked, the next one *is* read and checked: what may differ are the octets of strings. So a
//! stencil decides nothing that the ordinary reading would decide otherwise, and whatever it does not fit is read the ordinary way.

use std::ops::Range;

use super::assembly::{Whole, look_ahead};
use crate::session::Limits;
use crate::wire::frame::{ChannelId, FRAME_END, FrameKind, parse_frame};
use crate::wire::method::{self, MethodId, Publish};
use crate::wire::num::same;
use crate::wire::props::ContentHeader;
use crate::wire::table::{Outline, check_and_outline};

/// Places that may differ: Celery's messages have about six of them that do.
const HOLES_MAX: usize = 12;

/// Reads the publishes of one channel that lie one behind the other.
pub(super) struct Reader<'a> {
    channel: ChannelId,
    frame_max: u32,
    limits: &'a Limits,
    stencil: Option<Stencil<'a>>,
    /// Of the header table that was read last.
    outline: Outline,
    body: [&'a [u8]; 8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(channel: ChannelId, frame_max: u32, limits: &'a Limits) -> Self {
        Self { channel, frame_max, limits, stencil: None, outline: Outline::default(), body: [&[]; 8] }
    }

    /// The publish at the front, where all of it is there and nothing about it needs more thought.
    #[inline]
    pub(super) fn next(&mut self, rest: &'a [u8]) -> Option<Whole<'_>> {
        if self.stencil.as_mut().is_some_and(|stencil| stencil.fits(rest, &self.outline)) {
            self.traced(rest)
        } else {
            self.read(rest)
        }
    }

    /// It has the shape of the one before it.
    #[inline]
    fn traced(&mut self, rest: &'a [u8]) -> Option<Whole<'_>> {
        let stencil = self.stencil.as_ref()?;
        let frames = rest.get(..stencil.len)?;
        let header_payload = frames.get(stencil.header_at.clone())?;
        let [body, ..] = &mut self.body;
        let has_body = stencil.lead.len() < stencil.len;
        if has_body {
            *body = frames.get(stencil.lead.len()..stencil.len - 1)?;
        }
        Some(Whole {
            frames,
            method_payload: stencil.method_payload,
            publish: stencil.publish,
            header: stencil.header.over(header_payload, &self.outline),
            header_payload,
            body: if has_body { std::slice::from_ref(body) } else { &[] },
        })
    }

    /// Nothing is known of it.
    fn read(&mut self, rest: &'a [u8]) -> Option<Whole<'_>> {
        self.stencil = None;
        let frame = parse_frame(rest, self.frame_max).ok()??;
        if frame.channel != self.channel || frame.kind != FrameKind::Method {
            return None;
        }
        let Ok((MethodId::BASIC_PUBLISH, args)) = method::split(frame.payload) else { return None };
        let publish = method::publish(args).ok()?;
        let whole = publish.exchange.len() + publish.routing_key.len() + 9 == frame.payload.len();
        if !whole || publish.immediate {
            return None;
        }
        let (header_payload, parts, len) =
            look_ahead(frame, rest, self.frame_max, self.limits.message_bytes, &mut self.body)?;
        let header = ContentHeader::parse(header_payload).ok()?;
        if let Some(table) = header.headers() {
            check_and_outline(table.bytes(), &self.limits.table, &mut self.outline).ok()?;
        }
        let (frames, method_payload) = (rest.get(..len)?, frame.payload);
        let body = self.body.get(..parts)?;
        self.stencil = Stencil::of((frames, method_payload, header_payload), publish, header, body);
        let header = header.over(header_payload, &self.outline);
        Some(Whole { frames, method_payload, publish, header, header_payload, body })
    }
}

/// See the module.
struct Stencil<'a> {
    /// The publish that was read, up to the first octet of its body.
    lead: &'a [u8],
    /// Octets of all of it.
    len: usize,
    method_payload: &'a [u8],
    publish: Publish<'a>,
    header: ContentHeader<'a>,
    /// Where its header's payload is.
    header_at: Range<usize>,
    /// What has been seen to differ, in order.
    holes: [Range<usize>; HOLES_MAX],
    count: usize,
}

impl<'a> Stencil<'a> {
    /// Of a publish that has been read: its frames, and the payloads of two of them; its body must be in one piece, or none.
    fn of(
        (frames, method_payload, header_payload): (&'a [u8], &'a [u8], &'a [u8]),
        publish: Publish<'a>,
        header: ContentHeader<'a>,
        body: &[&[u8]],
    ) -> Option<Self> {
        let body = match body {
            [] => 0,
            [body] => body.len() + 1,
            _ => return None,
        };
        // 7 octets before each payload, and the method frame's end.
        let start = 7 + method_payload.len() + 1 + 7;
        Some(Self {
            lead: frames.get(..frames.len().checked_sub(body)?)?,
            len: frames.len(),
            method_payload,
            publish,
            header,
            header_at: start..start + header_payload.len(),
            holes: [const { 0..0 }; HOLES_MAX],
            count: 0,
        })
    }

    /// Whether the publish at the front of `rest` has this shape. `outline` is that of the header table that was read.
    #[inline]
    fn fits(&mut self, rest: &[u8], outline: &Outline) -> bool {
        let Some(frames) = rest.get(..self.len) else { return false };
        if frames.last() != Some(&FRAME_END) {
            return false;
        }
        while let Some(at) = self.misfit(frames) {
            if self.learn(frames, at, outline).is_none() {
                return false;
            }
        }
        true
    }

    /// From where on something differs that has not been seen to differ yet.
    #[inline]
    fn misfit(&self, frames: &[u8]) -> Option<usize> {
        let mut at = 0;
        for hole in self.holes.iter().take(self.count) {
            if !self.is_same(frames, at..hole.start) {
                return Some(at);
            }
            at = hole.end;
        }
        (!self.is_same(frames, at..self.lead.len())).then_some(at)
    }

    #[inline]
    fn is_same(&self, frames: &[u8], at: Range<usize>) -> bool {
        let (Some(a), Some(b)) = (frames.get(at.clone()), self.lead.get(at)) else { return false };
        same(a, b)
    }

    /// The first difference from `at` on may be one of content: then it is a hole from now on.
    #[cold]
    fn learn(&mut self, frames: &[u8], at: usize, outline: &Outline) -> Option<()> {
        let (theirs, ours) = (frames.get(at..self.lead.len())?, self.lead.get(at..)?);
        let place = at + theirs.iter().zip(ours).position(|(a, b)| a != b)?;
        let start = self.header_at.start;
        let header = self.header.over(self.lead.get(self.header_at.clone())?, outline);
        let content = header.content_at(place.checked_sub(start)?)?;
        let hole = start + content.start..start + content.end;
        let index =
            self.holes.iter().take(self.count).position(|h| h.start > hole.start).unwrap_or(self.count);
        if self.count == HOLES_MAX {
            return None;
        }
        *self.holes.get_mut(self.count)? = hole;
        self.count += 1;
        self.holes.get_mut(index..self.count)?.rotate_right(1);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::write_frame;
    use crate::wire::props::{NewHeader, Property};
    use crate::wire::table::{Table, Value, write_entry};
    use proptest::prelude::*;

    /// A task with these words in it.
    fn publish(key: &[u8], name: &[u8], id: &[u8], body: &[u8]) -> Vec<u8> {
        let mut table = Vec::new();
        for (name, value) in [
            (&b"lang"[..], Value::Str(b"py")),
            (b"task", Value::Str(name)),
            (b"id", Value::Str(id)),
            (b"eta", Value::Void),
            (b"retries", Value::I32(0)),
            (b"timelimit", Value::Table(Table::new(b"\x01aS\0\0\0\x01b"))),
            (b"weight", Value::F64(1.5)),
            (b"origin", Value::Str(b"")),
        ] {
            write_entry(&mut table, name, &value);
        }
        let mut header = Vec::new();
        NewHeader {
            body_size: body.len().try_into().unwrap(),
            content_type: Some(b"application/json"),
            headers: Some(Table::new(&table)),
            delivery_mode: Some(2),
            correlation_id: Some(id),
            timestamp: Some(1),
            ..NewHeader::default()
        }
        .write(&mut header);
        let mut out = Vec::new();
        write_frame(&mut out, FrameKind::Method, ChannelId(3), &method::write_publish(b"", key, false));
        write_frame(&mut out, FrameKind::Header, ChannelId(3), &header);
        if !body.is_empty() {
            write_frame(&mut out, FrameKind::Body, ChannelId(3), body);
        }
        out
    }

    /// Everything that can be asked of a message, to be compared.
    fn seen(message: &Whole<'_>) -> String {
        let table = message.header.headers();
        let found =
            [&b"lang"[..], b"task", b"id", b"eta", b"retries", b"timelimit", b"weight", b"origin", b"a"]
                .map(|name| table.and_then(|t| t.field(name)));
        let properties = Property::ALL.map(|p| message.header.raw(p));
        let Whole { frames, method_payload, publish, header, header_payload, body } = message;
        let (size, flags) = (header.body_size, header.flags);
        format!(
            "{:?}",
            (frames, method_payload, header_payload, body, publish, size, flags, properties, found)
        )
    }

    /// What is seen of `second` behind `first`, and whether it was read through a stencil.
    fn behind(first: &[u8], second: &[u8], limits: &Limits) -> (Option<String>, bool) {
        let mut reader = Reader::new(ChannelId(3), 0, limits);
        reader.next(first);
        let fits = reader.stencil.as_mut().is_some_and(|stencil| stencil.fits(second, &reader.outline));
        (reader.next(second).as_ref().map(seen), fits)
    }

    #[test]
    fn other_words_of_the_same_length_fit_and_anything_else_does_not() {
        let first = publish(b"celery", b"proj.add", b"id-1", b"body");
        for (second, fits) in [
            (publish(b"celery", b"proj.mul", b"id-2", b"other"), false),
            (publish(b"celery", b"proj.mul", b"id-2", b"soul"), true),
            (publish(b"celery", b"\xff\xfe.\0\0\0\xce", b"\0\0\0\0", b"\xce\xce\xce\xce"), false),
            (publish(b"celery", b"\xff\xfe.\0\0\0\xce.", b"\0\0\0\0", b"\xce\xce\xce\xce"), true),
            (publish(b"cellar", b"proj.add", b"id-1", b"body"), false),
            (publish(b"celery", b"proj.add", b"id-10", b"body"), false),
            (publish(b"celery", b"proj.add", b"id-1", b""), false),
        ] {
            assert_eq!(behind(&first, &second, &Limits::default()).1, fits, "{second:?}");
            let cut = second.get(..second.len() - 1).unwrap();
            assert_eq!(behind(&first, cut, &Limits::default()), (None, false));
        }
    }

    #[test]
    fn more_words_than_it_has_places_for_are_read_the_ordinary_way() {
        let with = |word: &[u8]| {
            let mut table = Vec::new();
            (0_u8..20).for_each(|n| write_entry(&mut table, &[n], &Value::Str(word)));
            let mut out = Vec::new();
            let mut header = Vec::new();
            NewHeader { headers: Some(Table::new(&table)), ..NewHeader::default() }.write(&mut header);
            write_frame(&mut out, FrameKind::Method, ChannelId(3), &method::write_publish(b"", b"q", false));
            write_frame(&mut out, FrameKind::Header, ChannelId(3), &header);
            out
        };
        let (first, second) = (with(b"a"), with(b"b"));
        let limits = Limits::default();
        assert_eq!(behind(&first, &second, &limits), (behind(&second, &second, &limits).0, false));
    }

    proptest! {
        #[test]
        fn what_stands_behind_another_is_read_as_if_it_stood_alone(
            name in "[a-z]{4}", id in "[0-9]{4}", body in proptest::collection::vec(any::<u8>(), 0..3),
            places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let limits = Limits::default();
            let first = publish(b"celery", b"task", b"0000", &body);
            let mut second = publish(b"celery", name.as_bytes(), id.as_bytes(), &body);
            let (_, fits) = behind(&first, &second, &limits);
            prop_assert!(fits);
            for (place, octet) in places {
                let place = place.index(second.len());
                *second.get_mut(place).unwrap() = octet;
            }
            let mut alone = Reader::new(ChannelId(3), 0, &limits);
            prop_assert_eq!(behind(&first, &second, &limits).0, alone.next(&second).as_ref().map(seen));
        }
    }
}
