//! Frames: type, channel, size, payload, end octet (AMQP 0-9-1 §4.2.3). The size is judged before anything is buffered.

use super::num::{u32_clamped, usize_of};

/// The last octet of every frame.
pub const FRAME_END: u8 = 0xCE;
/// Bytes of a frame that are not payload: 7 before it, 1 after.
pub const FRAME_OVERHEAD: usize = 8;
/// The smallest frame_max that AMQP allows, and the bound on frames before tune.
pub const FRAME_MIN_SIZE: u32 = 4096;
/// A whole heartbeat frame.
pub const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

/// A channel's number; 0 is the connection itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u16);

impl ChannelId {
    /// The connection itself.
    pub const CONNECTION: Self = Self(0);
}

/// The four kinds of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A method and its arguments.
    Method,
    /// A content header: class, body size, properties.
    Header,
    /// A piece of a body.
    Body,
    /// A sign of life, channel 0, empty.
    Heartbeat,
}

impl FrameKind {
    /// The type octet.
    #[must_use]
    pub const fn octet(self) -> u8 {
        match self {
            Self::Method => 1,
            Self::Header => 2,
            Self::Body => 3,
            Self::Heartbeat => 8,
        }
    }
}

/// One whole frame, borrowed from the buffer that it arrived in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: FrameKind,
    /// Whose it is.
    pub channel: ChannelId,
    /// Without the seven octets before and the one after.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Octets of the frame on the wire.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD
    }
}

/// Why bytes are not a frame; each ends the connection (501, or 505 for a heartbeat on a channel).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The type octet is none of 1, 2, 3, 8.
    UnknownType(u8),
    /// The whole frame would be longer than what was negotiated.
    TooLarge {
        /// Octets that the frame would take on the wire.
        size: u64,
        /// What was negotiated.
        frame_max: u32,
    },
    /// The octet after the payload is not 0xCE.
    BadEnd(u8),
    /// A heartbeat that is not empty.
    BadHeartbeat,
    /// A heartbeat that is not on channel 0.
    StrayHeartbeat,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownType(t) => write!(f, "unknown frame type {t}"),
            Self::TooLarge { size, frame_max } => {
                write!(f, "frame of {size} octets is over the negotiated {frame_max}")
            }
            Self::BadEnd(b) => write!(f, "frame end octet is {b:#04x}, expected 0xce"),
            Self::BadHeartbeat => f.write_str("heartbeat with a payload"),
            // In RabbitMQ's words.
            Self::StrayHeartbeat => f.write_str("type 8, all octets = <<>>"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The first frame of `buf`, or `None` while it is not all there. `frame_max` is what was negotiated; 0 means no limit. A payload of
/// `frame_max` octets passes although AMQP would count the eight around it too: RabbitMQ is as lenient, and clients rely on it.
///
/// The size is refused as soon as the seven octets that carry it are there (S1).
#[inline]
pub fn parse_frame(buf: &[u8], frame_max: u32) -> Result<Option<Frame<'_>>, FrameError> {
    let Some((&[kind, c1, c0, s3, s2, s1, s0], rest)) = buf.split_first_chunk::<7>() else {
        // An unknown type is known from the first octet: do not wait for six more from whoever speaks another protocol.
        return match buf.first() {
            None | Some(1 | 2 | 3 | 8) => Ok(None),
            Some(&other) => Err(FrameError::UnknownType(other)),
        };
    };
    let kind = match kind {
        1 => FrameKind::Method,
        2 => FrameKind::Header,
        3 => FrameKind::Body,
        8 => FrameKind::Heartbeat,
        other => return Err(FrameError::UnknownType(other)),
    };
    let channel = ChannelId(u16::from_be_bytes([c1, c0]));
    let size = u32::from_be_bytes([s3, s2, s1, s0]);
    if frame_max != 0 && size > frame_max {
        return Err(FrameError::TooLarge { size: u64::from(size) + 8, frame_max });
    }
    if kind == FrameKind::Heartbeat && size != 0 {
        return Err(FrameError::BadHeartbeat);
    }
    if kind == FrameKind::Heartbeat && channel != ChannelId::CONNECTION {
        return Err(FrameError::StrayHeartbeat);
    }
    let Some((payload, rest)) = rest.split_at_checked(usize_of(size)) else { return Ok(None) };
    match rest.first() {
        None => Ok(None),
        Some(&FRAME_END) => Ok(Some(Frame { kind, channel, payload })),
        Some(&other) => Err(FrameError::BadEnd(other)),
    }
}

/// Octets still missing of the frame at the front of `buf`, as far as can be told; 0 when it is whole.
#[must_use]
pub fn missing(buf: &[u8]) -> usize {
    match buf.split_first_chunk::<7>() {
        None => FRAME_OVERHEAD.saturating_sub(buf.len()),
        Some((&[_, _, _, s3, s2, s1, s0], _)) => {
            (usize_of(u32::from_be_bytes([s3, s2, s1, s0])) + FRAME_OVERHEAD).saturating_sub(buf.len())
        }
    }
}

/// Appends one frame to `out`.
#[inline]
pub fn write_frame(out: &mut Vec<u8>, kind: FrameKind, channel: ChannelId, payload: &[u8]) {
    let [c1, c0] = channel.0.to_be_bytes();
    let [s3, s2, s1, s0] = u32_clamped(payload.len()).to_be_bytes();
    out.reserve(payload.len() + FRAME_OVERHEAD);
    out.extend_from_slice(&[kind.octet(), c1, c0, s3, s2, s1, s0]);
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

/// Appends a body as frames of at most `frame_max` octets each (0: one frame). An empty body has no frame.
pub fn write_body(out: &mut Vec<u8>, channel: ChannelId, body: &[u8], frame_max: u32) {
    if body.is_empty() {
        return;
    }
    let piece =
        if frame_max == 0 { body.len() } else { usize_of(frame_max.max(FRAME_MIN_SIZE)) - FRAME_OVERHEAD };
    for part in body.chunks(piece) {
        write_frame(out, FrameKind::Body, channel, part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: FrameKind, channel: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, kind, ChannelId(channel), payload);
        out
    }

    #[test]
    fn a_frame_cut_at_every_octet_is_awaited_and_then_read() {
        let bytes = framed(FrameKind::Header, 7, b"payload");
        for cut in 0..bytes.len() {
            assert_eq!(parse_frame(&bytes[..cut], 4096), Ok(None), "cut at {cut}");
        }
        let frame = parse_frame(&bytes, 4096).unwrap().unwrap();
        assert_eq!(frame, Frame { kind: FrameKind::Header, channel: ChannelId(7), payload: b"payload" });
        assert_eq!(frame.wire_len(), bytes.len());
    }

    #[test]
    fn a_frame_over_the_negotiated_size_is_refused_from_its_first_seven_octets() {
        let head = [1, 0, 0, 0x7f, 0xff, 0xff, 0xff];
        assert_eq!(
            parse_frame(&head, 4096),
            Err(FrameError::TooLarge { size: 0x7fff_ffff + 8, frame_max: 4096 })
        );
        let fits = framed(FrameKind::Body, 1, &[0; 4096]);
        assert!(parse_frame(&fits, 4096).unwrap().is_some());
        let over = framed(FrameKind::Body, 1, &[0; 4097]);
        assert!(parse_frame(&over, 4096).is_err());
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_octet() {
        assert_eq!(parse_frame(b"GET", 4096), Err(FrameError::UnknownType(b'G')));
    }

    #[test]
    fn a_wrong_end_and_a_heartbeat_with_a_payload_are_refused() {
        let mut bytes = framed(FrameKind::Method, 0, b"xx");
        *bytes.last_mut().unwrap() = 0;
        assert_eq!(parse_frame(&bytes, 4096), Err(FrameError::BadEnd(0)));
        assert_eq!(parse_frame(&framed(FrameKind::Heartbeat, 0, b"x"), 4096), Err(FrameError::BadHeartbeat));
        assert_eq!(parse_frame(&framed(FrameKind::Heartbeat, 3, b""), 4096), Err(FrameError::StrayHeartbeat));
        assert!(parse_frame(&HEARTBEAT, 4096).unwrap().is_some());
    }

    #[test]
    fn a_body_is_split_where_frames_end() {
        let mut out = Vec::new();
        write_body(&mut out, ChannelId(1), &[9; 4089], 4096);
        let first = parse_frame(&out, 4096).unwrap().unwrap();
        assert_eq!(first.payload.len(), 4088);
        let second = parse_frame(&out[first.wire_len()..], 4096).unwrap().unwrap();
        assert_eq!(second.payload, [9]);
        out.clear();
        write_body(&mut out, ChannelId(1), &[], 4096);
        assert!(out.is_empty());
    }
}
