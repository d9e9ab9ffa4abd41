//! How channels and connections end: the client's own goodbye, and what stands behind a broker's refusal (SPEC T2, T3, T5).

use umbel::session::{Action, Limits, PassAll};
use umbel::wire::method::MethodId;

use super::stage::{Stage, upstream};
use crate::kit;

fn goodbye() -> Vec<u8> {
    kit::close(MethodId::CONNECTION_CLOSE, 200, "bye", MethodId::NONE)
}

#[test]
fn who_said_goodbye_closes_its_socket_itself_within_half_a_minute() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.client_method(sid, 0, &goodbye());
    assert_eq!(s.client_methods(sid), [MethodId::CONNECTION_CLOSE_OK]);
    s.later(20_000);
    s.client_method(sid, 1, &kit::channel_open());
    s.client_method(sid, 0, &goodbye());
    assert_eq!(
        s.client_methods(sid),
        [MethodId::CONNECTION_CLOSE_OK],
        "what comes behind a goodbye is nothing, but another"
    );
    assert!(!s.hung_up(sid));
    s.later(11_000);
    assert!(s.hung_up(sid));
}

#[test]
fn behind_a_clients_own_connection_close_its_link_says_nothing_more_on_a_channel() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.publish(sid, "none", "q", false, "1");
    let pooled = s.link();
    s.client_method(sid, 1, &kit::basic_qos(1));
    s.later(2_000);
    let own = s.up().into_iter().find(|&l| l != pooled).unwrap();
    assert_eq!(s.methods(own), [MethodId::BASIC_QOS]);
    s.leaves_close_unanswered(own);
    // Longer than anybody waits for what was published: the goodbye goes before the refusal comes.
    s.client_method(sid, 0, &goodbye());
    s.later(2_000);
    assert_eq!(s.methods(own), [MethodId::CONNECTION_CLOSE]);
    s.say(pooled, 1, &missing("none"));
    s.later(100);
    assert_eq!(s.methods(own), []);
}

#[test]
fn a_client_that_was_told_close_and_is_silent_is_found_within_two_of_its_heartbeats() {
    let limits = Limits { close_ms: 60_000, ..Limits::default() };
    let mut s = Stage::with_limits(vec![upstream()], limits);
    let sid = s.client_with_heartbeat("pw", 1);
    // A frame of a type that there is none of.
    s.client_says(sid, &[9, 0, 1, 0, 0, 0, 0, 0xCE]);
    assert_eq!(s.client_methods(sid), [MethodId::CONNECTION_CLOSE]);
    s.later(1_900);
    assert!(!s.hung_up(sid));
    s.later(300);
    assert!(s.hung_up(sid));
}

#[test]
fn who_reads_nothing_of_its_last_words_is_cut_once_however_long_its_socket_takes_to_go() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.client_method(sid, 0, &goodbye());
    s.later(31_000);
    assert!(s.hung_up(sid));
    let mut cuts = 0;
    for _ in 0..2_000 {
        s.now.ms += 100;
        s.hub.tick(s.now, &mut PassAll);
        while let Some(action) = s.hub.next_action() {
            cuts += usize::from(action == Action::Cut(sid));
        }
    }
    assert_eq!(cuts, 1);
}

#[test]
fn a_drain_does_not_wait_for_who_said_goodbye() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.client_method(sid, 0, &goodbye());
    s.hub.drain(s.now);
    s.carry();
    assert!(s.hung_up(sid));
}

fn missing(exchange: &str) -> Vec<u8> {
    let text = format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'");
    kit::close(MethodId::CHANNEL_CLOSE, 404, &text, MethodId::BASIC_PUBLISH)
}

#[test]
fn what_follows_a_refused_publish_to_the_same_exchange_is_refused_with_it_and_the_rest_goes_one_by_one() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    for (exchange, name) in
        [("none", "1"), ("none", "2"), ("", "3"), ("other", "4"), ("none", "5"), ("", "6")]
    {
        s.publish(sid, exchange, "q", false, name);
    }
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2", "3", "4", "5", "6"]);
    s.say(lid, 1, &missing("none"));
    assert_eq!(s.client_methods(sid), [MethodId::CHANNEL_CLOSE]);
    s.client_method(sid, 1, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
    for (name, answer) in [("3", kit::ack(1, false)), ("4", missing("other")), ("6", kit::ack(1, false))] {
        let heard = s.heard(lid);
        let names: Vec<_> = heard.iter().filter_map(|f| kit::message_id(&f.payload)).collect();
        assert_eq!(names, [name], "one that may close the channel under the others is among them");
        let lease = heard.iter().find(|f| f.method() == Some(MethodId::BASIC_PUBLISH)).map(|f| f.channel);
        s.say(lid, lease.unwrap(), &answer);
    }
    assert_eq!(s.hub.unsettled(), 0);
}

#[test]
fn nobody_waits_to_see_what_a_refusal_left_behind() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    for (exchange, name) in [("none", "1"), ("other", "2"), ("", "3")] {
        s.publish(sid, exchange, "q", false, name);
    }
    let lid = s.link();
    s.say(lid, 1, &missing("none"));
    assert_eq!(s.hub.unsettled(), 2);
    let second = s.client("pw");
    s.client_method(second, 1, &kit::queue_declare("seen", 0));
    assert!(s.heard(lid).iter().any(|f| f.method() == Some(MethodId::QUEUE_DECLARE)), "it is asked at once");
}

#[test]
fn what_a_client_says_in_a_transaction_that_a_drain_finds_unbegun_is_not_published_outside_of_it() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "before");
    let lid = s.link();
    // It waits for what was published before it.
    s.client_method(sid, 1, &kit::bare(MethodId::TX_SELECT));
    s.publish(sid, "", "q", false, "within");
    s.hub.drain(s.now);
    s.carry();
    s.publish(sid, "", "q", false, "within, too");
    assert_eq!(s.published(lid), ["before"]);
}

#[test]
fn a_content_that_is_broken_off_on_a_channel_that_is_closing_ends_the_connection_as_rabbitmq_ends_it() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    let whole = kit::publish(1, "", "q", false, "2", b"body", 131_072);
    let method_len = 7 + usize::from(whole[6]) + 1;
    let closing = |s: &mut Stage| {
        s.publish(sid, "none", "q", false, "1");
        let lid = s.link();
        s.say(lid, 1, &missing("none"));
        assert_eq!(s.client_methods(sid), [MethodId::CHANNEL_CLOSE]);
    };
    closing(&mut s);
    // A whole message is thrown away, and so is what is still to come of one.
    s.client_says(sid, &whole);
    s.client_says(sid, &whole[..method_len]);
    s.client_says(sid, &whole[method_len..]);
    s.client_method(sid, 1, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
    s.client_method(sid, 1, &kit::channel_open());
    assert_eq!(s.client_methods(sid), [MethodId::CHANNEL_OPEN_OK]);
    closing(&mut s);
    s.client_says(sid, &whole[..method_len]);
    assert_eq!(s.client_methods(sid), []);
    s.client_method(sid, 1, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
    assert_eq!(s.client_methods(sid), [MethodId::CONNECTION_CLOSE]);
}

#[test]
fn what_stands_behind_the_method_that_a_channel_is_closed_for_is_still_its_content() {
    let limits = Limits { message_bytes: 4, ..Limits::default() };
    let mut s = Stage::with_limits(vec![upstream()], limits);
    let sid = s.client("pw");
    let large = kit::publish(1, "", "q", false, "1", b"large", 131_072);
    s.client_says(sid, &large);
    s.client_says(sid, &large);
    assert_eq!(s.client_methods(sid), [MethodId::CHANNEL_CLOSE]);
    s.client_method(sid, 1, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
    s.client_method(sid, 1, &kit::channel_open());
    assert_eq!(s.client_methods(sid), [MethodId::CHANNEL_OPEN_OK]);
}

#[test]
fn a_content_that_was_refused_for_its_announced_size_may_be_broken_off() {
    let limits = Limits { message_bytes: 4, ..Limits::default() };
    let mut s = Stage::with_limits(vec![upstream()], limits);
    let sid = s.client("pw");
    let large = kit::publish(1, "", "q", false, "1", b"large", 131_072);
    let body_len = 7 + b"large".len() + 1;
    s.client_says(sid, &large[..large.len() - body_len]);
    assert_eq!(s.client_methods(sid), [MethodId::CHANNEL_CLOSE]);
    s.client_method(sid, 1, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
    s.client_method(sid, 1, &kit::channel_open());
    assert_eq!(s.client_methods(sid), [MethodId::CHANNEL_OPEN_OK]);
}
