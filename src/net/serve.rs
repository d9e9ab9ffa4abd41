//! The data thread's life: listen, tick, reload, drain.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Interval;

use super::clock::Clock;
use super::load::Loaded;
use super::shelf::Shelf;
use super::spool::Owned;
use super::thread::Thread;
use super::tls::{self, Outgoing};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::metrics::status::Status;
use crate::session::{Hub, Rounds};

/// The Hub's clock ticks this often.
const TICK: Duration = Duration::from_millis(100);

/// What the data thread needs to live.
pub struct Serve {
    /// The configuration in force.
    pub loaded: Loaded,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Whoever wants to know how it is.
    pub status: mpsc::Receiver<oneshot::Sender<Status>>,
    /// For salts and jitter.
    pub seed: [u8; 32],
    /// The AMQP socket, bound.
    pub listener: std::net::TcpListener,
    /// Where the admin page is, if anywhere.
    pub admin: Option<SocketAddr>,
    /// Others listen on its port, or will when we have gone.
    pub shared: bool,
}

/// Runs until told to stop, then drains (SPEC D7).
///
/// # Errors
/// What kept it from beginning.
pub fn serve(what: Serve) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, live(what))
}

pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |h| h.trim().to_owned())
}

/// TLS towards each upstream that has an amqps url, in the configuration's order.
pub fn outgoing(config: &Config) -> Result<Vec<Option<Outgoing>>, String> {
    let wants = |u: &crate::config::Upstream| u.urls.iter().any(|u| u.tls);
    config
        .upstreams
        .iter()
        .map(|u| if wants(u) { Outgoing::new(&u.tls).map(Some) } else { Ok(None) })
        .collect()
}

async fn live(what: Serve) -> io::Result<()> {
    let Serve { loaded, metrics, status, seed, listener, admin, shared } = what;
    let (thread, shelf, news) = open(&loaded, &metrics, seed, shared)?;
    thread.hub.borrow_mut().start(thread.now());
    thread.carry_out();
    let listener = TcpListener::from_std(listener)?;
    let places = super::status::Places { amqp: listener.local_addr()?, admin };
    tracing::info!(address = %places.amqp, "listening for AMQP");
    let accepting = tokio::task::spawn_local(super::listen::accept(Rc::clone(&thread), listener));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let drain_timeout = loaded.config.limits.drain_timeout;
    let mut life = Life {
        ticks,
        news,
        status,
        state: super::status::Reporter::new(thread.now(), places),
        loaded: Rc::new(RefCell::new(loaded)),
        counted: crate::session::Counters::default(),
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        thread,
        shelf,
    };
    life.until_told(seed).await?;
    accepting.abort();
    life.drain(drain_timeout).await;
    Ok(())
}

/// What the data thread lives on.
type Opened = (Rc<Thread>, Option<Shelf>, Arc<Notify>);

/// The Hub under its settings, with the spool and what is known of an earlier life, where there is one.
fn open(loaded: &Loaded, metrics: &Arc<Metrics>, seed: [u8; 32], shared: bool) -> io::Result<Opened> {
    let config = &loaded.config;
    let other = |e: String| io::Error::other(e);
    let incoming = config.listen.tls.as_ref().map(tls::incoming).transpose().map_err(other)?;
    let outgoing = outgoing(config).map_err(other)?;
    let clock = Clock::start();
    metrics.config.start_seconds.set(Duration::from_micros(super::clock::now_us()).as_secs_f64());
    metrics.config.last_successful.set(1);
    super::reload::in_force(loaded, metrics);
    // Whoever shares its port may find its predecessor still draining into the spool.
    let owned = if shared { Owned::Wait } else { Owned::Refuse };
    let opened = match &config.spool {
        None => None,
        Some(settings) => Some(
            super::shelf::open(settings, owned, metrics)
                .map_err(|e| other(format!("{}: {e}", settings.path)))?,
        ),
    };
    // Logins are hashed with the spool's salt, so that whoever left something there is known again.
    let salt = opened.as_ref().map_or(seed, |s| s.salt);
    let mut hub = Hub::new(
        super::settings::limits(config),
        super::settings::upstreams(config),
        salt,
        super::settings::our_properties(&hostname()),
    );
    let (shelf, news) = match opened {
        None => (None, Arc::new(Notify::new())),
        Some(opened) => {
            let rate = config.spool.as_ref().and_then(|s| s.replay_rate);
            hub.set_spool(clock.now(), Box::new(opened.shelf.clone()), opened.found, rate);
            (Some(opened.shelf), opened.news)
        }
    };
    let memory = match &config.spool {
        None => None,
        Some(s) => {
            let places = super::known::places(config);
            Some(super::known::Memory::begin(Path::new(&s.path), places, &mut hub, Arc::clone(&news))?)
        }
    };
    let judge = super::reload::first_judge(loaded, metrics, seed);
    hub.watch_deliveries(judge.watches_deliveries());
    let thread = Thread::new(hub, judge, clock, Arc::clone(metrics), outgoing);
    *thread.incoming.borrow_mut() = incoming;
    *thread.memory.borrow_mut() = memory;
    Ok((thread, shelf, news))
}

/// The data thread's life from the first client to the last confirm.
struct Life {
    thread: Rc<Thread>,
    shelf: Option<Shelf>,
    /// The spool, or what is known, has something to say.
    news: Arc<Notify>,
    loaded: Rc<RefCell<Loaded>>,
    state: super::status::Reporter,
    /// The Hub's numbers, as far as they are in the metrics.
    counted: crate::session::Counters,
    status: mpsc::Receiver<oneshot::Sender<Status>>,
    ticks: Interval,
    terminate: Signal,
    interrupt: Signal,
}

impl Life {
    /// Serves and reloads, until told to stop.
    async fn until_told(&mut self, seed: [u8; 32]) -> io::Result<()> {
        let mut reloads = super::reload::watch(&self.loaded)?;
        loop {
            tokio::select! {
                _ = self.ticks.tick() => self.tick(),
                () = self.news.notified() => self.poll(),
                Some(reply) = self.status.recv() => self.report(reply, false),
                Some(()) = reloads.recv() => {
                    let error = super::reload::reload(&self.thread, &self.loaded, seed);
                    self.state.reloaded(error);
                    if let Some(memory) = &*self.thread.memory.borrow() {
                        memory.moved(super::known::places(&self.loaded.borrow().config));
                    }
                }
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
            }
        }
    }

    /// Delivers what was handed over, or has it on disk (SPEC D7).
    async fn drain(mut self, timeout: Duration) {
        tracing::info!("draining: no new clients, what was handed over is delivered");
        self.thread.hub.borrow_mut().drain(self.thread.now());
        self.thread.carry_out();
        let why = self.until_drained(timeout).await;
        if !self.thread.hub.borrow().drained() {
            self.last_confirms().await;
        }
        self.tick();
        drop(self.thread.memory.borrow_mut().take());
        let left = match &self.shelf {
            None => self.thread.hub.borrow().unsettled(),
            Some(shelf) => keep_the_rest(&self.thread, shelf).await,
        };
        if left > 0 {
            tracing::error!(
                left,
                why,
                "drained, with publishes that nobody has confirmed and no disk has taken"
            );
        } else {
            tracing::info!(why, "drained");
        }
    }

    /// Why no more is waited for.
    async fn until_drained(&mut self, timeout: Duration) -> &'static str {
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                _ = self.ticks.tick() => {
                    self.tick();
                    if self.thread.hub.borrow().drained() {
                        return "everything is delivered";
                    }
                    if self.waits_in_vain() {
                        return "no upstream takes what is left";
                    }
                }
                () = self.news.notified() => self.poll(),
                Some(reply) = self.status.recv() => self.report(reply, true),
                () = &mut deadline => return "the deadline has come",
                // Whoever says it twice does not want to wait.
                _ = self.terminate.recv() => return "told a second time",
                _ = self.interrupt.recv() => return "told a second time",
            }
        }
    }

    /// Hears clients to their last octet, and waits a moment for the confirms of that.
    async fn last_confirms(&mut self) {
        self.thread.last_call();
        let grace = tokio::time::sleep(LAST_CONFIRMS);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                _ = self.ticks.tick() => self.tick(),
                () = self.news.notified() => self.poll(),
                () = &mut grace => return,
            }
            if self.thread.hub.borrow().drained() || self.waits_in_vain() {
                return;
            }
        }
    }

    /// The disk can have what no upstream takes.
    fn waits_in_vain(&self) -> bool {
        self.shelf.is_some() && self.thread.hub.borrow().waits_in_vain()
    }

    /// The numbers are those of the moment that is asked about.
    fn report(&mut self, reply: oneshot::Sender<Status>, draining: bool) {
        self.tick();
        let report = self.state.report(&self.thread, &self.loaded.borrow(), self.shelf.as_ref(), draining);
        let _ = reply.send(report);
    }

    fn tick(&mut self) {
        tick(&self.thread, &mut self.counted, self.shelf.as_ref());
    }

    fn poll(&self) {
        poll(&self.thread, self.shelf.as_ref());
    }
}

/// How long the last publishes may wait for their confirms when the drain is over.
const LAST_CONFIRMS: Duration = Duration::from_secs(1);
/// How long what is left may take to the disk when the drain is over.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What is not confirmed when the drain is over goes to the spool, as much at a time as it takes; how much could not.
async fn keep_the_rest(thread: &Rc<Thread>, shelf: &Shelf) -> u64 {
    let mut rounds = Rounds::default();
    let mut left = 0;
    let all = async {
        loop {
            left = thread.hub.borrow_mut().spool_the_rest(thread.now());
            let nothing_new = shelf.is_settled();
            while !shelf.is_settled() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                shelf.poll(thread);
            }
            shelf.poll(thread);
            if rounds.is_over(left, nothing_new) {
                break;
            }
        }
    };
    if tokio::time::timeout(LAST_COMMIT, all).await.is_err() {
        tracing::error!("the spool's disk is too slow: what was on its way to it may be lost");
    }
    left
}

fn poll(thread: &Rc<Thread>, shelf: Option<&Shelf>) {
    if let Some(shelf) = shelf {
        shelf.poll(thread);
    }
    if let Some(memory) = &*thread.memory.borrow() {
        memory.poll(thread);
    }
    thread.carry_out();
}

/// The clock's own panic would end everybody: it is counted, and the clock goes on (SPEC S5).
fn tick(thread: &Rc<Thread>, counted: &mut crate::session::Counters, shelf: Option<&Shelf>) {
    let ticked = AssertUnwindSafe(|| tick_once(thread, counted, shelf));
    if std::panic::catch_unwind(ticked).is_err() {
        thread.metrics.clients.panics.inc();
        tracing::error!("a panic on the clock's way: this tick is left out");
    }
}

fn tick_once(thread: &Rc<Thread>, counted: &mut crate::session::Counters, shelf: Option<&Shelf>) {
    {
        let mut hub = thread.hub.borrow_mut();
        let mut judge = thread.judge.borrow_mut();
        hub.tick(thread.now(), &mut **judge);
        super::counters::publish(&thread.metrics, counted, &hub.counters);
    }
    poll(thread, shelf);
    if let Some(shelf) = shelf {
        super::counters::spool(&thread.metrics, shelf);
    }
    if let (Some(memory), Some(shelf)) = (&*thread.memory.borrow(), shelf) {
        memory.tick(&mut thread.hub.borrow_mut(), shelf.is_ours());
    }
    thread.metrics.ticks.inc();
    super::counters::gauges(thread);
    super::counters::upstreams(thread);
    thread.notices.borrow_mut().look(thread);
    thread.refusals.borrow_mut().look(thread);
    thread.carry_out();
    thread.read_floods();
}
