//! Clients that share a link: what one floods is not to stand before what another says (SPEC T5, F2).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions)]

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};

use umbel::session::{Action, Hub, Limits, LinkId, Now, PassAll, SessionId, UpstreamSettings};
use umbel::wire::NewHeader;
use umbel::wire::frame::{ChannelId, FrameKind, parse_frame, write_body, write_frame};
use umbel::wire::method::{self, MethodId, MethodWriter, Tune, write_publish};

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
        let start = MethodWriter::new(MethodId::CONNECTION_START_OK).longstr(b"").shortstr(b"PLAIN");
        let tune = Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
        self.send(sid, b"AMQP\x00\x00\x09\x01");
        for (channel, method) in [
            (0, start.longstr(b"\0guest\0guest").shortstr(b"en_US").done()),
            (0, method::write_tune(MethodId::CONNECTION_TUNE_OK, tune)),
            (0, MethodWriter::new(MethodId::CONNECTION_OPEN).shortstr(b"/").shortstr(b"").octet(0).done()),
            (1, MethodWriter::new(MethodId::CHANNEL_OPEN).shortstr(b"").done()),
            (1, MethodWriter::new(MethodId::CONFIRM_SELECT).octet(0).done()),
        ] {
            let mut frame = Vec::new();
            write_frame(&mut frame, FrameKind::Method, ChannelId(channel), &method);
            self.send(sid, &frame);
        }
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
        let mut sent = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = self.hub.link_out(lid, &mut slices);
            let before = sent.len();
            slices[..filled].iter().for_each(|slice| sent.extend_from_slice(slice));
            let wrote = sent.len() - before;
            self.hub.link_written(NOW, lid, wrote);
            if filled == 0 {
                break;
            }
        }
        let seen = self.links.entry(lid).or_default();
        let mut answers = Vec::new();
        let mut reply = |channel: u16, payload: Vec<u8>| {
            write_frame(&mut answers, FrameKind::Method, ChannelId(channel), &payload);
        };
        let mut rest = sent.strip_prefix(b"AMQP\x00\x00\x09\x01").unwrap_or(&sent);
        if rest.len() < sent.len() {
            let start = MethodWriter::new(MethodId::CONNECTION_START).octet(0).octet(9).longstr(b"");
            reply(0, start.longstr(b"PLAIN AMQPLAIN").longstr(b"en_US").done());
        }
        while let Some(frame) = parse_frame(rest, 0).unwrap() {
            rest = &rest[frame.wire_len()..];
            let channel = frame.channel.0;
            if frame.kind == FrameKind::Body {
                seen.bodies.push(frame.payload[0]);
            }
            if frame.kind != FrameKind::Method {
                continue;
            }
            match method::split(frame.payload).unwrap().0 {
                MethodId::BASIC_PUBLISH => *seen.tags.entry(channel).or_default() += 1,
                MethodId::CONNECTION_START_OK => {
                    let tune = Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
                    reply(0, method::write_tune(MethodId::CONNECTION_TUNE, tune));
                }
                MethodId::CONNECTION_OPEN => {
                    reply(0, MethodWriter::new(MethodId::CONNECTION_OPEN_OK).shortstr(b"").done());
                }
                MethodId::CHANNEL_OPEN => {
                    reply(channel, MethodWriter::new(MethodId::CHANNEL_OPEN_OK).longstr(b"").done());
                }
                MethodId::CONFIRM_SELECT => {
                    reply(channel, MethodWriter::new(MethodId::CONFIRM_SELECT_OK).done())
                }
                _ => {}
            }
        }
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
