//! Routes, queues and exchanges that cannot be.

use super::problem::{one, problems, ruled};

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
    one(
        "[[task_queues]]\nname = \"q\"\ntype = \"quorom\"\n",
        "3:8: task_queues[1].type:",
        "expected classic, quorum or stream",
    );
    assert!(problems(&queue("x-delayed-message")).is_empty());
    one("[policy]\ndefault_queue = \"\"\n", "2:17: policy.default_queue:", "expected a name");
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
