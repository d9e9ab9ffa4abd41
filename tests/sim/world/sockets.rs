//! The sockets between clients, Hub and brokers: dialed, served octet by octet, cut.

use std::io::IoSlice;

use umbel::session::{Hub, LinkId, Now, SessionId};

use super::World;
use crate::sim::broker::Conn;
use crate::sim::client::Phase;

impl World {
    pub(super) fn dial_ends(&mut self, lid: LinkId) {
        let Some(s) = self.sockets.get_mut(&lid) else { return };
        if s.conn.is_some() || self.now.ms < s.dial_ms {
            return;
        }
        let refused = !self.brokers[s.upstream].up || (self.faults && self.rng.chance(10));
        if refused {
            self.sockets.remove(&lid);
            self.hub.dial_failed(self.now, lid, "connection refused");
        } else if s.hang_up {
            self.sockets.remove(&lid);
            self.hub.link_gone(self.now, lid, "hung up");
        } else {
            s.conn = Some(Conn::new(lid, self.now.ms));
            self.hub.dialed(self.now, lid);
        }
    }

    pub(super) fn serve_link(&mut self, lid: LinkId) {
        self.dial_ends(lid);
        let Some(s) = self.sockets.get_mut(&lid) else { return };
        let Some(conn) = &mut s.conn else { return };
        let stalled = self.now.ms < s.stalled_until;
        // A stalled socket still takes some bytes.
        if (!stalled || conn.input.len() < 20_000) && (s.hang_up || self.rng.chance(80)) {
            let most = if s.hang_up { usize::MAX } else { 1 + self.rng.below(s.pace) };
            write_link(&mut self.hub, self.now, lid, &mut conn.input, most);
        }
        if stalled {
            if s.hang_up {
                self.cut(lid, "hung up");
            }
            return;
        }
        conn.work(&mut self.brokers[s.upstream], &mut self.judge.ledger, &mut self.rng, self.now.ms);
        if self.brokers[s.upstream].flaky && conn.is_fresh() && self.rng.chance(70) {
            self.cut(lid, "dies right after it opened");
            return;
        }
        if s.hang_up {
            self.cut(lid, "hung up");
            return;
        }
        if !self.hub.link_wants_reads(lid) {
            return;
        }
        let most = if self.rng.chance(50) { 40 } else { 100_000 };
        let n = conn.out.len().min(1 + self.rng.below(most));
        s.held.extend(conn.out.drain(..n));
        let over = conn.is_over();
        if n > 0 {
            let took = self.hub.link_bytes(self.now, lid, &s.held, &mut self.judge);
            s.held.drain(..took);
            s.read += took as u64;
        }
        if over {
            self.cut(lid, "closed by the broker");
        }
        // Links that it gives up are known before another is served: what they carried may go there.
        self.actions();
    }

    pub(super) fn cut(&mut self, lid: LinkId, why: &str) {
        let Some(mut s) = self.sockets.remove(&lid) else { return };
        let now = self.now.ms;
        self.judge.ledger.note(|| format!("{now} {lid:?} is cut: {why}"));
        if let Some(conn) = &mut s.conn {
            let broker = &mut self.brokers[s.upstream];
            if self.rng.chance(50) && !broker.alarm {
                // What was on its way still arrives; nobody hears of it.
                conn.work(broker, &mut self.judge.ledger, &mut self.rng, self.now.ms);
            }
            conn.died(broker, &mut self.judge.ledger, s.read);
        }
        self.hub.link_gone(self.now, lid, why);
    }

    pub(super) fn hand_in(&mut self, sid: SessionId) {
        let Some(c) = self.clients.get_mut(&sid) else { return };
        if c.held.is_empty() {
            return;
        }
        let (full, errors) = (self.hub.counters.limit_window, self.hub.counters.connection_errors);
        self.judge.ledger.last_judged.clear();
        c.mute_since_ms = c.mute_since_ms.map(|_| self.now.ms);
        let took = self.hub.client_bytes(self.now, sid, &c.held, &mut self.judge);
        c.held.drain(..took);
        c.window_full |= self.hub.counters.limit_window > full;
        if self.hub.counters.limit_window > full && self.hub.counters.connection_errors > errors {
            // Without confirms, what is refused closes the connection; nothing is judged behind it.
            let ledger = &mut self.judge.ledger;
            if let Some(id) = ledger.last_judged.last().copied() {
                ledger.chan(id.chan).excused.insert(id.n);
            }
        }
    }

    pub(super) fn serve_client(&mut self, sid: SessionId) {
        let Some(c) = self.clients.get_mut(&sid) else { return };
        if !c.out.is_empty() && c.mute_since_ms.is_none() && self.hub.client_wants_reads(sid, c.held.len()) {
            let most = if self.rng.chance(30) { 30 } else { 100_000 };
            let n = c.out.len().min(1 + self.rng.below(most));
            c.held.extend(c.out.drain(..n));
            c.talk_ms = self.now.ms;
            self.hand_in(sid);
        }
        let Some(c) = self.clients.get_mut(&sid) else { return };
        if !c.deaf || c.hung_up {
            let out = self.hub.client_out(sid);
            let most = if self.rng.chance(20) { 20 } else { 200_000 };
            let n = out.len().min(1 + self.rng.below(most));
            let n = if c.hung_up { out.len() } else { n };
            let bytes = out[..n].to_vec();
            self.hub.client_written(self.now, sid, n);
            c.hear(&bytes, &mut self.rng, &mut self.judge.ledger);
        }
        let over =
            c.phase == Phase::Over || (c.phase == Phase::Told && c.out.is_empty() && self.rng.chance(10));
        if c.hung_up || (over && c.out.is_empty()) {
            self.client_gone(sid);
        }
    }

    pub(super) fn client_gone(&mut self, sid: SessionId) {
        let Some(mut c) = self.clients.remove(&sid) else { return };
        c.overhear(&self.hub.unsaid(sid), &mut self.judge.ledger);
        c.vanish(&mut self.judge.ledger);
        let now = self.now.ms;
        self.judge.ledger.note(|| format!("{now} {sid:?} is gone"));
        self.hub.client_gone(self.now, sid);
    }
}

pub(super) fn write_link(hub: &mut Hub, now: Now, lid: LinkId, to: &mut Vec<u8>, most: usize) {
    let mut left = most;
    while left > 0 {
        let mut slices = [IoSlice::new(&[]); 4];
        let n = hub.link_out(lid, &mut slices);
        let before = to.len();
        for slice in &slices[..n] {
            to.extend_from_slice(&slice[..slice.len().min(left - (to.len() - before))]);
        }
        let wrote = to.len() - before;
        if wrote == 0 {
            return;
        }
        left -= wrote;
        hub.link_written(now, lid, wrote);
    }
}
