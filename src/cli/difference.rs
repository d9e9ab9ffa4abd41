//! What differs between a publish as it came and as it would leave, field by field, in the bytes that stand on the wire.

use serde::Serialize;

use crate::wire::ContentHeader;
use crate::wire::props::Property;
use crate::wire::table::Table;

/// One field that differs. Its bytes are exactly those on the wire, lengths and type tags included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `method`, `header` or `body`.
    pub part: &'static str,
    /// Which field of it.
    pub field: String,
    /// The bytes as they came, in hex; none: the field was not there.
    pub before: Option<String>,
    /// The bytes as they would leave, in hex; none: the field is gone.
    pub after: Option<String>,
    #[serde(skip)]
    shown: [Option<String>; 2],
}

/// Bytes shown of a long field in text; JSON has all of them.
const SHOWN_BYTES_MAX: usize = 48;

impl Difference {
    fn between(part: &'static str, field: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> Option<Self> {
        (before != after).then(|| Self {
            part,
            field: field.to_owned(),
            before: before.map(|b| hex(b, "")),
            after: after.map(|b| hex(b, "")),
            shown: [before.map(shown), after.map(shown)],
        })
    }

    /// Two lines: `-` what came, `+` what would leave.
    #[must_use]
    pub fn text(&self) -> String {
        let [before, after] = &self.shown;
        let line = |sign: &str, bytes: &Option<String>| {
            bytes.as_ref().map(|bytes| format!("      {sign} {bytes}\n")).unwrap_or_default()
        };
        format!("    {} {}\n{}{}", self.part, self.field, line("-", before), line("+", after))
    }
}

/// Where a publish goes, for [`method`].
pub type Place<'a> = (&'a [u8], &'a [u8]);

/// The differences of basic.publish.
#[must_use]
pub fn method(before: Place<'_>, after: Place<'_>) -> Vec<Difference> {
    let short = |text: &[u8]| {
        let mut bytes = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
        bytes.extend_from_slice(text);
        bytes
    };
    let field = |name, old: &[u8], new: &[u8]| {
        Difference::between("method", name, Some(&short(old)), Some(&short(new)))
    };
    [field("exchange", before.0, after.0), field("routing_key", before.1, after.1)]
        .into_iter()
        .flatten()
        .collect()
}

/// The differences of the content header.
#[must_use]
pub fn header(before: &ContentHeader<'_>, after: &ContentHeader<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut add = |name: &str, old: Option<&[u8]>, new: Option<&[u8]>| {
        found.extend(Difference::between("header", name, old, new));
    };
    add("body size", Some(&before.body_size.to_be_bytes()), Some(&after.body_size.to_be_bytes()));
    add("property flags", Some(&before.flags.to_be_bytes()), Some(&after.flags.to_be_bytes()));
    for property in Property::ALL {
        if property != Property::Headers {
            add(&name_of(property), before.raw(property), after.raw(property));
        }
    }
    let length = |header: &ContentHeader<'_>| {
        header.raw(Property::Headers).and_then(|raw| raw.get(..4)).map(<[u8]>::to_vec)
    };
    let (old, new) = (length(before), length(after));
    add("headers' length", old.as_deref(), new.as_deref());
    let (old, new) = (entries(before.headers()), entries(after.headers()));
    for (name, bytes) in &old {
        let kept = new.iter().find(|(n, _)| n == name).map(|(_, b)| *b);
        add(&format!("headers.{}", String::from_utf8_lossy(name)), Some(bytes), kept);
    }
    for (name, bytes) in new.iter().filter(|(name, _)| !old.iter().any(|(n, _)| n == name)) {
        add(&format!("headers.{}", String::from_utf8_lossy(name)), None, Some(bytes));
    }
    found
}

/// The difference of the body.
#[must_use]
pub fn body(before: &[u8], after: &[u8]) -> Option<Difference> {
    Difference::between(
        "body",
        &format!("{} bytes → {} bytes", before.len(), after.len()),
        Some(before),
        Some(after),
    )
}

fn entries(table: Option<Table<'_>>) -> Vec<(&[u8], &[u8])> {
    let Some(table) = table else { return Vec::new() };
    let bytes = table.bytes();
    table.entries().filter_map(|e| e.ok().and_then(|e| Some((e.name, bytes.get(e.range)?)))).collect()
}

fn name_of(property: Property) -> String {
    let debug = format!("{property:?}");
    let mut out = String::new();
    for c in debug.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn hex(bytes: &[u8], between: &str) -> String {
    let digits: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    digits.join(between)
}

/// Hex, and what of it is text.
fn shown(bytes: &[u8]) -> String {
    let head = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    let text: String =
        head.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }).collect();
    let more = match bytes.len() - head.len() {
        0 => String::new(),
        n => format!(" … {n} more"),
    };
    format!("{}  |{text}|{more}", hex(head, " "))
}
