//! JSON bodies, skimmed: the members of the outermost object, and where each value lies. Nothing inside is made.
//!
//! Python's dialect: NaN and the infinities are numbers, lone surrogates are characters, and of equal keys the last counts.

mod value;

use std::ops::Range;

pub(super) use value::push_code;
use value::{datum, number, unescape};

use super::body::Unreadable;
use super::field::Fields;

/// Objects and arrays inside one another. Python's own reader gives up at about as many.
const DEPTH_MAX: usize = 1024;

/// The keys of a body that is an object; `None` where it is another value.
pub(crate) fn fields(bytes: &[u8]) -> Result<Option<Fields<'_>>, Unreadable> {
    let mut fields = Fields::default();
    let object = members(bytes, |key, range| {
        if Fields::wants(key) {
            fields.put(key, datum(bytes.get(range).unwrap_or_default()));
        }
    })?;
    Ok(object.map(|_| fields))
}

/// An object's outermost braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Object {
    /// Where the closing brace is.
    pub(crate) end: usize,
    /// Whether nothing is inside.
    pub(crate) is_empty: bool,
}

/// Shows each member of the outermost object: its key, and where its value lies. `None` where the body is another value.
pub(crate) fn members(
    bytes: &[u8],
    mut visit: impl FnMut(&[u8], Range<usize>),
) -> Result<Option<Object>, Unreadable> {
    let mut scan = Scan { bytes, at: 0 };
    scan.space();
    if scan.peek() != Some(b'{') {
        scan.value()?;
        return scan.ended().map(|()| None);
    }
    scan.at += 1;
    scan.space();
    let mut is_empty = true;
    if scan.peek() != Some(b'}') {
        loop {
            is_empty = false;
            let key = scan.key()?;
            scan.space();
            let start = scan.at;
            scan.value()?;
            visit(&unescape(key), start..scan.at);
            scan.space();
            match scan.next() {
                Some(b',') => scan.space(),
                Some(b'}') => break,
                _ => return Err(Unreadable::Syntax),
            }
        }
        scan.at -= 1;
    }
    let end = scan.at;
    scan.at += 1;
    scan.ended()?;
    Ok(Some(Object { end, is_empty }))
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let octet = self.peek()?;
        self.at += 1;
        Some(octet)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn ended(&mut self) -> Result<(), Unreadable> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(Unreadable::Syntax) }
    }

    /// A string; what is between its quotes, escapes and all.
    fn string(&mut self) -> Result<&'a [u8], Unreadable> {
        if self.next() != Some(b'"') {
            return Err(Unreadable::Syntax);
        }
        let start = self.at;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let stop = rest.iter().position(|&b| matches!(b, b'"' | b'\\' | 0..=0x1f));
            self.at += stop.ok_or(Unreadable::Syntax)?;
            match self.next() {
                Some(b'"') => return self.bytes.get(start..self.at - 1).ok_or(Unreadable::Syntax),
                Some(b'\\') => self.escape()?,
                // Python's reader refuses control characters, and so a worker this body.
                _ => return Err(Unreadable::Syntax),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), Unreadable> {
        match self.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let digits = self.bytes.get(self.at..self.at + 4).ok_or(Unreadable::Syntax)?;
                self.at += 4;
                if digits.iter().all(u8::is_ascii_hexdigit) { Ok(()) } else { Err(Unreadable::Syntax) }
            }
            _ => Err(Unreadable::Syntax),
        }
    }

    /// A string and the colon after it.
    fn key(&mut self) -> Result<&'a [u8], Unreadable> {
        let key = self.string()?;
        self.space();
        if self.next() == Some(b':') { Ok(key) } else { Err(Unreadable::Syntax) }
    }

    /// A number, or a word.
    fn scalar(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        let token = self.bytes.get(start..self.at).unwrap_or_default();
        let word = matches!(token, b"null" | b"true" | b"false" | b"NaN" | b"Infinity" | b"-Infinity");
        if word || number(token).is_some() { Ok(()) } else { Err(Unreadable::Syntax) }
    }

    /// A value of any kind, without recursion: a bit for each container that is open, set for objects.
    fn value(&mut self) -> Result<(), Unreadable> {
        let mut open = [0_u64; DEPTH_MAX / 64];
        let mut depth = 0_usize;
        loop {
            self.space();
            let opened = self.peek();
            match opened {
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'{' | b'[') => {
                    let is_object = opened == Some(b'{');
                    self.at += 1;
                    let word = open.get_mut(depth / 64).ok_or(Unreadable::TooComplex)?;
                    *word = *word & !(1 << (depth % 64)) | (u64::from(is_object) << (depth % 64));
                    depth += 1;
                    self.space();
                    if self.peek() != Some(if is_object { b'}' } else { b']' }) {
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(_) => self.scalar()?,
                None => return Err(Unreadable::Syntax),
            }
            // A value has ended (or an empty container is about to): close what closes, up to the next value.
            loop {
                let Some(inner) = depth.checked_sub(1) else { return Ok(()) };
                let is_object = open.get(inner / 64).is_some_and(|word| word >> (inner % 64) & 1 == 1);
                self.space();
                match self.next() {
                    Some(b',') => {
                        self.space();
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => depth = inner,
                    Some(b']') if !is_object => depth = inner,
                    _ => return Err(Unreadable::Syntax),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TASK: &str = r#"{"task": "proj.add", "id": "1\u00e9\ud83d\ude00", "args": [[1, {"task": "no"}], NaN, -Infinity, "\"]}"],
        "retries": 2, "expires": null, "eta": "2040", "utc": false, "timelimit": [30, 2.5], "taskset": "g", "chord": {"id": {}}}"#;

    #[test]
    fn only_the_outermost_members_are_read() {
        let mut fields = fields(TASK.as_bytes()).unwrap().unwrap();
        assert_eq!(fields.task.take().unwrap().as_str(), Some("proj.add"));
        assert_eq!(fields.id.take().unwrap().as_str(), Some("1é😀"));
        assert_eq!((fields.retries, fields.utc), (Some(2), Some(false)));
        assert!(!fields.expires.is_stated());
        assert_eq!(fields.eta.as_str(), Some("2040"));
        let limit = fields.time_limit.unwrap();
        assert_eq!((limit.hard, limit.soft), (Some(30.0), Some(2.5)));
        assert_eq!(fields.group_of_v1().unwrap().as_str(), Some("g"));
    }

    #[test]
    fn a_body_cut_at_every_byte_is_unreadable() {
        for cut in 0..TASK.len() {
            assert_eq!(fields(&TASK.as_bytes()[..cut]), Err(Unreadable::Syntax), "cut at {cut}");
        }
    }

    #[test]
    fn another_value_is_no_dict_and_garbage_is_unreadable() {
        for other in ["[1, [], {}]", "3", "\"task\"", " null ", "{}"] {
            assert!(fields(other.as_bytes()).unwrap().is_none_or(|f| f == Fields::default()), "{other}");
        }
        for garbage in [
            "",
            "hello",
            "{]",
            "[1 2]",
            "{\"a\" 1}",
            "{\"a\": 1,}",
            "[1,]",
            "{} x",
            "[",
            "{\"a\": [}",
            "[1}",
            "01a",
            "01",
            "-01",
            "1.",
            "1.e5",
            "+1",
            ".5",
            "\"a\nb\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12",
            "'a'",
        ] {
            assert_eq!(fields(garbage.as_bytes()), Err(Unreadable::Syntax), "{garbage}");
        }
    }

    #[test]
    fn nesting_is_bounded_without_recursion() {
        let deep = |n: usize| format!("{{\"args\": {}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(fields(deep(1024).as_bytes()).is_ok());
        assert_eq!(fields(deep(1025).as_bytes()), Err(Unreadable::TooComplex));
        assert_eq!(fields("[".repeat(1 << 20).as_bytes()), Err(Unreadable::TooComplex));
    }

    #[test]
    fn of_equal_keys_the_last_counts() {
        let fields = fields(br#"{"task": "a", "t\u0061sk": "b"}"#).unwrap().unwrap();
        assert_eq!(fields.task.unwrap().as_str(), Some("b"));
    }

    #[test]
    fn kombus_datetime_is_a_moment_and_no_other_object_is() {
        let stated = |value: &str| {
            let body = format!(r#"{{"task": "a", "expires": {value}}}"#);
            fields(body.as_bytes()).unwrap().unwrap().expires.instant().map(|at| (at.unix_micros, at.naive))
        };
        let at = 2_209_086_245_000_000;
        let aware = r#"{"__type__": "datetime", "__value__": "2040-01-02T03:04:05+00:00"}"#;
        assert_eq!(stated(aware), Some((at, false)));
        assert_eq!(
            stated(r#"{ "__value__":"2040-01-02T03:04:05", "__type__" : "datet\u0069me" }"#),
            Some((at, true))
        );
        for other in [
            aware.replace("datetime", "date"),
            aware.replace("__value__", "value"),
            aware.replace('}', r#", "more": 1}"#),
            aware.replace("\"2040-01-02T03:04:05+00:00\"", "2040"),
            "{}".to_owned(),
        ] {
            assert_eq!(stated(&other), None, "{other}");
        }
    }

    #[test]
    fn a_lone_surrogate_is_not_utf8() {
        let fields = fields(br#"{"task": "\ud800"}"#).unwrap().unwrap();
        assert_eq!(fields.task.unwrap().bytes(), b"\xed\xa0\x80");
    }

    proptest! {
        #[test]
        fn what_serde_json_reads_we_read(text in r#"[\[\]{}":,0-9.eE+\-\\ntrufals ]{0,40}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            if let Ok(value) = theirs {
                prop_assert_eq!(fields(text.as_bytes()).map(|f| f.is_some()), Ok(value.is_object()));
            }
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..200, with in any::<u8>()) {
            let _ = fields(&bytes);
            let mut damaged = TASK.as_bytes().to_vec();
            damaged[at] = with;
            let _ = fields(&damaged);
        }
    }
}
