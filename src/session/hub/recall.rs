//! What an earlier life of ours knew, for as long as an upstream cannot be asked, and what the next one should know (SPEC L4, D4).
//!
//! ```text
//! a login that nobody here remembers ─┬ the upstream answers: it decides
//!                                     └ it cannot be asked ─▶ Recall ─┬ known: as if it had been remembered
//!                                                                     └ not: the upstream is tried, and the client told
//! ```

use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::{Action, Hub};
use crate::session::client::State;
use crate::session::learned::{Declaration, Learned, Owner, Recalled};
use crate::session::upstream::{Facts, Pool};
use crate::session::{Credentials, LinkId, Now, PoolId, SessionId, UpstreamId};

impl Hub {
    /// What was kept of an earlier life, before `start`; from now on `take_learned` tells what should be kept.
    pub fn recollect(
        &mut self,
        upstreams: Vec<(Rc<str>, Facts)>,
        users: FxHashSet<(Rc<str>, Rc<str>)>,
        declared: Vec<Declaration>,
    ) {
        self.lessons.begin(users);
        for (name, facts) in upstreams {
            if let Some(u) = self.upstreams.iter_mut().find(|u| u.settings.name == name) {
                u.recalled = Some(facts);
            }
        }
        for d in declared {
            let Some(upstream) = self.upstreams.iter().position(|u| u.settings.name == d.upstream) else {
                continue;
            };
            let owner =
                Owner { upstream: UpstreamId(upstream), vhost: d.vhost, user: d.user, nameless: None };
            self.declared.remember(owner, &d.payload, &d.reply);
        }
    }

    /// What has been learned since.
    pub fn take_learned(&mut self) -> Vec<Learned> {
        self.lessons.take()
    }

    /// Asks what is kept about a client's login, once, where it may know it. Whether its answer is waited for.
    pub(super) fn ask_memory(&mut self, sid: SessionId) -> bool {
        let Some(s) = self.sessions.get(sid.0) else { return false };
        if s.state != State::Verifying || s.asked_memory {
            return false;
        }
        let Some(u) = self.upstreams.get(s.upstream.0) else { return false };
        let is_known = u.facts.as_ref().is_some_and(|f| f.tune.is_some());
        let Some(credentials) = self.login_at(sid, s.upstream) else { return false };
        if !is_known || !self.lessons.may_know(&u.settings.name, &credentials.user) {
            return false;
        }
        self.drop_verify(sid);
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.asked_memory = true;
        }
        self.actions.push_back(Action::Recall(sid));
        true
    }

    /// The login that a `Recall` asks about: the upstream's name, the login, and what tells this client from the next of its number.
    #[must_use]
    pub fn recalling(&self, sid: SessionId) -> Option<(Rc<str>, Credentials, u64)> {
        let s = self.sessions.get(sid.0)?;
        let name = Rc::clone(&self.upstreams.get(s.upstream.0)?.settings.name);
        Some((name, self.login_at(sid, s.upstream)?, s.serial))
    }

    /// What is kept has been asked: what it knows of the client's login, if anything.
    pub fn recalled(&mut self, now: Now, sid: SessionId, serial: u64, known: Option<Recalled>) {
        let Some(s) = self.sessions.get(sid.0) else { return };
        if s.serial != serial || s.state != State::Verifying || s.verify.is_some() {
            return;
        }
        let upstream = s.upstream;
        let (Some(known), Some(login)) = (known, self.login_at(sid, upstream)) else {
            self.verify(now, sid, None);
            return;
        };
        let until_ms = now.ms.saturating_add(known.for_ms);
        for vhost in std::iter::once(None).chain(known.vhosts.iter().map(Some)) {
            let hash = self.remembered.hash(&login, vhost.map(|v| &**v));
            self.remembered.remember(upstream, hash, until_ms);
        }
        self.counters.logins_remembered += 1;
        self.send_tune(sid);
        self.actions.push_back(Action::Resume(sid));
    }

    /// An upstream has accepted a login.
    pub(super) fn login_worked(
        &mut self,
        now: Now,
        upstream: UpstreamId,
        login: &Credentials,
        vhost: Option<&Rc<[u8]>>,
    ) {
        let Some(settings) = self.upstreams.get(upstream.0).map(|u| Rc::clone(&u.settings)) else { return };
        let hash = self.remembered.hash(login, vhost.map(|v| &**v));
        // Kept anew when a tenth of its time has passed, not at every login.
        let fresh_ms = settings.remember_ms - settings.remember_ms / 10;
        if !self.remembered.knows(upstream, hash, now.ms.saturating_add(fresh_ms)) {
            self.lessons.learn(|| Learned::Accepted {
                upstream: Rc::clone(&settings.name),
                credentials: login.clone(),
                vhost: vhost.cloned(),
                for_ms: settings.remember_ms,
            });
        }
        self.remembered.remember(upstream, hash, now.ms.saturating_add(settings.remember_ms));
    }

    /// A pool's login is refused: it is not remembered any more.
    pub(super) fn login_failed(&mut self, pool: PoolId) {
        let Some(p) = self.pools.get(pool.0) else { return };
        for vhost in [Some(&*p.vhost), None] {
            let hash = self.remembered.hash(&p.credentials, vhost);
            self.remembered.forget(p.upstream, hash);
        }
        let (upstream, credentials) = (p.upstream, p.credentials.clone());
        self.forget_kept(upstream, credentials);
    }

    /// A login that was tried for a client is refused: a password that was good in an earlier life may be known yet.
    pub(super) fn verified_no_more(&mut self, lid: LinkId) {
        let Some(link) = self.links.get(lid.0) else { return };
        let (upstream, credentials) = (link.upstream, link.credentials.clone());
        if let Some(credentials) = credentials {
            let hash = self.remembered.hash(&credentials, None);
            self.remembered.forget(upstream, hash);
            self.forget_kept(upstream, credentials);
        }
    }

    fn forget_kept(&mut self, upstream: UpstreamId, credentials: Credentials) {
        if let Some(name) = self.upstreams.get(upstream.0).map(|u| Rc::clone(&u.settings.name)) {
            self.lessons.learn(|| Learned::Refused { upstream: name, credentials });
        }
    }

    /// A declaration has worked.
    pub(super) fn declared_is_known(&mut self, pool: PoolId, payload: &[u8], reply: &[u8]) {
        let Some(p) = self.pools.get(pool.0) else { return };
        let owner = owner(p);
        let (upstream, vhost, user) = (p.upstream, Rc::clone(&p.vhost), Rc::clone(&owner.user));
        let keeps = owner.nameless.is_none();
        if self.declared.remember(owner, payload, reply) && keeps {
            let Some(name) = self.upstreams.get(upstream.0).map(|u| Rc::clone(&u.settings.name)) else {
                return;
            };
            self.lessons.learn(|| {
                Learned::Declared(Declaration {
                    upstream: name,
                    vhost,
                    user,
                    payload: payload.into(),
                    reply: reply.into(),
                })
            });
        }
    }
}

/// Whose declarations those of a pool are.
pub(super) fn owner(pool: &Pool) -> Owner {
    let user = Rc::clone(&pool.credentials.user);
    let nameless = user.is_empty().then_some(pool.identity);
    Owner { upstream: pool.upstream, vhost: Rc::clone(&pool.vhost), user, nameless }
}
