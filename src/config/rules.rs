//! `[[rules]]`: conditions, and what is said of each aspect.

use std::sync::Arc;
use std::time::Duration;

use super::policy::{Known, destination, extras, force, place};
use super::reader::{Section, Value};
use super::upstream::TIERS;
use crate::celery::Protocol;
use crate::celery::compression::Codec;
use crate::policy::{
    AdmissionAction, AdmissionRule, Aspect, CompressionRule, DeadLetter, ExpiryAction, ExpiryRule, Force,
    HeaderTest, Match, Mode, Name, Names, Network, Numbers, Packing, Pattern, PriorityRule, Rate, Route,
    Rule, RuleRoute, Target, Traffic, unreachable,
};

/// Bodies under this are never compressed unless a rule says otherwise: they would hardly shrink.
const COMPRESSION_BYTES_MIN: u64 = 1024;
/// What makes a name a glob to Python's `fnmatch`.
const GLOB: &[char] = &['*', '?', '['];

/// `[[rules]]`, with everything that can never be reached noted.
#[must_use]
pub fn rules(root: &Section<'_>, known: &Known<'_>) -> Vec<Rule> {
    let sections = root.sections("rules");
    let rules: Vec<Rule> =
        (1..).zip(&sections).map(|(number, section)| rule(number, section, known)).collect();
    for (later, aspect, earlier) in unreachable(&rules) {
        let name = rules.get(earlier).map(|r| r.name.as_str()).unwrap_or_default();
        let why = format!(
            "never reached: rules[{}] \"{name}\" matches first and speaks of {}",
            earlier + 1,
            aspect.key()
        );
        if let Some(section) = sections.get(later) {
            section.problem_at(aspect.key(), why);
        }
    }
    for (index, rule) in rules.iter().enumerate() {
        let again = rules.iter().take(index).any(|r| r.name == rule.name);
        if let Some(section) = sections.get(index).filter(|_| again) {
            section.problem_at(
                "name",
                format!("two rules are called \"{}\": metrics could not tell them apart", rule.name),
            );
        }
    }
    rules
}

fn rule(number: usize, section: &Section<'_>, known: &Known<'_>) -> Rule {
    let matches = conditions(&section.section("match"));
    let speaks = |aspect: Aspect| section.value(aspect.key());
    let rule = Rule {
        name: section.string("name").unwrap_or_else(|| format!("rules[{number}]")),
        mode: if section.flag("dry_run", false) { Mode::Observe } else { Mode::Enforce },
        admission: speaks(Aspect::Admission).and_then(|v| admission(&v, known)),
        expiry: speaks(Aspect::Expiry).and_then(|v| expiry(&v, known)),
        route: speaks(Aspect::Route).and_then(|v| route(&v, &matches, known)),
        priority: speaks(Aspect::Priority).and_then(|v| priorities(&v)),
        compression: speaks(Aspect::Compression).and_then(|v| compression(&v)),
        tier: speaks(Aspect::Tier).and_then(|v| v.choice(TIERS)),
        matches,
    };
    if rule.matches.traffic != Traffic::Tasks {
        for aspect in Aspect::ALL.into_iter().filter(|a| *a != Aspect::Admission && rule.speaks_of(*a)) {
            section.problem_at(aspect.key(), "only tasks have one: `match.traffic` must be \"tasks\"");
        }
    }
    if !Aspect::ALL.into_iter().any(|aspect| section.has(aspect.key())) {
        let words: Vec<&str> = Aspect::ALL.iter().map(|a| a.key()).collect();
        section.problem(format!("says nothing: expected at least one of {}", words.join(", ")));
    }
    section.close();
    rule
}

/// `match`: absent, it holds for every task.
fn conditions(s: &Section<'_>) -> Match {
    let traffics = [("tasks", Traffic::Tasks), ("other", Traffic::Other), ("any", Traffic::Any)];
    let matches = Match {
        task: names(s, "task"),
        queue: names(s, "queue"),
        exchange: names(s, "exchange"),
        routing_key: names(s, "routing_key"),
        vhost: names(s, "vhost"),
        user: names(s, "user"),
        client: s.value("client").map(|v| v.one_or_many().iter().filter_map(network).collect()),
        headers: s.value("headers").and_then(|v| v.section()).map(|t| headers(&t)).unwrap_or_default(),
        content_type: names(s, "content_type"),
        size_over: s.size("size_over", 0..=1 << 40),
        size_under: s.size("size_under", 1..=1 << 40),
        priority: s.value("priority").and_then(|v| numbers(v, 255)),
        retries: s.value("retries").and_then(|v| numbers(v, 1 << 31)),
        eta: s.value("eta").and_then(|v| v.flag()),
        expires: s.value("expires").and_then(|v| v.flag()),
        protocol: s
            .value("protocol")
            .and_then(|v| v.integer(1..=2))
            .map(|n| if n == 1 { Protocol::V1 } else { Protocol::V2 }),
        compressed: s.value("compressed").and_then(|v| v.flag()),
        traffic: s.choice("traffic", &traffics).unwrap_or_default(),
    };
    if let (Some(over), Some(under)) = (matches.size_over, matches.size_under)
        && under <= over.saturating_add(1)
    {
        s.problem_at("size_under", format!("nothing is over {over} and under {under} bytes"));
    }
    if matches.traffic == Traffic::Other {
        let of_tasks = ["task", "retries", "eta", "expires", "protocol", "compressed"];
        for key in of_tasks.into_iter().filter(|key| s.has(key)) {
            s.problem_at(key, "never holds: what is no task (`traffic = \"other\"`) has none");
        }
    }
    s.close();
    matches
}

fn names(section: &Section<'_>, key: &'static str) -> Option<Names> {
    let value = section.value(key)?;
    Some(value.one_or_many().iter().filter_map(|v| name(v, GLOB)).collect())
}

/// One name: a string, which is a glob if it holds one of `glob`; or `{ regex = "…" }`.
#[must_use]
pub fn name(value: &Value<'_>, glob: &[char]) -> Option<Name> {
    if value.is_table() {
        let table = value.section()?;
        let pattern = table.value("regex").and_then(|v| Some((v.string()?, v)));
        if pattern.is_none() && !table.has("regex") {
            table.problem("expected a name, a glob, or { regex = \"…\" }");
        }
        table.close();
        let (text, at) = pattern?;
        return Pattern::regex(&text)
            .map(Name::Pattern)
            .map_err(|why| at.problem(format!("bad regex: {why}")))
            .ok();
    }
    let text = value.string()?;
    if text.contains(glob) {
        return Pattern::glob(&text)
            .map(Name::Pattern)
            .map_err(|why| value.problem(format!("bad pattern: {why}")))
            .ok();
    }
    Some(Name::Exact(text))
}

fn network(value: &Value<'_>) -> Option<Network> {
    let text = value.string()?;
    let found = Network::parse(&text);
    if found.is_none() {
        value.problem(format!("expected an address or a network such as \"10.0.0.0/8\", found \"{text}\""));
    }
    found
}

fn headers(table: &Section<'_>) -> Vec<(String, HeaderTest)> {
    let test = |value: Value<'_>| {
        if let Some(flag) = value.raw().as_bool() {
            return Some(HeaderTest::Present(flag));
        }
        let one = |v: &Value<'_>| match v.raw().as_integer() {
            Some(n) => Some(Name::Exact(n.as_str().to_owned())),
            None => name(v, GLOB),
        };
        Some(HeaderTest::Is(value.one_or_many().iter().filter_map(one).collect()))
    };
    table.entries().into_iter().filter_map(|(key, value)| Some((key, test(value)?))).collect()
}

/// A number, a list of them, or `{ min = …, max = … }`.
fn numbers(value: Value<'_>, highest: u64) -> Option<Numbers> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    if value.is_table() {
        let table = value.section()?;
        let low = table.integer("min", 0..=highest).unwrap_or(0);
        let high = table.integer("max", 0..=highest).unwrap_or(highest);
        if low > high {
            table.problem_at("max", format!("expected no less than `min`, which is {low}"));
        }
        table.close();
        return Some(Numbers::Within(signed(low), signed(high)));
    }
    Some(Numbers::AnyOf(
        value.one_or_many().iter().filter_map(|v| v.integer(0..=highest)).map(signed).collect(),
    ))
}

/// A queue's name, or a table: a destination, `keep`, or `split` over several by `weight`.
fn route(value: &Value<'_>, matches: &Match, known: &Known<'_>) -> Option<RuleRoute> {
    let route = if value.raw().is_str() {
        let route = Route { queue: Some(value.string()?), ..Route::default() };
        let target = Target::resolve(route, known.queues).map_err(|why| value.problem(why)).ok()?;
        RuleRoute { choices: vec![(1, target)], force: Force::Respect }
    } else {
        route_table(&value.section()?, known)?
    };
    let default = known.queues.settings().default_queue.as_bytes();
    let elsewhere =
        matches.queue.as_ref().is_some_and(|names| !names.matches(default) && names.only_exact().is_some());
    if route.moves() && elsewhere && route.force == Force::Respect {
        value.problem("never moves anything: `match.queue` names places that producers chose themselves; add `override = true`");
    }
    Some(route)
}

fn route_table(table: &Section<'_>, known: &Known<'_>) -> Option<RuleRoute> {
    let force = force(table);
    let keep = table.flag("keep", false);
    let choices = match table.value("split") {
        Some(split) => {
            let items = split.one_or_many();
            items.iter().filter_map(|item| choice(&item.section()?, known)).collect()
        }
        None => vec![(1, target(table, known)?)],
    };
    table.close();
    let route = RuleRoute { choices, force };
    if keep && (route.moves() || table.has("split")) {
        table.problem_at("keep", "expected nothing beside `keep = true`");
    }
    let words = [
        "queue",
        "exchange",
        "routing_key",
        "upstream",
        "split",
        "keep",
        "delivery_mode",
        "mandatory",
        "headers",
    ];
    if !words.iter().any(|key| table.has(key)) {
        table.problem("says nothing: expected `queue`, `exchange` and `routing_key`, `upstream`, `split`, or `keep = true`");
    }
    Some(route)
}

fn target(table: &Section<'_>, known: &Known<'_>) -> Option<Target> {
    let mut route = destination(table, known);
    extras(table, &mut route);
    Target::resolve(route, known.queues).map_err(|why| table.problem(why)).ok()
}

fn choice(table: &Section<'_>, known: &Known<'_>) -> Option<(u32, Target)> {
    let weight = table.integer("weight", 1..=1_000_000).and_then(|n| u32::try_from(n).ok());
    if weight.is_none() && !table.has("weight") {
        table.problem("expected `weight`");
    }
    let target = target(table, known);
    table.close();
    Some((weight?, target?))
}

/// A priority, 0 to 255.
#[must_use]
pub fn priority(value: &Value<'_>) -> Option<u8> {
    value.integer(0..=255).and_then(|n| u8::try_from(n).ok())
}

/// A number, which is `set`; or a table of `set`, `default`, `min`, `max`, `map`.
fn priorities(value: &Value<'_>) -> Option<PriorityRule> {
    if value.raw().is_integer() {
        return Some(PriorityRule { set: Some(priority(value)?), ..PriorityRule::default() });
    }
    let table = value.section()?;
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
fn expiry(value: &Value<'_>, known: &Known<'_>) -> Option<ExpiryRule> {
    let table = value.section()?;
    let words = [("revoke", 0), ("dead-letter", 1), ("return", 2), ("nack", 3), ("pass", 4)];
    let letter = own_place(&table, known);
    let action = match table.choice("action", &words) {
        Some(1) => ExpiryAction::DeadLetter(letter_or_default(&table, letter.clone(), known)?),
        Some(2) => ExpiryAction::Return,
        Some(3) => ExpiryAction::Nack,
        Some(4) => ExpiryAction::Pass,
        _ => ExpiryAction::Revoke,
    };
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

/// `dead_letter = { queue = … }` inside a rule.
fn own_place(table: &Section<'_>, known: &Known<'_>) -> Option<Arc<DeadLetter>> {
    let inner = table.value("dead_letter")?.section()?;
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

fn compression(value: &Value<'_>) -> Option<CompressionRule> {
    let table = value.section()?;
    let packing = match table.value("codec") {
        Some(v) if v.raw().as_str() == Some("none") => Packing::Decompress,
        Some(v) => codec(&v).map_or(Packing::Keep, Packing::Compress),
        None => Packing::Keep,
    };
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

/// The word for an action, or a table with `action`, `reason`, `rate`, `burst`.
fn admission(value: &Value<'_>, known: &Known<'_>) -> Option<AdmissionRule> {
    let table = value.section()?;
    let words = [
        ("allow", 0),
        ("count", 1),
        ("refuse", 2),
        ("nack", 3),
        ("return", 4),
        ("drop", 5),
        ("dead-letter", 6),
    ];
    let letter = own_place(&table, known);
    let chosen = table.choice("action", &words);
    if chosen.is_none() && !table.has("action") {
        table.problem("expected `action`: allow, count, refuse, nack, return, drop or dead-letter");
    }
    let action = match chosen? {
        0 => AdmissionAction::Allow,
        1 => AdmissionAction::Count,
        2 => AdmissionAction::Refuse,
        3 => AdmissionAction::Nack,
        4 => AdmissionAction::Return,
        5 => AdmissionAction::Drop,
        _ => AdmissionAction::DeadLetter(letter_or_default(&table, letter.clone(), known)?),
    };
    if letter.is_some() && !matches!(action, AdmissionAction::DeadLetter(_)) {
        table.problem_at("dead_letter", "has no effect: `action` is not \"dead-letter\"");
    }
    let rate = rate(&table);
    if rate.is_some() && action == AdmissionAction::Allow {
        table.problem_at("rate", "has no effect: what exceeds it would be allowed too");
    }
    let reason = table.string("reason").unwrap_or_else(|| "refused by policy".to_owned());
    if reason.len() > 200 {
        table.problem_at("reason", "expected at most 200 bytes: it travels in a short string");
    }
    table.close();
    Some(AdmissionRule { action, reason, rate })
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
