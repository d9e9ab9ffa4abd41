//! The Hub's own books, added up again from scratch: what simulations ask after every step. Nothing here is on a message's way.

use rustc_hash::{FxHashMap, FxHashSet};

use super::Hub;
use crate::session::client::{Gate, Pin, State};
use crate::session::lane::{Kind, Store, UNSENT};
use crate::session::record::{BacklogId, Record, Which};
use crate::session::upstream::{ChannelUse, LinkState, LinkUse};
use crate::session::{LaneId, LinkId, PoolId, SessionId};

/// How much of everything there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Clients.
    pub sessions: usize,
    /// Connections to upstreams, dead ones that net has not let go included.
    pub links: usize,
    /// Lanes.
    pub lanes: usize,
    /// Pools.
    pub pools: usize,
    /// Items on all lanes.
    pub items: usize,
    /// Octets that out-streams hold.
    pub held: usize,
}

macro_rules! ensure {
    ($ok:expr, $($why:tt)*) => {
        if !$ok {
            return Err(format!($($why)*));
        }
    };
}

impl Hub {
    /// What there is.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            sessions: self.sessions.len(),
            links: self.links.len(),
            lanes: self.lanes.len(),
            pools: self.pools.len(),
            items: self.lanes.iter().map(|(_, l)| l.len()).sum(),
            held: self.links.iter().map(|(_, l)| l.out.held()).sum(),
        }
    }

    /// What a client would still be told, if it stayed: what waits behind contents that are not through included.
    #[must_use]
    pub fn unsaid(&self, sid: SessionId) -> Vec<u8> {
        let mut said = self.client_out(sid).to_vec();
        for (_, c) in self.sessions.get(sid.0).iter().flat_map(|s| &s.channels) {
            said.extend_from_slice(&c.deferred);
        }
        said
    }

    /// What is on lanes that are not empty, for whoever must find out why it does not go on.
    #[must_use]
    pub fn describe_lanes(&self) -> Vec<String> {
        let describe = |(id, l): (usize, &crate::session::lane::Lane)| {
            format!(
                "lane {id} of {:?} channel {} on {:?} lease {:?} queued {} careful {} not before {} items {} sent {}, next {:?}",
                l.session,
                l.channel,
                l.pool,
                l.lease,
                l.queued,
                l.careful,
                l.not_before_ms,
                l.len(),
                l.sent,
                l.items.get(l.sent).map(|i| (
                    &i.kind,
                    i.settled,
                    i.wait.as_ref().map(|w| (w.met, w.way.target.as_ref().map(|t| &t.name)))
                )),
            )
        };
        self.lanes.iter().filter(|(_, l)| !l.items.is_empty()).map(describe).collect()
    }

    /// What each login has in the spool, for the same.
    #[must_use]
    pub fn describe_backlogs(&self) -> Vec<String> {
        let describe = |(id, b): (usize, &crate::session::backlog::Backlog)| {
            let line = |l: &crate::session::backlog::Line| {
                let (waiting, lent, held) = (l.waiting, l.lent.len(), l.held.len());
                format!("{waiting} wait, {lent} lent, {held} held, read {:?} of {}", l.read, l.last)
            };
            let (ahead, main) = (line(&b.ahead), line(&b.main));
            format!("backlog {id} via {:?} spilling {}: ahead {ahead}; main {main}", b.via, b.spilling)
        };
        self.backlogs.iter().map(describe).collect()
    }

    /// Whether the books agree with each other; if not, which do not.
    pub fn audit(&self) -> Result<(), String> {
        self.audit_lanes()?;
        self.audit_records()?;
        self.audit_links()?;
        self.audit_pools()?;
        self.audit_sessions()
    }

    fn audit_lanes(&self) -> Result<(), String> {
        let mut open = vec![(0_u64, 0_u64, 0_u64); self.upstreams.len()];
        let mut in_flight = 0_u64;
        for (id, lane) in &self.lanes {
            let sums = open.get_mut(lane.upstream.0).ok_or("a lane of no upstream")?;
            for item in lane.items.iter().filter(|i| !i.settled) {
                let count = u64::from(item.count);
                let counts = matches!(item.kind, Kind::Publish(f) if !f.authored && !f.replayed);
                sums.0 += count;
                sums.1 += u64::from(item.len);
                sums.2 += if lane.orphaned() { count } else { 0 };
                in_flight += if counts { count } else { 0 };
            }
            ensure!(lane.sent <= lane.items.len(), "lane {id}: {} sent of {}", lane.sent, lane.items.len());
            ensure!(lane.lease.is_some() || lane.sent == 0, "lane {id} has sent without a lease");
            ensure!(self.pools.contains(lane.pool.0), "lane {id} of a pool that is gone");
            let mut last = 0;
            for (n, item) in lane.items.iter().enumerate() {
                ensure!(
                    (item.tag == UNSENT) == (n >= lane.sent),
                    "lane {id} item {n}: tag {} with {} sent",
                    item.tag,
                    lane.sent
                );
                ensure!(item.tag >= last, "lane {id} item {n}: tag {} after {last}", item.tag);
                ensure!(
                    item.settled || matches!(item.store, Store::Stream(_)) == (n < lane.sent),
                    "lane {id} item {n} is kept in the wrong place"
                );
                let twice = item.tag == last
                    && n > 0
                    && matches!(item.kind, Kind::Publish(_))
                    && n < lane.sent
                    && !item.settled;
                ensure!(!twice, "lane {id} item {n}: tag {last} twice");
                last = item.last_tag();
                if let (Store::Stream(spot), Some((lid, _)), false) = (&item.store, lane.lease, item.settled)
                {
                    let bytes = self.links.get(lid.0).map_or(0, |l| l.out.bytes_at(*spot).len());
                    ensure!(bytes > 0, "lane {id} item {n}: nothing kept of {} octets", item.len);
                }
            }
            let link = lane.lease.and_then(|(lid, _)| self.links.get(lid.0));
            let adds_up = lane.runs_add_up(|spot| link.map_or(&[][..], |l| l.out.bytes_at(spot)));
            ensure!(adds_up, "lane {id}: its runs are not what they say");
            ensure!(!lane.items.is_empty() || lane.session.is_some(), "lane {id} is empty and nobody's");
            if let Some((lid, up)) = lane.lease {
                let link = self
                    .links
                    .get(lid.0)
                    .ok_or_else(|| format!("lane {id} leases from a link that is gone"))?;
                ensure!(link.state == LinkState::Up, "lane {id} leases from a link in {:?}", link.state);
                ensure!(link.used == LinkUse::Pooled(lane.pool), "lane {id} leases from another pool's link");
                let channel = link.channels.get(usize::from(up) - 1).ok_or("a lease of no channel")?;
                ensure!(
                    matches!(channel.used, ChannelUse::Lane(l) if l == LaneId(id)),
                    "lane {id} leases a channel that is {:?}",
                    channel.used
                );
            } else {
                ensure!(lane.queued || !lane.waiting(), "lane {id} waits and is not queued");
            }
            if let Some(sid) = lane.session {
                let s =
                    self.sessions.get(sid.0).ok_or_else(|| format!("lane {id} of a client that is gone"))?;
                let known = s
                    .channels
                    .iter()
                    .any(|(n, c)| *n == lane.channel && c.lanes.contains(&(lane.upstream, LaneId(id))));
                ensure!(known, "lane {id} is not known to its channel");
            }
        }
        let c = &self.counters;
        ensure!(
            c.in_flight() == in_flight && c.accepted >= in_flight,
            "{} accepted, {} forwarded, {} spooled, {} refused, {} expired: {} in flight, {in_flight} on lanes",
            c.accepted,
            c.forwarded,
            c.spooled,
            c.refused(),
            c.expired,
            c.in_flight()
        );
        for (index, (count, bytes, orphans)) in open.into_iter().enumerate() {
            let Some(u) = self.upstreams.get(index) else { continue };
            ensure!(u.unsettled == count, "upstream {index}: {} unsettled, {count} on lanes", u.unsettled);
            ensure!(
                u.unsettled_bytes == bytes,
                "upstream {index}: {} octets unsettled, {bytes} on lanes",
                u.unsettled_bytes
            );
            ensure!(u.orphaned == orphans, "upstream {index}: {} orphaned, {orphans} on lanes", u.orphaned);
        }
        Ok(())
    }

    /// What is on disk for one upstream and on its way to another is somebody's, and nobody else's.
    fn audit_records(&self) -> Result<(), String> {
        let mut away = FxHashSet::default();
        for (id, lane) in &self.lanes {
            let own = self.pools.get(lane.pool.0).and_then(|p| p.backlog);
            for record in lane.items.iter().filter(|i| !i.settled).filter_map(|i| i.record) {
                if Some(record.backlog) != own {
                    ensure!(away.insert(record), "lane {id} carries {record:?}, and so does another");
                }
            }
        }
        for (id, backlog) in &self.backlogs {
            let moved = backlog.moved.values().copied();
            let held = backlog.ahead.held.iter().chain(&backlog.main.held).filter_map(|h| h.older);
            for record in moved.chain(held).filter(|r| r.backlog != BacklogId::new(id)) {
                ensure!(away.insert(record), "backlog {id} replaces {record:?}, and something else has it");
            }
        }
        let mut lent = 0;
        for (id, backlog) in &self.backlogs {
            for (which, line) in [(Which::Ahead, &backlog.ahead), (Which::Main, &backlog.main)] {
                for &number in &line.lent {
                    let record = Record { backlog: BacklogId::new(id), which, number };
                    ensure!(away.contains(&record), "{record:?} is lent, and nobody has it");
                    lent += 1;
                }
            }
        }
        ensure!(lent == away.len(), "{} records are away, {lent} are lent", away.len());
        Ok(())
    }

    fn audit_links(&self) -> Result<(), String> {
        for (id, link) in &self.links {
            match link.used {
                LinkUse::Pinned(sid) => {
                    ensure!(self.sessions.contains(sid.0), "link {id} is pinned by a client that is gone");
                }
                LinkUse::Verify(sid) => {
                    ensure!(
                        self.sessions.get(sid.0).is_some_and(|s| s.verify == Some(LinkId(id))),
                        "link {id} verifies for somebody who does not know of it"
                    );
                }
                LinkUse::Pooled(pool) => {
                    let known = self.pools.get(pool.0).is_some_and(|p| p.links.contains(&LinkId(id)));
                    ensure!(known, "link {id} is not known to its pool");
                }
                LinkUse::Probe | LinkUse::Dead => continue,
            }
            let leased = link.channels.iter().filter(|c| matches!(c.used, ChannelUse::Lane(_))).count();
            ensure!(leased == link.leased, "link {id}: {} leased, {leased} counted", link.leased);
            let free: FxHashSet<u16> = link.free.iter().copied().collect();
            ensure!(free.len() == link.free.len(), "link {id}: a channel is free twice: {:?}", link.free);
            for (n, channel) in link.channels.iter().enumerate() {
                let up = u16::try_from(n + 1).unwrap_or(u16::MAX);
                let is_free = matches!(channel.used, ChannelUse::Free);
                ensure!(
                    is_free == free.contains(&up),
                    "link {id} channel {up} is {:?}, free: {}",
                    channel.used,
                    free.contains(&up)
                );
                if let ChannelUse::Lane(lane) = channel.used {
                    let lease = self.lanes.get(lane.0).and_then(|l| l.lease);
                    ensure!(
                        lease == Some((LinkId(id), up)),
                        "link {id} channel {up} is lent to {lane:?}, which has {lease:?}"
                    );
                }
            }
            if link.tune.channel_max > 0 {
                let max = usize::from(link.tune.channel_max);
                ensure!(
                    link.channels.len() <= max,
                    "link {id}: {} channels, {max} agreed",
                    link.channels.len()
                );
            }
        }
        Ok(())
    }

    fn audit_pools(&self) -> Result<(), String> {
        let mut lanes: FxHashMap<PoolId, usize> = FxHashMap::default();
        for (_, lane) in &self.lanes {
            *lanes.entry(lane.pool).or_default() += 1;
        }
        for (id, p) in &self.pools {
            let counted = lanes.get(&PoolId(id)).copied().unwrap_or(0);
            ensure!(p.lanes == counted, "pool {id}: {} lanes, {counted} counted", p.lanes);
            let users = self.sessions.iter().filter(|(_, s)| s.pool == Some(PoolId(id))).count();
            ensure!(p.users == users, "pool {id}: {} users, {users} counted", p.users);
            for lid in &p.links {
                let used = self.links.get(lid.0).map(|l| l.used);
                ensure!(
                    used == Some(LinkUse::Pooled(PoolId(id))),
                    "pool {id} knows {lid:?}, which is {used:?}"
                );
            }
            let queue: FxHashSet<LaneId> = p.waiting.iter().chain(&p.suspects).copied().collect();
            ensure!(queue.len() == p.waiting.len() + p.suspects.len(), "pool {id}: a lane waits twice");
            ensure!(
                p.alone.is_none_or(|l| p.links.contains(&l)),
                "pool {id}: its link for suspects is none of its own"
            );
            for (lane_id, lane) in self.lanes.iter().filter(|(_, l)| l.pool == PoolId(id)) {
                let waits = queue.contains(&LaneId(lane_id));
                ensure!(waits == lane.queued, "lane {lane_id}: queued {}, in the queue {waits}", lane.queued);
                ensure!(!waits || lane.lease.is_none(), "lane {lane_id} waits and has a lease");
            }
            for lane in queue.iter().chain(&p.target_waiters) {
                ensure!(
                    self.lanes.get(lane.0).is_some_and(|l| l.pool == PoolId(id)),
                    "pool {id}: {lane:?} waits and is not its own"
                );
            }
        }
        Ok(())
    }

    fn audit_sessions(&self) -> Result<(), String> {
        let mut open: FxHashMap<SessionId, u64> = FxHashMap::default();
        for (_, lane) in &self.lanes {
            if let Some(sid) = lane.session {
                *open.entry(sid).or_default() += crate::wire::num::u64_of(lane.unsettled());
            }
        }
        for (id, s) in &self.sessions {
            let counted = open.get(&SessionId(id)).copied().unwrap_or(0);
            ensure!(s.unsettled == counted, "client {id}: {} unsettled, {counted} on lanes", s.unsettled);
            if s.gate != Gate::Open && s.gate != Gate::Upstream {
                ensure!(
                    self.barriers.contains(&SessionId(id)),
                    "client {id} waits at {:?}, and nobody knows",
                    s.gate
                );
            }
            if s.gate == Gate::Upstream && s.state == State::Running {
                ensure!(s.pin != Pin::None, "client {id} waits for a link that nobody dials");
            }
            for (n, c) in &s.channels {
                let owed = c.lanes.iter().filter_map(|(_, l)| self.lanes.get(l.0)).flat_map(|l| &l.items);
                let owed =
                    owed.filter(|i| !i.settled && matches!(i.kind, Kind::Method { tell: true, .. })).count();
                ensure!(
                    crate::wire::num::usize_of(c.lane_replies) <= owed,
                    "client {id} channel {n}: {} replies owed, {owed} on lanes",
                    c.lane_replies
                );
                for (_, lane) in &c.lanes {
                    let known = self
                        .lanes
                        .get(lane.0)
                        .is_some_and(|l| l.session == Some(SessionId(id)) && l.channel == *n);
                    ensure!(known, "client {id} channel {n} knows {lane:?}, which is not its own");
                }
            }
        }
        Ok(())
    }
}
