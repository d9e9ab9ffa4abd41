//! The task view: what a task says of itself, in its headers or in its body. Nothing is looked at before it is asked for.

use std::borrow::Cow;

use super::compression::Codec;
use super::field::Fields;
use super::field::{Stated, Text, TimeLimit};
use super::time::Instant;
use crate::wire::{Field, Table, Value};

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
    /// UTF-8, as whoever made this has seen.
    name: Cow<'a, [u8]>,
    says: Says<'a>,
}

/// Where it says it.
#[derive(Debug, Clone, PartialEq)]
enum Says<'a> {
    /// Protocol 2.
    Headers(Table<'a>),
    /// Protocol 1; but the `compression` header is a header.
    Body(Box<Fields<'a>>, Option<&'a [u8]>),
}

impl<'a> Task<'a> {
    /// A task of protocol 2: `name`, which is UTF-8, stands under `task` in `headers`, whose table has been checked.
    pub(super) const fn of_headers(name: &'a [u8], headers: Table<'a>) -> Self {
        Self { name: Cow::Borrowed(name), says: Says::Headers(headers) }
    }

    /// A task of protocol 1. `name` is UTF-8.
    pub(super) fn of_body(name: Cow<'a, [u8]>, fields: Fields<'a>, compression: Option<&'a [u8]>) -> Self {
        Self { name, says: Says::Body(Box::new(fields), compression) }
    }

    /// Which protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self.says {
            Says::Headers(_) => Protocol::V2,
            Says::Body(..) => Protocol::V1,
        }
    }

    /// `task`: the name.
    #[must_use]
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default()
    }

    /// The same, for comparisons: reading it as text costs more than looking it up.
    #[must_use]
    pub fn name_bytes(&self) -> &[u8] {
        &self.name
    }

    fn text<'s>(
        &'s self,
        header: &[u8],
        field: fn(&'s Fields<'a>) -> Option<&'s Text<'a>>,
    ) -> Option<Text<'s>> {
        match &self.says {
            Says::Headers(table) => table.field(header)?.str_bytes().map(Text::borrowed),
            Says::Body(fields, _) => field(fields).map(|text| Text::borrowed(text.bytes())),
        }
    }

    fn value<T>(
        &self,
        header: &[u8],
        read: fn(Value<'_>) -> Option<T>,
        field: fn(&Fields<'a>) -> Option<T>,
    ) -> Option<T> {
        match &self.says {
            Says::Headers(table) => read(table.field(header)?.value()?),
            Says::Body(fields, _) => field(fields),
        }
    }

    fn moment<'s>(&'s self, header: &[u8], field: fn(&'s Fields<'a>) -> &'s Stated<'a>) -> Stated<'s> {
        match &self.says {
            Says::Headers(table) => table.field(header).map_or(Stated::Absent, |field| stated(&field)),
            Says::Body(fields, _) => match field(fields) {
                Stated::Text(text) => Stated::Text(Text::borrowed(text.bytes())),
                Stated::Absent => Stated::Absent,
                Stated::Other => Stated::Other,
            },
        }
    }

    /// `id`.
    #[must_use]
    pub fn id(&self) -> Option<Text<'_>> {
        self.text(b"id", |fields| fields.id.as_ref())
    }

    /// `retries`, where it is an integer.
    #[must_use]
    pub fn retries(&self) -> Option<i64> {
        self.value(b"retries", |value| value.int(), |fields| fields.retries)
    }

    /// `eta`.
    #[must_use]
    pub fn eta(&self) -> Stated<'_> {
        self.moment(b"eta", |fields| &fields.eta)
    }

    /// `expires`.
    #[must_use]
    pub fn expires(&self) -> Stated<'_> {
        self.moment(b"expires", |fields| &fields.expires)
    }

    /// Protocol 1's `utc`. Where it is false, a naive moment means something else to every worker.
    #[must_use]
    pub const fn utc(&self) -> Option<bool> {
        match &self.says {
            Says::Headers(_) => None,
            Says::Body(fields, _) => fields.utc,
        }
    }

    /// `group`; in protocol 1 a worker reads `taskset` over it.
    #[must_use]
    pub fn group(&self) -> Option<Text<'_>> {
        self.text(b"group", Fields::group_of_v1)
    }

    /// `root_id`.
    #[must_use]
    pub fn root_id(&self) -> Option<Text<'_>> {
        self.text(b"root_id", |fields| fields.root_id.as_ref())
    }

    /// `parent_id`.
    #[must_use]
    pub fn parent_id(&self) -> Option<Text<'_>> {
        self.text(b"parent_id", |fields| fields.parent_id.as_ref())
    }

    /// `lang`.
    #[must_use]
    pub fn lang(&self) -> Option<Text<'_>> {
        self.text(b"lang", |fields| fields.lang.as_ref())
    }

    /// `shadow`: the name to show.
    #[must_use]
    pub fn shadow(&self) -> Option<Text<'_>> {
        self.text(b"shadow", |fields| fields.shadow.as_ref())
    }

    /// `timelimit`.
    #[must_use]
    pub fn time_limit(&self) -> Option<TimeLimit> {
        self.value(b"timelimit", time_limit, |fields| fields.time_limit)
    }

    /// `ignore_result`.
    #[must_use]
    pub fn ignore_result(&self) -> Option<bool> {
        self.value(b"ignore_result", |value| value.bool(), |fields| fields.ignore_result)
    }

    /// The `compression` header, where it is a string that is not empty.
    #[must_use]
    pub fn compression(&self) -> Option<&'a [u8]> {
        match self.says {
            Says::Headers(table) => compression(table),
            Says::Body(_, compression) => compression,
        }
    }

    /// When it expires, in microseconds since the epoch; `None` also where that must not be judged: a string that we cannot parse,
    /// or a naive one of a producer that says `utc: false`.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        self.certain(self.expires().instant())
    }

    /// When it may run at the earliest, as [`Task::expires_at`].
    #[must_use]
    pub fn eta_at(&self) -> Option<i64> {
        self.certain(self.eta().instant())
    }

    fn certain(&self, instant: Option<Instant>) -> Option<i64> {
        let instant = instant?;
        (!instant.naive || self.utc() != Some(false)).then_some(instant.unix_micros)
    }

    /// The codec named in the `compression` header: `None` where there is no such header, or Kombu has no such codec.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        Codec::named(self.compression()?)
    }
}

/// The `compression` header of a table. Kombu asks `if compression`: an empty one is none.
pub(super) fn compression<'a>(headers: Table<'a>) -> Option<&'a [u8]> {
    headers.field(b"compression")?.str_bytes().filter(|name| !name.is_empty())
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
