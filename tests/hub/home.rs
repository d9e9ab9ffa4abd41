//! The way home: what a route sent to another upstream, where its target is not to be had, is nowhere without a copy (SPEC D4, P9).

use std::rc::Rc;

use umbel::session::{
    Decision, Edited, Judge, LinkId, Now, Place, PublishView, SessionId, Target, UpstreamId, UpstreamSettings,
};
use umbel::wire::method::{self, MethodId};

use super::stage::{Door, Stage, upstream};
use super::store::Disk;
use crate::kit;

/// Everything goes to a queue of the other upstream.
struct Elsewhere;

impl Judge for Elsewhere {
    fn judge(&mut self, _now: Now, _publish: &PublishView<'_>) -> Decision {
        let target = Target { name: "there".into(), methods: vec![kit::queue_declare("there", 2)] };
        Decision::Edit(Rc::new(Edited {
            upstream: Some(UpstreamId(1)),
            place: Some(Place { exchange: Vec::new(), routing_key: b"there".to_vec() }),
            target: Some(Rc::new(target)),
            ..Edited::default()
        }))
    }
}

/// A client with confirms, whose publish “1” the other upstream has on disk; and its link there, on which the target is asked for.
fn stage(home: UpstreamSettings) -> (Stage, Disk, SessionId, LinkId) {
    let other = UpstreamSettings { durable: true, ..UpstreamSettings::new("other", "127.0.0.1", 5673) };
    let mut s = Stage::new(vec![home, other]);
    let disk = Disk::default();
    s.hub.set_spool(s.now, Box::new(disk.clone()), Vec::new(), None);
    s.judge = Box::new(Elsewhere);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    s.publish(sid, "", "here", false, "1");
    disk.syncs(&mut s);
    assert_eq!(s.client_methods(sid), [MethodId::CONFIRM_SELECT_OK, MethodId::BASIC_ACK], "the disk has it");
    let other = link_to(&s, 1);
    (s, disk, sid, other)
}

fn link_to(s: &Stage, n: usize) -> LinkId {
    let links = s.hub.look_links(s.now);
    links.iter().find(|l| l.upstream == UpstreamId(n) && l.state == "up").expect("a link there").id
}

fn refuse_target(s: &mut Stage, other: LinkId) {
    let asked: Vec<MethodId> = s.heard(other).iter().filter_map(|f| f.method()).collect();
    assert_eq!(asked, [MethodId::QUEUE_DECLARE]);
    let text = "ACCESS_REFUSED - access to queue";
    s.say(other, 2, &kit::close(MethodId::CHANNEL_CLOSE, 403, text, MethodId::QUEUE_DECLARE));
}

#[test]
fn what_comes_home_goes_where_it_was_going_and_leaves_the_disk_with_its_confirm() {
    let (mut s, disk, _, other) = stage(upstream());
    refuse_target(&mut s, other);
    let own = link_to(&s, 0);
    let heard = s.heard(own);
    let (_, args) = method::split(&heard[0].payload).unwrap();
    assert_eq!(method::publish(args).unwrap().routing_key, b"here");
    assert_eq!(s.published(other), [""; 0]);
    s.say(own, 1, &kit::ack(1, false));
    assert_eq!((disk.names_for("default"), disk.names_for("other")), (vec![], vec![]));
    assert_eq!((s.hub.unsettled(), s.hub.counters.routes_turned_back), (0, 1));
}

#[test]
fn a_record_stays_where_it_was_until_the_disk_has_it_at_home() {
    let (mut s, disk, _, other) = stage(upstream());
    refuse_target(&mut s, other);
    assert_eq!((disk.names_for("default"), disk.names_for("other")), (vec!["1".into()], vec!["1".into()]));
    disk.syncs(&mut s);
    assert_eq!((disk.names_for("default"), disk.names_for("other")), (vec!["1".into()], vec![]));
}

#[test]
fn a_record_stays_where_it_was_until_the_home_broker_confirms_where_the_disk_fails_on_the_way() {
    for fails_late in [false, true] {
        let (mut s, disk, _, other) = stage(upstream());
        disk.is_ill(!fails_late);
        refuse_target(&mut s, other);
        disk.fails(&mut s);
        assert_eq!(disk.names_for("other"), ["1"], "it was acked, and nothing else has it on disk");
        let own = link_to(&s, 0);
        assert_eq!(s.published(own), ["1"]);
        s.say(own, 1, &kit::ack(1, false));
        assert_eq!((disk.names_for("default"), disk.names_for("other")), (vec![], vec![]));
    }
}

#[test]
fn what_comes_home_to_a_full_window_goes_to_disk_there_and_is_on_disk_here_until_then() {
    let (mut s, disk, sid, other) = stage(UpstreamSettings { window_messages: 1, ..upstream() });
    s.doors[0] = Door::Shut;
    for lid in s.up().into_iter().filter(|lid| *lid != other) {
        s.cut(lid);
    }
    s.judge = Box::new(umbel::session::PassAll);
    s.publish(sid, "", "here", false, "0");
    refuse_target(&mut s, other);
    assert_eq!(s.hub.unsettled(), 1, "memory has what the window takes");
    disk.fails(&mut s);
    assert_eq!((disk.names_for("default"), disk.names_for("other")), (vec![], vec!["1".into()]));
    disk.is_ill(false);
    s.doors[0] = Door::Opens("pw");
    s.later(3_000);
    let own = link_to(&s, 0);
    assert_eq!(s.published(own), ["0"]);
    s.say(own, 1, &kit::ack(1, false));
    s.later(1_000);
    assert_eq!(s.published(own), ["1"]);
    assert_eq!(disk.names_for("other"), ["1"], "until it is confirmed");
    for channel in [1, 2] {
        s.say(own, channel, &kit::ack(if channel == 1 { 2 } else { 1 }, false));
    }
    assert_eq!((disk.names_for("default"), disk.names_for("other")), (vec![], vec![]));
    assert_eq!(s.client_methods(sid), [MethodId::BASIC_ACK], "of 0: 1 has had its own");
}

/// Home has a window of one, which is full, and no disk; what the client publishes from now on goes elsewhere first.
fn full_at_home(confirms: bool) -> (Stage, SessionId, LinkId) {
    let home = UpstreamSettings { window_messages: 1, ..upstream() };
    let mut s = Stage::new(vec![home, UpstreamSettings::new("other", "127.0.0.1", 5673)]);
    let sid = s.client("pw");
    if confirms {
        s.client_method(sid, 1, &kit::confirm_select());
    }
    s.publish(sid, "", "here", false, "0");
    s.judge = Box::new(Elsewhere);
    s.publish(sid, "", "here", false, "1");
    s.publish(sid, "", "here", false, "2");
    s.client_methods(sid);
    let other = link_to(&s, 1);
    (s, sid, other)
}

#[test]
fn what_comes_home_to_a_full_window_without_a_disk_is_nacked() {
    let (mut s, sid, other) = full_at_home(true);
    assert_eq!(s.hub.unsettled(), 3);
    refuse_target(&mut s, other);
    assert_eq!(s.hub.unsettled(), 1, "memory has what the window takes");
    let nacks: Vec<Vec<u8>> = s.client_hears(sid).into_iter().map(|f| f.payload).collect();
    assert_eq!(nacks, [kit::nack(2, false), kit::nack(3, false)]);
    // What is known to be missing is not waited for: the same is said at once.
    s.publish(sid, "", "here", false, "3");
    assert_eq!(s.client_methods(sid), [MethodId::BASIC_NACK]);
    assert_eq!((s.hub.unsettled(), s.hub.counters.refused_window), (1, 3));
    assert_eq!(s.hub.counters.in_flight(), 1);
}

#[test]
fn who_uses_no_confirms_is_closed_when_what_comes_home_finds_no_room() {
    let (mut s, sid, other) = full_at_home(false);
    refuse_target(&mut s, other);
    s.later(100);
    assert_eq!(s.client_methods(sid), [MethodId::CONNECTION_CLOSE], "once");
    assert_eq!((s.hub.unsettled(), s.hub.counters.refused_window), (1, 2));
}

#[test]
fn what_comes_home_for_a_client_that_has_gone_stays_although_the_window_is_full() {
    let (mut s, sid, other) = full_at_home(false);
    s.client_leaves(sid);
    refuse_target(&mut s, other);
    assert_eq!((s.hub.unsettled(), s.hub.counters.refused_window), (3, 0));
    let own = link_to(&s, 0);
    assert_eq!(s.published(own), ["0", "1", "2"]);
}
