//! Scalars as PyYAML writes them: plain, quoted, folded over lines; and what YAML 1.1 takes them for.

use crate::celery::field::{Datum, Text};
use crate::celery::json::push_code;

/// What follows an anchor (`&id001`): PyYAML names what it will repeat.
pub(super) fn after_anchor(value: &[u8]) -> &[u8] {
    if value.first() != Some(&b'&') {
        return value;
    }
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    value.get(end..).unwrap_or_default().trim_ascii_start()
}

/// A scalar that goes on below: PyYAML folds what is longer than a line. A line break is a space, and each empty line a line feed.
pub(super) fn folded(text: &[u8]) -> Datum<'static> {
    let escapes = text.starts_with(b"\"");
    let mut out = Vec::with_capacity(text.len());
    let mut breaks = 0;
    for line in text.split(|&b| b == b'\n').map(<[u8]>::trim_ascii) {
        if line.is_empty() {
            breaks += 1;
            continue;
        }
        match (breaks, out.is_empty()) {
            (_, true) => {}
            // An escaped line break is none; an even number of backslashes are characters.
            (0, _) if escapes && out.iter().rev().take_while(|&&b| b == b'\\').count() % 2 == 1 => {
                out.pop();
            }
            (0, _) => out.push(b' '),
            (empty, _) => out.extend(std::iter::repeat_n(b'\n', empty)),
        }
        breaks = 0;
        out.extend_from_slice(line);
    }
    match scalar(&out) {
        Datum::Text(text) => Datum::Text(text.into_owned()),
        _ => Datum::Other,
    }
}

pub(super) fn scalar(text: &[u8]) -> Datum<'_> {
    match text {
        [b'\'', inner @ .., b'\''] => single_quoted(inner),
        [b'"', inner @ .., b'"'] => double_quoted(inner),
        [b'[', items @ .., b']'] => flow_pair(items),
        [b'\'' | b'"' | b'[' | b'{' | b'&' | b'*' | b'!' | b'|' | b'>' | b'%' | b'@' | b'`', ..] => {
            Datum::Other
        }
        _ => plain(text),
    }
}

fn flow_pair(items: &[u8]) -> Datum<'_> {
    let mut parts = items.split(|&b| b == b',').map(|part| match scalar(part.trim_ascii()) {
        Datum::Null => Some(None),
        other => other.number().map(Some),
    });
    match (parts.next().flatten(), parts.next().flatten(), parts.next()) {
        (Some(first), Some(second), None) => Datum::Pair([first, second]),
        _ => Datum::Other,
    }
}

/// A plain scalar, resolved as YAML 1.1 has it. Moments stay text: they are read where they are asked for.
fn plain(text: &[u8]) -> Datum<'_> {
    let text = text
        .windows(2)
        .position(|pair| pair == b" #")
        .and_then(|at| text.get(..at))
        .unwrap_or(text)
        .trim_ascii_end();
    match text {
        b"" | b"~" | b"null" | b"Null" | b"NULL" => return Datum::Null,
        b"true" | b"True" | b"TRUE" | b"yes" | b"Yes" | b"YES" | b"on" | b"On" | b"ON" => {
            return Datum::Bool(true);
        }
        b"false" | b"False" | b"FALSE" | b"no" | b"No" | b"NO" | b"off" | b"Off" | b"OFF" => {
            return Datum::Bool(false);
        }
        _ => {}
    }
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    if !matches!(digits, [b'0'..=b'9' | b'.', ..]) {
        return Datum::Text(Text::borrowed(text));
    }
    let number = std::str::from_utf8(text).unwrap_or_default();
    if (digits == b"0" || !digits.starts_with(b"0"))
        && let Ok(n) = number.parse()
    {
        return Datum::Int(n);
    }
    if digits.contains(&b'.')
        && let Ok(f) = number.parse()
    {
        return Datum::Float(f);
    }
    // Octal, hexadecimal, sexagesimal and underscored numbers: nobody writes them here, and they are no text.
    let hex = digits.strip_prefix(b"0x").is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if hex || digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'_' | b':' | b'.')) {
        return Datum::Other;
    }
    Datum::Text(Text::borrowed(text))
}

fn single_quoted(inner: &[u8]) -> Datum<'_> {
    if !inner.contains(&b'\'') {
        return Datum::Text(Text::borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut octets = inner.iter();
    while let Some(&octet) = octets.next() {
        if octet == b'\'' && octets.next() != Some(&b'\'') {
            return Datum::Other;
        }
        out.push(octet);
    }
    Datum::Text(Text(out.into()))
}

fn double_quoted(inner: &[u8]) -> Datum<'_> {
    if !inner.iter().any(|b| matches!(b, b'"' | b'\\')) {
        return Datum::Text(Text::borrowed(inner));
    }
    unescape(inner).map_or(Datum::Other, |text| Datum::Text(Text(text.into())))
}

fn unescape(inner: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        match octet {
            b'"' => return None,
            b'\\' => {}
            _ => {
                out.push(octet);
                continue;
            }
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        let hex = match escape {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        if hex > 0 {
            let (digits, after) = rest.split_at_checked(hex)?;
            rest = after;
            push_code(&mut out, u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            continue;
        }
        push_code(
            &mut out,
            match escape {
                b'0' => 0,
                b'a' => 7,
                b'b' => 8,
                b't' | b'\t' => 9,
                b'n' => 10,
                b'v' => 11,
                b'f' => 12,
                b'r' => 13,
                b'e' => 27,
                b'N' => 0x85,
                b'_' => 0xA0,
                b'L' => 0x2028,
                b'P' => 0x2029,
                b' ' | b'"' | b'/' | b'\\' => escape.into(),
                _ => return None,
            },
        );
    }
    Some(out)
}
