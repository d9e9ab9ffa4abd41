//! Numbers and strings as pickles write them, from protocol 0's decimal lines to protocol 5's counted octets.

use std::borrow::Cow;

use super::machine::Item;
use super::moment::Part;
use crate::celery::body::Unreadable;
use crate::celery::json::push_code;
use crate::wire::num::{usize_clamped, usize_of};
use crate::wire::reader::{Reader, Short};

pub(super) fn number<'a>(op: u8, reader: &mut Reader<'a>) -> Result<Item<'a>, Unreadable> {
    Ok(match op {
        b'K' => Item::Int(reader.u8()?.into()),
        b'M' => Item::Int(u16::from_le_bytes(reader.array()?).into()),
        b'J' => Item::Int(i32::from_le_bytes(reader.array()?).into()),
        b'G' => Item::Float(f64::from_be_bytes(reader.array()?)),
        0x8a => {
            let len = reader.u8()?;
            long(reader.take(usize::from(len))?)
        }
        0x8b => {
            let len = u32::from_le_bytes(reader.array()?);
            long(reader.take(usize_of(len))?)
        }
        b'I' => match line(reader)? {
            b"00" => Item::Bool(false),
            b"01" => Item::Bool(true),
            digits => decimal(digits).map_or(Item::Opaque, Item::Int),
        },
        b'L' => {
            let digits = line(reader)?;
            decimal(digits.strip_suffix(b"L").unwrap_or(digits)).map_or(Item::Opaque, Item::Int)
        }
        _ => {
            let float = std::str::from_utf8(line(reader)?).ok().and_then(|text| text.parse().ok());
            float.map_or(Item::Opaque, Item::Float)
        }
    })
}

/// Two's complement, little-endian, any length; past 64 bits nobody asks for the value.
fn long<'a>(bytes: &[u8]) -> Item<'a> {
    let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
    let mut octets = [if negative { 0xff } else { 0 }; 8];
    if bytes.len() > octets.len() {
        return Item::Opaque;
    }
    for (octet, &byte) in octets.iter_mut().zip(bytes) {
        *octet = byte;
    }
    Item::Int(i64::from_le_bytes(octets))
}

pub(super) fn text<'a>(op: u8, reader: &mut Reader<'a>) -> Result<Item<'a>, Unreadable> {
    let len = match op {
        b'V' => return Ok(Item::Escaped(line(reader)?)),
        b'S' => {
            // A Python literal: kept where it has no escapes, as every name and id is.
            let (b'\'', [text @ .., b'\'']) =
                line(reader)?.split_first().map_or((0, &[][..]), |(q, t)| (*q, t))
            else {
                return Ok(Item::Opaque);
            };
            return Ok(if text.contains(&b'\\') { Item::Opaque } else { Item::Text(text) });
        }
        b'U' | 0x8c | b'C' => reader.u8()?.into(),
        b'T' | b'X' | b'B' => usize_of(u32::from_le_bytes(reader.array()?)),
        _ => usize_clamped(u64::from_le_bytes(reader.array()?)),
    };
    let bytes = reader.take(len)?;
    Ok(match op {
        // Python 3 reads Python 2's strings as ASCII, and nothing else.
        b'U' | b'T' if !bytes.is_ascii() => Item::Part(Part::Octets(bytes)),
        b'U' | b'T' | b'X' | 0x8c | 0x8d => Item::Text(bytes),
        _ => Item::Part(Part::Octets(bytes)),
    })
}

/// Up to the next line feed, which is taken too.
pub(super) fn line<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Short> {
    let len = reader.rest().iter().position(|&b| b == b'\n').ok_or(Short)?;
    let line = reader.take(len)?;
    reader.take(1)?;
    Ok(line)
}

pub(super) fn decimal(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

/// Python's raw-unicode-escape: Latin-1, with `\uXXXX` and `\UXXXXXXXX`.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.is_ascii() && !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        let digits = match (octet, after.first()) {
            (b'\\', Some(b'u')) => after.get(1..5),
            (b'\\', Some(b'U')) => after.get(1..9),
            _ => None,
        };
        let code = digits.and_then(|hex| u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code {
            Some(code) => {
                push_code(&mut out, code);
                rest = after.get(1 + digits.map_or(0, <[u8]>::len)..).unwrap_or_default();
            }
            None => push_code(&mut out, octet.into()),
        }
    }
    Cow::Owned(out)
}
