//! One client that waits for each confirm: alone, or beside others.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use umbel_bench::args::Args;
use umbel_bench::client::Client;
use umbel_bench::stats::Sample;

use crate::message::Message;
use crate::ready;

/// One confirmed publish at a time.
pub fn latency(args: &Args) -> io::Result<String> {
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
    Ok(format!(
        "\"count\": {count}, \"seconds\": {:.6}, {}",
        start.elapsed().as_secs_f64(),
        Sample::new(all).json()
    ))
}

/// One client's confirmed publishes, one every millisecond, while others flood: its percentiles alone.
pub fn beside(args: &Args) -> io::Result<String> {
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
