//! What py-amqp makes of a body before anybody else sees it: text, where the content encoding names a codec of Python's that takes
//! it (amqp/abstract_channel.py, `dispatch_method`); else bytes it stays.
//!
//! So bytes that go compressed under `latin-1` reach Kombu as text, which it cannot decompress, and the task is lost.

use std::borrow::Cow;

/// A content encoding, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// None, or Kombu's `binary`: no codec of Python's.
    Bytes,
    /// UTF-8.
    Utf8,
    /// Seven bits.
    Ascii,
    /// ISO 8859-1: takes any bytes.
    Latin1,
    /// UTF-16 that begins with its byte order, or is little-endian.
    Utf16,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
    /// Another name: a codec that we do not have, or none.
    Other,
}

impl Encoding {
    /// By name, as Python looks codecs up: case, hyphens, spaces and underscores do not matter.
    #[must_use]
    pub fn of(name: Option<&[u8]>) -> Self {
        let Some(name) = name else { return Self::Bytes };
        match name {
            // What Celery sends.
            b"utf-8" => return Self::Utf8,
            b"binary" => return Self::Bytes,
            _ => {}
        }
        let tidy: Vec<u8> = name
            .iter()
            .map(|byte| if matches!(byte, b'-' | b' ') { b'_' } else { byte.to_ascii_lowercase() })
            .collect();
        match &tidy[..] {
            b"utf_8" | b"utf8" | b"u8" | b"utf" => Self::Utf8,
            b"ascii" | b"us_ascii" | b"646" => Self::Ascii,
            b"latin_1" | b"latin1" | b"latin" | b"l1" | b"iso_8859_1" | b"iso8859_1" | b"8859" => {
                Self::Latin1
            }
            b"utf_16" | b"utf16" | b"u16" => Self::Utf16,
            b"utf_16_le" | b"utf_16le" => Self::Utf16Le,
            b"utf_16_be" | b"utf_16be" => Self::Utf16Be,
            b"binary" | b"ascii_8bit" => Self::Bytes,
            _ => Self::Other,
        }
    }

    /// The text that a body becomes, in UTF-8; `None`: it stays bytes, or nobody here can tell.
    #[must_use]
    pub fn text(self, body: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Bytes | Self::Other => None,
            Self::Utf8 => std::str::from_utf8(body).is_ok().then_some(Cow::Borrowed(body)),
            Self::Ascii => body.is_ascii().then_some(Cow::Borrowed(body)),
            Self::Latin1 if body.is_ascii() => Some(Cow::Borrowed(body)),
            Self::Latin1 => {
                Some(Cow::Owned(body.iter().map(|&octet| char::from(octet)).collect::<String>().into_bytes()))
            }
            Self::Utf16 => match body {
                [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
                [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
                _ => utf16(body, u16::from_le_bytes),
            },
            Self::Utf16Le => utf16(body, u16::from_le_bytes),
            Self::Utf16Be => utf16(body, u16::from_be_bytes),
        }
    }

    /// Whether packed bytes are sure to reach a worker as bytes, and to be what its serializer reads once they are unpacked: UTF-8,
    /// whatever the encoding says.
    #[must_use]
    pub fn leaves(self, packed: &[u8]) -> bool {
        matches!(self, Self::Bytes | Self::Utf8 | Self::Ascii) && self.text(packed).is_none()
    }
}

fn utf16(body: &[u8], unit: fn([u8; 2]) -> u16) -> Option<Cow<'_, [u8]>> {
    let (pairs, rest) = body.as_chunks::<2>();
    let text = rest.is_empty().then(|| char::decode_utf16(pairs.iter().copied().map(unit)))?;
    Some(Cow::Owned(text.collect::<Result<String, _>>().ok()?.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, body: &[u8]) -> Option<String> {
        Encoding::of(Some(name.as_bytes()))
            .text(body)
            .map(|text| String::from_utf8(text.into_owned()).unwrap())
    }

    #[test]
    fn a_body_becomes_the_text_that_python_makes_of_it() {
        for (name, body, want) in [
            ("utf-8", &b"\xc3\xa9"[..], Some("é")),
            ("UTF8", b"\xc3\xa9", Some("é")),
            ("utf-8", b"\xe9", None),
            ("us-ascii", b"e", Some("e")),
            ("ascii", b"\xc3\xa9", None),
            ("latin-1", b"\xe9a", Some("éa")),
            ("ISO-8859-1", b"a", Some("a")),
            ("utf-16", b"\xff\xfe\xe9\0", Some("é")),
            ("utf-16", b"\xfe\xff\0\xe9", Some("é")),
            ("UTF-16LE", b"\xe9\0", Some("é")),
            ("utf_16_be", b"\xd8\x3d\xde\x00", Some("😀")),
            ("utf-16-be", b"\xd8\x3d", None),
            ("utf-16", b"\xe9", None),
            ("binary", b"a", None),
            ("koi8-r", b"a", None),
        ] {
            assert_eq!(text(name, body).as_deref(), want, "{name} {body:?}");
        }
    }

    #[test]
    fn packed_bytes_stay_bytes_only_where_no_codec_takes_them() {
        let packed = b"\x78\x9c\x01";
        for (name, leaves) in [
            (None, true),
            (Some("utf-8"), true),
            (Some("binary"), true),
            (Some("us-ascii"), true),
            (Some("latin-1"), false),
            (Some("utf-16"), false),
            (Some("koi8-r"), false),
        ] {
            assert_eq!(Encoding::of(name.map(str::as_bytes)).leaves(packed), leaves, "{name:?}");
        }
        assert!(!Encoding::Utf8.leaves(b"a body that is text"));
    }
}
