//! What the Hub asks of a spool, and what it must not know of it: files, threads, time-outs (SPEC D4).

use std::rc::Rc;

/// Whose publishes: never a credential, only what tells one login from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpoolKey {
    /// The upstream's name in the configuration.
    pub upstream: Rc<str>,
    /// The vhost.
    pub vhost: Rc<[u8]>,
    /// The user, to be shown.
    pub user: Rc<str>,
    /// The salted hash of the login.
    pub identity: [u8; 32],
}

/// A queue of the spool; its records are numbered without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpoolQueue(pub u64);

/// One publish on its way to disk.
#[derive(Debug, Clone, Copy)]
pub struct SpoolAppend<'a> {
    /// Whose order it keeps.
    pub lane: u64,
    /// When it was accepted, microseconds since 1970.
    pub at_us: i64,
    /// The publish method's payload.
    pub method: &'a [u8],
    /// The content header's payload.
    pub header: &'a [u8],
    /// The body, in pieces.
    pub body: &'a [&'a [u8]],
}

/// One publish back from disk.
#[derive(Debug, Clone)]
pub struct SpoolRecord {
    /// Its number in its queue.
    pub number: u64,
    /// The publish method's payload.
    pub method: Vec<u8>,
    /// The content header's payload.
    pub header: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
    /// It is older than the spool keeps things.
    pub aged: bool,
}

/// A queue that was there when the spool was opened.
#[derive(Debug, Clone)]
pub struct SpoolFound {
    /// Which.
    pub queue: SpoolQueue,
    /// Whose.
    pub key: SpoolKey,
    /// How many records wait in it.
    pub records: u64,
}

/// A spool, as the Hub sees it. No call waits for a disk; what comes of it is told through `Hub::spool_*`.
pub trait Spool {
    /// The queue of these publishes, made where there is none.
    fn queue(&mut self, key: &SpoolKey) -> SpoolQueue;

    /// Takes a publish; its number. `None`: the spool is full or its disk is not well.
    fn append(&mut self, queue: SpoolQueue, publish: &SpoolAppend<'_>) -> Option<u64>;

    /// Asks for records behind `after` (`None`: from the first), about so many octets of them.
    fn read(&mut self, queue: SpoolQueue, after: Option<u64>, bytes: usize);

    /// These records are done with.
    fn remove(&mut self, queue: SpoolQueue, from: u64, to: u64);

    /// What was appended goes to the writer now.
    fn flush(&mut self);

    /// Whether an append would be taken.
    fn takes(&self) -> bool;
}
