//! A new `expires` in a body of protocol 1, spliced: every other byte of the body stays as it was.

use std::ops::Range;

use super::body::{self, BodyLimits, Serializer, Unreadable};
use super::compression::{self, Codec, Effort};
use super::result::push_json;
use super::{json, msgpack, pickle, time, yaml};

/// Why a body cannot be given an expiry. It is to be forwarded as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPatchable {
    /// It could not be read.
    Unreadable(Unreadable),
    /// It is no dict.
    NoDict,
    /// Compressed again it would not be itself: the codec failed.
    Codec,
}

impl From<Unreadable> for NotPatchable {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

/// A body of protocol 1 as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct BodyV1<'a> {
    /// What made it.
    pub serializer: Serializer,
    /// What packed it, by its `compression` header. It is packed with the same again.
    pub codec: Option<Codec>,
    /// In pieces.
    pub pieces: &'a [&'a [u8]],
}

/// The body with its `expires` set to a moment, unpacked and packed again where it must be.
pub fn set_expires(
    sent: &BodyV1<'_>,
    unix_micros: i64,
    limits: &BodyLimits,
    effort: Effort,
) -> Result<Vec<u8>, NotPatchable> {
    let plain = body::unpack(sent.codec.map(|codec| codec.content_type().as_bytes()), sent.pieces, limits)?;
    let patched = set_expires_plain(sent.serializer, &plain, unix_micros, limits)?;
    let Some(codec) = sent.codec else { return Ok(patched) };
    let mut packed = Vec::new();
    compression::compress(codec, effort, &[&patched], &mut packed).map_err(|_| NotPatchable::Codec)?;
    Ok(packed)
}

/// As [`set_expires`], for a body that is not compressed.
pub fn set_expires_plain(
    serializer: Serializer,
    plain: &[u8],
    unix_micros: i64,
    limits: &BodyLimits,
) -> Result<Vec<u8>, NotPatchable> {
    let moment = time::format(unix_micros);
    match serializer {
        Serializer::Json => in_json(plain, &moment),
        Serializer::Msgpack => in_msgpack(plain, &moment),
        // The flow style: JSON's own, which YAML reads.
        Serializer::Yaml if plain.trim_ascii_start().starts_with(b"{") => in_json(plain, &moment),
        Serializer::Yaml => in_yaml(plain, &moment),
        Serializer::Pickle => in_pickle(plain, &moment, limits.pickle_items),
    }
}

/// `bytes` with each range, in order, replaced.
fn splice(bytes: &[u8], ranges: &[Range<usize>], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + ranges.len() * with.len());
    let mut at = 0;
    for range in ranges {
        out.extend_from_slice(bytes.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(with);
        at = range.end;
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
    out
}

fn in_json(plain: &[u8], moment: &str) -> Result<Vec<u8>, NotPatchable> {
    let mut old = Vec::new();
    let object = json::members(plain, |key, range| {
        if key == b"expires" {
            old.push(range);
        }
    })?
    .ok_or(NotPatchable::NoDict)?;
    let mut value = String::new();
    push_json(&mut value, moment.as_bytes());
    if old.is_empty() {
        let comma = if object.is_empty { "" } else { ", " };
        return Ok(splice(
            plain,
            std::slice::from_ref(&(object.end..object.end)),
            format!("{comma}\"expires\": {value}").as_bytes(),
        ));
    }
    Ok(splice(plain, &old, value.as_bytes()))
}

fn in_msgpack(plain: &[u8], moment: &str) -> Result<Vec<u8>, NotPatchable> {
    let mut old = Vec::new();
    let map = msgpack::entries(plain, |key, range| {
        if key == b"expires" {
            old.push(range);
        }
    })?
    .ok_or(NotPatchable::NoDict)?;
    let mut value = Vec::new();
    msgpack::write_str(&mut value, moment.as_bytes());
    if !old.is_empty() {
        return Ok(splice(plain, &old, &value));
    }
    let mut head = Vec::new();
    msgpack::write_map_head(&mut head, map.entries.saturating_add(1));
    let mut out = splice(plain, &[map.head], &head);
    msgpack::write_str(&mut out, b"expires");
    out.extend_from_slice(&value);
    Ok(out)
}

fn in_yaml(plain: &[u8], moment: &str) -> Result<Vec<u8>, NotPatchable> {
    yaml::fields(plain)?.ok_or(NotPatchable::NoDict)?;
    let entry = format!("expires: '{moment}'\n");
    let old = yaml::entries(plain, b"expires");
    if !old.is_empty() {
        return Ok(splice(plain, &old, entry.as_bytes()));
    }
    // At the very beginning, after the document's own mark: what follows stays what it was, whatever it ends in.
    let first = plain.split_inclusive(|&b| b == b'\n').next().unwrap_or_default();
    let at = if first.ends_with(b"\n") && yaml::is_document_mark(first) { first.len() } else { 0 };
    Ok(splice(plain, std::slice::from_ref(&(at..at)), entry.as_bytes()))
}

/// Sets the item once more before the end: of equal keys the last counts, and nothing before it moves.
fn in_pickle(plain: &[u8], moment: &str, items: usize) -> Result<Vec<u8>, NotPatchable> {
    let end = pickle::end_of_dict(plain, items)?.ok_or(NotPatchable::NoDict)?;
    let mut item = Vec::new();
    pickle::write_item(&mut item, b"expires", moment.as_bytes());
    let mut out = splice(plain, std::slice::from_ref(&(end.stop..end.stop)), &item);
    if let Some(frame) = end.frame
        && let Some(len) = out.get_mut(frame..).and_then(|rest| rest.first_chunk_mut())
    {
        *len = (u64::from_le_bytes(*len).saturating_add(crate::wire::num::u64_of(item.len()))).to_le_bytes();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::celery::encoding::Encoding;

    const AT: i64 = 2_209_086_245_123_456;
    const MOMENT: &str = "2040-01-02T03:04:05.123456+00:00";

    fn set(serializer: Serializer, plain: &[u8]) -> Vec<u8> {
        let out = set_expires_plain(serializer, plain, AT, &BodyLimits::default()).unwrap();
        let pieces = [&out[..]];
        let sealed =
            body::Sealed { serializer, compression: None, encoding: Encoding::Bytes, pieces: &pieces };
        let fields = body::read(&sealed, &BodyLimits::default()).unwrap().unwrap();
        assert_eq!(fields.expires.as_str(), Some(MOMENT));
        out
    }

    #[test]
    fn json_is_changed_in_place_or_at_its_end() {
        assert_eq!(
            set(Serializer::Json, br#"{"expires" : null , "task":"a"} "#),
            format!(r#"{{"expires" : "{MOMENT}" , "task":"a"}} "#).as_bytes()
        );
        assert_eq!(
            set(Serializer::Json, br#"{"task":"a", "kwargs": {"expires": 1} }"#),
            format!(r#"{{"task":"a", "kwargs": {{"expires": 1}} , "expires": "{MOMENT}"}}"#).as_bytes()
        );
        assert_eq!(set(Serializer::Json, b"{}"), format!(r#"{{"expires": "{MOMENT}"}}"#).as_bytes());
        assert_eq!(
            set_expires_plain(Serializer::Json, b"[]", AT, &BodyLimits::default()),
            Err(NotPatchable::NoDict)
        );
    }

    #[test]
    fn msgpack_is_changed_in_place_or_grows_by_one_entry() {
        let value = [b"\xd9\x20", MOMENT.as_bytes()].concat();
        assert_eq!(
            set(Serializer::Msgpack, b"\x82\xa7expires\xc0\xa1a\x01"),
            [b"\x82\xa7expires", &value[..], b"\xa1a\x01"].concat()
        );
        assert_eq!(
            set(Serializer::Msgpack, b"\x81\xa1a\x01"),
            [b"\x82\xa1a\x01\xa7expires", &value[..]].concat()
        );
        let fifteen = [&b"\x8f"[..], &b"\xa1a\x01".repeat(15)].concat();
        assert!(set(Serializer::Msgpack, &fifteen).starts_with(b"\xde\x00\x10\xa1a"));
    }

    #[test]
    fn yaml_is_changed_line_by_line() {
        let line = format!("expires: '{MOMENT}'\n");
        assert_eq!(
            set(Serializer::Yaml, b"args:\n- 1\nexpires: null\nid: a\n"),
            format!("args:\n- 1\n{line}id: a\n").as_bytes()
        );
        assert_eq!(set(Serializer::Yaml, b"expires:\n  2040\nid: a"), format!("{line}id: a").as_bytes());
        assert_eq!(set(Serializer::Yaml, b"---\nid: a\n"), format!("---\n{line}id: a\n").as_bytes());
        assert_eq!(set(Serializer::Yaml, b"--- \r\nid: a\n"), format!("--- \r\n{line}id: a\n").as_bytes());
        assert_eq!(set(Serializer::Yaml, b"'expires': null\nid: a\n"), format!("{line}id: a\n").as_bytes());
        assert_eq!(set(Serializer::Yaml, b"id: a"), format!("{line}id: a").as_bytes());
    }

    #[test]
    fn a_pickle_gets_one_item_more_and_its_frame_grows() {
        let item = [&b"X\x07\0\0\0expiresX\x20\0\0\0"[..], MOMENT.as_bytes(), b"s"].concat();
        assert_eq!(
            set(Serializer::Pickle, b"\x80\x02}q\x01(U\x07expiresq\x02Nu."),
            [b"\x80\x02}q\x01(U\x07expiresq\x02Nu", &item[..], b"."].concat()
        );
        let framed = b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94(\x8c\x07expires\x94Nu.";
        let out = set(Serializer::Pickle, framed);
        assert_eq!(out[3..11], (16 + crate::wire::num::u64_of(item.len())).to_le_bytes());
        assert_eq!(out.len(), framed.len() + item.len());
        let outside = b"\x80\x04\x95\x0f\0\0\0\0\0\0\0}\x94(\x8c\x07expires\x94Nu.";
        assert_eq!(set(Serializer::Pickle, outside)[3..11], 15_u64.to_le_bytes());
        assert_eq!(
            set_expires_plain(Serializer::Pickle, b"N.", AT, &BodyLimits::default()),
            Err(NotPatchable::NoDict)
        );
    }

    #[test]
    fn a_compressed_body_is_packed_with_its_own_codec_again() {
        let mut packed = Vec::new();
        let effort = Effort::default();
        compression::compress(Codec::Bzip2, effort, &[b"{\"task\": \"a\"}"], &mut packed).unwrap();
        let (head, tail) = packed.split_at(5);
        let pieces = [head, tail];
        let sent = BodyV1 { serializer: Serializer::Json, codec: Some(Codec::Bzip2), pieces: &pieces };
        let out = set_expires(&sent, AT, &BodyLimits::default(), effort).unwrap();
        let plain = compression::decompress(Codec::Bzip2, &[&out], &BodyLimits::default()).unwrap();
        assert_eq!(plain, format!("{{\"task\": \"a\", \"expires\": \"{MOMENT}\"}}").as_bytes());
    }
}
