//! Other settings while running: which upstream is which, and what becomes of links whose upstream has changed.

use std::rc::Rc;

use super::Hub;
use crate::session::upstream::{LinkUse, Upstream};
use crate::session::{Limits, Now, UpstreamId, UpstreamSettings};

impl Hub {
    /// Other settings, while running: links whose upstream did not change live on, those of others are replaced when they are quiet.
    /// The answer is our number for each upstream, in the order given.
    pub fn reconfigure(
        &mut self,
        now: Now,
        limits: Limits,
        upstreams: Vec<UpstreamSettings>,
    ) -> Vec<UpstreamId> {
        self.limits = limits;
        self.moves.forget();
        let mut order = Vec::new();
        for settings in upstreams {
            let settings = Rc::new(settings);
            let found = self.upstreams.iter().position(|u| u.settings.name == settings.name);
            let id = UpstreamId(found.unwrap_or(self.upstreams.len()));
            match self.upstreams.get_mut(id.0) {
                Some(u) => {
                    let same = u.settings.urls == settings.urls
                        && u.settings.credentials == settings.credentials
                        && u.settings.own == settings.own
                        && u.settings.vhost == settings.vhost
                        && u.settings.heartbeat_s == settings.heartbeat_s;
                    u.settings = settings;
                    if !same {
                        self.replace_links(now, id);
                    }
                }
                None => {
                    self.upstreams.push(Upstream::new(settings));
                    self.probe_upstream(now, id);
                }
            }
            order.push(id);
        }
        self.order.clone_from(&order);
        order
    }

    /// Links of an upstream whose address or login has changed: no new leases on them, closed when the last one is back.
    fn replace_links(&mut self, now: Now, upstream: UpstreamId) {
        for (_, link) in &mut self.links {
            if link.upstream == upstream && matches!(link.used, LinkUse::Pooled(_)) {
                link.retire_at_ms = now.ms;
            }
        }
        if let Some(u) = self.upstreams.get_mut(upstream.0) {
            u.facts = None;
            u.next_url = 0;
        }
        self.probe_upstream(now, upstream);
    }

    /// Our number of the upstream at this place of the configuration.
    #[must_use]
    pub fn upstream_at(&self, index: usize) -> Option<UpstreamId> {
        self.order.get(index).copied()
    }
}
