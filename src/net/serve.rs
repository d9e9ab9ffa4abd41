//! The data thread's life: listen, tick, reload, drain.

use std::cell::RefCell;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

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
    let Serve { loaded, metrics, mut status, seed, listener, shared } = what;
    let config = &loaded.config;
    let other = |e: String| io::Error::other(e);
    let incoming = config.listen.tls.as_ref().map(tls::incoming).transpose().map_err(other)?;
    let outgoing = outgoing(config).map_err(other)?;
    let clock = Clock::start();
    metrics.config.start_seconds.set(Duration::from_micros(super::clock::now_us()).as_secs_f64());
    metrics.config.last_successful.set(1);
    super::reload::in_force(&loaded, &metrics);
    // Whoever shares its port may find its predecessor still draining into the spool.
    let owned = if shared { Owned::Wait } else { Owned::Refuse };
    let shelf = match &config.spool {
        None => None,
        Some(settings) => Some(
            super::shelf::open(settings, owned, &metrics)
                .map_err(|e| other(format!("{}: {e}", settings.path)))?,
        ),
    };
    // Logins are hashed with the spool's salt, so that whoever left something there is known again.
    let salt = shelf.as_ref().map_or(seed, |s| s.salt);
    let mut hub = Hub::new(
        super::settings::limits(config),
        super::settings::upstreams(config),
        salt,
        super::settings::our_properties(&hostname()),
    );
    let (shelf, news) = match shelf {
        None => (None, Arc::new(tokio::sync::Notify::new())),
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
    let judge = super::reload::first_judge(&loaded, &metrics, seed);
    hub.watch_deliveries(judge.watches_deliveries());
    let thread = Thread::new(hub, judge, clock, Arc::clone(&metrics), outgoing);
    *thread.incoming.borrow_mut() = incoming;
    *thread.memory.borrow_mut() = memory;
    thread.hub.borrow_mut().start(thread.now());
    thread.carry_out();
    let listener = TcpListener::from_std(listener)?;
    tracing::info!(address = %listener.local_addr()?, "listening for AMQP");
    let accepting = tokio::task::spawn_local(super::listen::accept(Rc::clone(&thread), listener));
    let drain_timeout = config.limits.drain_timeout;
    let loaded = Rc::new(RefCell::new(loaded));
    let mut reloads = super::reload::watch(&loaded)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut counted = crate::session::Counters::default();
    let mut state = super::status::Reporter::new(thread.now());
    loop {
        tokio::select! {
            _ = ticks.tick() => tick(&thread, &mut counted, shelf.as_ref()),
            () = news.notified() => poll(&thread, shelf.as_ref()),
            Some(reply) = status.recv() => {
                tick(&thread, &mut counted, shelf.as_ref());
                let _ = reply.send(state.report(&thread, &loaded.borrow(), shelf.as_ref(), false));
            }
            Some(()) = reloads.recv() => {
                let error = super::reload::reload(&thread, &loaded, seed);
                state.reloaded(error);
                if let Some(memory) = &*thread.memory.borrow() {
                    memory.moved(super::known::places(&loaded.borrow().config));
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    accepting.abort();
    tracing::info!("draining: no new clients, what was handed over is delivered");
    thread.hub.borrow_mut().drain(thread.now());
    thread.carry_out();
    let deadline = tokio::time::sleep(drain_timeout);
    tokio::pin!(deadline);
    let why = loop {
        tokio::select! {
            _ = ticks.tick() => {
                tick(&thread, &mut counted, shelf.as_ref());
                let hub = thread.hub.borrow();
                if hub.drained() {
                    break "everything is delivered";
                }
                if shelf.is_some() && hub.waits_in_vain() {
                    break "no upstream takes what is left";
                }
            }
            () = news.notified() => poll(&thread, shelf.as_ref()),
            Some(reply) = status.recv() => {
                tick(&thread, &mut counted, shelf.as_ref());
                let _ = reply.send(state.report(&thread, &loaded.borrow(), shelf.as_ref(), true));
            }
            () = &mut deadline => break "the deadline has come",
            // Whoever says it twice does not want to wait.
            _ = terminate.recv() => break "told a second time",
            _ = interrupt.recv() => break "told a second time",
        }
    };
    if !thread.hub.borrow().drained() {
        thread.last_call();
        let grace = tokio::time::sleep(LAST_CONFIRMS);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                _ = ticks.tick() => tick(&thread, &mut counted, shelf.as_ref()),
                () = news.notified() => poll(&thread, shelf.as_ref()),
                () = &mut grace => break,
            }
            let hub = thread.hub.borrow();
            if hub.drained() || (shelf.is_some() && hub.waits_in_vain()) {
                break;
            }
        }
    }
    tick(&thread, &mut counted, shelf.as_ref());
    drop(thread.memory.borrow_mut().take());
    let left = match &shelf {
        None => thread.hub.borrow().unsettled(),
        Some(shelf) => keep_the_rest(&thread, shelf).await,
    };
    if left > 0 {
        tracing::error!(left, why, "drained, with publishes that nobody has confirmed and no disk has taken");
    } else {
        tracing::info!(why, "drained");
    }
    Ok(())
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
