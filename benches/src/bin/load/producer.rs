//! One producer with channel 1 open: what it has sent, and what was answered.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;
use umbel_bench::amqp;
use umbel_bench::client::Client;

use crate::message::Message;

/// See the module.
pub struct Producer {
    pub socket: TcpStream,
    tail: Vec<u8>,
    pub sent_bytes: u64,
    pub acked: u64,
    strays: BTreeSet<u64>,
    pub refused: u64,
    /// Ack frames that came.
    pub answers: u64,
}

impl Producer {
    pub fn connect(to: &str, confirms: bool) -> io::Result<Self> {
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
    pub fn send(&mut self, message: &Message, limit: u64, write_bytes: usize) -> io::Result<()> {
        let end = limit * message.len as u64;
        while self.sent_bytes < end {
            let at = (self.sent_bytes % message.bytes.len() as u64) as usize;
            let room = usize::try_from(end - self.sent_bytes)
                .unwrap_or(usize::MAX)
                .min(message.bytes.len() - at)
                .min(write_bytes);
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
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
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
                id => {
                    return Err(io::Error::other(format!(
                        "got {id:?}: {}",
                        String::from_utf8_lossy(payload)
                    )));
                }
            }
        }
        self.tail = rest.to_vec();
        Ok(())
    }
}
