//! The pure path for callgrind (benches/guard): publishes in, judged, onto a link, confirmed, acknowledged; no socket, no clock.
//!
//! `pure_path MESSAGES SIZE COUNT [CONFIG]`: a file of publishes of SIZE octets on channel 1, sent in turn until COUNT are confirmed;
//! a configuration makes the judge, without one everything passes unjudged; `durable`: unjudged, and appended to a spool, too. Run with two counts, the difference is COUNT's price.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a benchmark may stop where it fails"
)]

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use umbel::config::{Config, Nothing};
use umbel::metrics::Metrics;
use umbel::net::judge::{PolicyJudge, Snapshot};
use umbel::session::spool::{Spool, SpoolAppend, SpoolKey, SpoolQueue};
use umbel::session::{Action, Hub, Judge, Limits, LinkId, Now, PassAll, SessionId, UpstreamSettings};
use umbel::wire::frame::{ChannelId, FrameKind, parse_frame, write_frame};
use umbel::wire::method::{self, MethodId, MethodWriter};

#[path = "../tests/sim/easy.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod easy;
#[path = "../tests/sim/kit.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod kit;

/// Publishes that arrive together.
const BATCH: usize = 64;

/// A spool of one queue whose writer costs nothing: what the data thread does for it is what counts.
#[derive(Default)]
struct Run {
    appended: u64,
    bytes: Vec<u8>,
}

impl Spool for Run {
    fn queue(&mut self, _key: &SpoolKey) -> SpoolQueue {
        SpoolQueue(1)
    }

    fn append(&mut self, _queue: SpoolQueue, publish: &SpoolAppend<'_>) -> Option<u64> {
        self.bytes.extend_from_slice(publish.method);
        self.bytes.extend_from_slice(publish.header);
        publish.body.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.appended += 1;
        Some(self.appended)
    }

    fn read(&mut self, _queue: SpoolQueue, _after: Option<u64>, _bytes: usize) {}

    fn remove(&mut self, _queue: SpoolQueue, _from: u64, _to: u64) {}

    fn flush(&mut self) -> bool {
        self.bytes.clear();
        true
    }

    fn takes(&self) -> bool {
        true
    }
}

/// Both ends of a Hub: a client that publishes and a broker that confirms.
struct Bench {
    hub: Hub,
    judge: Box<dyn Judge>,
    now: Now,
    sid: SessionId,
    links: Vec<LinkId>,
    sessions: Vec<SessionId>,
    published: u64,
    confirmed: u64,
}

impl Bench {
    fn new(judge: Box<dyn Judge>, durable: bool) -> Self {
        let now = Now { ms: 1000, wall_us: 1_700_000_000_000_000 };
        let upstream = UpstreamSettings { durable, ..UpstreamSettings::new("default", "127.0.0.1", 5672) };
        let mut hub = Hub::new(Limits::default(), vec![upstream], [7; 32], Vec::new());
        if durable {
            hub.set_spool(now, Box::new(Run::default()), Vec::new(), None);
        }
        hub.start(now);
        let sid = hub.accept(now, IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        Self { hub, judge, now, sid, links: Vec::new(), sessions: Vec::new(), published: 0, confirmed: 0 }
    }

    fn client(&mut self, bytes: &[u8]) {
        let took = self.hub.client_bytes(self.now, self.sid, bytes, self.judge.as_mut());
        assert!(took == bytes.len() || !self.hub.client_gate_open(self.sid), "{took} of {}", bytes.len());
        self.settle();
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            while let Some(action) = self.hub.next_action() {
                idle = false;
                match action {
                    Action::Dial { link, .. } => self.hub.dialed(self.now, link),
                    Action::HangUpLink(link) => self.hub.link_gone(self.now, link, "hung up"),
                    Action::HangUp(_) => panic!("the client was hung up on"),
                    _ => {}
                }
            }
            let mut links = std::mem::take(&mut self.links);
            self.hub.take_dirty_links(&mut links);
            for lid in links.drain(..) {
                idle = false;
                self.write(lid);
            }
            self.links = links;
            let mut sessions = std::mem::take(&mut self.sessions);
            self.hub.take_dirty_sessions(&mut sessions);
            for sid in sessions.drain(..) {
                idle = false;
                self.read(sid);
            }
            self.sessions = sessions;
            if idle {
                return;
            }
        }
    }

    /// A link's socket takes everything; the broker reads it where it lies, and answers with one ack for all publishes in it.
    fn write(&mut self, lid: LinkId) {
        let mut answers = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = self.hub.link_out(lid, &mut slices);
            if filled == 0 {
                break;
            }
            let (mut wrote, mut publishes, mut on) = (0, 0, 0);
            for slice in &slices[..filled] {
                wrote += slice.len();
                // Frames are never cut between chunks.
                easy::answer(slice, &mut answers, |frame, method| {
                    if method == Some(MethodId::BASIC_PUBLISH) {
                        (publishes, on) = (publishes + 1, frame.channel.0);
                    }
                });
            }
            if publishes > 0 {
                self.published += publishes;
                let ack = MethodWriter::new(MethodId::BASIC_ACK).longlong(self.published).octet(1).done();
                write_frame(&mut answers, FrameKind::Method, ChannelId(on), &ack);
            }
            self.hub.link_written(self.now, lid, wrote);
        }
        if !answers.is_empty() {
            let took = self.hub.link_bytes(self.now, lid, &answers, self.judge.as_mut());
            assert_eq!(took, answers.len());
        }
    }

    /// The client reads it all.
    fn read(&mut self, sid: SessionId) {
        let out = self.hub.client_out(sid);
        let (mut rest, len) = (out, out.len());
        let mut acked = self.confirmed;
        while let Ok(Some(frame)) = parse_frame(rest, 0) {
            rest = &rest[frame.wire_len()..];
            if let Ok((MethodId::BASIC_ACK, args)) = method::split(frame.payload) {
                acked = method::ack(args).unwrap().0;
            }
        }
        self.confirmed = acked;
        self.hub.client_written(self.now, sid, len);
    }

    fn log_in(&mut self) {
        self.settle();
        easy::login(1, true).iter().for_each(|said| self.client(said));
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (messages, size, count) = (
        std::fs::read(&args[1]).unwrap(),
        args[2].parse::<usize>().unwrap(),
        args[3].parse::<u64>().unwrap(),
    );
    let config = args.get(4).filter(|word| *word != "durable");
    let judge: Box<dyn Judge> = match config {
        None => Box::new(PassAll),
        Some(path) => {
            let config = Config::parse(&std::fs::read_to_string(path).unwrap(), &Nothing)
                .map_err(|p| p.in_file(path))
                .unwrap();
            Box::new(PolicyJudge::new(
                Arc::new(Snapshot::new(Arc::new(config))),
                Arc::new(Metrics::new(1000)),
                7,
            ))
        }
    };
    let mut bench = Bench::new(judge, args.len() > 4 && config.is_none());
    bench.log_in();
    // Every batch is as long, wherever in the file it begins.
    let batch = BATCH * size;
    let mut all = messages.clone();
    while all.len() < messages.len() + batch {
        all.extend_from_slice(&messages);
    }
    let mut at = 0;
    while bench.confirmed < count {
        bench.client(&all[at..at + batch]);
        at = (at + batch) % messages.len();
        // The disk is no faster than the broker.
        bench.hub.flush_spool();
        bench.hub.spool_synced(bench.now, SpoolQueue(1), bench.published);
        bench.now.ms += 1;
        bench.now.wall_us += 1000;
    }
    println!("{} confirmed", bench.confirmed);
}
