//! Where a task goes, and how urgently (SPEC P2, P3).

use umbel::policy::{By, Memo};

use super::sent::{Sent, policy, rule};

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
