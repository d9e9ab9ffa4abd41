//! Pickled bodies, protocols 0 to 5, read as data and never executed.
//!
//! The stack machine is followed (Python's Lib/pickletools.py describes it), but only the keys of the outermost dict are kept.
//! Whatever would be called, imported or built is one opaque value: `REDUCE`, `GLOBAL`, `BUILD` and their like do nothing here.

mod literal;

use std::collections::BTreeMap;

use literal::{decimal, line, number, text, unescape};

use super::body::Unreadable;
use super::field::{Datum, Fields, Text};
use crate::wire::num::{u32_clamped, usize_clamped};
use crate::wire::reader::Reader;

/// The keys of a body that is a dict; `None` where it is another value. `items` bounds stack and memo together.
pub(crate) fn fields(bytes: &[u8], items: usize) -> Result<Option<Fields<'_>>, Unreadable> {
    Ok(run(bytes, items)?.map(|(fields, _)| fields))
}

/// Where a pickled dict ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// The `STOP`; the dict is the only thing on the stack there.
    pub(crate) stop: usize,
    /// The eight octets of length of the frame that the `STOP` is in, for protocols 4 and 5.
    pub(crate) frame: Option<usize>,
}

/// Where a body that is a dict ends; `None` where it is another value.
pub(crate) fn end_of_dict(bytes: &[u8], items: usize) -> Result<Option<End>, Unreadable> {
    Ok(run(bytes, items)?.map(|(_, end)| end))
}

/// Appends the opcodes that set an item of the dict on top of the stack: two `BINUNICODE` and a `SETITEM`. The memo is not touched.
pub(crate) fn write_item(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for text in [key, value] {
        out.push(b'X');
        out.extend_from_slice(&u32_clamped(text.len()).to_le_bytes());
        out.extend_from_slice(text);
    }
    out.push(b's');
}

fn run(bytes: &[u8], items: usize) -> Result<Option<(Fields<'_>, End)>, Unreadable> {
    let mut machine = Machine { items, ..Machine::default() };
    let mut reader = Reader::new(bytes);
    let mut frame = None;
    loop {
        let at = bytes.len() - reader.rest().len();
        let op = reader.u8()?;
        if op == b'.' {
            let is_root = matches!(machine.pop()?, Item::Root) && machine.stack.is_empty();
            let frame = frame.filter(|&(_, end)| end > at).map(|(len_at, _)| len_at);
            return Ok(machine.root.filter(|_| is_root).map(|root| (root, End { stop: at, frame })));
        }
        if op == 0x95 {
            // What is too long or too short for a frame stands between frames; the STOP may, too.
            let len = Reader::new(reader.rest()).array().map(u64::from_le_bytes)?;
            frame = Some((at + 1, (at + 9).saturating_add(usize_clamped(len))));
        }
        machine.step(op, &mut reader)?;
    }
}

/// A value on the stack. Small: a body can make one an octet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'a> {
    Mark,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// UTF-8, or Python 2's octets.
    Text(&'a [u8]),
    /// Protocol 0's text with `\u` escapes.
    Escaped(&'a [u8]),
    /// A tuple or list of two that may be numbers; seconds do not need more digits.
    Pair([Option<f32>; 2]),
    EmptyList,
    /// The dict at the bottom of the stack.
    Root,
    Opaque,
}

impl<'a> Item<'a> {
    fn datum(self) -> Datum<'a> {
        match self {
            Self::Null => Datum::Null,
            Self::Bool(b) => Datum::Bool(b),
            Self::Int(n) => Datum::Int(n),
            Self::Float(f) => Datum::Float(f),
            Self::Text(text) => Datum::Text(Text::borrowed(text)),
            Self::Escaped(text) => Datum::Text(Text(unescape(text))),
            Self::Pair([first, second]) => Datum::Pair([first.map(f64::from), second.map(f64::from)]),
            Self::Mark | Self::EmptyList | Self::Root | Self::Opaque => Datum::Other,
        }
    }

    fn pair(first: Self, second: Self) -> Self {
        match (first.seconds(), second.seconds()) {
            (Some(first), Some(second)) => Self::Pair([first, second]),
            _ => Self::Opaque,
        }
    }

    /// A number or nothing, for a pair; `None` for what is neither.
    #[expect(clippy::option_option, reason = "null is a value here")]
    #[expect(clippy::as_conversions, reason = "seconds: the nearest f32 will do")]
    const fn seconds(self) -> Option<Option<f32>> {
        match self {
            Self::Null => Some(None),
            Self::Int(n) => Some(Some(n as f32)),
            Self::Float(f) => Some(Some(f as f32)),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Machine<'a> {
    stack: Vec<Item<'a>>,
    memo: BTreeMap<u32, Item<'a>>,
    root: Option<Fields<'a>>,
    items: usize,
}

impl<'a> Machine<'a> {
    fn push(&mut self, item: Item<'a>) -> Result<(), Unreadable> {
        if self.stack.len() + self.memo.len() >= self.items {
            return Err(Unreadable::TooComplex);
        }
        self.stack.push(item);
        Ok(())
    }

    fn pop(&mut self) -> Result<Item<'a>, Unreadable> {
        match self.stack.pop() {
            None | Some(Item::Mark) => Err(Unreadable::Syntax),
            Some(item) => Ok(item),
        }
    }

    fn top(&self) -> Result<Item<'a>, Unreadable> {
        match self.stack.last() {
            None | Some(Item::Mark) => Err(Unreadable::Syntax),
            Some(&item) => Ok(item),
        }
    }

    /// Where the values above the topmost mark begin.
    fn mark(&self) -> Result<usize, Unreadable> {
        let mark = self.stack.iter().rposition(|item| matches!(item, Item::Mark));
        mark.map(|at| at + 1).ok_or(Unreadable::Syntax)
    }

    /// Drops the values above the topmost mark, and the mark.
    fn drop_to_mark(&mut self) -> Result<(), Unreadable> {
        let values = self.mark()?;
        self.stack.truncate(values - 1);
        Ok(())
    }

    /// Takes away `n` values and leaves an opaque one.
    fn opaque_for(&mut self, n: usize) -> Result<(), Unreadable> {
        for _ in 0..n {
            self.pop()?;
        }
        self.push(Item::Opaque)
    }

    fn remember(&mut self, at: u32) -> Result<(), Unreadable> {
        let top = self.top()?;
        if self.stack.len() + self.memo.len() >= self.items {
            return Err(Unreadable::TooComplex);
        }
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<(), Unreadable> {
        let item = *self.memo.get(&at).ok_or(Unreadable::Syntax)?;
        self.push(item)
    }

    fn put(&mut self, key: Item<'a>, value: Item<'a>) {
        if let (Some(root), Datum::Text(key)) = (&mut self.root, key.datum())
            && Fields::wants(key.bytes())
        {
            root.put(key.bytes(), value.datum());
        }
    }

    /// The dict at the bottom of the stack is the body. There is one.
    fn new_root(&mut self) -> Result<(), Unreadable> {
        if self.root.replace(Fields::default()).is_some() {
            return Err(Unreadable::Syntax);
        }
        self.push(Item::Root)
    }

    /// Keys and values above the topmost mark go into the dict below it, or, for `DICT`, into a new one.
    fn set_items(&mut self, dict: Dict) -> Result<(), Unreadable> {
        let values = self.mark()?;
        let pairs = self.stack.split_off(values);
        self.stack.pop();
        if !pairs.len().is_multiple_of(2) {
            return Err(Unreadable::Syntax);
        }
        match dict {
            Dict::Below => {}
            Dict::New if self.stack.is_empty() => self.new_root()?,
            Dict::New => self.push(Item::Opaque)?,
        }
        if matches!(self.top()?, Item::Root) {
            for pair in pairs.chunks_exact(2) {
                if let &[key, value] = pair {
                    self.put(key, value);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, op: u8, reader: &mut Reader<'a>) -> Result<(), Unreadable> {
        match op {
            b'(' => self.push(Item::Mark),
            b'N' => self.push(Item::Null),
            0x88 | 0x89 => self.push(Item::Bool(op == 0x88)),
            b'}' if self.stack.is_empty() => self.new_root(),
            b'}' | 0x8f | 0x97 => self.push(Item::Opaque),
            b']' => self.push(Item::EmptyList),
            b')' => self.push(Item::Opaque),
            b'K' | b'M' | b'J' | 0x8a | 0x8b | b'I' | b'L' | b'F' | b'G' => {
                let number = number(op, reader)?;
                self.push(number)
            }
            b'U' | b'T' | b'S' | b'X' | 0x8c | 0x8d | b'V' | b'B' | b'C' | 0x8e | 0x96 => {
                let text = text(op, reader)?;
                self.push(text)
            }
            b'q' | b'r' | b'p' | 0x94 | b'h' | b'j' | b'g' => self.memo_step(op, reader),
            b's' | b'u' | b'd' | b'a' | b'e' | 0x90 | 0x85..=0x87 | b't' | b'l' | 0x91 => {
                self.container_step(op)
            }
            b'0' => self.stack.pop().map(drop).ok_or(Unreadable::Syntax),
            b'1' => self.drop_to_mark(),
            b'2' => self.push(self.top()?),
            _ => self.opaque_step(op, reader),
        }
    }

    fn memo_step(&mut self, op: u8, reader: &mut Reader<'a>) -> Result<(), Unreadable> {
        let at = match op {
            b'q' | b'h' => reader.u8()?.into(),
            b'r' | b'j' => u32::from_le_bytes(reader.array()?),
            0x94 => u32::try_from(self.memo.len()).map_err(|_| Unreadable::TooComplex)?,
            _ => decimal(line(reader)?).and_then(|n| n.try_into().ok()).ok_or(Unreadable::Syntax)?,
        };
        if matches!(op, b'h' | b'j' | b'g') { self.recall(at) } else { self.remember(at) }
    }

    fn container_step(&mut self, op: u8) -> Result<(), Unreadable> {
        match op {
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                if matches!(self.top()?, Item::Root) {
                    self.put(key, value);
                }
                Ok(())
            }
            b'u' => self.set_items(Dict::Below),
            b'd' => self.set_items(Dict::New),
            // A list that is appended to one by one is no pair; none that Celery writes is.
            b'a' => {
                self.pop()?;
                self.pop()?;
                self.push(Item::Opaque)
            }
            b'e' | b't' | b'l' => {
                let values = self.mark()?;
                let made = match self.stack.get(values..) {
                    Some(&[first, second]) => Item::pair(first, second),
                    _ => Item::Opaque,
                };
                self.drop_to_mark()?;
                if op != b'e' {
                    return self.push(made);
                }
                let list = self.pop()?;
                self.push(if matches!(list, Item::EmptyList) { made } else { Item::Opaque })
            }
            0x90 => {
                self.drop_to_mark()?;
                self.top().map(drop)
            }
            0x91 => {
                self.drop_to_mark()?;
                self.push(Item::Opaque)
            }
            0x86 => {
                let (second, first) = (self.pop()?, self.pop()?);
                self.push(Item::pair(first, second))
            }
            0x85 => self.opaque_for(1),
            _ => self.opaque_for(3),
        }
    }

    /// Whatever names, makes or changes an object.
    fn opaque_step(&mut self, op: u8, reader: &mut Reader<'a>) -> Result<(), Unreadable> {
        match op {
            0x80 => reader.take(1).map(drop)?,
            0x95 => reader.take(8).map(drop)?,
            b'c' => {
                line(reader)?;
                line(reader)?;
                return self.push(Item::Opaque);
            }
            b'i' => {
                line(reader)?;
                line(reader)?;
                self.drop_to_mark()?;
                return self.push(Item::Opaque);
            }
            b'o' => {
                self.drop_to_mark()?;
                return self.push(Item::Opaque);
            }
            b'P' => {
                line(reader)?;
                return self.push(Item::Opaque);
            }
            0x82..=0x84 => {
                reader.take(1 << (op - 0x82))?;
                return self.push(Item::Opaque);
            }
            b'Q' | 0x98 => return self.opaque_for(1),
            b'R' | 0x81 | 0x93 | b'b' => return self.opaque_for(2),
            0x92 => return self.opaque_for(3),
            _ => return Err(Unreadable::Syntax),
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Dict {
    Below,
    New,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ITEMS: usize = 1 << 16;
    /// Python 3.11: pickle.dumps({'task': 'proj.add', 'id': 'é', 'args': (1, Exception('x')), 'kwargs': {'task': 'no'},
    /// 'retries': 3, 'timelimit': (30, 2.5), 'utc': False, 'group': None}, protocol=4)
    const PROTOCOL_4: &[u8] = b"\x80\x04\x95\x85\0\0\0\0\0\0\0}\x94(\x8c\x04task\x94\x8c\x08proj.add\x94\x8c\x02id\x94\
        \x8c\x02\xc3\xa9\x94\x8c\x04args\x94K\x01\x8c\x08builtins\x94\x8c\tException\x94\x93\x94\x8c\x01x\x94\x85\x94R\x94\
        \x86\x94\x8c\x06kwargs\x94}\x94h\x01\x8c\x02no\x94s\x8c\x07retries\x94K\x03\x8c\ttimelimit\x94K\x1eG@\x04\0\0\0\0\0\0\
        \x86\x94\x8c\x03utc\x94\x89\x8c\x05group\x94Nu.";

    fn check(bytes: &[u8]) -> Fields<'_> {
        let fields = fields(bytes, ITEMS).unwrap().unwrap();
        assert_eq!(fields.task.as_ref().unwrap().as_str(), Some("proj.add"));
        assert_eq!(fields.retries, Some(3));
        fields
    }

    #[test]
    fn only_the_outermost_dict_is_read_and_nothing_is_called() {
        let fields = check(PROTOCOL_4);
        assert_eq!(fields.id.unwrap().as_str(), Some("é"));
        let limit = fields.time_limit.unwrap();
        assert_eq!((limit.hard, limit.soft), (Some(30.0), Some(2.5)));
        assert_eq!((fields.utc, fields.group), (Some(false), None));
    }

    #[test]
    fn every_protocol_is_read() {
        check(b"(dp0\nVtask\np1\nVproj.add\np2\nsVid\np3\nV\\u00e9\xe9\np4\nsVretries\np5\nI3\ns.");
        check(b"(dp1\nS'task'\np2\nS'proj.add'\np3\nsS'retries'\np4\nL3L\ns.");
        check(b"}q\0(X\x04\0\0\0taskq\x01X\x08\0\0\0proj.addq\x02X\x07\0\0\0retriesq\x03K\x03u.");
        check(b"\x80\x02}q\x01(U\x04taskq\x02U\x08proj.addq\x03U\x07retriesq\x04\x8a\x01\x03u.");
        check(b"\x80\x03}q\0(X\x04\0\0\0taskq\x01X\x08\0\0\0proj.addq\x02X\x07\0\0\0retriesq\x03M\x03\0u.");
        check(b"\x80\x05\x95\0\0\0\0\0\0\0\0}\x94(\x8c\x04task\x94\x8c\x08proj.add\x94\x8c\x07retries\x94J\x03\0\0\0u.");
        check(b"(S'task'\nS'proj.add'\nS'retries'\nI3\nd.");
    }

    #[test]
    fn bytes_are_no_text() {
        let fields = fields(b"\x80\x03}(C\x04taskC\x01xu.", ITEMS).unwrap().unwrap();
        assert_eq!(fields, Fields::default());
    }

    #[test]
    fn what_is_no_dict_is_none() {
        assert_eq!(fields(b"\x80\x04]\x94.", ITEMS), Ok(None));
        assert_eq!(fields(b"cos\nsystem\n(S'true'\ntR.", ITEMS), Ok(None));
    }

    #[test]
    fn a_body_cut_at_every_byte_is_unreadable() {
        for cut in 0..PROTOCOL_4.len() {
            assert_eq!(fields(&PROTOCOL_4[..cut], ITEMS), Err(Unreadable::Syntax), "cut at {cut}");
        }
    }

    #[test]
    fn stack_and_memo_are_bounded_together() {
        assert_eq!(fields(&[b'('; 100_000], ITEMS), Err(Unreadable::TooComplex));
        let mut memo = b"]".to_vec();
        memo.extend_from_slice(&[0x94; 100_000]);
        assert_eq!(fields(&memo, ITEMS), Err(Unreadable::TooComplex));
        assert_eq!(fields(b"X\xff\xff\xff\xff", ITEMS), Err(Unreadable::Syntax));
        assert_eq!(fields(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", ITEMS), Err(Unreadable::Syntax));
    }

    #[test]
    fn an_empty_stack_and_a_bare_mark_are_refused() {
        for bytes in
            [&b"."[..], b"(.", b"R.", b"s.", b"u.", b"(u.", b"q\0.", b"h\0.", b"(K\x01d.", b"\x86.", b"\xff"]
        {
            assert_eq!(fields(bytes, ITEMS), Err(Unreadable::Syntax), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..500, with in any::<u8>()) {
            let _ = fields(&bytes, ITEMS);
            let mut damaged = PROTOCOL_4.to_vec();
            let at = at % damaged.len();
            damaged[at] = with;
            let _ = fields(&damaged, ITEMS);
        }
    }
}
