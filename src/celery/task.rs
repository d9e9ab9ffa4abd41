//! The task view: what one publish is, and what it says of itself.
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

use std::borrow::Cow;

use super::body::{self, BodyLimits, Serializer, Unreadable};
use super::compression::Codec;
use super::field::{Fields, Stated, Text, TimeLimit};
use super::time::Instant;
use crate::wire::{ContentHeader, Field, Value};

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

/// Which of Celery's message protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Everything in the body, which is a dict.
    V1,
    /// Everything in the headers; the body holds the arguments.
    V2,
}

impl Protocol {
    /// 1 or 2, as `task_protocol` has it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// What a publish is.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of one judgement; a box would be an allocation a message"
)]
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

/// A task, as it describes itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Task<'a> {
    /// Where it says so: headers or body.
    pub protocol: Protocol,
    /// `task`: the name.
    name: Cow<'a, str>,
    /// `id`.
    pub id: Option<Text<'a>>,
    /// `retries`, where it is an integer.
    pub retries: Option<i64>,
    /// `eta`.
    pub eta: Stated<'a>,
    /// `expires`.
    pub expires: Stated<'a>,
    /// Protocol 1's `utc`. Where it is false, a naive moment means something else to every worker.
    pub utc: Option<bool>,
    /// `group`.
    pub group: Option<Text<'a>>,
    /// `root_id`.
    pub root_id: Option<Text<'a>>,
    /// `parent_id`.
    pub parent_id: Option<Text<'a>>,
    /// `lang`.
    pub lang: Option<Text<'a>>,
    /// `shadow`: the name to show.
    pub shadow: Option<Text<'a>>,
    /// `timelimit`.
    pub time_limit: Option<TimeLimit>,
    /// `ignore_result`.
    pub ignore_result: Option<bool>,
    /// The `compression` header, where it is a string that is not empty.
    pub compression: Option<&'a [u8]>,
}

impl<'a> Task<'a> {
    /// The task's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it expires, in microseconds since the epoch; `None` also where that must not be judged: a string that we cannot parse,
    /// or a naive one of a producer that says `utc: false`.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        self.certain(self.expires.instant())
    }

    /// When it may run at the earliest, as [`Task::expires_at`].
    #[must_use]
    pub fn eta_at(&self) -> Option<i64> {
        self.certain(self.eta.instant())
    }

    fn certain(&self, instant: Option<Instant>) -> Option<i64> {
        let instant = instant?;
        (!instant.naive || self.utc != Some(false)).then_some(instant.unix_micros)
    }

    /// The codec named in the `compression` header: `None` where there is no such header, or Kombu has no such codec.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        Codec::named(self.compression?)
    }
}

/// Says what a publish is. Protocol 2 costs one walk over the header table; the body is read only where it may be protocol 1.
#[must_use]
pub fn read<'a>(publish: &Publish<'a>, limits: &BodyLimits) -> Reading<'a> {
    let mut task = Task::of(Protocol::V2);
    let mut name = None;
    if let Some(table) = publish.header.headers() {
        for field in table.fields() {
            if field.name == b"task" {
                name = Some(field);
            } else {
                task.note(&field);
            }
        }
    }
    match name {
        Some(name) => match name.str_bytes().map(std::str::from_utf8) {
            Some(Ok(name)) => {
                task.name = Cow::Borrowed(name);
                Reading::Task(task)
            }
            Some(Err(_)) => Reading::Unreadable(Unreadable::Name),
            None => Reading::NotTask(NotTask::Other),
        },
        None => read_body(publish, task.compression, limits),
    }
}

impl<'a> Task<'a> {
    const fn of(protocol: Protocol) -> Self {
        Self {
            protocol,
            name: Cow::Borrowed(""),
            id: None,
            retries: None,
            eta: Stated::Absent,
            expires: Stated::Absent,
            utc: None,
            group: None,
            root_id: None,
            parent_id: None,
            lang: None,
            shadow: None,
            time_limit: None,
            ignore_result: None,
            compression: None,
        }
    }

    /// What protocol 2 says in one header. Sorted by length: most names are told apart by it alone.
    fn note(&mut self, field: &Field<'a>) {
        let text = || field.str_bytes().map(Text::borrowed);
        match field.name {
            b"id" => self.id = text(),
            b"eta" => self.eta = stated(field),
            b"lang" => self.lang = text(),
            b"group" => self.group = text(),
            b"shadow" => self.shadow = text(),
            b"expires" => self.expires = stated(field),
            b"retries" => self.retries = field.value().and_then(|value| value.int()),
            b"root_id" => self.root_id = text(),
            b"parent_id" => self.parent_id = text(),
            b"timelimit" => self.time_limit = field.value().and_then(time_limit),
            // Kombu asks `if compression`: an empty one is none.
            b"compression" => self.compression = field.str_bytes().filter(|name| !name.is_empty()),
            b"ignore_result" => self.ignore_result = field.value().and_then(|value| value.bool()),
            _ => {}
        }
    }
}

const fn stated<'a>(field: &Field<'a>) -> Stated<'a> {
    match field.tag {
        b'V' => Stated::Absent,
        b'S' => Stated::Text(Text::borrowed(field.bytes)),
        _ => Stated::Other,
    }
}

#[expect(clippy::as_conversions, reason = "seconds; past 2^53 of them precision does not matter")]
fn time_limit(value: Value<'_>) -> Option<TimeLimit> {
    let Value::Array(array) = value else { return None };
    let mut limits = array.items().map(|item| match item {
        Ok(Value::F64(seconds)) => Some(seconds),
        Ok(Value::F32(seconds)) => Some(seconds.into()),
        Ok(other) => other.int().map(|seconds| seconds as f64),
        Err(_) => None,
    });
    let (hard, soft) = (limits.next()?, limits.next()?);
    limits.next().is_none().then_some(TimeLimit { hard, soft })
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

fn v1<'a>(name: Text<'a>, mut fields: Fields<'a>, compression: Option<&'a [u8]>) -> Reading<'a> {
    let name = match name.0 {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    };
    let Some(name) = name else { return Reading::Unreadable(Unreadable::Name) };
    let group = fields.group_of_v1();
    Reading::Task(Task {
        name,
        id: fields.id,
        retries: fields.retries,
        eta: fields.eta,
        expires: fields.expires,
        utc: fields.utc,
        group,
        root_id: fields.root_id,
        parent_id: fields.parent_id,
        lang: fields.lang,
        shadow: fields.shadow,
        time_limit: fields.time_limit,
        ignore_result: fields.ignore_result,
        compression,
        ..Task::of(Protocol::V1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{NewHeader, Table, TableWriter};

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
            Reading::Task(task) if task.protocol == Protocol::V2 => "v2",
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
                (task.expires.is_stated(), task.expires_at(), task.eta.is_stated()),
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
            let of = |text: &Option<Text<'_>>| text.as_ref().unwrap().as_str().unwrap().to_owned();
            assert_eq!(
                [&task.id, &task.lang, &task.group, &task.root_id, &task.parent_id, &task.shadow]
                    .map(of)
                    .join(","),
                "1,py,g,r,p,s"
            );
            assert_eq!(
                (task.retries, task.ignore_result, task.codec()),
                (Some(2), Some(true), Some(Codec::Zlib))
            );
            assert_eq!(task.time_limit, Some(TimeLimit { hard: Some(30.0), soft: Some(2.5) }));
        });
    }
}
