//! The queues as a store holds them, read once when it is opened; what does not pass its check is found here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::block::{self, Kind, Seed, Step, Walk};
use super::queue::{Bits, Group, Queue, QueueId};
use super::store::{Store, StoreError};
use crate::wire::num::u64_of;

/// A store's content, without the records.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) queues: BTreeMap<QueueId, Queue>,
    /// Groups whose marks are newer here than in the store.
    pub(super) dirty: BTreeSet<(QueueId, u64)>,
    /// Records that failed their check, not counted before.
    pub(super) unsound: u64,
    /// The groups they were in.
    pub(super) damaged: Vec<(QueueId, u64, Bytes)>,
}

/// Groups with damage that are kept in memory until they are written to the quarantine.
const DAMAGED_MAX: usize = 64;

impl Index {
    /// Reads all of the store.
    pub(super) fn of(store: &Store, seed: Seed) -> Result<Self, StoreError> {
        let mut index = Self::default();
        for (_, bytes) in store.queues()? {
            index.queue(&bytes, seed);
        }
        let mut done: BTreeMap<(u64, u64), (u64, Bits)> = BTreeMap::new();
        for (key, bytes) in store.done()? {
            let Some(head) = block::head(&bytes, seed).filter(|h| h.kind == Kind::Done) else { continue };
            let Some(bits) = block::payload(&bytes, &head, seed) else { continue };
            done.insert(key, (head.at, Bits::of(bits)));
        }
        store.each_group(|key, bytes| {
            let marks = done.remove(&key).map(|(_, bits)| bits).unwrap_or_default();
            index.group(key, bytes, marks, seed);
        })?;
        // Marks without a group: it is done, and the watermark has not passed it.
        for ((queue, first), (count, bits)) in done {
            if let Some(queue) = index.queues.get_mut(&QueueId(queue)) {
                queue.put(first, Group { count, done: bits, ..Group::default() });
            }
        }
        for (id, queue) in &mut index.queues {
            for first in queue.trim() {
                index.dirty.insert((*id, first));
            }
        }
        Ok(index)
    }

    fn queue(&mut self, bytes: &[u8], seed: Seed) {
        let Some(head) = block::head(bytes, seed) else { return };
        let Some((id, queue)) = block::payload(bytes, &head, seed).and_then(|p| Queue::of_block(&head, p))
        else {
            return;
        };
        self.queues.entry(id).or_insert(queue);
    }

    fn group(&mut self, key: (u64, u64), bytes: &Bytes, mut done: Bits, seed: Seed) {
        let (id, first) = (QueueId(key.0), key.1);
        let mut sound = BTreeSet::new();
        let (mut last, mut oldest_us, mut lost) = (first, None, false);
        for step in Walk::new(bytes, seed) {
            match step {
                Step::Sound(head, at) if head.kind == Kind::Queue => {
                    if !self.queues.contains_key(&id) {
                        self.queue(bytes.get(at..).unwrap_or_default(), seed);
                    }
                }
                Step::Sound(head, _)
                    if head.kind == Kind::Record && head.queue == id.0 && head.seq >= first =>
                {
                    sound.insert(head.seq);
                    last = last.max(head.seq);
                    oldest_us = oldest_us.or(Some(head.at));
                }
                Step::Unsound(head, _) if head.kind == Kind::Record && head.seq >= first => {
                    lost = true;
                    last = last.max(head.seq);
                }
                Step::Sound(..) | Step::Unsound(..) | Step::Lost(..) => lost = true,
            }
        }
        let Some(queue) = self.queues.get_mut(&id) else {
            self.unsound += u64_of(sound.len());
            self.keep(id, first, bytes);
            return;
        };
        let count = last - first + 1;
        let mut gone = 0;
        for seq in first..=last {
            if !sound.contains(&seq) && done.add(seq - first) {
                gone += 1;
            }
        }
        let left = (0..count).map(|n| u64::from(!done.has(n))).sum();
        queue.put(
            first,
            Group { count, bytes: u64_of(bytes.len()), oldest_us: oldest_us.unwrap_or_default(), done, left },
        );
        if gone > 0 || left == 0 {
            self.dirty.insert((id, first));
        }
        self.unsound += gone;
        if lost {
            self.keep(id, first, bytes);
        }
    }

    fn keep(&mut self, id: QueueId, first: u64, bytes: &Bytes) {
        if self.damaged.len() < DAMAGED_MAX {
            self.damaged.push((id, first, bytes.clone()));
        }
    }
}
