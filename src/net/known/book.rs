//! What is kept for the next life, bounded: what each upstream is, verifiers of logins, what was declared. No secret is in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::verifier::{Login, Verifier};
use crate::wire::num::u64_of;

/// Logins kept, and vhosts of each.
const LOGINS_MAX: usize = 10_000;
const VHOSTS_MAX: usize = 64;
/// Octets of declarations kept, over all upstreams.
const DECLARED_BYTES_MAX: u64 = 4 << 20;

/// Octets, in hexadecimal in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Octets(pub Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.iter().map(|b| format!("{b:02x}")).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let octets = text.as_bytes().chunks(2).map(octet).collect::<Option<Vec<u8>>>();
        octets.map(Self).ok_or_else(|| serde::de::Error::custom("expected hexadecimal digits"))
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Book {
    /// Of this file alone.
    pub salt: Octets,
    /// By name.
    pub upstreams: BTreeMap<String, Chapter>,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chapter {
    /// Where it was: another place is another upstream.
    pub urls: String,
    /// What it told of itself.
    pub facts: Option<Facts>,
    /// Who may log in.
    pub logins: Vec<Known>,
    /// What was declared.
    pub declared: Vec<Declared>,
}

/// What an upstream told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// A table's octets.
    pub server_properties: Octets,
    /// As listed.
    pub mechanisms: Octets,
    /// As listed.
    pub locales: Octets,
    /// channel_max, frame_max, heartbeat.
    pub tune: Option<(u16, u32, u16)>,
}

/// A login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Whose.
    pub user: String,
    /// What tells that it is this one; nothing can be told from it.
    pub verifier: Octets,
    /// Until when it is known, microseconds since 1970.
    pub until_us: u64,
    /// Vhosts that it has been on.
    pub vhosts: Vec<Octets>,
}

/// A declaration that worked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// The vhost.
    pub vhost: Octets,
    /// Who declared it.
    pub user: String,
    /// The method's payload.
    pub payload: Octets,
    /// The answer's.
    pub reply: Octets,
}

impl Declared {
    fn bytes(&self) -> u64 {
        u64_of(self.vhost.0.len() + self.user.len() + self.payload.0.len() + self.reply.0.len())
    }
}

impl Book {
    /// With nothing in it.
    pub fn new(salt: [u8; 16]) -> Self {
        Self { salt: Octets(salt.to_vec()), upstreams: BTreeMap::new() }
    }

    /// Leaves what is of upstreams that are still where they were, and logins that are still known.
    pub fn keep(&mut self, urls: &BTreeMap<String, String>, now_us: u64) {
        self.upstreams.retain(|name, chapter| urls.get(name) == Some(&chapter.urls));
        for chapter in self.upstreams.values_mut() {
            chapter.logins.retain(|l| l.until_us > now_us);
        }
    }

    /// Adds what another book of the same salt has and this one has not.
    pub fn merge(&mut self, other: Self) {
        for (name, theirs) in other.upstreams {
            if self.upstreams.get(&name).is_some_and(|c| c.urls != theirs.urls) {
                continue;
            }
            let place = theirs.urls;
            if let Some(facts) = theirs.facts.filter(|_| self.chapter(&name, &place).facts.is_none()) {
                self.told(&name, &place, facts);
            }
            for login in theirs.logins {
                let Some(verifier) = login.verifier.0.first_chunk().map(|v| Verifier(*v)) else { continue };
                let vhosts = login.vhosts.into_iter().map(|v| Some(v.0));
                for vhost in std::iter::once(None).chain(vhosts) {
                    self.accepted((&name, &place), &login.user, &verifier, vhost, login.until_us);
                }
            }
            for declared in theirs.declared {
                self.declared(&name, &place, declared);
            }
        }
    }

    /// What it has of an upstream at this place.
    fn chapter(&mut self, upstream: &str, urls: &str) -> &mut Chapter {
        let chapter = self.upstreams.entry(upstream.to_owned()).or_default();
        if chapter.urls != urls {
            *chapter = Chapter { urls: urls.to_owned(), ..Chapter::default() };
        }
        chapter
    }

    /// What an upstream tells of itself.
    pub fn told(&mut self, upstream: &str, urls: &str, facts: Facts) {
        self.chapter(upstream, urls).facts = Some(facts);
    }

    /// A login is good until then (on this vhost).
    pub fn accepted(
        &mut self,
        (upstream, urls): (&str, &str),
        user: &str,
        verifier: &Verifier,
        vhost: Option<Vec<u8>>,
        until_us: u64,
    ) {
        let full = self.upstreams.values().map(|c| c.logins.len()).sum::<usize>() >= LOGINS_MAX;
        let logins = &mut self.chapter(upstream, urls).logins;
        let known = logins.iter().position(|l| l.user == user && l.verifier.0 == verifier.0);
        let index = match known {
            Some(index) => index,
            None if full => return,
            None => {
                let verifier = Octets(verifier.0.to_vec());
                logins.push(Known { user: user.to_owned(), verifier, until_us, vhosts: Vec::new() });
                logins.len() - 1
            }
        };
        let Some(login) = logins.get_mut(index) else { return };
        login.until_us = login.until_us.max(until_us);
        if let Some(vhost) = vhost.map(Octets).filter(|v| !login.vhosts.contains(v)) {
            if login.vhosts.len() < VHOSTS_MAX {
                login.vhosts.push(vhost);
            }
        }
    }

    /// Whether a login of this user at this upstream could be known: what it costs to find out is not spent on others.
    pub fn may_know(&self, login: &Login) -> bool {
        self.upstreams.get(&login.upstream).is_some_and(|c| c.logins.iter().any(|l| l.user == login.user))
    }

    /// A login is good no more. Whether it was known.
    pub fn refused(&mut self, upstream: &str, user: &str, verifier: &Verifier) -> bool {
        let Some(chapter) = self.upstreams.get_mut(upstream) else { return false };
        let before = chapter.logins.len();
        chapter.logins.retain(|l| l.user != user || l.verifier.0 != verifier.0);
        chapter.logins.len() < before
    }

    /// What it knows of a login.
    pub fn recall(&self, upstream: &str, user: &str, verifier: &Verifier, now_us: u64) -> Option<&Known> {
        let logins = &self.upstreams.get(upstream)?.logins;
        logins.iter().find(|l| l.user == user && l.verifier.0 == verifier.0 && l.until_us > now_us)
    }

    /// A declaration has worked. Whether it is kept: there is a bound.
    pub fn declared(&mut self, upstream: &str, urls: &str, new: Declared) -> bool {
        let all = self.upstreams.values().flat_map(|c| &c.declared).map(Declared::bytes).sum::<u64>();
        let declared = &mut self.chapter(upstream, urls).declared;
        let same =
            |d: &&mut Declared| (&d.vhost, &d.user, &d.payload) == (&new.vhost, &new.user, &new.payload);
        if let Some(known) = declared.iter_mut().find(same) {
            *known = new;
            return true;
        }
        let fits = all.saturating_add(new.bytes()) <= DECLARED_BYTES_MAX;
        if fits {
            declared.push(new);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(name: &str) -> Declared {
        let octets = |text: &str| Octets(text.as_bytes().to_vec());
        Declared { vhost: octets("/"), user: "app".into(), payload: octets(name), reply: octets("ok") }
    }

    #[test]
    fn a_login_is_known_until_its_time_is_over_or_it_is_refused() {
        let mut book = Book::new([1; 16]);
        let (good, other) = (Verifier([2; 32]), Verifier([3; 32]));
        book.accepted(("u", "a:1"), "app", &good, None, 100);
        book.accepted(("u", "a:1"), "app", &good, Some(b"/".to_vec()), 50);
        let known = book.recall("u", "app", &good, 99).unwrap();
        assert_eq!((known.until_us, known.vhosts.len()), (100, 1));
        for (upstream, user, verifier, now) in [
            ("u", "app", &good, 100),
            ("u", "app", &other, 1),
            ("u", "eve", &good, 1),
            ("v", "app", &good, 1),
        ] {
            assert_eq!(book.recall(upstream, user, verifier, now), None);
        }
        assert!(!book.refused("u", "app", &other));
        assert!(book.refused("u", "app", &good));
        assert_eq!(book.recall("u", "app", &good, 1), None);
    }

    #[test]
    fn an_upstream_at_another_place_is_another_upstream() {
        let mut book = Book::new([1; 16]);
        book.accepted(("u", "a:1"), "app", &Verifier([2; 32]), None, 100);
        book.declared("u", "a:1", declared("q"));
        let mut moved = book.clone();
        moved.keep(&BTreeMap::from([("u".to_owned(), "b:1".to_owned())]), 0);
        assert!(moved.upstreams.is_empty());
        book.declared("u", "b:1", declared("r"));
        assert!(book.upstreams["u"].logins.is_empty());
        assert_eq!(book.upstreams["u"].declared, [declared("r")]);
    }

    #[test]
    fn a_successor_has_what_its_predecessor_learned_while_both_lived() {
        let (mut ours, mut theirs) = (Book::new([1; 16]), Book::new([1; 16]));
        ours.accepted(("u", "a:1"), "app", &Verifier([2; 32]), Some(b"/".to_vec()), 100);
        theirs.accepted(("u", "a:1"), "app", &Verifier([2; 32]), Some(b"v".to_vec()), 200);
        theirs.accepted(("u", "a:1"), "new", &Verifier([3; 32]), None, 300);
        theirs.declared("u", "a:1", declared("q"));
        theirs.accepted(("elsewhere", "b:1"), "app", &Verifier([2; 32]), None, 300);
        ours.accepted(("elsewhere", "c:1"), "app", &Verifier([4; 32]), None, 300);
        ours.merge(theirs);
        let known = ours.recall("u", "app", &Verifier([2; 32]), 1).unwrap();
        assert_eq!((known.until_us, known.vhosts.len()), (200, 2));
        assert!(ours.recall("u", "new", &Verifier([3; 32]), 1).is_some());
        assert_eq!(ours.upstreams["u"].declared, [declared("q")]);
        assert_eq!(ours.upstreams["elsewhere"].logins.len(), 1);
    }

    #[test]
    fn declarations_are_bounded_and_kept_once() {
        let mut book = Book::new([1; 16]);
        assert!(book.declared("u", "", declared("q")) && book.declared("u", "", declared("q")));
        assert_eq!(book.upstreams["u"].declared.len(), 1);
        let large = "x".repeat(1 << 20);
        let kept = (0..8).filter(|n| book.declared("u", "", declared(&format!("{n}{large}")))).count();
        assert_eq!(kept, 3);
        assert!(book.declared("u", "", declared("q")), "what is kept stays");
    }

    #[test]
    fn octets_are_read_as_they_were_written_and_nothing_else_is() {
        let octets = Octets(vec![0, 127, 255]);
        let text = serde_json::to_string(&octets).unwrap();
        assert_eq!(text, "\"007fff\"");
        assert_eq!(serde_json::from_str::<Octets>(&text).unwrap(), octets);
        for wrong in ["\"0\u{e9}\"", "\"zz\"", "\"0x\""] {
            assert!(serde_json::from_str::<Octets>(wrong).is_err(), "{wrong}");
        }
    }
}
