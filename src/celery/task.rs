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

use super::body::{self, BodyLimits, Serializer, Unreadable};
use super::compression::Codec;
use super::field::{Fields, Stated, Text, TimeLimit};
use super::time::Instant;
use crate::wire::{ContentHeader, Entry, Table, Value};

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
    /// `task`: the name. UTF-8: see [`Task::name`].
    name: Text<'a>,
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
        // Both ways of making a task refuse a name that is not UTF-8.
        self.name.as_str().unwrap_or_default()
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
    let mut headers = Headers::default();
    if let Some(table) = publish.header.headers() {
        headers.read(table);
    }
    match headers.task {
        Some(Value::Str(name)) => {
            task(Protocol::V2, Text::borrowed(name), headers.fields, headers.compression)
        }
        Some(_) => Reading::NotTask(NotTask::Other),
        None => read_body(publish, headers.compression, limits),
    }
}

/// What protocol 2 says in the header table.
#[derive(Default)]
struct Headers<'a> {
    task: Option<Value<'a>>,
    fields: Fields<'a>,
    compression: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    fn read(&mut self, table: Table<'a>) {
        let text = |value: Value<'a>| value.str_bytes().map(Text::borrowed);
        for entry in table.entries() {
            // A broken table is refused before it comes here; what was read of one is as good as any.
            let Ok(Entry { name, value, .. }) = entry else { return };
            match name {
                b"task" => self.task = Some(value),
                b"id" => self.fields.id = text(value),
                b"eta" => self.fields.eta = stated(value),
                b"expires" => self.fields.expires = stated(value),
                b"retries" => self.fields.retries = value.int(),
                b"group" => self.fields.group = text(value),
                b"root_id" => self.fields.root_id = text(value),
                b"parent_id" => self.fields.parent_id = text(value),
                b"lang" => self.fields.lang = text(value),
                b"shadow" => self.fields.shadow = text(value),
                b"timelimit" => self.fields.time_limit = time_limit(value),
                b"ignore_result" => self.fields.ignore_result = value.bool(),
                // Kombu asks `if compression`: an empty one is none.
                b"compression" => self.compression = value.str_bytes().filter(|name| !name.is_empty()),
                _ => {}
            }
        }
    }
}

const fn stated(value: Value<'_>) -> Stated<'_> {
    match value {
        Value::Void => Stated::Absent,
        Value::Str(bytes) => Stated::Text(Text::borrowed(bytes)),
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
        fields.group = fields.group_of_v1();
        return task(Protocol::V1, name, fields, compression);
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

fn task<'a>(
    protocol: Protocol,
    name: Text<'a>,
    fields: Fields<'a>,
    compression: Option<&'a [u8]>,
) -> Reading<'a> {
    if name.as_str().is_none() {
        return Reading::Unreadable(Unreadable::Name);
    }
    Reading::Task(Task {
        protocol,
        name,
        id: fields.id,
        retries: fields.retries,
        eta: fields.eta,
        expires: fields.expires,
        utc: fields.utc,
        group: fields.group,
        root_id: fields.root_id,
        parent_id: fields.parent_id,
        lang: fields.lang,
        shadow: fields.shadow,
        time_limit: fields.time_limit,
        ignore_result: fields.ignore_result,
        compression,
    })
}
