//! Finds blocks in a store's file without the store: what a repair rolled back, or all that a damaged file still holds.
//!
//! The store writes each value in one piece, uncompressed, so every block lies in the file as it was written. A block found may be
//! an old copy; what tells whether a record is still wanted are the highest watermark and all the marks found for its queue
//! (neither is ever taken back).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::block::{self, HEAD, Head, Kind, MAGIC, Seed};
use super::disk::Media;
use super::queue::{Bits, GROUP_MAX, Queue, QueueId};
use super::store::{Batch, Store, StoreError};
use crate::wire::num::{u64_of, usize_clamped};

/// What lies in a file.
#[derive(Debug, Default)]
pub(super) struct Finds {
    /// Queues, each with its highest watermark.
    pub(super) queues: BTreeMap<QueueId, (Queue, u64)>,
    /// Where records lie.
    records: BTreeMap<(QueueId, u64), (u64, usize)>,
    /// Where the heads of records lie whose payload is damaged.
    unsound: BTreeMap<(QueueId, u64), u64>,
    done: BTreeSet<(QueueId, u64)>,
}

/// Octets looked at in one go.
const WINDOW: usize = 4 << 20;

/// Looks through all of `media`.
pub(super) fn scan(media: &dyn Media, seed: Seed) -> io::Result<Finds> {
    let len = media.len()?;
    let mut finds = Finds::default();
    let mut at = 0;
    let mut window = vec![0; WINDOW];
    while at < len {
        let n = usize_clamped(len - at).min(WINDOW);
        let Some(bytes) = window.get_mut(..n) else { break };
        media.read(at, bytes)?;
        // A block that runs over the window's end is found again by the next window.
        let mut next = at + u64_of(n.saturating_sub(MAGIC.len() - 1).max(1));
        if at + u64_of(n) == len {
            next = len;
        }
        let mut skip = 0;
        for place in memchr::memmem::find_iter(bytes, &MAGIC) {
            if place < skip {
                continue;
            }
            let from = at + u64_of(place);
            if let Some(end) = finds.look(media, from, len, seed)? {
                skip = usize_clamped(end - at);
                next = next.max(end);
            }
        }
        at = next;
    }
    Ok(finds)
}

impl Finds {
    /// Reads the block at `from`; where a sound one is, its end.
    fn look(&mut self, media: &dyn Media, from: u64, len: u64, seed: Seed) -> io::Result<Option<u64>> {
        let mut head_bytes = [0; HEAD];
        if from + u64_of(HEAD) > len {
            return Ok(None);
        }
        media.read(from, &mut head_bytes)?;
        let Some(head) = block::head(&head_bytes, seed) else { return Ok(None) };
        let end = from + u64_of(head.block_len());
        let key = (QueueId(head.queue), head.seq);
        let bytes = if end <= len { read(media, from, head.block_len())? } else { Vec::new() };
        let Some(payload) = block::payload(&bytes, &head, seed) else {
            if head.kind == Kind::Record {
                self.unsound.insert(key, from);
            }
            return Ok(None);
        };
        match head.kind {
            Kind::Record => {
                self.records.insert(key, (from, head.block_len()));
            }
            Kind::Queue => self.queue(&head, payload),
            Kind::Done => {
                let bits = Bits::of(payload);
                self.done.extend((0..head.at).filter(|n| bits.has(*n)).map(|n| (key.0, head.seq + n)));
            }
        }
        Ok(Some(end))
    }

    fn queue(&mut self, head: &Head, payload: &[u8]) {
        let Some((id, queue)) = Queue::of_block(head, payload) else { return };
        let (known, watermark) = self.queues.entry(id).or_insert((queue, head.seq));
        known.next = known.next.max(head.at);
        *watermark = (*watermark).max(head.seq);
    }

    /// Leaves only what `from` says is wanted: for each queue, the lowest number.
    pub(super) fn keep_from(&mut self, from: impl Fn(QueueId) -> u64) {
        let wanted = |key: &(QueueId, u64)| {
            key.1 >= from(key.0)
                && !self.done.contains(key)
                && self.queues.get(&key.0).is_some_and(|(_, watermark)| key.1 >= *watermark)
        };
        self.records.retain(|key, _| wanted(key));
        self.unsound.retain(|key, _| wanted(key) && !self.records.contains_key(key));
        for (id, seq) in self.records.keys().chain(self.unsound.keys()) {
            if let Some((queue, _)) = self.queues.get_mut(id) {
                queue.next = queue.next.max(seq + 1);
            }
        }
    }

    /// How many records are left.
    pub(super) fn records(&self) -> u64 {
        u64_of(self.records.len())
    }

    /// Records known only by their heads: queue, number, and the bytes found there.
    pub(super) fn unsound(&self, media: &dyn Media) -> Vec<(QueueId, u64, Vec<u8>)> {
        let len = media.len().unwrap_or(0);
        let bytes = |from: u64| read(media, from, usize_clamped(len.saturating_sub(from)).min(GROUP_MAX));
        self.unsound.iter().map(|((q, seq), from)| (*q, *seq, bytes(*from).unwrap_or_default())).collect()
    }

    /// How many numbers should be there and are not, in no form that is sound.
    pub(super) fn missing(&self) -> u64 {
        let in_queue = |(id, (queue, watermark)): (&QueueId, &(Queue, u64))| {
            let range = (*id, *watermark)..(*id, queue.next.max(*watermark));
            let known = self.records.range(range.clone()).count() + self.done.range(range).count();
            queue.next.saturating_sub(*watermark).saturating_sub(u64_of(known))
        };
        self.queues.iter().map(in_queue).sum()
    }

    /// What is left, read one by one.
    pub(super) fn raise_each<'a>(
        &'a self,
        media: &'a dyn Media,
    ) -> impl Iterator<Item = io::Result<Raised>> + 'a {
        self.records.iter().map(|((queue, seq), (from, len))| {
            Ok(Raised { queue: *queue, seq: *seq, block: read(media, *from, *len)? })
        })
    }
}

/// A record found in a file.
#[derive(Debug)]
pub(super) struct Raised {
    queue: QueueId,
    seq: u64,
    block: Vec<u8>,
}

/// Octets restored in one commit.
const RESTORE_BYTES: usize = 8 << 20;

/// Writes records, which come in order, and their queues into `store`.
pub(super) fn restore(
    raised: impl Iterator<Item = io::Result<Raised>>,
    queues: &BTreeMap<QueueId, (Queue, u64)>,
    store: &Store,
    seed: Seed,
) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    let about = |id: &QueueId| queues.get(id).map(|(queue, _)| queue.block(*id, seed)).unwrap_or_default();
    batch.queues.extend(queues.keys().map(|id| (id.0, about(id))));
    let (mut weight, mut expected) = (0, None);
    for raised in raised {
        let Raised { queue, seq, block } = raised.map_err(StoreError::Io)?;
        let fits = batch.groups.last().is_some_and(|(_, v)| v.len() + block.len() <= GROUP_MAX);
        if expected != Some((queue, seq)) || !fits {
            if weight > RESTORE_BYTES {
                store.commit(&batch)?;
                (batch, weight) = (Batch::default(), 0);
            }
            batch.groups.push(((queue.0, seq), about(&queue)));
        }
        weight += block.len();
        if let Some((_, value)) = batch.groups.last_mut() {
            value.extend_from_slice(&block);
        }
        expected = Some((queue, seq + 1));
    }
    if batch.is_empty() { Ok(()) } else { store.commit(&batch) }
}

fn read(media: &dyn Media, from: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    media.read(from, &mut bytes)?;
    Ok(bytes)
}
