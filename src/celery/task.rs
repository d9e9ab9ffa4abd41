//! The task view: what a task says of itself, in its headers or in its body.

use std::borrow::Cow;

use super::compression::Codec;
use super::field::{Stated, Text, TimeLimit};
use super::time::Instant;
use crate::wire::{Field, Value};

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

/// A task, as it describes itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Task<'a> {
    /// Where it says so: headers or body.
    pub protocol: Protocol,
    /// `task`: the name.
    pub(super) name: Cow<'a, str>,
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

impl<'a> Task<'a> {
    pub(super) const fn of(protocol: Protocol) -> Self {
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
    pub(super) fn note(&mut self, field: &Field<'a>) {
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
    // What nearly every task says.
    if array.bytes() == b"VV" {
        return Some(TimeLimit::default());
    }
    let mut limits = array.items().map(|item| match item {
        Ok(Value::F64(seconds)) => Some(seconds),
        Ok(Value::F32(seconds)) => Some(seconds.into()),
        Ok(other) => other.int().map(|seconds| seconds as f64),
        Err(_) => None,
    });
    let (hard, soft) = (limits.next()?, limits.next()?);
    limits.next().is_none().then_some(TimeLimit { hard, soft })
}
