//! Which logins a client is offered, and which link is dialed for the one that it takes (SPEC L4, S3, S4).

use std::net::{IpAddr, Ipv4Addr};

use umbel::session::{Action, Credentials, Hub, Limits, LinkId, Now, PassAll, SessionId, UpstreamSettings};
use umbel::wire::method::{self, MethodId, MethodWriter};

use crate::kit;

const NOW: Now = Now { ms: 1_000, wall_us: 1_000_000 };
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn dialed(hub: &mut Hub) -> Vec<LinkId> {
    let mut links = Vec::new();
    while let Some(action) = hub.next_action() {
        if let Action::Dial { link, .. } = action {
            links.push(link);
        }
    }
    links
}

fn greet(hub: &mut Hub, link: LinkId, mechanisms: &str) {
    hub.dialed(NOW, link);
    let start = MethodWriter::new(MethodId::CONNECTION_START).octet(0).octet(9).longstr(b"");
    let mut said = Vec::new();
    kit::push_method(&mut said, 0, &start.longstr(mechanisms.as_bytes()).longstr(b"en_US").done());
    hub.link_bytes(NOW, link, &said, &mut PassAll);
}

/// A Hub that has asked its broker what it takes.
fn hub(settings: UpstreamSettings, mechanisms: &str) -> Hub {
    let mut hub = Hub::new(Limits::default(), vec![settings], [7; 32], Vec::new());
    hub.start(NOW);
    let probe = dialed(&mut hub)[0];
    greet(&mut hub, probe, mechanisms);
    hub.link_gone(NOW, probe, "probed");
    let _ = dialed(&mut hub);
    hub
}

fn come(hub: &mut Hub, from: IpAddr, certificate: Option<&str>) -> (SessionId, String) {
    let sid = hub.accept(NOW, from).unwrap();
    if let Some(name) = certificate {
        hub.certified(sid, name);
    }
    hub.client_bytes(NOW, sid, b"AMQP\x00\x00\x09\x01", &mut PassAll);
    let mut out = hub.client_out(sid).to_vec();
    let frame = kit::take_frames(&mut out).remove(0);
    let (_, args) = method::split(&frame.payload).unwrap();
    (sid, String::from_utf8(method::start(args).unwrap().mechanisms.to_vec()).unwrap())
}

/// Says start-ok; the start-ok that the broker gets then, if it is asked at all.
fn log_in(hub: &mut Hub, sid: SessionId, mechanism: &str, response: &[u8]) -> Option<(String, Vec<u8>)> {
    let start_ok =
        MethodWriter::new(MethodId::CONNECTION_START_OK).longstr(b"").shortstr(mechanism.as_bytes());
    let mut said = Vec::new();
    kit::push_method(&mut said, 0, &start_ok.longstr(response).shortstr(b"en_US").done());
    hub.client_bytes(NOW, sid, &said, &mut PassAll);
    let link = *dialed(hub).first()?;
    greet(hub, link, "PLAIN EXTERNAL");
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    let filled = hub.link_out(link, &mut slices);
    let mut heard: Vec<u8> = slices[..filled].iter().flat_map(|s| s.iter().copied()).skip(8).collect();
    let frame = kit::take_frames(&mut heard).remove(0);
    let start_ok = method::start_ok(method::split(&frame.payload).unwrap().1).unwrap();
    Some((String::from_utf8(start_ok.mechanism.to_vec()).unwrap(), start_ok.response.to_vec()))
}

fn upstream(own: Option<Credentials>, is_configured: bool) -> UpstreamSettings {
    let mut settings = UpstreamSettings::new("default", "127.0.0.1", 5672);
    settings.credentials = own.clone().filter(|_| is_configured);
    settings.own = own;
    settings
}

#[test]
fn what_asks_back_is_not_offered_and_anonymous_only_to_who_is_on_the_broker_s_host_anyway() {
    let mut hub = hub(upstream(None, false), "AMQPLAIN PLAIN ANONYMOUS RABBIT-CR-DEMO EXTERNAL GSSAPI");
    assert_eq!(come(&mut hub, HERE, None).1, "AMQPLAIN PLAIN ANONYMOUS");
    let (sid, offered) = come(&mut hub, ELSEWHERE, None);
    assert_eq!(offered, "AMQPLAIN PLAIN");
    assert_eq!(
        log_in(&mut hub, sid, "ANONYMOUS", b""),
        None,
        "the broker would take it for its own host's guest"
    );
}

#[test]
fn a_client_s_external_never_reaches_the_broker_as_such() {
    let mut hub = hub(upstream(Some(Credentials::external("umbel")), false), "PLAIN EXTERNAL");
    let (sid, offered) = come(&mut hub, HERE, None);
    assert_eq!(offered, "PLAIN");
    assert_eq!(log_in(&mut hub, sid, "EXTERNAL", b"admin"), None, "it would be let in as we are");
}

#[test]
fn a_certificate_is_stood_for_by_the_upstream_s_own_login_and_a_password_by_itself() {
    let own = Credentials::plain("umbel", "pw");
    let mut hub = hub(upstream(Some(own), false), "PLAIN");
    let (sid, offered) = come(&mut hub, ELSEWHERE, Some("shop"));
    assert_eq!(offered, "PLAIN EXTERNAL");
    assert_eq!(log_in(&mut hub, sid, "EXTERNAL", b""), Some(("PLAIN".into(), b"\0umbel\0pw".to_vec())));
    let (sid, _) = come(&mut hub, ELSEWHERE, Some("shop"));
    assert_eq!(log_in(&mut hub, sid, "PLAIN", b"\0a\0b"), Some(("PLAIN".into(), b"\0a\0b".to_vec())));
}

#[test]
fn our_certificate_stands_for_a_client_s_only_where_the_broker_takes_it() {
    let own = Credentials::external("umbel");
    let mut takes = hub(upstream(Some(own.clone()), false), "PLAIN EXTERNAL");
    let (sid, offered) = come(&mut takes, HERE, Some("shop"));
    assert_eq!(offered, "PLAIN EXTERNAL");
    assert_eq!(log_in(&mut takes, sid, "EXTERNAL", b"admin"), Some(("EXTERNAL".into(), Vec::new())));
    let mut does_not = hub(upstream(Some(own), false), "PLAIN AMQPLAIN");
    assert_eq!(come(&mut does_not, HERE, Some("shop")).1, "PLAIN AMQPLAIN");
}

#[test]
fn where_every_login_is_replaced_passwords_are_read_whatever_the_broker_takes() {
    let mut hub = hub(upstream(Some(Credentials::external("umbel")), true), "EXTERNAL");
    let (sid, offered) = come(&mut hub, HERE, None);
    assert_eq!(offered, "PLAIN AMQPLAIN");
    assert_eq!(log_in(&mut hub, sid, "PLAIN", b"\0a\0b"), Some(("EXTERNAL".into(), Vec::new())));
}
