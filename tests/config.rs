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
