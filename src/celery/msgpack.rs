//! MessagePack bodies, skimmed like JSON: the entries of the outermost map, and where each value lies.
//!
//! Kombu unpacks with `raw=False`: keys that are not strings (Celery 3.1 on Python 2 packs them as bytes) are no task's to any worker since 4.0.

use std::ops::Range;

use super::body::Unreadable;
use super::field::{Datum, Fields, Text};
use crate::wire::num::{u32_clamped, usize_of};
use crate::wire::reader::{Reader, Short};

impl From<Short> for Unreadable {
    fn from(_: Short) -> Self {
        Self::Syntax
    }
}

/// The keys of a body that is a map; `None` where it is another value.
pub(crate) fn fields(bytes: &[u8]) -> Result<Option<Fields<'_>>, Unreadable> {
    let mut fields = Fields::default();
    let map = entries(bytes, |key, range| {
        if Fields::wants(key) {
            let value = bytes.get(range).unwrap_or_default();
            // A name in bytes is registered at no worker.
            let is_name = key == b"task" && matches!(value, [0xc4..=0xc6, ..]);
            fields.put(key, if is_name { Datum::Other } else { datum(value) });
        }
    })?;
    Ok(map.map(|_| fields))
}

/// An outermost map's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    /// The octets that say how many entries there are.
    pub(crate) head: Range<usize>,
    /// How many.
    pub(crate) entries: u32,
}

/// Shows each entry of the outermost map that has a string for a key. `None` where the body is another value.
pub(crate) fn entries(
    bytes: &[u8],
    mut visit: impl FnMut(&[u8], Range<usize>),
) -> Result<Option<Map>, Unreadable> {
    let mut reader = Reader::new(bytes);
    let head = Head::read(&mut reader)?;
    let Head::Map(count) = head else {
        skip_inside(&mut reader, head)?;
        return if reader.is_empty() { Ok(None) } else { Err(Unreadable::Syntax) };
    };
    let at = |reader: &Reader<'_>| bytes.len() - reader.rest().len();
    let map = Map { head: 0..at(&reader), entries: count };
    for _ in 0..count {
        let key = Head::read(&mut reader)?;
        let key = if let Head::Str(text) = key {
            Some(text)
        } else {
            skip_inside(&mut reader, key)?;
            None
        };
        let start = at(&reader);
        let value = Head::read(&mut reader)?;
        skip_inside(&mut reader, value)?;
        if let Some(key) = key {
            visit(key, start..at(&reader));
        }
    }
    if reader.is_empty() { Ok(Some(map)) } else { Err(Unreadable::Syntax) }
}

/// A value, or the beginning of a container.
#[derive(Debug, Clone, Copy)]
enum Head<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a [u8]),
    Array(u32),
    Map(u32),
    /// Bytes.
    Bin(&'a [u8]),
    /// Extensions, integers past 63 bits.
    Other,
}

impl<'a> Head<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        Ok(match reader.u8()? {
            n @ 0x00..=0x7f => Self::Int(n.into()),
            n @ 0x80..=0x8f => Self::Map(u32::from(n & 0x0f)),
            n @ 0x90..=0x9f => Self::Array(u32::from(n & 0x0f)),
            n @ 0xa0..=0xbf => Self::Str(reader.take(usize::from(n & 0x1f))?),
            0xc0 => Self::Nil,
            0xc2 => Self::Bool(false),
            0xc3 => Self::Bool(true),
            0xc4 => Self::Bin(reader.shortstr()?),
            0xc5 => {
                let len = reader.u16()?;
                Self::Bin(reader.take(usize::from(len))?)
            }
            0xc6 => Self::Bin(reader.longstr()?),
            0xc7 => other(reader, |r| Ok(u32::from(r.u8()?)), 1)?,
            0xc8 => other(reader, |r| Ok(u32::from(r.u16()?)), 1)?,
            0xc9 => other(reader, Reader::u32, 1)?,
            0xca => Self::Float(f32::from_be_bytes(reader.array()?).into()),
            0xcb => Self::Float(f64::from_be_bytes(reader.array()?)),
            0xcc => Self::Int(reader.u8()?.into()),
            0xcd => Self::Int(reader.u16()?.into()),
            0xce => Self::Int(reader.u32()?.into()),
            0xcf => i64::try_from(reader.u64()?).map_or(Self::Other, Self::Int),
            0xd0 => Self::Int(i8::from_be_bytes(reader.array()?).into()),
            0xd1 => Self::Int(i16::from_be_bytes(reader.array()?).into()),
            0xd2 => Self::Int(i32::from_be_bytes(reader.array()?).into()),
            0xd3 => Self::Int(i64::from_be_bytes(reader.array()?)),
            n @ 0xd4..=0xd8 => other(reader, |_| Ok(1 << (n - 0xd4)), 1)?,
            0xd9 => Self::Str(reader.shortstr()?),
            0xda => {
                let len = reader.u16()?;
                Self::Str(reader.take(usize::from(len))?)
            }
            0xdb => Self::Str(reader.longstr()?),
            0xdc => Self::Array(reader.u16()?.into()),
            0xdd => Self::Array(reader.u32()?),
            0xde => Self::Map(reader.u16()?.into()),
            0xdf => Self::Map(reader.u32()?),
            n @ 0xe0.. => Self::Int(i8::from_be_bytes([n]).into()),
            // Never used, says the format.
            0xc1 => return Err(Unreadable::Syntax),
        })
    }

    const fn inside(self) -> u64 {
        match self {
            Self::Array(items) => widen(items),
            Self::Map(entries) => 2 * widen(entries),
            _ => 0,
        }
    }
}

#[expect(clippy::as_conversions, reason = "a u32 widens; `From` is not const")]
const fn widen(n: u32) -> u64 {
    n as u64
}

fn other<'a>(
    reader: &mut Reader<'a>,
    len: impl FnOnce(&mut Reader<'a>) -> Result<u32, Short>,
    kind: usize,
) -> Result<Head<'a>, Unreadable> {
    let len = len(reader)?;
    reader.take(kind)?;
    reader.take(usize_of(len))?;
    Ok(Head::Other)
}

/// Skips what is inside a container, without recursion: only how many values are still to come has to be known.
fn skip_inside(reader: &mut Reader<'_>, head: Head<'_>) -> Result<(), Unreadable> {
    let mut pending = head.inside();
    while pending > 0 {
        // Every value takes an octet at least.
        if pending > crate::wire::num::u64_of(reader.rest().len()) {
            return Err(Unreadable::Syntax);
        }
        pending = pending - 1 + Head::read(reader)?.inside();
    }
    Ok(())
}

/// Appends a string.
pub(crate) fn write_str(out: &mut Vec<u8>, text: &[u8]) {
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(len @ ..=31), _) => out.push(0xa0 | len),
        (Ok(len), _) => out.extend_from_slice(&[0xd9, len]),
        (_, Ok(len)) => {
            out.push(0xda);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&u32_clamped(text.len()).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// Appends what a map of so many entries begins with.
pub(crate) fn write_map_head(out: &mut Vec<u8>, entries: u32) {
    match (u8::try_from(entries), u16::try_from(entries)) {
        (Ok(n @ ..=15), _) => out.push(0x80 | n),
        (_, Ok(n)) => {
            out.push(0xde);
            out.extend_from_slice(&n.to_be_bytes());
        }
        _ => {
            out.push(0xdf);
            out.extend_from_slice(&entries.to_be_bytes());
        }
    }
}

fn datum(raw: &[u8]) -> Datum<'_> {
    let mut reader = Reader::new(raw);
    let Ok(head) = Head::read(&mut reader) else { return Datum::Other };
    match scalar(head) {
        Datum::Other if matches!(head, Head::Array(2)) => {
            let mut limit = || match scalar(Head::read(&mut reader).ok()?) {
                Datum::Null => Some(None),
                number => number.number().map(Some),
            };
            match (limit(), limit()) {
                (Some(first), Some(second)) => Datum::Pair([first, second]),
                _ => Datum::Other,
            }
        }
        datum => datum,
    }
}

const fn scalar(head: Head<'_>) -> Datum<'_> {
    match head {
        Head::Nil => Datum::Null,
        Head::Bool(b) => Datum::Bool(b),
        Head::Int(n) => Datum::Int(n),
        Head::Float(f) => Datum::Float(f),
        // Python 2 packs its own strings as bytes: an id of Celery 4 there is a task's all the same.
        Head::Str(text) | Head::Bin(text) => Datum::Text(Text::borrowed(text)),
        Head::Array(_) | Head::Map(_) | Head::Other => Datum::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TASK: &[u8] =
        b"\x86\xa4task\xa8proj.add\xa2id\xd9\x011\xa4args\x92\x02\x81\xa4task\xa2no\xa7retries\xff\
        \xa7expires\xc0\xa9timelimit\x92\xcb\x40\x3e\0\0\0\0\0\0\xc0";

    #[test]
    fn only_the_outermost_entries_are_read() {
        let fields = fields(TASK).unwrap().unwrap();
        assert_eq!(fields.task.unwrap().as_str(), Some("proj.add"));
        assert_eq!(fields.id.unwrap().as_str(), Some("1"));
        assert_eq!(fields.retries, Some(-1));
        let limit = fields.time_limit.unwrap();
        assert_eq!((limit.hard, limit.soft), (Some(30.0), None));
    }

    #[test]
    fn a_body_cut_at_every_byte_or_too_long_is_unreadable() {
        for cut in 0..TASK.len() {
            assert_eq!(fields(&TASK[..cut]), Err(Unreadable::Syntax), "cut at {cut}");
        }
        assert_eq!(fields(&[TASK, b"\xc0"].concat()), Err(Unreadable::Syntax));
    }

    #[test]
    fn keys_of_python_2_are_bytes_and_no_task() {
        let fields = fields(b"\x81\xc4\x04task\xc4\x01x").unwrap().unwrap();
        assert_eq!(fields, Fields::default());
    }

    #[test]
    fn ids_of_python_2_are_bytes_and_a_name_is_none() {
        let read = fields(b"\x82\xa4task\xa1a\xa2id\xc4\x01x").unwrap().unwrap();
        assert_eq!((read.task.unwrap().as_str(), read.id.unwrap().as_str()), (Some("a"), Some("x")));
        assert_eq!(fields(b"\x81\xa4task\xc4\x01a").unwrap().unwrap().task, None);
    }

    #[test]
    fn lengths_past_the_end_and_endless_nesting_are_refused_at_once() {
        assert_eq!(fields(b"\xdf\xff\xff\xff\xff"), Err(Unreadable::Syntax));
        assert_eq!(fields(b"\xdd\xff\xff\xff\xff\x01"), Err(Unreadable::Syntax));
        assert_eq!(fields(&[0x91; 1 << 20]), Err(Unreadable::Syntax));
        let mut deep = vec![0x91; 1 << 20];
        deep.push(0xc0);
        assert_eq!(fields(&deep), Ok(None));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..200, with in any::<u8>()) {
            let _ = fields(&bytes);
            let mut damaged = TASK.to_vec();
            let at = at % damaged.len();
            damaged[at] = with;
            let _ = fields(&damaged);
        }
    }
}
