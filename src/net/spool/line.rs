//! A record as one line of JSON: all that it takes to publish it by hand, and its exact bytes.

use serde_json::{Map, Value as Json, json};

use super::block::Record;
use super::report::QueueReport;
use crate::celery::{self, BodyLimits, Reading};
use crate::session::spool::{DECLARES, HAS_NEEDS, Needs};
use crate::wire::table::{Table, Value};
use crate::wire::{ContentHeader, method};

/// Tables deeper than this are not spelled out: they are in the exact bytes.
const DEPTH_MAX: usize = 32;

/// What a record asks of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks<'a> {
    /// A declaration that goes before what follows: its payload.
    Declares(&'a [u8]),
    /// A publish: the method's payload.
    Publishes(&'a [u8]),
}

/// Reads the bits and the method of a record as the Hub wrote them.
#[must_use]
pub fn asks(record: &Record) -> Asks<'_> {
    if record.flags & DECLARES != 0 {
        return Asks::Declares(record.method());
    }
    let needs = (record.flags & HAS_NEEDS != 0).then(|| Needs::unpack(record.method())).flatten();
    Asks::Publishes(needs.map_or(record.method(), |(needs, _)| needs.publish))
}

fn publish_of(record: &Record) -> Option<method::Publish<'_>> {
    match asks(record) {
        Asks::Declares(_) => None,
        Asks::Publishes(payload) => method::publish(method::split(payload).ok()?.1).ok(),
    }
}

/// The task's name, of either protocol.
pub(super) fn task_of(record: &Record) -> Option<String> {
    let publish = publish_of(record)?;
    let header = ContentHeader::parse(record.header()).ok()?;
    let body = [record.body()];
    let publish = celery::Publish {
        exchange: publish.exchange,
        routing_key: publish.routing_key,
        header: &header,
        body: &body,
    };
    match celery::read(&publish, &BodyLimits::default()) {
        Reading::Task(task) => Some(task.name().to_owned()),
        Reading::NotTask(_) | Reading::Unreadable(_) => None,
    }
}

/// A record as JSON: where it goes and what it is as far as it can be read, and all of it in base64. `umbel explain --message` reads it.
pub(super) fn line(queue: &QueueReport, record: &Record, refused: Option<&str>) -> Json {
    let publish = publish_of(record);
    let (declares, method_b64) = match asks(record) {
        Asks::Declares(payload) => (method::split(payload).ok().map(|(id, _)| id.name()), base64(payload)),
        Asks::Publishes(payload) => (None, base64(payload)),
    };
    let header = ContentHeader::parse(record.header()).ok();
    let headers = header.as_ref().and_then(ContentHeader::headers).map(|table| object(&table, DEPTH_MAX));
    let id = headers.as_ref().and_then(|h| h.get("id")).filter(|id| id.is_string()).cloned();
    json!({
        "upstream": queue.key.upstream,
        "vhost": queue.key.vhost,
        "user": queue.key.user,
        "queue": queue.queue.0,
        "seq": record.seq,
        "accepted_us": record.at_us,
        "refused": refused,
        "exchange": publish.as_ref().map(|p| text(p.exchange)),
        "routing_key": publish.as_ref().map(|p| text(p.routing_key)),
        "mandatory": publish.as_ref().map(|p| p.mandatory),
        "task": task_of(record),
        "id": id.or_else(|| header.as_ref().and_then(|h| h.correlation_id()).map(|id| text(id).into())),
        "properties": header.as_ref().map(properties),
        "headers": headers,
        "body_b64": base64(record.body()),
        "declares": declares,
        "method_b64": method_b64,
        "header_b64": base64(record.header()),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The properties that are set, without the headers.
fn properties(header: &ContentHeader<'_>) -> Map<String, Json> {
    let strings = [
        ("content_type", header.content_type()),
        ("content_encoding", header.content_encoding()),
        ("correlation_id", header.correlation_id()),
        ("reply_to", header.reply_to()),
        ("expiration", header.expiration()),
        ("message_id", header.message_id()),
        ("type", header.message_type()),
        ("user_id", header.user_id()),
        ("app_id", header.app_id()),
        ("cluster_id", header.cluster_id()),
    ];
    let numbers = [
        ("delivery_mode", header.delivery_mode().map(u64::from)),
        ("priority", header.priority().map(u64::from)),
        ("timestamp", header.timestamp()),
    ];
    let strings = strings.into_iter().filter_map(|(name, v)| v.map(|v| (name, Json::from(text(v)))));
    let numbers = numbers.into_iter().filter_map(|(name, v)| v.map(|v| (name, Json::from(v))));
    strings.chain(numbers).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A table; of duplicate names the last, as a Python dict built from it has it.
fn object(table: &Table<'_>, depth: usize) -> Map<String, Json> {
    table.fields().filter_map(|f| f.value().map(|v| (text(f.name), json_of(&v, depth)))).collect()
}

fn json_of(value: &Value<'_>, depth: usize) -> Json {
    let Some(depth) = depth.checked_sub(1) else { return Json::Null };
    match value {
        Value::Str(s) => text(s).into(),
        Value::Bytes(b) => json!({ "base64": base64(b) }),
        Value::Bool(b) => (*b).into(),
        Value::F64(n) => (*n).into(),
        Value::F32(n) => f64::from(*n).into(),
        Value::Timestamp(seconds) => (*seconds).into(),
        Value::Decimal { scale, value } => json!({ "scale": scale, "value": value }),
        Value::Void => Json::Null,
        Value::Table(table) => object(table, depth).into(),
        Value::Array(array) => {
            array.items().map_while(Result::ok).map(|item| json_of(&item, depth)).collect()
        }
        integer => integer.int().map_or(Json::Null, Json::from),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u32| DIGITS.get(crate::wire::num::usize_of(n & 63)).map_or('=', |d| char::from(*d));
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let used = place <= three.len();
            out.push(if used { digit(bits >> (18 - 6 * place)) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors =
            ["", "", "f", "Zg==", "fo", "Zm8=", "foo", "Zm9v", "foob", "Zm9vYg==", "foobar", "Zm9vYmFy"];
        for pair in vectors.chunks(2) {
            assert_eq!(base64(pair[0].as_bytes()), pair[1]);
        }
    }

    #[test]
    fn a_table_is_spelled_out_and_does_not_go_deeper_than_it_may() {
        let inner =
            crate::wire::table::TableWriter::new().with("n", Value::I32(1)).with("s", Value::Str(b"x"));
        let outer = crate::wire::table::TableWriter::new()
            .with("t", Value::Table(inner.table()))
            .with("v", Value::Void)
            .with("b", Value::Bytes(&[0, 255]));
        let json = Json::from(object(&outer.table(), DEPTH_MAX));
        assert_eq!(json, json!({"t": {"n": 1, "s": "x"}, "v": null, "b": {"base64": "AP8="}}));
        assert_eq!(Json::from(object(&outer.table(), 1))["t"], json!({"n": null, "s": null}));
    }
}
