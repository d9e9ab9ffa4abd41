//! A panic costs one session and a counter (SPEC S5): a judge that panics, a bystander, and a broker of sixty lines.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::thread::Thread;
use crate::metrics::Metrics;
use crate::session::{Decision, Hub, Judge, Limits, Now, PublishView, UpstreamSettings};
use crate::wire::frame::{ChannelId, FrameKind, parse_frame, write_frame};
use crate::wire::method::{self, MethodId, MethodWriter, Tune, write_tune};

/// Passes everything but what goes to the exchange `boom`.
struct Brittle;

impl Judge for Brittle {
    fn judge(&mut self, _now: Now, publish: &PublishView<'_>) -> Decision {
        assert_ne!(publish.exchange, b"boom", "a bug in the policy");
        Decision::Pass
    }
}

/// One side of a conversation in frames.
struct Peer {
    socket: TcpStream,
    came: Vec<u8>,
}

impl Peer {
    fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, came: Vec::new() }
    }

    fn say(&mut self, kind: FrameKind, channel: u16, payload: &[u8]) {
        let mut frame = Vec::new();
        write_frame(&mut frame, kind, ChannelId(channel), payload);
        let _ = self.socket.write_all(&frame);
    }

    fn method(&mut self, channel: u16, payload: &[u8]) {
        self.say(FrameKind::Method, channel, payload);
    }

    /// The next method, or where a body ends the method zero; `None` at the end of file.
    fn hear(&mut self) -> Option<(u16, MethodId)> {
        loop {
            if let Some(frame) = parse_frame(&self.came, 0).ok()? {
                let (channel, kind, length) = (frame.channel.0, frame.kind, frame.wire_len());
                let id = method::split(frame.payload).map_or(MethodId::NONE, |(id, _)| id);
                self.came.drain(..length);
                match kind {
                    FrameKind::Method => return Some((channel, id)),
                    FrameKind::Body => return Some((channel, MethodId::NONE)),
                    _ => continue,
                }
            }
            let mut more = [0; 4096];
            match self.socket.read(&mut more) {
                Ok(n) if n > 0 => self.came.extend_from_slice(&more[..n]),
                _ => return None,
            }
        }
    }

    fn until(&mut self, wanted: MethodId) -> Option<()> {
        while self.hear()?.1 != wanted {}
        Some(())
    }
}

fn answers(peer: &mut Peer) -> Option<()> {
    let mut header = [0; 8];
    peer.socket.read_exact(&mut header).ok()?;
    let start = MethodWriter::new(MethodId::CONNECTION_START).octet(0).octet(9).longstr(b"");
    peer.method(0, &start.longstr(b"PLAIN").longstr(b"en_US").done());
    let mut tag = 0;
    loop {
        let (channel, id) = peer.hear()?;
        let tune = Tune { channel_max: 100, frame_max: 131_072, heartbeat: 0 };
        let answer = match id {
            MethodId::CONNECTION_START_OK => write_tune(MethodId::CONNECTION_TUNE, tune),
            MethodId::CONNECTION_OPEN => MethodWriter::new(MethodId::CONNECTION_OPEN_OK).shortstr(b"").done(),
            MethodId::CHANNEL_OPEN => MethodWriter::new(MethodId::CHANNEL_OPEN_OK).longstr(b"").done(),
            MethodId::CONFIRM_SELECT => MethodWriter::new(MethodId::CONFIRM_SELECT_OK).done(),
            MethodId::NONE => {
                tag += 1;
                MethodWriter::new(MethodId::BASIC_ACK).longlong(tag).octet(0).done()
            }
            _ => continue,
        };
        peer.method(channel, &answer);
    }
}

fn broker() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answers(&mut Peer::new(socket)));
        }
    });
    port
}

/// A client that is in, with a channel in confirm mode.
fn client(port: u16) -> Peer {
    let mut peer = Peer::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    peer.socket.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    peer.until(MethodId::CONNECTION_START).unwrap();
    let start_ok = MethodWriter::new(MethodId::CONNECTION_START_OK).longstr(b"").shortstr(b"PLAIN");
    peer.method(0, &start_ok.longstr(b"\0u\0p").shortstr(b"en_US").done());
    peer.until(MethodId::CONNECTION_TUNE).unwrap();
    let tune = Tune { channel_max: 10, frame_max: 8192, heartbeat: 0 };
    peer.method(0, &write_tune(MethodId::CONNECTION_TUNE_OK, tune));
    peer.method(
        0,
        &MethodWriter::new(MethodId::CONNECTION_OPEN).shortstr(b"/").shortstr(b"").octet(0).done(),
    );
    peer.until(MethodId::CONNECTION_OPEN_OK).unwrap();
    peer.method(1, &MethodWriter::new(MethodId::CHANNEL_OPEN).shortstr(b"").done());
    peer.method(1, &MethodWriter::new(MethodId::CONFIRM_SELECT).octet(0).done());
    peer.until(MethodId::CONFIRM_SELECT_OK).unwrap();
    peer
}

fn publish(peer: &mut Peer, exchange: &[u8]) {
    let publish = MethodWriter::new(MethodId::BASIC_PUBLISH).short(0).shortstr(exchange).shortstr(b"k");
    peer.method(1, &publish.octet(0).done());
    let header = [&60_u16.to_be_bytes()[..], &[0; 2], &1_u64.to_be_bytes(), &[0; 2]].concat();
    peer.say(FrameKind::Header, 1, &header);
    peer.say(FrameKind::Body, 1, b"x");
}

#[test]
fn a_panic_costs_one_session_and_a_counter() {
    let metrics = Arc::new(Metrics::with_labels(10, 10));
    let counted = Arc::clone(&metrics);
    let broker = broker();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let hub = Hub::new(
            Limits::default(),
            vec![UpstreamSettings::new("default", "127.0.0.1", broker)],
            [7; 32],
            Vec::new(),
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let thread = Thread::new(hub, Box::new(Brittle), Clock::start(), metrics, vec![None]);
            thread.hub.borrow_mut().start(thread.now());
            thread.carry_out();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            super::listen::accept(thread, listener).await;
        });
    });
    let mut bystander = client(port);
    for round in 1..=3 {
        let mut culprit = client(port);
        publish(&mut culprit, b"boom");
        assert_eq!(culprit.until(MethodId::NONE), None, "its connection ends");
        publish(&mut bystander, b"");
        bystander.until(MethodId::BASIC_ACK).expect("the bystander's publish is confirmed");
        assert_eq!(counted.clients.panics.get(), round);
    }
}
