//! `umbel spool replay`: what waits in a spool that nobody runs on, published over one connection with confirms.
//!
//! A record leaves the disk when the broker has confirmed it, and not before; what no queue takes, or the broker refuses, stays.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::batch::{Batch, Fate};
use super::clock::{now_us, wall_us};
use super::destination::Destination;
use super::publisher::Publisher;
use super::spool::{Asks, Custody, QueueReport, Record, Selection, asks};
use crate::session::{Authored, Decision, Judge, Now, PublishView, SessionFacts};
use crate::wire::num::usize_clamped;
use crate::wire::{ContentHeader, method};

/// Octets read from the spool, and on their way, at a time.
const READ_BYTES: u64 = 1 << 20;
/// How often a rate is looked at.
const PACE: Duration = Duration::from_millis(100);

/// Where to, by an upstream's name; the error says why there is no way.
pub type WhereTo<'a> = Box<dyn Fn(&str) -> Result<Destination, String> + 'a>;

/// What is to be replayed, and where to.
pub struct Replay<'a> {
    /// The spool's directory.
    pub path: &'a Path,
    /// What of it.
    pub selection: Selection,
    /// Where to.
    pub destination: WhereTo<'a>,
    /// Asked whether time has run out for a record (SPEC P4).
    pub judge: Option<Box<dyn Judge>>,
    /// Messages a second at most.
    pub rate: Option<u64>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Published, confirmed, and gone from the spool.
    pub confirmed: u64,
    /// Their time had run out: what the policy says was done instead.
    pub expired: u64,
    /// Still there: why, and how many.
    pub kept: BTreeMap<String, u64>,
    /// It was not brought to its end: why.
    pub stopped: Option<String>,
}

impl Replay<'_> {
    /// Does it, in order, queue by queue.
    pub fn run(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => runtime.block_on(self.all(&mut outcome)),
            Err(error) => Err(error.to_string()),
        };
        outcome.stopped = result.err();
        outcome
    }

    async fn all(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        let mut custody = Custody::take(self.path, now_us()).map_err(|e| e.to_string())?;
        let queues: Vec<QueueReport> =
            custody.queues().into_iter().filter(|q| self.selection.has_queue(q)).collect();
        let mut result = Ok(());
        for queue in &queues {
            result = self.queue(&mut custody, queue, outcome).await;
            if result.is_err() {
                break;
            }
        }
        let left = custody.leave(now_us()).map_err(|e| e.to_string());
        result.and(left)
    }

    async fn queue(
        &mut self,
        custody: &mut Custody,
        queue: &QueueReport,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let mut publisher: Option<Publisher> = None;
        let (mut after, mut end) = (0, false);
        while !end {
            let (records, last) = custody.read(queue.queue, after, READ_BYTES).map_err(|e| e.to_string())?;
            (after, end) = (records.last().map_or(after, |r| r.seq), last || records.is_empty());
            let chosen: Vec<&Record> = records.iter().filter(|r| self.selection.has(r)).collect();
            let at_once = self.rate.map_or(chosen.len(), |r| usize_clamped(r.div_ceil(10))).max(1);
            for records in chosen.chunks(at_once) {
                let due = tokio::time::sleep(if self.rate.is_some() { PACE } else { Duration::ZERO });
                let publisher = match &mut publisher {
                    Some(publisher) => publisher,
                    none => {
                        let destination = (self.destination)(&queue.key.upstream)?;
                        none.insert(Publisher::connect(&destination, &queue.key.vhost).await?)
                    }
                };
                self.records(custody, queue, records, publisher, outcome).await?;
                due.await;
            }
        }
        if let Some(publisher) = publisher {
            publisher.close().await;
        }
        Ok(())
    }

    async fn records(
        &mut self,
        custody: &mut Custody,
        queue: &QueueReport,
        records: &[&Record],
        publisher: &mut Publisher,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let mut batch = Batch::default();
        let mut seqs = Vec::new();
        let mut gone = Vec::new();
        for record in records {
            let method = match asks(record) {
                Asks::Declares(payload) => {
                    publisher.declare(&[payload]).await?;
                    gone.push(record.seq);
                    continue;
                }
                Asks::Publishes(payload) => publisher.way(record, payload).await?,
            };
            match self.expired(queue, record, method) {
                None => {
                    batch.push(method, record.header(), record.body());
                    seqs.push(record.seq);
                }
                // It does not overtake those before it; what goes instead of it need not either.
                Some(instead) => match publisher.author(&instead).await? {
                    Fate::Confirmed => {
                        outcome.expired += 1;
                        gone.push(record.seq);
                    }
                    Fate::Kept(why) => *outcome.kept.entry(why).or_default() += 1,
                },
            }
        }
        let (fates, result) = publisher.publish(&batch).await;
        for (seq, fate) in seqs.into_iter().zip(fates) {
            match fate {
                Some(Fate::Confirmed) => {
                    outcome.confirmed += 1;
                    gone.push(seq);
                }
                Some(Fate::Kept(why)) => *outcome.kept.entry(why).or_default() += 1,
                None => {}
            }
        }
        // Whatever stopped it: what was confirmed is not published again.
        custody.remove(queue.queue, &gone, now_us()).map_err(|e| e.to_string())?;
        result
    }

    /// What goes instead of a record whose time has run out.
    fn expired(&mut self, queue: &QueueReport, record: &Record, method: &[u8]) -> Option<Vec<Authored>> {
        let judge = self.judge.as_mut()?;
        let (_, args) = method::split(method).ok()?;
        let publish = method::publish(args).ok()?;
        let header = ContentHeader::parse(record.header()).ok()?;
        let body = [record.body()];
        let view = PublishView {
            session: SessionFacts {
                vhost: queue.key.vhost.as_bytes(),
                user: &queue.key.user,
                peer: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
                confirms: false,
                frame_max: 0,
            },
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            mandatory: false,
            header: &header,
            header_payload: record.header(),
            body: &body,
        };
        match judge.again(Now { ms: 0, wall_us: wall_us() }, &view) {
            Decision::Settle(settled) => Some(settled.instead),
            Decision::Pass | Decision::Edit(_) => None,
        }
    }
}

impl Outcome {
    /// How many of the selection are still in the spool, as far as is known.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.kept.values().sum()
    }
}
