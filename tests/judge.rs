//! Real messages before the judge: each kind of decision, under a policy as an operator would write it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    reason = "a test fails by panicking, and its input is ours"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use umbel::celery::compression::{Codec, decompress};
use umbel::celery::{self, BodyLimits, Reading};
use umbel::config::{Config, Nothing};
use umbel::metrics::Metrics;
use umbel::net::judge::{Handed, PolicyJudge, Snapshot};
use umbel::session::{
    Authored, Decision, Edited, Judge, Kept, Now, PublishView, SessionFacts, Settle, Settled, Unrouted,
    UpstreamId,
};
use umbel::wire::frame::parse_frame;
use umbel::wire::method::{self, MethodId, MethodWriter};
use umbel::wire::{ContentHeader, HeaderPatch, Property, TableLimits};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vectors");
/// 2026-11-22T07:00:00Z: the captures' own day.
const CAPTURED_US: i64 = 1_795_330_800_000_000;
/// 2050-01-01T00:00:00Z: everything that can expire has.
const LATER_US: i64 = 2_524_608_000_000_000;

/// A captured publish.
#[derive(Clone)]
struct Message {
    name: String,
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    header: Vec<u8>,
    body: Vec<Vec<u8>>,
}

fn message(name: &str) -> Message {
    let text = std::fs::read(Path::new(VECTORS).join(format!("{name}.json"))).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    let unhex = |hex: &Value| -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let bytes: Vec<u8> = json["frames_hex"].as_array().unwrap().iter().flat_map(unhex).collect();
    let mut payloads = Vec::new();
    let mut rest = &bytes[..];
    while let Some(frame) = parse_frame(rest, 0).unwrap() {
        payloads.push(frame.payload.to_vec());
        rest = &rest[frame.wire_len()..];
    }
    let (_, arguments) = method::split(&payloads[0]).unwrap();
    let publish = method::publish(arguments).unwrap();
    Message {
        name: name.to_owned(),
        exchange: publish.exchange.to_vec(),
        routing_key: publish.routing_key.to_vec(),
        header: payloads[1].clone(),
        body: payloads[2..].to_vec(),
    }
}

fn every_message() -> Vec<Message> {
    let index = std::fs::read(Path::new(VECTORS).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    index.as_array().unwrap().iter().map(|entry| message(entry["name"].as_str().unwrap())).collect()
}

impl Message {
    fn patched(mut self, patch: &HeaderPatch) -> Self {
        let before = std::mem::take(&mut self.header);
        patch.apply(&before, &mut self.header).unwrap();
        self
    }

    fn whole_body(&self) -> Vec<u8> {
        self.body.concat()
    }

    fn is_task(&self) -> bool {
        let header = ContentHeader::parse(&self.header).unwrap();
        let body: Vec<&[u8]> = self.body.iter().map(Vec::as_slice).collect();
        let publish = celery::Publish {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            header: &header,
            body: &body,
        };
        matches!(celery::read(&publish, &BodyLimits::default()), Reading::Task(_))
    }
}

/// A judge under a policy, and its numbers.
struct Court {
    judge: PolicyJudge,
    metrics: Arc<Metrics>,
    confirms: bool,
    wall_us: i64,
}

fn court(policy: &str) -> Court {
    let metrics = Arc::new(Metrics::new(100));
    Court {
        judge: PolicyJudge::new(snapshot(policy), Arc::clone(&metrics), 7),
        metrics,
        confirms: true,
        wall_us: CAPTURED_US,
    }
}

fn snapshot(policy: &str) -> Arc<Snapshot> {
    let config = Config::parse(policy, &Nothing).unwrap_or_else(|problems| panic!("{problems:?}"));
    Arc::new(Snapshot::new(Arc::new(config)))
}

impl Court {
    fn at(mut self, wall_us: i64) -> Self {
        self.wall_us = wall_us;
        self
    }

    fn without_confirms(mut self) -> Self {
        self.confirms = false;
        self
    }

    fn view<T>(
        &mut self,
        message: &Message,
        ask: impl FnOnce(&mut PolicyJudge, Now, &PublishView<'_>) -> T,
    ) -> T {
        let header = ContentHeader::parse(&message.header).unwrap();
        let body: Vec<&[u8]> = message.body.iter().map(Vec::as_slice).collect();
        let view = PublishView {
            session: SessionFacts {
                vhost: b"/",
                user: "shop",
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                confirms: self.confirms,
                frame_max: 8192,
            },
            exchange: &message.exchange,
            routing_key: &message.routing_key,
            mandatory: false,
            header: &header,
            header_payload: &message.header,
            body: &body,
        };
        ask(&mut self.judge, Now { ms: 0, wall_us: self.wall_us }, &view)
    }

    fn judge(&mut self, message: &Message) -> Decision {
        self.view(message, |judge, now, view| {
            let decision = judge.judge(now, view);
            judge.rest(now);
            decision
        })
    }

    fn edited(&mut self, message: &Message) -> Edited {
        match self.judge(message) {
            Decision::Edit(edited) => std::rc::Rc::unwrap_or_clone(edited),
            other => panic!("{}: {other:?}", message.name),
        }
    }

    fn settled(&mut self, message: &Message) -> Settled {
        match self.judge(message) {
            Decision::Settle(settled) => *settled,
            other => panic!("{}: {other:?}", message.name),
        }
    }

    fn passes(&mut self, message: &Message) -> bool {
        matches!(self.judge(message), Decision::Pass)
    }

    /// All series of a family added up.
    fn sum(&self, family: &str) -> usize {
        let rendered = self.metrics.render();
        let of_family = rendered.lines().filter(|line| line.starts_with(&format!("{family}{{")));
        of_family.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum()
    }

    fn counts(&self, series: &str) -> bool {
        let rendered = self.metrics.render();
        rendered.lines().any(|line| line == series)
    }
}

/// A rule of one line for every task, wherever the producer sent it.
fn rule(says: &str) -> String {
    format!("[[rules]]\nname = \"r\"\n{says}\n")
}

fn names(methods: &[Vec<u8>]) -> Vec<&'static str> {
    methods.iter().map(|m| method::check(m, &TableLimits::default()).unwrap().name).collect()
}

#[test]
fn every_captured_message_passes_untouched_under_the_default_config() {
    let mut court = court("");
    for message in every_message() {
        assert!(court.passes(&message), "{}", message.name);
    }
    let (tasks, others): (Vec<_>, Vec<_>) = every_message().into_iter().partition(Message::is_task);
    assert_eq!(
        (court.sum("umbel_tasks_total"), court.sum("umbel_non_tasks_total")),
        (tasks.len(), others.len())
    );
}

#[test]
fn what_is_no_task_passes_every_rule_that_speaks_of_tasks() {
    let policy = "policy.default_queue = \"vec\"\n\
                  [[rules]]\nname = \"all\"\nroute = { queue = \"x\", override = true }\npriority = 9\n\
                  expiry = { action = \"nack\", max = \"1s\", stamp_ttl = true }\ncompression = { codec = \"zlib\", min_size = 128 }\n";
    let mut court = court(policy).at(LATER_US);
    for message in every_message().iter().filter(|m| !m.is_task()) {
        assert!(court.passes(message), "{}", message.name);
    }
}

#[test]
fn a_route_moves_the_message_and_declares_its_queue_first() {
    let mut court = court(&rule("route = { queue = \"feeds\", override = true }"));
    let message = message("c570-py311-v2-json");
    let edited = court.edited(&message);
    let place = edited.place.unwrap();
    assert_eq!((&place.exchange[..], &place.routing_key[..]), (&b""[..], &b"feeds"[..]));
    assert_eq!((edited.header, edited.body, edited.upstream, edited.watch_return), (None, None, None, false));
    let target = edited.target.unwrap();
    assert_eq!(names(&target.methods), ["exchange.declare", "queue.declare", "queue.bind"]);
    let declare =
        MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(b"feeds").octet(2).longstr(&[]);
    assert_eq!(target.methods[1], declare.done());
    let again = court.edited(&message).target.unwrap();
    assert!(Rc::ptr_eq(&target, &again));
    assert!(
        court.counts(
            r#"umbel_tasks_total{name="proj.tasks.add",rule="r",upstream="default",verdict="edit"} 2"#
        )
    );
    assert!(court.counts(r#"umbel_tasks_queued_total{queue_name="feeds",upstream="default"} 2"#));
    assert!(court.counts(r#"umbel_tasks_rerouted_total{rule="r"} 2"#));
    assert!(court.counts(r#"umbel_rule_matches_total{mode="enforce",rule="r"} 2"#));
}

#[test]
fn a_queue_that_may_not_be_made_is_only_looked_for() {
    let policy = "policy.create_missing_queues = false\n\
                  [[task_queues]]\nname = \"known\"\nno_declare = true\n";
    let mut court = court(&format!("{policy}{}", rule("route = { queue = \"known\", override = true }")));
    let target = court.edited(&message("c570-py311-v2-json")).target.unwrap();
    let look = MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(b"known").octet(1).longstr(&[]);
    assert_eq!(target.methods, [look.done()]);
}

#[test]
fn a_queue_that_nobody_defined_and_nobody_may_make_is_looked_for_alone() {
    let policy = "policy.create_missing_queues = false\n";
    let mut court = court(&format!("{policy}{}", rule("route = { queue = \"theirs\", override = true }")));
    let target = court.edited(&message("c570-py311-v2-json")).target.unwrap();
    let look = MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(b"theirs").octet(1).longstr(&[]);
    assert_eq!(target.methods, [look.done()]);
}

#[test]
fn an_exchange_that_nobody_declares_is_looked_for() {
    let says =
        "route = { exchange = \"audit\", exchange_type = \"topic\", routing_key = \"a.b\", override = true }";
    let mut court = court(&rule(says));
    let target = court.edited(&message("c570-py311-v2-json")).target.unwrap();
    let look = MethodWriter::new(MethodId::EXCHANGE_DECLARE).short(0).shortstr(b"audit").shortstr(b"direct");
    assert_eq!(target.methods, [look.octet(1).longstr(&[]).done()]);
}

#[test]
fn a_delayed_delivery_keeps_its_bits_and_its_exchange_and_the_new_queue_is_bound_to_where_it_comes_out() {
    let mut court = court(&rule("route = { queue = \"later\", override = true }"));
    let message = message("c570-py311-v2-json-delayed-quorum");
    let edited = court.edited(&message);
    let place = edited.place.unwrap();
    assert_eq!(place.exchange, b"celery_delayed_27");
    assert_eq!(place.routing_key[..56], message.routing_key[..56]);
    assert_eq!(place.routing_key[56..], *b"later");
    let target = edited.target.unwrap();
    let bind = MethodWriter::new(MethodId::QUEUE_BIND)
        .short(0)
        .shortstr(b"later")
        .shortstr(b"celery_delayed_delivery")
        .shortstr(b"#.later")
        .octet(0)
        .longstr(&[])
        .done();
    assert_eq!(target.methods.last(), Some(&bind));
}

#[test]
fn another_upstream_is_named_by_its_place_in_the_config_and_gets_the_queue_declared() {
    let policy = "[upstreams.default]\n[upstreams.eu]\nurls = [\"amqp://127.0.0.1:5679\"]\n[upstreams.asia]\nurls = [\"amqp://127.0.0.1:5678\"]\n";
    let says = "route = { upstream = \"eu\", override = true }";
    let mut court = court(&format!("{policy}{}", rule(says)));
    let edited = court.edited(&message("c570-py311-v2-json"));
    assert_eq!(edited.upstream, Some(UpstreamId(2)), "default, asia, eu");
    assert_eq!(edited.target.unwrap().name, "queue vec");
    assert!(
        court.counts(r#"umbel_tasks_total{name="proj.tasks.add",rule="r",upstream="eu",verdict="edit"} 1"#)
    );
}

#[test]
fn a_priority_is_all_that_changes_where_a_rule_speaks_of_nothing_else() {
    let mut court = court(&rule("priority = 7"));
    let message = message("c570-py311-v2-json");
    let edited = court.edited(&message);
    let mut patch = HeaderPatch::new();
    patch.set_priority(7);
    assert_eq!(edited.header, Some(message.clone().patched(&patch).header));
    assert!(edited.place.is_none() && edited.body.is_none() && edited.target.is_none());
    assert!(court.counts(r#"umbel_tasks_reprioritised_total{rule="r"} 1"#));
}

#[test]
fn compressed_bodies_are_smaller_and_decompress_to_the_original_in_both_protocols() {
    for codec in Codec::ALL {
        let says = format!("compression = {{ codec = \"{}\", min_size = 128 }}", codec.name());
        let mut court = court(&rule(&says));
        let mut compressed = 0;
        for message in every_message().iter().filter(|m| m.is_task()) {
            let Decision::Edit(edited) = court.judge(message) else { continue };
            let edited = std::rc::Rc::unwrap_or_clone(edited);
            let header = edited.header.unwrap();
            let header = ContentHeader::parse(&header).unwrap();
            let named = header.headers().unwrap().get(b"compression");
            let Some(body) = edited.body else {
                assert!(named.is_none(), "{}: a repair takes the header away", message.name);
                continue;
            };
            compressed += 1;
            assert!(body.len() < message.whole_body().len(), "{}", message.name);
            assert_eq!(header.body_size, body.len() as u64);
            assert_eq!(named.unwrap().str_bytes(), Some(codec.content_type().as_bytes()));
            let plain = decompress(codec, &[&body], &BodyLimits::default()).unwrap();
            assert_eq!(plain, message.whole_body(), "{}", message.name);
        }
        assert!(compressed >= 5, "{codec:?}: {compressed}");
    }
}

#[test]
fn protocol_1_is_read_and_edited_in_every_serializer() {
    for name in [
        "c570-py311-v1-json",
        "c570-py311-v1-json-gzip",
        "c570-py311-v1-msgpack",
        "c570-py311-v1-pickle",
        "c570-py311-v1-yaml",
    ] {
        let policy = rule("match = { task = \"proj.*\", protocol = 1 }\npriority = 3");
        let mut live = court(&policy);
        assert!(live.edited(&message(name)).header.is_some(), "{name}");
        let mut late = court(&rule("expiry = { action = \"nack\" }")).at(LATER_US);
        if name != "c570-py311-v1-json" {
            assert_eq!(late.settled(&message(name)).settle, Settle::Nack, "{name}");
        }
    }
}

#[test]
fn an_expired_task_is_revoked_with_the_very_bytes_that_a_worker_sends() {
    let real = message("c570-py311-nontask-result-rpc-REVOKED-expired");
    let done: Value = serde_json::from_slice(&real.whole_body()).unwrap();
    let id = done["task_id"].as_str().unwrap();
    let mut patch = HeaderPatch::new();
    patch.set_header_str(b"id", id.as_bytes());
    patch.set_short(Property::ReplyTo, &real.routing_key).unwrap();
    let task = message("c570-py311-v2-json-expires-past").patched(&patch);
    let at = celery::time::parse(done["date_done"].as_str().unwrap().as_bytes()).unwrap().unix_micros;
    let mut court = court(&rule("expiry = { action = \"revoke\" }")).at(at);

    let settled = court.settled(&task);
    assert_eq!(settled.settle, Settle::Ack);
    let [result, event] = &settled.instead[..] else { panic!("{settled:?}") };
    assert_eq!((&result.exchange, &result.routing_key), (&real.exchange, &real.routing_key));
    assert_eq!((&result.header, &result.body), (&real.header, &real.whole_body()));
    assert!(result.target.is_none());
    assert_eq!((&event.exchange[..], &event.routing_key[..]), (&b"celeryev"[..], &b"task.revoked"[..]));
    let json: Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!((&json["type"], &json["uuid"]), (&"task-revoked".into(), &id.into()));
    let exchange = MethodWriter::new(MethodId::EXCHANGE_DECLARE).short(0).shortstr(b"celeryev");
    let exchange = exchange.shortstr(b"topic").octet(2).longstr(&[]).done();
    assert_eq!(event.target.as_ref().unwrap().methods, [exchange]);
    assert!(court.counts(r#"umbel_tasks_expired_total{action="revoke",rule="r"} 1"#));
    assert_eq!(settled.kept, Kept::Expired);
}

#[test]
fn nobody_gets_a_result_who_asked_for_none() {
    let mut deaf = HeaderPatch::new();
    deaf.remove(Property::ReplyTo);
    let mut ignoring = HeaderPatch::new();
    ignoring.set_header(b"ignore_result", &umbel::wire::Value::Bool(true));
    for patch in [deaf, ignoring] {
        let task = message("c570-py311-v2-json-expires-past").patched(&patch);
        let settled = court(&rule("expiry = { action = \"revoke\" }")).settled(&task);
        let exchanges: Vec<&[u8]> = settled.instead.iter().map(|a| &a.exchange[..]).collect();
        assert_eq!(exchanges, [b"celeryev"]);
    }
}

#[test]
fn each_other_action_on_expiry_settles_as_it_says() {
    let task = message("c570-py311-v2-json-expires-past");
    let settle = |action: &str| court(&rule(&format!("expiry = {{ action = \"{action}\" }}"))).settled(&task);
    assert_eq!(settle("nack").settle, Settle::Nack);
    let Settle::Return(312, text) = settle("return").settle else { panic!("not returned") };
    assert_eq!(text, "NO_ROUTE - expired at 2001-02-03T04:05:06.000000+00:00");
    assert!(court(&rule("expiry = { action = \"pass\" }")).passes(&task));
}

#[test]
fn a_dead_letter_is_the_message_itself_with_the_reasons_in_its_headers() {
    let policy = "[dead_letter]\nqueue = \"umbel.dead\"\n";
    let mut patch = HeaderPatch::new();
    patch.set_expiration_ms(60_000).set_header_str(b"CC", b"elsewhere");
    let task = message("c570-py311-v2-json-expires-past").patched(&patch);
    let mut court = court(&format!("{policy}{}", rule("expiry = { action = \"dead-letter\" }")));
    let settled = court.settled(&task);
    assert_eq!(settled.settle, Settle::Ack);
    let [Authored { exchange, routing_key, header, body, target, .. }] = &settled.instead[..] else {
        panic!("{settled:?}")
    };
    assert_eq!((&exchange[..], &routing_key[..], body), (&b""[..], &b"umbel.dead"[..], &task.whole_body()));
    assert_eq!(target.as_ref().unwrap().name, "queue umbel.dead");
    let header = ContentHeader::parse(header).unwrap();
    let says = |name: &[u8]| {
        let value = header.headers().unwrap().get(name)?;
        Some(String::from_utf8(value.str_bytes()?.to_vec()).unwrap())
    };
    assert_eq!(says(b"x-umbel-reason").as_deref(), Some("expired"));
    assert_eq!(says(b"x-umbel-detail").as_deref(), Some("expired at 2001-02-03T04:05:06.000000+00:00"));
    assert_eq!(says(b"x-umbel-rule").as_deref(), Some("r"));
    assert_eq!(
        (says(b"x-umbel-exchange").as_deref(), says(b"x-umbel-routing-key").as_deref()),
        (Some(""), Some("vec"))
    );
    assert_eq!(says(b"x-umbel-time").as_deref(), Some("2026-11-22T07:00:00.000000+00:00"));
    assert_eq!((says(b"x-umbel-expiration").as_deref(), header.expiration()), (Some("60000"), None));
    assert_eq!(says(b"CC"), None, "a broker would send it there too");
    assert!(court.counts(r#"umbel_messages_dead_lettered_total{reason="expired"} 1"#));
}

#[test]
fn admission_keeps_out_as_its_action_says() {
    let task = message("c570-py311-v2-json");
    let says = |action: &str| rule(&format!("admission = {{ action = \"{action}\", reason = \"off\" }}"));
    assert_eq!(court(&says("refuse")).settled(&task).settle, Settle::Nack);
    let plain = court(&says("refuse")).without_confirms().settled(&task).settle;
    assert_eq!(plain, Settle::Close(403, "ACCESS_REFUSED - off".to_owned()));
    assert_eq!(court(&says("nack")).without_confirms().settled(&task).settle, Settle::Nack);
    assert_eq!(
        court(&says("return")).settled(&task).settle,
        Settle::Return(312, "NO_ROUTE - off".to_owned())
    );
    let mut court = court(&says("drop"));
    let dropped = court.settled(&task);
    assert_eq!((dropped.settle, dropped.instead.len(), dropped.kept), (Settle::Ack, 0, Kept::Refused));
    assert!(court.counts(
        r#"umbel_tasks_total{name="proj.tasks.add",rule="r",upstream="default",verdict="refuse"} 1"#
    ));
}

#[test]
fn what_is_no_task_can_be_kept_out_where_a_rule_says_so() {
    let says = "match = { traffic = \"other\", exchange = \"celery.pidbox\", user = \"shop\" }\nadmission = { action = \"refuse\" }";
    let mut court = court(&rule(says)).without_confirms();
    assert!(matches!(
        court.settled(&message("c570-py311-nontask-pidbox-broadcast-revoke")).settle,
        Settle::Close(403, _)
    ));
    assert!(court.passes(&message("c570-py311-v2-json")));
}

#[test]
fn a_dry_run_changes_nothing_and_counts_what_it_would_have_done() {
    let mut court = court(&format!("[policy]\ndry_run = true\n{}", rule("priority = 9")));
    let task = message("c570-py311-v2-json");
    assert!(court.passes(&task));
    assert!(court.counts(r#"umbel_rule_matches_total{mode="observe",rule="r"} 1"#));
    assert!(court.counts(
        r#"umbel_tasks_total{name="proj.tasks.add",rule="none",upstream="default",verdict="forward"} 1"#
    ));
}

#[test]
fn unroutable_tasks_are_watched_for_where_the_upstream_says_so_and_nothing_else_is() {
    let mut court = court("[upstreams.default]\nmandatory = \"count\"\n");
    let edited = court.edited(&message("c570-py311-v2-json"));
    assert!(edited.watch_return && edited.place.is_none() && edited.header.is_none());
    assert!(court.passes(&message("c570-py311-nontask-result-rpc-SUCCESS")));
}

#[test]
fn sent_again_a_task_is_asked_for_its_expiry_and_nothing_else() {
    let policy = rule("priority = 9\nexpiry = { action = \"revoke\" }");
    let fresh = message("c570-py311-v2-json-expires-float");
    let mut early = court(&policy);
    assert!(matches!(early.view(&fresh, |judge, now, view| judge.again(now, view)), Decision::Pass));
    let mut late = court(&policy).at(LATER_US);
    let decision = late.view(&fresh, |judge, now, view| judge.again(now, view));
    assert!(matches!(decision, Decision::Settle(settled) if settled.settle == Settle::Ack));
}

#[test]
fn a_task_that_no_queue_takes_is_counted_dead_lettered_or_its_queue_declared_as_its_upstream_says() {
    let task = message("c570-py311-v2-json");
    let unrouted = |mandatory: &str| {
        let policy = format!(
            "[upstreams.default]\nmandatory = \"{mandatory}\"\n[dead_letter]\nqueue = \"dead\"\n[[task_queues]]\nname = \"vec\"\ntype = \"quorum\""
        );
        let mut court = court(&policy);
        assert!(court.edited(&task).watch_return, "it is published mandatory");
        let verdict = court.view(&task, |judge, now, view| judge.unrouted(now, view, UpstreamId(0)));
        (verdict, court)
    };
    assert!(matches!(unrouted("count").0, Unrouted::Counted));
    let (Unrouted::Declare(target), _) = unrouted("declare") else { panic!("a queue to declare") };
    assert_eq!(target.name, "queue vec");
    let (declares, _) = method::split(target.methods.last().unwrap()).unwrap();
    assert!(matches!(declares, MethodId::QUEUE_DECLARE | MethodId::QUEUE_BIND));
    let text = String::from_utf8_lossy(&target.methods.concat()).into_owned();
    assert!(
        text.contains("x-queue-type") && text.contains("quorum"),
        "as the configuration defines it: {text}"
    );
    let (Unrouted::Instead(letters), court) = unrouted("dead-letter") else { panic!("a dead letter") };
    assert_eq!(letters[0].routing_key, b"dead");
    let header = ContentHeader::parse(&letters[0].header).unwrap();
    assert!(String::from_utf8_lossy(header.headers().unwrap().bytes()).contains("unroutable"));
    assert!(court.counts(r#"umbel_messages_dead_lettered_total{reason="unroutable"} 1"#));
}

#[test]
fn a_delivery_is_withheld_only_where_a_rule_watches_them() {
    let task = message("c570-py311-v2-json-expires-past");
    let withheld =
        |says: &str| court(&rule(says)).view(&task, |judge, now, view| judge.expired_on_delivery(now, view));
    assert!(withheld("expiry = { action = \"revoke\" }").is_none());
    let revoked = withheld("expiry = { action = \"revoke\", on_delivery = true }").unwrap();
    assert_eq!((revoked.handed, revoked.instead.len()), (Handed::Ack, 2));
    let rejected = withheld("expiry = { action = \"nack\", on_delivery = true }").unwrap();
    assert_eq!((rejected.handed, rejected.instead.len()), (Handed::Reject, 0));
}

#[test]
fn a_new_snapshot_judges_from_the_next_message_on() {
    let mut court = court(&rule("priority = 9"));
    let task = message("c570-py311-v2-json");
    assert!(matches!(court.judge(&task), Decision::Edit(_)));
    court.judge.replace(snapshot(""));
    assert!(court.passes(&task));
}

#[test]
fn a_header_that_no_longer_fits_its_frame_goes_as_it_came() {
    let mut patch = HeaderPatch::new();
    patch.set_header_str(b"padding", &[b'x'; 7650]);
    let task = message("c570-py311-v2-json").patched(&patch);
    let fits = 8192 - 8 - task.header.len();
    let headers =
        |bytes: usize| format!("route = {{ keep = true, headers = {{ h = \"{}\" }} }}", "x".repeat(bytes));
    let mut court = court(&rule(&headers(fits)));
    assert!(court.passes(&task));
    assert!(court.counts(r#"umbel_policy_mistakes_total{mistake="patch_does_not_fit"} 1"#));
    court.judge.replace(snapshot(&rule(&headers(10))));
    assert_eq!(court.edited(&task).header.unwrap().len(), task.header.len() + 17);
}

#[test]
fn weights_split_tasks_about_as_asked() {
    let says =
        "route = { override = true, split = [{ weight = 9, queue = \"a\" }, { weight = 1, queue = \"b\" }] }";
    let mut court = court(&rule(says));
    let task = message("c570-py311-v2-json");
    let to_b = (0..2000).filter(|_| court.edited(&task).place.unwrap().routing_key == b"b").count();
    assert!((140..260).contains(&to_b), "{to_b} of 2000");
    let rendered = court.metrics.render();
    let queued = |queue: &str| {
        let start = format!("umbel_tasks_queued_total{{queue_name=\"{queue}\",upstream=\"default\"}} ");
        rendered.lines().find_map(|l| l.strip_prefix(&start)).unwrap().parse::<usize>().unwrap()
    };
    assert_eq!((queued("a"), queued("b")), (2000 - to_b, to_b));
}
