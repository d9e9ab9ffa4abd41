//! The task view: what a task says of itself, in its headers or in its body. Nothing is looked at before it is asked for.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::body::{self, BodyLimits, Serializer};
use super::compression::Codec;
use super::encoding::Encoding;
use super::field::{Fields, Stated, Text, TimeLimit};
use crate::wire::{ContentHeader, Field, Table, Value};

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

/// A task, as it describes itself. A worker lays the headers over the body, whichever protocol (celery/worker/strategy.py,
/// `hybrid_to_proto2`): what headers leave out, a body may say that is a dict with `args`.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// UTF-8, as whoever made this has seen.
    name: Cow<'a, [u8]>,
    headers: Table<'a>,
    body: Body<'a>,
}

/// What is known of the body.
#[derive(Debug, Clone)]
enum Body<'a> {
    /// Protocol 1: it was read, to see that it is a task.
    Read(Box<Fields<'a>>),
    /// Protocol 2: a list of arguments, as a rule. It is read when a header is asked for that is not there.
    Closed { publish: Closed<'a>, read: OnceCell<Option<Box<Fields<'static>>>> },
}

/// A body that nobody has looked into yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed<'a> {
    pub(super) header: &'a ContentHeader<'a>,
    pub(super) pieces: &'a [&'a [u8]],
    pub(super) limits: &'a BodyLimits,
}

impl PartialEq for Task<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.protocol(), &self.name, &self.headers) == (other.protocol(), &other.name, &other.headers)
            && self.fields() == other.fields()
    }
}

impl<'a> Task<'a> {
    /// A task of protocol 2: `name`, which is UTF-8, stands under `task` in `headers`, whose table has been checked.
    pub(super) const fn of_headers(name: &'a [u8], headers: Table<'a>, publish: Closed<'a>) -> Self {
        Self { name: Cow::Borrowed(name), headers, body: Body::Closed { publish, read: OnceCell::new() } }
    }

    /// A task of protocol 1. `name` is UTF-8.
    pub(super) fn of_body(name: Cow<'a, [u8]>, fields: Fields<'a>, headers: Table<'a>) -> Self {
        Self { name, headers, body: Body::Read(Box::new(fields)) }
    }

    /// Which protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self.body {
            Body::Closed { .. } => Protocol::V2,
            Body::Read(_) => Protocol::V1,
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

    /// A header that counts, null or not.
    fn header(&self, name: &[u8]) -> Option<Field<'a>> {
        match &self.body {
            Body::Read(fields) if !fields.has_args => None,
            _ => self.headers.field(name),
        }
    }

    /// The keys of the body, where it is a dict that a worker looks into.
    fn fields(&self) -> Option<&Fields<'_>> {
        match &self.body {
            Body::Read(fields) => Some(fields),
            Body::Closed { publish, read } => read.get_or_init(|| publish.open(self.headers)).as_deref(),
        }
    }

    fn text<'s>(
        &'s self,
        header: &[u8],
        field: fn(&'s Fields<'s>) -> Option<&'s Text<'s>>,
    ) -> Option<Text<'s>> {
        match self.header(header) {
            Some(said) => said.str_bytes().map(Text::borrowed),
            None => field(self.fields()?).map(|text| Text::borrowed(text.bytes())),
        }
    }

    fn value<'s, T>(
        &'s self,
        header: &[u8],
        read: fn(Value<'_>) -> Option<T>,
        field: fn(&'s Fields<'s>) -> Option<T>,
    ) -> Option<T> {
        match self.header(header) {
            Some(said) => read(said.value()?),
            None => field(self.fields()?),
        }
    }

    fn moment<'s>(&'s self, header: &[u8], field: fn(&'s Fields<'s>) -> &'s Stated<'s>) -> Stated<'s> {
        if let Some(said) = self.header(header) {
            return stated(&said);
        }
        match self.fields().map(field) {
            Some(Stated::Text(text)) => Stated::Text(Text::borrowed(text.bytes())),
            Some(Stated::Seconds(seconds)) => Stated::Seconds(*seconds),
            Some(Stated::Moment(at)) => Stated::Moment(*at),
            Some(Stated::Other) => Stated::Other,
            Some(Stated::Absent) | None => Stated::Absent,
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

    /// The body's `utc`. Where it is false, a naive moment means something else to every worker.
    #[must_use]
    pub fn utc(&self) -> Option<bool> {
        self.fields()?.utc
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
        compression(self.headers)
    }

    /// When it expires, in microseconds since the epoch; `None` also where that must not be judged: a string that we cannot parse,
    /// or a naive one of a producer that says `utc: false`.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        self.certain(&self.expires())
    }

    /// When it may run at the earliest, as [`Task::expires_at`].
    #[must_use]
    pub fn eta_at(&self) -> Option<i64> {
        self.certain(&self.eta())
    }

    /// A moment that this task states, in microseconds since the epoch, as [`Task::expires_at`].
    pub(crate) fn certain(&self, stated: &Stated<'_>) -> Option<i64> {
        let instant = stated.instant()?;
        (!instant.naive || self.utc() != Some(false)).then_some(instant.unix_micros)
    }

    /// The codec named in the `compression` header: `None` where there is no such header, or Kombu has no such codec.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        Codec::named(self.compression()?)
    }
}

impl Closed<'_> {
    /// The keys of a body of protocol 1 under headers of protocol 2.
    fn open(&self, headers: Table<'_>) -> Option<Box<Fields<'static>>> {
        let sealed = body::Sealed {
            serializer: Serializer::of(self.header.content_type()?)?,
            compression: compression(headers),
            encoding: Encoding::of(self.header.content_encoding()),
            pieces: self.pieces,
        };
        if !body::may_be_dict(&sealed) {
            return None;
        }
        let fields = body::read(&sealed, self.limits).ok()??;
        fields.has_args.then(|| Box::new(fields.into_owned()))
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
        b'T' => match field.bytes.first_chunk() {
            Some(seconds) => Stated::Seconds(u64::from_be_bytes(*seconds)),
            None => Stated::Other,
        },
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
