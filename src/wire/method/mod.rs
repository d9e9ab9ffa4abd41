//! Methods: their ids, the shape of their arguments, and readers and writers for those that a proxy looks into.
//!
//! Source: amqp0-9-1.extended.xml (AMQP 0-9-1 with RabbitMQ's extensions). `check` walks every argument of any method, so that
//! what is forwarded can be read by the broker (SPEC T5).

mod arguments;
mod writer;

pub use arguments::{
    Close, Publish, QueueNamed, Start, StartOk, Tune, ack, close, publish, queue_named, start, start_ok, tune,
};
pub use writer::{MethodWriter, write_close, write_publish, write_tune};

use super::reader::{Reader, Short};
use super::table::{TableError, TableLimits, check_table};

/// Class and method number, as the first four octets of a method frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodId(pub u32);

impl MethodId {
    /// From its two numbers.
    #[must_use]
    pub const fn of(class: u16, method: u16) -> Self {
        let [a, b] = class.to_be_bytes();
        let [c, d] = method.to_be_bytes();
        Self(u32::from_be_bytes([a, b, c, d]))
    }

    /// No method: what a close names when no method was at fault.
    pub const NONE: Self = Self(0);

    /// The class number.
    #[must_use]
    pub const fn class(self) -> u16 {
        let [a, b, _, _] = self.0.to_be_bytes();
        u16::from_be_bytes([a, b])
    }

    /// The method number within its class.
    #[must_use]
    pub const fn method(self) -> u16 {
        let [_, _, c, d] = self.0.to_be_bytes();
        u16::from_be_bytes([c, d])
    }

    /// The name, as in `basic.publish`; `unknown` for what AMQP does not define.
    #[must_use]
    pub fn name(self) -> &'static str {
        spec_of(self).map_or("unknown", |s| s.name)
    }
}

/// One argument's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// One octet, or up to eight packed bits.
    Octet,
    /// 16 bits.
    Short,
    /// 32 bits.
    Long,
    /// 64 bits.
    LongLong,
    /// Up to 255 bytes.
    ShortStr,
    /// Up to 4 GiB, bounded by the frame.
    LongStr,
    /// A field table.
    Table,
}

/// What AMQP says of one method.
#[derive(Debug)]
pub struct MethodSpec {
    /// Its number.
    pub id: MethodId,
    /// Its name.
    pub name: &'static str,
    /// Its arguments in order.
    pub fields: &'static [Field],
    /// Whether a client may send it.
    pub from_client: bool,
}

macro_rules! methods {
    ($($const:ident = $class:literal $method:literal $name:literal $client:ident [$($field:ident)*];)*) => {
        impl MethodId {
            $(#[doc = concat!("`", $name, "`")] pub const $const: Self = Self::of($class, $method);)*
        }
        static METHODS: &[MethodSpec] = &[
            $(MethodSpec { id: MethodId::$const, name: $name, fields: &[$(Field::$field),*], from_client: side!($client) },)*
        ];
    };
}

macro_rules! side {
    (both) => {
        true
    };
    (client) => {
        true
    };
    (server) => {
        false
    };
}

methods! {
    CONNECTION_START = 10 10 "connection.start" server [Octet Octet Table LongStr LongStr];
    CONNECTION_START_OK = 10 11 "connection.start-ok" client [Table ShortStr LongStr ShortStr];
    CONNECTION_SECURE = 10 20 "connection.secure" server [LongStr];
    CONNECTION_SECURE_OK = 10 21 "connection.secure-ok" client [LongStr];
    CONNECTION_TUNE = 10 30 "connection.tune" server [Short Long Short];
    CONNECTION_TUNE_OK = 10 31 "connection.tune-ok" client [Short Long Short];
    CONNECTION_OPEN = 10 40 "connection.open" client [ShortStr ShortStr Octet];
    CONNECTION_OPEN_OK = 10 41 "connection.open-ok" server [ShortStr];
    CONNECTION_CLOSE = 10 50 "connection.close" both [Short ShortStr Short Short];
    CONNECTION_CLOSE_OK = 10 51 "connection.close-ok" both [];
    CONNECTION_BLOCKED = 10 60 "connection.blocked" server [ShortStr];
    CONNECTION_UNBLOCKED = 10 61 "connection.unblocked" server [];
    CONNECTION_UPDATE_SECRET = 10 70 "connection.update-secret" client [LongStr ShortStr];
    CONNECTION_UPDATE_SECRET_OK = 10 71 "connection.update-secret-ok" server [];
    CHANNEL_OPEN = 20 10 "channel.open" client [ShortStr];
    CHANNEL_OPEN_OK = 20 11 "channel.open-ok" server [LongStr];
    CHANNEL_FLOW = 20 20 "channel.flow" both [Octet];
    CHANNEL_FLOW_OK = 20 21 "channel.flow-ok" both [Octet];
    CHANNEL_CLOSE = 20 40 "channel.close" both [Short ShortStr Short Short];
    CHANNEL_CLOSE_OK = 20 41 "channel.close-ok" both [];
    ACCESS_REQUEST = 30 10 "access.request" client [ShortStr Octet];
    ACCESS_REQUEST_OK = 30 11 "access.request-ok" server [Short];
    EXCHANGE_DECLARE = 40 10 "exchange.declare" client [Short ShortStr ShortStr Octet Table];
    EXCHANGE_DECLARE_OK = 40 11 "exchange.declare-ok" server [];
    EXCHANGE_DELETE = 40 20 "exchange.delete" client [Short ShortStr Octet];
    EXCHANGE_DELETE_OK = 40 21 "exchange.delete-ok" server [];
    EXCHANGE_BIND = 40 30 "exchange.bind" client [Short ShortStr ShortStr ShortStr Octet Table];
    EXCHANGE_BIND_OK = 40 31 "exchange.bind-ok" server [];
    EXCHANGE_UNBIND = 40 40 "exchange.unbind" client [Short ShortStr ShortStr ShortStr Octet Table];
    EXCHANGE_UNBIND_OK = 40 51 "exchange.unbind-ok" server [];
    QUEUE_DECLARE = 50 10 "queue.declare" client [Short ShortStr Octet Table];
    QUEUE_DECLARE_OK = 50 11 "queue.declare-ok" server [ShortStr Long Long];
    QUEUE_BIND = 50 20 "queue.bind" client [Short ShortStr ShortStr ShortStr Octet Table];
    QUEUE_BIND_OK = 50 21 "queue.bind-ok" server [];
    QUEUE_PURGE = 50 30 "queue.purge" client [Short ShortStr Octet];
    QUEUE_PURGE_OK = 50 31 "queue.purge-ok" server [Long];
    QUEUE_DELETE = 50 40 "queue.delete" client [Short ShortStr Octet];
    QUEUE_DELETE_OK = 50 41 "queue.delete-ok" server [Long];
    QUEUE_UNBIND = 50 50 "queue.unbind" client [Short ShortStr ShortStr ShortStr Table];
    QUEUE_UNBIND_OK = 50 51 "queue.unbind-ok" server [];
    BASIC_QOS = 60 10 "basic.qos" client [Long Short Octet];
    BASIC_QOS_OK = 60 11 "basic.qos-ok" server [];
    BASIC_CONSUME = 60 20 "basic.consume" client [Short ShortStr ShortStr Octet Table];
    BASIC_CONSUME_OK = 60 21 "basic.consume-ok" server [ShortStr];
    BASIC_CANCEL = 60 30 "basic.cancel" both [ShortStr Octet];
    BASIC_CANCEL_OK = 60 31 "basic.cancel-ok" both [ShortStr];
    BASIC_PUBLISH = 60 40 "basic.publish" client [Short ShortStr ShortStr Octet];
    BASIC_RETURN = 60 50 "basic.return" server [Short ShortStr ShortStr ShortStr];
    BASIC_DELIVER = 60 60 "basic.deliver" server [ShortStr LongLong Octet ShortStr ShortStr];
    BASIC_GET = 60 70 "basic.get" client [Short ShortStr Octet];
    BASIC_GET_OK = 60 71 "basic.get-ok" server [LongLong Octet ShortStr ShortStr Long];
    BASIC_GET_EMPTY = 60 72 "basic.get-empty" server [ShortStr];
    BASIC_ACK = 60 80 "basic.ack" both [LongLong Octet];
    BASIC_REJECT = 60 90 "basic.reject" client [LongLong Octet];
    BASIC_RECOVER_ASYNC = 60 100 "basic.recover-async" client [Octet];
    BASIC_RECOVER = 60 110 "basic.recover" client [Octet];
    BASIC_RECOVER_OK = 60 111 "basic.recover-ok" server [];
    BASIC_NACK = 60 120 "basic.nack" both [LongLong Octet];
    CONFIRM_SELECT = 85 10 "confirm.select" client [Octet];
    CONFIRM_SELECT_OK = 85 11 "confirm.select-ok" server [];
    TX_SELECT = 90 10 "tx.select" client [];
    TX_SELECT_OK = 90 11 "tx.select-ok" server [];
    TX_COMMIT = 90 20 "tx.commit" client [];
    TX_COMMIT_OK = 90 21 "tx.commit-ok" server [];
    TX_ROLLBACK = 90 30 "tx.rollback" client [];
    TX_ROLLBACK_OK = 90 31 "tx.rollback-ok" server [];
}

/// What AMQP says of `id`, if it defines it.
#[must_use]
pub fn spec_of(id: MethodId) -> Option<&'static MethodSpec> {
    METHODS.binary_search_by_key(&id, |s| s.id).ok().and_then(|i| METHODS.get(i))
}

/// All methods, for tables and tests.
#[must_use]
pub fn all() -> &'static [MethodSpec] {
    METHODS
}

/// Why a method frame's payload is not a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodError {
    /// Fewer than four octets, or arguments that end early.
    Short,
    /// Octets left over after the last argument.
    Trailing(MethodId),
    /// Not a method of AMQP 0-9-1 or RabbitMQ.
    Unknown(MethodId),
    /// An argument table that is malformed or beyond a bound.
    Table(MethodId, TableError),
    /// A name or a text that is no UTF-8.
    Utf8(MethodId),
}

impl std::fmt::Display for MethodError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("method frame ends early"),
            Self::Trailing(id) => write!(f, "octets after the last argument of {}", id.name()),
            Self::Unknown(id) => write!(f, "unknown method {}.{}", id.class(), id.method()),
            Self::Table(id, e) => write!(f, "argument table of {}: {e}", id.name()),
            Self::Utf8(_) => f.write_str("Malformed UTF-8 in shortstr"),
        }
    }
}

impl std::error::Error for MethodError {}

/// A method's id and its arguments, not yet looked at.
#[inline]
pub fn split(payload: &[u8]) -> Result<(MethodId, Reader<'_>), MethodError> {
    let mut reader = Reader::new(payload);
    let id = MethodId(reader.u32().map_err(|Short| MethodError::Short)?);
    Ok((id, reader))
}

/// Walks every argument: types, lengths, tables within `limits`, names in UTF-8, nothing left over.
///
/// RabbitMQ ends the whole connection over a name that is no UTF-8. It does not look at a publish's names, nor do we.
pub fn check(payload: &[u8], limits: &TableLimits) -> Result<&'static MethodSpec, MethodError> {
    let (id, mut r) = split(payload)?;
    let spec = spec_of(id).ok_or(MethodError::Unknown(id))?;
    let short = |Short| MethodError::Short;
    for field in spec.fields {
        match field {
            Field::Octet => drop(r.u8().map_err(short)?),
            Field::Short => drop(r.u16().map_err(short)?),
            Field::Long => drop(r.u32().map_err(short)?),
            Field::LongLong => drop(r.u64().map_err(short)?),
            Field::ShortStr => {
                let text = r.shortstr().map_err(short)?;
                if id != MethodId::BASIC_PUBLISH && std::str::from_utf8(text).is_err() {
                    return Err(MethodError::Utf8(id));
                }
            }
            Field::LongStr => drop(r.longstr().map_err(short)?),
            Field::Table => {
                let table = r.longstr().map_err(short)?;
                check_table(table, limits).map_err(|e| MethodError::Table(id, e))?;
            }
        }
    }
    if r.is_empty() { Ok(spec) } else { Err(MethodError::Trailing(id)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_methods_is_sorted_so_that_it_can_be_searched() {
        assert!(METHODS.windows(2).all(|w| w[0].id < w[1].id));
        assert_eq!(MethodId::BASIC_PUBLISH.name(), "basic.publish");
        assert_eq!((MethodId::BASIC_PUBLISH.class(), MethodId::BASIC_PUBLISH.method()), (60, 40));
    }

    #[test]
    fn a_method_cut_anywhere_or_with_octets_left_over_is_refused() {
        let limits = TableLimits::default();
        let payload = write_publish(b"ex", b"key", true);
        assert!(check(&payload, &limits).is_ok());
        for cut in 0..payload.len() {
            assert!(check(&payload[..cut], &limits).is_err(), "cut at {cut}");
        }
        let mut long = payload.clone();
        long.push(0);
        assert_eq!(check(&long, &limits).unwrap_err(), MethodError::Trailing(MethodId::BASIC_PUBLISH));
    }

    #[test]
    fn a_name_that_is_no_utf8_is_refused_as_the_broker_would_but_for_a_publishs() {
        let limits = TableLimits::default();
        for name in [&b"\xff\xfe"[..], b"\xc3", b"q\xed\xa0\x80"] {
            let delete = MethodWriter::new(MethodId::QUEUE_DELETE).short(0).shortstr(name).octet(0).done();
            assert_eq!(check(&delete, &limits).unwrap_err(), MethodError::Utf8(MethodId::QUEUE_DELETE));
            assert!(check(&write_publish(name, name, false), &limits).is_ok());
        }
        let greek =
            MethodWriter::new(MethodId::QUEUE_DELETE).short(0).shortstr("ωμέγα".as_bytes()).octet(0).done();
        assert!(check(&greek, &limits).is_ok());
    }

    #[test]
    fn a_publish_reads_back_as_written() {
        let payload = write_publish(b"ex", b"key", true);
        let (id, r) = split(&payload).unwrap();
        assert_eq!(id, MethodId::BASIC_PUBLISH);
        let p = publish(r).unwrap();
        assert_eq!(p, Publish { exchange: b"ex", routing_key: b"key", mandatory: true, immediate: false });
    }

    #[test]
    fn a_reply_text_over_255_bytes_is_cut_on_a_character() {
        let text = "é".repeat(200);
        let payload = write_close(MethodId::CHANNEL_CLOSE, 404, &text, MethodId::NONE);
        let (_, r) = split(&payload).unwrap();
        let close = close(r).unwrap();
        assert_eq!(close.text.len(), 254);
        assert!(std::str::from_utf8(close.text).is_ok());
    }
}
