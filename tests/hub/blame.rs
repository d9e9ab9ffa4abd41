//! A broker that ends a shared link for somebody's fault, and one that refuses publishes: who hears of it, who must not (SPEC T3, T5, D4).

use std::collections::BTreeMap;

use umbel::session::LinkId;
use umbel::wire::frame::FrameKind;
use umbel::wire::method::MethodId;

use super::stage::{Stage, upstream};
use crate::kit;

const INTERNAL_ERROR: &str = "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.";

/// The broker ends a link with 541; a second passes.
fn end_with_541(s: &mut Stage, cause: MethodId) {
    let lid = s.link();
    s.say(lid, 0, &kit::close(MethodId::CONNECTION_CLOSE, 541, INTERNAL_ERROR, cause));
    s.later(1_000);
}

#[test]
fn a_method_that_a_broker_ends_the_connection_for_is_its_client_s_alone() {
    let mut s = Stage::new(vec![upstream()]);
    let (culprit, innocent) = (s.client("pw"), s.client("pw"));
    s.publish(innocent, "", "q", false, "1");
    s.client_method(culprit, 1, &kit::queue_declare("transient", 0));
    s.publish(innocent, "", "q", false, "2");
    end_with_541(&mut s, MethodId::QUEUE_DECLARE);
    assert_eq!(
        s.client_methods(culprit),
        [MethodId::CONNECTION_CLOSE],
        "the broker's own words, in their scope"
    );
    assert_eq!(s.client_methods(innocent), [], "nothing has happened to it");
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2"]);
}

#[test]
fn where_two_may_have_done_it_they_are_asked_one_after_the_other() {
    let mut s = Stage::new(vec![upstream()]);
    let (culprit, innocent) = (s.client("pw"), s.client("pw"));
    s.client_method(culprit, 1, &kit::queue_declare("transient", 0));
    s.client_method(innocent, 1, &kit::queue_declare("durable", 2));
    let mut ended = 0;
    // The broker ends the link whenever it sees the bad one, and answers the good one.
    for _ in 0..100 {
        for lid in s.up() {
            for frame in s.heard(lid) {
                if frame.method() != Some(MethodId::QUEUE_DECLARE) || !s.up().contains(&lid) {
                    continue;
                }
                if frame.payload.windows(9).any(|w| w == b"transient") {
                    ended += 1;
                    s.say(
                        lid,
                        0,
                        &kit::close(MethodId::CONNECTION_CLOSE, 541, INTERNAL_ERROR, MethodId::QUEUE_DECLARE),
                    );
                } else {
                    s.say(lid, frame.channel, &kit::queue_declare_ok(b"durable"));
                }
            }
        }
        s.later(100);
    }
    assert_eq!(s.client_methods(culprit), [MethodId::CONNECTION_CLOSE]);
    assert_eq!(s.client_methods(innocent), [MethodId::QUEUE_DECLARE_OK]);
    assert!(ended <= 3, "the link was ended {ended} times");
}

#[test]
fn a_clients_own_link_that_ends_by_its_fault_is_no_upstream_that_is_lost() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    let others = s.up();
    s.client_method(sid, 1, &kit::basic_qos(1));
    s.later(1_000);
    let own = s.up().into_iter().find(|l| !others.contains(l)).unwrap();
    let words = "NOT_ALLOWED - attempt to reuse consumer tag 't'";
    s.say(own, 0, &kit::close(MethodId::CONNECTION_CLOSE, 530, words, MethodId::BASIC_CONSUME));
    assert_eq!(s.client_methods(sid).last(), Some(&MethodId::CONNECTION_CLOSE));
    let look = s.hub.look_upstream(s.hub.upstream_at(0).unwrap()).unwrap();
    assert_eq!(look.last_error, None);
    let parted = s.hub.parted().unwrap();
    assert_eq!((parted.why.as_str(), parted.times), (format!("530 {words}").as_str(), 1));
    assert_eq!(s.hub.parted(), None, "it is told once");
}

#[test]
fn a_broker_that_fails_again_and_again_costs_no_publish() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    for _ in 0..10 {
        end_with_541(&mut s, MethodId::NONE);
        s.later(5_000);
    }
    let lid = s.link();
    assert_eq!(s.published(lid), ["1"], "it is the broker that is ill, as far as anybody knows");
}

#[test]
fn only_what_was_on_a_channel_that_closed_goes_one_by_one_whatever_stands_behind_it() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    for name in ["1", "2", "3"] {
        s.publish(sid, "", "q", false, name);
    }
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2", "3"]);
    // So says a vhost that is being deleted; the default exchange has another name where it is refused.
    let words = "NOT_FOUND - no exchange '' in vhost 'v'";
    s.say(lid, 1, &kit::close(MethodId::CHANNEL_CLOSE, 404, words, MethodId::BASIC_PUBLISH));
    s.later(1_000);
    for name in ["4", "5", "6"] {
        s.publish(sid, "", "q", false, name);
    }
    for (tag, name) in [(1, "1"), (2, "2"), (3, "3")] {
        let heard = s.heard(lid);
        let names: Vec<_> = heard.iter().filter_map(|f| kit::message_id(&f.payload)).collect();
        assert_eq!(names, [name], "any of the three may have been it");
        let lease = heard.iter().find(|f| f.method() == Some(MethodId::BASIC_PUBLISH)).map(|f| f.channel);
        s.say(lid, lease.unwrap(), &kit::ack(tag, false));
    }
    assert_eq!(s.published(lid), ["4", "5", "6"], "none of these was there");
}

#[test]
fn a_nack_that_nobody_would_hear_of_is_tried_again_and_refuses_nothing() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    let lid = s.link();
    assert_eq!(s.published(lid), ["1"]);
    s.say(lid, 1, &kit::nack(1, false));
    s.later(2_000);
    assert_eq!(s.published(lid), ["1"]);
    s.say(lid, 1, &kit::ack(2, false));
    assert_eq!(
        (s.hub.counters.confirmed, s.hub.counters.nacked),
        (1, 0),
        "each publish is settled under one word"
    );
}

/// How often a publish that is nacked each time goes out, where nobody hears of it.
fn sent_in_spite_of_nacks(s: &mut Stage, exchange: &str) -> usize {
    let sid = s.client("pw");
    s.publish(sid, exchange, "q", false, "1");
    let lid = s.link();
    let mut sent = 0;
    for tag in 1..=20 {
        if s.published(lid).is_empty() {
            break;
        }
        sent += 1;
        s.say(lid, 1, &kit::nack(tag, false));
        s.later(1_100);
    }
    sent
}

#[test]
fn a_nacked_publish_that_several_queues_may_be_given_is_not_given_to_them_for_ever() {
    let mut s = Stage::new(vec![upstream()]);
    assert_eq!(sent_in_spite_of_nacks(&mut s, "amq.fanout"), 6, "once, and five times more");
    assert_eq!((s.hub.counters.confirmed, s.hub.counters.nacked), (0, 1), "the broker's word stands");
}

#[test]
fn a_nacked_publish_for_one_queue_goes_again_until_it_is_taken() {
    for exchange in ["", "amq.direct"] {
        let mut s = Stage::new(vec![upstream()]);
        assert_eq!(sent_in_spite_of_nacks(&mut s, exchange), 20, "{exchange:?}");
        assert_eq!((s.hub.counters.confirmed, s.hub.counters.nacked), (0, 0));
    }
}

#[test]
fn what_goes_down_with_a_channel_is_refused_and_a_method_is_no_publish() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    s.client_method(sid, 1, &kit::queue_declare("q", 0));
    for name in ["1", "2"] {
        s.publish(sid, "", "q", false, name);
    }
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2"]);
    s.say(lid, 1, &kit::close(MethodId::CHANNEL_CLOSE, 406, "PRECONDITION_FAILED", MethodId::QUEUE_DECLARE));
    s.later(1_000);
    assert!(s.client_methods(sid).contains(&MethodId::CHANNEL_CLOSE));
    assert_eq!(
        (s.hub.counters.accepted, s.hub.counters.refused()),
        (2, 2),
        "the publishes, not the declaration"
    );
}

/// The last delivery tag of each channel.
type Tags = BTreeMap<(LinkId, u16), u64>;

/// A minute with a broker that ends any link on which it sees `poison`, without saying whose fault that was, and takes everything else:
/// how many links it ended, and how many of those with something else on its way.
fn ends_whatever_carries_poison(s: &mut Stage, tags: &mut Tags, words: bool) -> (usize, usize) {
    let (mut ended, mut shared) = (0, 0);
    for _ in 0..600 {
        for lid in s.up() {
            let heard: Vec<_> = s.heard(lid).into_iter().filter(|f| f.kind == FrameKind::Header).collect();
            let poison = |f: &kit::OwnFrame| kit::message_id(&f.payload).as_deref() == Some("poison");
            if heard.iter().any(poison) {
                ended += 1;
                shared += usize::from(heard.len() > 1);
                // Its number is the next one's.
                tags.retain(|(of, _), _| *of != lid);
                if words {
                    let close = kit::close(MethodId::CONNECTION_CLOSE, 541, "INTERNAL_ERROR", MethodId::NONE);
                    s.say(lid, 0, &close);
                } else {
                    s.cut(lid);
                }
                continue;
            }
            for frame in heard {
                let tag = tags.entry((lid, frame.channel)).or_insert(0);
                *tag += 1;
                s.say(lid, frame.channel, &kit::ack(*tag, false));
            }
        }
        s.later(100);
    }
    (ended, shared)
}

#[test]
fn what_ends_a_shared_link_in_a_way_that_nobody_knows_ends_no_second_one_that_others_share() {
    let mut s = Stage::new(vec![upstream()]);
    let (culprit, innocent) = (s.client("pw"), s.client("pw"));
    s.publish(innocent, "", "q", false, "1");
    s.publish(culprit, "", "q", false, "2");
    let mut tags = Tags::new();
    ends_whatever_carries_poison(&mut s, &mut tags, true);
    s.publish(innocent, "", "q", false, "3");
    s.publish(culprit, "", "q", false, "poison");
    s.publish(innocent, "", "q", false, "4");
    s.publish(culprit, "", "q", false, "5");
    let (ended, shared) = ends_whatever_carries_poison(&mut s, &mut tags, true);
    assert_eq!(shared, 1, "the first one, and no other");
    assert!(ended <= 4, "{ended} links were ended");
    assert_eq!(s.hub.counters.poisoned, 1, "it was found, and is given up");
    assert_eq!(s.hub.counters.confirmed, 5, "everything else has arrived");
    assert_eq!(s.up().len(), 1, "the link for suspects is one of all, or gone");
}

#[test]
fn what_makes_a_broker_hang_up_again_and_again_without_a_word_goes_alone_and_is_not_given_up() {
    let mut s = Stage::new(vec![upstream()]);
    let (culprit, innocent) = (s.client("pw"), s.client("pw"));
    s.publish(innocent, "", "q", false, "1");
    s.publish(culprit, "", "q", false, "poison");
    let (mut shared, mut tags) = (0, Tags::new());
    for n in 0..5 {
        s.publish(innocent, "", "q", false, &n.to_string());
        shared += ends_whatever_carries_poison(&mut s, &mut tags, false).1;
    }
    assert!(shared <= 3, "{shared} links that others share were ended");
    assert_eq!((s.hub.counters.poisoned, s.hub.counters.confirmed), (0, 6));
}
