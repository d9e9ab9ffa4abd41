//! `[listen]`: where clients and people connect to us, and what they must bring.

use std::net::SocketAddr;

use super::reader::Section;

/// Where we listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// AMQP for clients.
    pub amqp: SocketAddr,
    /// HTTP for people and Prometheus; none: no admin page at all (`admin = ""`).
    pub admin: Option<SocketAddr>,
    /// TLS on the AMQP port.
    pub tls: Option<ServerTls>,
    /// Whether `guest` may log in from another host (S4: to a broker on our host it would look local).
    pub allow_remote_guest: bool,
    /// Several processes may share the AMQP port (SO_REUSEPORT), so that a successor can take over.
    pub reuse_port: bool,
}

/// TLS towards clients. The files are read when the configuration is put to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM file: our certificate chain.
    pub cert: String,
    /// PEM file: its private key.
    pub key: String,
    /// PEM file: who signs client certificates; given, one is asked for, and `EXTERNAL` may log in with it.
    pub client_ca: Option<String>,
    /// Whether a client without a certificate is let in: then it needs another login.
    pub client_cert: ClientCert,
    /// Whom a certificate names.
    pub login_from: LoginFrom,
}

/// Whether clients must bring a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCert {
    /// Or they are not let in.
    Required,
    /// They may; one that is not good is refused all the same.
    Optional,
}

/// Which name of a certificate is the user's (RabbitMQ's `ssl_cert_login_from`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFrom {
    /// The subject's CN.
    CommonName,
    /// The whole subject, as RFC 4514 writes it.
    DistinguishedName,
    /// The first subject alternative name that is a host's name.
    Dns,
    /// The first that is a mail address.
    Email,
    /// The first that is a URI.
    Uri,
}

const CLIENT_CERTS: &[(&str, ClientCert)] =
    &[("required", ClientCert::Required), ("optional", ClientCert::Optional)];
const LOGINS_FROM: &[(&str, LoginFrom)] = &[
    ("common_name", LoginFrom::CommonName),
    ("distinguished_name", LoginFrom::DistinguishedName),
    ("dns", LoginFrom::Dns),
    ("email", LoginFrom::Email),
    ("uri", LoginFrom::Uri),
];

impl Default for Listen {
    fn default() -> Self {
        Self {
            amqp: SocketAddr::from(([127, 0, 0, 1], 5673)),
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 9673))),
            tls: None,
            allow_remote_guest: false,
            reuse_port: false,
        }
    }
}

impl Listen {
    /// Reads `[listen]`.
    #[must_use]
    pub fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let amqp = address(section, "amqp").flatten().unwrap_or(default.amqp);
        let admin = address(section, "admin").unwrap_or(default.admin);
        if section.has("amqp") && admin == Some(amqp) {
            section.problem_at("admin", "expected another address than that of `amqp`");
        }
        let tls = section.section("tls");
        let listen = Self {
            amqp,
            admin,
            tls: tls.is_present().then(|| ServerTls::read(&tls)).flatten(),
            allow_remote_guest: section.flag("allow_remote_guest", false),
            reuse_port: section.flag("reuse_port", false),
        };
        section.close();
        listen
    }
}

impl ServerTls {
    fn read(section: &Section<'_>) -> Option<Self> {
        let (cert, key) = (section.expanded("cert"), section.expanded("key"));
        let client_ca = section.expanded("client_ca");
        for (name, found) in [("cert", &cert), ("key", &key)] {
            if found.is_none() && !section.has(name) {
                section.problem(format!("expected `{name}`, the path of a PEM file"));
            }
        }
        let client_cert = section.choice("client_cert", CLIENT_CERTS).unwrap_or(ClientCert::Required);
        let login_from = section.choice("login_from", LOGINS_FROM).unwrap_or(LoginFrom::CommonName);
        for key in ["client_cert", "login_from"] {
            if section.has(key) && !section.has("client_ca") {
                section.problem_at(key, "has no effect without `client_ca`");
            }
        }
        section.close();
        let tls = Self { cert: cert?, key: key?, client_ca, client_cert, login_from };
        section.surroundings().server_tls(&tls).unwrap_or_else(|why| section.problem(why));
        Some(tls)
    }
}

/// An address; `Some(None)` for an empty string, which switches a listener off.
fn address(section: &Section<'_>, key: &'static str) -> Option<Option<SocketAddr>> {
    let value = section.value(key)?;
    // What was written is what is said of it: a variable's value may be a secret.
    let written = value.string()?;
    let text = value.expanded()?;
    if text.is_empty() && key != "amqp" {
        return Some(None);
    }
    let with_port = text.replace("localhost", "127.0.0.1");
    match with_port.parse() {
        Ok(address) => Some(Some(address)),
        Err(_) => {
            value.problem(format!(
                "expected an address and a port such as \"127.0.0.1:5673\" or \"[::]:5673\", found \"{written}\""
            ));
            None
        }
    }
}
