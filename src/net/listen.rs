//! Accepting clients: a permit before the session, patience when accept fails (SPEC S1).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

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
pub async fn accept(thread: Rc<Thread>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut said_at_ms = 0;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                thread.metrics.clients.accepted.inc();
                admit(&thread, stream, peer, tls.clone());
            }
            Err(error) => {
                thread.metrics.clients.accept_errors.inc();
                let now = thread.now().ms;
                if now.saturating_sub(said_at_ms) >= 1000 {
                    said_at_ms = now;
                    tracing::warn!(%error, "a client could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(thread: &Rc<Thread>, stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    let now = thread.now();
    let Some(sid) = thread.hub.borrow_mut().accept(now, peer.ip()) else {
        thread.metrics.clients.limits.of(crate::metrics::Limit::Connections).inc();
        return;
    };
    let signal = thread.add_session(sid);
    let thread = Rc::clone(thread);
    tokio::task::spawn_local(async move {
        let io = match tls {
            None => Transport::Tcp(stream),
            Some(acceptor) => {
                match tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => Transport::Tls(Box::new(stream.into())),
                    Ok(Err(error)) => {
                        tracing::info!(%peer, %error, "a client's TLS handshake failed");
                        thread.remove_session(sid);
                        return;
                    }
                    Err(_) => {
                        thread.remove_session(sid);
                        return;
                    }
                }
            }
        };
        super::client::run(thread, sid, io, signal).await;
    });
}
