//! Links that die, brokers that are not there, logins that are refused (SPEC D3, D4).

use umbel::session::{Retry, UpstreamId, UpstreamSettings, UpstreamState};
use umbel::wire::method::MethodId;

use super::stage::{Door, Stage, upstream};
use crate::kit;

fn with_retry(max_retries: Option<u32>) -> UpstreamSettings {
    let retry = Retry {
        interval_start_ms: 0,
        interval_step_ms: 200,
        interval_max_ms: 1_000,
        max_retries,
        jitter_percent: 0,
    };
    UpstreamSettings { retry, ..upstream() }
}

fn acks(stage: &mut Stage, sid: umbel::session::SessionId) -> Vec<MethodId> {
    stage
        .client_methods(sid)
        .into_iter()
        .filter(|m| matches!(*m, MethodId::BASIC_ACK | MethodId::BASIC_NACK))
        .collect()
}

#[test]
fn an_upstream_that_is_down_says_when_it_is_dialed_again_and_one_that_is_up_says_nothing() {
    let mut s = Stage::new(vec![with_retry(None)]);
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    assert_eq!(s.hub.retry_in_ms(s.now, UpstreamId(0)), None);
    s.doors[0] = Door::Shut;
    let lid = s.link();
    s.cut(lid);
    s.later(2_000);
    while let Some(wait) = s.hub.retry_in_ms(s.now, UpstreamId(0)).filter(|wait| *wait > 100) {
        assert!(wait <= 1_000, "{wait}");
        s.later(100);
    }
    let dials = s.dials.len();
    s.later(200);
    assert!(s.dials.len() > dials, "as it said");
    s.doors[0] = Door::Opens("pw");
    s.later(2_000);
    assert_eq!(s.hub.retry_in_ms(s.now, UpstreamId(0)), None);
}

#[test]
fn a_link_that_dies_right_after_it_opened_is_dialed_again_after_growing_waits() {
    let mut s = Stage::new(vec![with_retry(None)]);
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    let mut gaps = Vec::new();
    let mut before = s.now.ms;
    for _ in 0..8 {
        let lid = s.link();
        s.cut(lid);
        let dials = s.dials.len();
        while s.dials.len() == dials {
            s.later(100);
        }
        gaps.push(s.now.ms - before);
        before = s.now.ms;
    }
    assert_eq!(gaps, [200, 400, 600, 800, 1000, 1000, 1000, 1000], "grows to the cap");
    // One that answers has worked: the next loss is the first again.
    let lid = s.link();
    assert_eq!(s.published(lid), ["1"]);
    s.say(lid, 1, &kit::ack(1, false));
    s.publish(sid, "", "q", false, "2");
    s.cut(lid);
    let dials = s.dials.len();
    s.later(100);
    assert!(s.dials.len() > dials || !s.up().is_empty(), "at once");
}

#[test]
fn an_upstream_whose_link_dies_while_nobody_needs_it_is_asked_whether_it_is_there() {
    let mut s = Stage::new(vec![with_retry(None)]);
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    let lid = s.link();
    s.say(lid, 1, &kit::ack(1, false));
    let state = |s: &Stage| s.hub.look_upstream(UpstreamId(0)).unwrap().state;
    s.doors[0] = Door::Shut;
    s.cut(lid);
    s.later(1_000);
    assert_eq!(state(&s), UpstreamState::Down);
    s.doors[0] = Door::Opens("pw");
    s.later(5_000);
    assert_eq!(state(&s), UpstreamState::Up);
}

#[test]
fn when_max_retries_is_used_up_what_waits_is_nacked_to_those_who_use_confirms() {
    let mut s = Stage::new(vec![with_retry(Some(3))]);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    let lid = s.link();
    s.doors[0] = Door::Shut;
    s.cut(lid);
    let dials = s.dials.len();
    for name in ["1", "2"] {
        s.publish(sid, "", "q", false, name);
    }
    s.later(5_000);
    let answered = acks(&mut s, sid);
    assert_eq!(answered, [MethodId::BASIC_NACK; 2]);
    assert!(s.dials.len() - dials >= 4, "one try and three more, beside probes");
    assert_eq!((s.hub.unsettled(), s.hub.counters.refused()), (0, 2));
    // It goes on trying, and once it is back, publishes go.
    s.doors[0] = Door::Opens("pw");
    s.publish(sid, "", "q", false, "3");
    s.later(2_000);
    let lid = s.link();
    assert_eq!(s.published(lid), ["3"]);
    s.say(lid, 1, &kit::ack(1, false));
    assert_eq!(acks(&mut s, sid), [MethodId::BASIC_ACK]);
}

#[test]
fn when_max_retries_is_used_up_a_client_without_confirms_is_closed_with_506_and_what_nobody_can_be_told_of_waits()
 {
    let mut s = Stage::new(vec![with_retry(Some(1))]);
    let (gone, there) = (s.client("pw"), s.client("pw"));
    let lid = s.link();
    s.doors[0] = Door::Shut;
    s.cut(lid);
    s.publish(gone, "", "q", false, "of one that left");
    s.client_leaves(gone);
    s.publish(there, "", "q", false, "of one that stays");
    s.later(3_000);
    let heard = s.client_hears(there);
    let close = heard.iter().find(|f| f.method() == Some(MethodId::CONNECTION_CLOSE)).expect("it is told");
    let (_, args) = umbel::wire::method::split(&close.payload).unwrap();
    assert_eq!(umbel::wire::method::close(args).unwrap().code, 506);
    assert_eq!((s.hub.unsettled(), s.hub.counters.refused()), (1, 1));
    s.doors[0] = Door::Opens("pw");
    s.later(2_000);
    let lid = s.link();
    assert_eq!(s.published(lid), ["of one that left"]);
}

#[test]
fn without_max_retries_what_was_accepted_waits_for_ever() {
    let mut s = Stage::new(vec![with_retry(None)]);
    let sid = s.client("pw");
    let lid = s.link();
    s.doors[0] = Door::Shut;
    s.cut(lid);
    s.publish(sid, "", "q", false, "1");
    s.later(600_000);
    s.doors[0] = Door::Opens("pw");
    s.later(2_000);
    let lid = s.link();
    assert_eq!(s.published(lid), ["1"]);
}

#[test]
fn a_login_that_is_refused_in_mid_run_is_no_hot_loop_and_what_waits_goes_with_the_new_password() {
    let mut s = Stage::new(vec![with_retry(None)]);
    let old = s.client("pw");
    s.client_method(old, 1, &kit::confirm_select());
    let lid = s.link();
    s.doors[0] = Door::Opens("rotated");
    s.cut(lid);
    s.publish(old, "", "q", false, "1");
    let dials = s.dials.len();
    s.later(30_000);
    let tries = s.dials.len() - dials;
    assert!(tries <= 31, "no more than one a second: {tries}");
    assert_eq!(s.hub.unsettled(), 1, "it waits");
    // Whoever has the old password is refused; whoever has the new one brings the old one's work along.
    let wrong = s.caller("pw");
    s.later(500);
    assert!(s.client_methods(wrong).contains(&MethodId::CONNECTION_CLOSE));
    let new = s.client("rotated");
    s.later(500);
    let heard: Vec<String> = s.up().into_iter().flat_map(|l| s.published(l)).collect();
    assert_eq!(heard, ["1"]);
    s.client_leaves(new);
}

#[test]
fn a_vhost_that_is_gone_is_asked_for_now_and_then_and_what_waits_goes_when_it_is_back() {
    let mut s = Stage::new(vec![with_retry(None)]);
    let sid = s.client("pw");
    let lid = s.link();
    s.doors[0] = Door::NoVhost;
    s.say(
        lid,
        0,
        &kit::close(
            MethodId::CONNECTION_CLOSE,
            320,
            "CONNECTION_FORCED - vhost '/' is deleted",
            MethodId::NONE,
        ),
    );
    s.publish(sid, "", "q", false, "1");
    let dials = s.dials.len();
    s.later(30_000);
    assert!(s.dials.len() - dials <= 31, "no more than one a second");
    s.doors[0] = Door::Opens("pw");
    s.later(1_500);
    let lid = s.link();
    assert_eq!(s.published(lid), ["1"]);
}

#[test]
fn a_confirm_that_does_not_come_ends_its_link_after_the_confirm_timeout() {
    let mut s = Stage::new(vec![UpstreamSettings { confirm_timeout_ms: 8_000, ..with_retry(None) }]);
    let sid = s.client("pw");
    let lid = s.link();
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    assert_eq!(s.published(lid), ["1", "2"]);
    s.later(7_000);
    // The first is confirmed, late; the clock of the second begins with that.
    s.say(lid, 1, &kit::ack(1, false));
    s.later(7_000);
    assert_eq!(s.link(), lid);
    s.later(2_000);
    let again = s.link();
    assert_eq!(s.published(again), ["2"]);
    // A blocked broker owes nothing.
    s.say(
        again,
        0,
        &umbel::wire::method::MethodWriter::new(MethodId::CONNECTION_BLOCKED).shortstr(b"alarm").done(),
    );
    s.later(60_000);
    assert_eq!(s.hub.look_upstream(umbel::session::UpstreamId(0)).unwrap().resent, 1);
}

#[test]
fn a_broker_that_is_late_is_given_twice_as_long_each_time_before_it_gets_all_of_it_again() {
    let mut s = Stage::new(vec![UpstreamSettings { confirm_timeout_ms: 1_000, ..with_retry(None) }]);
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    let began = s.now.ms;
    s.later(70_000);
    let gaps: Vec<u64> = s.dials.iter().map(|(at, _)| at.saturating_sub(began) / 1_000).collect();
    let resent = s.hub.look_upstream(umbel::session::UpstreamId(0)).unwrap().resent;
    assert!(
        (5..=6).contains(&resent),
        "after 1, 3, 7, 15, 31 and 63 seconds, not seventy times: {resent}, {gaps:?}"
    );
    // What is confirmed in time makes it an ordinary broker again.
    let lid = s.link();
    s.say(lid, 1, &kit::ack(1, false));
    s.later(200_000);
    s.publish(sid, "", "q", false, "2");
    let before = s.hub.look_upstream(umbel::session::UpstreamId(0)).unwrap().resent;
    s.later(2_000);
    assert_eq!(s.hub.look_upstream(umbel::session::UpstreamId(0)).unwrap().resent, before + 1);
}

#[test]
fn a_links_lifetime_is_shortened_by_no_more_than_its_jitter() {
    for percent in [0, 50] {
        let settings = UpstreamSettings {
            link_lifetime_ms: 10_000,
            link_lifetime_jitter_percent: percent,
            lease_idle_ms: 100,
            ..upstream()
        };
        let mut s = Stage::new(vec![settings]);
        let sid = s.client("pw");
        let first = s.link();
        let opened = s.now.ms;
        while s.hub.look_links(s.now).iter().any(|l| l.id == first && l.state == "up") {
            s.later(100);
        }
        let lived = s.now.ms - opened;
        let least = 10_000 - 100 * u64::from(percent);
        assert!((least..=10_100).contains(&lived), "{percent} %: {lived} ms");
        s.client_leaves(sid);
    }
}

#[test]
fn when_max_retries_is_used_up_whoever_waits_for_a_reply_is_told_although_its_declaration_is_on_disk() {
    let mut s = Stage::new(vec![with_retry(Some(1))]);
    s.hub.set_spool(s.now, Box::new(super::store::Disk::default()), Vec::new(), None);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::queue_declare("q", 2));
    s.doors[0] = Door::Shut;
    let lid = s.link();
    s.cut(lid);
    s.later(3_000);
    assert_eq!(s.client_methods(sid), [MethodId::CONNECTION_CLOSE]);
}
