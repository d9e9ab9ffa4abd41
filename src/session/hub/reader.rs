//! Reads the publishes of one channel that lie one behind the other: each the ordinary way or, where one of its shape was read before
//! it, through that one's stencil (SPEC F1).

use super::assembly::look_ahead;
use super::stencil::{Stencil, header_at, key};
use crate::session::Limits;
use crate::session::judge::{PublishView, SessionFacts};
use crate::wire::frame::{ChannelId, FRAME_END, FrameKind, parse_frame};
use crate::wire::method::{self, MethodId, Publish};
use crate::wire::num::same;
use crate::wire::props::ContentHeader;
use crate::wire::table::{Outline, check_and_outline};

/// Shapes that are known at a time: words of other lengths are another shape.
const STENCILS: usize = 8;

/// See the module. What was read last is asked of it piece by piece: all of it in one
/// value is two hundred octets, moved about for every message.
pub(super) struct Reader<'a> {
    channel: ChannelId,
    frame_max: u32,
    limits: &'a Limits,
    stencils: [Option<Stencil<'a>>; STENCILS],
    /// Where the header is in each, in one number; 0 where there is none.
    keys: [u64; STENCILS],
    /// Of the header table that each is of.
    outlines: [Outline; STENCILS],
    /// The shape that was read last, and the one that has been known for longest.
    current: usize,
    oldest: usize,
    frames: &'a [u8],
    method_payload: &'a [u8],
    publish: Publish<'a>,
    header_payload: &'a [u8],
    header: ContentHeader<'a>,
    body: [&'a [u8]; 8],
    pieces: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(channel: ChannelId, frame_max: u32, limits: &'a Limits) -> Self {
        Self {
            channel,
            frame_max,
            limits,
            stencils: std::array::from_fn(|_| None),
            keys: [0; STENCILS],
            outlines: [const { Outline::new() }; STENCILS],
            current: 0,
            oldest: 0,
            frames: &[],
            method_payload: &[],
            publish: Publish::default(),
            header_payload: &[],
            header: ContentHeader::default(),
            body: [&[]; 8],
            pieces: 0,
        }
    }

    /// Reads the publish at the front of `rest`: whether all of it is there, and nothing about it needs more thought.
    #[inline]
    pub(super) fn read(&mut self, rest: &'a [u8]) -> bool {
        if self.fits(self.current, rest) { self.trace(rest).is_some() } else { self.read_other(rest) }
    }

    /// It has not the shape of the one before it.
    #[inline(never)]
    fn read_other(&mut self, rest: &'a [u8]) -> bool {
        let key = header_at(rest).map_or(0, |at| key(&at));
        let is_like = |s: &Self, at| at != s.current && s.keys.get(at) == Some(&key);
        match (0..STENCILS).find(|&at| is_like(self, at) && self.fits(at, rest)) {
            Some(at) => self.turn_to(at, rest).is_some(),
            None => self.read_anew(rest).is_some(),
        }
    }

    /// It has another shape than the one that was read last.
    fn turn_to(&mut self, at: usize, rest: &'a [u8]) -> Option<()> {
        let stencil = self.stencils.get(at)?.as_ref()?;
        (self.method_payload, self.publish, self.header) =
            (stencil.method_payload, stencil.publish, stencil.header);
        self.current = at;
        self.trace(rest)
    }

    #[inline]
    fn fits(&mut self, at: usize, rest: &[u8]) -> bool {
        match (self.stencils.get_mut(at), self.outlines.get(at)) {
            (Some(Some(stencil)), Some(outline)) => stencil.fits(rest, outline),
            _ => false,
        }
    }

    /// It has the shape of one before it: only where its pieces are is new.
    #[inline]
    fn trace(&mut self, rest: &'a [u8]) -> Option<()> {
        let stencil = self.stencils.get(self.current)?.as_ref()?;
        self.frames = rest.get(..stencil.len)?;
        self.header_payload = self.frames.get(stencil.header_at.clone())?;
        self.pieces = usize::from(stencil.lead.len() < stencil.len);
        if self.pieces > 0 {
            *self.body.first_mut()? = self.frames.get(stencil.lead.len()..stencil.len - 1)?;
        }
        Some(())
    }

    /// Nothing is known of it.
    fn read_anew(&mut self, rest: &'a [u8]) -> Option<()> {
        self.current = self.oldest;
        self.oldest = (self.oldest + 1) % STENCILS;
        *self.stencils.get_mut(self.current)? = None;
        let frame = parse_frame(rest, self.frame_max).ok()??;
        if frame.channel != self.channel || frame.kind != FrameKind::Method {
            return None;
        }
        let Ok((MethodId::BASIC_PUBLISH, args)) = method::split(frame.payload) else { return None };
        self.publish = method::publish(args).ok()?;
        let whole = self.publish.exchange.len() + self.publish.routing_key.len() + 9 == frame.payload.len();
        if !whole || self.publish.immediate {
            return None;
        }
        let (header_payload, pieces, len) =
            look_ahead(frame, rest, self.frame_max, self.limits.message_bytes, &mut self.body)?;
        self.header = ContentHeader::parse(header_payload).ok()?;
        if let Some(table) = self.header.headers() {
            let outline = self.outlines.get_mut(self.current)?;
            check_and_outline(table.bytes(), &self.limits.table, outline).ok()?;
        }
        (self.frames, self.method_payload) = (rest.get(..len)?, frame.payload);
        (self.header_payload, self.pieces) = (header_payload, pieces);
        let body = self.body.get(..pieces)?;
        let stencil = Stencil::of(self.frames, body, self.method_payload, self.publish, self.header);
        *self.keys.get_mut(self.current)? = stencil.as_ref().map_or(0, |s| key(&s.header_at));
        *self.stencils.get_mut(self.current)? = stencil;
        Some(())
    }

    /// How many of the publishes that stand at the front of `rest`, `most` at most, differ from this one in nothing but the octets of
    /// their bodies. Where others of its shape have differed in more, none is looked for.
    pub(super) fn alike(&self, rest: &[u8], most: usize) -> usize {
        let Some(Some(stencil)) = self.stencils.get(self.current) else { return 0 };
        let Some(lead) = self.frames.get(..stencil.lead.len()).filter(|_| stencil.is_solid()) else {
            return 0;
        };
        let is_alike = |next: &&[u8]| {
            next.last() == Some(&FRAME_END) && next.get(..lead.len()).is_some_and(|theirs| same(theirs, lead))
        };
        rest.chunks_exact(stencil.len.max(1)).take(most).take_while(is_alike).count()
    }

    /// Its frames as they came.
    pub(super) const fn frames(&self) -> &'a [u8] {
        self.frames
    }

    pub(super) const fn method_payload(&self) -> &'a [u8] {
        self.method_payload
    }

    /// As whoever judges it sees it; `header` is this one's.
    #[inline]
    pub(super) fn view<'v>(
        &'v self,
        session: SessionFacts<'v>,
        header: &'v ContentHeader<'v>,
    ) -> PublishView<'v> {
        let Publish { exchange, routing_key, mandatory, .. } = self.publish;
        let (header_payload, body) = (self.header_payload, self.body.get(..self.pieces).unwrap_or(&[]));
        PublishView { session, exchange, routing_key, mandatory, header, header_payload, body }
    }

    #[inline]
    pub(super) fn header(&self) -> ContentHeader<'_> {
        self.header.over(self.header_payload, self.outlines.get(self.current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::write_frame;
    use crate::wire::props::{NewHeader, Property};
    use crate::wire::table::{Table, Value, write_entry};
    use proptest::prelude::*;

    /// A task with these words in it, its header as long whatever its name.
    fn publish(key: &[u8], name: &[u8], id: &[u8], body: &[u8]) -> Vec<u8> {
        let mut table = Vec::new();
        let origin = vec![b'o'; 8_usize.saturating_sub(name.len())];
        for (name, value) in [
            (&b"lang"[..], Value::Str(b"py")),
            (b"task", Value::Str(name)),
            (b"id", Value::Str(id)),
            (b"eta", Value::Void),
            (b"retries", Value::I32(0)),
            (b"timelimit", Value::Table(Table::new(b"\x01aS\0\0\0\x01b"))),
            (b"weight", Value::F64(1.5)),
            (b"origin", Value::Str(&origin)),
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
    fn seen(read: &Reader<'_>) -> String {
        let header = read.header();
        let table = header.headers();
        let found =
            [&b"lang"[..], b"task", b"id", b"eta", b"retries", b"timelimit", b"weight", b"origin", b"a"]
                .map(|name| table.and_then(|t| t.field(name)));
        let properties = Property::ALL.map(|p| header.raw(p));
        let Reader { frames, method_payload, publish, header_payload, .. } = read;
        let body = read.body.get(..read.pieces);
        let (size, flags) = (header.body_size, header.flags);
        format!(
            "{:?}",
            (frames, method_payload, header_payload, body, publish, size, flags, properties, found)
        )
    }

    /// What is seen of `second` behind `first`, and whether it was read through a stencil.
    fn behind(first: &[u8], second: &[u8], limits: &Limits) -> (Option<String>, bool) {
        let mut reader = Reader::new(ChannelId(3), 0, limits);
        reader.read(first);
        let fits = reader.fits(reader.current, second);
        (reader.read(second).then(|| seen(&reader)), fits)
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
    fn those_are_alike_that_differ_in_nothing_but_their_bodies() {
        let like = |body: &[u8]| publish(b"celery", b"proj.add", b"id-1", body);
        let same = [like(b"soul"), like(b"\xce\xce\xce\xce"), like(b"body")];
        let limits = Limits::default();
        for (then, count) in [
            (Vec::new(), 3),
            (like(b"longer"), 3),
            (like(b""), 3),
            (like(b"soul"), 4),
            (publish(b"celery", b"proj.mul", b"id-1", b"body"), 3),
            (publish(b"celery", b"proj.add", b"id-2", b"body"), 3),
            (like(b"soul").split_last().unwrap().1.to_vec(), 3),
        ] {
            let mut reader = Reader::new(ChannelId(3), 0, &limits);
            let (first, all) = (like(b"body"), [same.concat(), then].concat());
            assert!(reader.read(&first));
            assert_eq!([reader.alike(&all, 9), reader.alike(&all, 2)], [count, 2]);
        }
    }

    #[test]
    fn where_others_of_a_shape_have_differed_none_is_alike() {
        let of = |name: &[u8]| publish(b"celery", name, b"id-1", b"body");
        let (first, second, limits) = (of(b"proj.add"), of(b"proj.mul"), Limits::default());
        let mut reader = Reader::new(ChannelId(3), 0, &limits);
        assert!(reader.read(&first) && reader.read(&second));
        assert_eq!(reader.alike(&second, 1), 0);
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
        fn publishes_of_several_shapes_are_each_read_once_and_then_known_whatever_their_order(
            lens in proptest::collection::vec((1_usize..4, 0_usize..3, any::<bool>()), 1..60),
        ) {
            let limits = Limits::default();
            let publishes: Vec<_> = lens
                .iter()
                .zip(0_u8..)
                .map(|(&(name, body, key), n)| {
                    let key: &[u8] = if key { b"celery" } else { b"other" };
                    publish(key, &vec![n; name], &[n; 4], &vec![n; body])
                })
                .collect();
            let mut reader = Reader::new(ChannelId(3), 0, &limits);
            for publish in &publishes {
                let mut alone = Reader::new(ChannelId(3), 0, &limits);
                prop_assert!(reader.read(publish) && alone.read(publish));
                prop_assert_eq!(seen(&reader), seen(&alone));
            }
            let shapes: std::collections::BTreeSet<_> = lens.iter().collect();
            let known = reader.stencils.iter().flatten().count();
            prop_assert_eq!(known, shapes.len().min(STENCILS));
        }

        #[test]
        fn what_stands_behind_another_is_read_as_if_it_stood_alone(
            name in "[a-z]{4}", id in "[0-9]{4}", body in proptest::collection::vec(any::<u8>(), 0..3),
            places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let limits = Limits::default();
            let first = publish(b"celery", b"task", b"0000", &body);
            let mut second = publish(b"celery", name.as_bytes(), id.as_bytes(), &body);
            let mut reader = Reader::new(ChannelId(3), 0, &limits);
            prop_assert!(reader.read(&first));
            // What may differ is found out before something differs that may not.
            let other = publish(b"celery", b"TASK", b"####", &body);
            prop_assert!(reader.fits(reader.current, &other) && reader.fits(reader.current, &second));
            for (place, octet) in places {
                let place = place.index(second.len());
                *second.get_mut(place).unwrap() = octet;
            }
            let mut alone = Reader::new(ChannelId(3), 0, &limits);
            let alone = alone.read(&second).then(|| seen(&alone));
            prop_assert_eq!(reader.read(&second).then(|| seen(&reader)), alone);
        }
    }
}
