//! What is worth knowing again after a restart of our own: what upstreams are, who may log in, what was declared (SPEC L4, D4).
//!
//! The Hub says what it has learned, somebody else keeps it; what was kept is told to the next Hub before it starts. A login goes out of
//! here with its secret, and comes back as a question: whether what is kept knows it.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::identity::IdentityHash;
use super::upstream::Facts;
use super::{Credentials, UpstreamId};
use crate::wire::method::{self, MethodId};
use crate::wire::table::Table;

/// Declarations remembered for one owner, and for all.
const DECLARES_REMEMBERED_MAX: usize = 10_000;
const DECLARES_ALL_MAX: usize = 100_000;
/// What has been learned and nobody has taken yet.
const LEARNED_MAX: usize = 4096;

/// One thing learned.
#[derive(Debug, Clone)]
pub enum Learned {
    /// What an upstream tells of itself has changed.
    Upstream {
        /// Its name.
        upstream: Rc<str>,
        /// What it told.
        facts: Facts,
    },
    /// An upstream has accepted a login (on this vhost).
    Accepted {
        /// Its name.
        upstream: Rc<str>,
        /// The login.
        credentials: Credentials,
        /// The vhost, where it was opened.
        vhost: Option<Rc<[u8]>>,
        /// For how long that is remembered, in milliseconds.
        for_ms: u64,
    },
    /// An upstream has refused a login.
    Refused {
        /// Its name.
        upstream: Rc<str>,
        /// The login.
        credentials: Credentials,
    },
    /// A declaration of something that lasts has worked.
    Declared(Declaration),
}

/// A declaration that worked, and what the upstream answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The upstream's name.
    pub upstream: Rc<str>,
    /// The vhost.
    pub vhost: Rc<[u8]>,
    /// Who declared it.
    pub user: Rc<str>,
    /// The method's payload.
    pub payload: Box<[u8]>,
    /// The answer's.
    pub reply: Box<[u8]>,
}

/// What is kept of a login that it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// Vhosts that it has been on.
    pub vhosts: Vec<Box<[u8]>>,
    /// For how long it is remembered from now on, in milliseconds.
    pub for_ms: u64,
}

/// What has been learned since it was last taken, where anybody takes it.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    news: Option<Vec<Learned>>,
    /// Upstreams and users of whom something is kept.
    kept: FxHashSet<(Rc<str>, Rc<str>)>,
}

impl Lessons {
    /// From now on what is learned is taken; logins of these upstreams and users are kept.
    pub(super) fn begin(&mut self, kept: FxHashSet<(Rc<str>, Rc<str>)>) {
        self.news = Some(Vec::new());
        self.kept = kept;
    }

    /// Whether a login of this user may be known to what is kept.
    pub(super) fn may_know(&self, upstream: &str, user: &str) -> bool {
        self.kept.iter().any(|(u, name)| &**u == upstream && &**name == user)
    }

    pub(super) fn learn(&mut self, lesson: impl FnOnce() -> Learned) {
        if let Some(news) = self.news.as_mut().filter(|news| news.len() < LEARNED_MAX) {
            news.push(lesson());
        }
    }

    pub(super) fn take(&mut self) -> Vec<Learned> {
        self.news.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Whose declarations: a user's, or where a login names none, that login's alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) upstream: UpstreamId,
    pub(super) vhost: Rc<[u8]>,
    pub(super) user: Rc<str>,
    pub(super) nameless: Option<IdentityHash>,
}

/// Declarations that worked, by owner.
#[derive(Debug, Default)]
pub(super) struct Declared {
    owners: FxHashMap<Owner, OwnersDeclared>,
    count: usize,
}

#[derive(Debug, Default)]
struct OwnersDeclared {
    /// The method's payload and its answer.
    answers: FxHashMap<Box<[u8]>, Box<[u8]>>,
    /// Queues that outlive their broker's restart and their last consumer.
    lasting: FxHashSet<Box<[u8]>>,
    /// Exchanges that are of type `direct`.
    direct: FxHashSet<Box<[u8]>>,
}

impl Declared {
    /// The answer that this very declaration got before.
    pub(super) fn answer(&self, owner: &Owner, payload: &[u8]) -> Option<Box<[u8]>> {
        self.owners.get(owner)?.answers.get(payload).cloned()
    }

    /// Whether an exchange was declared as `direct`.
    pub(super) fn is_direct(&self, owner: &Owner, exchange: &[u8]) -> bool {
        self.owners.get(owner).is_some_and(|of| of.direct.contains(exchange))
    }

    /// It worked. Whether it is news, and of something that lasts.
    pub(super) fn remember(&mut self, owner: Owner, payload: &[u8], reply: &[u8]) -> bool {
        let of = self.owners.entry(owner).or_default();
        let known = of.answers.contains_key(payload);
        if !known && (of.answers.len() >= DECLARES_REMEMBERED_MAX || self.count >= DECLARES_ALL_MAX) {
            return false;
        }
        self.count += usize::from(!known);
        of.answers.insert(payload.into(), reply.into());
        !known && of.lasts(payload)
    }
}

impl OwnersDeclared {
    /// Whether what was declared outlives whoever declared it. Others (a result's queue for each task) come and go by the thousand.
    fn lasts(&mut self, payload: &[u8]) -> bool {
        let Ok((id, args)) = method::split(payload) else { return false };
        let Ok(named) = method::queue_named(args) else { return false };
        match id {
            MethodId::QUEUE_DECLARE => {
                let Some((&bits, arguments)) = named.rest.split_first() else { return false };
                const DURABLE: u8 = 2;
                const EXCLUSIVE_OR_AUTO_DELETE: u8 = 4 | 8;
                let expires = Table::new(arguments.get(4..).unwrap_or(&[])).get(b"x-expires").is_some();
                let lasts = bits & DURABLE != 0 && bits & EXCLUSIVE_OR_AUTO_DELETE == 0 && !expires;
                if lasts {
                    self.lasting.insert(named.queue.into());
                }
                lasts
            }
            MethodId::QUEUE_BIND => self.lasting.contains(named.queue),
            MethodId::EXCHANGE_DECLARE => {
                // The name is where a queue's would be; then the type.
                let mut rest = crate::wire::Reader::new(named.rest);
                let kind = rest.shortstr();
                let bits = rest.rest().first().copied().unwrap_or(0);
                const PASSIVE: u8 = 1;
                if bits & PASSIVE == 0 && kind == Ok(b"direct") {
                    self.direct.insert(named.queue.into());
                } else if bits & PASSIVE == 0 {
                    self.direct.remove(named.queue);
                }
                bits & 2 != 0 && bits & 4 == 0
            }
            MethodId::EXCHANGE_BIND => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::method::MethodWriter;

    fn owner() -> Owner {
        Owner { upstream: UpstreamId(0), vhost: b"/".as_slice().into(), user: "app".into(), nameless: None }
    }

    fn queue(name: &[u8], bits: u8, arguments: &[u8]) -> Vec<u8> {
        MethodWriter::new(MethodId::QUEUE_DECLARE)
            .short(0)
            .shortstr(name)
            .octet(bits)
            .longstr(arguments)
            .done()
    }

    fn bind(name: &[u8]) -> Vec<u8> {
        MethodWriter::new(MethodId::QUEUE_BIND)
            .short(0)
            .shortstr(name)
            .shortstr(b"x")
            .shortstr(b"k")
            .octet(0)
            .longstr(b"")
            .done()
    }

    #[test]
    fn what_lasts_is_kept_and_what_a_client_leaves_behind_for_an_hour_is_not() {
        let mut declared = Declared::default();
        let expires = crate::wire::table::TableWriter::new()
            .with("x-expires", crate::wire::table::Value::I32(1000))
            .into_bytes();
        let mut is_news = |payload: &[u8]| declared.remember(owner(), payload, b"ok");
        assert!(is_news(&queue(b"jobs", 2, b"")));
        assert!(!is_news(&queue(b"jobs", 2, b"")), "known already");
        assert!(is_news(&bind(b"jobs")));
        for (name, bits, arguments) in [
            (&b"transient"[..], 0, &b""[..]),
            (b"mine", 6, b""),
            (b"auto", 10, b""),
            (b"result", 2, &expires),
        ] {
            assert!(!is_news(&queue(name, bits, arguments)), "{name:?}");
            assert!(!is_news(&bind(name)), "{name:?}");
        }
        let exchange = |bits| {
            MethodWriter::new(MethodId::EXCHANGE_DECLARE)
                .short(0)
                .shortstr(b"x")
                .shortstr(b"direct")
                .octet(bits)
                .longstr(b"")
                .done()
        };
        assert!(is_news(&exchange(2)));
        assert!(!is_news(&exchange(0)) && !is_news(&exchange(6)));
    }

    #[test]
    fn whoever_declared_it_gets_the_same_answer_and_nobody_else() {
        let mut declared = Declared::default();
        declared.remember(owner(), &queue(b"jobs", 2, b""), b"ok");
        let other = Owner { user: "other".into(), ..owner() };
        assert_eq!(declared.answer(&owner(), &queue(b"jobs", 2, b"")).as_deref(), Some(&b"ok"[..]));
        assert_eq!(declared.answer(&owner(), &queue(b"jobs", 0, b"")), None);
        assert_eq!(declared.answer(&other, &queue(b"jobs", 2, b"")), None);
    }

    #[test]
    fn what_nobody_takes_is_bounded() {
        let mut lessons = Lessons::default();
        let lesson = || Learned::Refused { upstream: "u".into(), credentials: Credentials::plain("a", "b") };
        lessons.learn(lesson);
        assert!(lessons.take().is_empty(), "nobody keeps it");
        lessons.begin(FxHashSet::default());
        (0..=LEARNED_MAX).for_each(|_| lessons.learn(lesson));
        assert_eq!(lessons.take().len(), LEARNED_MAX);
    }
}
