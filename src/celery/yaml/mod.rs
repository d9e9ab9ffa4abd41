//! YAML bodies as Kombu's `safe_dump` writes them: a block mapping at the margin. Only its keys are read, line by line.
//!
//! This is no YAML parser. What is not of that form is unreadable, which costs a task the policy, never its delivery.

mod scalar;

use std::ops::Range;

use scalar::{after_anchor, folded, scalar};

use super::body::Unreadable;
use super::field::{Datum, Fields};
use super::json;

/// The keys of a body that is a block mapping; `None` where it is a sequence.
pub(crate) fn fields(bytes: &[u8]) -> Result<Option<Fields<'_>>, Unreadable> {
    match bytes.trim_ascii_start().first() {
        // YAML's flow style holds JSON; PyYAML writes a whole mapping so only where it has no list in it.
        Some(b'{') => return json::fields(bytes),
        Some(b'[') => return Ok(None),
        _ => {}
    }
    let mut reader = Mapping { bytes, fields: Fields::default(), key: None, value: Value::Nothing, at: 0 };
    for raw in bytes.split_inclusive(|&b| b == b'\n') {
        let line = raw.strip_suffix(b"\n").unwrap_or(raw);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line {
            [] | [b'#', ..] => {}
            _ if is_document_mark(line) && reader.key.is_none() => {}
            b"..." => break,
            b"-" | [b'-', b' ', ..] if reader.key.is_none() => return Ok(None),
            b"-" | [b'-', b' ', ..] => reader.item(line.get(1..).unwrap_or_default())?,
            [b' ' | b'\t', ..] => reader.nested(line)?,
            _ => reader.entry(line)?,
        }
        reader.at += raw.len();
    }
    reader.end_entry();
    if reader.key.is_none() {
        return Err(Unreadable::Syntax);
    }
    Ok(Some(reader.fields))
}

/// `---`, and nothing but spaces after it: a document begins.
pub(crate) fn is_document_mark(line: &[u8]) -> bool {
    line.strip_prefix(b"---").is_some_and(|rest| rest.trim_ascii().is_empty())
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
            let after = ["", "'", "\""].iter().find_map(|quote| {
                line.strip_prefix(quote.as_bytes())?.strip_prefix(key)?.strip_prefix(quote.as_bytes())
            });
            if after.is_some_and(|after| matches!(after, [b':', b' ' | b'\r' | b'\n', ..] | b":")) {
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

struct Mapping<'a> {
    bytes: &'a [u8],
    /// Where the line that is being read begins.
    at: usize,
    fields: Fields<'a>,
    /// The key whose value is being read.
    key: Option<&'a [u8]>,
    value: Value,
}

/// What has been seen of a value.
#[derive(Default)]
enum Value {
    /// Nothing, on the key's own line or below.
    #[default]
    Nothing,
    /// A scalar: it begins on the key's own line, and may go on in indented lines below it.
    Scalar(Range<usize>),
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
            Value::Scalar(range) if Fields::wants(key) => {
                let text = self.bytes.get(range).unwrap_or_default();
                if text.contains(&b'\n') { folded(text) } else { scalar(text) }
            }
            Value::Items(2, [Some(first), Some(second)]) => Datum::Pair([first, second]),
            Value::Scalar(_) | Value::Items(..) | Value::Other => Datum::Other,
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
        let value = after_anchor(value.get(1..).unwrap_or_default().trim_ascii());
        let end = self.at + line.trim_ascii_end().len();
        self.value = if value.is_empty() { Value::Nothing } else { Value::Scalar(end - value.len()..end) };
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
            Value::Scalar(_) => return Err(Unreadable::Syntax),
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
            text => match (&mut self.value, text) {
                (Value::Scalar(range), _) => range.end = self.at + line.trim_ascii_end().len(),
                (_, [b'-', b' ', item @ ..]) => self.item(item)?,
                (value, _) => *value = Value::Other,
            },
        }
        Ok(())
    }
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
    fn what_pyyaml_folds_over_several_lines_is_one_text() {
        let text = "task: proj\n  add\nid: 'it''s\n\n  here'\nshadow: \"a \\\n  \\ b\\\\\n  \\xE9\"\nroot_id: a\n\n\n  b\n";
        let fields = fields(text.as_bytes()).unwrap().unwrap();
        assert_eq!(fields.task.unwrap().as_str(), Some("proj add"));
        assert_eq!(fields.id.unwrap().as_str(), Some("it's\nhere"));
        assert_eq!(fields.shadow.unwrap().as_str(), Some("a  b\\ é"));
        assert_eq!(fields.root_id.unwrap().as_str(), Some("a\n\nb"));
    }

    #[test]
    fn what_pyyaml_names_to_repeat_it_is_read_past_its_name() {
        let text =
            "args: &id001\n- 1\ntimelimit: &id002 [30, null]\nid: &a x\nkwargs:\n  all: *id001\ntask: a\n";
        let fields = fields(text.as_bytes()).unwrap().unwrap();
        assert_eq!((fields.id.unwrap().as_str(), fields.task.unwrap().as_str()), (Some("x"), Some("a")));
        assert_eq!(fields.time_limit.unwrap().hard, Some(30.0));
    }

    #[test]
    fn a_document_may_be_marked_and_a_second_one_is_unreadable() {
        assert!(fields(b"--- \ntask: a\n...\n").unwrap().unwrap().task.is_some());
        assert_eq!(fields(b"task: a\n---\ntask: b\n"), Err(Unreadable::Syntax));
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
