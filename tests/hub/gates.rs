//! Gates: what a client says behind one is read as far as its backlog goes, and not an octet further (SPEC D4, S1).

use umbel::session::Limits;
use umbel::wire::method::{MethodId, MethodWriter};

use super::stage::{Stage, upstream};
use crate::kit;

#[test]
fn a_client_behind_a_gate_is_read_on_until_its_backlog_is_full_and_all_of_it_counts() {
    let limits = Limits { input_backlog_bytes: 1_000, ..Limits::default() };
    let mut s = Stage::with_limits(vec![upstream()], limits);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    s.client_hears(sid);
    assert!(s.hub.client_wants_reads(sid, usize::MAX), "before the gate nothing is kept back");
    s.publish(sid, "", "q", false, "0");
    let lid = s.link();
    // It can see what was published before it: it waits for that.
    s.client_method(sid, 1, &kit::basic_get("q"));
    assert!(!s.hub.client_gate_open(sid));
    let mut names = vec!["0".to_owned()];
    while s.hub.client_wants_reads(sid, s.kept(sid)) {
        names.push(names.len().to_string());
        let name = names.last().unwrap().clone();
        s.publish(sid, "", "q", false, &name);
        assert!(names.len() < 100, "the backlog is bounded");
    }
    assert!(s.kept(sid) > 1_000 && names.len() > 5, "{} octets of {} publishes", s.kept(sid), names.len());
    assert_eq!(s.published(lid), ["0"], "nothing overtakes what waits");
    s.say(lid, 1, &kit::ack(1, false));
    s.later(100);
    let own = s.up().into_iter().find(|l| *l != lid).expect("a link of the client's own");
    assert_eq!(s.heard(own).iter().filter_map(|f| f.method()).next_back(), Some(MethodId::BASIC_GET));
    s.say(own, 1, &MethodWriter::new(MethodId::BASIC_GET_EMPTY).shortstr(b"").done());
    assert_eq!(s.published(lid), names[1..], "in order, none left out");
    assert_eq!(s.kept(sid), 0);
    assert!(s.hub.client_wants_reads(sid, 0));
}

fn bind_the_last_declared() -> Vec<u8> {
    MethodWriter::new(MethodId::QUEUE_BIND)
        .short(0)
        .shortstr(b"")
        .shortstr(b"amq.direct")
        .shortstr(b"k")
        .octet(0)
        .longstr(b"")
        .done()
}

#[test]
fn a_name_left_empty_waits_for_the_declare_before_it() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.client_hears(sid);
    s.client_method(sid, 1, &kit::queue_declare("jobs", 0));
    s.client_method(sid, 1, &bind_the_last_declared());
    let lid = s.link();
    let methods = |s: &mut Stage| s.heard(lid).iter().filter_map(|f| f.method()).collect::<Vec<_>>();
    assert_eq!(methods(&mut s), [MethodId::QUEUE_DECLARE]);
    assert_eq!(s.client_methods(sid), [], "nobody has said that there was none");
    s.say(lid, 1, &kit::queue_declare_ok(b"jobs"));
    s.carry();
    let bound = s.heard(lid).pop().expect("the bind goes when the name is known");
    assert_eq!(bound.method(), Some(MethodId::QUEUE_BIND));
    assert!(bound.payload.windows(4).any(|w| w == b"jobs"));
    assert_eq!(s.client_methods(sid), [MethodId::QUEUE_DECLARE_OK]);
}

#[test]
fn a_refusal_of_ours_comes_behind_the_confirms_of_what_was_published_before() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.client_method(sid, 1, &kit::confirm_select());
    s.client_hears(sid);
    s.publish(sid, "", "q", false, "0");
    s.client_method(sid, 1, &kit::bare(MethodId::TX_SELECT));
    assert_eq!(s.client_methods(sid), []);
    let lid = s.link();
    s.say(lid, 1, &kit::ack(1, false));
    s.later(100);
    assert_eq!(s.client_methods(sid), [MethodId::BASIC_ACK, MethodId::CHANNEL_CLOSE]);
}

#[test]
fn a_name_that_is_no_utf8_reaches_no_link() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.client_hears(sid);
    let delete = MethodWriter::new(MethodId::QUEUE_DELETE).short(0).shortstr(b"\xff\xfe").octet(0).done();
    s.client_method(sid, 1, &delete);
    assert_eq!(s.client_methods(sid), [MethodId::CONNECTION_CLOSE]);
    for lid in s.up() {
        assert!(s.heard(lid).is_empty(), "it would have ended a link that others share");
    }
}
