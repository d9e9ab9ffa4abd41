//! Frames in and out of plain byte buffers, for simulated clients and brokers alike.

use umbel::wire::frame::{ChannelId, FrameKind, parse_frame, write_body, write_frame};
use umbel::wire::method::{MethodId, MethodWriter, Tune, write_publish, write_tune};
use umbel::wire::props::{NewHeader, Property};

/// A frame that owns its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFrame {
    pub kind: FrameKind,
    pub channel: u16,
    pub payload: Vec<u8>,
}

impl OwnFrame {
    pub fn method(&self) -> Option<MethodId> {
        (self.kind == FrameKind::Method)
            .then(|| umbel::wire::method::split(&self.payload).expect("a method").0)
    }
}

/// Takes the whole frames off the front of `buf`.
pub fn take_frames(buf: &mut Vec<u8>) -> Vec<OwnFrame> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some(f) = parse_frame(&buf[at..], 0).expect("a readable frame") {
        frames.push(OwnFrame { kind: f.kind, channel: f.channel.0, payload: f.payload.to_vec() });
        at += f.wire_len();
    }
    buf.drain(..at);
    frames
}

pub fn push_method(out: &mut Vec<u8>, channel: u16, payload: &[u8]) {
    write_frame(out, FrameKind::Method, ChannelId(channel), payload);
}

pub fn start(server_properties: &[u8]) -> Vec<u8> {
    MethodWriter::new(MethodId::CONNECTION_START)
        .octet(0)
        .octet(9)
        .longstr(server_properties)
        .longstr(b"PLAIN AMQPLAIN")
        .longstr(b"en_US")
        .done()
}

pub fn start_ok(user: &str, password: &str, properties: &[u8]) -> Vec<u8> {
    let response = [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat();
    MethodWriter::new(MethodId::CONNECTION_START_OK)
        .longstr(properties)
        .shortstr(b"PLAIN")
        .longstr(&response)
        .shortstr(b"en_US")
        .done()
}

pub fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16) -> Vec<u8> {
    write_tune(MethodId::CONNECTION_TUNE_OK, Tune { channel_max, frame_max, heartbeat })
}

pub fn open(vhost: &str) -> Vec<u8> {
    MethodWriter::new(MethodId::CONNECTION_OPEN).shortstr(vhost.as_bytes()).shortstr(b"").octet(0).done()
}

pub fn bare(id: MethodId) -> Vec<u8> {
    MethodWriter::new(id).done()
}

pub fn channel_open() -> Vec<u8> {
    MethodWriter::new(MethodId::CHANNEL_OPEN).shortstr(b"").done()
}

pub fn channel_open_ok() -> Vec<u8> {
    MethodWriter::new(MethodId::CHANNEL_OPEN_OK).longstr(b"").done()
}

pub fn close(id: MethodId, code: u16, text: &str, cause: MethodId) -> Vec<u8> {
    umbel::wire::method::write_close(id, code, text, cause)
}

pub fn confirm_select() -> Vec<u8> {
    MethodWriter::new(MethodId::CONFIRM_SELECT).octet(0).done()
}

pub fn queue_declare(name: &str, bits: u8) -> Vec<u8> {
    MethodWriter::new(MethodId::QUEUE_DECLARE)
        .short(0)
        .shortstr(name.as_bytes())
        .octet(bits)
        .longstr(b"")
        .done()
}

pub fn queue_declare_ok(name: &[u8]) -> Vec<u8> {
    MethodWriter::new(MethodId::QUEUE_DECLARE_OK).shortstr(name).long(0).long(0).done()
}

pub fn exchange_declare(name: &str, kind: &str) -> Vec<u8> {
    MethodWriter::new(MethodId::EXCHANGE_DECLARE)
        .short(0)
        .shortstr(name.as_bytes())
        .shortstr(kind.as_bytes())
        .octet(0)
        .longstr(b"")
        .done()
}

pub fn basic_get(queue: &str) -> Vec<u8> {
    MethodWriter::new(MethodId::BASIC_GET).short(0).shortstr(queue.as_bytes()).octet(1).done()
}

pub fn basic_qos(prefetch: u16) -> Vec<u8> {
    MethodWriter::new(MethodId::BASIC_QOS).long(0).short(prefetch).octet(0).done()
}

pub fn basic_consume(queue: &str, tag: &str) -> Vec<u8> {
    MethodWriter::new(MethodId::BASIC_CONSUME)
        .short(0)
        .shortstr(queue.as_bytes())
        .shortstr(tag.as_bytes())
        .octet(0)
        .longstr(b"")
        .done()
}

/// A consumer of direct replies: `no_ack`.
pub fn consume_replies(queue: &str) -> Vec<u8> {
    MethodWriter::new(MethodId::BASIC_CONSUME)
        .short(0)
        .shortstr(queue.as_bytes())
        .shortstr(b"replies")
        .octet(2)
        .longstr(b"")
        .done()
}

pub fn ack(tag: u64, multiple: bool) -> Vec<u8> {
    MethodWriter::new(MethodId::BASIC_ACK).longlong(tag).octet(u8::from(multiple)).done()
}

pub fn nack(tag: u64, multiple: bool) -> Vec<u8> {
    MethodWriter::new(MethodId::BASIC_NACK).longlong(tag).octet(u8::from(multiple)).done()
}

/// A content header with a message id and a body size.
pub fn header(message_id: &str, body_len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    NewHeader { body_size: body_len as u64, message_id: Some(message_id.as_bytes()), ..NewHeader::default() }
        .write(&mut out);
    out
}

/// A whole publish; bodies are cut at `piece` octets.
pub fn publish(
    channel: u16,
    exchange: &str,
    key: &str,
    mandatory: bool,
    message_id: &str,
    body: &[u8],
    frame_max: u32,
) -> Vec<u8> {
    let mut out = Vec::new();
    push_method(&mut out, channel, &write_publish(exchange.as_bytes(), key.as_bytes(), mandatory));
    write_frame(&mut out, FrameKind::Header, ChannelId(channel), &header(message_id, body.len()));
    write_body(&mut out, ChannelId(channel), body, frame_max);
    out
}

/// The message id in a content header's payload.
pub fn message_id(header: &[u8]) -> Option<String> {
    let header = umbel::wire::props::ContentHeader::parse(header).ok()?;
    Some(String::from_utf8(header.short(Property::MessageId)?.to_vec()).expect("ids of ours are ASCII"))
}

/// The size that a content header announces.
pub fn body_size(header: &[u8]) -> u64 {
    u64::from_be_bytes(header[4..12].try_into().expect("a header has twelve octets"))
}
