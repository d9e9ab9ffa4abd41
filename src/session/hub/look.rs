//! A look at the Hub for people: what `/status` shows of sessions, links and upstreams. Never a secret.

use super::Hub;
use crate::session::client::{Pin, State};
use crate::session::lane::Lane;
use crate::session::upstream::{LinkState, LinkUse, UpstreamState};
use crate::session::{LinkId, Now, PoolId, SessionId, UpstreamId};

/// One client.
#[derive(Debug, Clone)]
pub struct SessionLook {
    /// Its number.
    pub id: SessionId,
    /// Its address.
    pub peer: std::net::IpAddr,
    /// The name it logged in with.
    pub user: String,
    /// Its vhost.
    pub vhost: String,
    /// Its client properties, as a table's bytes.
    pub properties: std::rc::Rc<[u8]>,
    /// Where it is in its life.
    pub state: &'static str,
    /// Its own link.
    pub pinned: Option<LinkId>,
    /// Each open channel, and where it is.
    pub channels: Vec<ChannelLook>,
    /// Since it was accepted.
    pub up_ms: u64,
    /// Octets that it has not read.
    pub backlog_bytes: usize,
    /// Since it was last heard of.
    pub idle_ms: u64,
}

/// One channel of a client.
#[derive(Debug, Clone)]
pub struct ChannelLook {
    /// The client's number of it.
    pub number: u16,
    /// Whether the client asked for confirms.
    pub confirm: bool,
    /// Its lanes: the upstream, and the channel there that it has on loan.
    pub lanes: Vec<(UpstreamId, Option<(LinkId, u16)>)>,
    /// What its upstreams have not settled.
    pub unsettled: usize,
}

/// How many clients there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Not logged in yet.
    pub handshaking: usize,
    /// On shared links only.
    pub pooled: usize,
    /// With a link of their own, or on the way to one.
    pub pinned: usize,
    /// Told goodbye, or leaving.
    pub closing: usize,
    /// Open channels of all of them.
    pub channels: usize,
}

/// An upstream.
#[derive(Debug, Clone)]
pub struct UpstreamLook {
    /// How it is doing.
    pub state: UpstreamState,
    /// Why it was last lost.
    pub last_error: Option<String>,
    /// Publishes and methods that are not settled.
    pub unsettled: u64,
    /// Their octets.
    pub unsettled_bytes: u64,
    /// Its server properties: a table's bytes.
    pub server_properties: Option<std::rc::Rc<[u8]>>,
    /// Publishes that it has confirmed, ever.
    pub confirmed: u64,
    /// Publishes sent again because their link had died, ever.
    pub resent: u64,
    /// Links that came to open-ok, ever.
    pub opened: u64,
    /// Dials after a failure, ever.
    pub retries: u64,
}

/// One link.
#[derive(Debug, Clone)]
pub struct LinkLook {
    /// Its number.
    pub id: LinkId,
    /// Of which upstream.
    pub upstream: UpstreamId,
    /// Which of its addresses.
    pub url: String,
    /// Where it is in its life.
    pub state: &'static str,
    /// `user@vhost`.
    pub identity: String,
    /// Whose own it is.
    pub pinned_by: Option<SessionId>,
    /// Leases and channels.
    pub leased: usize,
    /// Channels opened.
    pub channels: usize,
    /// Highest channel number.
    pub channel_max: u16,
    /// Octets not yet written.
    pub unwritten: usize,
    /// Items of the lanes on it that are not settled.
    pub unsettled: usize,
    /// Octets held for resending, whole chunks.
    pub held: usize,
    /// connection.blocked.
    pub blocked: bool,
    /// Since it is up.
    pub up_ms: u64,
}

impl Hub {
    /// Clients, `most` of them at most, and how many there are.
    #[must_use]
    pub fn look_sessions(&self, now: Now, most: usize) -> (Vec<SessionLook>, usize) {
        let looks = self.sessions.iter().take(most).map(|(id, s)| SessionLook {
            id: SessionId(id),
            peer: s.peer,
            user: s.credentials.as_ref().map_or_else(String::new, |c| c.user.to_string()),
            vhost: String::from_utf8_lossy(&s.vhost).into_owned(),
            properties: std::rc::Rc::clone(&s.properties),
            state: state_name(s.state),
            pinned: match s.pin {
                Pin::Up(l) | Pin::Dialing(l) => Some(l),
                Pin::None => None,
            },
            channels: s
                .channels
                .iter()
                .map(|(n, c)| {
                    let lanes = || c.lanes.iter().filter_map(|(_, l)| self.lanes.get(l.0));
                    ChannelLook {
                        number: *n,
                        confirm: c.confirm.is_some(),
                        lanes: lanes().map(|l| (l.upstream, l.lease)).collect(),
                        unsettled: lanes().map(Lane::unsettled).sum(),
                    }
                })
                .collect(),
            backlog_bytes: s.out.len() - s.unsent,
            idle_ms: now.ms.saturating_sub(s.rx_ms),
            up_ms: now.ms.saturating_sub(s.opened_ms),
        });
        (looks.collect(), self.sessions.len())
    }

    /// Links.
    #[must_use]
    pub fn look_links(&self, now: Now) -> Vec<LinkLook> {
        self.links
            .iter()
            .filter(|(_, l)| l.used != LinkUse::Dead)
            .map(|(id, l)| LinkLook {
                id: LinkId(id),
                upstream: l.upstream,
                url: self
                    .upstreams
                    .get(l.upstream.0)
                    .and_then(|u| u.settings.urls.get(l.url))
                    .map_or_else(String::new, ToString::to_string),
                state: match l.state {
                    LinkState::Dialing => "dialing",
                    LinkState::Start | LinkState::Tune | LinkState::Vhost | LinkState::OpenOk => "login",
                    LinkState::Up => "up",
                    LinkState::Closing | LinkState::Dead => "closing",
                },
                identity: format!(
                    "{}@{}",
                    l.credentials.as_ref().map_or("", |c| &c.user),
                    String::from_utf8_lossy(&l.vhost)
                ),
                pinned_by: self.pinned_to(LinkId(id)),
                leased: l.leased,
                channels: l.channels.len(),
                channel_max: l.tune.channel_max,
                unwritten: l.out.unwritten(),
                unsettled: self
                    .lanes_of(LinkId(id))
                    .iter()
                    .filter_map(|lane| self.lanes.get(lane.0))
                    .map(Lane::unsettled)
                    .sum(),
                held: l.out.held(),
                blocked: l.blocked,
                up_ms: now.ms.saturating_sub(l.since_ms),
            })
            .collect()
    }

    /// An upstream.
    #[must_use]
    pub fn look_upstream(&self, id: UpstreamId) -> Option<UpstreamLook> {
        let u = self.upstreams.get(id.0)?;
        Some(UpstreamLook {
            state: u.state,
            last_error: u.last_error.as_ref().map(ToString::to_string),
            unsettled: u.unsettled,
            unsettled_bytes: u.unsettled_bytes,
            server_properties: u.facts.as_ref().map(|f| std::rc::Rc::clone(&f.server_properties)),
            confirmed: u.confirmed,
            resent: u.resent,
            opened: u.opened,
            retries: u.retries,
        })
    }

    /// How long until it is dialed again, while it is down and nobody is dialing it.
    #[must_use]
    pub fn retry_in_ms(&self, now: Now, id: UpstreamId) -> Option<u64> {
        let u = self.upstreams.get(id.0).filter(|u| u.state == UpstreamState::Down && !u.probing)?;
        let dialing = self.links.iter().any(|(_, l)| l.upstream == id && l.state < LinkState::Up);
        let probe = Some(u.probe_at_ms).filter(|_| u.asks_again());
        let wanted = self.pools.iter().filter(|(n, p)| {
            p.upstream == id && (!p.waiting.is_empty() || !p.suspects.is_empty() || self.carries(PoolId(*n)))
        });
        let next = wanted.map(|(_, p)| p.dial_at_ms).chain(probe).min();
        next.filter(|_| !dialing).map(|at| at.saturating_sub(now.ms))
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn upstream_name(&self, id: UpstreamId) -> Option<&str> {
        self.upstreams.get(id.0).map(|u| &*u.settings.name)
    }

    /// Clients by where they are in their lives, and their open channels.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (_, s) in &self.sessions {
            totals.channels += s.channels.len();
            match state_name(s.state) {
                "login" => totals.handshaking += 1,
                "running" if s.pin != Pin::None => totals.pinned += 1,
                "running" => totals.pooled += 1,
                _ => totals.closing += 1,
            }
        }
        totals
    }
}

impl Hub {
    /// Octets that clients have not read yet, and sessions that are not read for now.
    #[must_use]
    pub fn held_back(&self) -> (usize, usize) {
        (self.sessions.iter().map(|(_, s)| s.out.len().saturating_sub(s.unsent)).sum(), self.paused.len())
    }

    /// Whether a link has logged in and takes what it is given.
    #[must_use]
    pub fn link_is_up(&self, lid: LinkId) -> bool {
        self.links.get(lid.0).is_some_and(|link| link.state == LinkState::Up)
    }
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Header
        | State::Probing
        | State::StartOk
        | State::Verifying
        | State::TuneOk
        | State::Open
        | State::Opening => "login",
        State::Running => "running",
        State::Closing | State::Leaving | State::Done => "closing",
        State::Draining => "draining",
    }
}
