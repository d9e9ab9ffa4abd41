//! A task's body: which serializer, unpacked within bounds, and (protocol 1) the keys of the dict that it is.

use std::borrow::Cow;

use super::compression::{self, Codec, CompressionError};
use super::encoding::Encoding;
use super::field::Fields;
use super::{json, msgpack, pickle, yaml};

/// How much of a body is looked at (S1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bodies longer than this, as sent, are not looked into.
    pub body_bytes: usize,
    /// Decompressed, at most this long.
    pub decompressed_bytes: usize,
    /// Decompressed, at most so many times as long as compressed (beyond a floor of a MiB: small bodies compress well).
    pub ratio: usize,
    /// Values that a pickle may make, those remembered in its memo included.
    pub pickle_items: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { body_bytes: 64 << 20, decompressed_bytes: 64 << 20, ratio: 200, pickle_items: 1 << 20 }
    }
}

/// Why a body that may be a task could not be understood; a label of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unreadable {
    /// The task's name is not UTF-8.
    Name,
    /// Over [`BodyLimits::body_bytes`].
    TooLong,
    /// The `compression` header names no codec of Kombu's.
    Codec,
    /// It does not decompress.
    Decompress,
    /// Decompressed it is over a bound.
    Bomb,
    /// It is not what its content type says.
    Syntax,
    /// It has more parts than a bound allows.
    TooComplex,
}

impl Unreadable {
    /// As a label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::TooLong => "too_long",
            Self::Codec => "codec",
            Self::Decompress => "decompress",
            Self::Bomb => "bomb",
            Self::Syntax => "syntax",
            Self::TooComplex => "too_complex",
        }
    }
}

impl From<CompressionError> for Unreadable {
    fn from(error: CompressionError) -> Self {
        match error {
            CompressionError::TooLarge => Self::Bomb,
            CompressionError::Corrupt => Self::Decompress,
        }
    }
}

/// A serializer that we read. Kombu's registry is asked for the content type exactly as it stands, case and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Serializer {
    /// `application/json`.
    Json,
    /// `application/x-python-serialize`.
    Pickle,
    /// `application/x-yaml`.
    Yaml,
    /// `application/x-msgpack`.
    Msgpack,
}

impl Serializer {
    /// By content type.
    #[must_use]
    pub fn of(content_type: &[u8]) -> Option<Self> {
        Some(match content_type {
            b"application/json" => Self::Json,
            b"application/x-python-serialize" => Self::Pickle,
            b"application/x-yaml" => Self::Yaml,
            b"application/x-msgpack" => Self::Msgpack,
            _ => return None,
        })
    }

    /// The name that Kombu's registry has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Pickle => "pickle",
            Self::Yaml => "yaml",
            Self::Msgpack => "msgpack",
        }
    }
}

/// The pieces as one slice, copied only where there are several.
#[must_use]
pub fn gather<'a>(body: &[&'a [u8]]) -> Cow<'a, [u8]> {
    match body {
        [] => Cow::Borrowed(&[]),
        [one] => Cow::Borrowed(one),
        several => Cow::Owned(several.concat()),
    }
}

/// The body as its serializer made it: gathered, and decompressed where the `compression` header says so.
pub fn unpack<'a>(
    compression: Option<&[u8]>,
    body: &[&'a [u8]],
    limits: &BodyLimits,
) -> Result<Cow<'a, [u8]>, Unreadable> {
    if body.iter().map(|piece| piece.len()).sum::<usize>() > limits.body_bytes {
        return Err(Unreadable::TooLong);
    }
    let Some(name) = compression else { return Ok(gather(body)) };
    let codec = Codec::named(name).ok_or(Unreadable::Codec)?;
    Ok(Cow::Owned(compression::decompress(codec, body, limits)?))
}

/// A body that has not been looked into, and what its header says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealed<'a> {
    pub(crate) serializer: Serializer,
    pub(crate) compression: Option<&'a [u8]>,
    pub(crate) encoding: Encoding,
    pub(crate) pieces: &'a [&'a [u8]],
}

/// The keys of a body that is a dict; `None` where it is well-formed, but no dict with text keys.
pub(crate) fn read<'a>(sealed: &Sealed<'a>, limits: &BodyLimits) -> Result<Option<Fields<'a>>, Unreadable> {
    if let (Some(_), Encoding::Latin1 | Encoding::Utf16 | Encoding::Utf16Le | Encoding::Utf16Be) =
        (sealed.compression, sealed.encoding)
        && sealed.encoding.text(&gather(sealed.pieces)).is_some()
    {
        // Text by now, which no worker decompresses.
        return Err(Unreadable::Decompress);
    }
    let plain = unpack(sealed.compression, sealed.pieces, limits)?;
    let plain = match (sealed.compression, plain) {
        (None, Cow::Borrowed(bytes)) => text(sealed, bytes)?,
        (None, Cow::Owned(bytes)) => Cow::Owned(text(sealed, &bytes)?.into_owned()),
        // What was packed is bytes to whoever unpacks it.
        (Some(_), plain) => plain,
    };
    match plain {
        Cow::Borrowed(bytes) => read_plain(sealed.serializer, bytes, limits),
        Cow::Owned(bytes) => Ok(read_plain(sealed.serializer, &bytes, limits)?.map(Fields::into_owned)),
    }
}

/// A plain body as a worker's serializer is given it. Those that want bytes fail where it has become text.
fn text<'a>(sealed: &Sealed<'_>, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
    match (sealed.serializer, sealed.encoding) {
        // Whether it is text or bytes: its octets are the same.
        (_, Encoding::Bytes | Encoding::Other | Encoding::Utf8 | Encoding::Ascii) => Ok(Cow::Borrowed(plain)),
        (Serializer::Pickle | Serializer::Msgpack, encoding) if encoding.text(plain).is_some() => {
            Err(Unreadable::Syntax)
        }
        (_, encoding) => Ok(encoding.text(plain).unwrap_or(Cow::Borrowed(plain))),
    }
}

/// Whether a body may be a dict: a look at its first octets, where it is not packed, so that lists are not read for nothing.
pub(crate) fn may_be_dict(sealed: &Sealed<'_>) -> bool {
    let Some(&first) = sealed.pieces.iter().find_map(|piece| piece.first()) else { return false };
    if sealed.compression.is_some() {
        return true;
    }
    match sealed.serializer {
        // A list begins so, and nothing else that can be read.
        Serializer::Json | Serializer::Yaml => !matches!(first, b'['),
        Serializer::Msgpack => matches!(first, 0x80..=0x8f | 0xde | 0xdf),
        Serializer::Pickle => true,
    }
}

fn read_plain<'a>(
    serializer: Serializer,
    bytes: &'a [u8],
    limits: &BodyLimits,
) -> Result<Option<Fields<'a>>, Unreadable> {
    match serializer {
        Serializer::Json => json::fields(bytes),
        Serializer::Msgpack => msgpack::fields(bytes),
        Serializer::Yaml => yaml::fields(bytes),
        Serializer::Pickle => pickle::fields(bytes, limits.pickle_items),
    }
}
