//! The Hub: sessions, lanes, links and pools of one data thread, driven by bytes and time.

mod acked;
mod adopt;
mod again;
mod alone;
mod aside;
mod assembly;
mod audit;
mod author;
mod barrier;
mod blame;
mod blocked;
mod books;
mod channel;
mod connection;
mod counters;
mod deliver;
mod drain;
mod entry;
mod farewell;
mod frames;
mod journal;
mod kept;
mod lease;
mod link;
mod login;
mod look;
mod mechanism;
mod methods;
mod moves;
mod needs;
mod out;
mod parted;
mod pause;
mod pin;
mod pool;
mod publish;
mod reader;
mod recall;
mod reconfigure;
mod relay;
mod replay;
mod rest;
mod retry;
mod returned;
mod road;
mod row;
mod settle;
mod spool;
mod stencil;
mod strike;
mod target;
mod tick;
mod turned_away;
mod view;

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::client::{Gate, Session, State};
use super::identity::{IdentityHash, Remembered};
use super::judge::Judge;
use super::lane::Lane;
use super::learned::{Declared, Lessons};
use super::stream::Spares;
use super::upstream::{Link, Pool, Upstream};
use super::{LaneId, Limits, LinkId, Now, PoolId, SessionId, UpstreamId, UpstreamSettings, Url};
use crate::wire::frame::parse_frame;

pub use audit::Sizes;
pub use counters::Counters;
pub use drain::Rounds;
pub(super) use settle::relay_frames;

pub use look::{ChannelLook, LinkLook, SessionLook, Totals, UpstreamLook};
pub use parted::Parted;
pub use turned_away::TurnedAway;

/// What net is asked to do. Order matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect, and say `dialed` or `dial_failed` within the time.
    Dial {
        /// For this link.
        link: LinkId,
        /// Where to.
        url: Url,
        /// Of which upstream: its TLS settings count.
        upstream: UpstreamId,
        /// Connecting and TLS together.
        timeout_ms: u64,
    },
    /// Write what is left, hang up, and say `link_gone`.
    HangUpLink(LinkId),
    /// Write what is left, hang up, and say `client_gone`.
    HangUp(SessionId),
    /// Hang up now: the client takes nothing of what is left.
    Cut(SessionId),
    /// Hand in again what `client_bytes` did not take.
    Resume(SessionId),
    /// Ask what is kept of an earlier life about this client's login (`recalling`), and say `recalled`.
    Recall(SessionId),
}

/// See the module.
pub struct Hub {
    limits: Limits,
    sessions: Slab<Session>,
    links: Slab<Link>,
    lanes: Slab<Lane>,
    pools: Slab<Pool>,
    upstreams: Vec<Upstream>,
    /// The configuration's order of upstreams: its index to ours, which never changes.
    order: Vec<UpstreamId>,
    /// Clients by address, and those that have not logged in yet.
    per_ip: FxHashMap<IpAddr, usize>,
    handshaking: usize,
    door: turned_away::Door,
    parted: Option<Parted>,
    pool_of: FxHashMap<(UpstreamId, Rc<[u8]>, IdentityHash), PoolId>,
    remembered: Remembered,
    lessons: Lessons,
    declared: Declared,
    spool: Option<Box<dyn crate::session::spool::Spool>>,
    /// What each login has in the spool.
    backlogs: Slab<crate::session::backlog::Backlog>,
    /// Messages of the spool that go out again in a second.
    replay_rate: Option<u64>,
    /// Of the clock that the spool counts ages by.
    ages_from_us: i64,
    /// Something that was read found no room on its lane.
    replay_due: bool,
    spool_dirty: bool,
    watch_deliveries: bool,
    judge_at_ms: u64,
    serial: u64,
    spares: Spares,
    /// Octets of messages that are begun and not finished, of all clients.
    assembling: Rc<Cell<usize>>,
    moves: moves::Moves,
    actions: VecDeque<Action>,
    dirty_links: Vec<LinkId>,
    dirty_sessions: Vec<SessionId>,
    answers_due: Vec<(SessionId, u16)>,
    /// Lanes that may have become empty and nobody's while something was sent; ended once nothing is under way.
    ending: Vec<LaneId>,
    /// Clients to be closed: what came home for them finds no room.
    unhoused: Vec<(SessionId, u64)>,
    /// Sessions behind a barrier, and those whose reads are paused.
    barriers: Vec<SessionId>,
    paused: Vec<SessionId>,
    random: u64,
    our_properties: Rc<[u8]>,
    /// The numbers of this thread.
    pub counters: Counters,
    draining: bool,
}

/// What came of one frame.
enum Step {
    /// So many octets are done with.
    Took(usize),
    /// The frame must wait: a gate has been closed.
    Hold,
}

impl Hub {
    /// A Hub with nothing in it. `seed`: for salts and jitter; `our_properties`: the table that shared links introduce us with.
    #[must_use]
    pub fn new(
        limits: Limits,
        upstreams: Vec<UpstreamSettings>,
        seed: [u8; 32],
        our_properties: Vec<u8>,
    ) -> Self {
        let order = (0..upstreams.len()).map(UpstreamId).collect();
        let random = seed.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |a, &b| a.rotate_left(9) ^ u64::from(b)) | 1;
        Self {
            limits,
            sessions: Slab::new(),
            links: Slab::new(),
            lanes: Slab::new(),
            pools: Slab::new(),
            upstreams: upstreams.into_iter().map(|u| Upstream::new(Rc::new(u))).collect(),
            order,
            per_ip: FxHashMap::default(),
            handshaking: 0,
            door: turned_away::Door::default(),
            parted: None,
            pool_of: FxHashMap::default(),
            remembered: Remembered::new(seed),
            lessons: Lessons::default(),
            declared: Declared::default(),
            spool: None,
            backlogs: Slab::new(),
            replay_rate: None,
            ages_from_us: 0,
            replay_due: false,
            spool_dirty: false,
            watch_deliveries: false,
            judge_at_ms: 0,
            serial: 0,
            spares: Spares::default(),
            assembling: Rc::default(),
            moves: moves::Moves::default(),
            actions: VecDeque::new(),
            dirty_links: Vec::new(),
            dirty_sessions: Vec::new(),
            answers_due: Vec::new(),
            ending: Vec::new(),
            unhoused: Vec::new(),
            barriers: Vec::new(),
            paused: Vec::new(),
            random,
            our_properties: our_properties.into(),
            counters: Counters::default(),
            draining: false,
        }
    }

    /// Pseudo-random, from the seed: jitter, nothing that must be secret.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// What net is to do next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What a client has from accept to connection.open-ok.
    #[must_use]
    pub const fn handshake_ms(&self) -> u64 {
        self.limits.handshake_ms
    }

    /// A client has connected; `None`: there are too many, hang up.
    pub fn accept(&mut self, now: Now, peer: IpAddr) -> Option<SessionId> {
        if self.sessions.len() >= self.limits.sessions || self.draining {
            self.counters.limit_sessions += 1;
            return None;
        }
        let from_there = self.per_ip.get(&peer).copied().unwrap_or(0);
        if from_there >= self.limits.sessions_per_ip {
            self.counters.limit_sessions_per_ip += 1;
            return None;
        }
        if self.handshaking >= self.limits.preauth_sessions {
            self.counters.limit_sessions += 1;
            return None;
        }
        self.per_ip.insert(peer, from_there + 1);
        self.handshaking += 1;
        self.counters.sessions_opened += 1;
        let mut session = Session::new(peer, now.ms, now.ms + self.limits.handshake_ms);
        session.frame_max = self.limits.preauth_frame_max;
        self.serial += 1;
        session.serial = self.serial;
        Some(SessionId(self.sessions.insert(session)))
    }

    /// Bytes from a client; how many of them are done with. The rest is handed in again with what follows them, or on `Resume`.
    pub fn client_bytes(&mut self, now: Now, sid: SessionId, buf: &[u8], judge: &mut dyn Judge) -> usize {
        let mut at = 0;
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.rx_ms = now.ms;
        }
        while let Some(s) = self.sessions.get(sid.0) {
            if s.gate != Gate::Open {
                break;
            }
            let state = s.state;
            let rest = buf.get(at..).unwrap_or(&[]);
            if state == State::Running && assembly::begins_publish(rest) {
                let took = self.publishes(now, sid, rest, judge);
                at += took;
                if took > 0 {
                    continue;
                }
            }
            let Some(s) = self.sessions.get(sid.0) else { break };
            let step = match state {
                State::Done => {
                    at = buf.len();
                    break;
                }
                State::Header => self.protocol_header(now, sid, rest),
                _ => match parse_frame(rest, s.frame_max) {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        self.counters.frames_in += 1;
                        self.client_frame(now, sid, frame, rest, judge)
                    }
                    Err(error) => {
                        self.counters.limit_frame += 1;
                        at = buf.len();
                        self.client_frame_error(now, sid, error);
                        break;
                    }
                },
            };
            match step {
                Step::Took(0) | Step::Hold => break,
                Step::Took(n) => at += n,
            }
        }
        judge.rest(now);
        self.send_answers(now);
        if at > 0 {
            self.throttle(now, sid);
        }
        at
    }

    /// A client's own link.
    #[must_use]
    pub fn pinned_link(&self, sid: SessionId) -> Option<LinkId> {
        match self.sessions.get(sid.0)?.pin {
            super::client::Pin::Up(lid) | super::client::Pin::Dialing(lid) => Some(lid),
            super::client::Pin::None => None,
        }
    }
}
