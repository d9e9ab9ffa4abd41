//! Clients that share a link: what one floods is not to stand before what another says (SPEC T5, F2).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use umbel::session::{Action, Hub, Limits, LinkId, Now, PassAll, SessionId, UpstreamSettings};
use umbel::wire::NewHeader;
use umbel::wire::frame::{ChannelId, FrameKind, write_body, write_frame};
use umbel::wire::method::{MethodId, MethodWriter, write_publish};

#[path = "sim/easy.rs"]
mod easy;
#[path = "sim/kit.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod kit;

const NOW: Now = Now { ms: 5_000, wall_us: 1_700_000_000_000_000 };

/// A Hub and upstream links that take everything; `confirm` says when a link confirms what it has.
struct Rig {
    hub: Hub,
    /// For each link: publishes by channel, not yet confirmed, and the bodies' first octets in order.
    links: BTreeMap<LinkId, Seen>,
}

#[derive(Default)]
struct Seen {
    tags: BTreeMap<u16, u64>,
    bodies: Vec<u8>,
}

impl Rig {
    fn new(links: usize) -> Self {
        let mut settings = UpstreamSettings::new("default", "127.0.0.1", 5672);
        settings.links = links;
        let mut hub = Hub::new(Limits::default(), vec![settings], [7; 32], Vec::new());
        hub.start(NOW);
        let mut rig = Self { hub, links: BTreeMap::new() };
        rig.settle();
        rig
    }

    fn client(&mut self) -> SessionId {
        let sid = self.hub.accept(NOW, IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        easy::login(1, true).iter().for_each(|said| self.send(sid, said));
        sid
    }

    /// A body of so many octets, all of them `mark`.
    fn publish(&mut self, sid: SessionId, mark: u8, octets: usize) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, FrameKind::Method, ChannelId(1), &write_publish(b"", b"q", false));
        let mut header = Vec::new();
        NewHeader { body_size: octets as u64, ..NewHeader::default() }.write(&mut header);
        write_frame(&mut bytes, FrameKind::Header, ChannelId(1), &header);
        write_body(&mut bytes, ChannelId(1), &vec![mark; octets], 131_072);
        self.send(sid, &bytes);
    }

    fn send(&mut self, sid: SessionId, bytes: &[u8]) {
        assert_eq!(self.hub.client_bytes(NOW, sid, bytes, &mut PassAll), bytes.len());
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let mut idle = true;
            while let Some(action) = self.hub.next_action() {
                idle = false;
                if let Action::Dial { link, .. } = action {
                    self.hub.dialed(NOW, link);
                }
            }
            let mut links = Vec::new();
            self.hub.take_dirty_links(&mut links);
            for lid in links {
                idle = false;
                self.read(lid);
            }
            if idle {
                return;
            }
        }
    }

    fn read(&mut self, lid: LinkId) {
        let sent = easy::taken(&mut self.hub, NOW, lid);
        let seen = self.links.entry(lid).or_default();
        let mut answers = Vec::new();
        easy::answer(&sent, &mut answers, |frame, method| match (frame.kind, method) {
            (FrameKind::Body, _) => seen.bodies.push(frame.payload[0]),
            (_, Some(MethodId::BASIC_PUBLISH)) => *seen.tags.entry(frame.channel.0).or_default() += 1,
            _ => {}
        });
        self.hub.link_bytes(NOW, lid, &answers, &mut PassAll);
    }

    /// A link confirms all that it has.
    fn confirm(&mut self, lid: LinkId) {
        let mut acks = Vec::new();
        for (channel, tag) in &self.links[&lid].tags {
            let ack = MethodWriter::new(MethodId::BASIC_ACK).longlong(*tag).octet(1).done();
            write_frame(&mut acks, FrameKind::Method, ChannelId(*channel), &ack);
        }
        self.hub.link_bytes(NOW, lid, &acks, &mut PassAll);
        self.settle();
    }

    /// Which link has seen a body of `mark` last.
    fn link_of(&self, mark: u8) -> Vec<LinkId> {
        self.links.iter().filter(|(_, seen)| seen.bodies.contains(&mark)).map(|(lid, _)| *lid).collect()
    }
}

const FLOOD: usize = 64 * 1024;

#[test]
fn a_client_with_nothing_under_way_leaves_the_link_that_another_floods() {
    let mut rig = Rig::new(2);
    let (flood, quiet) = (rig.client(), rig.client());
    rig.publish(quiet, b'q', 1);
    rig.publish(flood, b'f', 1);
    let first = rig.link_of(b'q');
    assert_eq!(first, rig.link_of(b'f'), "both share a link while it is calm");
    rig.confirm(first[0]);
    (0..8).for_each(|_| rig.publish(flood, b'f', FLOOD));
    // The first after the flood goes the old way, and has another link dialed; the next finds it there.
    rig.publish(quiet, b'r', 1);
    rig.confirm(first[0]);
    (0..8).for_each(|_| rig.publish(flood, b'f', FLOOD));
    rig.publish(quiet, b's', 1);
    assert_ne!(rig.link_of(b's'), first);
    assert_eq!(rig.link_of(b'f'), first, "the flood, which always has something under way, stays");
    let links = rig.links.len();
    rig.publish(quiet, b't', 1);
    assert_eq!((rig.link_of(b't'), rig.links.len()), (rig.link_of(b's'), links), "and nobody moves on");
}

#[test]
fn a_client_stays_where_something_of_its_own_is_unconfirmed_and_where_no_other_link_is_allowed() {
    let mut rig = Rig::new(2);
    let (flood, quiet) = (rig.client(), rig.client());
    rig.publish(quiet, b'q', 1);
    (0..8).for_each(|_| rig.publish(flood, b'f', FLOOD));
    rig.publish(quiet, b'r', 1);
    rig.publish(quiet, b's', 1);
    assert_eq!(
        rig.link_of(b's'),
        rig.link_of(b'q'),
        "what it said before is not confirmed: its order would be lost"
    );

    let mut rig = Rig::new(1);
    let (flood, quiet) = (rig.client(), rig.client());
    (0..8).for_each(|_| rig.publish(flood, b'f', FLOOD));
    (0..3).for_each(|_| rig.publish(quiet, b'q', 1));
    assert_eq!(rig.link_of(b'q'), rig.link_of(b'f'));
}
