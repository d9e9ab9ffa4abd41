//! The fourteen basic properties, in the order in which they are on the wire, and what each is made of there.

pub(super) const PROPERTIES: usize = 14;

/// A basic property, in the order in which properties are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Property {
    /// MIME type of the body: which serializer.
    ContentType,
    /// Text encoding of the body.
    ContentEncoding,
    /// The application's field table.
    Headers,
    /// 2 is persistent.
    DeliveryMode,
    /// 0 to 255.
    Priority,
    /// Celery's task id.
    CorrelationId,
    /// Where results go.
    ReplyTo,
    /// TTL, decimal milliseconds.
    Expiration,
    /// The application's.
    MessageId,
    /// Seconds since the epoch.
    Timestamp,
    /// The application's.
    Type,
    /// Checked by the broker against the login.
    UserId,
    /// The application's.
    AppId,
    /// Reserved.
    ClusterId,
}

/// What a property is made of on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Short,
    Table,
    Octet,
    Eight,
}

impl Property {
    /// Every property, in wire order.
    pub const ALL: [Self; PROPERTIES] = [
        Self::ContentType,
        Self::ContentEncoding,
        Self::Headers,
        Self::DeliveryMode,
        Self::Priority,
        Self::CorrelationId,
        Self::ReplyTo,
        Self::Expiration,
        Self::MessageId,
        Self::Timestamp,
        Self::Type,
        Self::UserId,
        Self::AppId,
        Self::ClusterId,
    ];

    /// Its place in [`Property::ALL`].
    #[expect(clippy::as_conversions, reason = "a fieldless enum's own number, 0 to 13")]
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// Its bit in the flags word.
    #[must_use]
    pub const fn flag(self) -> u16 {
        0x8000 >> self.index()
    }

    pub(super) const fn shape(self) -> Shape {
        match self {
            Self::Headers => Shape::Table,
            Self::DeliveryMode | Self::Priority => Shape::Octet,
            Self::Timestamp => Shape::Eight,
            _ => Shape::Short,
        }
    }

    /// Whether it is a short string: what [`super::patch::HeaderPatch::set_short`] can set.
    #[must_use]
    pub const fn is_short(self) -> bool {
        matches!(self.shape(), Shape::Short)
    }
}

/// [`Property::shape`] by number.
pub(super) const SHAPES: [Shape; PROPERTIES] = {
    let mut shapes = [Shape::Short; PROPERTIES];
    let mut at = 0;
    while at < PROPERTIES {
        #[expect(
            clippy::indexing_slicing,
            reason = "evaluated when this is compiled; the index is in bounds"
        )]
        {
            shapes[at] = Property::ALL[at].shape();
        }
        at += 1;
    }
    shapes
};
