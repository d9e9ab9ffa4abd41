//! Field values, with RabbitMQ's type tags (they are not quite the specification's).

use super::num::u32_clamped;
use super::reader::Reader;
use super::table::{Array, Table, TableError};

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
    pub(super) fn read_fixed(tag: u8, reader: &mut Reader<'a>) -> Result<Self, TableError> {
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
            Self::Table(table) => write_long(out, b'F', table.bytes()),
            Self::Array(array) => write_long(out, b'A', array.bytes()),
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
