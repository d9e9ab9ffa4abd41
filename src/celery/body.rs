//! A task's body: which serializer, unpacked within bounds, and (protocol 1) the keys of the dict that it is.

use std::borrow::Cow;

use super::compression::{self, Codec, CompressionError};
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

/// The keys of a body that is a dict; `None` where it is well-formed, but no dict with text keys.
pub(crate) fn read<'a>(
    serializer: Serializer,
    compression: Option<&[u8]>,
    body: &[&'a [u8]],
    limits: &BodyLimits,
) -> Result<Option<Fields<'a>>, Unreadable> {
    match unpack(compression, body, limits)? {
        Cow::Borrowed(bytes) => read_plain(serializer, bytes, limits),
        Cow::Owned(bytes) => Ok(read_plain(serializer, &bytes, limits)?.map(Fields::into_owned)),
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
