//! Where a task goes: its place, what is declared there first, another upstream, and what no queue takes (SPEC P2, D6).

use std::rc::Rc;

use umbel::session::{Judge, Unrouted, UpstreamId};
use umbel::wire::ContentHeader;
use umbel::wire::method::{self, MethodId, MethodWriter};

use super::court::{court, message, names, rule};

#[test]
fn a_route_moves_the_message_and_declares_its_queue_first() {
    let mut court = court(&rule("route = { queue = \"feeds\", override = true }"));
    let message = message("c570-py311-v2-json");
    let edited = court.edited(&message);
    let place = edited.place.unwrap();
    assert_eq!((&place.exchange[..], &place.routing_key[..]), (&b""[..], &b"feeds"[..]));
    assert_eq!((edited.header, edited.body, edited.upstream, edited.watch_return), (None, None, None, false));
    let target = edited.target.unwrap();
    assert_eq!(names(&target.methods), ["exchange.declare", "queue.declare", "queue.bind"]);
    let declare =
        MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(b"feeds").octet(2).longstr(&[]);
    assert_eq!(target.methods[1], declare.done());
    let again = court.edited(&message).target.unwrap();
    assert!(Rc::ptr_eq(&target, &again));
    assert!(
        court.counts(
            r#"umbel_tasks_total{name="proj.tasks.add",rule="r",upstream="default",verdict="edit"} 2"#
        )
    );
    assert!(court.counts(r#"umbel_tasks_queued_total{queue_name="feeds",upstream="default"} 2"#));
    assert!(court.counts(r#"umbel_tasks_rerouted_total{rule="r"} 2"#));
    assert!(court.counts(r#"umbel_rule_matches_total{mode="enforce",rule="r"} 2"#));
}

#[test]
fn a_queue_that_may_not_be_made_is_only_looked_for() {
    let policy = "policy.create_missing_queues = false\n\
                  [[task_queues]]\nname = \"known\"\nno_declare = true\n";
    let mut court = court(&format!("{policy}{}", rule("route = { queue = \"known\", override = true }")));
    let target = court.edited(&message("c570-py311-v2-json")).target.unwrap();
    let look = MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(b"known").octet(1).longstr(&[]);
    assert_eq!(target.methods, [look.done()]);
}

#[test]
fn a_queue_that_nobody_defined_and_nobody_may_make_is_looked_for_alone() {
    let policy = "policy.create_missing_queues = false\n";
    let mut court = court(&format!("{policy}{}", rule("route = { queue = \"theirs\", override = true }")));
    let target = court.edited(&message("c570-py311-v2-json")).target.unwrap();
    let look = MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(b"theirs").octet(1).longstr(&[]);
    assert_eq!(target.methods, [look.done()]);
}

#[test]
fn an_exchange_that_nobody_declares_is_looked_for() {
    let says =
        "route = { exchange = \"audit\", exchange_type = \"topic\", routing_key = \"a.b\", override = true }";
    let mut court = court(&rule(says));
    let target = court.edited(&message("c570-py311-v2-json")).target.unwrap();
    let look = MethodWriter::new(MethodId::EXCHANGE_DECLARE).short(0).shortstr(b"audit").shortstr(b"direct");
    assert_eq!(target.methods, [look.octet(1).longstr(&[]).done()]);
}

#[test]
fn a_delayed_delivery_keeps_its_bits_and_its_exchange_and_the_new_queue_is_bound_to_where_it_comes_out() {
    let mut court = court(&rule("route = { queue = \"later\", override = true }"));
    let message = message("c570-py311-v2-json-delayed-quorum");
    let edited = court.edited(&message);
    let place = edited.place.unwrap();
    assert_eq!(place.exchange, b"celery_delayed_27");
    assert_eq!(place.routing_key[..56], message.routing_key[..56]);
    assert_eq!(place.routing_key[56..], *b"later");
    let target = edited.target.unwrap();
    let bind = MethodWriter::new(MethodId::QUEUE_BIND)
        .short(0)
        .shortstr(b"later")
        .shortstr(b"celery_delayed_delivery")
        .shortstr(b"#.later")
        .octet(0)
        .longstr(&[])
        .done();
    assert_eq!(target.methods.last(), Some(&bind));
}

#[test]
fn another_upstream_is_named_by_its_place_in_the_config_and_gets_the_queue_declared() {
    let policy = "[upstreams.default]\n[upstreams.eu]\nurls = [\"amqp://127.0.0.1:5679\"]\n[upstreams.asia]\nurls = [\"amqp://127.0.0.1:5678\"]\n";
    let says = "route = { upstream = \"eu\", override = true }";
    let mut court = court(&format!("{policy}{}", rule(says)));
    let edited = court.edited(&message("c570-py311-v2-json"));
    assert_eq!(edited.upstream, Some(UpstreamId(2)), "default, asia, eu");
    assert_eq!(edited.target.unwrap().name, "queue vec");
    assert!(
        court.counts(r#"umbel_tasks_total{name="proj.tasks.add",rule="r",upstream="eu",verdict="edit"} 1"#)
    );
}

#[test]
fn unroutable_tasks_are_watched_for_where_the_upstream_says_so_and_nothing_else_is() {
    let mut court = court("[upstreams.default]\nmandatory = \"count\"\n");
    let edited = court.edited(&message("c570-py311-v2-json"));
    assert!(edited.watch_return && edited.place.is_none() && edited.header.is_none());
    assert!(court.passes(&message("c570-py311-nontask-result-rpc-SUCCESS")));
}

#[test]
fn a_task_that_no_queue_takes_is_counted_dead_lettered_or_its_queue_declared_as_its_upstream_says() {
    let task = message("c570-py311-v2-json");
    let unrouted = |mandatory: &str| {
        let policy = format!(
            "[upstreams.default]\nmandatory = \"{mandatory}\"\n[dead_letter]\nqueue = \"dead\"\n[[task_queues]]\nname = \"vec\"\ntype = \"quorum\""
        );
        let mut court = court(&policy);
        assert!(court.edited(&task).watch_return, "it is published mandatory");
        let verdict = court.view(&task, |judge, now, view| judge.unrouted(now, view, UpstreamId(0)));
        (verdict, court)
    };
    assert!(matches!(unrouted("count").0, Unrouted::Counted));
    let (Unrouted::Declare(target), _) = unrouted("declare") else { panic!("a queue to declare") };
    assert_eq!(target.name, "queue vec");
    let (declares, _) = method::split(target.methods.last().unwrap()).unwrap();
    assert!(matches!(declares, MethodId::QUEUE_DECLARE | MethodId::QUEUE_BIND));
    let text = String::from_utf8_lossy(&target.methods.concat()).into_owned();
    assert!(
        text.contains("x-queue-type") && text.contains("quorum"),
        "as the configuration defines it: {text}"
    );
    let (Unrouted::Instead(letters), court) = unrouted("dead-letter") else { panic!("a dead letter") };
    assert_eq!(letters[0].routing_key, b"dead");
    let header = ContentHeader::parse(&letters[0].header).unwrap();
    assert!(String::from_utf8_lossy(header.headers().unwrap().bytes()).contains("unroutable"));
    assert!(court.counts(r#"umbel_messages_dead_lettered_total{reason="unroutable"} 1"#));
}

#[test]
fn weights_split_tasks_about_as_asked() {
    let says =
        "route = { override = true, split = [{ weight = 9, queue = \"a\" }, { weight = 1, queue = \"b\" }] }";
    let mut court = court(&rule(says));
    let task = message("c570-py311-v2-json");
    let to_b = (0..2000).filter(|_| court.edited(&task).place.unwrap().routing_key == b"b").count();
    assert!((140..260).contains(&to_b), "{to_b} of 2000");
    let rendered = court.metrics.render();
    let queued = |queue: &str| {
        let start = format!("umbel_tasks_queued_total{{queue_name=\"{queue}\",upstream=\"default\"}} ");
        rendered.lines().find_map(|l| l.strip_prefix(&start)).unwrap().parse::<usize>().unwrap()
    };
    assert_eq!((queued("a"), queued("b")), (2000 - to_b, to_b));
}
