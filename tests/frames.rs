//! Properties of the wire: frames in any chunking decode alike, and where amq-protocol understands a frame, so do we, alike.
//!
//! amq-protocol's parser recurses on nested tables without a limit (S2), so nothing reaches it but through [`oracle`], whose guard
//! is this file's own and shares no code with `check_table`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it fails"
)]

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, queue};
use amq_protocol::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use umbel::wire::frame::{FRAME_MIN_SIZE, missing, parse_frame, write_frame};
use umbel::wire::{
    ChannelId, ContentHeader, Frame, FrameError, FrameKind, Property, Table, TableLimits, Value, check_table,
};

const FRAME_MAX: u32 = 131_072;

/// What amq-protocol makes of a whole frame; `None` where it does not understand it, or where it is not asked because the frame has
/// so many octets that could open a table or an array that it might recurse deep.
fn oracle(bytes: &[u8]) -> Option<AMQPFrame> {
    const NESTING_MAX: usize = 100;
    if bytes.iter().filter(|octet| matches!(octet, b'F' | b'A')).count() > NESTING_MAX {
        return None;
    }
    #[expect(clippy::disallowed_methods, reason = "guarded above: no deeper than NESTING_MAX")]
    let parsed = amq_protocol::frame::parse_frame(bytes);
    parsed.ok().filter(|(rest, _)| rest.is_empty()).map(|(_, frame)| frame)
}

fn written(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0
}

/// A frame that owns its payload, to compare.
type Owned = (FrameKind, ChannelId, Vec<u8>);

fn owned(frame: Frame<'_>) -> Owned {
    (frame.kind, frame.channel, frame.payload.to_vec())
}

/// Frames of a stream that arrives in pieces, and the error that ended it, as a reader of sockets would take them.
fn read_in_pieces(stream: &[u8], pieces: &[usize], frame_max: u32) -> (Vec<Owned>, Option<FrameError>) {
    let mut buffer = Vec::new();
    let mut frames = Vec::new();
    let mut rest = stream;
    let mut sizes = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        rest = after;
        buffer.extend_from_slice(piece);
        loop {
            match parse_frame(&buffer, frame_max) {
                Ok(Some(frame)) => {
                    let taken = frame.wire_len();
                    frames.push(owned(frame));
                    buffer.drain(..taken);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn any_frame() -> impl Strategy<Value = Owned> {
    let payload = || vec(any::<u8>(), 0..300);
    prop_oneof![
        4 => (any::<u16>(), payload()).prop_map(|(c, p)| (FrameKind::Method, ChannelId(c), p)),
        4 => (any::<u16>(), payload()).prop_map(|(c, p)| (FrameKind::Header, ChannelId(c), p)),
        4 => (any::<u16>(), payload()).prop_map(|(c, p)| (FrameKind::Body, ChannelId(c), p)),
        1 => Just((FrameKind::Heartbeat, ChannelId(0), Vec::new())),
    ]
}

fn stream_of(frames: &[Owned]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (kind, channel, payload) in frames {
        write_frame(&mut stream, *kind, *channel, payload);
    }
    stream
}

fn any_value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<f32>().prop_map(AMQPValue::Float),
        any::<f64>().prop_map(AMQPValue::Double),
        (any::<u8>(), any::<u32>())
            .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|items| AMQPValue::FieldArray(FieldArray::from(items))),
            table_of(inner).prop_map(AMQPValue::FieldTable),
        ]
    })
}

fn table_of(value: impl Strategy<Value = AMQPValue>) -> impl Strategy<Value = FieldTable> {
    btree_map("[a-zäß._-]{0,12}", value, 0..6).prop_map(|entries| {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert(name.into(), value);
        }
        table
    })
}

fn any_properties() -> impl Strategy<Value = BasicProperties> {
    let short = || proptest::option::of("[ -~äö]{0,60}".prop_map(ShortString::from));
    let octet = || proptest::option::of(any::<u8>());
    let first =
        (short(), short(), proptest::option::of(table_of(any_value())), octet(), octet(), short(), short());
    let rest = (short(), short(), proptest::option::of(any::<u64>()), short(), short(), short(), short());
    (first, rest).prop_map(|((a, b, c, d, e, f, g), (h, i, j, k, l, m, n))| {
        let mut made = BasicProperties::default();
        made = a.into_iter().fold(made, BasicProperties::with_content_type);
        made = b.into_iter().fold(made, BasicProperties::with_content_encoding);
        made = c.into_iter().fold(made, BasicProperties::with_headers);
        made = d.into_iter().fold(made, BasicProperties::with_delivery_mode);
        made = e.into_iter().fold(made, BasicProperties::with_priority);
        made = f.into_iter().fold(made, BasicProperties::with_correlation_id);
        made = g.into_iter().fold(made, BasicProperties::with_reply_to);
        made = h.into_iter().fold(made, BasicProperties::with_expiration);
        made = i.into_iter().fold(made, BasicProperties::with_message_id);
        made = j.into_iter().fold(made, BasicProperties::with_timestamp);
        made = k.into_iter().fold(made, BasicProperties::with_type);
        made = l.into_iter().fold(made, BasicProperties::with_user_id);
        made = m.into_iter().fold(made, BasicProperties::with_app_id);
        n.into_iter().fold(made, BasicProperties::with_cluster_id)
    })
}

fn header_frame(channel: u16, body_size: u64, properties: BasicProperties) -> AMQPFrame {
    AMQPFrame::Header(channel, AMQPContentHeader { class_id: 60, body_size, properties })
}

/// Whether our value and the oracle's are the same. Bits are compared, so that NaN equals itself.
fn same_value(ours: &Value<'_>, theirs: &AMQPValue) -> bool {
    match (ours, theirs) {
        (Value::Bool(a), AMQPValue::Boolean(b)) => a == b,
        (Value::I8(a), AMQPValue::ShortShortInt(b)) => a == b,
        (Value::U8(a), AMQPValue::ShortShortUInt(b)) => a == b,
        (Value::I16(a), AMQPValue::ShortInt(b)) => a == b,
        (Value::U16(a), AMQPValue::ShortUInt(b)) => a == b,
        (Value::I32(a), AMQPValue::LongInt(b)) => a == b,
        (Value::U32(a), AMQPValue::LongUInt(b)) => a == b,
        (Value::I64(a) | Value::LongLong(a), AMQPValue::LongLongInt(b)) => a == b,
        (Value::F32(a), AMQPValue::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::F64(a), AMQPValue::Double(b)) => a.to_bits() == b.to_bits(),
        (Value::Decimal { scale, value }, AMQPValue::DecimalValue(b)) => {
            *scale == b.scale && value.cast_unsigned() == b.value
        }
        (Value::Str(a), AMQPValue::LongString(b)) => *a == b.as_bytes(),
        (Value::Bytes(a), AMQPValue::ByteArray(b)) => *a == b.as_slice(),
        (Value::Timestamp(a), AMQPValue::Timestamp(b)) => a == b,
        (Value::Void, AMQPValue::Void) => true,
        (Value::Table(a), AMQPValue::FieldTable(b)) => same_table(*a, b),
        (Value::Array(a), AMQPValue::FieldArray(b)) => {
            let items: Vec<_> = a.items().map(Result::unwrap).collect();
            items.len() == b.as_slice().len() && items.iter().zip(b.as_slice()).all(|(a, b)| same_value(a, b))
        }
        _ => false,
    }
}

/// The oracle's tables are maps: of duplicates the last counts, and the order is lost.
fn same_table(ours: Table<'_>, theirs: &FieldTable) -> bool {
    let names: std::collections::BTreeSet<_> = ours.entries().map(|entry| entry.unwrap().name).collect();
    names.len() == theirs.inner().len()
        && theirs.inner().iter().all(|(name, value)| {
            ours.get(name.as_str().as_bytes()).is_some_and(|own| same_value(&own, value))
        })
}

fn same_header(ours: &ContentHeader<'_>, theirs: &AMQPContentHeader) -> bool {
    let p = &theirs.properties;
    let short = |property, theirs: &Option<ShortString>| {
        ours.short(property) == theirs.as_ref().map(|text| text.as_str().as_bytes())
    };
    let tables = match (ours.headers(), p.headers()) {
        (Some(a), Some(b)) => same_table(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    tables
        && ours.body_size == theirs.body_size
        && ours.delivery_mode() == *p.delivery_mode()
        && ours.priority() == *p.priority()
        && ours.timestamp() == *p.timestamp()
        && short(Property::ContentType, p.content_type())
        && short(Property::ContentEncoding, p.content_encoding())
        && short(Property::CorrelationId, p.correlation_id())
        && short(Property::ReplyTo, p.reply_to())
        && short(Property::Expiration, p.expiration())
        && short(Property::MessageId, p.message_id())
        && short(Property::Type, p.kind())
        && short(Property::UserId, p.user_id())
        && short(Property::AppId, p.app_id())
        && short(Property::ClusterId, p.cluster_id())
}

/// Fails where the oracle understands a frame and we see something else, or nothing for no reason that we can name.
fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = parse_frame(bytes, 0);
    let Some(theirs) = oracle(bytes) else { return Ok(()) };
    let frame = match (&theirs, ours) {
        // The protocol header is no frame to us: it is read before frames begin.
        (AMQPFrame::ProtocolHeader(_), ours) => {
            prop_assert!(ours.is_err());
            return Ok(());
        }
        // RabbitMQ ends the connection for these; the oracle lets them pass, or names them.
        (AMQPFrame::Heartbeat | AMQPFrame::InvalidHeartbeat(_), Err(FrameError::BadHeartbeat)) => {
            return Ok(());
        }
        (_, Ok(Some(frame))) => frame,
        (theirs, ours) => return Err(TestCaseError::fail(format!("they see {theirs:?}, we see {ours:?}"))),
    };
    prop_assert_eq!(frame.wire_len(), bytes.len());
    match theirs {
        AMQPFrame::Heartbeat => prop_assert_eq!(frame.kind, FrameKind::Heartbeat),
        AMQPFrame::Body(channel, body) => {
            prop_assert_eq!(owned(frame), (FrameKind::Body, ChannelId(channel), body));
        }
        AMQPFrame::Method(channel, class) => {
            prop_assert_eq!((frame.kind, frame.channel), (FrameKind::Method, ChannelId(channel)));
            let ids =
                [class.get_amqp_class_id().to_be_bytes(), class.get_amqp_method_id().to_be_bytes()].concat();
            prop_assert_eq!(&frame.payload[..4], &ids[..]);
        }
        AMQPFrame::Header(channel, header) => {
            prop_assert_eq!((frame.kind, frame.channel), (FrameKind::Header, ChannelId(channel)));
            agree_on_header(frame.payload, &header)?;
        }
        other => prop_assert!(false, "no such frame: {:?}", other),
    }
    Ok(())
}

/// We are stricter, as RabbitMQ is, on: classes that carry no content, a weight, undefined flags, the tag `U`, and the bounds.
fn agree_on_header(payload: &[u8], theirs: &AMQPContentHeader) -> Result<(), TestCaseError> {
    let ours = match ContentHeader::parse(payload) {
        Ok(ours) => ours,
        Err(umbel::wire::PropsError::Class(class)) => {
            prop_assert_eq!(class, theirs.class_id);
            return Ok(());
        }
        Err(umbel::wire::PropsError::Weight(_) | umbel::wire::PropsError::Flags(_)) => return Ok(()),
        Err(error) => return Err(TestCaseError::fail(format!("they see {theirs:?}, we say {error}"))),
    };
    if let Some(table) = ours.headers() {
        match check_table(table.bytes(), &TableLimits { depth: 64, entries: 8_192 }) {
            Ok(_) => {}
            Err(umbel::wire::TableError::UnknownTag(b'U') | umbel::wire::TableError::TooDeep) => {
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(format!("they see {theirs:?}, we say {error}"))),
        }
    }
    prop_assert!(same_header(&ours, theirs), "they see {:?}, we see {:?}", theirs, ours);
    Ok(())
}

proptest! {
    #[test]
    fn frames_in_any_chunking_decode_alike(frames in vec(any_frame(), 0..12), pieces in vec(1_usize..700, 1..8)) {
        let stream = stream_of(&frames);
        prop_assert_eq!(read_in_pieces(&stream, &pieces, FRAME_MAX), (frames.clone(), None));
        prop_assert_eq!(read_in_pieces(&stream, &[1], FRAME_MAX), (frames, None));
    }

    #[test]
    fn damage_is_found_at_the_same_frame_in_any_chunking(
        frames in vec(any_frame(), 1..8), pieces in vec(1_usize..400, 1..8), at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let mut stream = stream_of(&frames);
        let at = at.index(stream.len());
        stream[at] = with;
        let whole = read_in_pieces(&stream, &[stream.len()], FRAME_MIN_SIZE);
        prop_assert_eq!(read_in_pieces(&stream, &pieces, FRAME_MIN_SIZE), whole.clone());
        prop_assert_eq!(read_in_pieces(&stream, &[1], FRAME_MIN_SIZE), whole);
    }

    #[test]
    fn what_is_missing_of_a_frame_is_never_overstated(frame in any_frame(), cut in any::<prop::sample::Index>()) {
        let stream = stream_of(std::slice::from_ref(&frame));
        let cut = cut.index(stream.len());
        let missing = missing(&stream[..cut]);
        prop_assert!(missing > 0 && cut + missing <= stream.len(), "cut at {}, {} missing of {}", cut, missing, stream.len());
    }

    #[test]
    fn any_bytes_are_a_frame_an_error_or_a_beginning(bytes in vec(any::<u8>(), 0..64), frame_max in any::<u32>()) {
        if let Ok(Some(frame)) = parse_frame(&bytes, frame_max) {
            prop_assert!(frame.wire_len() <= bytes.len());
            let mut again = Vec::new();
            write_frame(&mut again, frame.kind, frame.channel, frame.payload);
            prop_assert_eq!(&bytes[..again.len()], &again[..]);
        }
    }

    #[test]
    fn a_header_that_amq_protocol_writes_is_read_alike(
        channel in any::<u16>(), body_size in any::<u64>(), properties in any_properties(),
    ) {
        let bytes = written(&header_frame(channel, body_size, properties.clone()));
        let frame = parse_frame(&bytes, 0).unwrap().unwrap();
        prop_assert_eq!((frame.kind, frame.channel, frame.wire_len()), (FrameKind::Header, ChannelId(channel), bytes.len()));
        let ours = ContentHeader::parse(frame.payload).unwrap();
        if let Some(table) = ours.headers() {
            prop_assert!(check_table(table.bytes(), &TableLimits::default()).is_ok());
        }
        let theirs = AMQPContentHeader { class_id: 60, body_size, properties };
        prop_assert!(same_header(&ours, &theirs), "they wrote {:?}, we see {:?}", theirs, ours);
        agree(&bytes)?;
    }

    #[test]
    fn a_header_with_a_damaged_octet_is_still_read_alike(
        properties in any_properties(), at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let mut bytes = written(&header_frame(1, 7, properties));
        let at = at.index(bytes.len());
        bytes[at] = with;
        agree(&bytes)?;
    }

    #[test]
    fn a_table_of_any_bytes_is_read_alike(table in vec(any::<u8>(), 0..80)) {
        let mut payload = [60_u16.to_be_bytes(), [0, 0]].concat();
        payload.extend_from_slice(&[0; 8]);
        payload.extend_from_slice(&Property::Headers.flag().to_be_bytes());
        payload.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(&table);
        let mut bytes = Vec::new();
        write_frame(&mut bytes, FrameKind::Header, ChannelId(1), &payload);
        agree(&bytes)?;
        // And the other way round: what we take and they do not has a name that is not UTF-8, or more than they were asked.
        if check_table(&table, &TableLimits::default()).is_ok() && oracle(&bytes).is_none() {
            let odd = table.iter().filter(|octet| matches!(octet, b'F' | b'A')).count() > 0
                || Table::new(&table).entries().any(|entry| std::str::from_utf8(entry.unwrap().name).is_err());
            prop_assert!(odd, "we take {:?}, they do not", table);
        }
    }

    #[test]
    fn methods_and_bodies_that_amq_protocol_writes_are_read_alike(
        channel in any::<u16>(), exchange in "[ -~]{0,60}", key in "[ -~]{0,60}", body in vec(any::<u8>(), 0..300), mandatory in any::<bool>(),
    ) {
        let publish = AMQPClass::Basic(basic::AMQPMethod::Publish(basic::Publish {
            exchange: exchange.clone().into(), routing_key: key.clone().into(), mandatory, immediate: false,
        }));
        let purge = AMQPClass::Queue(queue::AMQPMethod::Purge(queue::Purge { queue: key.into(), nowait: mandatory }));
        for frame in [AMQPFrame::Method(channel, publish), AMQPFrame::Method(channel, purge), AMQPFrame::Body(channel, body)] {
            agree(&written(&frame))?;
        }
    }
}

#[test]
fn a_table_nested_two_thousand_deep_never_reaches_the_oracle() {
    let mut table = Vec::new();
    for _ in 0..2_000 {
        let mut outer = vec![0, b'F'];
        outer.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
        outer.append(&mut table);
        table = outer;
    }
    let mut bytes = Vec::new();
    write_frame(&mut bytes, FrameKind::Header, ChannelId(1), &table);
    assert!(oracle(&bytes).is_none());
    assert!(check_table(&table, &TableLimits::default()).is_err());
}
