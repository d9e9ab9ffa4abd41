//! The spool as the Hub sees it, and what comes of it told to the Hub: the store is `spool`, when to use it is the Hub's.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::spool::{
    Completion, Owned, Publish, QueueId, QueueKey, Recovered, Refused, Spool as Store, SpoolHealth,
    SpoolSettings,
};
use super::thread::Thread;
use crate::config;
use crate::metrics::{Metrics, SpoolFault};
use crate::session::spool::{Spool, SpoolAppend, SpoolFound, SpoolKey, SpoolQueue, SpoolRecord};
use crate::wire::num::u64_of;

/// The store, shared between the Hub's port and the thread that polls it; both are on the data thread.
#[derive(Clone)]
pub struct Shelf {
    store: Rc<RefCell<Store>>,
    metrics: Arc<Metrics>,
    /// Appended since the last hand-over: an atomic counter for each would cost more than the rest.
    appended: Rc<Cell<u64>>,
    /// It could not be read, which has been said once.
    unreadable: Rc<Cell<bool>>,
}

/// How a spool is.
#[derive(Debug, Clone)]
pub struct ShelfLook {
    /// Records on disk.
    pub records: u64,
    /// Their octets.
    pub bytes: u64,
    /// Age of the oldest.
    pub oldest_seconds: u64,
    /// Records set aside.
    pub unsound: u64,
    /// Why it takes nothing.
    pub error: Option<String>,
}

/// A shelf, what wakes its poller, its salt, and what was found.
pub struct Opened {
    /// To be shared with the Hub.
    pub shelf: Shelf,
    /// Notified when there is something to poll.
    pub news: Arc<Notify>,
    /// Logins are hashed with it, so that their owners are known again.
    pub salt: [u8; 32],
    /// Queues of an earlier life.
    pub found: Vec<SpoolFound>,
}

/// Opens the configured spool.
pub fn open(settings: &config::Spool, owned: Owned, metrics: &Arc<Metrics>) -> std::io::Result<Opened> {
    let news = Arc::new(Notify::new());
    let waker = Arc::clone(&news);
    let bounds = SpoolSettings {
        max_bytes: settings.max_bytes,
        max_age: settings.max_age,
        group_commit: settings.group_commit,
        fsync: settings.fsync,
        owned,
        ..SpoolSettings::default()
    };
    let (store, recovered) =
        Store::open(Path::new(&settings.path), bounds, Box::new(move || waker.notify_one()))?;
    say_recovered(&recovered, metrics);
    let salt = store.salt();
    let found = found(&recovered);
    let shelf = Shelf {
        store: Rc::new(RefCell::new(store)),
        metrics: Arc::clone(metrics),
        appended: Rc::default(),
        unreadable: Rc::default(),
    };
    Ok(Opened { shelf, news, salt, found })
}

fn say_recovered(recovered: &Recovered, metrics: &Arc<Metrics>) {
    metrics.delivery.spool.recovered.inc_by(recovered.records);
    if let Some(aside) = &recovered.set_aside {
        tracing::error!(%aside, "the spool could not be opened and was set aside; a new one has begun");
    }
    if recovered.unsound > 0 {
        tracing::error!(
            records = recovered.unsound,
            "records of the spool failed their check and were set aside"
        );
    }
    if recovered.records > 0 {
        tracing::info!(records = recovered.records, "the spool holds publishes of an earlier run");
    }
}

fn found(recovered: &Recovered) -> Vec<SpoolFound> {
    let queue = |q: &super::spool::QueueReport| SpoolFound {
        queue: SpoolQueue(q.queue.0),
        key: SpoolKey {
            upstream: q.key.upstream.as_str().into(),
            vhost: q.key.vhost.as_bytes().into(),
            user: q.key.user.as_str().into(),
            identity: q.key.identity,
            ahead: q.key.ahead,
        },
        records: q.records,
    };
    recovered.queues.iter().filter(|q| q.records > 0).map(queue).collect()
}

impl Spool for Shelf {
    fn queue(&mut self, key: &SpoolKey) -> SpoolQueue {
        let key = QueueKey {
            upstream: key.upstream.to_string(),
            vhost: String::from_utf8_lossy(&key.vhost).into_owned(),
            user: key.user.to_string(),
            identity: key.identity,
            ahead: key.ahead,
        };
        SpoolQueue(self.store.borrow_mut().queue(&key).0)
    }

    fn append(&mut self, queue: SpoolQueue, publish: &SpoolAppend<'_>) -> Option<u64> {
        let joined;
        let body: &[u8] = match publish.body {
            [] => &[],
            [one] => one,
            pieces => {
                joined = pieces.concat();
                &joined
            }
        };
        let publish = Publish {
            lane: publish.lane,
            at_us: u64::try_from(publish.at_us).unwrap_or(0),
            flags: publish.flags,
            method: publish.method,
            header: publish.header,
            body,
        };
        let mut store = self.store.borrow_mut();
        let mut outcome = store.append(QueueId(queue.0), &publish);
        if outcome == Err(Refused::Busy) {
            // A hand-over may make room at once.
            store.flush();
            outcome = store.append(QueueId(queue.0), &publish);
        }
        match outcome {
            Ok(number) => {
                self.appended.set(self.appended.get() + 1);
                Some(number)
            }
            Err(Refused::Busy) => None,
            Err(why) => {
                let fault = if why == Refused::Bound { SpoolFault::Full } else { SpoolFault::Append };
                self.metrics.delivery.spool.faults.of(fault).inc();
                None
            }
        }
    }

    fn read(&mut self, queue: SpoolQueue, after: Option<u64>, bytes: usize) {
        self.store.borrow_mut().read(QueueId(queue.0), after.unwrap_or(0), u64_of(bytes));
    }

    fn remove(&mut self, queue: SpoolQueue, from: u64, to: u64) {
        self.store.borrow_mut().remove(QueueId(queue.0), from, to);
    }

    fn refused(&mut self, queue: SpoolQueue, number: u64, why: &Rc<str>) {
        self.store.borrow_mut().refused(QueueId(queue.0), number, why);
    }

    fn flush(&mut self) -> bool {
        self.metrics.delivery.spool.appended.inc_by(self.appended.take());
        self.store.borrow_mut().flush()
    }

    fn takes(&self) -> bool {
        *self.store.borrow().health() == SpoolHealth::Ok
    }
}

impl Shelf {
    /// Everything that has happened, told to the Hub.
    pub fn poll(&self, thread: &Rc<Thread>) {
        loop {
            let news = self.store.borrow_mut().poll();
            let Some(news) = news else { break };
            self.tell(thread, news);
        }
        thread.hub.borrow_mut().flush_spool();
        thread.carry_out();
    }

    fn tell(&self, thread: &Rc<Thread>, news: Completion) {
        let now = thread.now();
        match news {
            Completion::Appended { queue, to, took, .. } => {
                self.metrics.delivery.spool.sync_seconds.observe(took, 1);
                thread.hub.borrow_mut().spool_synced(now, SpoolQueue(queue.0), to);
            }
            Completion::NotKept { queue, records, why } => {
                tracing::error!(
                    records = records.len(),
                    ?why,
                    "the spool could not write; what it was given stays in memory"
                );
                let records = records.into_iter().map(record).collect();
                thread.hub.borrow_mut().spool_given_back(now, SpoolQueue(queue.0), records);
            }
            Completion::Records { queue, records, end, unsound } => {
                if unsound > 0 {
                    tracing::error!(unsound, "records of the spool failed their check and were set aside");
                }
                if self.unreadable.replace(false) {
                    tracing::info!("the spool can be read again");
                }
                self.metrics.delivery.spool.replayed.inc_by(u64_of(records.len()));
                let records = records.into_iter().map(record).collect();
                let mut judge = thread.judge.borrow_mut();
                thread.hub.borrow_mut().spool_records(now, SpoolQueue(queue.0), records, end, &mut **judge);
            }
            Completion::ReadFailed { queue, why } => {
                self.metrics.delivery.spool.faults.of(SpoolFault::Read).inc();
                if !self.unreadable.replace(true) {
                    tracing::warn!(?why, "the spool cannot be read; it is tried again and again");
                }
                thread.hub.borrow_mut().spool_read_failed(SpoolQueue(queue.0));
            }
            Completion::Recovered(recovered) => {
                say_recovered(&recovered, &self.metrics);
                thread.hub.borrow_mut().spool_opened();
                for queue in found(&recovered) {
                    thread.hub.borrow_mut().spool_found(now, queue);
                }
            }
            Completion::Health(SpoolHealth::Ok) => tracing::info!("the spool is well again"),
            Completion::Health(health) => {
                tracing::error!(?health, "the spool takes nothing; what passes through goes on")
            }
        }
    }

    /// Whether its directory is ours, and not still a predecessor's.
    pub fn is_ours(&self) -> bool {
        !matches!(self.store.borrow().health(), SpoolHealth::Owned(_))
    }

    /// Whether nothing is on its way to the disk.
    pub fn is_settled(&self) -> bool {
        self.store.borrow().is_settled()
    }

    /// What waits, and whether more is taken.
    pub fn look(&self) -> ShelfLook {
        let store = self.store.borrow();
        let g = store.gauges();
        ShelfLook {
            records: g.records(),
            bytes: g.bytes(),
            oldest_seconds: store.oldest_age().unwrap_or_default().as_secs(),
            unsound: g.unsound(),
            error: (*store.health() != SpoolHealth::Ok).then(|| format!("{:?}", store.health())),
        }
    }
}

fn record(r: super::spool::Record) -> SpoolRecord {
    SpoolRecord {
        number: r.seq,
        flags: r.flags,
        method: r.method().to_vec(),
        header: r.header().to_vec(),
        body: r.body().to_vec(),
        aged: r.aged,
    }
}
