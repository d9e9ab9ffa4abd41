//! The Hub: sessions, lanes, links and pools of one data thread, driven by bytes and time.

mod adopt;
mod assembly;
mod audit;
mod author;
mod barrier;
mod blocked;
mod books;
mod channel;
mod connection;
mod deliver;
mod entry;
mod farewell;
mod frames;
mod lease;
mod link;
mod login;
mod look;
mod mechanism;
mod methods;
mod moves;
mod needs;
mod pin;
mod publish;
mod relay;
mod replay;
mod retry;
mod returned;
mod row;
mod settle;
mod spool;
mod strike;
mod target;
mod tick;
mod view;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::IpAddr;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::client::{Gate, Session, State};
use super::identity::{IdentityHash, Remembered};
use super::judge::Judge;
use super::lane::Lane;
use super::stream::Spares;
use super::upstream::{Link, LinkState, LinkUse, Pool, Upstream};
use super::{
    LaneId, Limits, LinkId, Now, PoolId, Refusal, Scope, SessionId, UpstreamId, UpstreamSettings, Url,
};
use crate::wire::frame::{ChannelId, FrameKind, parse_frame, write_frame};
use crate::wire::method::{self, MethodId};

pub use audit::Sizes;
pub(super) use settle::relay_frames;

pub use look::{ChannelLook, LinkLook, SessionLook, Totals, UpstreamLook};

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
}

/// How a client's login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginOutcome {
    /// From what is remembered.
    Remembered,
    /// The upstream was asked and said yes.
    Accepted,
    /// The upstream, or we, said no.
    Refused,
    /// No upstream could be asked.
    Unreachable,
}

/// Plain numbers of the thread; net copies them into metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the metrics' own, documented there")]
pub struct Counters {
    pub sessions_opened: u64,
    pub frames_in: u64,
    pub accepted: u64,
    pub forwarded: u64,
    pub spooled: u64,
    pub expired: u64,
    pub refused_window: u64,
    pub refused_spool: u64,
    pub refused_policy: u64,
    pub refused_nack: u64,
    pub refused_error: u64,
    pub refused_retries: u64,
    pub records_done: u64,
    pub replayed_forwarded: u64,
    pub replayed_expired: u64,
    pub replayed_refused: u64,
    pub confirmed: u64,
    pub nacked: u64,
    pub authored: u64,
    pub authored_left_out: u64,
    pub implied: u64,
    pub returned: u64,
    pub returned_watched: u64,
    pub returned_declared: u64,
    pub retries: u64,
    pub links_lost: u64,
    pub leases: u64,
    pub crowds_left: u64,
    pub pins: u64,
    pub channel_errors: u64,
    pub connection_errors: u64,
    pub limit_sessions: u64,
    pub limit_sessions_per_ip: u64,
    pub limit_idle: u64,
    pub limit_memory: u64,
    pub limit_backlog: u64,
    pub limit_window: u64,
    pub limit_message: u64,
    pub limit_table: u64,
    pub limit_frame: u64,
    pub limit_channels: u64,
    pub limit_handshake: u64,
    pub heartbeats_missed: u64,
    pub logins_remembered: u64,
    pub logins_accepted: u64,
    pub logins_refused: u64,
    pub logins_unreachable: u64,
    pub targets_declared: u64,
    pub targets_missing: u64,
    pub routes_turned_back: u64,
    pub confirm_count: u64,
    pub confirm_wait_ms: u64,
    pub reads_paused_ms: u64,
    pub poisoned: u64,
    pub deliveries_held: u64,
    pub spool_given_back: u64,
    pub spool_aged: u64,
    pub replayed: u64,
    pub declares_remembered: u64,
}

impl Counters {
    /// Publishes that came in and were meant to go on: neither expired nor refused.
    #[must_use]
    pub const fn let_in(&self) -> u64 {
        self.accepted.saturating_sub(self.expired.saturating_add(self.refused_policy))
    }
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
    pool_of: FxHashMap<(UpstreamId, Rc<[u8]>, IdentityHash), PoolId>,
    remembered: Remembered,
    spool: Option<Box<dyn crate::session::spool::Spool>>,
    /// What each login has in the spool.
    backlogs: Slab<crate::session::backlog::Backlog>,
    /// Messages of the spool that go out again in a second.
    replay_rate: Option<u64>,
    /// Something that was read found no room on its lane.
    replay_due: bool,
    spool_dirty: bool,
    watch_deliveries: bool,
    judge_at_ms: u64,
    serial: u64,
    spares: Spares,
    moves: moves::Moves,
    actions: VecDeque<Action>,
    dirty_links: Vec<LinkId>,
    dirty_sessions: Vec<SessionId>,
    answers_due: Vec<(SessionId, u16)>,
    /// Lanes that may have become empty and nobody's while something was sent; ended once nothing is under way.
    ending: Vec<LaneId>,
    /// Sessions behind a barrier, and those whose reads are paused.
    barriers: Vec<SessionId>,
    paused: Vec<SessionId>,
    random: u64,
    our_properties: Rc<[u8]>,
    /// The numbers of this thread.
    pub counters: Counters,
    draining: bool,
}

/// How full a window is when its clients begin to be left unread for moments.
const PAUSE_FROM_PERCENT: u64 = 50;
/// The longest such moment.
const PAUSE_MS_MAX: u64 = 400;

/// A client with fewer publishes under way floods nobody.
const FLOOD_MESSAGES: u64 = 16;
/// What may wait unwritten on a link before floods pause. As much as one call writes: smaller writes cost the broker.
const FLOOD_BYTES: usize = 1024 * 1024;

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
            pool_of: FxHashMap::default(),
            remembered: Remembered::new(seed),
            spool: None,
            backlogs: Slab::new(),
            replay_rate: None,
            replay_due: false,
            spool_dirty: false,
            watch_deliveries: false,
            judge_at_ms: 0,
            serial: 0,
            spares: Spares::default(),
            moves: moves::Moves::default(),
            actions: VecDeque::new(),
            dirty_links: Vec::new(),
            dirty_sessions: Vec::new(),
            answers_due: Vec::new(),
            ending: Vec::new(),
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

    /// Links that have something to write since the last call, appended to `links`.
    pub fn take_dirty_links(&mut self, links: &mut Vec<LinkId>) {
        for &id in &self.dirty_links {
            if let Some(link) = self.links.get_mut(id.0) {
                link.dirty = false;
            }
        }
        links.append(&mut self.dirty_links);
    }

    /// Sessions that have something to write since the last call, appended to `sessions`.
    pub fn take_dirty_sessions(&mut self, sessions: &mut Vec<SessionId>) {
        for &id in &self.dirty_sessions {
            if let Some(session) = self.sessions.get_mut(id.0) {
                session.dirty = false;
            }
        }
        sessions.append(&mut self.dirty_sessions);
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

    /// A client whose upstream takes less than it sends is left unread for a moment: never for half a second, since py-amqp's kernel
    /// throws away what it has sent after one (TCP_USER_TIMEOUT), and only while its upstream takes anything at all (SPEC D4).
    fn throttle(&mut self, now: Now, sid: SessionId) {
        let Some(s) = self.sessions.get(sid.0) else { return };
        if s.state != State::Running || s.unsettled == 0 {
            return;
        }
        // What goes to disk takes no room in the window.
        if s.pool.is_some_and(|pool| self.spills(pool)) && self.spool_takes() {
            return;
        }
        let Some(u) = self.upstreams.get(s.upstream.0) else { return };
        let fill = u.fill_percent();
        if fill < PAUSE_FROM_PERCENT {
            return;
        }
        let takes = self
            .links
            .iter()
            .any(|(_, l)| l.upstream == s.upstream && l.state == LinkState::Up && !l.blocked);
        if !takes {
            return;
        }
        let pause_ms =
            (PAUSE_MS_MAX * (fill - PAUSE_FROM_PERCENT) / (90 - PAUSE_FROM_PERCENT)).clamp(20, PAUSE_MS_MAX);
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.paused = true;
            s.paused_until_ms = now.ms + pause_ms;
            self.counters.reads_paused_ms += pause_ms;
            self.paused.push(sid);
        }
    }

    /// Clients whose pause is over, or whose upstream has room again.
    fn unpause(&mut self, now: Now) {
        if self.paused.is_empty() {
            return;
        }
        let paused = std::mem::take(&mut self.paused);
        for sid in paused {
            let Some(s) = self.sessions.get_mut(sid.0) else { continue };
            let room = self.upstreams.get(s.upstream.0).is_none_or(|u| u.fill_percent() < PAUSE_FROM_PERCENT);
            if room || now.ms >= s.paused_until_ms {
                s.paused = false;
                self.actions.push_back(Action::Resume(sid));
            } else {
                self.paused.push(sid);
            }
        }
    }

    /// What is to be written to a client.
    #[must_use]
    pub fn client_out(&self, sid: SessionId) -> &[u8] {
        self.sessions.get(sid.0).map_or(&[], |s| s.out.get(s.unsent..).unwrap_or(&[]))
    }

    /// So much of it is in the socket.
    pub fn client_written(&mut self, now: Now, sid: SessionId, bytes: usize) {
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if bytes > 0 {
            s.tx_ms = now.ms;
        }
        s.unsent += bytes;
        if s.unsent >= s.out.len() {
            s.unsent = 0;
            // An idle client costs no buffer.
            if s.out.capacity() > 1024 {
                s.out = Vec::new()
            } else {
                s.out.clear()
            }
            s.whole_bytes = 0;
        } else if s.unsent > 256 * 1024 && s.unsent >= s.out.len() / 2 {
            // No octet is moved more than once on the average, however much lies here.
            s.out.drain(..s.unsent);
            s.unsent = 0;
        }
    }

    /// What is to be written to an upstream; how many slices are filled.
    pub fn link_out<'a>(&'a self, lid: LinkId, slices: &mut [IoSlice<'a>]) -> usize {
        self.links.get(lid.0).map_or(0, |l| l.out.writable(slices))
    }

    /// So much of it is in the socket.
    pub fn link_written(&mut self, now: Now, lid: LinkId, bytes: usize) {
        if let Some(link) = self.links.get_mut(lid.0) {
            if bytes > 0 {
                link.tx_ms = now.ms;
            }
            link.out.written(&mut self.spares, bytes);
        }
    }

    /// Whether a link should be read: not while the one client it belongs to leaves its deliveries lying.
    #[must_use]
    pub fn link_wants_reads(&self, lid: LinkId) -> bool {
        let Some(link) = self.links.get(lid.0) else { return false };
        match link.used {
            LinkUse::Pinned(sid) => self
                .sessions
                .get(sid.0)
                .is_none_or(|s| s.out.len() - s.unsent < self.limits.output_backlog_bytes / 2),
            _ => true,
        }
    }

    /// Whether a client floods: much of its own is under way on a link that has much unwritten. Read it again when the link has
    /// written, or after a moment: what others publish is not to stand behind all that it has to say.
    #[must_use]
    pub fn client_floods(&self, sid: SessionId) -> bool {
        let Some(s) = self.sessions.get(sid.0).filter(|s| s.unsettled >= FLOOD_MESSAGES) else {
            return false;
        };
        s.channels.iter().flat_map(|(_, c)| &c.lanes).any(|(_, lane)| {
            let lease = self.lanes.get(lane.0).and_then(|l| l.lease);
            lease
                .and_then(|(lid, _)| self.links.get(lid.0))
                .is_some_and(|l| l.out.unwritten() >= FLOOD_BYTES && !l.blocked)
        })
    }

    /// Whether a client should be read: not while it is paused, nor while its next frame waits behind a gate and `kept` octets, more
    /// than its backlog may be, wait with it.
    #[must_use]
    pub fn client_wants_reads(&self, sid: SessionId, kept: usize) -> bool {
        self.sessions
            .get(sid.0)
            .is_some_and(|s| !s.paused && (s.gate == Gate::Open || kept <= self.limits.input_backlog_bytes))
    }

    /// Whether a client's next frame may be looked at.
    #[must_use]
    pub fn client_gate_open(&self, sid: SessionId) -> bool {
        self.sessions.get(sid.0).is_none_or(|s| s.gate == Gate::Open)
    }

    /// A client's own link.
    #[must_use]
    pub fn pinned_link(&self, sid: SessionId) -> Option<LinkId> {
        match self.sessions.get(sid.0)?.pin {
            super::client::Pin::Up(lid) | super::client::Pin::Dialing(lid) => Some(lid),
            super::client::Pin::None => None,
        }
    }

    fn mark_link(&mut self, lid: LinkId) {
        if let Some(link) = self.links.get_mut(lid.0) {
            if !link.dirty {
                link.dirty = true;
                self.dirty_links.push(lid);
            }
        }
    }

    /// Appends a frame to what goes upstream; nobody needs it again.
    fn link_push(&mut self, lid: LinkId, channel: u16, payload: &[u8]) {
        if let Some(link) = self.links.get_mut(lid.0) {
            let mut frame = Vec::with_capacity(payload.len() + 8);
            write_frame(&mut frame, FrameKind::Method, ChannelId(channel), payload);
            link.out.push(&mut self.spares, &frame);
        }
        self.mark_link(lid);
    }

    fn link_push_raw(&mut self, lid: LinkId, bytes: &[u8]) {
        if let Some(link) = self.links.get_mut(lid.0) {
            link.out.push(&mut self.spares, bytes);
        }
        self.mark_link(lid);
    }

    fn mark_client(&mut self, sid: SessionId) {
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if !s.dirty {
            s.dirty = true;
            self.dirty_sessions.push(sid);
        }
        // A client with a link of its own is held back there; any other has no reason to leave so much unread. One message is never cut
        // into, whatever its size.
        let bound = self.limits.output_backlog_bytes + s.whole_bytes;
        if s.out.len() - s.unsent > bound && s.state != State::Done {
            self.counters.limit_backlog += 1;
            s.out.clear();
            s.unsent = 0;
            self.finish(sid);
        }
    }

    /// Appends a method frame to what goes to a client, unless it has been told goodbye.
    fn client_push(&mut self, sid: SessionId, channel: u16, payload: &[u8]) {
        if let Some(s) = self.sessions.get_mut(sid.0) {
            if matches!(s.state, State::Done | State::Draining) || (s.state == State::Leaving && channel != 0)
            {
                return;
            }
            write_frame(s.out_for(channel), FrameKind::Method, ChannelId(channel), payload);
        }
        self.mark_client(sid);
    }

    /// Tells a client what is refused, in its scope.
    fn refuse(&mut self, now: Now, sid: SessionId, channel: u16, refusal: &Refusal) {
        match refusal.scope {
            Scope::Channel => {
                self.counters.channel_errors += 1;
                self.close_client_channel(
                    now,
                    sid,
                    channel,
                    refusal.code,
                    &refusal.reply_text(),
                    refusal.cause,
                );
            }
            Scope::Connection => {
                self.counters.connection_errors += 1;
                // RabbitMQ hangs up without a word on whatever is malformed before tune-ok; only logins are answered.
                let early = self.sessions.get(sid.0).is_some_and(|s| match s.state {
                    State::StartOk | State::TuneOk | State::Verifying => !matches!(refusal.code, 403 | 320),
                    State::Open => refusal.code == 541,
                    _ => false,
                });
                if early {
                    self.drop_verify(sid);
                    self.finish(sid);
                    return;
                }
                self.close_client(now, sid, refusal.code, &refusal.reply_text(), refusal.cause);
            }
        }
    }

    /// connection.close to a client, once; its publishes so far go on.
    fn close_client(&mut self, now: Now, sid: SessionId, code: u16, text: &str, cause: MethodId) {
        self.send_answers(now);
        let payload = method::write_close(MethodId::CONNECTION_CLOSE, code, text, cause);
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if matches!(s.state, State::Closing | State::Leaving | State::Done | State::Draining) {
            return;
        }
        write_frame(&mut s.out, FrameKind::Method, ChannelId::CONNECTION, &payload);
        s.state = State::Closing;
        s.gate = Gate::Open;
        s.deadline_ms = now.ms + self.limits.close_ms;
        self.mark_client(sid);
        self.unpin(now, sid);
        self.drop_verify(sid);
        self.orphan_lanes(now, sid);
        self.actions.push_back(Action::Resume(sid));
    }

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

    /// Stop: tell every client, keep what they have handed over (SPEC D7). `drained` says when it is done.
    pub fn drain(&mut self, now: Now) {
        self.draining = true;
        let ids: Vec<usize> = self.sessions.iter().map(|(i, _)| i).collect();
        for id in ids {
            let sid = SessionId(id);
            let Some(s) = self.sessions.get_mut(id) else { continue };
            if s.state == State::Leaving {
                self.finish(sid);
                continue;
            }
            if s.state != State::Running {
                self.close_client(
                    now,
                    sid,
                    320,
                    "CONNECTION_FORCED - umbel is shutting down",
                    MethodId::NONE,
                );
                continue;
            }
            let payload = method::write_close(
                MethodId::CONNECTION_CLOSE,
                320,
                "CONNECTION_FORCED - umbel is shutting down",
                MethodId::NONE,
            );
            write_frame(&mut s.out, FrameKind::Method, ChannelId::CONNECTION, &payload);
            s.state = State::Draining;
            s.gate = Gate::Open;
            self.mark_client(sid);
            self.actions.push_back(Action::Resume(sid));
            self.unpin(now, sid);
        }
    }

    /// Whether nothing is left to do after `drain`: no client, nothing unsettled.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.draining && self.sessions.is_empty() && self.upstreams.iter().all(|u| u.unsettled == 0)
    }

    /// Whether all clients have gone, and what is left has no link that takes it.
    #[must_use]
    pub fn waits_in_vain(&self) -> bool {
        let waits = |l: &Lane| l.items.iter().any(|i| !i.settled);
        self.draining
            && self.sessions.is_empty()
            && self.lanes.iter().filter(|(_, l)| waits(l)).all(|(_, l)| !self.has_way(l.pool))
    }

    /// Unsettled publishes and methods over all upstreams.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.upstreams.iter().map(|u| u.unsettled).sum()
    }
}
