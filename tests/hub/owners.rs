//! Whose is what an earlier life left: the user's, whatever his password is by now, and nothing on disk tells of passwords (SPEC D4).

use umbel::session::UpstreamSettings;
use umbel::session::spool::{SpoolFound, SpoolKey, SpoolQueue};

use super::stage::{Door, Stage, upstream};
use super::store::Disk;
use crate::kit;

/// A disk on which a life that is over left "2", of a user who logged in with “pw”.
fn left() -> Disk {
    let mut s = Stage::new(vec![UpstreamSettings { window_messages: 1, ..upstream() }]);
    let disk = Disk::default();
    s.hub.set_spool(s.now, Box::new(disk.clone()), Vec::new(), None);
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    disk.syncs(&mut s);
    assert_eq!(disk.names(false), ["2"]);
    disk
}

#[test]
fn nothing_of_a_login_but_its_name_goes_to_disk() {
    assert_eq!(left().identities(), [[0; 32]]);
}

#[test]
fn what_a_user_left_goes_before_what_he_publishes_under_another_password() {
    // The second is a key of the older format, with the hash of a login that nobody has any more.
    for identity in [[0; 32], [9; 32]] {
        let disk = left();
        let mut s = Stage::new(vec![upstream()]);
        s.doors[0] = Door::Opens("new");
        let key = SpoolKey {
            upstream: "default".into(),
            vhost: b"/".as_slice().into(),
            user: "app".into(),
            identity,
            ahead: false,
        };
        let found = SpoolFound { queue: SpoolQueue(0), key, records: 1 };
        s.hub.set_spool(s.now, Box::new(disk.clone()), vec![found], None);
        s.later(1_000);
        assert_eq!(s.up().len(), 0, "nobody may carry it yet");
        let sid = s.client("new");
        s.publish(sid, "", "q", false, "3");
        disk.syncs(&mut s);
        s.later(1_000);
        disk.reads(&mut s);
        let lid = s.link();
        let mut sent = s.published(lid);
        s.say(lid, 1, &kit::ack(1, false));
        s.later(1_000);
        disk.reads(&mut s);
        sent.extend(s.published(lid));
        assert_eq!(sent, ["2", "3"]);
    }
}
