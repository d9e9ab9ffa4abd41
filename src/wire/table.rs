//! Field tables (AMQP 0-9-1 §4.2.5.5) with RabbitMQ's type tags: read in place, checked without recursion, written entry by entry.
//!
//! A table is never decoded and encoded again: entries carry their byte range, so that whoever changes one splices it (T1).

use std::ops::Range;

use super::num::{u32_clamped, usize_of};
use super::reader::{Reader, Short};

/// No limit on depth can be set higher than this: the walk's stack is this large.
pub const TABLE_DEPTH_MAX: usize = 64;

/// How much of a table is looked at before it is refused (S1, S2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLimits {
    /// Tables and arrays inside one another, the outermost table not counted; at most [`TABLE_DEPTH_MAX`].
    pub depth: usize,
    /// Entries and array items at every depth together.
    pub entries: usize,
}

impl Default for TableLimits {
    fn default() -> Self {
        Self { depth: 32, entries: 8192 }
    }
}

/// Why bytes are not a table, or not one that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// A name or a value runs past the end of what holds it.
    Short,
    /// A type tag that neither RabbitMQ nor py-amqp knows.
    UnknownTag(u8),
    /// Nested deeper than [`TableLimits::depth`].
    TooDeep,
    /// More than [`TableLimits::entries`].
    TooManyEntries,
}

impl std::fmt::Display for TableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("field table ends inside an entry"),
            Self::UnknownTag(tag) => write!(f, "unknown field table type tag {tag:#04x}"),
            Self::TooDeep => f.write_str("field table is nested too deep"),
            Self::TooManyEntries => f.write_str("field table has too many entries"),
        }
    }
}

impl std::error::Error for TableError {}

impl From<Short> for TableError {
    fn from(_: Short) -> Self {
        Self::Short
    }
}

/// A field table's bytes, without the four octets of length before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table<'a> {
    bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// A table over `bytes`; nothing is checked yet.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes themselves.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The entries in their order, duplicates included; ends after the first error.
    #[must_use]
    pub const fn entries(&self) -> Entries<'a> {
        Entries { len: self.bytes.len(), reader: Reader::new(self.bytes) }
    }

    /// The entries in their order, their values not yet read: for whoever wants few of many. Ends at the first error, silently, so
    /// it is for tables that [`check_table`] has seen.
    #[must_use]
    pub const fn fields(&self) -> Fields<'a> {
        Fields { rest: self.bytes }
    }

    /// The value under `name`; of duplicates the last, as a Python dict built from the table has it.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Value<'a>> {
        self.fields().filter(|field| field.name == name).last().and_then(|field| field.value())
    }
}

/// One entry of a table whose value is not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Any bytes, not only UTF-8.
    pub name: &'a [u8],
    /// The value's type.
    pub tag: u8,
    /// The value, without its length.
    pub bytes: &'a [u8],
}

impl<'a> Field<'a> {
    /// The bytes of a long string (`S`), and of nothing else.
    #[inline]
    #[must_use]
    pub const fn str_bytes(&self) -> Option<&'a [u8]> {
        if self.tag == b'S' { Some(self.bytes) } else { None }
    }

    /// What it holds. Every field that was delimited has a value.
    #[must_use]
    pub fn value(&self) -> Option<Value<'a>> {
        Some(match self.tag {
            b'S' => Value::Str(self.bytes),
            b'x' => Value::Bytes(self.bytes),
            b'F' => Value::Table(Table::new(self.bytes)),
            b'A' => Value::Array(Array::new(self.bytes)),
            tag => Value::read_fixed(tag, &mut Reader::new(self.bytes)).ok()?,
        })
    }
}

/// Iterates over a table's entries without reading their values.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let (&len, rest) = self.rest.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(len))?;
        let (&tag, rest) = rest.split_first()?;
        let (bytes, rest) = match SHAPES.get(usize::from(tag)).copied().unwrap_or(UNKNOWN) {
            UNKNOWN => return None,
            LONG | NESTED => {
                let (len, rest) = rest.split_first_chunk::<4>()?;
                rest.split_at_checked(usize_of(u32::from_be_bytes(*len)))?
            }
            fixed => rest.split_at_checked(usize::from(fixed))?,
        };
        self.rest = rest;
        Some(Field { name, tag, bytes })
    }
}

/// One entry of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'a> {
    /// Any bytes, not only UTF-8.
    pub name: &'a [u8],
    /// What stands under it.
    pub value: Value<'a>,
    /// Where the whole entry lies within the table's bytes.
    pub range: Range<usize>,
}

/// Iterates over a table's entries.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    len: usize,
    reader: Reader<'a>,
}

impl<'a> Entries<'a> {
    #[inline]
    fn entry(&mut self) -> Result<Entry<'a>, TableError> {
        let start = self.len - self.reader.rest().len();
        let name = self.reader.shortstr()?;
        let value = Value::read(&mut self.reader)?;
        Ok(Entry { name, value, range: start..self.len - self.reader.rest().len() })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, TableError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(entry)
    }
}

/// An array's bytes, without the four octets of length before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array<'a> {
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// An array over `bytes`; nothing is checked yet.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes themselves.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The items in their order; ends after the first error.
    #[must_use]
    pub const fn items(&self) -> Items<'a> {
        Items { reader: Reader::new(self.bytes) }
    }
}

/// Iterates over an array's items.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Value<'a>, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let value = Value::read(&mut self.reader);
        if value.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(value)
    }
}

/// A field's value. Integers are told apart by tag, because old clients read some tags as something else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// `S`: a long string, any bytes.
    Str(&'a [u8]),
    /// `x`: a byte array.
    Bytes(&'a [u8]),
    /// `I`.
    I32(i32),
    /// `i`.
    U32(u32),
    /// `l`: what RabbitMQ writes.
    I64(i64),
    /// `L`: what py-amqp writes.
    LongLong(i64),
    /// `s` (py-amqp up to 5.3.1 reads it as a short string).
    I16(i16),
    /// `u`.
    U16(u16),
    /// `b`.
    I8(i8),
    /// `B`.
    U8(u8),
    /// `d`.
    F64(f64),
    /// `f`.
    F32(f32),
    /// `t`.
    Bool(bool),
    /// `T`: seconds since the epoch.
    Timestamp(u64),
    /// `D`.
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// The digits.
        value: i32,
    },
    /// `V`.
    Void,
    /// `F`.
    Table(Table<'a>),
    /// `A`.
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// A tag and what follows it. Tables and arrays are delimited, not looked into.
    #[inline]
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, TableError> {
        Ok(match reader.u8()? {
            b'S' => Self::Str(reader.longstr()?),
            b'A' => Self::Array(Array::new(reader.longstr()?)),
            b'F' => Self::Table(Table::new(reader.longstr()?)),
            b'x' => Self::Bytes(reader.longstr()?),
            tag => Self::read_fixed(tag, reader)?,
        })
    }

    /// A value whose length its tag tells.
    fn read_fixed(tag: u8, reader: &mut Reader<'a>) -> Result<Self, TableError> {
        Ok(match tag {
            b'V' => Self::Void,
            b'I' => Self::I32(i32::from_be_bytes(reader.array()?)),
            b't' => Self::Bool(reader.u8()? != 0),
            b'i' => Self::U32(reader.u32()?),
            b'l' => Self::I64(i64::from_be_bytes(reader.array()?)),
            b'L' => Self::LongLong(i64::from_be_bytes(reader.array()?)),
            b's' => Self::I16(i16::from_be_bytes(reader.array()?)),
            b'u' => Self::U16(reader.u16()?),
            b'b' => Self::I8(i8::from_be_bytes(reader.array()?)),
            b'B' => Self::U8(reader.u8()?),
            b'd' => Self::F64(f64::from_be_bytes(reader.array()?)),
            b'f' => Self::F32(f32::from_be_bytes(reader.array()?)),
            b'T' => Self::Timestamp(reader.u64()?),
            b'D' => Self::Decimal { scale: reader.u8()?, value: i32::from_be_bytes(reader.array()?) },
            other => return Err(TableError::UnknownTag(other)),
        })
    }

    /// The bytes of a long string (`S`), and of nothing else.
    #[must_use]
    pub const fn str_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Str(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// An integer of any width.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        Some(match *self {
            Self::I32(n) => n.into(),
            Self::U32(n) => n.into(),
            Self::I64(n) | Self::LongLong(n) => n,
            Self::I16(n) => n.into(),
            Self::U16(n) => n.into(),
            Self::I8(n) => n.into(),
            Self::U8(n) => n.into(),
            _ => return None,
        })
    }

    /// A boolean.
    #[must_use]
    pub const fn bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// Whether this is `V`.
    #[must_use]
    pub const fn is_void(&self) -> bool {
        matches!(self, Self::Void)
    }

    /// Appends the tag and the value.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Str(bytes) => write_long(out, b'S', bytes),
            Self::Bytes(bytes) => write_long(out, b'x', bytes),
            Self::Table(table) => write_long(out, b'F', table.bytes),
            Self::Array(array) => write_long(out, b'A', array.bytes),
            Self::I32(n) => write_fixed(out, b'I', &n.to_be_bytes()),
            Self::U32(n) => write_fixed(out, b'i', &n.to_be_bytes()),
            Self::I64(n) => write_fixed(out, b'l', &n.to_be_bytes()),
            Self::LongLong(n) => write_fixed(out, b'L', &n.to_be_bytes()),
            Self::I16(n) => write_fixed(out, b's', &n.to_be_bytes()),
            Self::U16(n) => write_fixed(out, b'u', &n.to_be_bytes()),
            Self::I8(n) => write_fixed(out, b'b', &n.to_be_bytes()),
            Self::U8(n) => write_fixed(out, b'B', &[n]),
            Self::F64(n) => write_fixed(out, b'd', &n.to_be_bytes()),
            Self::F32(n) => write_fixed(out, b'f', &n.to_be_bytes()),
            Self::Bool(b) => write_fixed(out, b't', &[u8::from(b)]),
            Self::Timestamp(n) => write_fixed(out, b'T', &n.to_be_bytes()),
            Self::Decimal { scale, value } => {
                write_fixed(out, b'D', &[scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Void => out.push(b'V'),
        }
    }
}

fn write_long(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&u32_clamped(bytes.len()).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn write_fixed(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

/// Appends one entry to a table's bytes. A name is cut at 255 octets: a short string holds no more.
pub fn write_entry(out: &mut Vec<u8>, name: &[u8], value: &Value<'_>) {
    write_name(out, name);
    value.write(out);
}

/// Appends a short string, cut at 255 octets.
pub(crate) fn write_name(out: &mut Vec<u8>, name: &[u8]) {
    let (len, name) = match u8::try_from(name.len()) {
        Ok(len) => (len, name),
        Err(_) => (u8::MAX, name.get(..usize::from(u8::MAX)).unwrap_or(name)),
    };
    out.push(len);
    out.extend_from_slice(name);
}

/// Writes a table of our own, entry by entry.
#[derive(Debug, Clone, Default)]
pub struct TableWriter {
    bytes: Vec<u8>,
}

impl TableWriter {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value<'_>) -> Self {
        write_entry(&mut self.bytes, name.as_bytes(), &value);
        self
    }

    /// Appends a string.
    #[must_use]
    pub fn str(self, name: &str, value: &[u8]) -> Self {
        self.with(name, Value::Str(value))
    }

    /// The table, borrowed.
    #[must_use]
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.bytes)
    }

    /// The table's bytes, without a length.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// In [`SHAPES`]: four octets of length, then that many bytes.
const LONG: u8 = 0xFD;
/// In [`SHAPES`]: four octets of length, then entries or items.
const NESTED: u8 = 0xFE;
/// In [`SHAPES`]: no such tag.
const UNKNOWN: u8 = 0xFF;

/// What follows each tag: so many octets, or one of the three above.
const SHAPES: [u8; 256] = {
    let mut shapes = [UNKNOWN; 256];
    let known = [
        (b'S', LONG),
        (b'x', LONG),
        (b'F', NESTED),
        (b'A', NESTED),
        (b'V', 0),
        (b't', 1),
        (b'b', 1),
        (b'B', 1),
        (b's', 2),
        (b'u', 2),
        (b'I', 4),
        (b'i', 4),
        (b'f', 4),
        (b'D', 5),
        (b'l', 8),
        (b'L', 8),
        (b'd', 8),
        (b'T', 8),
    ];
    let mut at = 0;
    while at < known.len() {
        #[expect(clippy::as_conversions, reason = "a u8 widens; `From` is not const")]
        #[expect(
            clippy::indexing_slicing,
            reason = "evaluated when this is compiled; both indices are in bounds"
        )]
        {
            shapes[known[at].0 as usize] = known[at].1;
        }
        at += 1;
    }
    shapes
};

/// Walks a whole table, every depth, and counts its entries and items. Runs on every publish: no allocation, no recursion.
pub fn check_table(bytes: &[u8], limits: &TableLimits) -> Result<usize, TableError> {
    // Where each container that is still open ends, and (a bit each, the newest lowest) whether it is an array.
    let mut ends = [0_usize; TABLE_DEPTH_MAX];
    let mut arrays = 0_u64;
    let mut depth = 0;
    let mut entries = 0;
    let mut end = bytes.len();
    let mut rest = bytes;
    loop {
        while rest.is_empty() {
            if depth == 0 {
                return Ok(entries);
            }
            depth -= 1;
            let inner_end = end;
            end = ends.get(depth).copied().unwrap_or(0);
            arrays >>= 1;
            rest = bytes.get(inner_end..end).ok_or(TableError::Short)?;
        }
        entries += 1;
        if entries > limits.entries {
            return Err(TableError::TooManyEntries);
        }
        if arrays & 1 == 0 {
            let (&len, after) = rest.split_first().ok_or(TableError::Short)?;
            rest = after.get(usize::from(len)..).ok_or(TableError::Short)?;
        }
        let (&tag, after) = rest.split_first().ok_or(TableError::Short)?;
        let shape = SHAPES.get(usize::from(tag)).copied().unwrap_or(UNKNOWN);
        rest = match shape {
            UNKNOWN => return Err(TableError::UnknownTag(tag)),
            LONG | NESTED => {
                let (len, after) = after.split_first_chunk::<4>().ok_or(TableError::Short)?;
                let (inner, after) =
                    after.split_at_checked(usize_of(u32::from_be_bytes(*len))).ok_or(TableError::Short)?;
                if shape == LONG {
                    after
                } else {
                    if depth >= limits.depth {
                        return Err(TableError::TooDeep);
                    }
                    *ends.get_mut(depth).ok_or(TableError::TooDeep)? = end;
                    depth += 1;
                    arrays = (arrays << 1) | u64::from(tag == b'A');
                    end -= after.len();
                    inner
                }
            }
            fixed => after.get(usize::from(fixed)..).ok_or(TableError::Short)?,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every_type() -> Vec<u8> {
        let inner = TableWriter::new().with("in", Value::Bool(true)).into_bytes();
        let mut items = Vec::new();
        Value::I32(-5).write(&mut items);
        Value::Table(Table::new(&inner)).write(&mut items);
        Value::Array(Array::new(&[])).write(&mut items);
        TableWriter::new()
            .str("S", b"text \xff")
            .with("x", Value::Bytes(b"\0\x01"))
            .with("I", Value::I32(i32::MIN))
            .with("i", Value::U32(u32::MAX))
            .with("l", Value::I64(i64::MIN))
            .with("L", Value::LongLong(i64::MAX))
            .with("s", Value::I16(-2))
            .with("u", Value::U16(65535))
            .with("b", Value::I8(-1))
            .with("B", Value::U8(200))
            .with("d", Value::F64(1.5))
            .with("f", Value::F32(-0.5))
            .with("t", Value::Bool(false))
            .with("T", Value::Timestamp(1_700_000_000))
            .with("D", Value::Decimal { scale: 2, value: 314 })
            .with("V", Value::Void)
            .with("F", Value::Table(Table::new(&inner)))
            .with("A", Value::Array(Array::new(&items)))
            .into_bytes()
    }

    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..levels {
            let mut outer = Vec::new();
            write_entry(&mut outer, b"", &Value::Table(Table::new(&bytes)));
            bytes = outer;
        }
        bytes
    }

    #[test]
    fn every_type_is_read_written_and_counted() {
        let bytes = every_type();
        assert_eq!(check_table(&bytes, &TableLimits::default()), Ok(18 + 1 + 3 + 1));
        let mut again = Vec::new();
        let mut at = 0;
        for entry in Table::new(&bytes).entries() {
            let entry = entry.unwrap();
            assert_eq!(entry.range.start, at);
            at = entry.range.end;
            write_entry(&mut again, entry.name, &entry.value);
        }
        assert_eq!(again, bytes);
        let lazily: Vec<_> = Table::new(&bytes).fields().map(|field| (field.name, field.value())).collect();
        let eagerly: Vec<_> =
            Table::new(&bytes).entries().map(|e| e.unwrap()).map(|e| (e.name, Some(e.value))).collect();
        assert_eq!(lazily, eagerly);
    }

    #[test]
    fn a_table_cut_at_every_byte_is_refused_or_has_fewer_entries() {
        let bytes = every_type();
        let whole = Table::new(&bytes).entries().count();
        for cut in 0..bytes.len() {
            let part = Table::new(&bytes[..cut]);
            match check_table(part.bytes(), &TableLimits::default()) {
                Err(error) => assert_eq!(error, TableError::Short, "cut at {cut}"),
                Ok(_) => assert!(part.entries().all(|e| e.is_ok()) && part.entries().count() < whole),
            }
        }
    }

    #[test]
    fn a_table_nested_two_thousand_deep_is_refused_without_recursion() {
        assert_eq!(check_table(&nested(2000), &TableLimits::default()), Err(TableError::TooDeep));
        assert_eq!(check_table(&nested(32), &TableLimits::default()), Ok(32));
        assert_eq!(check_table(&nested(33), &TableLimits::default()), Err(TableError::TooDeep));
        let deepest = TableLimits { depth: usize::MAX, entries: 8192 };
        assert_eq!(check_table(&nested(64), &deepest), Ok(64));
        assert_eq!(check_table(&nested(65), &deepest), Err(TableError::TooDeep));
    }

    #[test]
    fn more_entries_than_the_limit_are_refused() {
        let limits = TableLimits { depth: 1, entries: 3 };
        let mut bytes = Vec::new();
        for _ in 0..3 {
            write_entry(&mut bytes, b"k", &Value::Void);
        }
        assert_eq!(check_table(&bytes, &limits), Ok(3));
        write_entry(&mut bytes, b"k", &Value::Void);
        assert_eq!(check_table(&bytes, &limits), Err(TableError::TooManyEntries));
    }

    #[test]
    fn an_inner_table_longer_than_its_parent_is_refused() {
        let bytes = [1, b'a', b'F', 0, 0, 0, 6, 1, b'b', b'S', 0, 0, 0, 1];
        assert_eq!(check_table(&bytes, &TableLimits::default()), Err(TableError::Short));
        let inside = [1, b'a', b'F', 0, 0, 0, 4, 1, b'b', b'I', 0, 0, 0, 1];
        assert_eq!(check_table(&inside, &TableLimits::default()), Err(TableError::Short));
    }

    #[test]
    fn an_unknown_tag_is_named() {
        assert_eq!(check_table(&[1, b'a', b'Z'], &TableLimits::default()), Err(TableError::UnknownTag(b'Z')));
        assert_eq!(Table::new(&[1, b'a', b'Z']).entries().next(), Some(Err(TableError::UnknownTag(b'Z'))));
    }

    #[test]
    fn of_duplicate_keys_the_last_is_read() {
        let bytes = TableWriter::new().str("k", b"1").str("k", b"2").into_bytes();
        assert_eq!(Table::new(&bytes).get(b"k"), Some(Value::Str(b"2")));
        assert_eq!(Table::new(&bytes).get(b"other"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let checked = check_table(&bytes, &TableLimits::default());
            let walked = Table::new(&bytes).entries().all(|entry| entry.is_ok());
            // The lazy walk looks at the outermost entries only, so it may accept more.
            prop_assert!(walked || checked.is_err());
        }

        #[test]
        fn damage_anywhere_never_panics(at in 0_usize..200, with in any::<u8>()) {
            let mut bytes = every_type();
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = check_table(&bytes, &TableLimits::default());
        }
    }
}
