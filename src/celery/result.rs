//! What a worker would have said of a task that it discards: the REVOKED result and the `task-revoked` event, byte for byte.

use std::fmt::Write as _;

use super::time;
use crate::wire::num::u64_of;
use crate::wire::{NewHeader, TableWriter};

/// A message that we publish ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub exchange: Vec<u8>,
    /// Under which key.
    pub routing_key: Vec<u8>,
    /// A header frame's payload.
    pub header: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a result says of its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked<'a> {
    /// The task's id.
    pub id: &'a [u8],
    /// Its group, where it has one.
    pub group: Option<&'a [u8]>,
    /// Its parent, where it has one.
    pub parent_id: Option<&'a [u8]>,
}

/// The result of a task that expired, as `rpc://` backends send it (celery/backends/base.py, `_get_result_meta`): the waiting caller
/// raises `TaskRevokedError('expired')`. Nobody waits where `reply_to` is empty; whether anybody does elsewhere cannot be known.
#[must_use]
pub fn revoked_result(task: &Revoked<'_>, reply_to: &[u8], now_micros: i64) -> Message {
    let mut body = String::from(
        "{\"status\": \"REVOKED\", \"result\": {\"exc_type\": \"TaskRevokedError\", \"exc_message\": [\"expired\"], \
         \"exc_module\": \"celery.exceptions\"}, \"traceback\": null, \"children\": [], \"date_done\": ",
    );
    push_json(&mut body, time::format(now_micros).as_bytes());
    for (name, value) in [("group_id", task.group), ("parent_id", task.parent_id), ("task_id", Some(task.id))]
    {
        if let Some(value) = value {
            body.push_str(", ");
            push_json(&mut body, name.as_bytes());
            body.push_str(": ");
            push_json(&mut body, value);
        }
    }
    body.push('}');
    let headers = TableWriter::new();
    message(
        b"",
        reply_to,
        body,
        NewHeader { headers: Some(headers.table()), correlation_id: Some(task.id), ..NewHeader::default() },
    )
}

/// Who sends an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender<'a> {
    /// Our node's name, `umbel@host`.
    pub hostname: &'a str,
    /// Our process.
    pub pid: u32,
    /// A logical clock: events of one sender are ordered by it.
    pub clock: u64,
}

/// The event of a task that expired (celery/worker/request.py, `_announce_revoked`), on Celery's event exchange.
#[must_use]
pub fn revoked_event(id: &[u8], sender: &Sender<'_>, now_micros: i64) -> Message {
    let mut body = String::from("{\"hostname\": ");
    push_json(&mut body, sender.hostname.as_bytes());
    let (seconds, micros) = (now_micros.div_euclid(1_000_000), now_micros.rem_euclid(1_000_000));
    let _ = write!(
        body,
        ", \"utcoffset\": 0.0, \"pid\": {}, \"clock\": {}, \"uuid\": ",
        sender.pid, sender.clock
    );
    push_json(&mut body, id);
    let _ = write!(
        body,
        ", \"terminated\": false, \"signum\": null, \"expired\": true, \"timestamp\": {seconds}.{micros:06}, \
         \"type\": \"task-revoked\"}}"
    );
    let headers = TableWriter::new().str("hostname", sender.hostname.as_bytes());
    message(
        b"celeryev",
        b"task.revoked",
        body,
        NewHeader { headers: Some(headers.table()), ..NewHeader::default() },
    )
}

/// What every result and event of Celery's has in common: transient JSON of priority 0.
fn message(exchange: &[u8], routing_key: &[u8], body: String, properties: NewHeader<'_>) -> Message {
    let mut header = Vec::new();
    NewHeader {
        body_size: u64_of(body.len()),
        content_type: Some(b"application/json"),
        content_encoding: Some(b"utf-8"),
        delivery_mode: Some(1),
        priority: Some(0),
        ..properties
    }
    .write(&mut header);
    Message {
        exchange: exchange.to_vec(),
        routing_key: routing_key.to_vec(),
        header,
        body: body.into_bytes(),
    }
}

/// Appends a string as Python's `json.dumps` writes it: ASCII, everything else escaped. What is not UTF-8 becomes U+FFFD.
pub(crate) fn push_json(out: &mut String, text: &[u8]) {
    out.push('"');
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ContentHeader;

    #[test]
    fn the_result_is_the_one_that_a_worker_sends() {
        let id = b"b6d1aaca-ad12-4568-b385-cf9c6c52aae6";
        let task = Revoked { id, group: None, parent_id: None };
        let message = revoked_result(&task, b"4c46140b", 1_795_330_393_331_011);
        // The vector c570-py311-nontask-result-rpc-REVOKED-expired.
        assert_eq!(
            String::from_utf8(message.body).unwrap(),
            "{\"status\": \"REVOKED\", \"result\": {\"exc_type\": \"TaskRevokedError\", \"exc_message\": [\"expired\"], \
             \"exc_module\": \"celery.exceptions\"}, \"traceback\": null, \"children\": [], \"date_done\": \
             \"2026-11-22T06:53:13.331011+00:00\", \"task_id\": \"b6d1aaca-ad12-4568-b385-cf9c6c52aae6\"}"
        );
        assert_eq!((&message.exchange[..], &message.routing_key[..]), (&b""[..], &b"4c46140b"[..]));
        let header = ContentHeader::parse(&message.header).unwrap();
        assert_eq!((header.flags, header.body_size), (0xfc00, 263));
        assert_eq!((header.delivery_mode(), header.priority()), (Some(1), Some(0)));
        assert_eq!(header.correlation_id(), Some(&id[..]));
        assert_eq!(header.headers().unwrap().bytes(), b"");
    }

    #[test]
    fn a_group_and_a_parent_are_named_and_hostile_ids_are_escaped() {
        let task = Revoked { id: "é\"\\\n😀\x7f".as_bytes(), group: Some(b"g"), parent_id: Some(b"\xff") };
        let message = revoked_result(&task, b"r", 0);
        let json: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(json["task_id"], "é\"\\\n😀\x7f");
        assert_eq!((&json["group_id"], &json["parent_id"]), (&"g".into(), &"\u{fffd}".into()));
        assert!(message.body.is_ascii());
    }

    #[test]
    fn the_event_has_what_celery_events_reads() {
        let sender = Sender { hostname: "umbel@w", pid: 7, clock: 3 };
        let message = revoked_event(b"id", &sender, 1_795_330_390_000_487);
        assert_eq!(
            String::from_utf8(message.body).unwrap(),
            "{\"hostname\": \"umbel@w\", \"utcoffset\": 0.0, \"pid\": 7, \"clock\": 3, \"uuid\": \"id\", \"terminated\": false, \
             \"signum\": null, \"expired\": true, \"timestamp\": 1795330390.000487, \"type\": \"task-revoked\"}"
        );
        assert_eq!(
            (&message.exchange[..], &message.routing_key[..]),
            (&b"celeryev"[..], &b"task.revoked"[..])
        );
        let header = ContentHeader::parse(&message.header).unwrap();
        assert_eq!(header.flags, 0xf800);
        assert_eq!(header.headers().unwrap().get(b"hostname").unwrap().str_bytes(), Some(&b"umbel@w"[..]));
    }
}
