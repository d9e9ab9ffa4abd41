//! A JSON value as a field of a task: numbers, strings and their escapes, pairs, and Kombu's `datetime`.

use std::borrow::Cow;

use crate::celery::field::{Datum, Text};
use crate::celery::time;

/// A number that is an `Int` or a `Float`; integers past 64 bits are floats here. JSON knows no leading zeros, and no bare points.
pub(super) fn number<'a>(token: &[u8]) -> Option<Datum<'a>> {
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    let fits = match digits {
        [b'0', b'0'..=b'9', ..] => false,
        [b'0'..=b'9', ..] => digits
            .iter()
            .zip(digits.iter().skip(1).chain([&b'.']))
            .all(|(&octet, after)| octet != b'.' || after.is_ascii_digit()),
        _ => false,
    };
    if !fits {
        return None;
    }
    let text = std::str::from_utf8(token).ok()?;
    if let Ok(n) = text.parse() {
        return Some(Datum::Int(n));
    }
    text.parse().ok().map(Datum::Float)
}

/// What a value says of itself, as far as a field of a task may.
pub(super) fn datum(raw: &[u8]) -> Datum<'_> {
    match raw {
        [b'"', text @ .., b'"'] => Datum::Text(Text(unescape(text))),
        b"null" => Datum::Null,
        b"true" => Datum::Bool(true),
        b"false" => Datum::Bool(false),
        [b'[', items @ .., b']'] => pair(items),
        [b'{', ..] => typed(raw),
        token => number(token).unwrap_or(Datum::Other),
    }
}

fn pair(items: &[u8]) -> Datum<'_> {
    let mut parts = items.split(|&b| b == b',').map(|part| match part.trim_ascii() {
        b"null" => Some(None),
        token => number(token).map(|n| n.number()),
    });
    match (parts.next().flatten(), parts.next().flatten(), parts.next()) {
        (Some(first), Some(second), None) => Datum::Pair([first, second]),
        _ => Datum::Other,
    }
}

/// Kombu's JSON since 5.3 makes `{"__type__": "datetime", "__value__": …}` of a `datetime`, and a worker makes a `datetime` of that again
/// (kombu/utils/json.py, `object_hook`): of an object with these two keys and no other.
fn typed(raw: &[u8]) -> Datum<'_> {
    let (mut kind, mut value, mut others) = (None, None, false);
    let seen = super::members(raw, |key, range| match key {
        b"__type__" => kind = raw.get(range).map(text_of),
        b"__value__" => value = raw.get(range).map(text_of),
        _ => others = true,
    });
    match (seen, kind.flatten(), value.flatten()) {
        (Ok(Some(_)), Some(kind), Some(value)) if !others && *kind == *b"datetime" => {
            time::parse(&value).map_or(Datum::Other, Datum::Moment)
        }
        _ => Datum::Other,
    }
}

fn text_of(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    match raw {
        [b'"', text @ .., b'"'] => Some(unescape(text)),
        _ => None,
    }
}

/// The characters that a string stands for. Lone surrogates become three octets that are not UTF-8, as Python's surrogatepass has it.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        if octet != b'\\' {
            out.push(octet);
            continue;
        }
        let Some((&escape, after)) = rest.split_first() else { break };
        rest = after;
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (mut unit, mut after) = hex4(rest);
                if (0xD800..0xDC00).contains(&unit)
                    && let Some(low) = after.strip_prefix(b"\\u")
                    && let (low @ 0xDC00..0xE000, end) = hex4(low)
                {
                    unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                    after = end;
                }
                push_code(&mut out, unit);
                rest = after;
            }
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// Four hexadecimal digits and what follows them; 0xFFFD for what is none.
fn hex4(rest: &[u8]) -> (u32, &[u8]) {
    rest.split_at_checked(4)
        .and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u32::from_str_radix(digits, 16).ok()?, after))
        })
        .unwrap_or((0xFFFD, rest))
}

/// Appends a code point as UTF-8, surrogates too.
pub(in crate::celery) fn push_code(out: &mut Vec<u8>, code: u32) {
    if let Some(character) = char::from_u32(code) {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        let [_, _, high, low] = code.to_be_bytes();
        out.extend_from_slice(&[0xE0 | high >> 4, 0x80 | (high & 0x0F) << 2 | low >> 6, 0x80 | low & 0x3F]);
    }
}
