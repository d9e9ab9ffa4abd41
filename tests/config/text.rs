//! The file as a whole: its syntax, its keys, its secrets.

use umbel::config::{Config, Nothing};

use super::problem::{World, one, problems};

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
fn what_is_not_toml_is_told_before_what_may_come_of_it() {
    let found = problems("[[rules]]\nmatch = { task = \"a\"\nroute = { queue = \"q\" }\n");
    assert!(found[0].starts_with("3:1: not TOML"), "{found:#?}");
    assert!(!found.iter().any(|problem| problem.contains("unknown key")), "{found:#?}");
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

#[test]
fn no_text_makes_the_reader_panic_cut_anywhere_or_nested_deep() {
    let text = include_str!("../../config.toml");
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
