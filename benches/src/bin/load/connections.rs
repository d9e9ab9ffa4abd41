//! Connections that come and go, and connections that stay and do nothing.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use umbel_bench::args::Args;
use umbel_bench::client::{self, Client};
use umbel_bench::stats::Sample;

use crate::message::Message;
use crate::ready;
use crate::sink::Sink;

/// Connect, log in, open a channel, publish once, close both; on `parallel` threads for `seconds`, and then until all of it has arrived.
pub fn cycles(args: &Args) -> io::Result<String> {
    let message = Message::read(args)?;
    let (to, confirms) = (args.text("to", "127.0.0.1:5672"), args.flag("confirm"));
    let once = || -> io::Result<()> {
        let mut c = Client::channel(&to, confirms)?;
        c.socket.write_all(&message.bytes[..message.len])?;
        if confirms {
            c.expect(60, 80)?;
        }
        c.say(client::channel_close)?;
        c.expect(20, 41)?;
        c.say(client::connection_close)?;
        c.expect(10, 51).map(drop)
    };
    let mut sink = Sink::open(args)?;
    let before = if matches!(sink, Sink::None) { 0 } else { sink.count()? };
    let done = together(args, || Ok(once))?;
    // What is acknowledged to nobody may still be under way, and its cost is a cycle's, too.
    sink.wait(before.saturating_add(done.warm + done.times.len() as u64), Duration::from_secs(20))?;
    Ok(done.json())
}

/// The same confirmed publishes over connections that stay: what no cycle with confirms can be quicker than.
pub fn steady(args: &Args) -> io::Result<String> {
    let message = &Message::read(args)?;
    let to = args.text("to", "127.0.0.1:5672");
    let done = together(args, || {
        let mut c = Client::channel(&to, true)?;
        Ok(move || {
            c.socket.write_all(&message.bytes[..message.len])?;
            c.expect(60, 80).map(drop)
        })
    })?;
    Ok(done.json())
}

/// What was done again and again.
struct Done {
    /// Before anything was measured.
    warm: u64,
    start: Instant,
    seconds: f64,
    times: Vec<u64>,
}

impl Done {
    /// `arrived_rate`: until now, when all has arrived.
    fn json(self) -> String {
        let count = self.times.len();
        format!(
            "\"count\": {count}, \"seconds\": {:.6}, \"rate\": {:.1}, \"arrived_rate\": {:.1}, {}",
            self.seconds,
            count as f64 / self.seconds,
            count as f64 / self.start.elapsed().as_secs_f64(),
            Sample::new(self.times).json()
        )
    }
}

/// What `begin` makes is done again and again, by each of `parallel` threads for `seconds`.
fn together<Once>(args: &Args, begin: impl Fn() -> io::Result<Once> + Sync) -> io::Result<Done>
where
    Once: FnMut() -> io::Result<()>,
{
    let warm = args.number("warm", 3_u64);
    let mut once = begin()?;
    for _ in 0..warm {
        once()?;
    }
    drop(once);
    ready()?;
    let seconds = args.number("seconds", 2.0_f64);
    let start = Instant::now();
    let one = || {
        let (mut once, mut mine) = (begin()?, Vec::new());
        while start.elapsed().as_secs_f64() < seconds {
            let at = Instant::now();
            once()?;
            mine.push(at.elapsed().as_nanos() as u64);
        }
        io::Result::Ok(mine)
    };
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.number("parallel", 4_u32)).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| io::Error::other("a thread ended"))??);
        }
        io::Result::Ok(all)
    })?;
    Ok(Done { warm, start, seconds: start.elapsed().as_secs_f64(), times })
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
