//! `match`: which tasks a rule is about.

use super::reader::Section;
use super::value::Value;
use crate::celery::Protocol;
use crate::policy::{HeaderTest, Match, Name, Names, Network, Numbers, Pattern, Traffic};

/// What makes a name a glob to Python's `fnmatch`.
const GLOB: &[char] = &['*', '?', '['];

/// `match`: absent, it holds for every task.
#[must_use]
pub fn conditions(s: &Section<'_>) -> Match {
    let traffics = [("tasks", Traffic::Tasks), ("other", Traffic::Other), ("any", Traffic::Any)];
    let matches = Match {
        task: names(s, "task"),
        queue: names(s, "queue"),
        exchange: names(s, "exchange"),
        routing_key: names(s, "routing_key"),
        vhost: names(s, "vhost"),
        user: names(s, "user"),
        client: s.value("client").map(|v| v.one_or_many().iter().filter_map(network).collect()),
        headers: s
            .value("headers")
            .and_then(|v| v.table_such_as("{ tenant = \"acme\" }"))
            .map(|t| headers(&t))
            .unwrap_or_default(),
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
