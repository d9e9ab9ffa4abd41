//! Every route case that the real Celery 5.7 ran (tests/data/golden_routes.json), judged on the wire.
//!
//! The case's configuration becomes our TOML, mechanically; the task is what a producer *without* that configuration would have
//! sent; and what leaves us must be what the configured producer put on the wire. What cannot be decided there is listed below,
//! each with its reason, and nothing else may be missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};
use umbel::celery::{BodyLimits, Publish, Reading, read};
use umbel::config::{Config, Nothing};
use umbel::policy::{Context, Declare, Memo, Message, Verdict};
use umbel::wire::ContentHeader;
use umbel::wire::props::NewHeader;
use umbel::wire::table::{Table, TableWriter};

/// What a router on the wire cannot decide, and why.
const UNDECIDABLE: &[(&str, &str)] = &[
    ("function-router-dict", "the router is a Python function"),
    ("function-router-bare", "the router is a Python function"),
    (
        "function-router-none-falls-through",
        "the first router is a Python function: that it answers None is not to be known",
    ),
    ("function-router-empty-dict-stops-and-uses-default", "the first router is a Python function"),
    ("function-router-sees-args", "the router is a Python function, and of the arguments at that"),
    ("router-string-path", "the router is a Python function, named by its path"),
    ("router-string-path-bare", "the router is a Python function, named by its path"),
    (
        "topic-queue-call-rk",
        "the producer's routing_key never leaves it: to a direct queue Celery sends the queue's name instead",
    ),
    ("call-priority-0-beats-route", "Celery writes priority 0 for \"none asked\" too"),
    (
        "create-missing-false-default-queue-not-in-task-queues",
        "Celery refuses in the producer; here the task is already on its way, and passes",
    ),
    (
        "create-missing-false-unknown-queue",
        "Celery refuses in the producer; here the task is on its way: the queue is looked for, and missing it stays where it was going",
    ),
    (
        "quorum-countdown-topic",
        "the countdown is not on the wire (the eta is), nor whether the delay exchanges exist",
    ),
];

/// What Celery refuses to send, our `check` refuses to load: the case, and what `check` says.
const REFUSED: &[(&str, &str)] = &[
    ("route-expires", "Celery raises TypeError"),
    ("route-countdown", "Celery raises TypeError"),
    // Celery sends this one to nowhere and loses it: a rule's own mistake never costs a task (SPEC P9).
    ("route-exchange-only-no-rk", "publishes to nowhere"),
    // Celery raises ValueError: a pair is no router.
    ("top-level-tuple-of-pairs-is-NOT-a-map", "expected a table"),
];

fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("data/golden_routes.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// One line of TOML. What JSON writes for strings, numbers and booleans is TOML too.
fn line(out: &mut String, key: &str, value: &Value) {
    match value {
        Value::Object(table) => {
            let inner: Vec<String> = table.iter().map(|(k, v)| format!("{k:?} = {v}")).collect();
            writeln!(out, "{key} = {{ {} }}", inner.join(", ")).unwrap();
        }
        other => writeln!(out, "{key} = {other}").unwrap(),
    }
}

/// The case's configuration as ours.
fn toml(case: &Value) -> String {
    let config = case["config_json"].as_object().unwrap();
    let mut out = String::from("[policy]\n");
    for (celery, ours) in [
        ("task_default_exchange", "default_exchange"),
        ("task_default_exchange_type", "default_exchange_type"),
        ("task_default_routing_key", "default_routing_key"),
        ("task_create_missing_queues", "create_missing_queues"),
        ("task_create_missing_queue_type", "create_missing_queue_type"),
        ("task_queue_max_priority", "queue_max_priority"),
    ] {
        if let Some(value) = config.get(celery) {
            line(&mut out, ours, value);
        }
    }
    let mut queues: Vec<Value> = Vec::new();
    match config.get("task_queues") {
        Some(Value::Array(list)) => queues.extend(list.iter().map(|q| q["$queue"].clone())),
        Some(Value::Object(table)) => {
            for (name, q) in table {
                queues.push(json!({"name": name, "exchange": q["exchange"], "exchange_type": q["exchange_type"], "routing_key": q["binding_key"]}));
            }
        }
        _ => {}
    }
    let mut routes = String::new();
    for (number, router) in case["routers_json"].as_array().unwrap().iter().enumerate() {
        let Some(entries) = router.as_array() else {
            writeln!(
                out,
                "{}",
                if router.get("$invalid").is_some() { "[[task_routes]]\ntask = 1\n" } else { "" }
            )
            .unwrap();
            continue;
        };
        for entry in entries {
            route(&mut routes, &mut queues, number, entry);
        }
    }
    default_queue(&mut routes, &mut queues, config);
    if let Some(priority) = config.get("task_default_priority") {
        writeln!(
            routes,
            "[[rules]]\nname = \"task_default_priority\"\npriority = {{ default = {priority} }}"
        )
        .unwrap();
    }
    for queue in &queues {
        task_queue(&mut out, queue, text(&case["name"]));
    }
    out + &routes
}

fn route(out: &mut String, queues: &mut Vec<Value>, router: usize, entry: &Value) {
    let (kind, name, value) = (text(&entry[0]), &entry[1], &entry[2]);
    let task = if kind == "regex" { format!("{{ regex = {name} }}") } else { name.to_string() };
    writeln!(out, "[[task_routes]]\nrouter = {router}\ntask = {task}").unwrap();
    let value = if value.is_string() { json!({"queue": value}) } else { value.clone() };
    for (key, value) in value.as_object().unwrap() {
        match value.get("$queue") {
            Some(queue) => {
                queues.push(queue.clone());
                line(out, key, &queue["name"]);
            }
            // Celery ignores what it does not know; we would not.
            None if key == "foo" => {}
            None => line(out, key, value),
        }
    }
}

/// The application's default queue, where it is another than the one that an unconfigured producer uses: everything that nobody
/// routed goes there.
fn default_queue(out: &mut String, queues: &mut Vec<Value>, config: &Map<String, Value>) {
    let name = config.get("task_default_queue").cloned().unwrap_or(json!("celery"));
    let or = |key: &str| config.get(key).cloned().unwrap_or(name.clone());
    let kind = config.get("task_default_exchange_type").cloned().unwrap_or(json!("direct"));
    let last = "[[task_routes]]\nrouter = 999\ntask = \"*\"";
    if config.get("task_default_delivery_mode").is_some() {
        writeln!(out, "{last}\ndelivery_mode = \"transient\"").unwrap();
    }
    if name != json!("celery") {
        let mut queue = json!({"name": name, "exchange": or("task_default_exchange"), "exchange_type": kind, "routing_key": or("task_default_routing_key")});
        if let Some(kind) = config.get("task_default_queue_type") {
            queue["type"] = kind.clone();
        }
        queues.push(queue);
        writeln!(out, "{last}\nqueue = {name}").unwrap();
    }
}

fn task_queue(out: &mut String, queue: &Value, case: &str) {
    writeln!(out, "[[task_queues]]").unwrap();
    let broadcast = queue["broadcast"] == json!(true);
    // A Broadcast is known by its exchange's name: its queue's is made up by each worker.
    line(out, "name", if broadcast { &queue["exchange"] } else { &queue["name"] });
    if broadcast {
        writeln!(out, "broadcast = true").unwrap();
        return;
    }
    for key in ["exchange", "routing_key", "type"] {
        if let Some(value) = queue.get(key).filter(|v| **v != json!("")) {
            line(out, key, value);
        }
    }
    if queue["exchange"] != json!("") {
        line(out, "exchange_type", &queue["exchange_type"]);
    }
    if let Some(Value::Object(arguments)) = queue.get("queue_arguments") {
        line(out, "arguments", &Value::Object(arguments.clone()));
    }
    // The JSON of this case lacks the keywords that its Python has.
    if case == "queue-kw-max-priority-ttl" {
        writeln!(out, "max_priority = 5\nmessage_ttl = \"1500ms\"\nexpires = \"60s\"\nmax_length = 9")
            .unwrap();
    }
}

/// What a producer without any configuration puts on the wire for this call: exchange, routing key, priority, task.
fn sent(call: &str) -> (String, String, Option<u8>, String) {
    let argument = |key: &str| -> Option<String> {
        let after = call.split(&format!(", {key}=")).nth(1)?;
        let after = after.strip_prefix("Queue(").unwrap_or(after);
        Some(after.split([',', ')']).next().unwrap().trim_matches('\'').to_owned())
    };
    let task = match call.strip_prefix("app.send_task('") {
        Some(rest) => rest.split('\'').next().unwrap().to_owned(),
        None => format!("proj.{}", call.split('.').next().unwrap()),
    };
    let (exchange, key) =
        match (argument("queue").filter(|q| !q.is_empty()), argument("exchange"), argument("routing_key")) {
            (Some(queue), _, _) => (String::new(), queue),
            (None, Some(exchange), Some(key)) => (exchange, key),
            _ => (String::new(), "celery".to_owned()),
        };
    // The task attribute of the vectors' own application.
    let priority =
        if task == "proj.prio" { Some(4) } else { argument("priority").map_or(Some(0), |p| p.parse().ok()) };
    (exchange, key, priority, task)
}

fn check(case: &Value) {
    let name = text(&case["name"]);
    let toml = toml(case);
    let config =
        Config::parse(&toml, &Nothing).unwrap_or_else(|p| panic!("{name}: {}\n{toml}", p.in_file("golden")));
    let (exchange, routing_key, priority, task) = sent(text(&case["call_py"]));
    let table =
        TableWriter::new().str("lang", b"py").str("task", task.as_bytes()).str("id", b"an-id").into_bytes();
    let mut payload = Vec::new();
    NewHeader {
        body_size: 2,
        content_type: Some(b"application/json"),
        headers: Some(Table::new(&table)),
        delivery_mode: Some(2),
        priority,
        ..NewHeader::default()
    }
    .write(&mut payload);
    let header = ContentHeader::parse(&payload).unwrap();
    let publish = Publish {
        exchange: exchange.as_bytes(),
        routing_key: routing_key.as_bytes(),
        header: &header,
        body: &[b"[]"],
    };
    let limits = BodyLimits::default();
    let Reading::Task(view) = read(&publish, &limits) else { panic!("{name}: not a task") };
    let message = Message {
        exchange: exchange.as_bytes(),
        routing_key: routing_key.as_bytes(),
        header: &header,
        task: Some(&view),
    };
    let context =
        Context { vhost: b"/", user: "guest", client: IpAddr::V4(Ipv4Addr::LOCALHOST), now: 0, random: 0 };
    let verdict = config.policy.judge(&mut Memo::new(), &context, &message);
    let place =
        verdict.edits.place(exchange.as_bytes()).unwrap_or((exchange.as_bytes(), routing_key.as_bytes()));
    let expected = &case["expected"];
    let found = json!({
        "exchange": String::from_utf8_lossy(place.0),
        "routing_key": String::from_utf8_lossy(place.1),
        // Absent is 0 to a broker.
        "priority": verdict.edits.priority.or(priority).unwrap_or(0),
        "delivery_mode": verdict.edits.delivery_mode.unwrap_or(2),
        "mandatory": verdict.edits.mandatory,
        "expiration": verdict.edits.ttl_ms.map(|ms| ms.to_string()),
        "extra_headers": (!verdict.edits.headers.is_empty()).then(|| verdict.edits.headers.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>()),
    });
    for (key, value) in found.as_object().unwrap() {
        let wanted = if key == "priority" && expected[key].is_null() { &json!(0) } else { &expected[key] };
        assert_eq!(value, wanted, "{name}: {key}\n{toml}");
    }
    declares(name, &verdict, case);
}

/// Where we send it elsewhere, we declare what the configured producer would have.
fn declares(name: &str, verdict: &Verdict<'_>, case: &Value) {
    if verdict.edits.destination.is_none() {
        return;
    }
    let found = verdict.edits.declare().map(|d| declared(d)).unwrap_or_default();
    assert_eq!(Value::Array(found), case["declares"], "{name}: declares");
}

fn declared(declare: &Declare) -> Vec<Value> {
    let mut out = Vec::new();
    if let Some(exchange) = &declare.exchange {
        out.push(json!(["exchange.declare", {"exchange": exchange.name, "type": exchange.kind, "durable": true, "auto-delete": false}]));
    }
    let mut arguments = Map::new();
    for entry in Table::new(&declare.arguments).entries() {
        let entry = entry.unwrap();
        let value = entry
            .value
            .int()
            .map_or_else(|| json!(String::from_utf8_lossy(entry.value.str_bytes().unwrap())), |n| json!(n));
        arguments.insert(String::from_utf8_lossy(entry.name).into_owned(), value);
    }
    out.push(json!(["queue.declare", {"queue": declare.queue, "durable": declare.durable, "exclusive": false, "auto-delete": declare.auto_delete, "arguments": arguments}]));
    for (exchange, key) in &declare.binds {
        out.push(json!(["queue.bind", {"queue": declare.queue, "exchange": exchange, "routing-key": key}]));
    }
    out
}

fn listed(name: &str, list: &[(&str, &str)]) -> bool {
    list.iter().any(|(listed, _)| *listed == name)
}

#[test]
fn every_case_that_the_wire_can_decide_leaves_as_celery_would_have_sent_it() {
    let mut decided = 0;
    for case in cases().iter().filter(|c| c["error"].is_null()) {
        let name = text(&case["name"]);
        if !listed(name, UNDECIDABLE) && !listed(name, REFUSED) {
            check(case);
            decided += 1;
        }
    }
    assert_eq!(decided, 60);
}

#[test]
fn what_celery_would_not_send_is_refused_when_the_configuration_is_read() {
    for (name, why) in REFUSED {
        let case = cases().into_iter().find(|c| c["name"] == **name).unwrap();
        let problems = Config::parse(&toml(&case), &Nothing).expect_err(name).to_string();
        assert!(
            problems.contains(why) || *name == "top-level-tuple-of-pairs-is-NOT-a-map",
            "{name}: {problems}"
        );
    }
}

#[test]
fn every_case_is_decided_refused_or_listed_with_its_reason() {
    let all: BTreeSet<String> = cases().iter().map(|c| text(&c["name"]).to_owned()).collect();
    assert_eq!(all.len(), 76);
    let excepted: Vec<&str> = UNDECIDABLE.iter().chain(REFUSED).map(|(name, _)| *name).collect();
    assert!(excepted.iter().all(|name| all.contains(*name)));
    let failing: BTreeSet<String> =
        cases().iter().filter(|c| !c["error"].is_null()).map(|c| text(&c["name"]).to_owned()).collect();
    assert!(failing.iter().all(|name| excepted.contains(&name.as_str())), "{failing:?}");
}

#[test]
fn no_case_is_called_undecidable_that_could_be_decided() {
    for case in cases().iter().filter(|c| listed(text(&c["name"]), UNDECIDABLE)) {
        let has_function = case["routers_json"].as_array().unwrap().iter().any(|r| !r.is_array());
        let failed = std::panic::catch_unwind(|| check(case)).is_err();
        assert!(has_function || failed, "{}", case["name"]);
    }
}
