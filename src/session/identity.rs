//! Who a client is, to whom: mechanism and response of its login, and the salted hashes that are remembered of them (SPEC L4).

use std::rc::Rc;

use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use super::UpstreamId;
use crate::wire::table::{Table, Value};

/// Bytes that are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Rc<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What a login needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// SASL mechanism.
    pub mechanism: Rc<[u8]>,
    /// SASL response.
    pub response: Secret,
    /// The user's name, as far as the response tells.
    pub user: Rc<str>,
}

impl Credentials {
    /// As a client sent them: PLAIN and AMQPLAIN name their user.
    #[must_use]
    pub fn of_response(mechanism: &[u8], response: &[u8]) -> Self {
        let user = match mechanism {
            b"PLAIN" => plain_login(response),
            b"AMQPLAIN" => amqplain_login(response),
            _ => None,
        };
        Self {
            mechanism: mechanism.into(),
            response: Secret(response.into()),
            user: user.unwrap_or_default().into(),
        }
    }

    /// EXTERNAL: who a certificate says it is. The response is empty, the certificate has said everything.
    #[must_use]
    pub fn external(user: &str) -> Self {
        Self {
            mechanism: b"EXTERNAL".as_slice().into(),
            response: Secret(b"".as_slice().into()),
            user: user.into(),
        }
    }

    /// Whose publishes these are, as the spool's directory may say it: nothing of the secret is in it, not even as a hash that guesses could
    /// be tried against. Who has a name is known by it; the others by how they log in.
    #[must_use]
    pub fn owner(&self) -> [u8; 32] {
        if self.user.is_empty() { Sha256::digest(&self.mechanism).into() } else { [0; 32] }
    }

    /// PLAIN, from the configuration.
    #[must_use]
    pub fn plain(user: &str, password: &str) -> Self {
        let response = [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat();
        Self { mechanism: b"PLAIN".as_slice().into(), response: Secret(response.into()), user: user.into() }
    }
}

/// The name in a PLAIN response, authorisation NUL name NUL password. In any other, what stands in the name's place may be the password,
/// which must never be shown.
fn plain_login(response: &[u8]) -> Option<String> {
    let mut parts = response.split(|&b| b == 0).skip(1);
    let (name, _password) = (parts.next()?, parts.next()?);
    Some(String::from_utf8_lossy(name).into_owned())
}

/// The LOGIN of an AMQPLAIN response: a table without its length, the first of that name, as RabbitMQ reads it. Another reading than
/// the broker's would let somebody in under a name that we did not see.
fn amqplain_login(response: &[u8]) -> Option<String> {
    match Table::new(response).fields().find(|field| field.name == b"LOGIN")?.value() {
        Some(Value::Str(login)) => Some(String::from_utf8_lossy(login).into_owned()),
        _ => None,
    }
}

/// A salted hash of a login, with or without a vhost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdentityHash([u8; 32]);

impl IdentityHash {
    /// The hash itself.
    #[must_use]
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }
}

/// Logins that an upstream has accepted, until they are forgotten.
#[derive(Debug)]
pub struct Remembered {
    salt: [u8; 32],
    until_ms: FxHashMap<(UpstreamId, IdentityHash), u64>,
}

/// Logins remembered at most; each costs 48 bytes.
const REMEMBERED_MAX: usize = 100_000;

impl Remembered {
    /// With the process's own salt.
    #[must_use]
    pub fn new(salt: [u8; 32]) -> Self {
        Self { salt, until_ms: FxHashMap::default() }
    }

    /// The hash of these credentials (and of this vhost).
    #[must_use]
    pub fn hash(&self, credentials: &Credentials, vhost: Option<&[u8]>) -> IdentityHash {
        let mut h = Sha256::new();
        h.update(self.salt);
        for part in [&*credentials.mechanism, &*credentials.response.0, vhost.unwrap_or(&[])] {
            h.update(crate::wire::num::u64_of(part.len()).to_be_bytes());
            h.update(part);
        }
        h.update([u8::from(vhost.is_some())]);
        IdentityHash(h.finalize().into())
    }

    /// Whether the upstream has accepted this lately.
    #[must_use]
    pub fn knows(&self, upstream: UpstreamId, hash: IdentityHash, now_ms: u64) -> bool {
        self.until_ms.get(&(upstream, hash)).is_some_and(|&until| now_ms < until)
    }

    /// The upstream has just accepted this.
    pub fn remember(&mut self, upstream: UpstreamId, hash: IdentityHash, until_ms: u64) {
        if self.until_ms.len() >= REMEMBERED_MAX {
            self.until_ms.clear();
        }
        self.until_ms.insert((upstream, hash), until_ms);
    }

    /// The upstream has just refused this.
    pub fn forget(&mut self, upstream: UpstreamId, hash: IdentityHash) {
        self.until_ms.remove(&(upstream, hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let c = Credentials::plain("app", "hunter2");
        assert!(!format!("{c:?}").contains("hunter2"));
        assert_eq!(&*c.user, "app");
        assert_eq!(Credentials::of_response(b"PLAIN", b"\0app\0hunter2"), c);
        for nameless in [&b"app\0hunter2"[..], b"\0hunter2", b"hunter2", b""] {
            assert_eq!(&*Credentials::of_response(b"PLAIN", nameless).user, "", "it may be the password");
        }
    }

    #[test]
    fn an_owner_says_nothing_of_a_secret() {
        let login = |mechanism: &[u8], response: &[u8]| Credentials::of_response(mechanism, response).owner();
        assert_eq!(login(b"PLAIN", b"\0app\0hunter2"), login(b"PLAIN", b"\0app\0hunter3"));
        assert_eq!(login(b"ANONYMOUS", b"one"), login(b"ANONYMOUS", b"two"));
        assert_ne!(login(b"ANONYMOUS", b""), login(b"EXTERNAL", b""));
    }

    #[test]
    fn a_login_named_twice_is_the_one_that_the_broker_takes() {
        let twice = crate::wire::table::TableWriter::new()
            .str("LOGIN", b"guest")
            .str("LOGIN", b"nobody")
            .into_bytes();
        assert_eq!(&*Credentials::of_response(b"AMQPLAIN", &twice).user, "guest");
    }

    #[test]
    fn what_is_remembered_is_the_hash_of_one_login_to_one_vhost_for_a_time() {
        let mut r = Remembered::new([7; 32]);
        let (good, bad) = (Credentials::plain("a", "bc"), Credentials::plain("ab", "c"));
        let hash = r.hash(&good, Some(b"/"));
        assert_ne!(hash, r.hash(&bad, Some(b"/")));
        assert_ne!(hash, r.hash(&good, None));
        r.remember(UpstreamId(0), hash, 1000);
        assert!(r.knows(UpstreamId(0), hash, 999));
        assert!(!r.knows(UpstreamId(0), hash, 1000));
        assert!(!r.knows(UpstreamId(1), hash, 999));
    }
}
