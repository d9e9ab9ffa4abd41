//! Dialing upstreams: name, TCP, TLS, within one deadline, off every other way.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::tls::{Outgoing, Transport};
use crate::session::Url;

/// Connects to one address of an upstream; the name is resolved anew each time. The error says what was tried.
pub async fn dial(url: &Url, tls: Option<&Outgoing>, timeout_ms: u64) -> Result<Transport, String> {
    let attempt = async {
        let tcp = connect(&url.host, url.port).await.map_err(|e| e.to_string())?;
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

async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}
