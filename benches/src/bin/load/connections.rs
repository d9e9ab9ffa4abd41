//! Connections that come and go, and connections that stay and do nothing.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use umbel_bench::args::Args;
use umbel_bench::client::{self, Client};
use umbel_bench::stats::Sample;

use crate::message::Message;
use crate::ready;

/// Connect, log in, open a channel, publish once, close both; on `parallel` threads for `seconds`.
pub fn cycles(args: &Args) -> io::Result<String> {
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
    Ok(format!(
        "\"count\": {}, \"seconds\": {took:.6}, \"rate\": {:.1}, {}",
        all.len(),
        all.len() as f64 / took,
        Sample::new(all).json()
    ))
}

/// Connections with one channel, of which `publish` say one confirmed publish each; they stay until the next line.
pub fn idle(args: &Args) -> io::Result<String> {
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
