//! Content headers of our own: for the results and events that we publish, never for a client's message.

use super::num::u32_clamped;
use super::props::{CLASS_BASIC, Property};
use super::table::{Table, write_name};

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
