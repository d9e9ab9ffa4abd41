//! Rules that say nothing, contradict themselves or are never reached.

use umbel::config::{Config, Nothing};

use super::problem::{one, problems, ruled};

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
fn a_durable_rule_needs_a_spool() {
    one(&ruled("tier = \"durable\""), "6:8: rules[1].tier:", "needs a [spool]");
}

#[test]
fn a_word_is_a_rule_where_it_says_all_that_there_is_to_say() {
    let letter = "[dead_letter]\nqueue = \"dead\"\n";
    for (word, table) in [
        ("route = \"feeds\"", "route = { queue = \"feeds\" }"),
        ("priority = 7", "priority = { set = 7 }"),
        ("expiry = \"revoke\"", "expiry = { action = \"revoke\" }"),
        ("expiry = \"dead-letter\"", "expiry = { action = \"dead-letter\" }"),
        ("compression = \"gzip\"", "compression = { codec = \"gzip\" }"),
        ("compression = \"none\"", "compression = { codec = \"none\" }"),
        ("admission = \"refuse\"", "admission = { action = \"refuse\" }"),
        ("admission = \"dead-letter\"", "admission = { action = \"dead-letter\" }"),
    ] {
        let read = |body| Config::parse(&(ruled(body) + letter), &Nothing).map(|c| format!("{:?}", c.policy));
        assert_eq!(read(word).unwrap(), read(table).unwrap());
    }
    one(&ruled("expiry = \"revoked\""), "6:10: rules[1].expiry:", "did you mean \"revoke\"?");
    one(&ruled("expiry = \"dead-letter\""), "6:10: rules[1].expiry:", "needs a [dead_letter]");
    one(&ruled("admission = \"dead-letter\""), "6:13: rules[1].admission:", "needs a [dead_letter]");
}

#[test]
fn what_should_be_a_table_is_shown_as_one() {
    one(&ruled("expiry = 5"), "6:10: rules[1].expiry:", "a table such as { action = \"revoke\" }");
    one(&ruled("priority = \"high\""), "6:12: rules[1].priority:", "a table such as { max = 3 }");
    one(
        &ruled("priority = 3\nmatch = \"feeds.*\""),
        "7:9: rules[1].match:",
        "a table such as { task = \"feeds.*\" }",
    );
    one(
        &ruled("priority = 3\nmatch = { headers = \"tenant\" }"),
        "7:21: rules[1].match.headers:",
        "such as { tenant = \"acme\" }",
    );
}
