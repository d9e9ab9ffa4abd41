//! How the end of unconfirmed publishes is known: the null broker's count, or a queue's depth.

use std::io::{self, BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use umbel_bench::args::Args;
use umbel_bench::client::Client;

/// See the module.
pub enum Sink {
    Control(BufReader<std::net::TcpStream>),
    Queue(Box<Client>, String),
    None,
}

impl Sink {
    pub fn open(args: &Args) -> io::Result<Self> {
        let (control, queue) = (args.text("control", ""), args.text("queue", ""));
        if !control.is_empty() {
            let socket = std::net::TcpStream::connect(control)?;
            socket.set_nodelay(true)?;
            return Ok(Self::Control(BufReader::new(socket)));
        }
        if !queue.is_empty() {
            return Ok(Self::Queue(
                Box::new(Client::channel(&args.text("broker", "127.0.0.1:5672"), false)?),
                queue,
            ));
        }
        Ok(Self::None)
    }

    pub fn count(&mut self) -> io::Result<u64> {
        match self {
            Self::Control(lines) => {
                lines.get_mut().write_all(b"\n")?;
                let mut line = String::new();
                lines.read_line(&mut line)?;
                let digits: String = line
                    .chars()
                    .skip_while(|c| !c.is_ascii_digit())
                    .take_while(char::is_ascii_digit)
                    .collect();
                digits.parse().map_err(io::Error::other)
            }
            Self::Queue(client, queue) => client.depth(queue),
            Self::None => Ok(u64::MAX),
        }
    }

    pub fn wait(&mut self, count: u64, patience: Duration) -> io::Result<()> {
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
                return Err(io::Error::other(format!(
                    "{now} of {count} arrived, then nothing for {patience:?}"
                )));
            }
            std::thread::sleep(Duration::from_micros(if matches!(self, Self::Queue(..)) {
                3000
            } else {
                300
            }));
        }
    }
}
