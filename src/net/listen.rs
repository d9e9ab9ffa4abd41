//! Accepting clients: a permit before the session, patience when accept fails (SPEC S1).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::thread::Thread;
use super::tls::Transport;

/// Connections that the kernel may hold for us.
const BACKLOG: i32 = 4096;
/// Wait after a failed accept: out of descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket; `share`: others may listen on the same port (SO_REUSEPORT), so that a successor can take over.
pub fn bind(address: SocketAddr, share: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until dropped.
pub async fn accept(thread: Rc<Thread>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                thread.metrics.clients.accepted.inc();
                admit(&thread, stream, peer);
            }
            Err(error) => {
                thread.metrics.clients.accept_errors.inc();
                if let Some(times) = thread.unaccepted.happened(thread.now().ms, 1) {
                    tracing::warn!(%error, times, "a client could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(thread: &Rc<Thread>, stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let now = thread.now();
    let Some(sid) = thread.hub.borrow_mut().accept(now, peer.ip()) else {
        thread.metrics.clients.limits.of(crate::metrics::Limit::Connections).inc();
        return;
    };
    let signal = thread.add_session(sid);
    signal.note_address(Some(peer));
    let thread = Rc::clone(thread);
    tokio::task::spawn_local(async move {
        let ending = super::client::Ending::new(&thread, sid);
        let tls = thread.incoming.borrow().clone();
        let io = match tls {
            None => Transport::Tcp(stream),
            Some(tls) => {
                let given = Duration::from_millis(thread.hub.borrow().handshake_ms());
                match tokio::time::timeout(given, tls.accept(stream)).await {
                    Ok(Ok((io, name))) => {
                        if let Some(name) = name {
                            thread.hub.borrow_mut().certified(sid, &name);
                        }
                        io
                    }
                    Ok(Err(error)) => {
                        if let Some(times) = thread.unshaken.happened(thread.now().ms, 1) {
                            tracing::info!(%peer, %error, times, "a client's TLS handshake failed");
                        }
                        return;
                    }
                    Err(_) => {
                        thread.metrics.clients.limits.of(crate::metrics::Limit::HandshakeTime).inc();
                        if let Some(times) = thread.unshaken.happened(thread.now().ms, 1) {
                            tracing::info!(%peer, times, "a client did not finish its TLS handshake");
                        }
                        return;
                    }
                }
            }
        };
        super::client::run(ending, io, signal).await;
    });
}
