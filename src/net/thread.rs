//! What the tasks of the data thread share: the Hub, the judge, one read buffer, and a way to wake each other.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::clock::Clock;
use super::seldom::Seldom;
use super::tls::{Incoming, Outgoing};
use super::way::Way;
use crate::metrics::Metrics;
use crate::session::{Action, Hub, Judge, LinkId, Now, SessionId, UpstreamId};

/// The buffer that every task reads into, behind the part of a frame that it has kept: an idle session holds none.
const BUFFER_BYTES: usize = 512 * 1024;
/// Octets read at a time. Large, so that a flood is read, judged and written in few calls; not larger, so that producer, proxy and broker
/// work at the same time. Measured against 64 to 512 KiB: 1 KB pass fastest with 256 to 320, bodies of 64 KiB cost least from 320 on.
pub const READ_BYTES: usize = 320 * 1024;
/// The least that is read at a time, however many flood: smaller reads cost more than they leave to others.
const READ_BYTES_MIN: usize = 64 * 1024;

/// How a task is told that there is something to do.
#[derive(Debug, Default)]
pub struct Signal {
    waker: RefCell<Option<Waker>>,
    hang_up: Cell<bool>,
    cut: Cell<bool>,
    resume: Cell<bool>,
    turn: Cell<bool>,
    /// The client's address; of a link, our own end.
    address: Cell<Option<SocketAddr>>,
    last_call: Cell<bool>,
}

impl Signal {
    /// Woken from now on: the task that is being polled.
    pub fn listen(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Where the other end is, or with a link our own: for `/status`.
    pub fn note_address(&self, address: Option<SocketAddr>) {
        self.address.set(address);
    }

    /// There is something to do.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Whether the Hub wants the socket closed once everything is written.
    pub fn hangs_up(&self) -> bool {
        self.hang_up.get()
    }

    /// Whether what is left is left unwritten.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Whether what has come is the last that is read.
    pub fn is_last_call(&self) -> bool {
        self.last_call.get()
    }

    /// Whether a flood may be read although there is no room; asked once.
    pub fn take_turn(&self) -> bool {
        self.turn.replace(false)
    }

    /// Whether what is kept should be handed in again; asked once.
    pub fn take_resume(&self) -> bool {
        self.resume.replace(false)
    }
}

/// Clients that flood: in this tick, and in the one before.
#[derive(Debug)]
struct FloodsSeen {
    tick: Cell<u64>,
    now: Cell<usize>,
    before: Cell<usize>,
}

impl Default for FloodsSeen {
    fn default() -> Self {
        Self { tick: Cell::new(1), now: Cell::default(), before: Cell::default() }
    }
}

/// The task goes on once all others that are ready have had their turn, those included that the kernel knows of and we do not yet: a
/// `LocalSet` runs 61 tasks before it lets anybody look at sockets, and a task that wakes itself is one of them each time.
pub fn yield_to_all(cx: &mut Context<'_>) {
    let turn = std::pin::pin!(tokio::task::yield_now());
    let _ = turn.poll(cx);
}

type Signals = RefCell<Vec<Option<Rc<Signal>>>>;

/// See the module.
pub struct Thread {
    /// The core.
    pub hub: RefCell<Hub>,
    /// Policy, behind the Hub's own trait.
    pub judge: RefCell<Box<dyn Judge>>,
    /// What an operator was told of upstreams.
    pub notices: RefCell<super::notice::Notices>,
    pub refusals: RefCell<super::turned_away::Refusals>,
    /// Clients that could not be accepted, and TLS handshakes that came to nothing.
    pub unaccepted: Seldom,
    pub unshaken: Seldom,
    /// The clocks.
    pub clock: Clock,
    /// One buffer for all reads.
    pub buffer: RefCell<Vec<u8>>,
    /// The numbers that everybody sees.
    pub metrics: Arc<Metrics>,
    /// TLS towards each upstream, where its settings are in order.
    pub tls: RefCell<Vec<Option<Outgoing>>>,
    /// TLS towards clients.
    pub incoming: RefCell<Option<Incoming>>,
    /// What is kept for the next life.
    pub memory: RefCell<Option<super::known::Memory>>,
    floods_seen: FloodsSeen,
    /// Publishes between a client's socket and an upstream's.
    pub way: Way,
    sessions: Signals,
    links: Signals,
    dirty_sessions: RefCell<Vec<SessionId>>,
    dirty_links: RefCell<Vec<LinkId>>,
    /// Floods that wait until a link has written.
    floods: RefCell<Vec<Rc<Signal>>>,
}

fn signal_at(signals: &Signals, index: usize) -> Option<Rc<Signal>> {
    signals.borrow().get(index).and_then(Clone::clone)
}

fn set_signal(signals: &Signals, index: usize, signal: Option<Rc<Signal>>) {
    let mut signals = signals.borrow_mut();
    if signals.len() <= index {
        signals.resize_with(index + 1, || None);
    }
    if let Some(slot) = signals.get_mut(index) {
        *slot = signal;
    }
}

impl Thread {
    /// With a Hub that has not started.
    pub fn new(
        hub: Hub,
        judge: Box<dyn Judge>,
        clock: Clock,
        metrics: Arc<Metrics>,
        tls: Vec<Option<Outgoing>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            hub: RefCell::new(hub),
            judge: RefCell::new(judge),
            notices: RefCell::default(),
            refusals: RefCell::default(),
            unaccepted: Seldom::default(),
            unshaken: Seldom::default(),
            clock,
            buffer: RefCell::new(vec![0; BUFFER_BYTES]),
            metrics,
            tls: RefCell::new(tls),
            incoming: RefCell::new(None),
            memory: RefCell::new(None),
            floods_seen: FloodsSeen::default(),
            way: Way::default(),
            sessions: RefCell::default(),
            links: RefCell::default(),
            dirty_sessions: RefCell::default(),
            dirty_links: RefCell::default(),
            floods: RefCell::default(),
        })
    }

    /// TLS towards upstreams after a reload: `order` is the Hub's number of each.
    pub fn set_tls(&self, order: &[UpstreamId], fresh: Vec<Option<Outgoing>>) {
        let mut tls = self.tls.borrow_mut();
        for (id, outgoing) in order.iter().zip(fresh) {
            if tls.len() <= id.0 {
                tls.resize_with(id.0 + 1, || None);
            }
            if let Some(slot) = tls.get_mut(id.0) {
                *slot = outgoing;
            }
        }
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// A session's task begins.
    pub fn add_session(&self, sid: SessionId) -> Rc<Signal> {
        let signal = Rc::new(Signal::default());
        set_signal(&self.sessions, sid.0, Some(Rc::clone(&signal)));
        signal
    }

    /// A session's task ends.
    pub fn remove_session(self: &Rc<Self>, sid: SessionId) {
        set_signal(&self.sessions, sid.0, None);
        self.hub.borrow_mut().client_gone(self.now(), sid);
        self.carry_out();
    }

    /// Where a client is.
    pub fn session_address(&self, sid: SessionId) -> Option<SocketAddr> {
        signal_at(&self.sessions, sid.0)?.address.get()
    }

    /// Our end of a link.
    pub fn link_address(&self, lid: LinkId) -> Option<SocketAddr> {
        signal_at(&self.links, lid.0)?.address.get()
    }

    /// A link's task begins.
    pub fn add_link(&self, lid: LinkId) -> Rc<Signal> {
        let signal = Rc::new(Signal::default());
        set_signal(&self.links, lid.0, Some(Rc::clone(&signal)));
        signal
    }

    /// A link's task ends.
    pub fn remove_link(self: &Rc<Self>, lid: LinkId, why: &str) {
        set_signal(&self.links, lid.0, None);
        self.hub.borrow_mut().link_gone(self.now(), lid, why);
        self.carry_out();
    }

    /// Octets that one client is read at a time: the fewer the more of them flood, so that a round of all takes about as long as one.
    pub fn read_bytes(&self) -> usize {
        (READ_BYTES / self.floods_seen.before.get().max(1)).max(READ_BYTES_MIN)
    }

    /// A client floods; `counted`: what this said when it did so before. Counts it once between two ticks.
    pub fn count_flood(&self, counted: u64) -> u64 {
        let FloodsSeen { tick, now, .. } = &self.floods_seen;
        if counted != tick.get() {
            now.set(now.get() + 1);
        }
        tick.get()
    }

    /// A client has read what it was sent: its own link may be read again.
    pub fn wake_link(&self, lid: LinkId) {
        if let Some(signal) = signal_at(&self.links, lid.0) {
            signal.wake();
        }
    }

    /// This client is woken when a link has written, and read with the next tick.
    pub fn wait_for_room(&self, signal: &Rc<Signal>) {
        let mut floods = self.floods.borrow_mut();
        if !floods.iter().any(|known| Rc::ptr_eq(known, signal)) {
            floods.push(Rc::clone(signal));
        }
    }

    /// Every client that is still here is read to the end of what has come, and cut off.
    pub fn last_call(&self) {
        for signal in self.sessions.borrow().iter().flatten() {
            signal.last_call.set(true);
            signal.wake();
        }
    }

    /// A link has written: floods look again whether there is room.
    pub fn wake_floods(&self) {
        for signal in self.floods.borrow_mut().drain(..) {
            signal.wake();
        }
    }

    /// A moment has passed: floods are read once, room or not, for a link that takes nothing never stops them (SPEC D4).
    pub fn read_floods(&self) {
        let FloodsSeen { tick, now, before } = &self.floods_seen;
        before.set(now.take());
        tick.set(tick.get() + 1);
        for signal in self.floods.borrow_mut().drain(..) {
            signal.turn.set(true);
            signal.wake();
        }
    }

    /// After every call of the Hub: its actions are carried out, and those who have something to write are woken.
    pub fn carry_out(self: &Rc<Self>) {
        loop {
            let action = self.hub.borrow_mut().next_action();
            match action {
                None => break,
                Some(Action::Dial { link, url, upstream, timeout_ms }) => {
                    self.dial(link, url, upstream, timeout_ms)
                }
                Some(Action::HangUpLink(lid)) => {
                    if let Some(signal) = signal_at(&self.links, lid.0) {
                        signal.hang_up.set(true);
                        signal.wake();
                    }
                }
                Some(Action::HangUp(sid)) => {
                    if let Some(signal) = signal_at(&self.sessions, sid.0) {
                        signal.hang_up.set(true);
                        signal.wake();
                    }
                }
                Some(Action::Cut(sid)) => {
                    if let Some(signal) = signal_at(&self.sessions, sid.0) {
                        signal.cut.set(true);
                        signal.wake();
                    }
                }
                Some(Action::Recall(sid)) => self.recall(sid),
                Some(Action::Resume(sid)) => {
                    if let Some(signal) = signal_at(&self.sessions, sid.0) {
                        signal.resume.set(true);
                        signal.wake();
                    }
                }
            }
        }
        self.hub.borrow_mut().flush_spool();
        let mut links = self.dirty_links.borrow_mut();
        let mut sessions = self.dirty_sessions.borrow_mut();
        {
            let mut hub = self.hub.borrow_mut();
            hub.take_dirty_links(&mut links);
            hub.take_dirty_sessions(&mut sessions);
        }
        for lid in links.drain(..) {
            if let Some(signal) = signal_at(&self.links, lid.0) {
                signal.wake();
            }
        }
        for sid in sessions.drain(..) {
            if let Some(signal) = signal_at(&self.sessions, sid.0) {
                signal.wake();
            }
        }
    }

    /// Asks what is kept about a client's login; where that cannot be asked, it is not known.
    fn recall(&self, sid: SessionId) {
        let Some((upstream, credentials, serial)) = self.hub.borrow().recalling(sid) else { return };
        let memory = self.memory.borrow();
        if !memory.as_ref().is_some_and(|m| m.recall(sid, serial, &upstream, &credentials)) {
            self.hub.borrow_mut().recalled(self.now(), sid, serial, None);
        }
    }

    fn dial(self: &Rc<Self>, lid: LinkId, url: crate::session::Url, upstream: UpstreamId, timeout_ms: u64) {
        let signal = self.add_link(lid);
        let thread = Rc::clone(self);
        tokio::task::spawn_local(super::link::run(thread, lid, url, upstream, timeout_ms, signal));
    }
}
