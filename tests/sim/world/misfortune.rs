//! What goes wrong in a world: links that are cut, clients that fall silent, brokers and disks that fail, the process that is killed.

use umbel::session::{Hub, LinkId, SessionId};

use super::super::client::Client;
use super::super::disk::News;
use super::World;

impl World {
    pub(super) fn misfortune(&mut self) {
        if self.rng.once_in(2500) {
            self.restart();
        }
        if self.rng.once_in(1500) {
            self.reconfigure();
        }
        if self.rng.once_in(500) {
            if let Some(disk) = &self.disk {
                disk.turns_ill_or_well();
            }
        }
        if self.rng.once_in(300) {
            let lids: Vec<LinkId> =
                self.sockets.iter().filter(|(_, s)| s.conn.is_some()).map(|(l, _)| *l).collect();
            if !lids.is_empty() {
                let lid = *self.rng.pick(&lids);
                match self.rng.below(4) {
                    0 | 1 => self.cut(lid, "reset by peer"),
                    2 => {
                        let ms = *self.rng.pick(&[50, 500, 60_000]);
                        if let Some(s) = self.sockets.get_mut(&lid) {
                            s.stalled_until = self.now.ms + ms;
                        }
                    }
                    _ => {
                        if let Some(conn) = self.sockets.get_mut(&lid).and_then(|s| s.conn.as_mut()) {
                            conn.close();
                        }
                    }
                }
            }
        }
        if self.rng.once_in(200) {
            let sids: Vec<SessionId> = self.clients.keys().copied().collect();
            if !sids.is_empty() {
                let sid = *self.rng.pick(&sids);
                match self.rng.below(5) {
                    0 => self.client_gone(sid),
                    1 => {
                        let now_ms = self.now.ms;
                        if let Some(c) = self.clients.get_mut(&sid) {
                            c.mute_since_ms.get_or_insert(now_ms);
                        }
                    }
                    _ => {
                        let deaf = self.rng.chance(50);
                        if let Some(c) = self.clients.get_mut(&sid) {
                            c.deaf = deaf;
                        }
                    }
                }
            }
        }
        if self.rng.once_in(600) {
            let n = self.rng.below(self.brokers.len());
            let b = &mut self.brokers[n];
            match self.rng.below(5) {
                4 => b.flaky = !b.flaky,
                0 => {
                    b.up = !b.up;
                    if !b.up {
                        let dead: Vec<LinkId> =
                            self.sockets.iter().filter(|(_, s)| s.upstream == n).map(|(l, _)| *l).collect();
                        for lid in dead {
                            if self.sockets.get(&lid).is_some_and(|s| s.conn.is_some()) {
                                self.cut(lid, "broker down");
                            }
                        }
                    }
                }
                1 => b.alarm = !b.alarm,
                2 => b.lazy = !b.lazy,
                _ => {
                    // Somebody deletes what the policy had declared.
                    b.exchanges.retain(|e| !e.starts_with("t."));
                }
            }
        }
    }

    /// The process is killed, or ends as it should, and another begins.
    fn restart(&mut self) {
        let gently = self.rng.chance(40);
        let now = self.now.ms;
        self.note(|| format!("{now} restart, gently: {gently}"));
        let mut in_peace = false;
        if gently {
            let refused = self.hub.counters.refused();
            let uids: Vec<u32> = self.clients.values().flat_map(Client::uids).collect();
            self.hub.drain(self.now);
            // What says nothing in a drain is the drain's deadline's concern.
            self.clients.values_mut().for_each(|c| c.mute_since_ms = None);
            for step in 0..self.rng.below(400) as u64 {
                self.now.ms += 5;
                for sid in self.clients.keys().copied().collect::<Vec<_>>() {
                    self.serve_client(sid);
                }
                self.go_on(step);
            }
            in_peace = self.hub.drained();
            if let Some(disk) = self.disk.clone() {
                for _ in 0..20 {
                    let left = self.hub.spool_the_rest(self.now);
                    let news = disk.sync_all(self.now.wall_us, &mut self.judge.ledger);
                    self.tell_hub(news);
                    in_peace = left == 0 && self.hub.spool_the_rest(self.now) == 0;
                }
                let news = disk.sync_all(self.now.wall_us, &mut self.judge.ledger);
                if self.hub.counters.refused() > refused {
                    // Refused where every bound is reached; the client that was told goodbye knows it by the ack that did not come.
                    uids.into_iter().for_each(|uid| self.judge.ledger.left_unanswered(uid));
                }
                in_peace &= !news.iter().any(|n| matches!(n, News::GivenBack(..)));
            }
        }
        for (_, mut s) in std::mem::take(&mut self.sockets) {
            let Some(conn) = &mut s.conn else { continue };
            let broker = &mut self.brokers[s.upstream];
            conn.condemn(broker, &mut self.judge.ledger, s.read);
            if self.rng.chance(50) && !broker.alarm {
                conn.work(broker, &mut self.judge.ledger, &mut self.rng, self.now.ms);
            }
            conn.died(broker, &mut self.judge.ledger, s.read);
        }
        for (sid, mut c) in std::mem::take(&mut self.clients) {
            c.overhear(&self.hub.unsaid(sid), &mut self.judge.ledger);
            c.vanish(&mut self.judge.ledger);
        }
        let (found, left) = self.disk.as_ref().map(|d| d.crash(in_peace)).unwrap_or_default();
        let index = |name: &str| self.settings.iter().position(|s| &*s.name == name).expect("one of ours");
        let left: Vec<_> = left.into_iter().map(|(name, id)| (index(&name), id)).collect();
        self.judge.ledger.restarted(&left, in_peace);
        self.given_up = 0;
        self.hub = Hub::new(self.limits.clone(), self.settings.clone(), self.seed, Vec::new());
        if let Some(disk) = &self.disk {
            self.hub.set_spool(self.now, Box::new(disk.clone()), found, None);
        }
        self.hub.start(self.now);
    }

    /// The configuration changes while it runs.
    fn reconfigure(&mut self) {
        let n = self.rng.below(self.settings.len());
        let s = &mut self.settings[n];
        match self.rng.below(4) {
            0 => s.links = 1 + self.rng.below(3),
            1 => s.lease_idle_ms = *self.rng.pick(&[5000, 300]),
            2 => s.urls[0].port += 1,
            _ => s.durable = self.disk.is_some() && self.rng.chance(50),
        }
        let now = self.now.ms;
        self.judge.ledger.note(|| format!("{now} reconfigured"));
        self.hub.reconfigure(self.now, self.limits.clone(), self.settings.clone());
    }
}
