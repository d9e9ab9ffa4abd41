//! What the policy says of a task, told as an operator writes it: TOML in, a task in, the verdict out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

use std::net::IpAddr;

use umbel::celery::{BodyLimits, Publish, Reading, read, time};
use umbel::config::{Config, Nothing};
use umbel::policy::edit::{Means, Packed, edit};
use umbel::policy::{Aspect, By, Context, ExpiryAction, Fate, Memo, Message, Refusal, Verdict};
use umbel::wire::ContentHeader;
use umbel::wire::props::NewHeader;
use umbel::wire::table::{TableWriter, Value};

/// 2026-11-22T00:00:00Z.
const NOW: i64 = 1_795_305_600_000_000;
const SECOND: i64 = 1_000_000;

/// One task on the wire, changed as a test needs it.
struct Sent {
    exchange: &'static str,
    routing_key: &'static str,
    task: &'static str,
    priority: Option<u8>,
    eta: Option<i64>,
    expires: Option<i64>,
    expiration: Option<&'static str>,
    compression: Option<&'static str>,
    body: Vec<u8>,
    user: &'static str,
    client: &'static str,
    random: u64,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            exchange: "",
            routing_key: "celery",
            task: "shop.checkout",
            priority: Some(0),
            eta: None,
            expires: None,
            expiration: None,
            compression: None,
            body: b"[[], {}, {}]".to_vec(),
            user: "guest",
            client: "127.0.0.1",
            random: 0,
        }
    }
}

/// What came of it.
#[derive(Debug)]
struct Seen {
    exchange: String,
    routing_key: String,
    priority: Option<u8>,
    expires: Option<i64>,
    ttl_ms: Option<u64>,
    route: Option<String>,
    verdict: String,
    packed: Packed,
    body: Vec<u8>,
    compression: Option<Vec<u8>>,
}

fn policy(toml: &str) -> Config {
    Config::parse(toml, &Nothing).unwrap_or_else(|p| panic!("{}", p.in_file("test")))
}

impl Sent {
    fn header(&self) -> Vec<u8> {
        let mut table =
            TableWriter::new().str("lang", b"py").str("task", self.task.as_bytes()).str("id", b"an-id");
        let moment = |at: Option<i64>| at.map(time::format);
        let (eta, expires) = (moment(self.eta), moment(self.expires));
        table = table.with("eta", eta.as_ref().map_or(Value::Void, |t| Value::Str(t.as_bytes())));
        table = table.with("expires", expires.as_ref().map_or(Value::Void, |t| Value::Str(t.as_bytes())));
        table = table.with("retries", Value::I32(0)).str("tenant", b"acme");
        if let Some(compression) = self.compression {
            table = table.str("compression", compression.as_bytes());
        }
        let mut payload = Vec::new();
        NewHeader {
            body_size: self.body.len() as u64,
            content_type: Some(b"application/json"),
            headers: Some(table.table()),
            delivery_mode: Some(2),
            priority: self.priority,
            expiration: self.expiration.map(str::as_bytes),
            ..NewHeader::default()
        }
        .write(&mut payload);
        payload
    }

    fn judged<T>(
        &self,
        config: &Config,
        memo: &mut Memo,
        then: impl FnOnce(&Verdict<'_>, &Message<'_>, &[u8], &Context<'_>) -> T,
    ) -> T {
        let payload = self.header();
        let header = ContentHeader::parse(&payload).unwrap();
        let (exchange, routing_key) = (self.exchange.as_bytes(), self.routing_key.as_bytes());
        let body = [self.body.as_slice()];
        let publish = Publish { exchange, routing_key, header: &header, body: &body };
        let limits = BodyLimits::default();
        let Reading::Task(task) = read(&publish, &limits) else { panic!("not a task") };
        let message = Message { exchange, routing_key, header: &header, task: Some(&task) };
        let client: IpAddr = self.client.parse().unwrap();
        let context = Context { vhost: b"/", user: self.user, client, now: NOW, random: self.random };
        let verdict = config.policy.judge(memo, &context, &message);
        then(&verdict, &message, &payload, &context)
    }

    fn through(&self, toml: &str) -> Seen {
        let config = policy(toml);
        self.judged(&config, &mut Memo::new(), |verdict, message, payload, _| {
            let place =
                verdict.edits.place(message.exchange).unwrap_or((message.exchange, message.routing_key));
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let edited = edit(&verdict.edits, message, payload, &[&self.body], &Means::default()).unwrap();
            let header_bytes = edited.header.as_deref().unwrap_or(payload);
            let header = ContentHeader::parse(header_bytes).unwrap();
            let body = edited.body.unwrap_or_else(|| self.body.clone());
            assert_eq!(header.body_size, body.len() as u64);
            Seen {
                exchange: text(place.0),
                routing_key: text(place.1),
                priority: header.priority(),
                expires: verdict.edits.expires,
                ttl_ms: verdict.edits.ttl_ms,
                route: verdict.because.route.map(|by| config.policy.name_of(by)),
                verdict: format!("{:?}", verdict.fate),
                packed: edited.packed,
                compression: header
                    .headers()
                    .and_then(|t| t.get(b"compression"))
                    .and_then(|v| v.str_bytes())
                    .map(<[u8]>::to_vec),
                body,
            }
        })
    }
}

fn rule(body: &str) -> String {
    format!("[[rules]]\nname = \"r\"\n{body}\n")
}

// ── P1: what matches ──

#[test]
fn all_conditions_must_hold_and_a_list_means_any_of() {
    let toml =
        rule("match = { task = [\"shop.*\", \"x\"], user = \"bob\", client = \"10.0.0.0/8\" }\npriority = 7");
    let bob = || Sent { user: "bob", client: "10.1.2.3", ..Sent::default() };
    assert_eq!(bob().through(&toml).priority, Some(7));
    assert_eq!(Sent { user: "eve", ..bob() }.through(&toml).priority, Some(0));
    assert_eq!(Sent { client: "11.1.2.3", ..bob() }.through(&toml).priority, Some(0));
    assert_eq!(Sent { task: "y", ..bob() }.through(&toml).priority, Some(0));
}

#[test]
fn every_condition_can_hold_and_can_fail() {
    for (condition, holds) in [
        ("queue = \"celery\"", true),
        ("queue = \"cel*\"", true),
        ("exchange = \"\"", true),
        ("exchange = \"x\"", false),
        ("routing_key = \"celery\"", true),
        ("vhost = \"/\"", true),
        ("vhost = \"prod\"", false),
        ("headers = { tenant = [\"acme\", \"b\"] }", true),
        ("headers = { tenant = \"a?me\" }", true),
        ("headers = { tenant = false }", false),
        ("headers = { retries = 0 }", true),
        ("headers = { eta = true }", false),
        ("headers = { eta = false, tenant = true }", true),
        ("content_type = \"application/json\"", true),
        ("content_type = \"*pickle*\"", false),
        ("size_over = 11", true),
        ("size_over = 12", false),
        ("size_under = 13", true),
        ("priority = [0, 9]", true),
        ("priority = { min = 1 }", false),
        ("retries = 0", true),
        ("eta = false", true),
        ("expires = true", false),
        ("protocol = 2", true),
        ("protocol = 1", false),
        ("compressed = false", true),
        ("task = { regex = \"shop\" }", true),
        ("task = { regex = \"hop\" }", false),
    ] {
        let seen = Sent::default().through(&rule(&format!("match = {{ {condition} }}\npriority = 7")));
        assert_eq!(seen.priority == Some(7), holds, "{condition}");
    }
}

#[test]
fn for_each_aspect_the_first_rule_that_speaks_of_it_decides_so_rules_compose() {
    let toml = "[[rules]]\nname = \"a\"\nmatch = { task = \"shop.*\" }\nroute = \"shop\"\n\
                [[rules]]\nname = \"b\"\nmatch = { user = \"guest\" }\nroute = \"other\"\npriority = 4\n\
                [[rules]]\nname = \"c\"\npriority = 9\n";
    let seen = Sent::default().through(toml);
    assert_eq!((seen.routing_key.as_str(), seen.priority), ("shop", Some(4)));
    assert_eq!(seen.route.as_deref(), Some("a"));
}

// ── P2: where it goes ──

#[test]
fn a_producers_own_destination_is_respected_unless_a_rule_overrides_it() {
    let own = || Sent { routing_key: "mine", ..Sent::default() };
    assert_eq!(own().through(&rule("route = \"q\"")).routing_key, "mine");
    assert_eq!(own().through(&rule("route = { queue = \"q\", override = true }")).routing_key, "q");
    let table = "[[task_routes]]\ntask = \"shop.*\"\nqueue = \"q\"\npriority = 7\n";
    let seen = own().through(table);
    assert_eq!(
        (seen.routing_key.as_str(), seen.priority),
        ("mine", Some(7)),
        "as Celery merges a route with a call's queue"
    );
    let forced = own().through(&format!("{table}override = true\n"));
    assert_eq!(forced.routing_key, "q");
}

#[test]
fn what_celery_3_sends_to_its_default_exchange_is_routed_too() {
    let seen = Sent { exchange: "celery", ..Sent::default() }.through(&rule("route = \"q\""));
    assert_eq!((seen.exchange.as_str(), seen.routing_key.as_str()), ("", "q"));
}

#[test]
fn a_rule_wins_over_the_table_and_keep_leaves_a_task_where_it_was_going() {
    let table = "[[task_routes]]\ntask = \"*\"\nqueue = \"table\"\n";
    assert_eq!(Sent::default().through(table).routing_key, "table");
    assert_eq!(Sent::default().through(&(rule("route = \"rule\"") + table)).routing_key, "rule");
    assert_eq!(Sent::default().through(&(rule("route = { keep = true }") + table)).routing_key, "celery");
}

#[test]
fn a_delayed_delivery_keeps_its_bits_and_its_exchange_and_only_its_suffix_is_routed() {
    const DELAYED: &str = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.1.0.1.0.celery";
    let seen = Sent { exchange: "celery_delayed_27", routing_key: DELAYED, ..Sent::default() }
        .through(&rule("route = \"q\""));
    assert_eq!(seen.exchange, "celery_delayed_27");
    assert_eq!(seen.routing_key, DELAYED.replace("celery", "q"));
}

#[test]
fn a_route_may_name_another_upstream_and_split_by_weight() {
    let toml = "[upstreams.default]\n[upstreams.eu]\nurls = [\"amqp://eu\"]\n".to_owned()
        + &rule(
            "route = { split = [{ weight = 3, queue = \"a\" }, { weight = 1, queue = \"b\", upstream = \"eu\" }] }",
        );
    let config = policy(&toml);
    let eu = config.upstreams.iter().position(|u| u.name == "eu");
    let mut memo = Memo::new();
    let count = (0..100).filter(|n| {
        Sent { random: *n, ..Sent::default() }.judged(&config, &mut memo, |v, _, _, _| v.edits.upstream == eu)
    });
    assert_eq!(count.count(), 25);
}

// ── P3: priority ──

#[test]
fn a_routes_priority_counts_where_no_rule_sets_one_and_a_bound_holds_it_too() {
    let table = "[[task_routes]]\ntask = \"*\"\nqueue = \"q\"\npriority = 7\n";
    assert_eq!(Sent::default().through(table).priority, Some(7));
    assert_eq!(Sent { priority: Some(3), ..Sent::default() }.through(table).priority, Some(3));
    assert_eq!(Sent::default().through(&(rule("priority = { default = 5 }") + table)).priority, Some(5));
    assert_eq!(Sent::default().through(&(rule("priority = { max = 6 }") + table)).priority, Some(6));
}

#[test]
fn a_priority_that_is_within_bounds_leaves_every_byte_as_it_came() {
    let sent = Sent { priority: Some(2), ..Sent::default() };
    let config = policy(&rule("priority = { max = 3 }"));
    sent.judged(&config, &mut Memo::new(), |verdict, _, _, _| {
        assert!(verdict.edits.is_empty());
        assert_eq!(verdict.because.priority, Some(By::Rule(0)));
    });
}

// ── P4: expiry ──

#[test]
fn a_task_is_expired_strictly_after_its_moment_or_when_its_eta_lies_behind_it() {
    let toml = rule("expiry = { action = \"revoke\" }");
    let fate = |expires, eta| Sent { expires: Some(expires), eta, ..Sent::default() }.through(&toml).verdict;
    assert_eq!(fate(NOW, None), "Forward");
    assert!(fate(NOW - 1, None).contains("Revoke"));
    assert!(fate(NOW + 60 * SECOND, Some(NOW + 61 * SECOND)).contains("Revoke"));
    assert_eq!(fate(NOW + 60 * SECOND, Some(NOW + 60 * SECOND)), "Forward");
}

#[test]
fn without_a_rule_of_expiry_an_expired_task_passes() {
    assert_eq!(
        Sent { expires: Some(NOW - SECOND), ..Sent::default() }.through(&rule("priority = 3")).verdict,
        "Forward"
    );
}

#[test]
fn each_action_for_the_expired_is_its_own() {
    let fate = |action: &str| {
        let toml =
            rule(&format!("expiry = {{ action = \"{action}\" }}")) + "[dead_letter]\nqueue = \"dead\"\n";
        Sent { expires: Some(NOW - SECOND), ..Sent::default() }.through(&toml).verdict
    };
    assert!(fate("dead-letter").contains("\"dead\""));
    assert!(fate("return").contains("Return"));
    assert!(fate("nack").contains("Nack"));
    assert_eq!(fate("pass"), "Forward");
}

#[test]
fn an_expiry_is_imposed_on_who_set_none_counted_from_the_eta_and_a_longer_one_is_cut() {
    let toml = rule("expiry = { default = \"1m\", max = \"1h\" }");
    let expires = |sent: Sent| sent.through(&toml).expires;
    assert_eq!(expires(Sent::default()), Some(NOW + 60 * SECOND));
    assert_eq!(
        expires(Sent { eta: Some(NOW + 3600 * SECOND), ..Sent::default() }),
        Some(NOW + 3660 * SECOND)
    );
    assert_eq!(
        expires(Sent { expires: Some(NOW + 7200 * SECOND), ..Sent::default() }),
        Some(NOW + 3600 * SECOND)
    );
    assert_eq!(expires(Sent { expires: Some(NOW + 5 * SECOND), ..Sent::default() }), None);
}

#[test]
fn the_remaining_time_is_stamped_as_ttl_and_a_shorter_one_stays() {
    let toml = rule("expiry = { stamp_ttl = true }");
    let ttl = |expiration| {
        Sent { expires: Some(NOW + 90 * SECOND), expiration, ..Sent::default() }.through(&toml).ttl_ms
    };
    assert_eq!(ttl(None), Some(90_000));
    assert_eq!(ttl(Some("90001")), Some(90_000));
    assert_eq!(ttl(Some("5")), None);
    assert_eq!(Sent::default().through(&toml).ttl_ms, None);
}

#[test]
fn expiry_is_asked_again_later_and_on_delivery_where_a_rule_wants_that() {
    let config = policy(&rule("expiry = { action = \"revoke\" }"));
    let delivering = policy(&rule("expiry = { action = \"revoke\", on_delivery = true }"));
    assert!(!config.policy.watches_deliveries() && delivering.policy.watches_deliveries());
    let sent = Sent { expires: Some(NOW + SECOND), ..Sent::default() };
    sent.judged(&config, &mut Memo::new(), |verdict, message, _, context| {
        assert_eq!(verdict.fate, Fate::Forward);
        let later = Context { now: NOW + 2 * SECOND, ..*context };
        let expired = config.policy.expired_since(&mut Memo::new(), &later, message).unwrap();
        assert_eq!((expired.action, expired.at), (&ExpiryAction::Revoke, NOW + SECOND));
        assert!(config.policy.expired_since(&mut Memo::new(), context, message).is_none());
        assert!(config.policy.expired_on_delivery(&mut Memo::new(), &later, message).is_none());
        assert!(delivering.policy.expired_on_delivery(&mut Memo::new(), &later, message).is_some());
    });
}

#[test]
fn an_expiry_is_imposed_on_protocol_1_in_its_body() {
    let body = br#"{"task": "shop.checkout", "id": "an-id", "args": [], "kwargs": {}, "retries": 0, "expires": null, "utc": true}"#;
    let mut payload = Vec::new();
    let content_type = Some(&b"application/json"[..]);
    NewHeader { body_size: body.len() as u64, content_type, ..NewHeader::default() }.write(&mut payload);
    let header = ContentHeader::parse(&payload).unwrap();
    let publish = Publish { exchange: b"celery", routing_key: b"celery", header: &header, body: &[body] };
    let limits = BodyLimits::default();
    let Reading::Task(task) = read(&publish, &limits) else { panic!("not a task") };
    let message = Message { exchange: b"celery", routing_key: b"celery", header: &header, task: Some(&task) };
    let context =
        Context { vhost: b"/", user: "guest", client: "127.0.0.1".parse().unwrap(), now: NOW, random: 0 };
    let config = policy(&rule("expiry = { default = \"1m\" }"));
    let verdict = config.policy.judge(&mut Memo::new(), &context, &message);
    let edited = edit(&verdict.edits, &message, &payload, &[body], &Means::default()).unwrap();
    let new = edited.body.unwrap();
    assert!(
        String::from_utf8_lossy(&new).contains("\"expires\": \"2026-11-22T00:01:00.000000+00:00\""),
        "{}",
        String::from_utf8_lossy(&new)
    );
    assert_eq!(ContentHeader::parse(&edited.header.unwrap()).unwrap().body_size, new.len() as u64);
}

// ── P5: compression ──

#[test]
fn a_big_body_is_compressed_once_and_a_small_or_a_stubborn_one_never() {
    let toml = rule("match = { size_over = \"1KiB\" }\ncompression = { codec = \"zlib\" }");
    let big = || Sent { body: vec![b'a'; 4096], ..Sent::default() };
    let seen = big().through(&toml);
    assert_eq!(seen.compression.as_deref(), Some(&b"application/x-gzip"[..]));
    assert!(seen.body.len() < 100);
    let again =
        Sent { body: seen.body, compression: Some("application/x-gzip"), ..Sent::default() }.through(&toml);
    assert_eq!(again.packed, Packed::Untouched);
    assert_eq!(Sent::default().through(&toml).packed, Packed::Untouched);
    let noise: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let zipped = Sent { body: noise, ..Sent::default() }.through(&toml);
    assert!(zipped.packed == Packed::NotSmaller || zipped.body.len() < 4096);
}

#[test]
fn a_plain_body_under_a_compression_header_is_repaired() {
    let sent = || Sent { compression: Some("application/x-gzip"), ..Sent::default() };
    let seen = sent().through(&rule("compression = { repair = true }"));
    assert_eq!((seen.packed, seen.compression), (Packed::Repaired, None));
    let left = sent().through(&rule("compression = { codec = \"zlib\", repair = false }"));
    assert_eq!(left.packed, Packed::Untouched);
}

#[test]
fn a_body_is_decompressed_for_workers_that_lack_the_codec() {
    let packed = Sent { body: vec![b'a'; 4096], ..Sent::default() }
        .through(&rule("compression = { codec = \"zstd\" }"));
    let sent = Sent { body: packed.body, compression: Some("application/zstd"), ..Sent::default() };
    let seen = sent.through(&rule("compression = { codec = \"none\" }"));
    assert_eq!((seen.body, seen.compression), (vec![b'a'; 4096], None));
}

// ── P6: admission ──

#[test]
fn admission_refuses_by_any_match_and_an_earlier_rule_may_let_in() {
    let toml = "[[rules]]\nname = \"ops\"\nmatch = { user = \"ops\" }\nadmission = { action = \"allow\" }\n\
                [[rules]]\nname = \"off\"\nmatch = { task = \"shop.*\" }\nadmission = { action = \"refuse\", reason = \"closed\" }\n";
    assert!(Sent::default().through(toml).verdict.contains("closed"));
    assert_eq!(Sent { user: "ops", ..Sent::default() }.through(toml).verdict, "Forward");
}

#[test]
fn only_what_exceeds_the_rate_is_kept_out() {
    let config = policy(&rule("admission = { action = \"drop\", rate = 1, burst = 3 }"));
    let mut memo = Memo::new();
    let kept =
        (0..10).filter(|_| Sent::default().judged(&config, &mut memo, |v, _, _, _| v.fate != Fate::Forward));
    assert_eq!(kept.count(), 7);
}

#[test]
fn what_is_no_task_passes_unless_a_rule_of_admission_says_traffic() {
    let payload = {
        let mut out = Vec::new();
        NewHeader { body_size: 0, ..NewHeader::default() }.write(&mut out);
        out
    };
    let header = ContentHeader::parse(&payload).unwrap();
    let message = Message { exchange: b"celery.pidbox", routing_key: b"", header: &header, task: None };
    let context =
        Context { vhost: b"/", user: "shop", client: "127.0.0.1".parse().unwrap(), now: NOW, random: 0 };
    let tasks = policy(&rule("priority = 9\nadmission = { action = \"refuse\" }\nroute = \"q\""));
    assert_eq!(tasks.policy.judge(&mut Memo::new(), &context, &message), Verdict::default());
    let toml = rule(
        "match = { traffic = \"other\", exchange = \"celery.pidbox\" }\nadmission = { action = \"refuse\", reason = \"no\" }",
    );
    let others = policy(&toml);
    let verdict = others.policy.judge(&mut Memo::new(), &context, &message);
    assert_eq!(verdict.fate, Fate::Refused { how: Refusal::Refuse, reason: "no" });
}

// ── P8: dry run ──

#[test]
fn a_rule_in_dry_run_is_noted_and_the_next_one_decides() {
    let toml =
        "[[rules]]\nname = \"new\"\ndry_run = true\npriority = 9\n[[rules]]\nname = \"old\"\npriority = 4\n";
    let config = policy(toml);
    Sent::default().judged(&config, &mut Memo::new(), |verdict, _, _, _| {
        assert_eq!(verdict.edits.priority, Some(4));
        assert_eq!(verdict.observed, [(Aspect::Priority, By::Rule(0))]);
    });
}

#[test]
fn a_policy_in_dry_run_changes_nothing_and_says_who_would_have() {
    let toml = "[policy]\ndry_run = true\n".to_owned()
        + &rule("priority = 9\nroute = \"q\"\nexpiry = { action = \"revoke\" }");
    let config = policy(&toml);
    Sent { expires: Some(NOW - SECOND), ..Sent::default() }.judged(
        &config,
        &mut Memo::new(),
        |verdict, message, _, context| {
            assert_eq!(verdict.fate, Fate::Forward);
            assert!(verdict.edits.is_empty());
            assert!(verdict.observed.contains(&(Aspect::Expiry, By::Rule(0))));
            let live = config.policy.judge_enforced(&mut Memo::new(), context, message);
            assert!(matches!(live.fate, Fate::Expired { .. }));
        },
    );
}

// ── F3: what does not match costs nothing ──

#[test]
fn ten_thousand_exact_routes_and_rules_leave_one_candidate_each() {
    let mut toml = String::new();
    for n in 0..10_000 {
        toml += &format!("[[task_routes]]\ntask = \"t{n}\"\nqueue = \"q{n}\"\n");
    }
    let config = policy(&toml);
    let mut memo = Memo::new();
    let sent = Sent { task: "t9999", ..Sent::default() };
    sent.judged(&config, &mut memo, |v, _, _, _| {
        assert_eq!(v.edits.destination.unwrap().routing_key, "q9999")
    });
    Sent { task: "t10000", ..Sent::default() }
        .judged(&config, &mut memo, |v, _, _, _| assert!(v.edits.is_empty()));
    assert_eq!(memo.len(), 2);
}

#[test]
fn the_memory_of_names_is_bounded_whatever_strangers_send() {
    let config = policy(&rule("match = { task = \"a.*\" }\npriority = 9"));
    let mut memo = Memo::new();
    for n in 0..40_000 {
        let task: &'static str = Box::leak(format!("a.{n}").into_boxed_str());
        let sent = Sent { task, ..Sent::default() };
        sent.judged(&config, &mut memo, |v, _, _, _| assert_eq!(v.edits.priority, Some(9)));
        assert!(memo.len() <= 32_768);
    }
}

#[test]
fn an_edit_that_says_nothing_leaves_the_header_alone() {
    let sent = Sent::default();
    sent.judged(&policy(""), &mut Memo::new(), |verdict, message, payload, _| {
        let edited = edit(&verdict.edits, message, payload, &[&sent.body], &Means::default()).unwrap();
        assert_eq!((edited.header, edited.body), (None, None));
    });
}
