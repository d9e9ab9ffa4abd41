//! Who is turned away, and what net hears of it (SPEC L4, M3, S4).

use umbel::wire::method::{MethodId, MethodWriter};

use super::stage::{Door, Stage, upstream};

#[test]
fn whoever_is_turned_away_is_named_with_address_upstream_and_the_broker_s_words_and_without_the_secret() {
    let mut s = Stage::new(vec![upstream()]);
    s.client("pw");
    assert_eq!(s.hub.turned_away(), (Vec::new(), 0), "the right password is nobody's business");
    s.caller("hunter2");
    let (who, more) = s.hub.turned_away();
    assert_eq!((who.len(), more), (1, 0));
    assert_eq!((&*who[0].user, &*who[0].mechanism, who[0].upstream.0), ("app", b"PLAIN".as_slice(), 0));
    assert_eq!(who[0].client, std::net::Ipv4Addr::LOCALHOST);
    assert_eq!(who[0].why, "403 ACCESS_REFUSED - Login was refused");
    assert!(!format!("{who:?}").contains("hunter2"));
    for _ in 0..100 {
        s.caller("hunter2");
    }
    let (who, more) = s.hub.turned_away();
    assert_eq!((who.len(), more), (64, 36), "net is asleep: what waits for it is bounded");
    assert_eq!(s.hub.turned_away(), (Vec::new(), 0), "each is told once");
}

#[test]
fn a_known_login_that_the_broker_refuses_now_is_named_when_it_wants_a_link_of_its_own() {
    let mut s = Stage::new(vec![upstream()]);
    let sid = s.client("pw");
    s.doors[0] = Door::Opens("another");
    s.client_method(sid, 1, &MethodWriter::new(MethodId::BASIC_QOS).long(0).short(1).octet(0).done());
    s.later(200);
    let (who, _) = s.hub.turned_away();
    assert_eq!((who.len(), &*who[0].user), (1, "app"));
    assert!(who[0].why.contains("403 ACCESS_REFUSED"), "{}", who[0].why);
}
