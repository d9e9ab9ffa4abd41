//! A blocking AMQP client: logs in, opens a channel, asks one thing at a time.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::amqp::{self, Method, Value};

/// Octets of a login up to connection.open, answered by start, tune and open-ok: what `storm` sends without waiting in between.
pub fn start_ok(out: &mut Vec<u8>) {
    let properties = amqp::table(&[
        ("product", Value::Text("umbel-bench")),
        ("platform", Value::Text("Rust")),
        (
            "capabilities",
            Value::Table(&[
                ("publisher_confirms", Value::True),
                ("consumer_cancel_notify", Value::True),
                ("connection.blocked", Value::True),
                ("authentication_failure_close", Value::True),
            ]),
        ),
    ]);
    Method::new(out, 0, 10, 11)
        .long_string(&properties)
        .short_string(b"PLAIN")
        .long_string(b"\0guest\0guest")
        .short_string(b"en_US")
        .end();
}

pub fn tune_ok(out: &mut Vec<u8>, frame_max: u32) {
    Method::new(out, 0, 10, 31).u16(2047).u32(frame_max).u16(0).end();
}

pub fn open(out: &mut Vec<u8>) {
    Method::new(out, 0, 10, 40).short_string(b"/").short_string(b"").bytes(&[0]).end();
}

pub fn channel_open(out: &mut Vec<u8>) {
    Method::new(out, 1, 20, 10).short_string(b"").end();
}

pub fn confirm_select(out: &mut Vec<u8>) {
    Method::new(out, 1, 85, 10).bytes(&[0]).end();
}

pub fn channel_close(out: &mut Vec<u8>) {
    Method::new(out, 1, 20, 40).u16(200).short_string(b"bye").u16(0).u16(0).end();
}

pub fn connection_close(out: &mut Vec<u8>) {
    Method::new(out, 0, 10, 50).u16(200).short_string(b"bye").u16(0).u16(0).end();
}

pub struct Client {
    pub socket: TcpStream,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Client {
    /// Logged in.
    pub fn login(address: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut c = Self { socket, buffer: Vec::new(), out: Vec::new() };
        c.socket.write_all(amqp::HEADER)?;
        c.expect(10, 10)?;
        c.say(start_ok)?;
        c.expect(10, 30)?;
        c.say(|out| {
            tune_ok(out, 131_072);
            open(out);
        })?;
        c.expect(10, 41)?;
        Ok(c)
    }

    /// With channel 1 open.
    pub fn channel(address: &str, confirms: bool) -> io::Result<Self> {
        let mut c = Self::login(address)?;
        c.say(channel_open)?;
        c.expect(20, 11)?;
        if confirms {
            c.say(confirm_select)?;
            c.expect(85, 11)?;
        }
        Ok(c)
    }

    pub fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.out.clear();
        write(&mut self.out);
        self.socket.write_all(&self.out)
    }

    /// The next method frame must be this one; its arguments.
    pub fn expect(&mut self, class: u16, method: u16) -> io::Result<Vec<u8>> {
        loop {
            while let Some((kind, _, payload, len)) = amqp::frame(&self.buffer) {
                let got =
                    (kind == 1).then(|| (amqp::method_id(payload), payload.get(4..).unwrap_or(&[]).to_vec()));
                self.buffer.drain(..len);
                match got {
                    None => {}
                    Some((id, args)) if id == (class, method) => return Ok(args),
                    Some((id, args)) => {
                        let text = String::from_utf8_lossy(&args).into_owned();
                        return Err(io::Error::other(format!(
                            "expected {class}.{method}, got {id:?} {text}"
                        )));
                    }
                }
            }
            let mut chunk = [0; 4096];
            let n = self.socket.read(&mut chunk)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }

    /// Messages ready in a queue.
    pub fn depth(&mut self, queue: &str) -> io::Result<u64> {
        self.say(|out| {
            Method::new(out, 1, 50, 10).u16(0).short_string(queue.as_bytes()).bytes(&[1]).u32(0).end()
        })?;
        let args = self.expect(50, 11)?;
        let at = 1 + usize::from(args[0]);
        Ok(u64::from(u32::from_be_bytes([args[at], args[at + 1], args[at + 2], args[at + 3]])))
    }

    /// Declares a queue; `durable` or gone with the broker.
    pub fn declare(&mut self, queue: &str, durable: bool) -> io::Result<()> {
        let bits = if durable { 2 } else { 0 };
        self.say(|out| {
            Method::new(out, 1, 50, 10).u16(0).short_string(queue.as_bytes()).bytes(&[bits]).u32(0).end()
        })?;
        self.expect(50, 11).map(|_| ())
    }

    pub fn purge(&mut self, queue: &str) -> io::Result<()> {
        self.say(|out| Method::new(out, 1, 50, 30).u16(0).short_string(queue.as_bytes()).bytes(&[0]).end())?;
        self.expect(50, 31).map(|_| ())
    }
}
