//! One client's socket: bytes in, bytes out. The protocol is the Hub's.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::thread::{Signal, Thread};
use super::tls::Transport;
use crate::metrics::SessionEnd;
use crate::session::SessionId;

/// Reads of one client before others get their turn.
const READS_A_TURN: u32 = 2;
/// Whoever sends so much at a time is counted among the floods that share the thread.
const FLOOD_BYTES: usize = 64 * 1024;
/// So much of a message makes it a large one; so much of it is read in one turn at most.
const LARGE_BYTES: usize = 48 * 1024;
const LARGE_MAX: usize = 1280 * 1024;
/// How long a client that was told goodbye is listened to, so that a reset does not destroy our last words.
const LINGER: Duration = Duration::from_millis(1500);

/// Ends the session in the Hub however the task ends, by a panic too (SPEC S5).
pub struct Ending {
    thread: Rc<Thread>,
    sid: SessionId,
}

impl Ending {
    /// From here on the session ends with its task.
    pub fn new(thread: &Rc<Thread>, sid: SessionId) -> Self {
        Self { thread: Rc::clone(thread), sid }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.thread.metrics.clients.panics.inc();
            self.thread.metrics.clients.ends.of(SessionEnd::Panic).inc();
            tracing::error!(session = self.sid.0, "a panic ends this session alone");
        }
        // A second panic, on the way out of the first, would end the process.
        let end = std::panic::AssertUnwindSafe(|| self.thread.remove_session(self.sid));
        if std::panic::catch_unwind(end).is_err() {
            self.thread.metrics.clients.panics.inc();
        }
    }
}

/// Octets that a client is heard with when a drain is over: one that sends faster than it is read has no last octet.
const LAST_BYTES_MAX: usize = 64 << 20;

struct Client {
    thread: Rc<Thread>,
    sid: SessionId,
    signal: Rc<Signal>,
    /// What the Hub has not taken: part of a frame, or what waits behind a gate.
    kept: Vec<u8>,
    ended: bool,
    /// When it was last counted among the floods.
    flooded: u64,
    /// TLS has taken what the socket has not.
    unflushed: bool,
}

/// Until the client, or the Hub, has had enough.
pub async fn run(ending: Ending, mut io: Transport, signal: Rc<Signal>) {
    let (thread, sid) = (Rc::clone(&ending.thread), ending.sid);
    let mut client =
        Client { thread, sid, signal, kept: Vec::new(), ended: false, flooded: 0, unflushed: false };
    let result = std::future::poll_fn(|cx| client.poll(cx, &mut io)).await;
    let end = match &result {
        Err(_) => SessionEnd::Reset,
        Ok(()) if client.ended => SessionEnd::Eof,
        Ok(()) => SessionEnd::Closed,
    };
    client.thread.metrics.clients.ends.of(end).inc();
    if let Err(error) = result {
        tracing::debug!(session = sid.0, %error, "client connection lost");
        return;
    }
    let goodbye = async {
        let rest = client.thread.hub.borrow().client_out(sid).to_vec();
        io.write_all(&rest).await?;
        io.shutdown().await?;
        // Not in the task itself, which every connection pays for as long as it lives.
        let mut sink = vec![0; 4096];
        while !client.ended && io.read(&mut sink).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    let _ = tokio::time::timeout(LINGER, goodbye).await;
}

impl Client {
    fn poll(&mut self, cx: &mut Context<'_>, io: &mut Transport) -> Poll<io::Result<()>> {
        self.signal.listen(cx.waker());
        if self.signal.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.signal.is_last_call() {
            // Read to the last octet, then reset at once: what it writes next must fail, for nobody would read it.
            let mut left = LAST_BYTES_MAX;
            while let (Poll::Ready(Ok(read)), false) = (self.poll_read(cx, io), self.ended) {
                left = left.saturating_sub(read);
                if left == 0 {
                    break;
                }
            }
            io.reset_on_close();
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let mut read = 0;
        for turn in 0.. {
            if self.poll_write(cx, io)? && self.signal.hangs_up() {
                return Poll::Ready(Ok(()));
            }
            if self.signal.take_resume() && !self.kept.is_empty() {
                let kept = std::mem::take(&mut self.kept);
                self.hand_in(&kept);
                continue;
            }
            if self.ended {
                // What waits behind a gate was sent before the end of file: it still counts.
                let waits = !self.kept.is_empty() && !self.thread.hub.borrow().client_gate_open(self.sid);
                return if waits { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            if !self.thread.hub.borrow().client_wants_reads(self.sid, self.kept.len()) {
                return Poll::Pending;
            }
            if turn >= READS_A_TURN || read >= self.thread.read_bytes() / 2 {
                // A large message that is begun is read on, before others are begun: held by halves, many take much memory.
                let within = self.is_within_a_message();
                if !within {
                    super::thread::yield_to_all(cx);
                    return Poll::Pending;
                }
                if read >= LARGE_MAX {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            if self.thread.hub.borrow().client_floods(self.sid) && !self.signal.take_turn() {
                self.thread.wait_for_room(&self.signal);
                return Poll::Pending;
            }
            match self.poll_read(cx, io) {
                Poll::Ready(Ok(n)) => read += n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    // The read may have caused something to write.
                    if self.poll_write(cx, io)? && self.signal.hangs_up() {
                        return Poll::Ready(Ok(()));
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Pending
    }

    fn is_within_a_message(&self) -> bool {
        self.kept.len() >= LARGE_BYTES
            || self.thread.hub.borrow().client_is_within_a_message(self.sid, LARGE_BYTES)
    }

    /// Writes what there is; whether all of it is in the socket.
    fn poll_write(&mut self, cx: &mut Context<'_>, io: &mut Transport) -> io::Result<bool> {
        let mut wrote = false;
        loop {
            let mut hub = self.thread.hub.borrow_mut();
            let out = hub.client_out(self.sid);
            if out.is_empty() {
                break;
            }
            match Pin::new(&mut *io).poll_write(cx, out) {
                Poll::Ready(Ok(n)) => {
                    self.thread.metrics.flows.client_out.bytes.inc_by(crate::wire::num::u64_of(n));
                    hub.client_written(self.thread.now(), self.sid, n);
                    wrote = true;
                }
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => return Ok(false),
            }
        }
        if wrote {
            self.unflushed = matches!(io, Transport::Tls(_));
            let own = self.thread.hub.borrow().pinned_link(self.sid);
            if let Some(lid) = own {
                self.thread.wake_link(lid);
            }
        }
        if self.unflushed {
            self.unflushed = Pin::new(&mut *io).poll_flush(cx)?.is_pending();
        }
        Ok(!self.unflushed)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, io: &mut Transport) -> Poll<io::Result<usize>> {
        let thread = Rc::clone(&self.thread);
        let mut buffer = thread.buffer.borrow_mut();
        let most = thread.read_bytes();
        let (bytes, read) = std::task::ready!(super::read::poll(cx, io, &mut self.kept, &mut buffer, most))?;
        self.count(read);
        self.hand_in(&bytes);
        Poll::Ready(Ok(read))
    }

    fn count(&mut self, read: usize) {
        if read >= FLOOD_BYTES {
            self.flooded = self.thread.count_flood(self.flooded);
        }
        self.ended |= read == 0;
        self.thread.metrics.flows.client_in.bytes.inc_by(crate::wire::num::u64_of(read));
    }

    /// The Hub takes what it can; the rest is kept.
    fn hand_in(&mut self, bytes: &[u8]) {
        let arrived_us = self.thread.clock.us();
        let took = {
            let mut hub = self.thread.hub.borrow_mut();
            let mut judge = self.thread.judge.borrow_mut();
            let before = hub.counters.let_in();
            let took = hub.client_bytes(self.thread.now(), self.sid, bytes, &mut **judge);
            self.thread.way.came_in(hub.counters.let_in().saturating_sub(before), arrived_us);
            took
        };
        let rest = bytes.get(took..).unwrap_or(&[]);
        if rest.is_empty() {
            if self.kept.capacity() > 0 {
                self.kept = Vec::new();
            }
        } else {
            let missing = crate::wire::frame::missing(rest).min(1 << 20);
            self.kept = Vec::with_capacity(rest.len() + missing);
            self.kept.extend_from_slice(rest);
        }
        self.thread.carry_out();
    }
}
