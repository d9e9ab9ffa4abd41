//! The producers. Every mode logs in first, says `ready`, waits for a line on its standard input, and answers with one line of JSON.
//!
//! publish  as fast as the window lets it · paced  so many a second · latency  one confirmed publish at a time
//! cycles   connect, publish, close · idle  connections that do nothing · storm  everybody connects at once
//!
//! `--message` names a file of encoded publishes on channel 1, all of one length, sent in turn.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use umbel_bench::amqp;
use umbel_bench::args::Args;
use umbel_bench::client::{self, Client};
use umbel_bench::stats::Sample;

/// What is offered to the kernel at once, at most.
const WRITE_BYTES: usize = 1024 * 1024;

fn main() {
    let args = Args::from_env(&[
        "mode", "to", "message", "size", "connections", "count", "warm", "window", "confirm", "rate", "control", "queue", "broker", "parallel",
        "seconds", "publish", "write",
    ]);
    let done = match args.text("mode", "publish").as_str() {
        "publish" => publish(&args),
        "paced" => paced(&args),
        "latency" => latency(&args),
        "cycles" => cycles(&args),
        "idle" => idle(&args),
        "storm" => storm(&args),
        "beside" => beside(&args),
        "prepare" => prepare(&args),
        other => Err(io::Error::other(format!("no mode {other}"))),
    };
    match done {
        Ok(json) => println!("{{{json}}}"),
        Err(e) => {
            println!("{{\"error\": \"{}\"}}", e.to_string().replace('"', "'"));
            std::process::exit(1);
        }
    }
}

/// The runner reads its clocks now.
fn ready() -> io::Result<()> {
    println!("ready");
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(())
}

/// Encoded publishes, one after the other, repeated to fill large writes.
struct Message {
    bytes: Vec<u8>,
    /// Of one publish.
    len: usize,
}

impl Message {
    fn read(args: &Args) -> io::Result<Self> {
        let one = std::fs::read(args.text("message", "message.bin"))?;
        let len = args.number("size", one.len());
        assert!(len > 0 && one.len() % len == 0, "publishes of one length");
        let mut bytes = one.clone();
        while bytes.len() < WRITE_BYTES {
            bytes.extend_from_slice(&one);
        }
        Ok(Self { bytes, len })
    }
}

/// One producer with channel 1 open.
struct Producer {
    socket: TcpStream,
    tail: Vec<u8>,
    sent_bytes: u64,
    acked: u64,
    strays: BTreeSet<u64>,
    refused: u64,
    /// Ack frames that came.
    answers: u64,
}

impl Producer {
    fn connect(to: &str, confirms: bool) -> io::Result<Self> {
        let client = Client::channel(to, confirms)?;
        client.socket.set_nonblocking(true)?;
        Ok(Self {
            socket: TcpStream::from_std(client.socket),
            tail: Vec::new(),
            sent_bytes: 0,
            acked: 0,
            strays: BTreeSet::new(),
            refused: 0,
            answers: 0,
        })
    }

    /// Sends up to publish number `limit`.
    fn send(&mut self, message: &Message, limit: u64, write_bytes: usize) -> io::Result<()> {
        let end = limit * message.len as u64;
        while self.sent_bytes < end {
            let at = (self.sent_bytes % message.bytes.len() as u64) as usize;
            let room = usize::try_from(end - self.sent_bytes).unwrap_or(usize::MAX).min(message.bytes.len() - at).min(write_bytes);
            match self.socket.write(&message.bytes[at..at + room]) {
                Ok(n) => {
                    self.sent_bytes += n as u64;
                    if n < room {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads what there is.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.take(&buffer[..n])?;
                    if n < buffer.len() {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut tail = std::mem::take(&mut self.tail);
        let all: &[u8] = if tail.is_empty() {
            bytes
        } else {
            tail.extend_from_slice(bytes);
            &tail
        };
        let mut rest = all;
        while let Some((kind, _, payload, len)) = amqp::frame(rest) {
            rest = &rest[len..];
            if kind != 1 {
                continue;
            }
            match amqp::method_id(payload) {
                (60, id @ (80 | 120)) => {
                    let tag = u64::from_be_bytes(payload[4..12].try_into().expect("eight octets"));
                    let multiple = payload[12] & 1 == 1;
                    self.answers += 1;
                    self.refused += u64::from(id == 120);
                    if multiple {
                        self.acked = self.acked.max(tag);
                        self.strays = self.strays.split_off(&(tag + 1));
                    } else if tag == self.acked + 1 {
                        self.acked = tag;
                    } else {
                        self.strays.insert(tag);
                    }
                    while self.strays.remove(&(self.acked + 1)) {
                        self.acked += 1;
                    }
                }
                (10, 60 | 61) => {}
                id => return Err(io::Error::other(format!("got {id:?}: {}", String::from_utf8_lossy(payload)))),
            }
        }
        self.tail = rest.to_vec();
        Ok(())
    }
}

/// How the end of unconfirmed publishes is known: the null broker's count, or a queue's depth.
enum Sink {
    Control(BufReader<std::net::TcpStream>),
    Queue(Box<Client>, String),
    None,
}

impl Sink {
    fn open(args: &Args) -> io::Result<Self> {
        let (control, queue) = (args.text("control", ""), args.text("queue", ""));
        if !control.is_empty() {
            let socket = std::net::TcpStream::connect(control)?;
            socket.set_nodelay(true)?;
            return Ok(Self::Control(BufReader::new(socket)));
        }
        if !queue.is_empty() {
            return Ok(Self::Queue(Box::new(Client::channel(&args.text("broker", "127.0.0.1:5672"), false)?), queue));
        }
        Ok(Self::None)
    }

    fn count(&mut self) -> io::Result<u64> {
        match self {
            Self::Control(lines) => {
                lines.get_mut().write_all(b"\n")?;
                let mut line = String::new();
                lines.read_line(&mut line)?;
                let digits: String = line.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
                digits.parse().map_err(io::Error::other)
            }
            Self::Queue(client, queue) => client.depth(queue),
            Self::None => Ok(u64::MAX),
        }
    }

    fn wait(&mut self, count: u64, patience: Duration) -> io::Result<()> {
        let start = Instant::now();
        let mut last = (0, start);
        loop {
            let now = self.count()?;
            if now >= count {
                return Ok(());
            }
            if now != last.0 {
                last = (now, Instant::now());
            }
            if last.1.elapsed() > patience {
                return Err(io::Error::other(format!("{now} of {count} arrived, then nothing for {patience:?}")));
            }
            std::thread::sleep(Duration::from_micros(if matches!(self, Self::Queue(..)) { 3000 } else { 300 }));
        }
    }
}

struct Producers {
    poll: Poll,
    events: Events,
    all: Vec<Producer>,
    buffer: Vec<u8>,
}

impl Producers {
    fn connect(args: &Args, confirms: bool) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut all = Vec::new();
        for i in 0..args.number("connections", 1_usize) {
            let mut p = Producer::connect(&args.text("to", "127.0.0.1:5672"), confirms)?;
            poll.registry().register(&mut p.socket, Token(i), Interest::READABLE | Interest::WRITABLE)?;
            all.push(p);
        }
        Ok(Self { poll, events: Events::with_capacity(1024), all, buffer: vec![0; 64 * 1024] })
    }

    /// Everybody publishes up to number `upto`, with so many unconfirmed at most (0: no confirms), and hears of all.
    fn run(&mut self, message: &Message, upto: u64, window: u64, write_bytes: usize) -> io::Result<()> {
        let end_bytes = upto * message.len as u64;
        let over = |p: &Producer| p.sent_bytes >= end_bytes && (window == 0 || p.acked >= upto);
        let limit = |p: &Producer| if window == 0 { upto } else { upto.min(p.acked + window) };
        let mut left = 0;
        for p in &mut self.all {
            p.send(message, limit(p), write_bytes)?;
            left += usize::from(!over(p));
        }
        while left > 0 {
            self.poll.poll(&mut self.events, Some(Duration::from_secs(30)))?;
            if self.events.is_empty() {
                let p = self.all.iter().find(|p| !over(p)).map(|p| (p.sent_bytes / message.len as u64, p.acked));
                return Err(io::Error::other(format!("nothing for 30 s; sent and acked {p:?} of {upto}")));
            }
            for event in &self.events {
                let Some(p) = self.all.get_mut(event.token().0) else { continue };
                let was_over = over(p);
                if event.is_readable() {
                    p.receive(&mut self.buffer)?;
                }
                p.send(message, limit(p), write_bytes)?;
                left -= usize::from(!was_over && over(p));
            }
        }
        Ok(())
    }

    fn refused(&self) -> u64 {
        self.all.iter().map(|p| p.refused).sum()
    }

    fn answers(&self) -> u64 {
        self.all.iter().map(|p| p.answers).sum()
    }
}

/// `count` publishes over all connections.
fn publish(args: &Args) -> io::Result<String> {
    let message = Message::read(args)?;
    let window = args.number("window", 0_u64);
    let write_bytes = args.number("write", WRITE_BYTES);
    let mut sink = Sink::open(args)?;
    let mut producers = Producers::connect(args, window > 0)?;
    let connections = producers.all.len() as u64;
    let each = (args.number("count", 100_000_u64) / connections).max(1);
    let warm = args.number("warm", 1000_u64) / connections;
    let before = if matches!(sink, Sink::None) { 0 } else { sink.count()? };
    producers.run(&message, warm, window, write_bytes)?;
    sink.wait(before.saturating_add(warm * connections), Duration::from_secs(20))?;
    ready()?;
    let start = Instant::now();
    producers.run(&message, warm + each, window, write_bytes)?;
    let handed_over = start.elapsed();
    sink.wait(before.saturating_add((warm + each) * connections), Duration::from_secs(20))?;
    let took = start.elapsed();
    let count = each * connections;
    Ok(format!(
        "\"count\": {count}, \"seconds\": {:.6}, \"handed_over_seconds\": {:.6}, \"rate\": {:.0}, \"refused\": {}, \"answers\": {}",
        took.as_secs_f64(),
        handed_over.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        producers.refused(),
        producers.answers(),
    ))
}

/// `rate` confirmed publishes a second for `seconds`, one connection after the other.
fn paced(args: &Args) -> io::Result<String> {
    let message = Message::read(args)?;
    let rate = args.number("rate", 5000_u64);
    let confirms = args.number("confirm", 1_u8) == 1;
    let mut producers = Producers::connect(args, confirms)?;
    producers.run(&message, 20, u64::from(confirms) * 20, WRITE_BYTES)?;
    ready()?;
    let total = (args.number("seconds", 2.0_f64) * rate as f64) as u64;
    let n = producers.all.len() as u64;
    let start = Instant::now();
    let mut late = Vec::new();
    for i in 0..total {
        let due = Duration::from_nanos(i * 1_000_000_000 / rate);
        let now = start.elapsed();
        if now < due {
            std::thread::sleep(due - now);
        }
        late.push(start.elapsed().saturating_sub(due).as_nanos() as u64);
        let p = &mut producers.all[(i % n) as usize];
        p.receive(&mut producers.buffer)?;
        p.send(&message, 20 + i / n + 1, WRITE_BYTES)?;
    }
    let took = start.elapsed();
    let each = 20 + total.div_ceil(n);
    if confirms {
        producers.run(&message, each, 1000, WRITE_BYTES)?;
    }
    Ok(format!("\"count\": {total}, \"seconds\": {:.6}, \"late\": {{{}}}", took.as_secs_f64(), Sample::new(late).json()))
}

/// One confirmed publish at a time.
fn latency(args: &Args) -> io::Result<String> {
    let message = Message::read(args)?;
    let mut client = Client::channel(&args.text("to", "127.0.0.1:5672"), true)?;
    let count = args.number("count", 20_000_usize);
    let mut once = |i: usize| -> io::Result<u64> {
        let at = (i * message.len) % message.bytes.len();
        let start = Instant::now();
        client.socket.write_all(&message.bytes[at..at + message.len])?;
        client.expect(60, 80)?;
        Ok(start.elapsed().as_nanos() as u64)
    };
    for i in 0..args.number("warm", 1000_usize) {
        once(i)?;
    }
    ready()?;
    let start = Instant::now();
    let mut all = Vec::with_capacity(count);
    for i in 0..count {
        all.push(once(i)?);
    }
    Ok(format!("\"count\": {count}, \"seconds\": {:.6}, {}", start.elapsed().as_secs_f64(), Sample::new(all).json()))
}

/// Connect, log in, open a channel, publish once, close both; on `parallel` threads for `seconds`.
fn cycles(args: &Args) -> io::Result<String> {
    let message = Message::read(args)?;
    let (to, confirms) = (args.text("to", "127.0.0.1:5672"), args.flag("confirm"));
    let once = || -> io::Result<u64> {
        let start = Instant::now();
        let mut c = Client::channel(&to, confirms)?;
        c.socket.write_all(&message.bytes[..message.len])?;
        if confirms {
            c.expect(60, 80)?;
        }
        c.say(client::channel_close)?;
        c.expect(20, 41)?;
        c.say(client::connection_close)?;
        c.expect(10, 51)?;
        Ok(start.elapsed().as_nanos() as u64)
    };
    for _ in 0..args.number("warm", 3_u32) {
        once()?;
    }
    ready()?;
    let seconds = args.number("seconds", 2.0_f64);
    let start = Instant::now();
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.number("parallel", 4_u32))
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    while start.elapsed().as_secs_f64() < seconds {
                        mine.push(once()?);
                    }
                    io::Result::Ok(mine)
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| io::Error::other("a thread ended"))??);
        }
        io::Result::Ok(all)
    })?;
    let took = start.elapsed().as_secs_f64();
    Ok(format!("\"count\": {}, \"seconds\": {took:.6}, \"rate\": {:.1}, {}", all.len(), all.len() as f64 / took, Sample::new(all).json()))
}

/// Connections with one channel, of which `publish` say one confirmed publish each; they stay until the next line.
fn idle(args: &Args) -> io::Result<String> {
    let message = if args.flag("publish") { Some(Message::read(args)?) } else { None };
    let (to, n) = (args.text("to", "127.0.0.1:5672"), args.number("connections", 1000_usize));
    // One first: what is paid once for all is no connection's price.
    let _first = Client::channel(&to, true)?;
    ready()?;
    let mut all = Vec::new();
    for _ in 0..n {
        let mut c = Client::channel(&to, message.is_some())?;
        if let Some(m) = &message {
            c.socket.write_all(&m.bytes[..m.len])?;
            c.expect(60, 80)?;
        }
        all.push(c);
    }
    std::thread::sleep(Duration::from_secs_f64(args.number("seconds", 1.0)));
    ready()?;
    Ok(format!("\"connections\": {}", all.len()))
}

/// Everybody connects in the same moment; how long until all are logged in.
fn storm(args: &Args) -> io::Result<String> {
    let n = args.number("connections", 10_000_usize);
    let address: SocketAddr = args.text("to", "127.0.0.1:5672").parse().map_err(io::Error::other)?;
    let _first = Client::channel(&args.text("to", ""), false)?;
    ready()?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(4096);
    struct Guest {
        socket: TcpStream,
        said: u8,
        tail: Vec<u8>,
    }
    let start = Instant::now();
    let mut all = Vec::with_capacity(n);
    for i in 0..n {
        let mut socket = TcpStream::connect(address)?;
        poll.registry().register(&mut socket, Token(i), Interest::READABLE | Interest::WRITABLE)?;
        all.push(Guest { socket, said: 0, tail: Vec::new() });
    }
    let mut times = Vec::with_capacity(n);
    let mut lost = 0;
    let mut buffer = vec![0; 16 * 1024];
    while times.len() + lost < n {
        poll.poll(&mut events, Some(Duration::from_secs(20)))?;
        if events.is_empty() {
            break;
        }
        for event in &events {
            let g = &mut all[event.token().0];
            if g.said == 9 {
                continue;
            }
            if g.said == 0 && event.is_writable() {
                if g.socket.take_error()?.is_some() || g.socket.write_all(amqp::HEADER).is_err() {
                    lost += 1;
                    g.said = 9;
                    continue;
                }
                g.said = 1;
            }
            loop {
                match g.socket.read(&mut buffer) {
                    Ok(0) => {
                        lost += 1;
                        g.said = 9;
                        break;
                    }
                    Ok(n) => g.tail.extend_from_slice(&buffer[..n]),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        lost += 1;
                        g.said = 9;
                        break;
                    }
                }
            }
            while let Some((kind, _, payload, len)) = amqp::frame(&g.tail) {
                let id = (kind, amqp::method_id(payload));
                g.tail.drain(..len);
                let mut out = Vec::new();
                match id {
                    (1, (10, 10)) => client::start_ok(&mut out),
                    (1, (10, 30)) => {
                        client::tune_ok(&mut out, 131_072);
                        client::open(&mut out);
                    }
                    (1, (10, 41)) => {
                        times.push(start.elapsed().as_nanos() as u64);
                        g.said = 9;
                    }
                    _ => {}
                }
                if !out.is_empty() && g.socket.write_all(&out).is_err() {
                    lost += 1;
                    g.said = 9;
                }
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    ready()?;
    Ok(format!("\"connections\": {}, \"lost\": {}, \"seconds\": {seconds:.3}, {}", times.len(), n - times.len(), Sample::new(times).json()))
}

/// One client's confirmed publishes, one every millisecond, while others flood: its percentiles alone.
fn beside(args: &Args) -> io::Result<String> {
    let message = Message::read(args)?;
    let mut client = Client::channel(&args.text("to", "127.0.0.1:5672"), true)?;
    let seconds = args.number("seconds", 2.0_f64);
    ready()?;
    let start = Instant::now();
    let mut all = Vec::new();
    while start.elapsed().as_secs_f64() < seconds {
        let at = Instant::now();
        client.socket.write_all(&message.bytes[..message.len])?;
        client.expect(60, 80)?;
        all.push(at.elapsed().as_nanos() as u64);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(format!("\"count\": {}, {}", all.len(), Sample::new(all).json()))
}

/// A durable queue that is there and empty.
fn prepare(args: &Args) -> io::Result<String> {
    let mut client = Client::channel(&args.text("to", "127.0.0.1:5672"), false)?;
    let queue = args.text("queue", "bench");
    client.declare(&queue, true)?;
    client.purge(&queue)?;
    Ok("\"ok\": true".to_owned())
}
