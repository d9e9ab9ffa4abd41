//! A TCP relay with a distance: each direction arrives half a round trip later, and so does the connection itself.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use umbel_bench::args::Args;

type Road = Arc<(Mutex<VecDeque<(Instant, Vec<u8>)>>, Condvar)>;

/// Carries bytes from one socket to the other, each `delay` after it came; the first also `extra` later (the connect's round trip,
/// which loopback does not take).
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration, extra: Duration) {
    let road: Road = Arc::default();
    let far = Arc::clone(&road);
    std::thread::spawn(move || {
        loop {
            let (due, bytes) = {
                let mut queue = far.0.lock().expect("road");
                while queue.is_empty() {
                    queue = far.1.wait(queue).expect("road");
                }
                queue.pop_front().expect("not empty")
            };
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    });
    let mut delay_now = delay + extra;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = from.read(&mut buffer).unwrap_or(0);
        road.0.lock().expect("road").push_back((Instant::now() + delay_now, buffer[..n].to_vec()));
        road.1.notify_one();
        delay_now = delay;
        if n == 0 {
            return;
        }
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::from_env(&["port", "to", "rtt-ms"]);
    let rtt = Duration::from_micros(args.number("rtt-ms", 50_u64) * 1000);
    let to = args.text("to", "127.0.0.1:5672");
    let listener = TcpListener::bind(("127.0.0.1", args.number("port", 5697_u16)))?;
    println!("listening");
    for client in listener.incoming().flatten() {
        let to = to.clone();
        std::thread::spawn(move || {
            let Ok(server) = TcpStream::connect(&to) else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (Ok(client2), Ok(server2)) = (client.try_clone(), server.try_clone()) else { return };
            std::thread::spawn(move || carry(client, server, rtt / 2, rtt));
            carry(server2, client2, rtt / 2, Duration::ZERO);
        });
    }
    Ok(())
}
