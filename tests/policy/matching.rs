//! What matches, and what does not match costs nothing (SPEC P1, F3).

use umbel::policy::Memo;

use super::sent::{Sent, policy, rule};

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
