//! One upstream's socket: dialed, then bytes in and out. The protocol is the Hub's.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::thread::{Signal, Thread};
use super::tls::Transport;
use crate::metrics::LinkDeath;
use crate::session::{LinkId, UpstreamId, Url};

/// Reads of one upstream before others get their turn.
const READS_A_TURN: u32 = 8;
/// Chunks handed to the kernel in one call.
const SLICES: usize = 16;

struct Ending {
    thread: Rc<Thread>,
    lid: LinkId,
    why: String,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.thread.metrics.clients.panics.inc();
            tracing::error!(link = self.lid.0, "a panic ends this link alone");
        }
        // A second panic, on the way out of the first, would end the process.
        let end = std::panic::AssertUnwindSafe(|| self.thread.remove_link(self.lid, &self.why));
        if std::panic::catch_unwind(end).is_err() {
            self.thread.metrics.clients.panics.inc();
        }
    }
}

struct Link {
    thread: Rc<Thread>,
    lid: LinkId,
    signal: Rc<Signal>,
    kept: Vec<u8>,
    /// TLS has taken what the socket has not.
    unflushed: bool,
    /// When it was dialed; none once it is open.
    opening_since_us: Option<u64>,
}

/// From dialing to the end.
pub async fn run(
    thread: Rc<Thread>,
    lid: LinkId,
    url: Url,
    upstream: UpstreamId,
    timeout_ms: u64,
    signal: Rc<Signal>,
) {
    let mut ending = Ending { thread: Rc::clone(&thread), lid, why: "given up".to_owned() };
    let began_us = thread.clock.us();
    let tls = thread.tls.borrow().get(upstream.0).cloned().flatten();
    let mut io = match super::dial::dial(&url, tls.as_ref(), timeout_ms).await {
        Ok(io) => io,
        Err(why) => {
            tracing::debug!(upstream = upstream.0, address = %url, %why, "an upstream could not be reached");
            ending.why = why;
            count_end(&thread, upstream, LinkDeath::DialFailed);
            return;
        }
    };
    signal.note_address(io.local_addr());
    let now = thread.now();
    thread.hub.borrow_mut().dialed(now, lid);
    let mut link = Link {
        thread: Rc::clone(&thread),
        lid,
        signal,
        kept: Vec::new(),
        unflushed: false,
        opening_since_us: Some(began_us),
    };
    thread.carry_out();
    let result = std::future::poll_fn(|cx| link.poll(cx, &mut io)).await;
    let death = match &result {
        Ok(()) => LinkDeath::Closed,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => LinkDeath::Eof,
        Err(_) => LinkDeath::Reset,
    };
    count_end(&link.thread, upstream, death);
    ending.why = match result {
        Ok(()) => format!("{url}: closed"),
        Err(e) => format!("{url}: {e}"),
    };
    let _ = tokio::time::timeout(Duration::from_millis(500), io.shutdown()).await;
}

fn count_end(thread: &Rc<Thread>, upstream: UpstreamId, death: LinkDeath) {
    if let Some(name) = thread.hub.borrow().upstream_name(upstream) {
        thread.metrics.upstreams.upstream(name).deaths.of(death).inc();
    }
}

impl Link {
    fn poll(&mut self, cx: &mut Context<'_>, io: &mut Transport) -> Poll<io::Result<()>> {
        self.signal.listen(cx.waker());
        for turn in 0.. {
            if self.poll_write(cx, io)? && self.signal.hangs_up() {
                return Poll::Ready(Ok(()));
            }
            if !self.thread.hub.borrow().link_wants_reads(self.lid) {
                // A link that is given up is not read any more; one that is paused is woken when its client has read.
                return Poll::Pending;
            }
            if turn >= READS_A_TURN {
                super::thread::yield_to_all(cx);
                return Poll::Pending;
            }
            match self.poll_read(cx, io) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the upstream hung up",
                    )));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    if self.poll_write(cx, io)? && self.signal.hangs_up() {
                        return Poll::Ready(Ok(()));
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, io: &mut Transport) -> io::Result<bool> {
        let mut wrote = false;
        loop {
            let mut hub = self.thread.hub.borrow_mut();
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = hub.link_out(self.lid, &mut slices);
            if filled == 0 {
                break;
            }
            let polled = Pin::new(&mut *io).poll_write_vectored(cx, slices.get(..filled).unwrap_or(&[]));
            match polled {
                Poll::Ready(Ok(n)) => {
                    self.thread.metrics.flows.upstream_out.bytes.inc_by(crate::wire::num::u64_of(n));
                    hub.link_written(self.thread.now(), self.lid, n);
                    if !self.thread.way.is_empty() {
                        let (took, publishes) = self.thread.way.went_out(self.thread.clock.us());
                        self.thread.metrics.delivery.forward_seconds.observe(took, publishes);
                    }
                    wrote = true;
                    self.thread.wake_floods();
                }
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => return Ok(false),
            }
        }
        if wrote {
            self.unflushed = matches!(io, Transport::Tls(_));
        }
        if self.unflushed {
            self.unflushed = Pin::new(&mut *io).poll_flush(cx)?.is_pending();
        }
        Ok(!self.unflushed)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, io: &mut Transport) -> Poll<io::Result<usize>> {
        let thread = Rc::clone(&self.thread);
        let mut buffer = thread.buffer.borrow_mut();
        let (bytes, read) =
            std::task::ready!(super::read::poll(cx, io, &mut self.kept, &mut buffer, usize::MAX))?;
        self.hand_in(&bytes, read);
        Poll::Ready(Ok(read))
    }

    fn hand_in(&mut self, bytes: &[u8], read: usize) {
        self.thread.metrics.flows.upstream_in.bytes.inc_by(crate::wire::num::u64_of(read));
        let took = {
            let mut hub = self.thread.hub.borrow_mut();
            let mut judge = self.thread.judge.borrow_mut();
            hub.link_bytes(self.thread.now(), self.lid, bytes, &mut **judge)
        };
        if let Some(since) = self.opening_since_us
            && self.thread.hub.borrow().link_is_up(self.lid)
        {
            self.opening_since_us = None;
            let took = Duration::from_micros(self.thread.clock.us().saturating_sub(since));
            self.thread.metrics.upstreams.connect_seconds.observe(took, 1);
        }
        let rest = bytes.get(took..).unwrap_or(&[]);
        if !rest.is_empty() {
            self.kept.reserve(rest.len());
            self.kept.extend_from_slice(rest);
        } else if self.kept.capacity() > 65536 {
            self.kept = Vec::new();
        }
        self.thread.carry_out();
    }
}
