//! Drafts: groups that are being written, and what one commit makes of them and of the removals.

use std::collections::{BTreeMap, BTreeSet};

use super::super::queue::{Bits, Group, Queue, QueueId, done_block};
use super::super::store::Batch;
use super::Keeper;
use crate::wire::num::u64_of;

/// A group that is being written.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) value: Vec<u8>,
    /// Where in `value` the records begin that no commit has held yet, and the first one's number.
    pub(super) fresh_at: usize,
    pub(super) fresh: u64,
    pub(super) oldest_us: u64,
    /// Removed before they were written.
    pub(super) done: Bits,
    pub(super) done_count: u64,
}

/// The end of a queue's last group, if it is short enough to be written again.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) first: u64,
    pub(super) value: Vec<u8>,
}

impl Draft {
    pub(super) fn new(value: Vec<u8>, first: u64, oldest_us: u64) -> Self {
        let fresh_at = value.len();
        Self {
            first,
            count: 0,
            value,
            fresh_at,
            fresh: first,
            oldest_us,
            done: Bits::default(),
            done_count: 0,
        }
    }

    pub(super) fn longer(tail: Tail, queue: &Queue) -> Self {
        let group = queue.groups.get(&tail.first);
        let mut draft = Self::new(tail.value, tail.first, group.map_or(0, |g| g.oldest_us));
        draft.count = group.map_or(0, |g| g.count);
        draft.fresh = draft.first + draft.count;
        draft
    }
}

/// What follows a commit.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) appended: Vec<(QueueId, u64, u64)>,
    /// For each group of the batch: its queue, and where what is new in it begins.
    pub(super) fresh: Vec<(QueueId, usize)>,
}

impl Plan {
    fn appended(&mut self, id: QueueId, from: u64, to: u64) {
        match self.appended.last_mut() {
            Some((q, _, end)) if *q == id && *end + 1 == from => *end = to,
            _ => self.appended.push((id, from, to)),
        }
    }
}

impl Keeper {
    pub(super) fn plan(&mut self, staged: BTreeMap<QueueId, Vec<Draft>>) -> (Batch, Plan) {
        let seed = self.seed();
        let (mut batch, mut plan) = (Batch::default(), Plan::default());
        let mut touched: BTreeSet<QueueId> = self.dirty.iter().map(|(id, _)| *id).collect();
        for (id, drafts) in staged {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            touched.insert(id);
            for draft in drafts {
                plan.appended(id, draft.fresh, draft.first + draft.count - 1);
                let old = queue.groups.get(&draft.first).cloned().unwrap_or_default();
                let mut done = draft.done;
                let marked =
                    (0..old.count).filter(|n| old.done.has(*n)).map(|n| u64::from(done.add(n))).sum::<u64>();
                let left = draft.count - draft.done_count - marked;
                if left == 0 && old.count == 0 {
                    // All of it was removed before it was written: only the mark is.
                    let whole = Group { count: draft.count, done, ..Group::default() };
                    queue.put(draft.first, whole);
                    self.dirty.insert((id, draft.first));
                    continue;
                }
                if left < draft.count {
                    self.dirty.insert((id, draft.first));
                }
                let bytes = u64_of(draft.value.len());
                queue.put(
                    draft.first,
                    Group { count: draft.count, bytes, oldest_us: draft.oldest_us, done, left },
                );
                plan.fresh.push((id, draft.fresh_at));
                batch.groups.push(((id.0, draft.first), draft.value));
            }
        }
        for id in touched {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            let mut firsts: Vec<u64> =
                self.dirty.range((id, 0)..=(id, u64::MAX)).map(|(_, first)| *first).collect();
            let empty = firsts.iter().filter(|first| queue.groups.get(first).is_none_or(|g| g.left == 0));
            batch.gone.extend(empty.map(|first| (id.0, *first)));
            batch.passed.extend(queue.trim().into_iter().map(|first| (id.0, first)));
            batch.passed.extend(firsts.extract_if(.., |f| !queue.groups.contains_key(f)).map(|f| (id.0, f)));
            let marks = firsts.iter().filter_map(|f| queue.groups.get(f).map(|g| (*f, g)));
            batch.done.extend(marks.map(|(f, g)| ((id.0, f), done_block(id, f, g, seed))));
            batch.queues.push((id.0, queue.block(id, seed)));
        }
        (batch, plan)
    }
}
