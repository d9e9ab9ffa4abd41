//! What is said of addresses, TLS, upstreams, the spool and the limits.

use umbel::config::{Config, Nothing, Surroundings};

use super::problem::{one, problems};

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
