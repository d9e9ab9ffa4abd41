//! What a task says of itself, as it says it: in headers (protocol 2) or in the body (protocol 1).

use std::borrow::Cow;

use super::time::{self, Instant};

/// A string of a message: any bytes, borrowed from it wherever nothing had to be unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, [u8]>);

impl<'a> Text<'a> {
    /// Borrowed as it was sent.
    #[must_use]
    pub const fn borrowed(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A copy that outlives what it was borrowed from.
    #[must_use]
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }

    /// The text, where it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

/// A moment (`eta`, `expires`) as a message states it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Stated<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    /// A string, which may or may not be a moment.
    Text(Text<'a>),
    /// AMQP's timestamp: seconds since the epoch. py-amqp makes a moment of it, in UTC.
    Seconds(u64),
    /// A `datetime` that a body was pickled with. A worker takes it as it is (celery/utils/time.py, `maybe_iso8601`).
    Moment(Instant),
    /// Something that Celery never writes there (a number, a table): leave it alone.
    Other,
}

impl Stated<'_> {
    fn into_owned(self) -> Stated<'static> {
        match self {
            Self::Absent => Stated::Absent,
            Self::Text(text) => Stated::Text(text.into_owned()),
            Self::Seconds(seconds) => Stated::Seconds(seconds),
            Self::Moment(at) => Stated::Moment(at),
            Self::Other => Stated::Other,
        }
    }

    /// Whether anything is stated at all.
    #[must_use]
    pub const fn is_stated(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text.as_str(),
            Self::Absent | Self::Seconds(_) | Self::Moment(_) | Self::Other => None,
        }
    }

    /// The moment, where it can be parsed.
    #[must_use]
    pub fn instant(&self) -> Option<Instant> {
        match self {
            Self::Text(text) => time::parse(text.bytes()),
            Self::Seconds(seconds) => time::of_seconds(*seconds),
            Self::Moment(at) => Some(*at),
            Self::Absent | Self::Other => None,
        }
    }
}

/// A task's time limits in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TimeLimit {
    /// `time_limit`: the first of the pair.
    pub hard: Option<f64>,
    /// `soft_time_limit`: the second.
    pub soft: Option<f64>,
}

/// A value of a body, as much of it as anybody asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datum<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Text<'a>),
    /// A list of exactly two.
    Pair([Option<f64>; 2]),
    /// A `datetime`.
    Moment(Instant),
    /// Anything else.
    Other,
}

impl<'a> Datum<'a> {
    /// A number, for a place in a [`Datum::Pair`].
    #[expect(clippy::as_conversions, reason = "seconds; past 2^53 of them precision does not matter")]
    pub(crate) const fn number(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(*n as f64),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }

    fn text(self) -> Option<Text<'a>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn stated(self) -> Stated<'a> {
        match self {
            Self::Null => Stated::Absent,
            Self::Text(text) => Stated::Text(text),
            Self::Moment(at) => Stated::Moment(at),
            _ => Stated::Other,
        }
    }
}

/// The keys of a body that is a dict, as a reader meets them. Of duplicates the last counts, as in Python.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fields<'a> {
    pub(crate) task: Option<Text<'a>>,
    pub(crate) id: Option<Text<'a>>,
    pub(crate) retries: Option<i64>,
    pub(crate) eta: Stated<'a>,
    pub(crate) expires: Stated<'a>,
    pub(crate) utc: Option<bool>,
    pub(crate) group: Option<Text<'a>>,
    pub(crate) root_id: Option<Text<'a>>,
    pub(crate) parent_id: Option<Text<'a>>,
    pub(crate) lang: Option<Text<'a>>,
    pub(crate) shadow: Option<Text<'a>>,
    pub(crate) time_limit: Option<TimeLimit>,
    pub(crate) ignore_result: Option<bool>,
    taskset: Option<Option<Text<'a>>>,
    /// Whether `args` is there: a worker lays the headers over such a body, and over no other.
    pub(crate) has_args: bool,
    /// Whether `retries` is there, whatever it is.
    pub(crate) has_retries: bool,
    marks: Marks,
}

/// Which keys were met that only other messages of Celery's have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Marks {
    status: bool,
    task_id: bool,
    method: bool,
    arguments: bool,
    kind: bool,
    hostname: bool,
}

impl<'a> Fields<'a> {
    /// Whether a reader has to look at the value under `key`, or may skip it.
    pub(crate) fn wants(key: &[u8]) -> bool {
        matches!(
            key,
            b"task"
                | b"id"
                | b"retries"
                | b"eta"
                | b"expires"
                | b"utc"
                | b"group"
                | b"taskset"
                | b"root_id"
                | b"parent_id"
                | b"lang"
                | b"shadow"
                | b"timelimit"
                | b"ignore_result"
                | b"status"
                | b"task_id"
                | b"method"
                | b"arguments"
                | b"type"
                | b"hostname"
                | b"args"
        )
    }

    /// One key and its value.
    pub(crate) fn put(&mut self, key: &[u8], value: Datum<'a>) {
        match key {
            b"task" => self.task = value.text(),
            b"id" => self.id = value.text(),
            b"retries" => {
                self.has_retries = true;
                self.retries = if let Datum::Int(n) = value { Some(n) } else { None };
            }
            b"eta" => self.eta = value.stated(),
            b"expires" => self.expires = value.stated(),
            b"utc" => self.utc = if let Datum::Bool(b) = value { Some(b) } else { None },
            b"group" => self.group = value.text(),
            b"taskset" => self.taskset = Some(value.text()),
            b"root_id" => self.root_id = value.text(),
            b"parent_id" => self.parent_id = value.text(),
            b"lang" => self.lang = value.text(),
            b"shadow" => self.shadow = value.text(),
            b"timelimit" => {
                self.time_limit =
                    if let Datum::Pair([hard, soft]) = value { Some(TimeLimit { hard, soft }) } else { None };
            }
            b"ignore_result" => {
                self.ignore_result = if let Datum::Bool(b) = value { Some(b) } else { None };
            }
            b"status" => self.marks.status = true,
            b"task_id" => self.marks.task_id = true,
            b"method" => self.marks.method = true,
            b"arguments" => self.marks.arguments = true,
            b"type" => self.marks.kind = true,
            b"hostname" => self.marks.hostname = true,
            b"args" => self.has_args = true,
            _ => {}
        }
    }

    /// A copy that outlives a body that was decompressed or gathered for reading.
    pub(crate) fn into_owned(self) -> Fields<'static> {
        Fields {
            task: self.task.map(Text::into_owned),
            id: self.id.map(Text::into_owned),
            eta: self.eta.into_owned(),
            expires: self.expires.into_owned(),
            group: self.group.map(Text::into_owned),
            root_id: self.root_id.map(Text::into_owned),
            parent_id: self.parent_id.map(Text::into_owned),
            lang: self.lang.map(Text::into_owned),
            shadow: self.shadow.map(Text::into_owned),
            taskset: self.taskset.map(|text| text.map(Text::into_owned)),
            retries: self.retries,
            utc: self.utc,
            time_limit: self.time_limit,
            ignore_result: self.ignore_result,
            has_args: self.has_args,
            has_retries: self.has_retries,
            marks: self.marks,
        }
    }

    /// The group: a worker reads `taskset` over `group` in protocol 1 (celery/worker/strategy.py, proto1_to_proto2).
    pub(crate) fn group_of_v1(&self) -> Option<&Text<'a>> {
        self.taskset.as_ref().map_or(self.group.as_ref(), Option::as_ref)
    }

    pub(crate) const fn looks_like_result(&self) -> bool {
        self.marks.status && self.marks.task_id
    }

    pub(crate) const fn looks_like_control(&self) -> bool {
        self.marks.method && self.marks.arguments
    }

    pub(crate) const fn looks_like_event(&self) -> bool {
        self.marks.kind && self.marks.hostname
    }
}
