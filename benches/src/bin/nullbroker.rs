//! A broker that keeps nothing: logs everybody in, answers declares, counts publishes and confirms them, one ack for each read.
//!
//! `--mute`: it confirms nothing, so that whoever acknowledges has the publish elsewhere. Control: a line on the second port is answered with one line of JSON, what was counted so far.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use umbel_bench::amqp::{self, HEARTBEAT, Method, Value};
use umbel_bench::args::Args;

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 512 * 1024;

#[derive(Default)]
struct Counts {
    publishes: AtomicU64,
    bytes: AtomicU64,
    reads: AtomicU64,
    acks: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
    channels: AtomicU64,
    routed: AtomicU64,
}

#[derive(Default, Clone)]
struct Channel {
    confirms: bool,
    published: u64,
    acked: u64,
    /// Body octets still to come, while a message is.
    body_left: u64,
}

struct Connection {
    socket: TcpStream,
    greeted: bool,
    channels: Vec<Channel>,
    /// The beginning of a frame whose end is still to come; only methods and headers are ever kept.
    tail: Vec<u8>,
    /// Octets of a body to pass over.
    skip: usize,
    out: Vec<u8>,
    touched: Vec<u16>,
    closing: bool,
    mute: bool,
}

fn start(out: &mut Vec<u8>) {
    let properties = amqp::table(&[
        (
            "capabilities",
            Value::Table(&[
                ("publisher_confirms", Value::True),
                ("exchange_exchange_bindings", Value::True),
                ("basic.nack", Value::True),
                ("consumer_cancel_notify", Value::True),
                ("connection.blocked", Value::True),
                ("consumer_priorities", Value::True),
                ("authentication_failure_close", Value::True),
                ("per_consumer_qos", Value::True),
                ("direct_reply_to", Value::True),
            ]),
        ),
        ("cluster_name", Value::Text("null@bench")),
        ("copyright", Value::Text("none")),
        ("platform", Value::Text("Erlang/OTP 26")),
        ("product", Value::Text("RabbitMQ")),
        ("version", Value::Text("3.13.7")),
    ]);
    Method::new(out, 0, 10, 10)
        .bytes(&[0, 9])
        .long_string(&properties)
        .long_string(b"AMQPLAIN PLAIN")
        .long_string(b"en_US")
        .end();
}

impl Connection {
    fn channel(&mut self, number: u16) -> &mut Channel {
        let at = usize::from(number);
        if self.channels.len() <= at {
            self.channels.resize(at + 1, Channel::default());
        }
        &mut self.channels[at]
    }

    /// Everything that `bytes` holds; what is left of it is kept.
    fn take(&mut self, fresh: &[u8], counts: &Counts) {
        let mut joined = std::mem::take(&mut self.tail);
        let mut bytes = if joined.is_empty() {
            fresh
        } else {
            joined.extend_from_slice(fresh);
            &joined
        };
        let mut publishes = 0;
        if !self.greeted {
            if bytes.len() < 8 {
                self.tail = bytes.to_vec();
                return;
            }
            self.greeted = true;
            bytes = &bytes[8..];
            start(&mut self.out);
        }
        loop {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                bytes = &bytes[n..];
                self.skip -= n;
                if self.skip > 0 {
                    break;
                }
            }
            let Some(head) = bytes.get(..7) else { break };
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let number = u16::from_be_bytes([head[1], head[2]]);
            match head[0] {
                3 => {
                    let channel = self.channel(number);
                    channel.body_left -= size as u64;
                    if channel.body_left == 0 {
                        channel.published += 1;
                        publishes += 1;
                        if channel.confirms && channel.published - channel.acked == 1 {
                            self.touched.push(number);
                        }
                    }
                    self.skip = size + 8;
                }
                2 => {
                    let Some(h) = bytes.get(7..19) else { break };
                    let body = u64::from_be_bytes([h[4], h[5], h[6], h[7], h[8], h[9], h[10], h[11]]);
                    let channel = self.channel(number);
                    channel.body_left = body;
                    if body == 0 {
                        channel.published += 1;
                        publishes += 1;
                        if channel.confirms && channel.published - channel.acked == 1 {
                            self.touched.push(number);
                        }
                    }
                    self.skip = size + 8;
                }
                1 => {
                    let Some((_, _, payload, len)) = amqp::frame(bytes) else { break };
                    if payload.starts_with(&[0, 60, 0, 40]) {
                        let exchange = usize::from(payload[6]);
                        // What a route did is seen from here: the rest of the world's keys are the load's own.
                        if payload[7 + exchange..].get(1..3) == Some(b"q.") {
                            counts.routed.fetch_add(1, Relaxed);
                        }
                    } else {
                        self.method(number, payload, counts);
                    }
                    bytes = &bytes[len..];
                }
                _ => {
                    let Some((_, _, _, len)) = amqp::frame(bytes) else { break };
                    bytes = &bytes[len..];
                }
            }
        }
        self.tail = bytes.to_vec();
        counts.publishes.fetch_add(publishes, Relaxed);
        for number in std::mem::take(&mut self.touched) {
            let channel = self.channel(number);
            let (tag, multiple) = (channel.published, channel.published - channel.acked > 1);
            channel.acked = tag;
            Method::new(&mut self.out, number, 60, 80).u64(tag).bytes(&[u8::from(multiple)]).end();
            counts.acks.fetch_add(1, Relaxed);
        }
    }

    fn method(&mut self, number: u16, payload: &[u8], counts: &Counts) {
        let name = |at: usize| {
            let len = usize::from(payload[at]);
            (&payload[at + 1..at + 1 + len], at + 1 + len)
        };
        let out = &mut self.out;
        match amqp::method_id(payload) {
            (10, 11) => Method::new(out, 0, 10, 30).u16(2047).u32(131_072).u16(60).end(),
            (10, 40) => {
                Method::new(out, 0, 10, 41).short_string(b"").end();
            }
            (10, 50) => {
                Method::new(out, 0, 10, 51).end();
                self.closing = true;
            }
            (20, 10) => {
                counts.channels.fetch_add(1, Relaxed);
                Method::new(out, number, 20, 11).long_string(b"").end();
                *self.channel(number) = Channel::default();
            }
            (20, 40) => Method::new(out, number, 20, 41).end(),
            (85, 10) => {
                Method::new(out, number, 85, 11).end();
                let confirms = !self.mute;
                self.channel(number).confirms = confirms;
            }
            (50, 10) => {
                let (queue, at) = name(6);
                if payload[at] & 0x10 == 0 {
                    Method::new(out, number, 50, 11).short_string(queue).u32(0).u32(0).end();
                }
            }
            (40, 10) => {
                let (_, at) = name(6);
                let (_, at) = name(at);
                if payload[at] & 0x10 == 0 {
                    Method::new(out, number, 40, 11).end();
                }
            }
            (50, 20) => Method::new(out, number, 50, 21).end(),
            (60, 10) => Method::new(out, number, 60, 11).end(),
            _ => {}
        }
    }

    /// Writes what there is to write; false: the connection is over.
    fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(n) => {
                    self.out.drain(..n);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        !self.closing
    }

    /// Reads what there is to read; false: the connection is over.
    fn read(&mut self, buffer: &mut [u8], counts: &Counts) -> bool {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    counts.reads.fetch_add(1, Relaxed);
                    counts.bytes.fetch_add(n as u64, Relaxed);
                    self.take(&buffer[..n], counts);
                    if !self.flush() {
                        return false;
                    }
                    // Edge-triggered, yet a short read has emptied the socket: what comes later is a new edge.
                    if n < buffer.len() {
                        return true;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

fn control(port: u16, counts: Arc<Counts>) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("control port");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = Arc::clone(&counts);
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut lines = BufReader::new(&stream);
                let mut line = String::new();
                while matches!(lines.read_line(&mut line), Ok(n) if n > 0) {
                    let c = &counts;
                    let answer = format!(
                        "{{\"publishes\": {}, \"bytes\": {}, \"reads\": {}, \"acks\": {}, \"connections\": {}, \"open\": {}, \"channels\": {}, \"routed\": {}}}\n",
                        c.publishes.load(Relaxed),
                        c.bytes.load(Relaxed),
                        c.reads.load(Relaxed),
                        c.acks.load(Relaxed),
                        c.connections.load(Relaxed),
                        c.open.load(Relaxed),
                        c.channels.load(Relaxed),
                        c.routed.load(Relaxed),
                    );
                    if (&stream).write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
}

/// With as long a queue as the kernel allows, as HAProxy and Umbel have: Rust's own listeners have 128 places.
fn listen(port: u16) -> std::io::Result<std::net::TcpListener> {
    let bound = std::net::TcpListener::bind(("127.0.0.1", port))?;
    socket2::SockRef::from(&bound).listen(4096)?;
    bound.set_nonblocking(true)?;
    Ok(bound)
}

fn main() -> std::io::Result<()> {
    let args = Args::from_env(&["port", "control", "mute"]);
    let counts = Arc::new(Counts::default());
    let mute = args.flag("mute");
    control(args.number("control", 5699), Arc::clone(&counts));
    let mut listener = TcpListener::from_std(listen(args.number("port", 5698_u16))?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut beat = Instant::now();
    println!("listening");
    loop {
        poll.poll(&mut events, Some(Duration::from_secs(5)))?;
        for event in &events {
            if event.token() == LISTENER {
                loop {
                    match listener.accept() {
                        Ok((mut socket, _)) => {
                            let _ = socket.set_nodelay(true);
                            let at = free.pop().unwrap_or_else(|| {
                                connections.push(None);
                                connections.len() - 1
                            });
                            poll.registry().register(
                                &mut socket,
                                Token(at),
                                Interest::READABLE | Interest::WRITABLE,
                            )?;
                            counts.connections.fetch_add(1, Relaxed);
                            counts.open.fetch_add(1, Relaxed);
                            connections[at] = Some(Connection {
                                socket,
                                greeted: false,
                                channels: Vec::new(),
                                tail: Vec::new(),
                                skip: 0,
                                out: Vec::new(),
                                touched: Vec::new(),
                                closing: false,
                                mute,
                            });
                        }
                        Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                        Err(e) => {
                            eprintln!("accept: {e}");
                            break;
                        }
                    }
                }
                continue;
            }
            let at = event.token().0;
            let Some(c) = connections.get_mut(at).and_then(Option::as_mut) else { continue };
            let mut alive = true;
            if event.is_writable() && !c.out.is_empty() {
                alive = c.flush();
            }
            if alive && event.is_readable() {
                alive = c.read(&mut buffer, &counts);
            }
            if !alive {
                connections[at] = None;
                counts.open.fetch_sub(1, Relaxed);
                free.push(at);
            }
        }
        if beat.elapsed() > Duration::from_secs(20) {
            beat = Instant::now();
            for c in connections.iter_mut().flatten().filter(|c| c.greeted && c.out.is_empty()) {
                c.out.extend_from_slice(&HEARTBEAT);
                c.flush();
            }
        }
    }
}
