//! Whose backlog is whose: what an earlier life left in the spool finds a pool that may carry it.
//!
//! With a login in the upstream's url at once; else when somebody logs in as its owner did: the same user, whatever the password is by
//! now, for the broker has accepted it. Nobody's publishes are sent under another's name unless the configuration says so.

use std::rc::Rc;

use super::Hub;
use crate::session::backlog::Backlog;
use crate::session::identity::IdentityHash;
use crate::session::record::{BacklogId, Which};
use crate::session::spool::{SpoolFound, SpoolKey};
use crate::session::upstream::Pool;
use crate::session::{Credentials, Now, PoolId, SessionId, UpstreamId};

impl Hub {
    /// The spool could be opened at last, or anew: its queues are asked for again.
    pub fn spool_opened(&mut self) {
        for (_, backlog) in &mut self.backlogs {
            for which in [Which::Ahead, Which::Main] {
                let line = backlog.line(which);
                if line.waiting + line.aside.len() + line.left == 0 && !line.reading {
                    line.queue = None;
                }
            }
        }
    }

    /// A queue of an earlier life, or one that is known and was looked at again.
    pub fn spool_found(&mut self, now: Now, found: SpoolFound) {
        let which = if found.key.ahead { Which::Ahead } else { Which::Main };
        let same = |b: &Backlog| {
            b.key.upstream == found.key.upstream
                && b.key.vhost == found.key.vhost
                && b.key.identity == found.key.identity
        };
        let known = self.backlogs.iter().find(|(_, b)| same(b)).map(|(i, _)| BacklogId::new(i));
        let b = known.unwrap_or_else(|| BacklogId::new(self.backlogs.insert(Backlog::new(found.key))));
        if let Some(backlog) = self.backlogs.get_mut(b.index()) {
            let line = backlog.line(which);
            line.queue = Some(found.queue);
            line.waiting = found.records.saturating_sub(line.aside.len() + line.left);
            backlog.spilling |= found.records > 0;
        }
        self.find_way(now, b);
    }

    /// A pool for a backlog that has none.
    pub(super) fn find_way(&mut self, now: Now, b: BacklogId) {
        let Some(backlog) = self.backlogs.get(b.index()).filter(|b| b.via.is_none()) else { return };
        let key = backlog.key.clone();
        let named = self.upstreams.iter().position(|u| u.settings.name == key.upstream);
        let Some(upstream) = named.map(UpstreamId) else { return };
        let owner = self.pools.iter().find(|(_, p)| {
            p.upstream == upstream && p.vhost == key.vhost && owns(&p.credentials, p.identity, &key)
        });
        if let Some(pool) = owner.map(|(i, _)| PoolId(i)) {
            self.attach(pool, b);
            return;
        }
        // A certificate of ours alone may be there for TLS's sake: whoever left the records comes again.
        let login = self.upstreams.get(upstream.0).and_then(|u| {
            let is_configured = u.settings.credentials.is_some();
            u.settings.own.clone().filter(|own| is_configured || &*own.mechanism == b"PLAIN")
        });
        let Some(login) = login else { return };
        if owns(&login, self.remembered.hash(&login, Some(&key.vhost)), &key) {
            // Claims it.
            self.pool_for(now, upstream, &key.vhost, &login);
        } else {
            self.carry(now, b, upstream, &key.vhost, &login);
        }
    }

    /// A pool for a backlog alone, beside those that clients log in to.
    fn carry(&mut self, now: Now, b: BacklogId, upstream: UpstreamId, vhost: &Rc<[u8]>, login: &Credentials) {
        let hash = self.remembered.hash(login, Some(vhost));
        let pool = Pool::new(upstream, Rc::clone(vhost), login.clone(), hash, now.ms);
        let pool = PoolId(self.pools.insert(pool));
        self.attach(pool, b);
    }

    pub(super) fn attach(&mut self, pool: PoolId, b: BacklogId) {
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.backlog = Some(b);
        }
        if let Some(backlog) = self.backlogs.get_mut(b.index()) {
            backlog.via.get_or_insert(pool);
        }
    }

    /// A pool has come to be: whether an earlier life left something for its owner; its publishes go behind that. Of several, which only
    /// logins of an older version can have left, it has the newest; the others are carried beside it.
    pub(super) fn claim(&mut self, now: Now, pool: PoolId) {
        if self.backlogs.is_empty() {
            return;
        }
        let Some(p) = self.pools.get(pool.0) else { return };
        let (upstream, vhost, login) = (p.upstream, Rc::clone(&p.vhost), p.credentials.clone());
        let identity = p.identity;
        let Some(name) = self.upstreams.get(upstream.0).map(|u| Rc::clone(&u.settings.name)) else { return };
        let mut theirs: Vec<(bool, BacklogId)> = self
            .backlogs
            .iter()
            .filter(|(_, b)| b.key.upstream == name && b.key.vhost == vhost && owns(&login, identity, &b.key))
            .map(|(i, b)| (b.key.identity == login.owner(), BacklogId::new(i)))
            .collect();
        theirs.sort_unstable();
        let Some((_, own)) = theirs.pop() else { return };
        self.attach(pool, own);
        for (_, b) in theirs {
            if self.backlogs.get(b.index()).is_some_and(|b| b.via.is_none()) {
                self.carry(now, b, upstream, &vhost, &login);
            }
        }
    }

    /// A client is in: what waits for it at upstreams that only routes lead to finds a way there too.
    pub(super) fn claim_elsewhere(&mut self, now: Now, sid: SessionId) {
        if self.backlogs.is_empty() {
            return;
        }
        let Some(s) = self.sessions.get(sid.0) else { return };
        let (own, own_vhost) = (s.upstream, Rc::clone(&s.vhost));
        for index in 0..self.upstreams.len() {
            let upstream = UpstreamId(index);
            let Some(settings) = self.upstreams.get(index).map(|u| Rc::clone(&u.settings)) else { continue };
            let Some(login) = self.login_at(sid, upstream).filter(|_| upstream != own) else { continue };
            let vhost = settings.vhost.clone().unwrap_or_else(|| Rc::clone(&own_vhost));
            let awaited = self.backlogs.iter().any(|(_, b)| {
                b.via.is_none()
                    && b.key.upstream == settings.name
                    && b.key.vhost == vhost
                    && b.key.user == login.user
            });
            if awaited {
                self.pool_for(now, upstream, &vhost, &login);
            }
        }
    }

    /// A pool is forgotten: another of the same login carries its backlog, or somebody who comes later.
    pub(super) fn detach_backlog(&mut self, pool: PoolId, b: Option<BacklogId>) {
        let Some(b) = b else { return };
        let other =
            self.pools.iter().find(|(i, p)| *i != pool.0 && p.backlog == Some(b)).map(|(i, _)| PoolId(i));
        self.spool_dirty = true;
        self.flush_spool();
        let Some(backlog) = self.backlogs.get_mut(b.index()) else { return };
        if backlog.via == Some(pool) {
            backlog.via = other;
        }
        if other.is_none() && backlog.is_gone() {
            self.backlogs.remove(b.index());
        }
    }
}

/// Whether what is kept under this key is that of who logs in so. An older format has a hash of the login there: who has a name is known
/// by that alone.
fn owns(login: &Credentials, hash: IdentityHash, key: &SpoolKey) -> bool {
    login.user == key.user
        && (!login.user.is_empty() || key.identity == login.owner() || key.identity == hash.bytes())
}
