//! Upstreams as the Hub sees them: what is known of each, its pools, its links and their channels.
//!
//! ```text
//! Link:  Dialing ─▶ Start ─▶ Tune ─▶ (Vhost) ─▶ OpenOk ─▶ Up ─▶ Closing ─▶ gone
//!                    a probe ends at Start; `Vhost`: logged in, waiting for the client to name its vhost
//! ```

use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::stream::OutStream;
use super::{Credentials, LaneId, PoolId, SessionId, Target, UpstreamId, UpstreamSettings};
use crate::wire::method::Tune;

/// What an upstream told of itself at its last login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its server properties: a table's bytes.
    pub server_properties: Rc<[u8]>,
    /// SASL mechanisms, as it lists them.
    pub mechanisms: Rc<[u8]>,
    /// Locales, as it lists them.
    pub locales: Rc<[u8]>,
    /// What it offered in tune; `None` until somebody has logged in.
    pub tune: Option<Tune>,
}

/// How an upstream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamState {
    /// Nothing tried yet.
    Unknown,
    /// The last dial worked, or links are up.
    Up,
    /// The last dial failed.
    Down,
}

#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) settings: Rc<UpstreamSettings>,
    pub(super) facts: Option<Facts>,
    /// What an earlier life of ours knew of it: for as long as it cannot be asked.
    pub(super) recalled: Option<Facts>,
    pub(super) state: UpstreamState,
    pub(super) last_error: Option<Rc<str>>,
    /// Which url is tried next.
    pub(super) next_url: usize,
    /// Unsettled publishes and methods, and their octets, over all lanes.
    pub(super) unsettled: u64,
    pub(super) unsettled_bytes: u64,
    /// Of them, those whose client is gone.
    pub(super) orphaned: u64,
    /// How many of those have been settled, ever.
    pub(super) orphans_settled: u64,
    /// Publishes confirmed, publishes sent again, links that came up, dials after a failure: ever.
    pub(super) confirmed: u64,
    pub(super) resent: u64,
    pub(super) opened: u64,
    pub(super) retries: u64,
    pub(super) probing: bool,
    /// It was up, and a link of it has died since: it is asked whether it still is.
    pub(super) doubted: bool,
    pub(super) probe_at_ms: u64,
    pub(super) probe_attempt: u32,
}

impl Upstream {
    pub(super) fn new(settings: Rc<UpstreamSettings>) -> Self {
        Self {
            settings,
            facts: None,
            recalled: None,
            state: UpstreamState::Unknown,
            last_error: None,
            next_url: 0,
            unsettled: 0,
            unsettled_bytes: 0,
            orphaned: 0,
            orphans_settled: 0,
            confirmed: 0,
            resent: 0,
            opened: 0,
            retries: 0,
            probing: false,
            doubted: false,
            probe_at_ms: 0,
            probe_attempt: 0,
        }
    }
}

impl Upstream {
    /// Whether it is to be asked what it is, without anybody who needs it.
    pub(super) fn asks_again(&self) -> bool {
        // Where something waits, whoever brings it there finds out.
        (self.doubted && self.unsettled == 0) || self.state != UpstreamState::Up
    }

    /// Why something failed, and at which of its addresses.
    pub(super) fn at(&self, url: usize, why: &str) -> Rc<str> {
        match self.settings.urls.get(url).map(ToString::to_string) {
            Some(url) if !why.contains(&url) => format!("{url}: {why}").into(),
            _ => why.into(),
        }
    }

    /// How full its window is, by messages or by octets, whichever is fuller.
    pub(super) fn fill_percent(&self) -> u64 {
        let share = |n: u64, of: u64| n.saturating_mul(100) / of.max(1);
        share(self.unsettled, self.settings.window_messages)
            .max(share(self.unsettled_bytes, self.settings.window_bytes))
    }
}

/// What is known of a target on a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetState {
    /// Being declared on the pool's own channel.
    Asked,
    /// There.
    Ready,
    /// Refused at this time: asked again later.
    Missing(u64),
}

/// The links of one (upstream, vhost, identity).
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) upstream: UpstreamId,
    pub(super) vhost: Rc<[u8]>,
    pub(super) credentials: Credentials,
    /// Of the login that it was made for: what it is known by, whatever login its links use by now.
    pub(super) identity: super::identity::IdentityHash,
    pub(super) links: Vec<super::LinkId>,
    /// Lanes waiting for a lease, first come first served.
    pub(super) waiting: VecDeque<LaneId>,
    /// Lanes waiting for the link that carries nothing else, that link, how often it was lost in a row, and when it is dialed again.
    pub(super) suspects: VecDeque<LaneId>,
    pub(super) alone: Option<super::LinkId>,
    pub(super) alone_attempt: u32,
    pub(super) alone_at_ms: u64,
    /// One of the suspects has been answered there.
    pub(super) acquitted: bool,
    /// Sessions logged in with it, and lanes on it.
    pub(super) users: usize,
    pub(super) lanes: usize,
    /// Links lost one after the other that had not worked.
    pub(super) attempt: u32,
    /// The last login was refused.
    pub(super) refused: bool,
    pub(super) dial_at_ms: u64,
    /// How often in a row a confirm was too late: each time the next link is given twice as long. Fades at this moment.
    pub(super) patience: u32,
    pub(super) patience_fades_ms: u64,
    pub(super) targets: FxHashMap<Rc<Target>, TargetState>,
    /// Lanes that wait for a target.
    pub(super) target_waiters: FxHashSet<LaneId>,
    pub(super) idle_since_ms: u64,
    pub(super) backlog: Option<super::record::BacklogId>,
    /// Exchanges that have taken a publish: one to them will not close a channel.
    pub(super) known_exchanges: FxHashSet<Box<[u8]>>,
}

impl Pool {
    pub(super) fn new(
        upstream: UpstreamId,
        vhost: Rc<[u8]>,
        credentials: Credentials,
        identity: super::identity::IdentityHash,
        now_ms: u64,
    ) -> Self {
        Self {
            upstream,
            vhost,
            credentials,
            identity,
            links: Vec::new(),
            waiting: VecDeque::new(),
            suspects: VecDeque::new(),
            alone: None,
            alone_attempt: 0,
            alone_at_ms: 0,
            acquitted: false,
            users: 0,
            lanes: 0,
            attempt: 0,
            refused: false,
            dial_at_ms: 0,
            patience: 0,
            patience_fades_ms: 0,
            targets: FxHashMap::default(),
            target_waiters: FxHashSet::default(),
            idle_since_ms: now_ms,
            backlog: None,
            known_exchanges: FxHashSet::default(),
        }
    }

    /// A link is none of its own any more; whether it was the one for suspects.
    pub(super) fn forget_link(&mut self, lid: super::LinkId) -> bool {
        self.links.retain(|&l| l != lid);
        self.alone.take_if(|l| *l == lid).is_some()
    }
}

/// What an upstream channel is for.
#[derive(Debug)]
pub(super) enum ChannelUse {
    /// In confirm mode, nobody's.
    Free,
    /// Leased.
    Lane(LaneId),
    /// The pool's own: declares targets, one after the other.
    Control(VecDeque<ControlStep>),
}

/// One method on the control channel that waits for its reply.
#[derive(Debug)]
pub(super) struct ControlStep {
    pub(super) target: Rc<Target>,
    /// Which of the target's methods.
    pub(super) index: usize,
    pub(super) asked_ms: u64,
}

/// A content that is coming from the upstream on a shared link: a basic.return.
#[derive(Debug)]
pub(super) struct Returning {
    /// All frames so far, as they came.
    pub(super) frames: Vec<u8>,
    pub(super) exchange: Vec<u8>,
    pub(super) routing_key: Vec<u8>,
    /// Body octets still to come; `None` before the header.
    pub(super) left: Option<u64>,
}

/// A delivery on a client's own link that is not handed on before it is whole.
#[derive(Debug)]
pub(super) struct Delivering {
    pub(super) content: Returning,
    pub(super) tag: u64,
}

/// One channel of a pooled link.
#[derive(Debug)]
pub(super) struct UpChannel {
    pub(super) used: ChannelUse,
    /// The tag that the broker will give the next publish.
    pub(super) next_tag: u64,
    pub(super) returning: Option<Box<Returning>>,
    pub(super) free_since_ms: u64,
}

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkUse {
    /// Reads connection.start, then hangs up.
    Probe,
    /// Tries a client's credentials; becomes pooled.
    Verify(SessionId),
    /// Shared.
    Pooled(PoolId),
    /// One client's own.
    Pinned(SessionId),
    /// Nobody's any more: waits for `link_gone`.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LinkState {
    Dialing,
    Start,
    Tune,
    Vhost,
    OpenOk,
    Up,
    Closing,
    Dead,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) upstream: UpstreamId,
    pub(super) used: LinkUse,
    pub(super) state: LinkState,
    pub(super) url: usize,
    pub(super) credentials: Option<Credentials>,
    pub(super) vhost: Rc<[u8]>,
    /// The client's properties, on a pinned link; ours on others.
    pub(super) properties: Rc<[u8]>,
    pub(super) out: OutStream,
    /// Pooled: index = channel number − 1. Pinned links keep no channels here.
    pub(super) channels: Vec<UpChannel>,
    /// Free and clean leases, by number.
    pub(super) free: Vec<u16>,
    pub(super) control: Option<u16>,
    pub(super) leased: usize,
    pub(super) tune: Tune,
    pub(super) rx_ms: u64,
    pub(super) tx_ms: u64,
    pub(super) since_ms: u64,
    /// For its state: dialed, answered, closed by then.
    pub(super) deadline_ms: u64,
    pub(super) retire_at_ms: u64,
    pub(super) blocked: bool,
    /// The broker's connection.blocked, as it came.
    pub(super) blocked_words: Box<[u8]>,
    /// It has answered something that was sent on it.
    pub(super) worked: bool,
    /// Its client's connection.close has gone out on it: nothing more is said on its channels.
    pub(super) said_close: bool,
    /// The socket ended, and not because of us.
    pub(super) hung_up_by_peer: bool,
    /// net has been told that there is something to write.
    pub(super) dirty: bool,
    /// channel.open-oks on a pinned link that the client must not see.
    pub(super) swallow_open_ok: FxHashSet<u16>,
    /// Channels of a pinned link that we have closed: what still comes for them is dropped, up to close-ok.
    pub(super) swallow_close_ok: FxHashSet<u16>,
    /// Deliveries of a pinned link that are being looked at, by channel.
    pub(super) delivering: FxHashMap<u16, Delivering>,
}

impl Link {
    pub(super) fn new(
        upstream: UpstreamId,
        used: LinkUse,
        properties: Rc<[u8]>,
        now_ms: u64,
        deadline_ms: u64,
    ) -> Self {
        Self {
            upstream,
            used,
            state: LinkState::Dialing,
            url: 0,
            credentials: None,
            vhost: Rc::from(&[][..]),
            properties,
            out: OutStream::default(),
            channels: Vec::new(),
            free: Vec::new(),
            control: None,
            leased: 0,
            tune: Tune { channel_max: 0, frame_max: 4096, heartbeat: 0 },
            rx_ms: now_ms,
            tx_ms: now_ms,
            since_ms: now_ms,
            deadline_ms,
            retire_at_ms: u64::MAX,
            blocked: false,
            blocked_words: Box::default(),
            worked: false,
            said_close: false,
            hung_up_by_peer: false,
            dirty: false,
            swallow_open_ok: FxHashSet::default(),
            swallow_close_ok: FxHashSet::default(),
            delivering: FxHashMap::default(),
        }
    }

    /// Whether nobody has anything on it: no lease, and no target is being asked for.
    pub(super) fn is_quiet(&self) -> bool {
        self.leased == 0 && self.asked().is_none_or(VecDeque::is_empty)
    }

    /// What the pool's own channel waits for.
    pub(super) fn asked(&self) -> Option<&VecDeque<ControlStep>> {
        let control = usize::from(self.control?).checked_sub(1)?;
        match &self.channels.get(control)?.used {
            ChannelUse::Control(steps) => Some(steps),
            _ => None,
        }
    }

    pub(super) fn channel(&mut self, number: u16) -> Option<&mut UpChannel> {
        self.channels.get_mut(usize::from(number).checked_sub(1)?)
    }
}
