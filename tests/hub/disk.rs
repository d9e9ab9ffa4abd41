//! A disk that gives back what it was given: nothing is lost, sent twice or overtaken by what came later (SPEC D4, D7, D8).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use umbel::session::UpstreamSettings;
use umbel::session::spool::{Spool, SpoolAppend, SpoolKey, SpoolQueue, SpoolRecord};
use umbel::wire::frame::FrameKind;

use super::stage::{Stage, upstream};
use crate::kit;

#[derive(Default)]
struct Queue {
    ahead: bool,
    last: u64,
    synced: u64,
    records: BTreeMap<u64, SpoolRecord>,
    asked: Option<u64>,
}

/// What is asked of it, done when the test says so.
#[derive(Clone, Default)]
struct Disk(Rc<RefCell<(Vec<Queue>, bool)>>);

impl Disk {
    fn is_ill(&self, ill: bool) {
        self.0.borrow_mut().1 = ill;
    }

    fn queues(&self) -> usize {
        self.0.borrow().0.len()
    }

    /// The names of the messages that it has, ahead of all others or not.
    fn names(&self, ahead: bool) -> Vec<String> {
        let queues = &self.0.borrow().0;
        let records = queues.iter().filter(|q| q.ahead == ahead).flat_map(|q| q.records.values());
        records.map(|r| kit::message_id(&r.header).unwrap()).collect()
    }

    /// All that it was given is written.
    fn syncs(&self, s: &mut Stage) {
        for n in 0..self.queues() {
            let last = self.0.borrow().0[n].last;
            self.0.borrow_mut().0[n].synced = last;
            s.hub.spool_synced(s.now, SpoolQueue(n as u64), last);
        }
        s.carry();
    }

    /// What it has not written it gives back, and takes nothing more.
    fn fails(&self, s: &mut Stage) {
        self.is_ill(true);
        for n in 0..self.queues() {
            let mut state = self.0.borrow_mut();
            let queue = &mut state.0[n];
            let back = queue.records.split_off(&(queue.synced + 1));
            drop(state);
            s.hub.spool_given_back(s.now, SpoolQueue(n as u64), back.into_values().collect());
        }
        s.carry();
    }

    /// It reads what it was asked for.
    fn reads(&self, s: &mut Stage) {
        for n in 0..self.queues() {
            let mut state = self.0.borrow_mut();
            let queue = &mut state.0[n];
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
        let queues = &mut self.0.borrow_mut().0;
        let n = queues.iter().position(|q| q.ahead == key.ahead).unwrap_or(queues.len());
        if n == queues.len() {
            queues.push(Queue { ahead: key.ahead, ..Queue::default() });
        }
        SpoolQueue(n as u64)
    }

    fn append(&mut self, queue: SpoolQueue, publish: &SpoolAppend<'_>) -> Option<u64> {
        let mut state = self.0.borrow_mut();
        if state.1 {
            return None;
        }
        let queue = &mut state.0[queue.0 as usize];
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
        self.0.borrow_mut().0[queue.0 as usize].asked = Some(after.unwrap_or(0));
    }

    fn remove(&mut self, queue: SpoolQueue, from: u64, to: u64) {
        for number in from..=to {
            let removed = self.0.borrow_mut().0[queue.0 as usize].records.remove(&number);
            assert!(removed.is_some(), "record {number} is removed and was not there");
        }
    }

    fn flush(&mut self) {}

    fn takes(&self) -> bool {
        !self.0.borrow().1
    }
}

fn stage(settings: UpstreamSettings) -> (Stage, Disk) {
    let mut s = Stage::new(vec![settings]);
    let disk = Disk::default();
    s.hub.set_spool(s.now, Box::new(disk.clone()), Vec::new(), None);
    (s, disk)
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

#[test]
fn what_the_disk_gives_back_at_the_end_of_a_drain_is_still_in_memory_and_nowhere_twice() {
    let (mut s, disk) = stage(upstream());
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2"]);
    s.hub.drain(s.now);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    assert_eq!(disk.names(true), ["1", "2"]);
    disk.fails(&mut s);
    assert_eq!(s.hub.spool_the_rest(s.now), 2, "in memory only");
    s.say(lid, 1, &kit::ack(1, false));
    disk.is_ill(false);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    assert_eq!((disk.names(true), disk.names(false)), (owned(&["2"]), vec![]));
}

#[test]
fn what_the_disk_gave_back_is_written_before_what_came_after_it_and_waited() {
    let (mut s, disk) = stage(UpstreamSettings { window_messages: 1, ..upstream() });
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    disk.syncs(&mut s);
    let lid = s.link();
    s.say(lid, 1, &kit::ack(1, false));
    s.publish(sid, "", "q", false, "3");
    disk.fails(&mut s);
    s.publish(sid, "", "q", false, "4");
    disk.is_ill(false);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    assert_eq!((disk.names(true), disk.names(false)), (vec![], owned(&["2", "3", "4"])));
}

#[test]
fn a_record_that_moves_ahead_stays_where_it_was_until_it_is_written_there() {
    let (mut s, disk) = stage(UpstreamSettings { durable: true, ..upstream() });
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    disk.syncs(&mut s);
    disk.is_ill(true);
    s.publish(sid, "", "q", false, "2");
    disk.is_ill(false);
    s.hub.drain(s.now);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    assert_eq!((disk.names(true), disk.names(false)), (owned(&["1", "2"]), owned(&["1"])));
    disk.fails(&mut s);
    assert_eq!((disk.names(true), disk.names(false)), (vec![], owned(&["1"])));
    disk.is_ill(false);
    assert_eq!(s.hub.spool_the_rest(s.now), 0);
    disk.syncs(&mut s);
    s.hub.flush_spool();
    assert_eq!((disk.names(true), disk.names(false)), (owned(&["1", "2"]), vec![]));
}

#[test]
fn a_durable_publish_that_its_broker_did_not_take_is_not_read_from_disk_while_it_waits_to_go_again() {
    let (mut s, disk) = stage(UpstreamSettings { durable: true, window_messages: 2, ..upstream() });
    let sid = s.client("pw");
    s.publish(sid, "", "q", false, "1");
    s.publish(sid, "", "q", false, "2");
    disk.syncs(&mut s);
    s.publish(sid, "", "q", false, "3");
    disk.fails(&mut s);
    let lid = s.link();
    assert_eq!(s.published(lid), ["1", "2"]);
    s.say(lid, 1, &kit::ack(2, false));
    s.publish(sid, "", "q", false, "4");
    s.say(lid, 1, &kit::nack(1, false));
    disk.is_ill(false);
    let mut heard = Vec::new();
    let mut tags = BTreeMap::from([(1, 2)]);
    for _ in 0..40 {
        s.later(100);
        disk.reads(&mut s);
        for frame in s.heard(lid) {
            if frame.kind == FrameKind::Header {
                heard.push(kit::message_id(&frame.payload).unwrap());
                let tag = tags.entry(frame.channel).or_insert(0);
                *tag += 1;
                s.say(lid, frame.channel, &kit::ack(*tag, false));
            }
        }
    }
    assert_eq!(heard, ["1", "3", "4"], "each of them once");
    assert_eq!(s.hub.unsettled(), 0);
}
