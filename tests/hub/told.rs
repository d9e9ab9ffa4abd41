//! What clients are told, and what they are not: blocked, returned, closed (SPEC D4, D6, T5).

use umbel::session::UpstreamSettings;
use umbel::wire::frame::{ChannelId, FrameKind, write_body, write_frame};
use umbel::wire::method::{MethodId, MethodWriter};

use super::stage::{Stage, upstream};
use crate::kit;

fn blocked() -> Vec<u8> {
    MethodWriter::new(MethodId::CONNECTION_BLOCKED).shortstr(b"low on memory").done()
}

#[test]
fn a_client_that_was_told_blocked_is_told_unblocked_when_its_link_dies() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    let lid = s.link();
    s.say(lid, 0, &blocked());
    assert_eq!(s.client_methods(sid), [MethodId::CONNECTION_BLOCKED]);
    s.cut(lid);
    assert_eq!(s.client_methods(sid), [MethodId::CONNECTION_UNBLOCKED]);
    s.later(1_000);
    let lid = s.link();
    s.say(lid, 0, &blocked());
    assert_eq!(s.client_methods(sid), [MethodId::CONNECTION_BLOCKED], "the next link says so again");
}

#[test]
fn a_client_that_comes_to_a_blocked_link_is_told_so_and_told_when_that_ends_though_its_lease_went_back() {
    let mut s = Stage::new(vec![UpstreamSettings { lease_idle_ms: 1_000, ..upstream() }]);
    let (first, second) = (s.client("pw"), s.client("pw"));
    s.publish(first, "", "q", false, "1");
    let lid = s.link();
    s.say(lid, 1, &kit::ack(1, false));
    s.say(lid, 0, &blocked());
    s.publish(second, "", "q", false, "2");
    assert_eq!(s.client_methods(second), [MethodId::CONNECTION_BLOCKED]);
    s.later(3_000);
    s.say(lid, 0, &kit::bare(MethodId::CONNECTION_UNBLOCKED));
    for sid in [first, second] {
        assert_eq!(s.client_methods(sid).last(), Some(&MethodId::CONNECTION_UNBLOCKED));
    }
}

#[test]
fn a_confirm_of_more_than_was_published_on_a_client_s_own_channel_settles_what_was() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.client_method(sid, 1, &MethodWriter::new(MethodId::CONFIRM_SELECT).octet(0).done());
    let consume = MethodWriter::new(MethodId::BASIC_CONSUME).short(0).shortstr(b"amq.rabbitmq.reply-to");
    s.client_method(sid, 1, &consume.shortstr(b"me").octet(2).longstr(b"").done());
    let lid = *s.up().last().unwrap();
    s.say(lid, 1, &MethodWriter::new(MethodId::BASIC_CONSUME_OK).shortstr(b"me").done());
    s.publish(sid, "", "q", false, "1");
    s.client_hears(sid);
    s.say(lid, 1, &kit::ack(u64::MAX, true));
    assert_eq!(s.client_methods(sid), [MethodId::BASIC_ACK]);
}

fn returned(key: &str, name: &str) -> Vec<u8> {
    let mut frames = Vec::new();
    let method = MethodWriter::new(MethodId::BASIC_RETURN)
        .short(312)
        .shortstr(b"NO_ROUTE")
        .shortstr(b"")
        .shortstr(key.as_bytes())
        .done();
    kit::push_method(&mut frames, 1, &method);
    write_frame(&mut frames, FrameKind::Header, ChannelId(1), &kit::header(name, 4));
    write_body(&mut frames, ChannelId(1), b"body", 0);
    frames
}

#[test]
fn what_was_returned_before_its_link_died_is_not_returned_to_its_client_a_second_time() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.publish(sid, "", "nowhere", true, "1");
    s.publish(sid, "", "nowhere", true, "2");
    let lid = s.link();
    s.say_raw(lid, &returned("nowhere", "1"));
    assert_eq!(s.client_methods(sid), [MethodId::BASIC_RETURN]);
    s.cut(lid);
    s.later(500);
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2"]);
    s.say_raw(lid, &returned("nowhere", "1"));
    assert_eq!(s.client_methods(sid), []);
    s.say_raw(lid, &returned("nowhere", "2"));
    let heard = s.client_hears(sid);
    assert_eq!(kit::message_id(&heard[1].payload).as_deref(), Some("2"));
}

#[test]
fn a_channel_that_we_and_the_broker_close_at_once_can_be_opened_again() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::basic_qos(1));
    let own = *s.up().iter().find(|l| s.hub.pinned_link(sid) == Some(**l)).expect("a link of its own");
    assert_eq!(s.heard(own).len(), 1);
    s.say(own, 1, &kit::bare(MethodId::BASIC_QOS_OK));
    // A refused publish closes the channel at the client, and we close it on its own link; the broker closes it, too.
    s.publish(sid, "missing", "q", false, "1");
    let pooled = *s.up().iter().find(|l| **l != own).expect("a shared link");
    let text = "NOT_FOUND - no exchange 'missing' in vhost '/'";
    s.say(pooled, 1, &kit::close(MethodId::CHANNEL_CLOSE, 404, text, MethodId::BASIC_PUBLISH));
    assert_eq!(s.heard(own).iter().filter_map(|f| f.method()).collect::<Vec<_>>(), [MethodId::CHANNEL_CLOSE]);
    s.client_hears(sid);
    s.client_method(sid, 1, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
    s.client_method(sid, 1, &kit::channel_open());
    assert_eq!(s.client_methods(sid), [], "the number is not free yet");
    s.say(own, 1, &kit::close(MethodId::CHANNEL_CLOSE, 406, "PRECONDITION_FAILED", MethodId::BASIC_ACK));
    assert_eq!(s.client_methods(sid), []);
    s.say(own, 1, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
    assert_eq!(s.client_methods(sid), [MethodId::CHANNEL_OPEN_OK]);
}
