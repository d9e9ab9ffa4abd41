//! Pools: who needs no link is given none, wrong passwords leave none behind, and nobody waits for an upstream he does not go to (SPEC L1, L3).

use std::rc::Rc;

use umbel::session::{
    Decision, Edited, Judge, LinkId, Now, Place, PublishView, UpstreamId, UpstreamSettings,
};
use umbel::wire::method::MethodId;

use super::stage::{Door, Stage, upstream};

/// What is for `there` goes to the other upstream.
struct ByKey;

impl Judge for ByKey {
    fn judge(&mut self, _now: Now, publish: &PublishView<'_>) -> Decision {
        if publish.routing_key != b"there" {
            return Decision::Pass;
        }
        Decision::Edit(Rc::new(Edited {
            upstream: Some(UpstreamId(1)),
            place: Some(Place { exchange: Vec::new(), routing_key: b"there".to_vec() }),
            ..Edited::default()
        }))
    }
}

fn link_to(s: &Stage, n: usize) -> Option<LinkId> {
    let links = s.hub.look_links(s.now);
    links.iter().find(|l| l.upstream == UpstreamId(n) && l.state == "up").map(|l| l.id)
}

#[test]
fn a_known_login_opens_its_connection_and_channel_without_a_link() {
    let mut s = Stage::new(vec![upstream()]);
    let first = s.client("pw");
    s.client_leaves(first);
    s.later(600_000);
    assert_eq!(s.up(), [], "no link is needed");
    let dials = s.dials.len();
    s.client("pw");
    assert_eq!(s.dials.len(), dials, "the broker was not asked");
}

#[test]
fn passwords_that_are_refused_leave_neither_pool_nor_link() {
    let mut s = Stage::new(vec![upstream()]);
    s.client("pw");
    s.later(100);
    let before = s.hub.sizes();
    for n in 0..50 {
        let sid = s.caller(&format!("wrong {n}"));
        assert!(s.client_methods(sid).contains(&MethodId::CONNECTION_CLOSE));
        s.client_leaves(sid);
    }
    s.later(100);
    let after = s.hub.sizes();
    assert_eq!((after.pools, after.links, after.sessions), (before.pools, before.links, before.sessions));
}

#[test]
fn an_upstream_that_never_answers_its_dial_holds_up_nobody_who_goes_elsewhere() {
    let mut s = Stage::new(vec![upstream(), UpstreamSettings::new("other", "127.0.0.1", 5673)]);
    s.judge = Box::new(ByKey);
    let (one, two) = (s.client("pw"), s.client("pw"));
    s.doors[1] = Door::Silent;
    s.publish(one, "", "there", false, "1");
    s.publish(one, "", "here", false, "2");
    s.publish(two, "", "here", false, "3");
    assert_eq!(link_to(&s, 1), None);
    let home = link_to(&s, 0).unwrap();
    assert_eq!(s.published(home), ["2", "3"], "at once, also behind one that waits on the same channel");
    s.doors[1] = Door::Opens("pw");
    s.dials_time_out();
    s.later(10_000);
    let other = link_to(&s, 1).unwrap();
    assert_eq!(s.published(other), ["1"], "what waited is there when its broker is");
}
