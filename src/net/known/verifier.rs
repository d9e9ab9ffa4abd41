//! What is kept of a login instead of it: a hash that takes long to compute, so that whoever reads the file cannot try passwords fast.

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest, Sha256};

/// OWASP's smaller recommendation for Argon2id: 7 MiB, five times over; some 15 ms, and never on the data thread.
const MEMORY_KIB: u32 = 7 * 1024;
const TIMES: u32 = 5;

/// A login as somebody wants to know it. Never shown.
#[derive(Clone)]
pub struct Login {
    /// The upstream's name.
    pub upstream: String,
    /// The user's name.
    pub user: String,
    /// SASL mechanism.
    pub mechanism: Vec<u8>,
    /// SASL response.
    pub response: Vec<u8>,
}

/// The hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verifier(pub [u8; 32]);

impl Login {
    /// Everything that makes it this login, and no other.
    fn parts(&self) -> [&[u8]; 4] {
        [self.upstream.as_bytes(), self.user.as_bytes(), &self.mechanism, &self.response]
    }

    /// Something to know it by within this life, where it is not written down.
    pub fn mark(&self, secret: &[u8; 32]) -> [u8; 32] {
        digest(secret, &self.parts())
    }

    /// What is kept of it. `None`: it cannot be computed.
    pub fn verifier(&self, salt: &[u8]) -> Option<Verifier> {
        let [who @ .., response] = self.parts();
        let salt = digest(salt, &who);
        let params = Params::new(MEMORY_KIB, TIMES, 1, Some(32)).ok()?;
        let mut out = [0; 32];
        let slow = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        slow.hash_password_into(response, &salt, &mut out).ok()?;
        Some(Verifier(out))
    }
}

fn digest(first: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut h = Sha256::new();
    for part in std::iter::once(&first).chain(parts) {
        h.update(crate::wire::num::u64_of(part.len()).to_be_bytes());
        h.update(part);
    }
    h.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_login_and_the_salt_make_another_verifier() {
        let login = Login {
            upstream: "u".into(),
            user: "app".into(),
            mechanism: b"PLAIN".to_vec(),
            response: b"\0app\0pw".to_vec(),
        };
        let first = login.verifier(b"salt").unwrap();
        assert_eq!(login.verifier(b"salt"), Some(first));
        let others = [
            Login { upstream: "v".into(), ..login.clone() },
            Login { user: "ap".into(), ..login.clone() },
            Login { mechanism: b"AMQPLAIN".to_vec(), ..login.clone() },
            Login { response: b"\0app\0PW".to_vec(), ..login.clone() },
        ];
        for other in &others {
            assert_ne!(other.verifier(b"salt"), Some(first));
            assert_ne!(other.mark(&[0; 32]), login.mark(&[0; 32]));
        }
        assert_ne!(login.verifier(b"other salt"), Some(first));
    }
}
