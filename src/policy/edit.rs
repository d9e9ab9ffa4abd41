//! A verdict's edits as bytes: the content header spliced, the body compressed or repaired. What was not asked for stays as it came.

use super::aspects::Packing;
use super::matching::Message;
use super::verdict::Edits;
use crate::celery::compression::{Codec, Effort, compress, decompress, is_plain};
use crate::celery::rewrite::{BodyV1, set_expires};
use crate::celery::{BodyLimits, Encoding, Protocol, Serializer, time};
use crate::wire::HeaderPatch;
use crate::wire::num::u64_of;
use crate::wire::patch::PatchError;

/// New bytes for a message; none: the old ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edited {
    /// The content header frame's payload.
    pub header: Option<Vec<u8>>,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// What was done to the body.
    pub packed: Packed,
    /// A new expiry could not be written into a body of protocol 1: it goes without (P9).
    pub expiry_unfit: bool,
}

/// What was done to a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Packed {
    /// Nothing was to be done.
    #[default]
    Untouched,
    /// Compressed.
    Compressed(Codec),
    /// It would not have become smaller, or the codec failed: left as it was.
    NotSmaller,
    /// Packed, under its content encoding, a worker would take it for text and lose it: left as it was.
    NotUnderEncoding,
    /// Decompressed.
    Decompressed(Codec),
    /// It could not be decompressed within bounds: left as it was.
    NotDecompressed,
    /// A plain body lost the `compression` header above it.
    Repaired,
}

/// What is needed beside the verdict.
#[derive(Debug, Clone, Copy, Default)]
pub struct Means {
    /// Bounds on decompression.
    pub limits: BodyLimits,
    /// How hard codecs try.
    pub effort: Effort,
}

/// Carries out the edits. `payload` is the content header frame's payload that `message.header` was read from.
///
/// # Errors
/// The header table cannot be spliced: the message must go as it came (P9).
pub fn edit(
    edits: &Edits<'_>,
    message: &Message<'_>,
    payload: &[u8],
    body: &[&[u8]],
    means: &Means,
) -> Result<Edited, PatchError> {
    let mut patch = HeaderPatch::new();
    if let Some(priority) = edits.priority {
        patch.set_priority(priority);
    }
    if let Some(mode) = edits.delivery_mode {
        patch.set_delivery_mode(mode);
    }
    if let Some(ms) = edits.ttl_ms {
        patch.set_expiration_ms(ms);
    }
    let mut expiry_unfit = false;
    let mut dated = None;
    match (edits.expires, message.task.map(|task| task.protocol())) {
        (Some(at), Some(Protocol::V1)) => match date(at, message, body, means) {
            Some(bytes) => {
                dated = Some(bytes);
                // A header of that name lies over the body's.
                if message.header.headers().is_some_and(|table| table.field(b"expires").is_some()) {
                    patch.set_header_str(b"expires", time::format(at).as_bytes());
                }
            }
            None => expiry_unfit = true,
        },
        (Some(at), _) => {
            patch.set_header_str(b"expires", time::format(at).as_bytes());
        }
        (None, _) => {}
    }
    for (name, value) in edits.headers {
        let present = message.header.headers().and_then(|table| table.get(name.as_bytes()));
        if present.is_none() {
            patch.set_header(name.as_bytes(), &value.value());
        }
    }
    let (repacked, packed) = match &dated {
        Some(bytes) => repack(edits, message, &[bytes], means, &mut patch),
        None => repack(edits, message, body, means, &mut patch),
    };
    let body = repacked.or(dated);
    if let Some(body) = &body {
        patch.set_body_size(u64_of(body.len()));
    }
    if patch.is_empty() {
        return Ok(Edited { header: None, body, packed, expiry_unfit });
    }
    let mut header = Vec::with_capacity(payload.len() + 64);
    patch.apply(payload, &mut header)?;
    Ok(Edited { header: Some(header), body, packed, expiry_unfit })
}

/// The body of a task of protocol 1, which says its expiry itself, with a new one.
fn date(at: i64, message: &Message<'_>, body: &[&[u8]], means: &Means) -> Option<Vec<u8>> {
    let serializer = Serializer::of(message.header.content_type()?)?;
    // Spliced in ASCII, which two-octet codecs do not read.
    if matches!(
        Encoding::of(message.header.content_encoding()),
        Encoding::Utf16 | Encoding::Utf16Le | Encoding::Utf16Be
    ) {
        return None;
    }
    let codec = match message.task?.compression() {
        None => None,
        Some(_) => Some(message.task?.codec()?),
    };
    set_expires(&BodyV1 { serializer, codec, pieces: body }, at, &means.limits, means.effort).ok()
}

fn repack(
    edits: &Edits<'_>,
    message: &Message<'_>,
    body: &[&[u8]],
    means: &Means,
    patch: &mut HeaderPatch,
) -> (Option<Vec<u8>>, Packed) {
    let Some(rule) = &edits.compression else { return (None, Packed::Untouched) };
    let size = body.iter().map(|part| u64_of(part.len())).sum();
    let named = message.task.and_then(|task| task.compression());
    let mut packed = Packed::Untouched;
    if named.is_some() {
        // A name that Kombu does not know is the worker's to complain of.
        let Some(codec) = message.task.and_then(crate::celery::Task::codec) else {
            return (None, Packed::Untouched);
        };
        if rule.repair && is_plain(codec, body, &means.limits) {
            patch.remove_header(b"compression");
            packed = Packed::Repaired;
        } else if rule.packing == Packing::Decompress {
            return match decompress(codec, body, &means.limits) {
                Ok(plain) if reads_plain(message, &plain) => {
                    patch.remove_header(b"compression");
                    (Some(plain), Packed::Decompressed(codec))
                }
                _ => (None, Packed::NotDecompressed),
            };
        } else {
            return (None, Packed::Untouched);
        }
    }
    let Packing::Compress(codec) = rule.packing else { return (None, packed) };
    if size < rule.min_bytes {
        return (None, packed);
    }
    let mut smaller = Vec::new();
    let done = compress(codec, means.effort, body, &mut smaller).is_ok();
    // The header that is added counts too: its name, a tag, two lengths and the content type.
    let cost = u64_of(smaller.len()) + u64_of(codec.content_type().len()) + 17;
    if !done || cost >= size {
        return (None, if packed == Packed::Repaired { packed } else { Packed::NotSmaller });
    }
    if !Encoding::of(message.header.content_encoding()).leaves(&smaller) {
        return (None, if packed == Packed::Repaired { packed } else { Packed::NotUnderEncoding });
    }
    patch.set_header_str(b"compression", codec.content_type().as_bytes());
    (Some(smaller), Packed::Compressed(codec))
}

/// Whether a worker that was given the body packed will read it plain: what was packed reached its serializer as bytes.
fn reads_plain(message: &Message<'_>, plain: &[u8]) -> bool {
    let encoding = Encoding::of(message.header.content_encoding());
    match (encoding, message.header.content_type().and_then(Serializer::of)) {
        (Encoding::Bytes, _) => true,
        (Encoding::Utf8 | Encoding::Ascii, Some(Serializer::Pickle | Serializer::Msgpack)) => {
            encoding.text(plain).is_none()
        }
        (Encoding::Utf8 | Encoding::Ascii, _) => true,
        _ => false,
    }
}
