//! A disk: a spool that syncs late, fails, fills up, and keeps over a crash what was synced, and not a record more.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use umbel::session::spool::{Spool, SpoolAppend, SpoolFound, SpoolKey, SpoolQueue, SpoolRecord};

use super::kit;
use super::ledger::{Id, Ledger};
use super::rng::Rng;

struct Queue {
    key: SpoolKey,
    next: u64,
    /// Records up to this one are on disk.
    synced: u64,
    records: BTreeMap<u64, SpoolRecord>,
    /// Removed, and not yet so that a crash could not bring it back.
    removed: BTreeSet<u64>,
}

struct Ask {
    queue: usize,
    after: u64,
    bytes: usize,
}

#[derive(Default)]
struct State {
    queues: Vec<Queue>,
    asks: Vec<Ask>,
    /// It takes nothing, and what it has not synced it gives back.
    ill: bool,
    /// Percent of the times that it has done something when it is looked at.
    pace: u64,
    records_max: usize,
    /// What is older when it is read is aged.
    age_max_us: i64,
    /// When each record was accepted, by queue and number.
    ages: HashMap<(usize, u64), i64>,
    /// What it did, to be read.
    notes: Vec<String>,
}

/// What has come of something.
pub enum News {
    Synced(SpoolQueue, u64),
    GivenBack(SpoolQueue, Vec<SpoolRecord>),
    Records(SpoolQueue, Vec<SpoolRecord>, bool),
    ReadFailed(SpoolQueue),
}

/// Shared by the Hub and the world.
#[derive(Clone)]
pub struct Disk(Rc<RefCell<State>>);

impl State {
    fn note(&mut self, what: &str, queue: usize, records: &[SpoolRecord]) {
        let ahead = if self.queues[queue].key.ahead { " ahead" } else { "" };
        let name =
            |r: &SpoolRecord| format!("{}={}", r.number, id_of(r).map_or_else(|| "other".into(), Id::name));
        let names: Vec<String> = records.iter().map(name).collect();
        self.notes.push(format!("disk {what} queue {queue}{ahead}: {}", names.join(" ")));
    }
}

fn id_of(record: &SpoolRecord) -> Option<Id> {
    let name = kit::message_id(&record.header).filter(|_| !record.header.is_empty())?;
    (name != "authored").then(|| Id::parse(&name))
}

impl Disk {
    pub fn new(rng: &mut Rng) -> Self {
        let pace = *rng.pick(&[3, 20, 80]);
        let records_max = *rng.pick(&[20, 400, 100_000]);
        let age_max_us = *rng.pick(&[i64::MAX, i64::MAX, 4_000_000]);
        Self(Rc::new(RefCell::new(State { pace, records_max, age_max_us, ..State::default() })))
    }

    pub fn is_ill(&self, ill: bool) {
        self.0.borrow_mut().ill = ill;
    }

    pub fn turns_ill_or_well(&self) {
        let mut s = self.0.borrow_mut();
        s.ill = !s.ill;
    }

    /// Records that are not done with.
    pub fn records(&self) -> usize {
        self.0.borrow().queues.iter().map(|q| q.records.len() - q.removed.len()).sum()
    }

    /// Whose they are: channel and number.
    pub fn kept(&self) -> HashSet<(u32, u32)> {
        let s = self.0.borrow();
        let still =
            s.queues.iter().flat_map(|q| q.records.values().filter(|r| !q.removed.contains(&r.number)));
        still.filter_map(id_of).map(|id| (id.chan, id.n)).collect()
    }

    /// What it has got round to.
    pub fn work(&self, now_us: i64, rng: &mut Rng, ledger: &mut Ledger) -> Vec<News> {
        let mut s = self.0.borrow_mut();
        let (ill, pace) = (s.ill, s.pace);
        let mut news = Vec::new();
        for line in std::mem::take(&mut s.notes) {
            ledger.note(|| line);
        }
        for (n, queue) in s.queues.iter_mut().enumerate() {
            let fresh: Vec<u64> = queue.unsynced().collect();
            if fresh.is_empty() || !rng.chance(pace) {
                continue;
            }
            if ill {
                let back = fresh.iter().filter(|n| !queue.removed.remove(n));
                let back: Vec<u64> = back.copied().collect();
                let records = fresh.iter().map(|n| queue.records.remove(n).expect("listed just now"));
                let records: Vec<SpoolRecord> = records.filter(|r| back.contains(&r.number)).collect();
                news.push(News::GivenBack(SpoolQueue(n as u64), records));
                continue;
            }
            let count = 1 + rng.below(fresh.len());
            for number in &fresh[..count] {
                if let Some(id) = id_of(&queue.records[number]) {
                    ledger.on_disk.insert((id.chan, id.n));
                }
            }
            queue.synced = fresh[count - 1];
            news.push(News::Synced(SpoolQueue(n as u64), fresh[count - 1]));
        }
        if rng.chance(pace) {
            for ask in std::mem::take(&mut s.asks) {
                let queue = &s.queues[ask.queue];
                let id = SpoolQueue(ask.queue as u64);
                if ill && rng.chance(50) {
                    news.push(News::ReadFailed(id));
                    continue;
                }
                let there = queue.records.range(ask.after + 1..);
                let there = there.filter(|(n, _)| **n <= queue.synced && !queue.removed.contains(n));
                let (mut records, mut bytes, mut end) = (Vec::new(), 0, true);
                for (_, record) in there {
                    if bytes >= ask.bytes || (!records.is_empty() && rng.chance(10)) {
                        end = false;
                        break;
                    }
                    bytes += record.body.len() + 100;
                    let at_us = s.ages.get(&(ask.queue, record.number)).copied().unwrap_or(now_us);
                    let aged = now_us - at_us > s.age_max_us;
                    if let Some(id) = id_of(record).filter(|_| aged) {
                        ledger.chan(id.chan).excused.insert(id.n);
                    }
                    records.push(SpoolRecord { aged, ..record.clone() });
                }
                news.push(News::Records(id, records, end));
            }
        }
        // Removals are written behind everything that was appended before them.
        if s.queues.iter().all(|q| q.unsynced().next().is_none()) && rng.chance(50) {
            s.queues.iter_mut().for_each(Queue::purge);
        }
        for news in &news {
            match news {
                News::GivenBack(queue, records) => s.note("gives back", queue.0 as usize, records),
                News::Records(queue, records, _) => s.note("has read", queue.0 as usize, records),
                News::Synced(queue, upto) => {
                    s.notes.push(format!("disk has synced queue {} up to {upto}", queue.0))
                }
                News::ReadFailed(_) => {}
            }
        }
        news
    }

    /// Everything that was appended is synced, unless it is ill: the end of a drain.
    pub fn sync_all(&self, now_us: i64, ledger: &mut Ledger) -> Vec<News> {
        let before = std::mem::replace(&mut self.0.borrow_mut().pace, 100);
        let mut all = Vec::new();
        let mut rng = Rng::new(0);
        for _ in 0..1000 {
            all.extend(self.work(now_us, &mut rng, ledger));
            if self.0.borrow().queues.iter().all(|q| q.unsynced().next().is_none()) {
                break;
            }
        }
        self.0.borrow_mut().pace = before;
        all
    }

    /// The power goes, or the store is closed in peace: what is left, as queues and as the messages in them with their upstream's name.
    pub fn crash(&self, in_peace: bool) -> (Vec<SpoolFound>, Vec<(Rc<str>, Id)>) {
        let mut s = self.0.borrow_mut();
        s.asks.clear();
        let (mut found, mut left, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        for (n, queue) in s.queues.iter_mut().enumerate() {
            queue.records.split_off(&(queue.synced + 1));
            if in_peace {
                queue.purge();
            }
            queue.removed.clear();
            let ids = queue.records.values().filter_map(id_of);
            left.extend(ids.map(|id| (Rc::clone(&queue.key.upstream), id)));
            let records = queue.records.len() as u64;
            notes.push((n, queue.records.values().cloned().collect::<Vec<_>>()));
            found.push(SpoolFound { queue: SpoolQueue(n as u64), key: queue.key.clone(), records });
        }
        for (n, records) in notes {
            s.note("keeps", n, &records);
        }
        (found.into_iter().filter(|f| f.records > 0).collect(), left)
    }
}

impl Queue {
    fn unsynced(&self) -> impl Iterator<Item = u64> {
        self.records.range(self.synced + 1..).map(|(n, _)| *n)
    }

    fn purge(&mut self) {
        for number in std::mem::take(&mut self.removed) {
            self.records.remove(&number);
        }
    }
}

impl Spool for Disk {
    fn queue(&mut self, key: &SpoolKey) -> SpoolQueue {
        let queues = &mut self.0.borrow_mut().queues;
        let index = queues.iter().position(|q| q.key == *key).unwrap_or_else(|| {
            let (records, removed) = (BTreeMap::new(), BTreeSet::new());
            queues.push(Queue { key: key.clone(), next: 1, synced: 0, records, removed });
            queues.len() - 1
        });
        SpoolQueue(index as u64)
    }

    fn append(&mut self, queue: SpoolQueue, publish: &SpoolAppend<'_>) -> Option<u64> {
        if !self.takes() {
            return None;
        }
        let mut s = self.0.borrow_mut();
        let n = queue.0 as usize;
        let queue = &mut s.queues[n];
        let number = queue.next;
        queue.next += 1;
        let record = SpoolRecord {
            number,
            flags: publish.flags,
            method: publish.method.to_vec(),
            header: publish.header.to_vec(),
            body: publish.body.concat(),
            aged: false,
        };
        queue.records.insert(number, record.clone());
        s.ages.insert((n, number), publish.at_us);
        s.note("takes", n, &[record]);
        Some(number)
    }

    fn read(&mut self, queue: SpoolQueue, after: Option<u64>, bytes: usize) {
        let ask = Ask { queue: queue.0 as usize, after: after.unwrap_or(0), bytes };
        let asks = &mut self.0.borrow_mut().asks;
        assert!(asks.iter().all(|a| a.queue != ask.queue), "one read a queue at a time");
        asks.push(ask);
    }

    fn remove(&mut self, queue: SpoolQueue, from: u64, to: u64) {
        let n = queue.0;
        let mut s = self.0.borrow_mut();
        s.notes.push(format!("disk is to remove from queue {n}: {from} to {to}"));
        let queue = &mut s.queues[n as usize];
        for number in from..=to {
            assert!(queue.records.contains_key(&number), "record {number} is removed and was never there");
            assert!(queue.removed.insert(number), "record {number} is removed twice");
        }
    }

    fn flush(&mut self) -> bool {
        true
    }

    fn takes(&self) -> bool {
        let s = self.0.borrow();
        !s.ill && s.queues.iter().map(|q| q.records.len()).sum::<usize>() < s.records_max
    }
}
