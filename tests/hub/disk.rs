//! A disk that gives back what it was given: nothing is lost, sent twice or overtaken by what came later (SPEC D4, D7, D8).

use std::collections::BTreeMap;

use umbel::session::{Retry, Rounds, UpstreamSettings};
use umbel::wire::frame::FrameKind;

use super::stage::{Door, Stage, upstream};
use super::store::Disk;
use crate::kit;

fn stage(settings: UpstreamSettings) -> (Stage, Disk) {
    let mut s = Stage::new(vec![settings]);
    let disk = Disk::default();
    s.hub.set_spool(s.now, Box::new(disk.clone()), Vec::new(), None);
    (s, disk)
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

#[test]
fn what_the_disk_gives_back_at_the_end_of_a_drain_is_still_in_memory_and_nowhere_twice() {
    let (mut s, disk) = stage(upstream());
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2"]);
    s.hub.drain(s.now);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    assert_eq!(disk.names(true), ["1", "2"]);
    disk.fails(&mut s);
    assert_eq!(s.hub.spool_the_rest(s.now), 2, "in memory only");
    s.say(lid, 1, &kit::ack(1, false));
    disk.is_ill(false);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    assert_eq!((disk.names(true), disk.names(false)), (owned(&["2"]), vec![]));
}

#[test]
fn what_the_disk_gave_back_is_written_before_what_came_after_it_and_waited() {
    let (mut s, disk) = stage(UpstreamSettings { window_messages: 1, ..upstream() });
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    disk.syncs(&mut s);
    let lid = s.link();
    s.say(lid, 1, &kit::ack(1, false));
    s.publish(sid, "", "q", false, "3");
    disk.fails(&mut s);
    s.publish(sid, "", "q", false, "4");
    disk.is_ill(false);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    assert_eq!((disk.names(true), disk.names(false)), (vec![], owned(&["2", "3", "4"])));
}

#[test]
fn what_the_writer_has_no_room_for_is_handed_over_when_nothing_else_comes() {
    let (mut s, disk) = stage(UpstreamSettings { durable: true, ..upstream() });
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    disk.is_busy(true);
    s.publish(sid, "", "q", false, "1");
    s.hub.flush_spool();
    let before = disk.flushed();
    disk.is_busy(false);
    s.hub.flush_spool();
    assert_eq!(disk.flushed(), before + 1, "it is asked again, though nothing is new");
    s.hub.flush_spool();
    assert_eq!(disk.flushed(), before + 1, "and then no more");
}

#[test]
fn a_record_that_moves_ahead_stays_where_it_was_until_it_is_written_there() {
    let (mut s, disk) = stage(UpstreamSettings { durable: true, ..upstream() });
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    disk.syncs(&mut s);
    disk.is_ill(true);
    s.publish(sid, "", "q", false, "2");
    disk.is_ill(false);
    s.hub.drain(s.now);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    assert_eq!((disk.names(true), disk.names(false)), (owned(&["1", "2"]), owned(&["1"])));
    disk.fails(&mut s);
    assert_eq!((disk.names(true), disk.names(false)), (vec![], owned(&["1"])));
    disk.is_ill(false);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    disk.syncs(&mut s);
    s.hub.flush_spool();
    assert_eq!((disk.names(true), disk.names(false)), (owned(&["1", "2"]), vec![]));
}

#[test]
fn a_durable_publish_that_its_broker_did_not_take_is_not_read_from_disk_while_it_waits_to_go_again() {
    let (mut s, disk) = stage(UpstreamSettings { durable: true, window_messages: 2, ..upstream() });
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    disk.syncs(&mut s);
    s.publish(sid, "", "q", false, "3");
    disk.fails(&mut s);
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2"]);
    s.say(lid, 1, &kit::ack(2, false));
    s.publish(sid, "", "q", false, "4");
    s.say(lid, 1, &kit::nack(1, false));
    disk.is_ill(false);
    let mut heard = Vec::new();
    let mut tags = BTreeMap::from([(1, 2)]);
    for _ in 0..40 {
        s.later(100);
        disk.reads(&mut s);
        for frame in s.heard(lid) {
            if frame.kind == FrameKind::Header {
                heard.push(kit::message_id(&frame.payload).unwrap());
                let tag = tags.entry(frame.channel).or_insert(0);
                *tag += 1;
                s.say(lid, frame.channel, &kit::ack(*tag, false));
            }
        }
    }
    assert_eq!(heard, ["1", "3", "4"], "each of them once");
    assert_eq!(s.hub.unsettled(), 0);
}

#[test]
fn where_some_of_a_lane_is_on_disk_already_and_the_disk_fills_when_retries_end_none_of_it_overtakes_the_rest()
{
    let retry = Retry { interval_max_ms: 200, max_retries: Some(1), ..Retry::default() };
    let (mut s, disk) = stage(UpstreamSettings { durable: true, retry, ..upstream() });
    let sid = s.client("pw");
    s.doors[0] = Door::Shut;
    let lid = s.link();
    s.cut(lid);
    for (name, takes) in [("1", false), ("2", true), ("3", false), ("4", true)] {
        disk.is_ill(!takes);
        s.publish(sid, "", "q", false, name);
    }
    s.client_leaves(sid);
    disk.syncs(&mut s);
    disk.takes_at_once(1);
    s.later(3_000);
    assert_eq!((disk.names(true), disk.names(false)), (owned(&["1"]), owned(&["2", "4"])));
    s.doors[0] = Door::Opens("pw");
    let (mut heard, mut tag) = (Vec::new(), 0);
    for _ in 0..40 {
        s.later(100);
        disk.syncs(&mut s);
        disk.reads(&mut s);
        for lid in s.up() {
            for name in s.published(lid) {
                heard.push(name);
                tag += 1;
                s.say(lid, 1, &kit::ack(tag, false));
            }
        }
    }
    assert_eq!(heard, ["1", "2", "3", "4"], "each of them once, in order");
    assert_eq!((s.hub.unsettled(), disk.names(true), disk.names(false)), (0, vec![], vec![]));
}

/// What is left goes to disk in rounds, as at the end of a drain; how much could not.
fn keep_the_rest(s: &mut Stage, disk: &Disk, mut works: impl FnMut(&Disk, &mut Stage)) -> (u64, u32) {
    let mut rounds = Rounds::default();
    for round in 1..20 {
        let left = s.hub.spool_the_rest(s.now);
        let nothing_new = disk.is_settled();
        works(disk, s);
        if rounds.is_over(left, nothing_new) {
            return (left, round);
        }
    }
    panic!("the rounds never end");
}

#[test]
fn what_is_left_when_a_drain_is_over_goes_to_a_disk_that_takes_a_little_at_a_time_all_of_it_in_order() {
    let (mut s, disk) = stage(upstream());
    let sid = s.client("pw");
    for name in ["1", "2", "3", "4", "5"] {
        s.publish(sid, "", "q", false, name);
    }
    s.hub.drain(s.now);
    disk.takes_at_once(2);
    let (left, rounds) = keep_the_rest(&mut s, &disk, Disk::syncs);
    assert_eq!((left, disk.names(true)), (0, owned(&["1", "2", "3", "4", "5"])));
    assert_eq!(rounds, 4, "three that bring something, one that finds nothing new");
}

#[test]
fn what_the_disk_gives_back_in_the_last_round_is_not_taken_for_kept() {
    let (mut s, disk) = stage(upstream());
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    s.hub.drain(s.now);
    let (left, _) = keep_the_rest(&mut s, &disk, Disk::fails);
    assert_eq!((left, disk.names(true)), (2, vec![]));
}

#[test]
fn a_disk_that_fails_once_is_asked_again_before_the_rest_is_given_up() {
    let (mut s, disk) = stage(upstream());
    let sid = s.client("pw");
    for name in ["1", "2", "3"] {
        s.publish(sid, "", "q", false, name);
    }
    s.hub.drain(s.now);
    disk.takes_at_once(2);
    let mut failed = false;
    let (left, _) = keep_the_rest(&mut s, &disk, |disk, s| {
        if std::mem::replace(&mut failed, true) {
            disk.syncs(s);
        } else {
            disk.fails(s);
            disk.is_ill(false);
        }
    });
    assert_eq!((left, disk.names(true)), (0, owned(&["1", "2", "3"])));
}
