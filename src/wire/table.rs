//! Field tables (AMQP 0-9-1 §4.2.5.5) read in place.
//!
//! A table is never decoded and encoded again: entries carry their byte range, so that whoever changes one splices it (T1).

use std::ops::Range;

use super::check::{LONG, NESTED, SHAPES, UNKNOWN};
pub use super::check::{TABLE_DEPTH_MAX, TableLimits, check_and_outline, check_table};
pub use super::compose::{TableWriter, write_entry};
use super::num::usize_of;
pub use super::outline::Outline;
use super::reader::{Reader, Short};
pub use super::value::Value;

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
    /// A float that is no number.
    NotFinite,
}

impl std::fmt::Display for TableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("field table ends inside an entry"),
            Self::UnknownTag(tag) => write!(f, "unknown field table type tag {tag:#04x}"),
            Self::TooDeep => f.write_str("field table is nested too deep"),
            Self::TooManyEntries => f.write_str("field table has too many entries"),
            Self::NotFinite => f.write_str("a float that is not a finite number"),
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
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    bytes: &'a [u8],
    /// Where its entries are, where somebody has noted it.
    outline: Option<&'a Outline>,
}

impl PartialEq for Table<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Table<'_> {}

impl<'a> Table<'a> {
    /// A table over `bytes`; nothing is checked yet.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, outline: None }
    }

    /// The table that `outline` was made of by [`check_and_outline`].
    pub(super) const fn outlined(bytes: &'a [u8], outline: Option<&'a Outline>) -> Self {
        Self { bytes, outline }
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
        self.field(name)?.value()
    }

    /// The same, the value not yet read.
    #[inline]
    #[must_use]
    pub fn field(&self, name: &[u8]) -> Option<Field<'a>> {
        match self.outline.and_then(|outline| outline.last(self.bytes, name)) {
            Some(entry) => Fields { rest: entry? }.next(),
            None => self.fields().filter(|field| field.name == name).last(),
        }
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

#[cfg(test)]
pub(super) mod tests {
    use super::super::check::{TableLimits, check_table};
    use super::*;

    /// A table with every tag in it.
    pub(in crate::wire) fn every_type() -> Vec<u8> {
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

    #[test]
    fn an_outlined_table_answers_as_a_walk_over_it_does_also_where_it_has_more_entries_than_places() {
        for count in [0, 1, 31, 32, 33, 100] {
            let mut bytes = every_type();
            for n in 0..count {
                write_entry(&mut bytes, format!("name{}", n % 40).as_bytes(), &Value::I32(n));
            }
            let mut outline = Outline::default();
            // What an earlier message left in it does not matter.
            check_and_outline(&every_type(), &TableLimits::default(), &mut outline).unwrap();
            let entries = check_and_outline(&bytes, &TableLimits::default(), &mut outline);
            assert_eq!(entries, check_table(&bytes, &TableLimits::default()));
            let (outlined, plain) = (Table::outlined(&bytes, Some(&outline)), Table::new(&bytes));
            for field in plain.fields() {
                assert_eq!(outlined.get(field.name), plain.get(field.name));
            }
            assert_eq!(outlined.get(b"in"), None, "what is nested has no name here");
        }
    }
}
