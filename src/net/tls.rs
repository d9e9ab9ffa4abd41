//! TLS on either side, and the one type for a socket with or without it (SPEC S3).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::config::{ClientCert, ClientTls, LoginFrom, ServerTls};

/// A socket.
#[derive(Debug)]
pub enum Transport {
    /// Plain TCP.
    Tcp(TcpStream),
    /// With TLS, either side.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Our end.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(io) => io.local_addr().ok(),
            Self::Tls(io) => io.get_ref().0.local_addr().ok(),
        }
    }

    /// Closing it will be a reset: the other side's next write fails.
    pub fn reset_on_close(&self) {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        };
        let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => match Pin::new(s).poll_read(cx, buf) {
                // Whoever ends without close_notify has ended: AMQP's frames say themselves whether something is missing.
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                polled => polled,
            },
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

fn certs(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| format!("{path}: {e}"))
}

fn key(path: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| format!("{path}: {e}"))
}

fn roots(path: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for cert in certs(path)? {
        store.add(cert).map_err(|e| format!("{path}: {e}"))?;
    }
    if store.is_empty() { Err(format!("{path}: no certificate in it")) } else { Ok(store) }
}

/// What the AMQP port answers TLS with.
#[derive(Clone)]
pub struct Incoming {
    acceptor: TlsAcceptor,
    login_from: LoginFrom,
}

impl Incoming {
    /// The TLS handshake, and whom the client's certificate names, if it has brought one.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<(Transport, Option<String>)> {
        let stream = self.acceptor.accept(tcp).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let name =
            certificates.and_then(|c| c.first()).and_then(|c| super::certificate::name(c, self.login_from));
        Ok((Transport::Tls(Box::new(stream.into())), name))
    }
}

/// From `[listen.tls]`; the files are read now.
pub fn incoming(tls: &ServerTls) -> Result<Incoming, String> {
    let builder = match &tls.client_ca {
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots(ca)?));
            let verifier = match tls.client_cert {
                ClientCert::Required => verifier,
                ClientCert::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|e| format!("{ca}: {e}"))?;
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
        None => ServerConfig::builder().with_no_client_auth(),
    };
    let config = builder
        .with_single_cert(certs(&tls.cert)?, key(&tls.key)?)
        .map_err(|e| format!("{}: {e}", tls.cert))?;
    Ok(Incoming { acceptor: TlsAcceptor::from(Arc::new(config)), login_from: tls.login_from })
}

/// How an upstream is spoken to over TLS.
#[derive(Clone)]
pub struct Outgoing {
    connector: TlsConnector,
    server_name: Option<String>,
}

impl Outgoing {
    /// From an upstream's settings. Without `ca`, the system's roots in their usual file.
    pub fn new(tls: &ClientTls) -> Result<Self, String> {
        let store = match &tls.ca {
            Some(ca) => roots(ca)?,
            None => roots("/etc/ssl/certs/ca-certificates.crt")?,
        };
        let builder = ClientConfig::builder().with_root_certificates(store);
        let config = match (&tls.cert, &tls.key) {
            (Some(cert), Some(k)) => {
                builder.with_client_auth_cert(certs(cert)?, key(k)?).map_err(|e| format!("{cert}: {e}"))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name: tls.server_name.clone() })
    }

    /// The TLS handshake; the certificate must bear the configured name, or the url's host.
    pub async fn connect(&self, host: &str, tcp: TcpStream) -> Result<Transport, String> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|e| format!("{name}: {e}"))?;
        let stream = self.connector.connect(name, tcp).await.map_err(|e| format!("TLS: {e}"))?;
        Ok(Transport::Tls(Box::new(stream.into())))
    }
}
