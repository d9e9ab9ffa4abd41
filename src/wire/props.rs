//! Content headers: class, body size, property flags and the basic properties, in place (AMQP 0-9-1 §4.2.6, class 60).
//!
//! Read once, by reference; each property is kept as the bytes it was sent as, so that a patch can copy it (T1).

use std::ops::Range;

pub use super::compose::NewHeader;
use super::num::{u32_clamped, usize_of};
pub use super::property::Property;
use super::property::{PROPERTIES, SHAPES, Shape};
use super::reader::{Reader, Short};
use super::table::{Outline, Table};

/// Class basic.
pub const CLASS_BASIC: u16 = 60;

/// Why a header frame's payload is not a content header of class basic. RabbitMQ ends the connection for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropsError {
    /// A property runs past the end.
    Short,
    /// A class other than basic.
    Class(u16),
    /// The weight, which AMQP wants 0.
    Weight(u16),
    /// Flag bits that no basic property has, or a further flags word.
    Flags(u16),
    /// So many octets after the last property.
    Trailing(usize),
}

impl std::fmt::Display for PropsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("content header ends inside a property"),
            Self::Class(class) => write!(f, "content header of class {class}, expected 60"),
            Self::Weight(weight) => write!(f, "content header of weight {weight}, expected 0"),
            Self::Flags(flags) => write!(f, "undefined property flags in {flags:#06x}"),
            Self::Trailing(n) => write!(f, "{n} octets after the last property"),
        }
    }
}

impl std::error::Error for PropsError {}

impl From<Short> for PropsError {
    fn from(_: Short) -> Self {
        Self::Short
    }
}

/// A header frame's payload, read in place.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContentHeader<'a> {
    /// Octets of body that follow.
    pub body_size: u64,
    /// Which properties are there.
    pub flags: u16,
    /// What was read.
    payload: &'a [u8],
    /// Where each property that is there begins. Offsets, as slices would be a quarter of a kilobyte to move about for every message.
    starts: [u32; PROPERTIES],
    /// Of the header table, where it has been checked.
    outline: Option<&'a Outline>,
}

impl PartialEq for ContentHeader<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.payload == other.payload
    }
}

impl Eq for ContentHeader<'_> {}

impl<'a> ContentHeader<'a> {
    /// Reads a header frame's payload. The header table is delimited here, not checked: see [`super::table::check_table`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, PropsError> {
        let mut reader = Reader::new(payload);
        let class = reader.u16()?;
        if class != CLASS_BASIC {
            return Err(PropsError::Class(class));
        }
        let weight = reader.u16()?;
        if weight != 0 {
            return Err(PropsError::Weight(weight));
        }
        let body_size = reader.u64()?;
        let flags = reader.u16()?;
        if flags & 0b11 != 0 {
            return Err(PropsError::Flags(flags));
        }
        let mut starts = [0; PROPERTIES];
        let mut left = flags;
        let mut at = payload.len() - reader.rest().len();
        // Most messages have four to seven of the fourteen: only those cost anything.
        while left != 0 {
            let number = usize_of(left.leading_zeros());
            let (Some(slot), Some(shape)) = (starts.get_mut(number), SHAPES.get(number)) else { break };
            left &= !(0x8000 >> number);
            *slot = u32_clamped(at);
            // One that runs past the end is noticed by the next that is read, or at the end.
            at += match shape {
                Shape::Short => 1 + usize::from(*payload.get(at).ok_or(Short)?),
                Shape::Table => {
                    let len = payload.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Short)?;
                    4 + usize_of(u32::from_be_bytes(*len))
                }
                Shape::Octet => 1,
                Shape::Eight => 8,
            };
        }
        match payload.len().checked_sub(at) {
            Some(0) => Ok(Self { body_size, flags, payload, starts, outline: None }),
            Some(n) => Err(PropsError::Trailing(n)),
            None => Err(PropsError::Short),
        }
    }

    /// Its table has been checked and outlined.
    pub const fn set_outline(&mut self, outline: &'a Outline) {
        self.outline = Some(outline);
    }

    /// The header of another payload that has all this one's lengths; `outline`: of a table that begins its entries where its own does.
    #[must_use]
    pub(crate) const fn over<'b>(
        &self,
        payload: &'b [u8],
        outline: Option<&'b Outline>,
    ) -> ContentHeader<'b> {
        let Self { body_size, flags, starts, .. } = *self;
        ContentHeader { body_size, flags, payload, starts, outline }
    }

    /// The content that the octet at `place` of the payload belongs to, where it is a short string's, or a long string's of the outlined
    /// table: octets that could be any others, and nothing would be elsewhere or something else.
    pub(crate) fn content_at(&self, place: usize) -> Option<Range<usize>> {
        let begins = |property: &&Property| {
            self.flags & property.flag() != 0
                && self.starts.get(property.index()).is_some_and(|start| usize_of(*start) <= place)
        };
        let property = *Property::ALL.iter().rfind(begins)?;
        let start = usize_of(*self.starts.get(property.index())?);
        let (bytes, within) = (self.raw(property)?, place - start);
        let content = match property.shape() {
            Shape::Short => 1..bytes.len(),
            Shape::Table => {
                let text = self.outline?.text_at(bytes.get(4..)?, within.checked_sub(4)?)?;
                text.start + 4..text.end + 4
            }
            Shape::Octet | Shape::Eight => return None,
        };
        content.contains(&within).then_some(start + content.start..start + content.end)
    }

    /// A property as it was sent: a short string or a table with its length before it. `None` where absent.
    #[must_use]
    pub fn raw(&self, property: Property) -> Option<&'a [u8]> {
        if self.flags & property.flag() == 0 {
            return None;
        }
        let bytes = self.payload.get(usize_of(*self.starts.get(property.index())?)..)?;
        // `parse` has seen that it is all there.
        let len = match property.shape() {
            Shape::Short => 1 + usize::from(*bytes.first()?),
            Shape::Table => 4 + usize_of(u32::from_be_bytes(*bytes.first_chunk()?)),
            Shape::Octet => 1,
            Shape::Eight => 8,
        };
        bytes.get(..len)
    }

    fn octet(&self, property: Property) -> Option<u8> {
        self.raw(property)?.first().copied()
    }

    /// A property that is a short string, without its length.
    #[must_use]
    pub fn short(&self, property: Property) -> Option<&'a [u8]> {
        if !property.is_short() {
            return None;
        }
        self.raw(property)?.get(1..)
    }

    /// Which serializer.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.short(Property::ContentType)
    }

    /// Which text encoding.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&'a [u8]> {
        self.short(Property::ContentEncoding)
    }

    /// The application's table.
    #[must_use]
    pub fn headers(&self) -> Option<Table<'a>> {
        let bytes = self.raw(Property::Headers)?.get(4..)?;
        Some(Table::outlined(bytes, self.outline))
    }

    /// 2 is persistent.
    #[must_use]
    pub fn delivery_mode(&self) -> Option<u8> {
        self.octet(Property::DeliveryMode)
    }

    /// 0 to 255.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.octet(Property::Priority)
    }

    /// Celery's task id.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&'a [u8]> {
        self.short(Property::CorrelationId)
    }

    /// Where results go.
    #[must_use]
    pub fn reply_to(&self) -> Option<&'a [u8]> {
        self.short(Property::ReplyTo)
    }

    /// TTL in decimal milliseconds, as text.
    #[must_use]
    pub fn expiration(&self) -> Option<&'a [u8]> {
        self.short(Property::Expiration)
    }

    /// The application's.
    #[must_use]
    pub fn message_id(&self) -> Option<&'a [u8]> {
        self.short(Property::MessageId)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        let bytes: [u8; 8] = self.raw(Property::Timestamp)?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    }

    /// The application's type.
    #[must_use]
    pub fn message_type(&self) -> Option<&'a [u8]> {
        self.short(Property::Type)
    }

    /// Who the broker must find logged in.
    #[must_use]
    pub fn user_id(&self) -> Option<&'a [u8]> {
        self.short(Property::UserId)
    }

    /// The application's.
    #[must_use]
    pub fn app_id(&self) -> Option<&'a [u8]> {
        self.short(Property::AppId)
    }

    /// Reserved.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&'a [u8]> {
        self.short(Property::ClusterId)
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::TableWriter;
    use super::*;
    use proptest::prelude::*;

    fn all_properties() -> Vec<u8> {
        let headers = TableWriter::new().str("task", b"proj.add").into_bytes();
        let mut out = Vec::new();
        NewHeader {
            body_size: 81,
            content_type: Some(b"application/json"),
            content_encoding: Some(b"utf-8"),
            headers: Some(Table::new(&headers)),
            delivery_mode: Some(2),
            priority: Some(3),
            correlation_id: Some(b"id"),
            reply_to: Some(b""),
            expiration: Some(b"60000"),
            message_id: Some(b"m1"),
            timestamp: Some(1_700_000_000),
            message_type: Some(b"t"),
            user_id: Some(b"guest"),
            app_id: Some(b"\xff"),
        }
        .write(&mut out);
        out
    }

    #[test]
    fn every_property_is_read_as_it_was_written() {
        let bytes = all_properties();
        let header = ContentHeader::parse(&bytes).unwrap();
        assert_eq!(header.body_size, 81);
        assert_eq!(header.flags, 0xfff8);
        assert_eq!(header.content_type(), Some(&b"application/json"[..]));
        assert_eq!(header.headers().unwrap().get(b"task").unwrap().str_bytes(), Some(&b"proj.add"[..]));
        assert_eq!((header.delivery_mode(), header.priority()), (Some(2), Some(3)));
        assert_eq!(header.reply_to(), Some(&b""[..]));
        assert_eq!(header.timestamp(), Some(1_700_000_000));
        assert_eq!(header.app_id(), Some(&b"\xff"[..]));
        assert_eq!(header.cluster_id(), None);
        assert_eq!(header.raw(Property::Expiration), Some(&b"\x0560000"[..]));
    }

    #[test]
    fn a_header_cut_at_every_byte_is_refused() {
        let bytes = all_properties();
        for cut in 0..bytes.len() {
            assert_eq!(ContentHeader::parse(&bytes[..cut]), Err(PropsError::Short), "cut at {cut}");
        }
    }

    #[test]
    fn what_rabbitmq_ends_a_connection_for_is_refused() {
        let mut bytes = all_properties();
        bytes.push(0);
        assert_eq!(ContentHeader::parse(&bytes), Err(PropsError::Trailing(1)));
        let mut bytes = all_properties();
        bytes[13] |= 1;
        assert_eq!(ContentHeader::parse(&bytes), Err(PropsError::Flags(0xfff9)));
        bytes[13] = 0xfa;
        assert_eq!(ContentHeader::parse(&bytes), Err(PropsError::Flags(0xfffa)));
        let mut bytes = all_properties();
        bytes[1] = 50;
        assert_eq!(ContentHeader::parse(&bytes), Err(PropsError::Class(50)));
        let mut bytes = all_properties();
        bytes[3] = 1;
        assert_eq!(ContentHeader::parse(&bytes), Err(PropsError::Weight(1)));
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut framed = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            framed.extend_from_slice(&bytes);
            let _ = ContentHeader::parse(&bytes);
            let _ = ContentHeader::parse(&framed);
        }
    }
}
