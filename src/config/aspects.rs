//! What a rule says of priority, expiry, compression and admission.

use std::sync::Arc;
use std::time::Duration;

use super::policy::{Known, destination, place};
use super::reader::Section;
use super::value::Value;
use crate::celery::compression::Codec;
use crate::policy::{
    AdmissionAction, AdmissionRule, CompressionRule, DeadLetter, ExpiryAction, ExpiryRule, Packing,
    PriorityRule, Rate,
};

/// Bodies under this are never compressed unless a rule says otherwise: they would hardly shrink.
const COMPRESSION_BYTES_MIN: u64 = 1024;

/// A priority, 0 to 255.
#[must_use]
pub fn priority(value: &Value<'_>) -> Option<u8> {
    value.integer(0..=255).and_then(|n| u8::try_from(n).ok())
}

/// A number, which is `set`; or a table of `set`, `default`, `min`, `max`, `map`.
#[must_use]
pub fn priorities(value: &Value<'_>) -> Option<PriorityRule> {
    if value.raw().is_integer() {
        return Some(PriorityRule { set: Some(priority(value)?), ..PriorityRule::default() });
    }
    let table = value.table_such_as("{ max = 3 }")?;
    let one = |key| table.value(key).and_then(|v| priority(&v));
    let map = table.value("map").and_then(|v| v.section()).map(|t| mapped(&t)).unwrap_or_default();
    let rule =
        PriorityRule { set: one("set"), default: one("default"), min: one("min"), max: one("max"), map };
    table.close();
    for key in ["default", "min", "max", "map"] {
        if rule.set.is_some() && table.has(key) {
            table.problem_at(key, "has no effect beside `set`");
        }
    }
    if let (Some(min), Some(max)) = (rule.min, rule.max)
        && max < min
    {
        table.problem_at("max", format!("expected no less than `min`, which is {min}"));
    }
    if let Some(default) = rule.default
        && (rule.max.is_some_and(|max| default > max) || rule.min.is_some_and(|min| default < min))
    {
        table.problem_at("default", "lies outside `min` and `max`");
    }
    if rule == PriorityRule::default()
        && !["set", "default", "min", "max", "map"].iter().any(|k| table.has(k))
    {
        table.problem("says nothing: expected set, default, min, max or map");
    }
    Some(rule)
}

fn mapped(table: &Section<'_>) -> Vec<(u8, u8)> {
    let pair = |(key, value): (String, Value<'_>)| {
        let from = key.parse::<u8>().ok();
        if from.is_none() {
            value.problem(format!("expected a priority of 0 to 255 as the key, found \"{key}\""));
        }
        Some((from?, priority(&value)?))
    };
    table.entries().into_iter().filter_map(pair).collect()
}

/// The word for an action, or a table with `action`.
#[must_use]
pub fn expiry(value: &Value<'_>, known: &Known<'_>) -> Option<ExpiryRule> {
    if value.raw().is_str() {
        let action = expiry_action(value.choice(&EXPIRY)?, || only_default(value, known))?;
        return Some(ExpiryRule { default: None, max: None, stamp_ttl: false, on_delivery: false, action });
    }
    let table = value.table_such_as("{ action = \"revoke\" }")?;
    let letter = own_place(&table, known);
    let chosen = table.choice("action", &EXPIRY).unwrap_or(0);
    let action = expiry_action(chosen, || letter_or_default(&table, letter.clone(), known))?;
    let micros = |key| {
        let found: Option<Duration> = table.duration(key);
        if found.is_some_and(|d| d.is_zero()) {
            table.problem_at(key, "expected more than nothing");
        }
        found.and_then(|d| i64::try_from(d.as_micros()).ok())
    };
    let rule = ExpiryRule {
        default: micros("default"),
        max: micros("max"),
        stamp_ttl: table.flag("stamp_ttl", false),
        on_delivery: table.flag("on_delivery", false),
        action,
    };
    table.close();
    if let (Some(default), Some(max)) = (rule.default, rule.max)
        && default > max
    {
        table.problem_at("default", "expected no more than `max`");
    }
    if letter.is_some() && !matches!(rule.action, ExpiryAction::DeadLetter(_)) {
        table.problem_at("dead_letter", "has no effect: `action` is not \"dead-letter\"");
    }
    Some(rule)
}

const EXPIRY: [(&str, u8); 5] = [("revoke", 0), ("dead-letter", 1), ("return", 2), ("nack", 3), ("pass", 4)];

fn expiry_action(chosen: u8, letter: impl FnOnce() -> Option<Arc<DeadLetter>>) -> Option<ExpiryAction> {
    Some(match chosen {
        1 => ExpiryAction::DeadLetter(letter()?),
        2 => ExpiryAction::Return,
        3 => ExpiryAction::Nack,
        4 => ExpiryAction::Pass,
        _ => ExpiryAction::Revoke,
    })
}

/// `dead_letter = { queue = … }` inside a rule.
fn own_place(table: &Section<'_>, known: &Known<'_>) -> Option<Arc<DeadLetter>> {
    let inner = table.value("dead_letter")?.table_such_as("{ queue = \"dead\" }")?;
    let route = destination(&inner, known);
    inner.close();
    place(&inner, route, known)
}

fn letter_or_default(
    table: &Section<'_>,
    own: Option<Arc<DeadLetter>>,
    known: &Known<'_>,
) -> Option<Arc<DeadLetter>> {
    let found = own.or_else(|| known.dead_letter.clone());
    if found.is_none() && !table.has("dead_letter") {
        table.problem_at(
            "action",
            "\"dead-letter\" needs a [dead_letter] place, or `dead_letter = { queue = … }` here",
        );
    }
    found
}

/// The `[dead_letter]` place, for a rule that is a word and has no room for another.
fn only_default(value: &Value<'_>, known: &Known<'_>) -> Option<Arc<DeadLetter>> {
    if known.dead_letter.is_none() {
        value.problem("\"dead-letter\" needs a [dead_letter] place");
    }
    known.dead_letter.clone()
}

/// A codec by one of Kombu's names.
#[must_use]
pub fn codec(value: &Value<'_>) -> Option<Codec> {
    let text = value.string()?;
    let found = Codec::named(text.as_bytes());
    if found.is_none() {
        let names: Vec<&str> = Codec::ALL.iter().map(|c| c.name()).collect();
        value.problem(format!(
            "expected one of {} (or an alias of Kombu's), found \"{text}\"",
            names.join(", ")
        ));
    }
    found
}

/// The codec's name, or a table with `codec`, `min_size`, `repair`.
#[must_use]
pub fn compression(value: &Value<'_>) -> Option<CompressionRule> {
    if value.raw().is_str() {
        let packing = packing(value);
        return Some(CompressionRule { packing, min_bytes: COMPRESSION_BYTES_MIN, repair: true });
    }
    let table = value.table_such_as("{ codec = \"zlib\" }")?;
    let packing = table.value("codec").map_or(Packing::Keep, |v| packing(&v));
    let rule = CompressionRule {
        packing,
        min_bytes: table.size("min_size", 128..=1 << 40).unwrap_or(COMPRESSION_BYTES_MIN),
        repair: table.flag("repair", true),
    };
    table.close();
    if packing == Packing::Keep && !table.has("codec") && !table.has("repair") {
        table.problem("says nothing: expected `codec`, or `repair`");
    }
    Some(rule)
}

/// A codec, or `none`.
fn packing(value: &Value<'_>) -> Packing {
    match value.raw().as_str() {
        Some("none") => Packing::Decompress,
        _ => codec(value).map_or(Packing::Keep, Packing::Compress),
    }
}

/// Why a task is kept out where no rule says it in words of its own.
const REASON: &str = "refused by policy";

/// The word for an action, or a table with `action`, `reason`, `rate`, `burst`.
#[must_use]
pub fn admission(value: &Value<'_>, known: &Known<'_>) -> Option<AdmissionRule> {
    if value.raw().is_str() {
        let action = admission_action(value.choice(&ADMISSION)?, || only_default(value, known))?;
        return Some(AdmissionRule { action, reason: REASON.to_owned(), rate: None });
    }
    let table = value.table_such_as("{ action = \"refuse\" }")?;
    let letter = own_place(&table, known);
    let chosen = table.choice("action", &ADMISSION);
    if chosen.is_none() && !table.has("action") {
        table.problem("expected `action`: allow, count, refuse, nack, return, drop or dead-letter");
    }
    let action = admission_action(chosen?, || letter_or_default(&table, letter.clone(), known))?;
    if letter.is_some() && !matches!(action, AdmissionAction::DeadLetter(_)) {
        table.problem_at("dead_letter", "has no effect: `action` is not \"dead-letter\"");
    }
    let rate = rate(&table);
    if rate.is_some() && action == AdmissionAction::Allow {
        table.problem_at("rate", "has no effect: what exceeds it would be allowed too");
    }
    let reason = table.string("reason").unwrap_or_else(|| REASON.to_owned());
    if reason.len() > 200 {
        table.problem_at("reason", "expected at most 200 bytes: it travels in a short string");
    }
    table.close();
    Some(AdmissionRule { action, reason, rate })
}

const ADMISSION: [(&str, u8); 7] =
    [("allow", 0), ("count", 1), ("refuse", 2), ("nack", 3), ("return", 4), ("drop", 5), ("dead-letter", 6)];

fn admission_action(chosen: u8, letter: impl FnOnce() -> Option<Arc<DeadLetter>>) -> Option<AdmissionAction> {
    Some(match chosen {
        0 => AdmissionAction::Allow,
        1 => AdmissionAction::Count,
        2 => AdmissionAction::Refuse,
        3 => AdmissionAction::Nack,
        4 => AdmissionAction::Return,
        5 => AdmissionAction::Drop,
        _ => AdmissionAction::DeadLetter(letter()?),
    })
}

/// `rate` a second and `burst` at once.
fn rate(table: &Section<'_>) -> Option<Rate> {
    let (per_second, burst) = (table.value("rate"), table.value("burst"));
    let positive = |value: &Value<'_>| {
        let number = value.number()?;
        if number <= 0.0 {
            value.problem("expected more than nothing");
            return None;
        }
        Some(number)
    };
    let Some(per_second) = per_second else {
        if let Some(burst) = burst {
            burst.problem("has no effect without `rate`");
        }
        return None;
    };
    let per_second = positive(&per_second)?;
    let burst = burst.as_ref().and_then(positive).unwrap_or(per_second).max(1.0);
    Some(Rate { per_second, burst })
}
