//! A bad configuration: every problem is listed, with its place, its key and what was expected (SPEC C1).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use umbel::config::{Config, Nothing, Surroundings};

/// The problems of `text`, as `line:column: key: message`.
fn problems(text: &str) -> Vec<String> {
    match Config::parse(text, &Nothing) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

/// Asserts that `text` has exactly one problem, that it begins with `place` and says `words`.
#[track_caller]
fn one(text: &str, place: &str, words: &str) {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(place) && found[0].contains(words), "{found:#?}");
}

struct World;
impl Surroundings for World {
    fn env(&self, name: &str) -> Option<String> {
        (name == "PASSWORD").then(|| "hunter2".to_owned())
    }
    fn file(&self, path: &str) -> Result<String, String> {
        if path == "/run/secrets/rabbit" {
            Ok("hunter2\n".to_owned())
        } else {
            Err("no such file".to_owned())
        }
    }
}

#[test]
fn no_text_at_all_listens_on_5673_forwards_to_5672_and_changes_nothing() {
    let config = Config::parse("", &Nothing).unwrap();
    assert_eq!(config.listen.amqp.to_string(), "127.0.0.1:5673");
    assert_eq!(config.upstreams.len(), 1);
    assert_eq!(config.upstreams[0].urls[0].shown(), "amqp://127.0.0.1:5672");
    assert!(config.spool.is_none());
}

#[test]
fn all_problems_are_listed_at_once_in_the_order_of_the_file() {
    let text = "[listen]\namqp = 5\n[limits]\nframe_max = 1\nchanel_max = 5\n[log]\nformat = \"xml\"\n";
    let found = problems(text);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("2:8: listen.amqp: expected a string, found the number 5"));
    assert!(found[1].starts_with("4:13: limits.frame_max: expected 8192 to"));
    assert!(found[2].starts_with("5:1: limits.chanel_max: unknown key; did you mean `channel_max`?"));
    assert!(found[3].starts_with("7:10: log.format: expected \"text\" or \"json\", found \"xml\""));
}

#[test]
fn an_unknown_section_and_a_key_that_is_like_no_other_are_named() {
    one("[lisen]\n", "1:2: lisen:", "did you mean `listen`?");
    one("[log]\nbanana = 1\n", "2:1: log.banana:", "known here: format, level");
}

#[test]
fn what_is_not_toml_is_placed_too() {
    let found = problems("[listen]\namqp = \n[log]\nlevel = \"info\"\n");
    assert!(found[0].starts_with("2:8: not TOML"), "{found:#?}");
}

#[test]
fn a_bad_address_is_named_and_so_is_one_that_is_used_twice() {
    one("[listen]\namqp = \"localhost\"\n", "2:8: listen.amqp:", "an address and a port");
    one(
        "[listen]\namqp = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:1\"\n",
        "3:9: listen.admin:",
        "another address",
    );
    assert!(Config::parse("[listen]\nadmin = \"\"\n", &Nothing).unwrap().listen.admin.is_none());
}

#[test]
fn what_is_said_of_client_certificates_needs_an_authority() {
    let tls = "[listen.tls]\ncert = \"/c\"\nkey = \"/k\"\n";
    one(&format!("{tls}login_from = \"dns\"\n"), "4:14: listen.tls.login_from:", "without `client_ca`");
    one(
        &format!("{tls}client_cert = \"optional\"\n"),
        "4:15: listen.tls.client_cert:",
        "without `client_ca`",
    );
    let read = Config::parse(&format!("{tls}client_ca = \"/ca\"\nlogin_from = \"uri\"\n"), &Nothing).unwrap();
    assert_eq!(read.listen.tls.unwrap().login_from, umbel::config::LoginFrom::Uri);
}

#[test]
fn tls_needs_its_certificate_and_key() {
    let found = problems("[listen.tls]\nclient_ca = \"/ca.pem\"\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].starts_with("1:2: listen.tls: expected `cert`") || found[0].starts_with("1:1"),
        "{found:#?}"
    );
    one(
        "[upstreams.default]\ntls = { cert = \"/c\" }\nurls = [\"amqps://h\"]\n",
        "2:7: upstreams.default.tls:",
        "together",
    );
    one(
        "[upstreams.default]\ntls = { ca = \"/c\" }\n",
        "2:7: upstreams.default.tls:",
        "no url of this upstream is amqps",
    );
}

#[test]
fn files_of_tls_that_cannot_be_used_are_named_where_they_are_asked_for() {
    struct World;
    impl Surroundings for World {
        fn env(&self, _: &str) -> Option<String> {
            None
        }
        fn file(&self, path: &str) -> Result<String, String> {
            Ok(if path == "/empty" { "\n".to_owned() } else { "x".to_owned() })
        }
        fn server_tls(&self, tls: &umbel::config::ServerTls) -> Result<(), String> {
            Err(format!("{}: no such file", tls.cert))
        }
        fn client_tls(&self, tls: &umbel::config::ClientTls) -> Result<(), String> {
            Err(format!("{}: no certificate in it", tls.ca.as_deref().unwrap_or_default()))
        }
    }
    let problem = |text: &str| Config::parse(text, &World).unwrap_err().to_string();
    let server = "[listen.tls]\ncert = \"/c\"\nkey = \"/k\"\n";
    assert_eq!(problem(server), "1:1: listen.tls: /c: no such file");
    let client = "[upstreams.default]\ntls = { ca = \"/ca\" }\nurls = [\"amqps://h\"]\n";
    assert_eq!(problem(client), "2:7: upstreams.default.tls: /ca: no certificate in it");
    let empty = "[upstreams.default]\nurls = [\"amqp://u@h\"]\npassword_file = \"/empty\"\n";
    assert_eq!(problem(empty), "3:17: upstreams.default.password_file: /empty is empty");
}

#[test]
fn an_exchange_type_that_a_broker_would_end_the_connection_for_is_named() {
    one(
        "[policy]\ndefault_exchange_type = \"weird\"\n",
        "2:25: policy.default_exchange_type:",
        "expected direct",
    );
    let queue =
        |kind: &str| format!("[[task_queues]]\nname = \"q\"\nexchange = \"e\"\nexchange_type = \"{kind}\"\n");
    one(&queue("direkt"), "4:17: task_queues[1].exchange_type:", "found \"direkt\"");
    assert!(problems(&queue("x-delayed-message")).is_empty());
    one("[policy]\ndefault_queue = \"\"\n", "2:17: policy.default_queue:", "expected a name");
}

#[test]
fn a_bad_url_is_named_without_its_password() {
    let text = "[upstreams.default]\nurls = [\"amqp://ok\", \"amqp://bob:hunter2@host:nope\"]\n";
    one(text, "2:22: upstreams.default.urls[2]:", "a port of 1 to 65535");
    assert!(!problems(text)[0].contains("hunter2"));
}

#[test]
fn another_upstream_needs_urls_and_default_must_be_there() {
    let found = problems("[upstreams.eu]\ntier = \"window\"\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().any(|p| p.contains("expected [upstreams.default]")));
    assert!(found.iter().any(|p| p.contains("upstreams.eu: expected `urls`")));
}

#[test]
fn durable_without_a_spool_is_unreachable() {
    one("[upstreams.default]\ntier = \"durable\"\n", "2:8: upstreams.default.tier:", "needs a [spool]");
    assert!(problems("[upstreams.default]\ntier = \"durable\"\n[spool]\npath = \"/x\"\n").is_empty());
}

#[test]
fn a_spool_needs_a_path() {
    one("[spool]\nmax_bytes = \"1GiB\"\n", "1:", "expected `path`");
}

#[test]
fn numbers_durations_and_sizes_out_of_their_range_are_named() {
    one("[upstreams.default]\nlinks = 0\n", "2:9: upstreams.default.links:", "expected 1 to 1024, found 0");
    one("[upstreams.default]\nlinks = 2.5\n", "2:9: upstreams.default.links:", "a whole number");
    one(
        "[upstreams.default]\nconnect_timeout = \"5\"\n",
        "2:19: upstreams.default.connect_timeout:",
        "a duration such as",
    );
    one(
        "[upstreams.default]\nconnect_timeout = \"0s\"\n",
        "2:19: upstreams.default.connect_timeout:",
        "more than nothing",
    );
    one(
        "[upstreams.default]\nheartbeat = \"1500ms\"\n",
        "2:13: upstreams.default.heartbeat:",
        "whole seconds",
    );
    one("[limits]\nmessage_bytes = \"5 XB\"\n", "2:17: limits.message_bytes:", "a size such as");
    one("[upstreams.default.retry]\njitter = 2\n", "2:10: upstreams.default.retry.jitter:", "from 0 to 1");
}

#[test]
fn a_retry_that_would_spin_or_shrink_is_refused() {
    one(
        "[upstreams.default.retry]\ninterval_step = \"0s\"\n",
        "2:17: upstreams.default.retry.interval_step:",
        "never wait",
    );
    one("[upstreams.default.retry]\ninterval_start = \"9s\"\n", "1:", "no less than `interval_start`");
}

#[test]
fn bounds_that_contradict_each_other_are_named() {
    one(
        "[limits]\nconnections = 5\nconnections_per_ip = 6\n",
        "3:22: limits.connections_per_ip:",
        "no more than `connections`",
    );
    one(
        "[limits]\nframe_max = 8192\npreauth_frame_max = 9000\n",
        "3:21: limits.preauth_frame_max:",
        "no more than `frame_max`",
    );
}

#[test]
fn secrets_come_from_the_environment_and_from_files_and_are_never_shown() {
    let text = "[upstreams.default]\nurls = [\"amqp://bob:${PASSWORD}@h\"]\ncredentials = \"configured\"\n";
    let config = Config::parse(text, &World).unwrap();
    assert_eq!(config.upstreams[0].login().unwrap().1.reveal(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));

    let text = "[upstreams.default]\nurls = [\"amqp://bob@h\"]\npassword_file = \"/run/secrets/rabbit\"\n";
    let config = Config::parse(text, &World).unwrap();
    assert_eq!(config.upstreams[0].login().unwrap().1.reveal(), "hunter2");
}

#[test]
fn a_secret_that_is_not_there_is_a_problem_with_its_place() {
    one(
        "[upstreams.default]\nurls = [\"amqp://bob:${NOPE}@h\"]\n",
        "2:9: upstreams.default.urls[1]:",
        "NOPE is not set",
    );
    one(
        "[upstreams.default]\nurls = [\"amqp://bob@h\"]\npassword_file = \"/nope\"\n",
        "3:17: upstreams.default.password_file:",
        "cannot read /nope",
    );
    one("[upstreams.default]\npassword = \"x\"\n", "2:12: upstreams.default.password:", "no effect");
    one(
        "[upstreams.default]\ncredentials = \"configured\"\n",
        "2:15: upstreams.default.credentials:",
        "needs a url with user",
    );
}

/// A rule with this body, after five lines: the body stands on line 6.
fn ruled(body: &str) -> String {
    format!("[upstreams.default]\n\n\n[[rules]]\nname = \"r\"\n{body}\n")
}

#[test]
fn the_repositorys_config_loads_and_is_the_tour_of_every_key() {
    let text = include_str!("../config.toml");
    let config = Config::parse(text, &Nothing).unwrap();
    assert_eq!(config.policy.rules().len(), 4);
    // With its comments taken off it is longer than any one configuration could be; every key that anything asked for stands in it.
    let all: String = text.lines().map(|l| l.strip_prefix("# ").unwrap_or(l)).collect::<Vec<_>>().join("\n");
    for key in Config::keys(&uncommented()) {
        let last = key.rsplit('.').next().unwrap();
        let stands = all.match_indices(last).any(|(at, _)| {
            let (before, after) = (all[..at].chars().last(), all[at + last.len()..].trim_start());
            let word = before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
            word && (after.starts_with('=') || after.starts_with(']') || after.starts_with('.'))
        });
        assert!(stands, "config.toml does not show {key}");
    }
}

/// config.toml with every example live: each key's table is then read, so that the reader names what it knows there.
fn uncommented() -> String {
    let text = include_str!("../config.toml");
    let examples = text.lines().filter(|l| l.starts_with("# [") || l.starts_with("# ") && l.contains(" = "));
    let live = text.lines().filter(|l| !l.starts_with('#'));
    let body: Vec<&str> = live.chain(examples.map(|l| &l[2..])).filter(|l| !l.starts_with("urls")).collect();
    body.join("\n")
}

#[test]
fn every_example_in_the_comments_of_the_tour_is_right() {
    struct World;
    impl Surroundings for World {
        fn env(&self, _: &str) -> Option<String> {
            Some("x".to_owned())
        }
        fn file(&self, _: &str) -> Result<String, String> {
            Ok("x".to_owned())
        }
    }
    // The examples stand in the order of the file, so that each key falls into its own section; alternatives are left out, and the
    // live catch-all gets a condition, for an example below speaks of expiry too.
    let alternatives = [
        "password",
        "[upstreams.default.tls",
        "ca ",
        "cert",
        "key ",
        "server_name",
        "client_ca",
        "client_cert",
        "login_from",
        "[listen.tls",
        "credentials",
    ];
    let is_key = |line: &str| {
        line.split(" = ").next().unwrap().trim().chars().all(|c| c.is_ascii_lowercase() || "_.".contains(c))
    };
    let mut text = String::new();
    for line in include_str!("../config.toml").lines() {
        let example =
            line.strip_prefix("# ").filter(|l| l.starts_with('[') || (l.contains(" = ") && is_key(l)));
        let example = example.filter(|l| !alternatives.iter().any(|a| l.starts_with(a)));
        text.push_str(example.unwrap_or(line));
        text.push('\n');
    }
    let text = text.replace(
        "expiry = { action = \"revoke\" }",
        "match = { task = \"x\" }\nexpiry = { action = \"revoke\" }",
    );
    if let Err(problems) = Config::parse(&text, &World) {
        panic!("{}", problems.in_file("config.toml"));
    }
}

#[test]
fn a_rule_that_says_nothing_or_something_unknown_is_named() {
    one(&ruled("match = { task = \"a\" }"), "4:1: rules[1]:", "says nothing");
    one(&ruled("priority = { maximum = 3, max = 3 }"), "6:14: rules[1].priority.maximum:", "unknown key");
    one(
        &ruled("match = { taks = \"a\" }\npriority = 3"),
        "6:11: rules[1].match.taks:",
        "did you mean `task`?",
    );
    one(&ruled("priority = { }"), "6:12: rules[1].priority:", "says nothing");
    one(&ruled("compression = { }"), "6:15: rules[1].compression:", "says nothing");
    one(&ruled("route = { }"), "6:9: rules[1].route:", "says nothing");
    one(&ruled("admission = { }"), "6:13: rules[1].admission:", "expected `action`");
}

#[test]
fn a_bad_pattern_address_or_number_in_a_match_is_placed() {
    one(
        &ruled("priority = 3\nmatch = { task = { regex = \"(\" } }"),
        "7:28: rules[1].match.task.regex:",
        "bad regex",
    );
    one(
        &ruled("priority = 3\nmatch = { task = [\"a\", 5] }"),
        "7:24: rules[1].match.task[2]:",
        "expected a string",
    );
    one(&ruled("priority = 3\nmatch = { task = [] }"), "7:18: rules[1].match.task:", "at least one");
    one(
        &ruled("priority = 3\nmatch = { client = \"10.0.0.0/99\" }"),
        "7:20: rules[1].match.client:",
        "an address or a network",
    );
    one(&ruled("priority = 3\nmatch = { priority = 256 }"), "7:22: rules[1].match.priority:", "0 to 255");
    one(
        &ruled("priority = 3\nmatch = { size_over = 5, size_under = 6 }"),
        "7:39: rules[1].match.size_under:",
        "nothing is over 5 and under 6",
    );
    one(
        &ruled("priority = 3\nmatch = { priority = { min = 5, max = 2 } }"),
        "7:39: rules[1].match.priority.max:",
        "no less than `min`",
    );
    one(&ruled("priority = 3\nmatch = { protocol = 3 }"), "7:22: rules[1].match.protocol:", "1 to 2");
}

#[test]
fn priorities_that_contradict_themselves_are_named() {
    one(&ruled("priority = 256"), "6:12: rules[1].priority:", "0 to 255");
    one(&ruled("priority = { min = 5, max = 4 }"), "6:29: rules[1].priority.max:", "no less than `min`");
    one(&ruled("priority = { set = 5, max = 4 }"), "6:29: rules[1].priority.max:", "no effect beside `set`");
    one(&ruled("priority = { default = 5, max = 4 }"), "6:24: rules[1].priority.default:", "outside");
    one(&ruled("priority = { map = { x = 4 } }"), "6:26: rules[1].priority.map.x:", "0 to 255 as the key");
}

#[test]
fn dead_letter_without_a_place_is_unreachable() {
    let text = ruled("expiry = { action = \"dead-letter\" }");
    one(&text, "6:21: rules[1].expiry.action:", "needs a [dead_letter]");
    one(
        &ruled("admission = { action = \"dead-letter\" }"),
        "6:24: rules[1].admission.action:",
        "needs a [dead_letter]",
    );
    one(
        "[upstreams.default]\nmandatory = \"dead-letter\"\n",
        "2:13: upstreams.default.mandatory:",
        "needs a [dead_letter]",
    );
    assert!(problems(&(text + "[dead_letter]\nqueue = \"dead\"\n")).is_empty());
    one("[dead_letter]\nupstream = \"default\"\n", "1:", "expected `queue`");
    one(
        &ruled("expiry = { dead_letter = { queue = \"q\" } }"),
        "6:26: rules[1].expiry.dead_letter:",
        "no effect",
    );
}

#[test]
fn expiry_that_contradicts_itself_is_named() {
    one(
        &ruled("expiry = { action = \"revok\" }"),
        "6:21: rules[1].expiry.action:",
        "did you mean \"revoke\"?",
    );
    one(
        &ruled("expiry = { default = \"2h\", max = \"1h\" }"),
        "6:22: rules[1].expiry.default:",
        "no more than `max`",
    );
    one(&ruled("expiry = { default = \"0s\" }"), "6:22: rules[1].expiry.default:", "more than nothing");
}

#[test]
fn a_codec_that_kombu_does_not_have_is_named() {
    one(
        &ruled("compression = { codec = \"snappy\" }"),
        "6:25: rules[1].compression.codec:",
        "zlib, bzip2, lzma, brotli, zstd",
    );
    one(
        "[[task_routes]]\ntask = \"a\"\ncompression = \"snappy\"\n",
        "3:15: task_routes[1].compression:",
        "zlib",
    );
}

#[test]
fn an_admission_rule_without_effect_is_named() {
    one(
        &ruled("admission = { action = \"allow\", rate = 5 }"),
        "6:40: rules[1].admission.rate:",
        "no effect",
    );
    one(
        &ruled("admission = { action = \"drop\", burst = 5 }"),
        "6:40: rules[1].admission.burst:",
        "without `rate`",
    );
    one(
        &ruled("admission = { action = \"drop\", rate = 0 }"),
        "6:39: rules[1].admission.rate:",
        "more than nothing",
    );
}

#[test]
fn only_admission_may_speak_of_what_is_no_task() {
    one(
        &ruled("match = { traffic = \"other\" }\npriority = 3"),
        "7:12: rules[1].priority:",
        "only tasks have one",
    );
    one(
        &ruled("match = { traffic = \"other\", task = \"a\" }\nadmission = { action = \"drop\" }"),
        "6:37: rules[1].match.task:",
        "never holds",
    );
}

#[test]
fn a_rule_after_a_catch_all_that_speaks_of_the_same_is_never_reached() {
    let text = "[[rules]]\nname = \"all\"\npriority = 3\n\n[[rules]]\nname = \"some\"\nmatch = { task = \"a\" }\npriority = 5\n";
    one(text, "8:12: rules[2].priority:", "rules[1] \"all\" matches first and speaks of priority");
    let covered = "[[rules]]\nname = \"a\"\nmatch = { task = \"a.*\" }\npriority = 3\n[[rules]]\nname = \"b\"\nmatch = { task = \"a.x\" }\npriority = 5\n";
    one(covered, "8:12: rules[2].priority:", "never reached");
    let other_aspect = text.replace("priority = 5", "route = \"q\"");
    assert!(problems(&other_aspect).is_empty());
    let observed = text.replacen("priority = 3", "priority = 3\ndry_run = true", 1);
    assert!(problems(&observed).is_empty(), "a rule in dry run stands in nobody's way");
}

#[test]
fn two_rules_of_one_name_are_named() {
    let text = "[[rules]]\nname = \"a\"\nmatch = { task = \"x\" }\npriority = 3\n[[rules]]\nname = \"a\"\nmatch = { task = \"y\" }\npriority = 3\n";
    one(text, "6:8: rules[2].name:", "two rules are called \"a\"");
}

#[test]
fn a_route_to_an_upstream_that_is_not_there_is_named() {
    one(
        &ruled("route = { upstream = \"eu\" }"),
        "6:22: rules[1].route.upstream:",
        "no such upstream: there is default",
    );
    one(
        "[[task_routes]]\ntask = \"a\"\nupstream = \"eu\"\n",
        "3:12: task_routes[1].upstream:",
        "no such upstream",
    );
}

#[test]
fn a_route_that_can_never_move_anything_or_would_lose_tasks_is_named() {
    one(
        &ruled("match = { queue = \"old\" }\nroute = \"new\""),
        "7:9: rules[1].route:",
        "add `override = true`",
    );
    one(
        &ruled("match = { queue = \"old\" }\nroute = { queue = \"new\" }"),
        "7:9: rules[1].route:",
        "add `override = true`",
    );
    one(&ruled("route = { exchange = \"amq.direct\" }"), "6:9: rules[1].route:", "publishes to nowhere");
    one(&ruled("route = { keep = true, queue = \"q\" }"), "6:18: rules[1].route.keep:", "nothing beside");
    one(
        &ruled("route = { split = [{ queue = \"q\" }] }"),
        "6:20: rules[1].route.split[1]:",
        "expected `weight`",
    );
    one(&ruled("route = { queue = \"\" }"), "", "expected a name");
}

#[test]
fn a_dead_letter_queue_that_is_missing_and_may_not_be_created_is_named_and_a_route_to_one_is_looked_for() {
    let policy = "[policy]\ncreate_missing_queues = false\n";
    let dead = format!("{policy}[dead_letter]\nqueue = \"nope\"\n");
    one(&dead, "4:9: dead_letter.queue:", "missing from [[task_queues]]");
    let route = format!("{policy}[[task_routes]]\ntask = \"a\"\nqueue = \"nope\"\n");
    assert!(problems(&route).is_empty(), "workers may have made it: it is looked for when a task goes there");
}

#[test]
fn task_routes_that_can_never_be_asked_are_named() {
    let route = |task: &str| format!("[[task_routes]]\ntask = \"{task}\"\nqueue = \"q\"\n");
    one(&(route("a") + &route("a")), "5:8: task_routes[2].task:", "never reached: task_routes[1]");
    one(&(route("*") + &route("*")), "5:8: task_routes[2].task:", "never reached: task_routes[1]");
    assert!(problems(&(route("*") + &route("a.*"))).is_empty(), "Celery loads that, and so must we");
    one("[[task_routes]]\nqueue = \"q\"\n", "1:1: task_routes[1]:", "expected `task`");
    one(
        "[[task_routes]]\ntask = \"a\"\nqueue = \"q\"\nexpires = 60\n",
        "4:11: task_routes[1].expires:",
        "TypeError",
    );
}

#[test]
fn queues_are_defined_once_and_with_a_name() {
    one(
        "[[task_queues]]\nname = \"a\"\n[[task_queues]]\nname = \"a\"\n",
        "4:8: task_queues[2].name:",
        "defined twice",
    );
    one("[[task_queues]]\ntype = \"quorum\"\n", "1:1: task_queues[1]:", "expected `name`");
    one(
        "[[task_queues]]\nname = \"a\"\nexchange_type = \"topic\"\n",
        "3:17: task_queues[1].exchange_type:",
        "without `exchange`",
    );
}

#[test]
fn a_durable_rule_needs_a_spool() {
    one(&ruled("tier = \"durable\""), "6:8: rules[1].tier:", "needs a [spool]");
}

#[test]
fn no_text_makes_the_reader_panic_cut_anywhere_or_nested_deep() {
    let text = include_str!("../config.toml");
    for cut in (0..text.len()).step_by(11).filter(|at| text.is_char_boundary(*at)) {
        let _ = Config::parse(&text[..cut], &World);
        let _ = Config::parse(&text[cut..], &World);
    }
    let deep = [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{ b = ".repeat(100_000)),
        "[a.".repeat(50_000),
    ];
    for hostile in deep {
        assert!(!problems(&hostile).is_empty());
    }
}
