//! Tables and content headers of our own: for the results and events that we publish, and what patches put in, never a client's own.

use super::num::u32_clamped;
use super::props::{CLASS_BASIC, Property};
use super::table::Table;
use super::value::Value;

/// A content header of our own; what is `None` is absent. Short strings over 255 octets are cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the properties, described at `Property`")]
pub struct NewHeader<'a> {
    pub body_size: u64,
    pub content_type: Option<&'a [u8]>,
    pub content_encoding: Option<&'a [u8]>,
    pub headers: Option<Table<'a>>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<&'a [u8]>,
    pub reply_to: Option<&'a [u8]>,
    pub expiration: Option<&'a [u8]>,
    pub message_id: Option<&'a [u8]>,
    pub timestamp: Option<u64>,
    pub message_type: Option<&'a [u8]>,
    pub user_id: Option<&'a [u8]>,
    pub app_id: Option<&'a [u8]>,
}

impl NewHeader<'_> {
    /// Appends the header frame's payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&CLASS_BASIC.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.body_size.to_be_bytes());
        let mut values = Vec::new();
        let mut flags = 0;
        for property in Property::ALL {
            if self.write_property(property, &mut values) {
                flags |= property.flag();
            }
        }
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&values);
    }

    /// Appends one property; false where it is absent.
    fn write_property(&self, property: Property, out: &mut Vec<u8>) -> bool {
        let short = match property {
            Property::Headers => {
                let Some(table) = self.headers else { return false };
                write_table(out, table.bytes());
                return true;
            }
            Property::DeliveryMode => return extend_some(out, self.delivery_mode.map(|n| [n])),
            Property::Priority => return extend_some(out, self.priority.map(|n| [n])),
            Property::Timestamp => return extend_some(out, self.timestamp.map(u64::to_be_bytes)),
            Property::ContentType => self.content_type,
            Property::ContentEncoding => self.content_encoding,
            Property::CorrelationId => self.correlation_id,
            Property::ReplyTo => self.reply_to,
            Property::Expiration => self.expiration,
            Property::MessageId => self.message_id,
            Property::Type => self.message_type,
            Property::UserId => self.user_id,
            Property::AppId => self.app_id,
            Property::ClusterId => None,
        };
        let Some(short) = short else { return false };
        write_name(out, short);
        true
    }
}

fn extend_some<const N: usize>(out: &mut Vec<u8>, bytes: Option<[u8; N]>) -> bool {
    let Some(bytes) = bytes else { return false };
    out.extend_from_slice(&bytes);
    true
}

/// Appends a table with its four octets of length.
pub fn write_table(out: &mut Vec<u8>, table: &[u8]) {
    out.extend_from_slice(&u32_clamped(table.len()).to_be_bytes());
    out.extend_from_slice(table);
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
