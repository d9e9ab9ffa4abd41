//! Dialing upstreams: name, TCP, TLS, within one deadline, off every other way.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::tls::{Outgoing, Transport};
use crate::session::Url;
use crate::wire::num::u64_of;

/// Connects to one address of an upstream; the name is resolved anew each time. The error says what was tried.
pub async fn dial(url: &Url, tls: Option<&Outgoing>, timeout_ms: u64) -> Result<Transport, String> {
    let attempt = async {
        let tcp = connect(&url.host, url.port, timeout_ms).await.map_err(|e| e.to_string())?;
        match (url.tls, tls) {
            (false, _) => Ok(Transport::Tcp(tcp)),
            (true, Some(tls)) => tls.connect(&url.host, tcp).await,
            (true, None) => Err("its TLS settings are not in order".to_owned()),
        }
    };
    match tokio::time::timeout(Duration::from_millis(timeout_ms), attempt).await {
        Ok(Ok(transport)) => Ok(transport),
        Ok(Err(why)) => Err(format!("{url}: {why}")),
        Err(_) => Err(format!("{url}: no connection within {timeout_ms} ms")),
    }
}

/// The first of a name's addresses that answers. Each has its share of the time: one that is silent leaves some to the next.
async fn connect(host: &str, port: u16, timeout_ms: u64) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let share = Duration::from_millis(timeout_ms / u64_of(addresses.len().max(1)));
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        last = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        };
    }
    Err(last)
}
