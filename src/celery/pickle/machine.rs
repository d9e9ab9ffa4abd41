//! Pickle's stack machine: what each opcode does to stack, memo and the dict at the bottom. It calls nothing.

use std::collections::BTreeMap;

use super::literal::{decimal, line, number, text, unescape};
use super::moment::{self, Part};
use crate::celery::body::Unreadable;
use crate::celery::field::{Datum, Fields, Text};
use crate::wire::reader::Reader;

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
    /// Something of a moment.
    Part(Part<'a>),
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
            Self::Part(Part::Moment(at)) => Datum::Moment(at),
            Self::Mark | Self::EmptyList | Self::Root | Self::Part(_) | Self::Opaque => Datum::Other,
        }
    }

    pub(super) fn pair(first: Self, second: Self) -> Self {
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

/// See the module.
#[derive(Default)]
pub(super) struct Machine<'a> {
    stack: Vec<Item<'a>>,
    memo: BTreeMap<u32, Item<'a>>,
    /// The body, once it has turned out to be a dict.
    pub(super) root: Option<Fields<'a>>,
    items: usize,
}

impl<'a> Machine<'a> {
    /// `items` bounds stack and memo together.
    pub(super) fn new(items: usize) -> Self {
        Self { items, ..Self::default() }
    }

    /// Whether nothing is on the stack.
    pub(super) const fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    fn push(&mut self, item: Item<'a>) -> Result<(), Unreadable> {
        if self.stack.len() + self.memo.len() >= self.items {
            return Err(Unreadable::TooComplex);
        }
        self.stack.push(item);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Item<'a>, Unreadable> {
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

    /// One opcode other than `STOP`, and its arguments.
    pub(super) fn step(&mut self, op: u8, reader: &mut Reader<'a>) -> Result<(), Unreadable> {
        match op {
            b'(' => self.push(Item::Mark),
            b'N' => self.push(Item::Null),
            0x88 | 0x89 => self.push(Item::Bool(op == 0x88)),
            b'}' if self.stack.is_empty() => self.new_root(),
            b'}' | 0x8f | 0x97 => self.push(Item::Opaque),
            b']' => self.push(Item::EmptyList),
            b')' => self.push(Item::Part(Part::NoArguments)),
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
            _ => self.object_step(op, reader),
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
            b't' => {
                let values = self.mark()?;
                let made = moment::tuple(self.stack.get(values..).unwrap_or_default());
                self.drop_to_mark()?;
                self.push(made)
            }
            b'e' | b'l' => {
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
            0x85 => {
                let only = self.pop()?;
                self.push(moment::tuple(&[only]))
            }
            0x86 => {
                let (second, first) = (self.pop()?, self.pop()?);
                self.push(moment::tuple(&[first, second]))
            }
            _ => {
                let (third, second, first) = (self.pop()?, self.pop()?, self.pop()?);
                self.push(moment::tuple(&[first, second, third]))
            }
        }
    }

    /// Whatever names, makes or changes an object: what is not part of a moment is opaque.
    fn object_step(&mut self, op: u8, reader: &mut Reader<'a>) -> Result<(), Unreadable> {
        match op {
            0x80 => reader.take(1).map(drop)?,
            0x95 => reader.take(8).map(drop)?,
            b'c' => {
                let (module, name) = (line(reader)?, line(reader)?);
                return self.push(moment::global(module, name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let named = match (module, name) {
                    (Item::Text(module), Item::Text(name)) => moment::global(module, name),
                    _ => Item::Opaque,
                };
                return self.push(named);
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                return self.push(moment::call(callable, arguments));
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
            b'b' => return self.opaque_for(2),
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
