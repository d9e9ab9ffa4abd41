//! A disk on a stage: it takes, writes, fails and reads when the test says so, and knows by name what it has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use umbel::session::spool::{Spool, SpoolAppend, SpoolKey, SpoolQueue, SpoolRecord};

use super::stage::Stage;
use crate::kit;

#[derive(Default)]
struct Queue {
    upstream: String,
    identity: [u8; 32],
    ahead: bool,
    last: u64,
    synced: u64,
    records: BTreeMap<u64, SpoolRecord>,
    asked: Option<u64>,
}

impl Queue {
    fn unsynced(&self) -> usize {
        self.records.range(self.synced + 1..).count()
    }
}

#[derive(Default)]
struct State {
    queues: Vec<Queue>,
    ill: bool,
    at_once: Option<usize>,
    busy: bool,
    flushed: usize,
}

impl State {
    fn unsynced(&self) -> usize {
        self.queues.iter().map(Queue::unsynced).sum()
    }
}

/// What is asked of it, done when the test says so.
#[derive(Clone, Default)]
pub struct Disk(Rc<RefCell<State>>);

impl Disk {
    pub fn is_ill(&self, ill: bool) {
        self.0.borrow_mut().ill = ill;
    }

    /// It takes no more than so many before it has written them.
    pub fn takes_at_once(&self, count: usize) {
        self.0.borrow_mut().at_once = Some(count);
    }

    /// Its writer has no room for what is handed over.
    pub fn is_busy(&self, busy: bool) {
        self.0.borrow_mut().busy = busy;
    }

    /// How often it has been asked to hand over.
    pub fn flushed(&self) -> usize {
        self.0.borrow().flushed
    }

    /// Whether it has written all that it was given.
    pub fn is_settled(&self) -> bool {
        self.0.borrow().unsynced() == 0
    }

    fn queues(&self) -> usize {
        self.0.borrow().queues.len()
    }

    /// What its queues' keys say of their owners, besides their names.
    pub fn identities(&self) -> Vec<[u8; 32]> {
        self.0.borrow().queues.iter().map(|q| q.identity).collect()
    }

    /// The names of the messages that it has, ahead of all others or not.
    pub fn names(&self, ahead: bool) -> Vec<String> {
        self.names_where(|q| q.ahead == ahead)
    }

    /// The names of the messages that it has for an upstream.
    pub fn names_for(&self, upstream: &str) -> Vec<String> {
        self.names_where(|q| q.upstream == upstream)
    }

    fn names_where(&self, which: impl Fn(&Queue) -> bool) -> Vec<String> {
        let queues = &self.0.borrow().queues;
        let records = queues.iter().filter(|q| which(q)).flat_map(|q| q.records.values());
        records.map(|r| kit::message_id(&r.header).unwrap()).collect()
    }

    /// All that it was given is written.
    pub fn syncs(&self, s: &mut Stage) {
        for n in 0..self.queues() {
            let last = self.0.borrow().queues[n].last;
            self.0.borrow_mut().queues[n].synced = last;
            s.hub.spool_synced(s.now, SpoolQueue(n as u64), last);
        }
        s.carry();
    }

    /// What it has not written it gives back, and takes nothing more.
    pub fn fails(&self, s: &mut Stage) {
        self.is_ill(true);
        for n in 0..self.queues() {
            let mut state = self.0.borrow_mut();
            let queue = &mut state.queues[n];
            let back = queue.records.split_off(&(queue.synced + 1));
            drop(state);
            s.hub.spool_given_back(s.now, SpoolQueue(n as u64), back.into_values().collect());
        }
        s.carry();
    }

    /// It reads what it was asked for.
    pub fn reads(&self, s: &mut Stage) {
        for n in 0..self.queues() {
            let mut state = self.0.borrow_mut();
            let queue = &mut state.queues[n];
            let Some(after) = queue.asked.take() else { continue };
            let records = queue.records.range(after + 1..=queue.synced).map(|(_, r)| r.clone()).collect();
            drop(state);
            s.hub.spool_records(s.now, SpoolQueue(n as u64), records, true, &mut *s.judge);
        }
        s.carry();
    }
}

impl Spool for Disk {
    fn queue(&mut self, key: &SpoolKey) -> SpoolQueue {
        let queues = &mut self.0.borrow_mut().queues;
        let n = queues
            .iter()
            .position(|q| (q.ahead, &*q.upstream) == (key.ahead, &key.upstream))
            .unwrap_or(queues.len());
        if n == queues.len() {
            let upstream = key.upstream.to_string();
            queues.push(Queue { upstream, identity: key.identity, ahead: key.ahead, ..Queue::default() });
        }
        SpoolQueue(n as u64)
    }

    fn append(&mut self, queue: SpoolQueue, publish: &SpoolAppend<'_>) -> Option<u64> {
        if !self.takes() {
            return None;
        }
        let mut state = self.0.borrow_mut();
        let queue = &mut state.queues[queue.0 as usize];
        queue.last += 1;
        let record = SpoolRecord {
            number: queue.last,
            flags: publish.flags,
            method: publish.method.to_vec(),
            header: publish.header.to_vec(),
            body: publish.body.concat(),
            aged: false,
        };
        queue.records.insert(record.number, record);
        Some(queue.last)
    }

    fn read(&mut self, queue: SpoolQueue, after: Option<u64>, _bytes: usize) {
        self.0.borrow_mut().queues[queue.0 as usize].asked = Some(after.unwrap_or(0));
    }

    fn remove(&mut self, queue: SpoolQueue, from: u64, to: u64) {
        for number in from..=to {
            let removed = self.0.borrow_mut().queues[queue.0 as usize].records.remove(&number);
            assert!(removed.is_some(), "record {number} is removed and was not there");
        }
    }

    fn flush(&mut self) -> bool {
        let mut state = self.0.borrow_mut();
        state.flushed += 1;
        !state.busy
    }

    fn takes(&self) -> bool {
        let state = self.0.borrow();
        !state.ill && state.at_once.is_none_or(|most| state.unsynced() < most)
    }
}
