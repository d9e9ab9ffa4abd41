//! What no queue takes, and routes that lead nowhere (SPEC D6, P9).

use std::cell::RefCell;
use std::rc::Rc;

use umbel::session::{
    Authored, Decision, Edited, Judge, Now, Place, PublishView, Target, Unrouted, UpstreamId,
    UpstreamSettings,
};
use umbel::wire::frame::{ChannelId, FrameKind, write_body, write_frame};
use umbel::wire::method::{MethodId, MethodWriter};

use super::stage::{Door, Stage, upstream};
use crate::kit::{self, OwnFrame};

/// Edits every publish as it is told, and says the same of everything that comes back.
struct Script {
    edit: Box<dyn Fn() -> Edited>,
    unrouted: Box<dyn Fn() -> Unrouted>,
    came_back: Rc<RefCell<Vec<String>>>,
}

impl Judge for Script {
    fn judge(&mut self, _now: Now, _publish: &PublishView<'_>) -> Decision {
        Decision::Edit(Rc::new((self.edit)()))
    }

    fn unrouted(&mut self, _now: Now, publish: &PublishView<'_>, from: UpstreamId) -> Unrouted {
        assert_eq!(from, UpstreamId(0));
        self.came_back.borrow_mut().push(kit::message_id(publish.header_payload).unwrap());
        (self.unrouted)()
    }
}

fn watched() -> Edited {
    Edited { watch_return: true, ..Edited::default() }
}

fn stage(
    upstreams: Vec<UpstreamSettings>,
    edit: impl Fn() -> Edited + 'static,
    unrouted: impl Fn() -> Unrouted + 'static,
) -> (Stage, Rc<RefCell<Vec<String>>>) {
    let mut s = Stage::new(upstreams);
    let came_back = Rc::default();
    s.judge = Box::new(Script {
        edit: Box::new(edit),
        unrouted: Box::new(unrouted),
        came_back: Rc::clone(&came_back),
    });
    (s, came_back)
}

fn returned(name: &str) -> Vec<u8> {
    let mut frames = Vec::new();
    let method = MethodWriter::new(MethodId::BASIC_RETURN)
        .short(312)
        .shortstr(b"NO_ROUTE")
        .shortstr(b"")
        .shortstr(b"q")
        .done();
    kit::push_method(&mut frames, 1, &method);
    write_frame(&mut frames, FrameKind::Header, ChannelId(1), &kit::header(name, 4));
    write_body(&mut frames, ChannelId(1), b"body", 0);
    frames
}

fn target(name: &str) -> Rc<Target> {
    Rc::new(Target { name: name.into(), methods: vec![kit::queue_declare(name, 2)] })
}

/// The channel and the methods that a broker has heard.
fn methods(heard: &[OwnFrame]) -> Vec<(u16, MethodId)> {
    heard.iter().filter_map(|f| f.method().map(|m| (f.channel, m))).collect()
}

#[test]
fn what_comes_back_is_counted_and_the_client_that_did_not_ask_hears_only_its_ack() {
    let (mut s, came_back) = stage(vec![upstream()], watched, || Unrouted::Counted);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    s.publish(sid, "", "q", false, "1");
    let lid = s.link();
    s.say_raw(lid, &returned("1"));
    s.say(lid, 1, &kit::ack(1, false));
    assert_eq!(s.client_methods(sid), [MethodId::CONFIRM_SELECT_OK, MethodId::BASIC_ACK]);
    assert_eq!(*came_back.borrow(), ["1"]);
    assert_eq!((s.hub.counters.returned_watched, s.hub.counters.forwarded), (1, 1));
}

#[test]
fn a_missing_queue_is_declared_and_what_came_back_goes_again_once_in_order_before_what_waits() {
    let (mut s, came_back) = stage(vec![upstream()], watched, || Unrouted::Declare(target("q")));
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    for name in ["1", "2", "3"] {
        s.publish(sid, "", "q", false, name);
    }
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2", "3"]);
    s.say_raw(lid, &returned("1"));
    s.say(lid, 1, &kit::ack(1, false));
    assert_eq!(s.heard(lid), [], "nothing is asked for while more may come back");
    s.publish(sid, "", "q", false, "4");
    s.say_raw(lid, &returned("2"));
    s.say_raw(lid, &returned("3"));
    s.say(lid, 1, &kit::ack(3, true));
    let asked = methods(&s.heard(lid));
    assert_eq!(asked, [(2, MethodId::QUEUE_DECLARE)], "once, on a channel of its own");
    s.say(lid, 2, &kit::queue_declare_ok(b"q"));
    assert_eq!(s.published(lid), ["1", "2", "3", "4"]);
    s.say(lid, 1, &kit::ack(7, true));
    let acks: Vec<MethodId> = s.client_methods(sid).into_iter().skip(1).collect();
    assert_eq!(acks, [MethodId::BASIC_ACK], "one multiple for all four");
    assert_eq!(*came_back.borrow(), ["1", "2", "3"]);
    assert_eq!((s.hub.counters.returned_declared, s.hub.counters.forwarded, s.hub.unsettled()), (3, 4, 0));
}

#[test]
fn what_comes_back_although_its_queue_was_declared_is_not_sent_a_third_time() {
    let (mut s, came_back) = stage(vec![upstream()], watched, || Unrouted::Declare(target("q")));
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    let lid = s.link();
    s.say_raw(lid, &returned("1"));
    s.say(lid, 1, &kit::ack(1, false));
    // The declaration is refused: it goes as it is.
    s.say(lid, 2, &kit::close(MethodId::CHANNEL_CLOSE, 403, "ACCESS_REFUSED", MethodId::QUEUE_DECLARE));
    assert_eq!(s.published(lid), ["1", "1"]);
    s.say_raw(lid, &returned("1"));
    s.say(lid, 1, &kit::ack(2, false));
    assert_eq!(s.published(lid), [""; 0]);
    assert_eq!((came_back.borrow().len(), s.hub.unsettled(), s.hub.counters.forwarded), (1, 0, 1));
}

#[test]
fn a_link_that_dies_between_return_and_confirm_costs_no_task_and_no_second_declaration() {
    let (mut s, _) = stage(vec![upstream()], watched, || Unrouted::Declare(target("q")));
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    let lid = s.link();
    s.say_raw(lid, &returned("1"));
    s.cut(lid);
    s.later(500);
    let lid = s.link();
    assert_eq!(methods(&s.heard(lid)), [(2, MethodId::QUEUE_DECLARE)]);
    s.say(lid, 2, &kit::queue_declare_ok(b"q"));
    assert_eq!(s.published(lid), ["1", "2"]);
    s.say(lid, 1, &kit::ack(2, true));
    assert_eq!(s.hub.unsettled(), 0);
}

#[test]
fn a_dead_letter_carries_the_number_of_the_client_whose_task_came_back() {
    let letter = || {
        Unrouted::Instead(vec![Authored {
            upstream: UpstreamId(0),
            exchange: b"dead".to_vec(),
            routing_key: b"dead".to_vec(),
            header: kit::header("letter", 4),
            body: b"body".to_vec(),
            target: None,
        }])
    };
    let (mut s, _) = stage(vec![upstream()], watched, letter);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    s.publish(sid, "", "q", false, "1");
    let lid = s.link();
    s.say_raw(lid, &returned("1"));
    assert_eq!(s.published(lid), ["1", "letter"]);
    s.say(lid, 1, &kit::ack(1, false));
    assert_eq!(s.client_methods(sid), [MethodId::CONFIRM_SELECT_OK]);
    s.say(lid, 1, &kit::ack(2, false));
    assert_eq!(s.client_methods(sid), [MethodId::BASIC_ACK]);
}

fn elsewhere() -> Edited {
    let place = Place { exchange: Vec::new(), routing_key: b"there".to_vec() };
    Edited {
        upstream: Some(UpstreamId(1)),
        place: Some(place),
        target: Some(target("there")),
        ..Edited::default()
    }
}

fn two() -> Vec<UpstreamSettings> {
    let other = UpstreamSettings { turn_back: true, ..UpstreamSettings::new("other", "127.0.0.1", 5673) };
    vec![upstream(), other]
}

fn link_to(s: &Stage, n: usize) -> umbel::session::LinkId {
    let links = s.hub.look_links(s.now);
    links.iter().find(|l| l.upstream == UpstreamId(n) && l.state == "up").expect("a link there").id
}

#[test]
fn a_route_to_another_upstream_whose_target_is_missing_there_goes_where_it_was_going() {
    let (mut s, _) = stage(two(), elsewhere, || Unrouted::Counted);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    s.publish(sid, "", "here", false, "1");
    let (own, other) = (link_to(&s, 0), link_to(&s, 1));
    assert_eq!(methods(&s.heard(other)), [(2, MethodId::QUEUE_DECLARE)]);
    s.say(
        other,
        2,
        &kit::close(MethodId::CHANNEL_CLOSE, 404, "NOT_FOUND - no queue", MethodId::QUEUE_DECLARE),
    );
    assert_eq!(s.published(other), [""; 0]);
    let heard = s.heard(own);
    let (_, args) = umbel::wire::method::split(&heard[0].payload).unwrap();
    assert_eq!(umbel::wire::method::publish(args).unwrap().routing_key, b"here");
    s.say(own, 1, &kit::ack(1, false));
    assert_eq!(s.client_methods(sid), [MethodId::CONFIRM_SELECT_OK, MethodId::BASIC_ACK]);
    assert_eq!((s.hub.counters.targets_missing, s.hub.counters.routes_turned_back), (1, 1));
}

#[test]
fn a_route_to_an_upstream_that_is_down_turns_back_where_that_is_configured_and_waits_where_not() {
    for turn_back in [true, false] {
        let mut upstreams = two();
        upstreams[1].turn_back = turn_back;
        let (mut s, _) = stage(upstreams, elsewhere, || Unrouted::Counted);
        let sid = s.client("pw");
        s.doors[1] = Door::Shut;
        s.publish(sid, "", "here", false, "1");
        s.later(500);
        s.publish(sid, "", "here", false, "2");
        let own: Vec<String> = s.up().into_iter().flat_map(|l| s.published(l)).collect();
        let expected: &[&str] = if turn_back { &["2"] } else { &[] };
        assert_eq!(own, expected);
        assert_eq!(s.hub.counters.routes_turned_back, u64::from(turn_back));
        s.doors[1] = Door::Opens("pw");
        s.later(2_000);
        let other = link_to(&s, 1);
        s.say(other, 2, &kit::queue_declare_ok(b"there"));
        let expected: &[&str] = if turn_back { &["1"] } else { &["1", "2"] };
        assert_eq!(s.published(other), expected, "what waits for it goes there");
    }
}
