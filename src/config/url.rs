//! A broker's address as one line: `amqp://user:password@host:port/vhost`, as Celery's `broker_url` writes it.

use super::secret::Secret;

/// One way to reach a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `amqps://`.
    pub tls: bool,
    /// The user name and password that the url carries: the *configured* credentials.
    pub login: Option<(String, Secret)>,
    /// The virtual host that the url names; without one, the client's own is used.
    pub vhost: Option<String>,
}

impl BrokerUrl {
    /// Reads a url.
    ///
    /// # Errors
    /// What was expected. The text itself is never repeated: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or(
            "expected a url such as \"amqp://127.0.0.1:5672\" (user:password@ and /vhost may be added)",
        )?;
        let tls = match scheme {
            "amqp" | "pyamqp" => false,
            "amqps" => true,
            other => return Err(format!("expected amqp:// or amqps://, found {other}://")),
        };
        let (authority, vhost) = match rest.split_once('/') {
            Some((a, v)) => (a, (!v.is_empty()).then_some(v)),
            None => (rest, None),
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (host, port) = host_and_port(place)?;
        let login = match login {
            None | Some("") => None,
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let decoded = |s| unescape(s).ok_or("expected valid %-escapes in the user name and password");
                Some((decoded(user)?, Secret::new(decoded(password)?)))
            }
        };
        let vhost = match vhost {
            None => None,
            Some(v) => Some(unescape(v).ok_or("expected valid %-escapes in the vhost")?),
        };
        let port = port.unwrap_or(if tls { 5671 } else { 5672 });
        Ok(Self { host, port, tls, login, vhost })
    }

    /// The url without its secret, for logs.
    #[must_use]
    pub fn shown(&self) -> String {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{scheme}://{host}:{}", self.port)
    }
}

fn host_and_port(place: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or("expected `]` after the IPv6 address")?;
        (host, tail.strip_prefix(':'))
    } else {
        place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@') {
        return Err("expected a host name or address".to_owned());
    }
    let port = match port {
        None | Some("") => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err("expected a port of 1 to 65535".to_owned()),
        },
    };
    Ok((host.to_owned(), port))
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits =
                std::str::from_utf8(&digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_url_says_host_port_login_vhost_and_tls() {
        let url = BrokerUrl::parse("amqps://bob:p%40ss@rabbit.example:5699/prod%2Feu").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls), ("rabbit.example", 5699, true));
        assert_eq!(url.vhost.as_deref(), Some("prod/eu"));
        let (user, password) = url.login.clone().unwrap();
        assert_eq!((user.as_str(), password.reveal()), ("bob", "p@ss"));
        assert!(!format!("{url:?}").contains("p@ss"));
    }

    #[test]
    fn a_bare_url_leaves_login_and_vhost_to_the_client() {
        let url = BrokerUrl::parse("amqp://127.0.0.1").unwrap();
        assert_eq!((url.port, url.login, url.vhost), (5672, None, None));
        assert_eq!(BrokerUrl::parse("amqp://h/").unwrap().vhost, None);
        assert_eq!(BrokerUrl::parse("amqp://[::1]:99//").unwrap().vhost.as_deref(), Some("/"));
        assert_eq!(BrokerUrl::parse("amqp://[::1]:99").unwrap().shown(), "amqp://[::1]:99");
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_a_password() {
        for bad in [
            "rabbit:5672",
            "redis://h",
            "amqp://u:hunter2@h:0",
            "amqp://u:hunter2%zz@h",
            "amqp://u:hunter2@",
            "amqp://[::1",
        ] {
            assert!(!BrokerUrl::parse(bad).unwrap_err().contains("hunter2"), "{bad}");
        }
    }
}
