//! Pools: made for logins that work, forgotten with their secrets, and the links that they dial (SPEC L3).

use std::rc::Rc;

use super::lease::CROWDED_BYTES;
use super::{Action, Hub};
use crate::session::upstream::{Link, LinkState, LinkUse, Pool};
use crate::session::{Credentials, LinkId, Now, PoolId, UpstreamId};

/// Leases on every link of a pool before another link is dialed.
const LEASES_BEFORE_ANOTHER_LINK: usize = 16;

impl Hub {
    /// The pool of these credentials on this vhost; made where there is none. Only for credentials that were accepted.
    pub(super) fn pool_for(
        &mut self,
        now: Now,
        upstream: UpstreamId,
        vhost: &Rc<[u8]>,
        credentials: &Credentials,
    ) -> PoolId {
        let hash = self.remembered.hash(credentials, Some(vhost));
        let key = (upstream, Rc::clone(vhost), hash);
        if let Some(&pool) = self.pool_of.get(&key) {
            return pool;
        }
        let pool = PoolId(self.pools.insert(Pool::new(
            upstream,
            Rc::clone(vhost),
            credentials.clone(),
            hash,
            now.ms,
        )));
        self.pool_of.insert(key, pool);
        self.claim(now, pool);
        pool
    }

    /// A pool that nobody uses any more is forgotten, its secret with it.
    pub(super) fn forget_pool(&mut self, pool: PoolId) {
        if self.pools.contains(pool.0) {
            let p = self.pools.remove(pool.0);
            // A pool that only carries another's backlog is not under its key.
            let key = (p.upstream, p.vhost, p.identity);
            if self.pool_of.get(&key) == Some(&pool) {
                self.pool_of.remove(&key);
            }
            self.detach_backlog(pool, p.backlog);
        }
    }

    /// Another link where lanes wait, or where each link carries much; never more than configured, one dial at a time.
    pub(super) fn dial_more(&mut self, now: Now, pool: PoolId) {
        let Some(p) = self.pools.get(pool.0) else { return };
        let Some(u) = self.upstreams.get(p.upstream.0) else { return };
        let states = || p.links.iter().filter(|l| Some(**l) != p.alone).filter_map(|l| self.links.get(l.0));
        if states().any(|l| l.state < LinkState::Up) || now.ms < p.dial_at_ms {
            return;
        }
        let up = states().filter(|l| l.state == LinkState::Up && l.retire_at_ms > now.ms).count();
        let crowd = |l: &Link| l.leased > 1 && l.out.held() >= CROWDED_BYTES;
        let crowded = up > 0 && states().all(|l| l.leased >= LEASES_BEFORE_ANOTHER_LINK || crowd(l));
        let wanted = !p.waiting.is_empty()
            || crowded
            || ((self.carries(pool) || self.turn_waits(now, pool)) && up == 0);
        if wanted && up < u.settings.links {
            self.dial_for(now, pool);
        }
    }

    /// A link of a pool on its way.
    pub(super) fn dial_for(&mut self, now: Now, pool: PoolId) -> Option<LinkId> {
        let p = self.pools.get(pool.0)?;
        let (upstream, vhost, credentials) = (p.upstream, Rc::clone(&p.vhost), p.credentials.clone());
        let properties = Rc::clone(&self.our_properties);
        let lid = self.dial(now, upstream, LinkUse::Pooled(pool), Some(credentials), vhost, properties);
        self.pools.get_mut(pool.0)?.links.push(lid);
        Some(lid)
    }

    /// A new link on its way.
    pub(super) fn dial(
        &mut self,
        now: Now,
        upstream: UpstreamId,
        used: LinkUse,
        credentials: Option<Credentials>,
        vhost: Rc<[u8]>,
        properties: Rc<[u8]>,
    ) -> LinkId {
        let settings = self.upstreams.get(upstream.0).map(|u| Rc::clone(&u.settings));
        let timeout_ms = settings.as_ref().map_or(5000, |s| s.connect_timeout_ms);
        let mut link = Link::new(upstream, used, properties, now.ms, now.ms + timeout_ms);
        link.credentials = credentials;
        link.vhost = vhost;
        let urls = settings.as_ref().map_or(0, |s| s.urls.len());
        link.url = self.upstreams.get(upstream.0).map_or(0, |u| u.next_url) % urls.max(1);
        let url = settings.as_ref().and_then(|s| s.urls.get(link.url)).cloned();
        let lid = LinkId(self.links.insert(link));
        if let Some(url) = url {
            self.actions.push_back(Action::Dial { link: lid, url, upstream, timeout_ms });
        }
        lid
    }
}
