//! Many producers at once: as fast as their windows let them, or so many publishes a second.

use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use umbel_bench::args::Args;
use umbel_bench::stats::Sample;

use crate::message::Message;
use crate::producer::Producer;
use crate::sink::Sink;
use crate::{WRITE_BYTES, ready};

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
                let p =
                    self.all.iter().find(|p| !over(p)).map(|p| (p.sent_bytes / message.len as u64, p.acked));
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
pub fn publish(args: &Args) -> io::Result<String> {
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
pub fn paced(args: &Args) -> io::Result<String> {
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
    Ok(format!(
        "\"count\": {total}, \"seconds\": {:.6}, \"late\": {{{}}}",
        took.as_secs_f64(),
        Sample::new(late).json()
    ))
}
