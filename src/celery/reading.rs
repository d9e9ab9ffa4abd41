//! What one publish is: a task of either protocol, something else, or unreadable.
//!
//! ```text
//! headers.task is a string ───────────────────────────────▶ Task, protocol 2 (the body is not looked at, nothing is copied)
//! headers.task is there, but something else ──────────────▶ NotTask
//! an exchange of events or remote control ────────────────▶ NotTask
//! a serializer that we do not read ───────────────────────▶ NotTask
//! the body does not decompress, or is not what it claims ─▶ Unreadable
//! the body is a dict with `task` and `id`, and a sign of ─▶ Task, protocol 1
//! anything else ──────────────────────────────────────────▶ NotTask
//! ```
//!
//! A sign of protocol 1, besides `task` and `id`: the correlation id is the task's id, or the body has `retries`. Celery and its
//! imitators always write both; other people's JSON with `task` and `id` in it must pass untouched.

use super::body::{self, BodyLimits, Serializer, Unreadable};
use super::field::{Fields, Text};
use super::task::{self, Task};
use crate::wire::ContentHeader;

/// One publish, in pieces that lie wherever it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The exchange as the client named it.
    pub exchange: &'a [u8],
    /// The routing key as the client named it.
    pub routing_key: &'a [u8],
    /// The content header; its table must have been checked.
    pub header: &'a ContentHeader<'a>,
    /// The body, in order; together `header.body_size` octets.
    pub body: &'a [&'a [u8]],
}

/// What a publish is.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading<'a> {
    /// A Celery task.
    Task(Task<'a>),
    /// Something else, to be passed untouched (T4).
    NotTask(NotTask),
    /// It may be a task, but nobody can tell: to be passed untouched and counted (P7).
    Unreadable(Unreadable),
}

/// What a publish is that is no task; a label of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotTask {
    /// An event of `celery events`, or of gossip.
    Event,
    /// Remote control, or the reply to it.
    Control,
    /// A task's result.
    Result,
    /// Anything else.
    Other,
}

impl NotTask {
    /// As a label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Control => "control",
            Self::Result => "result",
            Self::Other => "other",
        }
    }
}

/// Says what a publish is. Protocol 2 costs a look at one header; the body is read only where it may be protocol 1.
#[must_use]
pub fn read<'a>(publish: &Publish<'a>, limits: &BodyLimits) -> Reading<'a> {
    let headers = publish.header.headers();
    let Some((headers, name)) = headers.and_then(|table| Some((table, table.field(b"task")?))) else {
        return read_body(publish, headers.and_then(task::compression), limits);
    };
    match name.str_bytes() {
        Some(name) if is_text(name) => Reading::Task(Task::of_headers(name, headers)),
        Some(_) => Reading::Unreadable(Unreadable::Name),
        None => Reading::NotTask(NotTask::Other),
    }
}

/// Names are nearly always ASCII, which is told faster than UTF-8 is.
fn is_text(name: &[u8]) -> bool {
    name.is_ascii() || std::str::from_utf8(name).is_ok()
}

/// Celery's own exchanges whose messages are never tasks.
fn infrastructure(exchange: &[u8]) -> Option<NotTask> {
    if exchange == b"celeryev" {
        Some(NotTask::Event)
    } else if exchange.ends_with(b".pidbox") {
        Some(NotTask::Control)
    } else if exchange == b"celeryresults" {
        Some(NotTask::Result)
    } else {
        None
    }
}

fn read_body<'a>(publish: &Publish<'a>, compression: Option<&'a [u8]>, limits: &BodyLimits) -> Reading<'a> {
    if let Some(kind) = infrastructure(publish.exchange) {
        return Reading::NotTask(kind);
    }
    let Some(serializer) = publish.header.content_type().and_then(Serializer::of) else {
        return Reading::NotTask(NotTask::Other);
    };
    let mut fields = match body::read(serializer, compression, publish.body, limits) {
        Ok(Some(fields)) => fields,
        Ok(None) => return Reading::NotTask(NotTask::Other),
        Err(unreadable) => return Reading::Unreadable(unreadable),
    };
    if let (Some(name), Some(id)) = (fields.task.take(), &fields.id)
        && (publish.header.correlation_id() == Some(id.bytes()) || fields.has_retries)
    {
        return v1(name, fields, compression);
    }
    Reading::NotTask(if fields.looks_like_result() {
        NotTask::Result
    } else if fields.looks_like_control() {
        NotTask::Control
    } else if fields.looks_like_event() {
        NotTask::Event
    } else {
        NotTask::Other
    })
}

fn v1<'a>(name: Text<'a>, fields: Fields<'a>, compression: Option<&'a [u8]>) -> Reading<'a> {
    if is_text(name.bytes()) {
        Reading::Task(Task::of_body(name.0, fields, compression))
    } else {
        Reading::Unreadable(Unreadable::Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::celery::compression::Codec;
    use crate::celery::field::TimeLimit;
    use crate::celery::task::Protocol;
    use crate::wire::{NewHeader, Table, TableWriter, Value};

    /// What is read of a publish with these headers, this correlation id and this JSON body.
    fn with_reading<T>(
        headers: &TableWriter,
        id: &[u8],
        exchange: &[u8],
        json: &[u8],
        then: impl FnOnce(Reading<'_>) -> T,
    ) -> T {
        let mut payload = Vec::new();
        NewHeader {
            content_type: Some(b"application/json"),
            headers: Some(headers.table()),
            correlation_id: Some(id),
            ..NewHeader::default()
        }
        .write(&mut payload);
        let header = ContentHeader::parse(&payload).unwrap();
        let body = [json];
        then(read(
            &Publish { exchange, routing_key: b"q", header: &header, body: &body },
            &BodyLimits::default(),
        ))
    }

    fn kind(headers: &TableWriter, id: &[u8], exchange: &[u8], json: &[u8]) -> &'static str {
        with_reading(headers, id, exchange, json, |reading| match reading {
            Reading::Task(task) if task.protocol() == Protocol::V2 => "v2",
            Reading::Task(_) => "v1",
            Reading::NotTask(kind) => kind.label(),
            Reading::Unreadable(reason) => reason.label(),
        })
    }

    #[test]
    fn a_string_under_task_is_protocol_2_whatever_the_body() {
        let headers = TableWriter::new().str("task", b"a");
        assert_eq!(kind(&headers, b"", b"", b"\xff"), "v2");
        assert_eq!(kind(&headers.with("task", Value::Void), b"", b"", b"{}"), "other");
        assert_eq!(kind(&TableWriter::new().str("task", b"\xff"), b"", b"", b"{}"), "name");
    }

    #[test]
    fn a_dict_with_task_and_id_is_protocol_1_only_with_a_sign_of_celery() {
        let none = TableWriter::new();
        assert_eq!(kind(&none, b"1", b"", br#"{"task": "a", "id": "1"}"#), "v1");
        assert_eq!(kind(&none, b"", b"", br#"{"task": "a", "id": "1", "retries": 0}"#), "v1");
        assert_eq!(kind(&none, b"", b"", br#"{"task": "a", "id": "1", "args": []}"#), "other");
        assert_eq!(kind(&none, b"1", b"", br#"{"task": "a"}"#), "other");
        assert_eq!(kind(&none, b"1", b"", br#"{"task": "a", "id": "1""#), "syntax");
        assert_eq!(kind(&none, b"1", b"", br#"{"task": "\ud800", "id": "1"}"#), "name");
    }

    #[test]
    fn celerys_own_exchanges_carry_no_tasks_of_protocol_1() {
        let body = br#"{"task": "a", "id": "1"}"#;
        for (exchange, kind_of) in [
            ("celeryev", "event"),
            ("celery.pidbox", "control"),
            ("reply.celery.pidbox", "control"),
            ("celeryresults", "result"),
        ] {
            assert_eq!(kind(&TableWriter::new(), b"1", exchange.as_bytes(), body), kind_of);
        }
    }

    #[test]
    fn a_naive_expiry_of_a_producer_on_local_time_is_not_judged() {
        for (utc, want) in [("true", Some(2_209_086_245_000_000)), ("false", None)] {
            let json =
                format!(r#"{{"task": "a", "id": "1", "utc": {utc}, "expires": "2040-01-02T03:04:05"}}"#);
            with_reading(&TableWriter::new(), b"1", b"", json.as_bytes(), |reading| {
                let Reading::Task(task) = reading else { panic!("{reading:?}") };
                assert_eq!(task.expires_at(), want);
            });
        }
    }

    #[test]
    fn a_float_under_expires_is_nobodys_moment() {
        let headers =
            TableWriter::new().str("task", b"a").with("expires", Value::F64(1.5)).with("eta", Value::Void);
        with_reading(&headers, b"", b"", b"", |reading| {
            let Reading::Task(task) = reading else { panic!("{reading:?}") };
            assert_eq!(
                (task.expires().is_stated(), task.expires_at(), task.eta().is_stated()),
                (true, None, false)
            );
        });
    }

    #[test]
    fn every_header_of_protocol_2_is_read() {
        let mut limits = Vec::new();
        Value::I32(30).write(&mut limits);
        Value::F64(2.5).write(&mut limits);
        let headers = TableWriter::new()
            .str("task", b"a")
            .str("id", b"1")
            .str("lang", b"py")
            .str("group", b"g")
            .str("root_id", b"r")
            .str("parent_id", b"p")
            .str("shadow", b"s")
            .str("compression", b"gzip")
            .with("retries", Value::U8(2))
            .with("ignore_result", Value::Bool(true))
            .with("timelimit", Value::Array(crate::wire::Array::new(&limits)))
            .with("stamps", Value::Table(Table::new(b"")));
        with_reading(&headers, b"", b"", b"", |reading| {
            let Reading::Task(task) = reading else { panic!("{reading:?}") };
            let of = |text: Option<Text<'_>>| text.unwrap().as_str().unwrap().to_owned();
            assert_eq!(
                [task.id(), task.lang(), task.group(), task.root_id(), task.parent_id(), task.shadow()]
                    .map(of)
                    .join(","),
                "1,py,g,r,p,s"
            );
            assert_eq!(
                (task.retries(), task.ignore_result(), task.codec()),
                (Some(2), Some(true), Some(Codec::Zlib))
            );
            assert_eq!(task.time_limit(), Some(TimeLimit { hard: Some(30.0), soft: Some(2.5) }));
        });
    }
}
