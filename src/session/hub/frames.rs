//! The frames of one message on their way to a lane, a link or a client: renumbered, and re-split where less is taken.

use crate::session::{OutStream, Spares, Spot};
use crate::wire::frame::{ChannelId, FRAME_OVERHEAD, FrameKind, parse_frame, write_body, write_frame};
use crate::wire::num::usize_of;

/// Frames to put on a lane.
#[derive(Clone, Copy)]
pub(super) enum Frames<'a> {
    /// As they came, whatever channel is in them.
    Raw(&'a [u8]),
    /// To be built.
    Parts { method: &'a [u8], header: &'a [u8], body: &'a [&'a [u8]] },
}

/// Method payload, header payload, body pieces.
type Parts<'a> = (&'a [u8], &'a [u8], Vec<&'a [u8]>);

impl Frames<'_> {
    /// Octets at most on a link with this frame_max.
    pub(super) fn len(&self, frame_max: u32) -> usize {
        let pieces = |n: usize| if frame_max == 0 { 1 } else { n / usize_of(frame_max.max(4096) - 8) + 2 };
        match *self {
            Self::Raw(bytes) => bytes.len() + pieces(bytes.len()) * FRAME_OVERHEAD,
            Self::Parts { method, header, body } => {
                let body_len: usize = body.iter().map(|b| b.len()).sum();
                method.len() + header.len() + body_len + (2 + body.len() + pieces(body_len)) * FRAME_OVERHEAD
            }
        }
    }

    /// Method, header and body pieces.
    pub(super) fn parts(&self) -> Option<Parts<'_>> {
        match self {
            Self::Parts { method, header, body } => Some((method, header, body.to_vec())),
            Self::Raw(bytes) => {
                let mut rest: &[u8] = bytes;
                let mut next = || {
                    let frame = parse_frame(rest, 0).ok()??;
                    rest = rest.get(frame.wire_len()..).unwrap_or(&[]);
                    Some(frame.payload)
                };
                let (method, header) = (next()?, next()?);
                let mut body = Vec::new();
                while let Some(part) = next() {
                    body.push(part);
                }
                Some((method, header, body))
            }
        }
    }

    /// Writes them to the end of a link's stream, kept until released.
    pub(super) fn keep(
        &self,
        out: &mut OutStream,
        spares: &mut Spares,
        channel: u16,
        frame_max: u32,
    ) -> Spot {
        let most = match *self {
            Self::Raw(bytes) if frame_max == 0 || bytes.len() <= usize_of(frame_max) => bytes.len(),
            _ => self.len(frame_max),
        };
        out.keep(spares, most, |out| self.write(out, channel, frame_max))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, channel: u16, frame_max: u32) {
        match *self {
            Self::Raw(bytes) => renumber(out, bytes, channel, frame_max),
            Self::Parts { method, header, body } => {
                let channel = ChannelId(channel);
                write_frame(out, FrameKind::Method, channel, method);
                write_frame(out, FrameKind::Header, channel, header);
                for part in body {
                    write_body(out, channel, part, frame_max);
                }
            }
        }
    }
}

/// Copies frames with another channel number; bodies are split where they are over `frame_max` (SPEC L6).
pub(super) fn renumber(out: &mut Vec<u8>, mut bytes: &[u8], channel: u16, frame_max: u32) {
    let [c1, c0] = channel.to_be_bytes();
    let fits_all = frame_max == 0 || bytes.len() <= usize_of(frame_max);
    if fits_all {
        // The usual case: one copy, then two octets a frame.
        let start = out.len();
        out.extend_from_slice(bytes);
        let mut rest = out.get_mut(start..).unwrap_or(&mut []);
        while let Some((head, tail)) = rest.split_first_chunk_mut::<7>() {
            let &mut [_, ref mut a, ref mut b, s3, s2, s1, s0] = head;
            (*a, *b) = (c1, c0);
            let size = usize_of(u32::from_be_bytes([s3, s2, s1, s0]));
            rest = tail.get_mut(size + 1..).unwrap_or(&mut []);
        }
        return;
    }
    while let Ok(Some(frame)) = parse_frame(bytes, 0) {
        match frame.kind {
            FrameKind::Body => write_body(out, ChannelId(channel), frame.payload, frame_max),
            kind => write_frame(out, kind, ChannelId(channel), frame.payload),
        }
        bytes = bytes.get(frame.wire_len()..).unwrap_or(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_get_another_channel_number_and_bodies_are_split_where_the_link_takes_less() {
        let mut frames = Vec::new();
        write_frame(&mut frames, FrameKind::Method, ChannelId(1), b"method");
        write_frame(&mut frames, FrameKind::Body, ChannelId(1), &[5; 10_000]);
        for frame_max in [0, 131_072, 4096] {
            let mut out = Vec::new();
            renumber(&mut out, &frames, 513, frame_max);
            let (mut rest, mut body, mut count) = (out.as_slice(), 0, 0);
            while let Some(frame) = parse_frame(rest, frame_max).unwrap() {
                assert_eq!(frame.channel, ChannelId(513));
                if frame.kind == FrameKind::Body {
                    body += frame.payload.len();
                }
                count += 1;
                rest = &rest[frame.wire_len()..];
            }
            assert_eq!((body, rest.len()), (10_000, 0));
            assert_eq!(count, if frame_max == 4096 { 4 } else { 2 });
            assert!(out.len() <= Frames::Raw(&frames).len(frame_max));
        }
    }
}
