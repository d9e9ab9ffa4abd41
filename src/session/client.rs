//! Clients as the Hub sees them: one connection, its channels, what it waits for.
//!
//! ```text
//! Header ─▶ (Probing) ─▶ StartOk ─▶ (Verifying) ─▶ TuneOk ─▶ Open ─▶ (Opening) ─▶ Running ─▶ Closing or Leaving ─▶ gone
//!            states in brackets wait for an upstream, and only where nothing is remembered
//! ```

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

use super::confirm::ConfirmWindow;
use super::consumers::Consumers;
use super::hub::relay_frames;
use super::{Credentials, LaneId, LinkId, PoolId, UpstreamId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Header,
    Probing,
    StartOk,
    Verifying,
    TuneOk,
    Open,
    Opening,
    Running,
    /// We have sent connection.close and wait for close-ok.
    Closing,
    /// We have sent connection.close because we shut down; publishes still count (SPEC D7).
    Draining,
    /// It has said goodbye and has our close-ok: to close the socket is its own to do, for as long as RabbitMQ would wait
    /// (SPEC T2: who reads an end of file behind the close-ok takes it for a fault: lapin logs an error, Go's client fails
    /// whoever else was closing).
    Leaving,
    /// Everything is said; net writes what is left and hangs up.
    Done,
}

/// The link of one's own, or the way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pin {
    None,
    Dialing(LinkId),
    Up(LinkId),
}

/// Why a client's next frame is not looked at yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// For an upstream, in a handshake or for a pin.
    Upstream,
    /// For earlier publishes to settle, until then at most.
    Barrier {
        until_ms: u64,
        /// Also those of clients that are gone: until the upstream has settled so many of them.
        orphans: Option<u64>,
    },
    /// For replies owed on a channel, so that ours do not overtake them.
    Replies {
        channel: u16,
        owed: Owed,
        until_ms: u64,
    },
    /// For the broker's answer to our own channel.close on the client's link: until then the number is not free.
    Number(u16),
}

/// Which replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// On the channel's lane.
    Lane,
    /// On the client's own link.
    Own,
    Any,
}

/// A reply that a client's own link owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// To the client.
    Told,
    /// To us: the client has said no-wait.
    Ours,
}

/// What a channel's open content is.
#[derive(Debug)]
pub(super) struct Assembly {
    /// Whole frames so far: method, header, bodies.
    pub(super) frames: Vec<u8>,
    /// Body octets still to come; `None` before the header.
    pub(super) left: Option<u64>,
    /// How much of that there is everywhere; what is here is taken off it however this ends.
    everywhere: Rc<Cell<usize>>,
    counted: usize,
}

impl Assembly {
    pub(super) fn new(everywhere: &Rc<Cell<usize>>) -> Self {
        Self { frames: Vec::new(), left: None, everywhere: Rc::clone(everywhere), counted: 0 }
    }

    /// Its frames have become more: whatever memory they take now is counted.
    pub(super) fn count(&mut self) {
        let now = self.frames.capacity();
        self.everywhere.set((self.everywhere.get() + now).saturating_sub(self.counted));
        self.counted = now;
    }
}

impl Drop for Assembly {
    fn drop(&mut self) {
        self.everywhere.set(self.everywhere.get().saturating_sub(self.counted));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelState {
    Open,
    /// We have sent channel.close and wait for close-ok: all else is thrown away (AMQP 0-9-1 §1.5.2.5).
    Closing,
    /// The client has sent channel.close on a pinned session, the broker's close-ok is awaited.
    ClosingByClient,
}

/// The rest of a content on a channel that is closing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unfinished {
    /// So many octets must come, `None` before the header says how many: nothing else may come before them.
    Due(Option<u64>),
    /// Refused when its header announced it, where RabbitMQ would have waited for all of it: so many octets may come, or none.
    Refused(u64),
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) state: ChannelState,
    pub(super) confirm: Option<ConfirmWindow>,
    /// tx, or a direct reply-to consumer: publishes need the client's own channel on its own link.
    pub(super) own: bool,
    pub(super) tx: bool,
    /// Confirms of an own channel: the client's number minus the broker's tag.
    pub(super) own_offset: u64,
    pub(super) assembly: Option<Box<Assembly>>,
    /// While it is closing: what is to come of a content that nobody waits for.
    pub(super) unfinished: Option<Unfinished>,
    pub(super) lanes: Vec<(UpstreamId, LaneId)>,
    /// The queue last declared on it, for names left empty.
    pub(super) last_queue: Box<[u8]>,
    pub(super) answers_due: bool,
    /// Who consumes on it; none: nobody ever has.
    pub(super) consumers: Option<Box<Consumers>>,
    /// The broker has closed it on the client's own link, and gets the client's close-ok.
    pub(super) broker_closed: bool,
    /// channel.flows of the broker that the client has yet to answer.
    pub(super) flows: u32,
    /// Methods of the client on its lane that it waits for.
    pub(super) lane_replies: u32,
    /// Methods on its own link that will be answered, in order.
    pub(super) own_replies: VecDeque<Reply>,
    /// Replies that are owed have been waited for long enough: no publish is held back for them until all have come.
    pub(super) waived: bool,
    /// A content from its own link is on its way to the client: its octets to come, `None` before its header.
    pub(super) relaying: Option<Option<u64>>,
    /// What waits for the end of that content: nothing may come between its frames.
    pub(super) deferred: Vec<u8>,
}

impl Channel {
    pub(super) fn new() -> Self {
        Self {
            state: ChannelState::Open,
            confirm: None,
            own: false,
            tx: false,
            own_offset: 0,
            assembly: None,
            unfinished: None,
            lanes: Vec::new(),
            last_queue: Box::default(),
            answers_due: false,
            consumers: None,
            broker_closed: false,
            flows: 0,
            lane_replies: 0,
            own_replies: VecDeque::new(),
            waived: false,
            relaying: None,
            deferred: Vec::new(),
        }
    }

    /// channel.close has been said to the client: of what it has begun, only the end is waited for.
    pub(super) fn begin_closing(&mut self) {
        self.state = ChannelState::Closing;
        self.unfinished = self.assembly.take().map(|a| Unfinished::Due(a.left));
        self.own_replies.clear();
        self.confirm = None;
    }

    /// Whether replies are owed that are still waited for.
    pub(super) fn owes(&mut self, owed: Owed) -> bool {
        let (lane, own) = (self.lane_replies > 0, !self.own_replies.is_empty());
        self.waived &= lane || own;
        let some = match owed {
            Owed::Lane => lane,
            Owed::Own => own,
            Owed::Any => lane || own,
        };
        some && !(self.waived && owed == Owed::Own)
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: IpAddr,
    pub(super) state: State,
    pub(super) upstream: UpstreamId,
    pub(super) frame_max: u32,
    pub(super) channel_max: u16,
    pub(super) heartbeat_s: u16,
    pub(super) opened_ms: u64,
    pub(super) rx_ms: u64,
    pub(super) tx_ms: u64,
    pub(super) deadline_ms: u64,
    pub(super) out: Vec<u8>,
    /// Octets of it that are in the socket.
    pub(super) unsent: usize,
    /// Octets of the largest message in it that was put there whole, since it was last empty.
    pub(super) whole_bytes: usize,
    /// Since when everything is said.
    pub(super) done_ms: Option<u64>,
    /// Open channels by number, ascending: a client has one or two, whatever their numbers.
    pub(super) channels: Vec<(u16, Box<Channel>)>,
    /// What it logged in with; what stands for it upstream is `Hub::login_at`.
    pub(super) credentials: Option<Credentials>,
    /// The channel that it closed last.
    pub(super) last_closed: u16,
    /// Whom its certificate names.
    pub(super) certified: Option<Rc<str>>,
    pub(super) vhost: Rc<[u8]>,
    pub(super) pool: Option<PoolId>,
    pub(super) properties: Rc<[u8]>,
    pub(super) takes_blocked: bool,
    pub(super) told_blocked: bool,
    pub(super) takes_auth_close: bool,
    pub(super) pin: Pin,
    pub(super) gate: Gate,
    /// The barrier of the frame at the front has been passed.
    pub(super) passed: bool,
    pub(super) verify: Option<LinkId>,
    /// Unsettled items of all its lanes.
    pub(super) unsettled: u64,
    pub(super) dirty: bool,
    /// What the client is told instead of a login: its upstream is not there.
    pub(super) doomed: Option<Rc<str>>,
    /// What is kept of an earlier life was asked about its login.
    pub(super) asked_memory: bool,
    /// Never another's, as the slab's number may be.
    pub(super) serial: u64,
    pub(super) paused: bool,
    pub(super) paused_until_ms: u64,
}

impl Session {
    pub(super) fn new(peer: IpAddr, now_ms: u64, deadline_ms: u64) -> Self {
        Self {
            peer,
            state: State::Header,
            upstream: UpstreamId(0),
            frame_max: crate::wire::frame::FRAME_MIN_SIZE,
            channel_max: 0,
            heartbeat_s: 0,
            opened_ms: now_ms,
            rx_ms: now_ms,
            tx_ms: now_ms,
            deadline_ms,
            out: Vec::new(),
            unsent: 0,
            whole_bytes: 0,
            done_ms: None,
            channels: Vec::new(),
            credentials: None,
            last_closed: 0,
            certified: None,
            vhost: Rc::from(&[][..]),
            pool: None,
            properties: Rc::from(&[][..]),
            takes_blocked: false,
            told_blocked: false,
            takes_auth_close: false,
            pin: Pin::None,
            gate: Gate::Open,
            passed: false,
            verify: None,
            unsettled: 0,
            dirty: false,
            doomed: None,
            asked_memory: false,
            serial: 0,
            paused: false,
            paused_until_ms: 0,
        }
    }

    pub(super) fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        let index = self.channels.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        self.channels.get_mut(index).map(|(_, c)| &mut **c)
    }

    /// Room for one more message, whole: it alone never fills the bound.
    pub(super) fn put_whole(&mut self, frames: &[u8], channel: u16) {
        self.whole_bytes = self.whole_bytes.max(frames.len());
        let frame_max = self.frame_max;
        relay_frames(self.out_for(channel), frames, channel, frame_max);
    }

    /// Where frames of ours for a channel go: behind the content that is being relayed on it, if there is one.
    pub(super) fn out_for(&mut self, number: u16) -> &mut Vec<u8> {
        match self
            .channels
            .binary_search_by_key(&number, |(n, _)| *n)
            .ok()
            .and_then(|i| self.channels.get_mut(i))
        {
            Some((_, c)) if c.relaying.is_some() => &mut c.deferred,
            _ => &mut self.out,
        }
    }

    pub(super) fn add_channel(&mut self, number: u16) {
        if let Err(index) = self.channels.binary_search_by_key(&number, |(n, _)| *n) {
            self.channels.insert(index, (number, Box::new(Channel::new())));
        }
    }

    pub(super) fn remove_channel(&mut self, number: u16) {
        if let Ok(index) = self.channels.binary_search_by_key(&number, |(n, _)| *n) {
            self.channels.remove(index);
        }
    }
}
