//! YAML bodies as Kombu's `safe_dump` writes them: a block mapping at the margin. Only its keys are read, line by line.
//!
//! This is no YAML parser. What is not of that form is unreadable, which costs a task the policy, never its delivery.

use std::ops::Range;

use super::body::Unreadable;
use super::field::{Datum, Fields, Text};
use super::json::{self, push_code};

/// The keys of a body that is a block mapping; `None` where it is a sequence.
pub(crate) fn fields(bytes: &[u8]) -> Result<Option<Fields<'_>>, Unreadable> {
    match bytes.trim_ascii_start().first() {
        // YAML's flow style holds JSON; PyYAML writes a whole mapping so only where it has no list in it.
        Some(b'{') => return json::fields(bytes),
        Some(b'[') => return Ok(None),
        _ => {}
    }
    let mut reader = Mapping::default();
    for line in bytes.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line {
            [] | [b'#', ..] | b"---" => {}
            b"..." => break,
            b"-" | [b'-', b' ', ..] if reader.key.is_none() => return Ok(None),
            b"-" | [b'-', b' ', ..] => reader.item(line.get(1..).unwrap_or_default())?,
            [b' ' | b'\t', ..] => reader.nested(line)?,
            _ => reader.entry(line)?,
        }
    }
    reader.end_entry();
    if reader.key.is_none() {
        return Err(Unreadable::Syntax);
    }
    Ok(Some(reader.fields))
}

/// Where each entry under `key` lies: its line and all lines below that belong to its value.
pub(crate) fn entries(bytes: &[u8], key: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    let mut at = 0;
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let goes_on = matches!(line, [b' ' | b'\t' | b'-' | b'\r' | b'\n', ..]) && !line.starts_with(b"---");
        if !goes_on {
            if let Some(start) = start.take() {
                found.push(start..at);
            }
            if line
                .strip_prefix(key)
                .is_some_and(|after| matches!(after, [b':', b' ' | b'\r' | b'\n', ..] | b":"))
            {
                start = Some(at);
            }
        }
        at += line.len();
    }
    if let Some(start) = start {
        found.push(start..at);
    }
    found
}

#[derive(Default)]
struct Mapping<'a> {
    fields: Fields<'a>,
    /// The key whose value is being read.
    key: Option<&'a [u8]>,
    value: Value<'a>,
}

/// What has been seen of a value.
#[derive(Default)]
enum Value<'a> {
    /// Nothing, on the key's own line or below.
    #[default]
    Nothing,
    /// All of it on the key's own line, unless an indented line follows.
    Inline(Datum<'a>),
    /// A sequence: how many items, and the first two, where they are numbers or null.
    Items(usize, [Option<Option<f64>>; 2]),
    /// Anything that nobody asks for.
    Other,
}

impl<'a> Mapping<'a> {
    fn end_entry(&mut self) {
        let Some(key) = self.key else { return };
        let value = match std::mem::take(&mut self.value) {
            Value::Nothing => Datum::Null,
            Value::Inline(datum) => datum,
            Value::Items(2, [Some(first), Some(second)]) => Datum::Pair([first, second]),
            Value::Items(..) | Value::Other => Datum::Other,
        };
        self.fields.put(key, value);
    }

    /// `key: value` or `key:` at the margin.
    fn entry(&mut self, line: &'a [u8]) -> Result<(), Unreadable> {
        let colon = line
            .iter()
            .enumerate()
            .position(|(at, &b)| b == b':' && matches!(line.get(at + 1), None | Some(b' ')))
            .ok_or(Unreadable::Syntax)?;
        let (key, value) = line.split_at_checked(colon).ok_or(Unreadable::Syntax)?;
        let key = match key {
            [b'\'', key @ .., b'\''] | [b'"', key @ .., b'"'] => key,
            // Indicators: what they begin is not a plain key.
            [
                b'?' | b'&' | b'*' | b'!' | b'|' | b'>' | b'%' | b'@' | b'`' | b'[' | b'{' | b'\'' | b'"',
                ..,
            ] => {
                return Err(Unreadable::Syntax);
            }
            key => key,
        };
        self.end_entry();
        self.key = Some(key);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        self.value = if value.is_empty() { Value::Nothing } else { Value::Inline(scalar(value)) };
        Ok(())
    }

    /// An item of a sequence, without its dash.
    fn item(&mut self, item: &'a [u8]) -> Result<(), Unreadable> {
        let number = match scalar(item.trim_ascii()) {
            Datum::Null => Some(None),
            other => other.number().map(Some),
        };
        self.value = match std::mem::take(&mut self.value) {
            Value::Nothing => Value::Items(1, [number, None]),
            Value::Items(1, [first, _]) => Value::Items(2, [first, number]),
            Value::Items(..) | Value::Other => Value::Other,
            Value::Inline(_) => return Err(Unreadable::Syntax),
        };
        Ok(())
    }

    /// A line that is indented: part of the value that is being read.
    fn nested(&mut self, line: &'a [u8]) -> Result<(), Unreadable> {
        if self.key.is_none() {
            return Err(Unreadable::Syntax);
        }
        match line.trim_ascii() {
            [] => {}
            [b'-', b' ', item @ ..] if !matches!(self.value, Value::Inline(_)) => self.item(item)?,
            _ => self.value = Value::Other,
        }
        Ok(())
    }
}

fn scalar(text: &[u8]) -> Datum<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TASK: &str = "args:\n- 2\n- task: no\n  id: no\n- \"folded\\\n  \\ on\"\ncallbacks: null\nexpires: '2026-11-22T07:52:39+00:00'\n\
        id: 11111111-2222-4333-8444-555555555555\nkwargs:\n  a: {}\n  task: no\nretries: 3\nshadow: \"\\xE9'\"\n\
        task: proj.tasks.add\ntaskset: 'it''s'\ntimelimit:\n- null\n- 2.5\nutc: false\n";

    #[test]
    fn what_pyyaml_dumps_is_read() {
        let mut fields = fields(TASK.as_bytes()).unwrap().unwrap();
        assert_eq!(fields.task.take().unwrap().as_str(), Some("proj.tasks.add"));
        assert_eq!(fields.id.take().unwrap().as_str(), Some("11111111-2222-4333-8444-555555555555"));
        assert_eq!(fields.expires.as_str(), Some("2026-11-22T07:52:39+00:00"));
        assert_eq!(fields.shadow.take().unwrap().as_str(), Some("é'"));
        assert_eq!((fields.retries, fields.utc), (Some(3), Some(false)));
        let limit = fields.time_limit.unwrap();
        assert_eq!((limit.hard, limit.soft), (None, Some(2.5)));
        assert_eq!(fields.group_of_v1().unwrap().as_str(), Some("it's"));
    }

    #[test]
    fn old_pyyaml_writes_leaves_in_flow_style() {
        let text =
            "args: [2, 3]\nid: '12'\nkwargs: {}\nretries: 0\ntask: a\ntimelimit: [30, null]\nutc: true\n";
        let fields = fields(text.as_bytes()).unwrap().unwrap();
        assert_eq!(fields.id.unwrap().as_str(), Some("12"));
        assert_eq!(fields.time_limit.unwrap().hard, Some(30.0));
    }

    #[test]
    fn a_plain_value_that_goes_on_below_is_not_read_by_half() {
        let fields = fields(b"task: proj\n  add\nid: 1\n").unwrap().unwrap();
        assert_eq!((fields.task, fields.id), (None, None));
    }

    #[test]
    fn a_sequence_is_no_dict_and_anything_else_is_unreadable() {
        assert_eq!(fields(b"- 1\n- 2\n"), Ok(None));
        assert_eq!(fields(b"[1, 2]"), Ok(None));
        for text in [
            "",
            "hello",
            "{a: 1}",
            "  indented: 1\n",
            "? a\n: b\n",
            "a: 1\n- 2\n",
            "a: 1\nb\n",
            "%YAML 1.1\n",
        ] {
            assert_eq!(fields(text.as_bytes()), Err(Unreadable::Syntax), "{text}");
        }
    }

    #[test]
    fn a_body_cut_at_every_byte_never_panics() {
        for cut in 0..TASK.len() {
            let _ = fields(&TASK.as_bytes()[..cut]);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in r#"[ab:'"\\x0-9 \n\-{}\[\],#&*!|.]{0,60}"#, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = fields(text.as_bytes());
            let _ = fields(&bytes);
        }
    }
}
