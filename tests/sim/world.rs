//! The world around a Hub: clients, brokers, sockets that do what sockets do, a clock that only we turn.

mod misfortune;
mod peace;
mod sockets;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use umbel::session::{Action, Credentials, Hub, Limits, LinkId, Now, Retry, SessionId, UpstreamSettings};

use super::broker::{Broker, Conn};
use super::client::{Chances, Client};
use super::disk::{Disk, News};
use super::judge::SimJudge;
use super::ledger::Ledger;
use super::rng::Rng;

/// One link's socket.
struct Socket {
    upstream: usize,
    conn: Option<Conn>,
    /// When the dial ends, and how.
    dial_ms: u64,
    /// Octets the Hub has not taken yet, and how many it has.
    held: Vec<u8>,
    read: u64,
    /// Nothing passes until then.
    stalled_until: u64,
    hang_up: bool,
    /// Octets that a write takes at most.
    pace: usize,
}

/// Links dialed within a second: those of the pools with their retries, and each client's own.
const DIALS_A_SECOND_MAX: usize = 100;

pub struct World {
    pub hub: Hub,
    pub judge: SimJudge,
    rng: Rng,
    now: Now,
    next_tick: u64,
    brokers: Vec<Broker>,
    sockets: BTreeMap<LinkId, Socket>,
    clients: BTreeMap<SessionId, Client>,
    uids: u32,
    chances: Chances,
    window_messages: u64,
    clients_max: usize,
    settings: Vec<UpstreamSettings>,
    limits: Limits,
    seed: [u8; 32],
    disk: Option<Disk>,
    /// When the last links were dialed: nothing is to become a hot loop.
    dials: VecDeque<u64>,
    given_up: u64,
    pub faults: bool,
    links: Vec<LinkId>,
    sessions: Vec<SessionId>,
}

impl World {
    pub fn new(seed: u64, spools: bool) -> Self {
        let mut rng = Rng::new(seed);
        let upstreams = 1 + rng.below(2);
        let window_messages = if rng.chance(25) { 20 } else { 100_000 };
        let (durable, configured) = (spools && rng.chance(40), rng.chance(50));
        let max_retries = *rng.pick(&[None, None, None, Some(0), Some(3)]);
        let settings: Vec<UpstreamSettings> = (0..upstreams)
            .map(|n| {
                let mut s = UpstreamSettings::new(
                    if n == 0 { "default" } else { "other" },
                    "127.0.0.1",
                    5672 + n as u16,
                );
                s.links = 1 + rng.below(3);
                s.channels_per_link = *rng.pick(&[1000, 3, 1]);
                s.link_idle_ms = 20_000;
                s.link_lifetime_ms = *rng.pick(&[3_600_000, 5000]);
                s.lease_idle_ms = *rng.pick(&[5000, 300]);
                s.connect_timeout_ms = 3000;
                s.confirm_timeout_ms = 8000;
                s.window_messages = window_messages;
                s.durable = durable;
                s.own = configured.then(|| Credentials::plain("app", "pw"));
                s.retry = Retry { interval_max_ms: 1000, max_retries, ..Retry::default() };
                s
            })
            .collect();
        let brokers = (0..upstreams).map(|n| Broker::new(n, &mut rng)).collect();
        let limits = Limits { handshake_ms: 20_000, ..Limits::default() };
        let mut seed_bytes = [0; 32];
        seed_bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let chances = Chances {
            pins: *rng.pick(&[0, 10, 40]),
            own: *rng.pick(&[0, 0, 20]),
            errors: *rng.pick(&[0, 20, 60]),
            body_max: *rng.pick(&[10_000, 300_000]),
        };
        let meddles = *rng.pick(&[0, 10, 40]);
        let ledger = Ledger::new(spools);
        let judge = SimJudge { rng: Rng::new(seed ^ 0xface), ledger, upstreams, meddles };
        let now = Now { ms: 1000, wall_us: 0 };
        let disk = spools.then(|| Disk::new(&mut rng));
        let mut hub = Hub::new(limits.clone(), settings.clone(), seed_bytes, Vec::new());
        if let Some(disk) = &disk {
            hub.set_spool(now, Box::new(disk.clone()), Vec::new(), None);
        }
        hub.start(now);
        Self {
            settings,
            limits,
            seed: seed_bytes,
            disk,
            dials: VecDeque::new(),
            given_up: 0,
            hub,
            judge,
            now,
            next_tick: 1000,
            brokers,
            sockets: BTreeMap::new(),
            clients: BTreeMap::new(),
            uids: 0,
            chances,
            window_messages,
            clients_max: 2 + rng.below(8),
            faults: !rng.chance(15),
            rng,
            links: Vec::new(),
            sessions: Vec::new(),
        }
    }

    /// One thing happens.
    pub fn step(&mut self, step: u64) {
        self.now.ms += if self.rng.chance(2) { self.rng.below(300) as u64 } else { self.rng.below(4) as u64 };
        self.now.wall_us = self.now.ms as i64 * 1000;
        if self.faults {
            self.misfortune();
        }
        if self.clients.len() < self.clients_max && self.rng.chance(5) {
            self.connect();
        }
        let sids: Vec<SessionId> = self.clients.keys().copied().collect();
        if !sids.is_empty() {
            let sid = *self.rng.pick(&sids);
            if self.rng.chance(60) {
                let (rng, ledger) = (&mut self.rng, &mut self.judge.ledger);
                if let Some(c) = self.clients.get_mut(&sid) {
                    c.act(rng, ledger, &mut self.uids, &self.chances);
                    for line in c.notes.drain(..) {
                        ledger.note(|| line);
                    }
                }
            }
            self.serve_client(sid);
        }
        self.go_on(step);
        if step.is_multiple_of(16) {
            self.check();
        }
    }

    /// Whatever must happen, whatever else does.
    fn go_on(&mut self, _step: u64) {
        self.actions();
        if let Some(disk) = self.disk.clone() {
            self.hub.flush_spool();
            let news = disk.work(self.now.wall_us, &mut self.rng, &mut self.judge.ledger);
            self.tell_hub(news);
        }
        let lids: Vec<LinkId> = self.sockets.keys().copied().collect();
        if !lids.is_empty() {
            for _ in 0..2 {
                let lid = *self.rng.pick(&lids);
                self.serve_link(lid);
            }
        }
        if self.now.ms >= self.next_tick {
            self.next_tick = self.now.ms + 100;
            self.hub.tick(self.now, &mut self.judge);
            self.see_silence();
            for c in self.clients.values_mut() {
                c.say_heartbeat(self.now.ms);
            }
            for lid in lids {
                self.dial_ends(lid);
            }
        }
        self.actions();
        self.see_refusals();
        self.links.clear();
        self.sessions.clear();
        self.hub.take_dirty_links(&mut self.links);
        self.hub.take_dirty_sessions(&mut self.sessions);
    }

    /// Retries that are used up close connections whose publishes have no numbers.
    fn see_refusals(&mut self) {
        let given_up = self.hub.counters.refused_retries;
        if given_up == std::mem::replace(&mut self.given_up, given_up) {
            return;
        }
        for c in self.clients.values_mut() {
            c.window_full = true;
            c.uids().for_each(|uid| self.judge.ledger.give_up(uid));
        }
    }

    /// A client that is silent is found within two of its heartbeats, unless it is not read.
    fn see_silence(&mut self) {
        for (sid, c) in &mut self.clients {
            let (Some(since_ms), Some(interval_ms)) = (c.mute_since_ms, c.has_heartbeat()) else { continue };
            if !self.hub.client_gate_open(*sid) || !self.hub.client_wants_reads(*sid, c.held.len()) {
                c.mute_since_ms = Some(self.now.ms);
                continue;
            }
            let silent_ms = self.now.ms.saturating_sub(since_ms);
            assert!(c.hung_up || silent_ms <= 2 * interval_ms + 1000, "{sid:?} is silent for {silent_ms} ms");
        }
    }

    fn tell_hub(&mut self, news: Vec<News>) {
        let now = self.now;
        for news in news {
            match news {
                News::Synced(queue, upto) => self.hub.spool_synced(now, queue, upto),
                News::GivenBack(queue, records) => self.hub.spool_given_back(now, queue, records),
                News::Records(queue, records, end) => {
                    self.hub.spool_records(now, queue, records, end, &mut self.judge)
                }
                News::ReadFailed(queue) => self.hub.spool_read_failed(queue),
            }
            self.actions();
        }
    }

    fn connect(&mut self) {
        if let Some(sid) = self.hub.accept(self.now, IpAddr::V4(Ipv4Addr::LOCALHOST)) {
            let mut client = Client::new(sid, &mut self.rng);
            client.tracing = self.judge.ledger.tracing;
            assert!(self.clients.insert(sid, client).is_none(), "{sid:?} is given out twice");
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        self.judge.ledger.note(line);
    }

    fn actions(&mut self) {
        while let Some(action) = self.hub.next_action() {
            let now = self.now.ms;
            self.note(|| format!("{now} {action:?}"));
            match action {
                Action::Dial { link, upstream, .. } => {
                    self.dials.push_back(now);
                    while self.dials.front().is_some_and(|at| at + 1000 < now) {
                        self.dials.pop_front();
                    }
                    assert!(self.dials.len() <= DIALS_A_SECOND_MAX, "{} dials a second", self.dials.len());
                    let dial_ms = self.now.ms + self.rng.below(30) as u64;
                    let pace =
                        *self.rng.pick(if self.faults { &[100, 5000, 1_000_000] } else { &[1_000_000] });
                    let socket = Socket {
                        upstream: upstream.0,
                        conn: None,
                        dial_ms,
                        held: Vec::new(),
                        read: 0,
                        stalled_until: 0,
                        hang_up: false,
                        pace,
                    };
                    assert!(self.sockets.insert(link, socket).is_none(), "{link:?} is dialed twice");
                }
                Action::HangUpLink(lid) => {
                    if let Some(s) = self.sockets.get_mut(&lid) {
                        s.hang_up = true;
                        if let Some(conn) = &mut s.conn {
                            conn.condemn(&self.brokers[s.upstream], &mut self.judge.ledger, s.read);
                        }
                    }
                }
                Action::HangUp(sid) | Action::Cut(sid) => {
                    if let Some(c) = self.clients.get_mut(&sid) {
                        c.hung_up = true;
                    }
                }
                Action::Resume(sid) => self.hand_in(sid),
                // Nothing is kept here of an earlier life.
                Action::Recall(_) => {}
            }
        }
    }

    fn check(&mut self) {
        if let Err(why) = self.hub.audit() {
            panic!("the books: {why}\n{}", self.hub.describe_lanes().join("\n"));
        }
        // What comes back from disk is bounded by itself.
        let most = self.window_messages + 2 + if self.disk.is_some() { 4096 } else { 0 };
        for n in 0..self.brokers.len() {
            let unsettled = self.hub.look_upstream(umbel::session::UpstreamId(n)).map_or(0, |l| l.unsettled);
            // What another upstream had accepted may come home to the first, whose window does not turn it away.
            let comes_home = n == 0 && self.brokers.len() > 1;
            assert!(comes_home || unsettled <= most, "upstream {n}: {unsettled} unsettled");
        }
    }
}
