//! `[policy]`, `[[task_queues]]`, `[[task_routes]]`, `[dead_letter]`: Celery's settings as our TOML, made certain.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use toml::de::DeValue;

use super::aspects::{codec, priority};
use super::conditions::name;
use super::reader::Section;
use super::value::Value;
use crate::policy::{
    DeadLetter, Force, Mode, Name, Plain, Queue, QueueSettings, Queues, Route, Target, TaskRoute,
};

/// What reading a rule or a route needs to know of the rest of the file.
pub struct Known<'a> {
    /// Upstream names in the order of their indices.
    pub upstreams: &'a [String],
    /// The queues.
    pub queues: &'a Queues,
    /// The `[dead_letter]` place, if there is one.
    pub dead_letter: Option<Arc<DeadLetter>>,
}

/// `[policy]`: the mode of everything, and the queue settings.
#[must_use]
pub fn settings(section: &Section<'_>) -> (Mode, QueueSettings) {
    let d = QueueSettings::default();
    let types = [("classic", "classic"), ("quorum", "quorum")];
    let queue_type = |key| section.choice(key, &types).map(str::to_owned);
    let named = |key| section.string(key).filter(|text: &String| !text.is_empty());
    let settings = QueueSettings {
        default_queue: name_at(section, "default_queue").unwrap_or(d.default_queue),
        default_queue_type: queue_type("default_queue_type"),
        default_exchange: named("default_exchange"),
        default_exchange_type: exchange_type(section, "default_exchange_type")
            .unwrap_or(d.default_exchange_type),
        default_routing_key: named("default_routing_key"),
        create_missing_queues: section.flag("create_missing_queues", d.create_missing_queues),
        create_missing_queue_type: queue_type("create_missing_queue_type"),
        create_missing_queue_exchange_type: exchange_type(section, "create_missing_queue_exchange_type"),
        queue_max_priority: section.value("queue_max_priority").and_then(|v| priority(&v)),
    };
    let mode = if section.flag("dry_run", false) { Mode::Observe } else { Mode::Enforce };
    section.close();
    (mode, settings)
}

/// `[[task_queues]]`.
#[must_use]
pub fn queues(root: &Section<'_>, settings: QueueSettings) -> Queues {
    let mut found: Vec<Queue> = Vec::new();
    for section in root.sections("task_queues") {
        let Some(queue) = queue(&section) else { continue };
        if found.iter().any(|q| q.name == queue.name) {
            section.problem_at("name", format!("queue \"{}\" is defined twice", queue.name));
        }
        found.push(queue);
    }
    Queues::new(settings, found)
}

fn queue(section: &Section<'_>) -> Option<Queue> {
    let name = section.string("name");
    if name.is_none() && !section.has("name") {
        section.problem("expected `name`");
    }
    let mut queue = Queue::named(&name.clone().unwrap_or_default());
    queue.broadcast = section.flag("broadcast", false);
    if queue.broadcast {
        (queue.exchange, queue.exchange_type) = (queue.name.clone(), "fanout".to_owned());
    }
    if let Some(exchange) = section.string("exchange") {
        queue.exchange = exchange;
    }
    if let Some(kind) = exchange_type(section, "exchange_type") {
        queue.exchange_type = kind;
        if queue.exchange.is_empty() {
            section.problem_at("exchange_type", "has no effect without `exchange`");
        }
    }
    queue.routing_key = section.string("routing_key").unwrap_or_default();
    queue.durable = section.flag("durable", true);
    queue.auto_delete = section.flag("auto_delete", false);
    queue.no_declare = section.flag("no_declare", false);
    arguments(section, &mut queue);
    section.close();
    name.map(|_| queue)
}

/// Kombu's words for queue arguments, then `arguments` itself (kombu/transport/base.py `to_rabbitmq_queue_arguments`).
fn arguments(section: &Section<'_>, queue: &mut Queue) {
    let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    let mut add = |name: &str, value: Option<Plain>| {
        if let Some(value) = value {
            queue.arguments.push((name.to_owned(), value));
        }
    };
    let count = |key| section.integer(key, 0..=1 << 62).and_then(|n| i64::try_from(n).ok()).map(Plain::Int);
    add("x-queue-type", queue_type(section).map(Plain::Str));
    add("x-expires", section.duration("expires").map(|d| Plain::Int(millis(d))));
    add("x-message-ttl", section.duration("message_ttl").map(|d| Plain::Int(millis(d))));
    add("x-max-length", count("max_length"));
    add(
        "x-max-length-bytes",
        section.size("max_length_bytes", 0..=1 << 62).and_then(|n| i64::try_from(n).ok()).map(Plain::Int),
    );
    add(
        "x-max-priority",
        section.value("max_priority").and_then(|v| priority(&v)).map(|p| Plain::Int(p.into())),
    );
    if let Some(table) = section.value("arguments").and_then(|v| v.section()) {
        for (key, value) in table.entries() {
            add(&key, plain(&value));
        }
    }
}

/// A type that every RabbitMQ has: a broker refuses to declare a queue of one that it does not know.
fn queue_type(section: &Section<'_>) -> Option<String> {
    let text = section.string("type")?;
    if !matches!(text.as_str(), "classic" | "quorum" | "stream") {
        section.problem_at(
            "type",
            format!("expected classic, quorum or stream (a plugin's goes into `arguments`, as x-queue-type), found \"{text}\""),
        );
    }
    Some(text)
}

/// A string, number or boolean.
#[must_use]
pub fn plain(value: &Value<'_>) -> Option<Plain> {
    match value.raw() {
        DeValue::String(text) => Some(Plain::Str(text.to_string())),
        DeValue::Boolean(flag) => Some(Plain::Bool(*flag)),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(Plain::Int),
        DeValue::Float(_) => value.number().map(Plain::Float),
        _ => {
            value.problem("expected a string, a number, true or false");
            None
        }
    }
}

/// `[dead_letter]`, if it is there.
#[must_use]
pub fn dead_letter(section: &Section<'_>, known: &Known<'_>) -> Option<Arc<DeadLetter>> {
    if !section.is_present() {
        // Asked for all the same, so that the keys are known.
        let _ = destination(section, known);
        return None;
    }
    let route = destination(section, known);
    section.close();
    place(section, route, known)
}

/// A dead-letter place from a table with the keys of a destination.
#[must_use]
pub fn place(section: &Section<'_>, route: Route, known: &Known<'_>) -> Option<Arc<DeadLetter>> {
    if route.queue.is_none() && route.exchange.is_none() {
        section.problem("expected `queue`, or `exchange` and `routing_key`");
        return None;
    }
    // A route to what is missing leaves a task where it was going (P9); what is put aside has no such place.
    if let Some(name) = &route.queue
        && !known.queues.settings().create_missing_queues
        && !known.queues.knows(name)
    {
        section.problem_at(
            "queue",
            format!("queue \"{name}\" is missing from [[task_queues]], and create_missing_queues is false"),
        );
        return None;
    }
    let upstream = route.upstream;
    match Target::resolve(route, known.queues) {
        Ok(target) => target.destination.map(|destination| Arc::new(DeadLetter { upstream, destination })),
        Err(why) => {
            section.problem(why);
            None
        }
    }
}

/// A name, which is not empty.
fn name_at(section: &Section<'_>, key: &'static str) -> Option<String> {
    let text = section.string(key)?;
    if text.is_empty() {
        section.problem_at(key, "expected a name, found \"\"");
        return None;
    }
    Some(text)
}

/// An exchange's type: the protocol's own, or a plugin's, which all begin alike. A broker ends the connection that declares another.
fn exchange_type(section: &Section<'_>, key: &'static str) -> Option<String> {
    let text = section.string(key)?;
    if !matches!(text.as_str(), "direct" | "topic" | "fanout" | "headers") && !text.starts_with("x-") {
        let why = format!(
            "expected direct, topic, fanout, headers, or a plugin's type such as x-delayed-message, found \"{text}\""
        );
        section.problem_at(key, why);
        return None;
    }
    Some(text)
}

/// The keys that say where to: `queue`, `exchange`, `exchange_type`, `routing_key`, `upstream`.
#[must_use]
pub fn destination(section: &Section<'_>, known: &Known<'_>) -> Route {
    let upstream = section.value("upstream").and_then(|value| {
        let name = value.string()?;
        let found = known.upstreams.iter().position(|u| *u == name);
        if found.is_none() {
            value.problem(format!("no such upstream: there is {}", known.upstreams.join(", ")));
        }
        found
    });
    Route {
        queue: name_at(section, "queue"),
        exchange: name_at(section, "exchange"),
        exchange_type: exchange_type(section, "exchange_type"),
        routing_key: name_at(section, "routing_key"),
        upstream,
        ..Route::default()
    }
}

/// The keys of a route that say more than where to.
pub fn extras(section: &Section<'_>, route: &mut Route) {
    let modes = [("transient", 1), ("persistent", 2)];
    route.delivery_mode = section.value("delivery_mode").and_then(|v| {
        if v.raw().is_integer() {
            v.integer(1..=2).and_then(|n| u8::try_from(n).ok())
        } else {
            v.choice(&modes)
        }
    });
    route.mandatory = section.flag("mandatory", false);
    if let Some(table) = section.value("headers").and_then(|v| v.section()) {
        route.headers = table.entries().iter().filter_map(|(k, v)| Some((k.clone(), plain(v)?))).collect();
    }
}

/// `override`.
#[must_use]
pub fn force(section: &Section<'_>) -> Force {
    if section.flag("override", false) { Force::Override } else { Force::Respect }
}

/// `[[task_routes]]`.
#[must_use]
pub fn task_routes(root: &Section<'_>, known: &Known<'_>) -> Vec<TaskRoute> {
    // A name or pattern twice in one router is a mistake that a Python dict cannot even hold. What a pattern or an earlier router
    // hides, though, is nobody's mistake: Celery's own semantics are that the first one wins (`umbel check` says so all the same).
    let mut seen: FxHashMap<(u64, Option<String>, String), usize> = FxHashMap::default();
    let mut routes: Vec<TaskRoute> = Vec::new();
    for (number, section) in (1_usize..).zip(root.sections("task_routes")) {
        for route in task_route(&section, known) {
            let compiled = match &route.task {
                Name::Exact(_) => None,
                Name::Pattern(pattern) => Some(pattern.compiled().to_owned()),
            };
            let key = (route.router, compiled, route.task.text().to_owned());
            let earlier = *seen.entry(key).or_insert(number);
            if earlier != number {
                let why = format!("never reached: task_routes[{earlier}] is for the same tasks");
                section.problem_at("task", why);
            }
            routes.push(route);
        }
    }
    routes
}

/// One entry of the table, or several where `task` is a list.
fn task_route(section: &Section<'_>, known: &Known<'_>) -> Vec<TaskRoute> {
    let tasks: Vec<Name> = match section.value("task") {
        // Celery: only what holds a `*` is a pattern; `proj.ad?` is the name of a task.
        Some(value) => value.one_or_many().iter().filter_map(|v| name(v, &['*'])).collect(),
        None => {
            section.problem("expected `task`, a name, a glob with `*`, or { regex = \"…\" }");
            Vec::new()
        }
    };
    let mut route = destination(section, known);
    extras(section, &mut route);
    route.priority = section.value("priority").and_then(|v| priority(&v));
    route.expiration_ms = section.value("expiration").and_then(|v| expiration(&v));
    route.compression = section.value("compression").and_then(|v| codec(&v));
    let router = section.integer("router", 0..=u64::MAX).unwrap_or(0);
    let force = force(section);
    for key in ["expires", "countdown", "eta", "time_limit", "soft_time_limit"] {
        section.forbid(key, "Celery raises TypeError for this in a route; a rule's `expiry` can impose one");
    }
    section.close();
    let target = match Target::resolve(route, known.queues) {
        Ok(target) => target,
        Err(why) => {
            section.problem(why);
            return Vec::new();
        }
    };
    tasks.into_iter().map(|task| TaskRoute { task, router, target: target.clone(), force }).collect()
}

/// Seconds as Celery has it, or a duration.
fn expiration(value: &Value<'_>) -> Option<u64> {
    if value.raw().is_str() {
        return value.duration().and_then(|d| u64::try_from(d.as_millis()).ok());
    }
    let seconds = value.number()?;
    let span = std::time::Duration::try_from_secs_f64(seconds).ok();
    if span.is_none() {
        value.problem("expected seconds, zero or more");
    }
    u64::try_from(span?.as_millis()).ok()
}
