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
//! imitators write at least one of them; other people's JSON with `task`, `id`, even `args` and `kwargs` in it must pass untouched
//! (vector c570-py311-nontask-kombu-producer-json).

use super::body::{self, BodyLimits, Serializer, Unreadable};
use super::encoding::Encoding;
use super::field::{Fields, Text};
use super::task::{self, Closed, Task};
use crate::wire::{ContentHeader, Table};

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
pub fn read<'a>(publish: &Publish<'a>, limits: &'a BodyLimits) -> Reading<'a> {
    let headers = publish.header.headers();
    let Some((headers, name)) = headers.and_then(|table| Some((table, table.field(b"task")?))) else {
        return read_body(publish, headers.unwrap_or(Table::new(&[])), limits);
    };
    match name.str_bytes() {
        Some(name) if is_text(name) => {
            let closed = Closed { header: publish.header, pieces: publish.body, limits };
            Reading::Task(Task::of_headers(name, headers, closed))
        }
        Some(_) => Reading::Unreadable(Unreadable::Name),
        None => Reading::NotTask(NotTask::Other),
    }
}

/// What a publish is that is no task whatever its body says; `None`: its body must be asked, or it is a task, or may be one.
pub fn told_without_body(publish: &Publish<'_>) -> Option<NotTask> {
    if let Some(name) = publish.header.headers().and_then(|table| table.field(b"task")) {
        return name.str_bytes().is_none().then_some(NotTask::Other);
    }
    let foreign = publish.header.content_type().and_then(Serializer::of).is_none();
    infrastructure(publish.exchange).or(foreign.then_some(NotTask::Other))
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

fn read_body<'a>(publish: &Publish<'a>, headers: Table<'a>, limits: &BodyLimits) -> Reading<'a> {
    if let Some(kind) = infrastructure(publish.exchange) {
        return Reading::NotTask(kind);
    }
    let Some(serializer) = publish.header.content_type().and_then(Serializer::of) else {
        return Reading::NotTask(NotTask::Other);
    };
    let sealed = body::Sealed {
        serializer,
        compression: task::compression(headers),
        encoding: Encoding::of(publish.header.content_encoding()),
        pieces: publish.body,
    };
    let mut fields = match body::read(&sealed, limits) {
        Ok(Some(fields)) => fields,
        Ok(None) => return Reading::NotTask(NotTask::Other),
        Err(unreadable) => return Reading::Unreadable(unreadable),
    };
    if let (Some(name), Some(id)) = (fields.task.take(), &fields.id)
        && (publish.header.correlation_id() == Some(id.bytes()) || fields.has_retries)
    {
        return v1(name, fields, headers);
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

fn v1<'a>(name: Text<'a>, fields: Fields<'a>, headers: Table<'a>) -> Reading<'a> {
    if is_text(name.bytes()) {
        Reading::Task(Task::of_body(name.0, fields, headers))
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
    use crate::wire::{NewHeader, TableWriter, Value};

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
        let (body, limits) = ([json], BodyLimits::default());
        let publish = Publish { exchange, routing_key: b"q", header: &header, body: &body };
        let reading = read(&publish, &limits);
        assert!(told_without_body(&publish).is_none_or(|kind| reading == Reading::NotTask(kind)));
        then(reading)
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
    fn what_is_no_task_whatever_its_body_is_told_without_it() {
        let told = |exchange: &[u8], kind: &[u8]| {
            let mut payload = Vec::new();
            NewHeader { content_type: Some(kind), ..NewHeader::default() }.write(&mut payload);
            let header = ContentHeader::parse(&payload).unwrap();
            told_without_body(&Publish { exchange, routing_key: b"q", header: &header, body: &[] })
        };
        assert_eq!(told(b"celeryev", b"application/json"), Some(NotTask::Event));
        assert_eq!([told(b"", b"text/plain"), told(b"", b"application/json")], [Some(NotTask::Other), None]);
    }

    #[test]
    fn a_dict_with_task_and_id_is_protocol_1_only_with_a_sign_of_celery() {
        let none = TableWriter::new();
        assert_eq!(kind(&none, b"1", b"", br#"{"task": "a", "id": "1"}"#), "v1");
        assert_eq!(kind(&none, b"", b"", br#"{"task": "a", "id": "1", "retries": 0}"#), "v1");
        assert_eq!(kind(&none, b"", b"", br#"{"task": "a", "id": "1", "args": []}"#), "other");
        assert_eq!(kind(&none, b"", b"", br#"{"task": "a", "id": "1", "args": [], "kwargs": {}}"#), "other");
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

    /// The same of a publish as it lies here.
    fn expires_of(
        headers: &TableWriter,
        kind: &str,
        encoding: Option<&str>,
        body: &[u8],
    ) -> Option<Option<i64>> {
        let mut payload = Vec::new();
        NewHeader {
            content_type: Some(kind.as_bytes()),
            content_encoding: encoding.map(str::as_bytes),
            headers: Some(headers.table()),
            ..NewHeader::default()
        }
        .write(&mut payload);
        let header = ContentHeader::parse(&payload).unwrap();
        let (pieces, limits) = ([body], BodyLimits::default());
        match read(&Publish { exchange: b"", routing_key: b"q", header: &header, body: &pieces }, &limits) {
            Reading::Task(task) => Some(task.expires_at().map(|at| at / 1_000_000)),
            _ => None,
        }
    }

    const SOON: &str = "2040-01-02T03:04:05";
    const AT: i64 = 2_209_086_245;

    #[test]
    fn what_headers_of_protocol_2_leave_out_a_body_of_protocol_1_says() {
        let head = TableWriter::new().str("task", b"a").str("id", b"1");
        let hybrid =
            format!(r#"{{"task": "b", "args": [], "kwargs": {{}}, "expires": "{SOON}", "retries": 2}}"#);
        let json = "application/json";
        let read =
            |headers: &TableWriter, body: &str| expires_of(headers, json, Some("utf-8"), body.as_bytes());
        assert_eq!(read(&head, &hybrid), Some(Some(AT)));
        assert_eq!(
            read(&head.clone().with("expires", Value::Void), &hybrid),
            Some(None),
            "null lies over it"
        );
        assert_eq!(read(&head, &hybrid.replace("args", "arks")), Some(None), "a worker cannot run it");
        assert_eq!(read(&head, "[[], {}, {}]"), Some(None));
        assert_eq!(read(&head, "{"), Some(None));
        let yaml = format!("args: []\nexpires: '{SOON}'\n");
        assert_eq!(expires_of(&head, "application/x-yaml", None, yaml.as_bytes()), Some(Some(AT)));
        assert_eq!(expires_of(&head, "application/data", None, hybrid.as_bytes()), Some(None));
    }

    #[test]
    fn headers_lie_over_a_body_of_protocol_1_that_has_args() {
        let body = format!(
            r#"{{"task": "a", "id": "1", "args": [], "kwargs": {{}}, "expires": "{SOON}", "retries": 0}}"#
        );
        let said = |headers: &TableWriter, body: &str| {
            expires_of(headers, "application/json", Some("utf-8"), body.as_bytes())
        };
        let none = TableWriter::new();
        let null = TableWriter::new().with("expires", Value::Void);
        let other = TableWriter::new().str("expires", b"2041-01-02T03:04:05");
        assert_eq!(said(&none, &body), Some(Some(AT)));
        assert_eq!(said(&null, &body), Some(None));
        assert_eq!(said(&other, &body), Some(Some(AT + 366 * 86_400)));
        assert_eq!(said(&null, &body.replace("\"args\"", "\"arks\"")), Some(Some(AT)), "no args, no headers");
    }

    #[test]
    fn a_timestamp_is_a_moment() {
        let head = TableWriter::new().str("task", b"a");
        let of = |value| expires_of(&head.clone().with("expires", value), "application/json", None, b"[]");
        assert_eq!(of(Value::Timestamp(2_209_086_245)), Some(Some(AT)));
        assert_eq!(of(Value::Timestamp(u64::MAX)), Some(None));
        assert_eq!(of(Value::I64(AT)), Some(None), "a number is refused by a worker");
    }

    #[test]
    fn bodies_are_read_as_the_text_that_py_amqp_makes_of_them() {
        let none = TableWriter::new();
        let json = format!(r#"{{"task": "a", "id": "é", "retries": 0, "expires": "{SOON}"}}"#);
        let wide: Vec<u8> = json.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let with_mark = [&[0xfe, 0xff], &wide[..]].concat();
        let latin: Vec<u8> = json.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let kind = "application/json";
        assert_eq!(expires_of(&none, kind, Some("utf-16"), &with_mark), Some(Some(AT)));
        assert_eq!(expires_of(&none, kind, Some("UTF-16BE"), &wide), Some(Some(AT)));
        assert_eq!(expires_of(&none, kind, Some("latin-1"), &latin), Some(Some(AT)));
        assert_eq!(expires_of(&none, kind, Some("binary"), json.as_bytes()), Some(Some(AT)));
        assert_eq!(expires_of(&none, kind, Some("base64"), json.as_bytes()), Some(Some(AT)), "no text codec");
        assert_eq!(expires_of(&none, kind, None, &with_mark), None);
        // A pickle that has become other text is one no longer; as UTF-8 its octets are what they were, and Python 2 reads them.
        let pickle = b"(dp0\nVtask\np1\nVa\np2\nsVid\np3\nV1\np4\nsVretries\np5\nI0\ns.";
        let pickled = "application/x-python-serialize";
        assert_eq!(expires_of(&none, pickled, Some("binary"), pickle), Some(None));
        assert_eq!(expires_of(&none, pickled, Some("utf-8"), pickle), Some(None));
        assert_eq!(expires_of(&none, pickled, Some("latin-1"), pickle), None);
    }
}
