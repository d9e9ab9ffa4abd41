//! Everybody connects in the same moment.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use umbel_bench::amqp;
use umbel_bench::args::Args;
use umbel_bench::client::{self, Client};
use umbel_bench::stats::Sample;

use crate::ready;

/// Everybody connects in the same moment; how long until all are logged in.
pub fn storm(args: &Args) -> io::Result<String> {
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
    Ok(format!(
        "\"connections\": {}, \"lost\": {}, \"seconds\": {seconds:.3}, {}",
        times.len(),
        n - times.len(),
        Sample::new(times).json()
    ))
}
