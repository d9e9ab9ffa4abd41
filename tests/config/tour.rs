//! The repository's config.toml shows every key, and each example in it is right.

use umbel::config::{Config, Nothing, Surroundings};

#[test]
fn the_repositorys_config_loads_and_is_the_tour_of_every_key() {
    let text = include_str!("../../config.toml");
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
    let text = include_str!("../../config.toml");
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
    for line in include_str!("../../config.toml").lines() {
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

/// Keys of these sections that have no default: what the tour shows of them is an example, or says what it means to leave them out.
const EXAMPLES: [&str; 12] = [
    "password",
    "password_file",
    "max_retries",
    "path",
    "max_age",
    "replay_rate",
    "queue_max_priority",
    "default_queue_type",
    "default_exchange",
    "default_routing_key",
    "create_missing_queue_type",
    "create_missing_queue_exchange_type",
];

#[test]
fn what_is_commented_out_in_a_section_shows_its_default_where_there_is_one() {
    let shown = |text: &str| format!("{:?}", Config::parse(text, &Nothing).unwrap());
    let (mut section, mut seen) = (String::new(), 0);
    // Rules, routes and queues are lists: nothing in them is there by default.
    let settings = include_str!("../../config.toml").lines().take_while(|line| *line != "[[rules]]");
    for line in settings {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if bare.starts_with('[') {
            section = bare.to_owned();
            continue;
        }
        let Some((key, _)) = bare.split_once('=').filter(|_| line.starts_with("# ")) else { continue };
        let key = key.trim();
        let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if !is_key || section.contains(".tls]") || EXAMPLES.contains(&key) {
            continue;
        }
        let needed = if section.starts_with("[spool]") { "path = \"/s\"" } else { "" };
        let without = format!("{section}\n{needed}\n");
        assert_eq!(shown(&format!("{without}{bare}\n")), shown(&without), "{section} {bare}");
        seen += 1;
    }
    assert!(seen > 40, "{seen} keys were found");
}
