//! How a world ends: everything is well again, all is answered, and nothing is left.

use std::net::{IpAddr, Ipv4Addr};

use umbel::session::SessionId;

use super::super::client::{Client, Phase};
use super::super::disk::Disk;
use super::World;

impl World {
    /// Everything is well again, and stays so.
    pub fn heal(&mut self) {
        self.faults = false;
        for b in &mut self.brokers {
            (b.up, b.alarm, b.lazy, b.flaky) = (true, false, false, false);
        }
        if let Some(disk) = &self.disk {
            disk.is_ill(false);
        }
        for s in self.sockets.values_mut() {
            s.stalled_until = s.stalled_until.min(self.now.ms + 100);
            s.pace = 1_000_000;
        }
        for c in self.clients.values_mut() {
            (c.deaf, c.mute_since_ms) = (false, None);
        }
    }

    /// Goes on without new work until all is answered, then until all is gone.
    pub fn wind_down(&mut self) {
        self.heal();
        if self.disk.as_ref().is_some_and(|d| d.records() > 0) {
            // Somebody must come for what waits on disk, where no login is configured.
            if let Some(sid) = self.hub.accept(self.now, IpAddr::V4(Ipv4Addr::LOCALHOST)) {
                self.clients.insert(sid, Client::new(sid, &mut self.rng).reliable());
            }
        }
        self.until("everything is answered, and nothing waits on disk", |w| {
            w.hub.unsettled() == 0
                && w.disk.as_ref().is_none_or(|d| d.records() as u64 == w.hub.spool_aside())
                && w.clients.values().all(|c| c.is_content() || c.phase != Phase::Running)
        });
        let kept = self.disk.as_ref().map(Disk::kept).unwrap_or_default();
        self.judge.ledger.settle_accounts(&kept);
        if self.rng.chance(30) {
            self.clients.values_mut().for_each(|c| c.mute_since_ms = None);
            self.hub.drain(self.now);
        } else {
            for sid in self.clients.keys().copied().collect::<Vec<_>>() {
                if self.rng.chance(50) {
                    if let Some(c) = self.clients.get_mut(&sid).filter(|c| c.phase == Phase::Running) {
                        c.goodbye(&mut self.judge.ledger);
                        continue;
                    }
                }
                self.client_gone(sid);
            }
        }
        self.until("all clients are gone", |w| w.clients.is_empty());
        self.until("nothing is left of them", |w| {
            let s = w.hub.sizes();
            // What a broker has refused keeps the pool, and now and then a link, that it is tried again with.
            let gone = w.hub.spool_aside() > 0 || (s.links, s.pools) == (0, 0);
            gone && (s.sessions, s.items) == (0, 0)
                && (w.hub.spool_aside() > 0 || (s.lanes, s.held) == (0, 0))
        });
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        // A backlog comes back a few records at a time where the window is small, and a nack holds it for a second.
        let patience = if self.disk.is_some() { 100_000 } else { 20_000 };
        for step in 0..patience {
            if done(self) {
                self.check();
                return;
            }
            self.now.ms += if step > 2000 { 20 } else { 2 };
            let sids: Vec<SessionId> = self.clients.keys().copied().collect();
            for sid in sids {
                if self.clients.get(&sid).is_some_and(|c| c.phase == Phase::Told && c.out.is_empty()) {
                    self.client_gone(sid);
                    continue;
                }
                self.answer(sid);
                self.serve_client(sid);
            }
            self.go_on(step);
            if step % 64 == 0 {
                self.check();
            }
        }
        let clients: Vec<String> = self.clients.values().map(Client::why_not_content).collect();
        panic!(
            "{what}: never, at {} ms\n{:?}\nunsettled {}\nclients {clients:#?}\nlanes {:#?}\nbacklogs {:#?}\nlinks {:?}\nsessions {:?}",
            self.now.ms,
            self.hub.sizes(),
            self.hub.unsettled(),
            self.hub.describe_lanes(),
            self.hub.describe_backlogs(),
            self.hub.look_links(self.now),
            self.hub.look_sessions(self.now, 100),
        );
    }

    /// A client that was told channel.close answers it.
    fn answer(&mut self, sid: SessionId) {
        if let Some(c) = self.clients.get_mut(&sid) {
            c.answer_closes();
        }
    }
}
