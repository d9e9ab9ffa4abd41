//! A queue of the spool: whose it is, and which of its records still wait.
//!
//! ```text
//! seq:     ──── done ────▶ watermark                          next ▶
//! groups:                  [▮▯▮▮] [gone] [▮▮▮▮▮▮▮▮] [▮▮ tail]
//! ```
//! Records lie in groups, one stored value each, so that the store sees few and large operations. A group leaves the store when
//! all of it is done; until the watermark has passed it, its mark stays, so that a salvage does not raise it from the dead.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::block::{self, Head, Kind, Seed};
use super::report::QueueReport;
use crate::wire::num::{u64_of, usize_clamped, usize_of};

/// Whose records: never a credential, only what tells one login from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueKey {
    /// The upstream's name in the configuration.
    pub upstream: String,
    /// The virtual host.
    pub vhost: String,
    /// The user's name.
    pub user: String,
    /// What tells those who have no name from each other; of others zeros, or, in an older format, a salted hash of the login.
    pub identity: [u8; 32],
    /// It goes before the other queue of the same login.
    pub ahead: bool,
}

/// A queue in this spool. Never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// Why brokers have refused records that wait, by queue and number.
pub(super) type Refusals = BTreeMap<(QueueId, u64), Arc<str>>;

impl QueueKey {
    /// Length-prefixed texts, then the hash, then an octet if it goes ahead.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for text in [&self.upstream, &self.vhost, &self.user] {
            out.extend_from_slice(&u64_of(text.len()).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&self.identity);
        if self.ahead {
            out.push(1);
        }
        out
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut text = || {
            let (len, rest) = bytes.split_first_chunk()?;
            let (text, rest) = rest.split_at_checked(usize_clamped(u64::from_le_bytes(*len)))?;
            bytes = rest;
            String::from_utf8(text.to_vec()).ok()
        };
        let (upstream, vhost, user) = (text()?, text()?, text()?);
        let (identity, rest) = bytes.split_first_chunk()?;
        let ahead = match rest {
            [] => false,
            [1] => true,
            _ => return None,
        };
        Some(Self { upstream, vhost, user, identity: *identity, ahead })
    }
}

/// A set of a group's records, by their place in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u8>);

impl Bits {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn has(&self, n: u64) -> bool {
        self.0.get(usize_clamped(n / 8)).is_some_and(|byte| byte & (1 << (n % 8)) != 0)
    }

    /// Whether it was not there.
    pub(super) fn add(&mut self, n: u64) -> bool {
        let at = usize_clamped(n / 8);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        let Some(byte) = self.0.get_mut(at) else { return false };
        let had = *byte & (1 << (n % 8)) != 0;
        *byte |= 1 << (n % 8);
        !had
    }
}

/// Records that are one stored value, numbered without gaps from the group's first.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    /// Numbers it spans.
    pub(super) count: u64,
    /// Octets of the value.
    pub(super) bytes: u64,
    /// When its first record was accepted.
    pub(super) oldest_us: u64,
    pub(super) done: Bits,
    /// How many are not done; none: the group is gone, this is its mark.
    pub(super) left: u64,
}

/// A queue's state in memory.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) key: QueueKey,
    /// The number that the next record gets.
    pub(super) next: u64,
    /// By first number.
    pub(super) groups: BTreeMap<u64, Group>,
    pub(super) records: u64,
    /// Octets that its values take in the store.
    pub(super) charge: u64,
}

/// What a removal changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) records: u64,
    /// Groups that have new marks, by first number.
    pub(super) marked: Vec<u64>,
    /// Of these, those that are empty now.
    pub(super) emptied: Vec<u64>,
}

impl Queue {
    pub(super) fn new(key: QueueKey, next: u64) -> Self {
        Self { key, next, groups: BTreeMap::new(), records: 0, charge: 0 }
    }

    /// The lowest number that is not done.
    pub(super) fn watermark(&self) -> u64 {
        self.groups.iter().find(|(_, g)| g.left > 0).map_or(self.next, |(first, _)| *first)
    }

    /// When the oldest live group was begun.
    pub(super) fn oldest_us(&self) -> Option<u64> {
        self.groups.values().find(|g| g.left > 0).map(|g| g.oldest_us)
    }

    /// Told to others.
    pub(super) fn report(&self, queue: QueueId) -> QueueReport {
        QueueReport {
            queue,
            key: self.key.clone(),
            records: self.records,
            bytes: self.charge,
            oldest_us: self.oldest_us(),
            refused: BTreeMap::new(),
        }
    }

    /// The group that holds `seq`.
    pub(super) fn group_of(&self, seq: u64) -> Option<(u64, &Group)> {
        self.groups
            .range(..=seq)
            .next_back()
            .filter(|(first, g)| seq - *first < g.count)
            .map(|(f, g)| (*f, g))
    }

    /// Adds or replaces a group.
    pub(super) fn put(&mut self, first: u64, group: Group) {
        self.next = self.next.max(first + group.count);
        self.drop_group(first);
        self.records += group.left;
        self.charge += if group.left > 0 { charge(group.bytes) } else { 0 };
        self.groups.insert(first, group);
    }

    fn drop_group(&mut self, first: u64) {
        if let Some(old) = self.groups.remove(&first) {
            self.records = self.records.saturating_sub(old.left);
            if old.left > 0 {
                self.charge = self.charge.saturating_sub(charge(old.bytes));
            }
        }
    }

    /// Marks the numbers from `from` to `to`, both included, as done.
    pub(super) fn remove(&mut self, from: u64, to: u64) -> Removed {
        let mut changed = Removed::default();
        let start = self.group_of(from).map_or(from, |(first, _)| first);
        for (first, group) in self.groups.range_mut(start..=to.max(start)) {
            let mut marked = 0;
            for seq in from.max(*first)..=to.min(first.saturating_add(group.count).saturating_sub(1)) {
                marked += u64::from(group.left > 0 && group.done.add(seq - first));
            }
            if marked == 0 {
                continue;
            }
            group.left = group.left.saturating_sub(marked);
            changed.records += marked;
            changed.marked.push(*first);
            if group.left == 0 {
                changed.emptied.push(*first);
                self.charge = self.charge.saturating_sub(charge(group.bytes));
            }
        }
        self.records = self.records.saturating_sub(changed.records);
        changed
    }

    /// Forgets the marks below the watermark, and tells which.
    pub(super) fn trim(&mut self) -> Vec<u64> {
        let watermark = self.watermark();
        let passed: Vec<u64> = self.groups.range(..watermark).map(|(first, _)| *first).collect();
        for first in &passed {
            self.groups.remove(first);
        }
        passed
    }

    /// The block that tells of this queue.
    pub(super) fn block(&self, id: QueueId, seed: Seed) -> Vec<u8> {
        let head = Head {
            kind: Kind::Queue,
            flags: 0,
            queue: id.0,
            seq: self.watermark(),
            at: self.next,
            lane: 0,
            lengths: [0; 3],
        };
        block::sealed(&head, &self.key.encode(), seed)
    }

    /// The queue that a block tells of, empty.
    pub(super) fn of_block(head: &Head, payload: &[u8]) -> Option<(QueueId, Self)> {
        let key = QueueKey::decode(payload)?;
        (head.kind == Kind::Queue).then(|| (QueueId(head.queue), Self::new(key, head.at)))
    }
}

/// The block that tells which records of a group are done.
pub(super) fn done_block(queue: QueueId, first: u64, group: &Group, seed: Seed) -> Vec<u8> {
    let head = Head {
        kind: Kind::Done,
        flags: 0,
        queue: queue.0,
        seq: first,
        at: group.count,
        lane: 0,
        lengths: [0; 3],
    };
    block::sealed(&head, group.done.bytes(), seed)
}

/// Octets that a value of this length takes in the store: its pages are powers of two of 4 KiB, small values share one.
pub(super) fn charge(bytes: u64) -> u64 {
    const PAGE: u64 = 4096;
    const OVERHEAD: u64 = 64;
    let whole = bytes + OVERHEAD;
    if whole < PAGE { whole * 4 / 3 } else { whole.next_power_of_two().max(PAGE) }
}

/// Octets of a group's value at most, if it has more than one record: a page of 256 KiB with what the store adds.
pub(super) const GROUP_MAX: usize = (256 << 10) - 1024;
/// A group shorter than this is written again with what comes next, so that single records do not lie alone.
pub(super) const TAIL_MAX: usize = usize_of(32 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> QueueKey {
        QueueKey {
            upstream: "default".into(),
            vhost: "/".into(),
            user: "app".into(),
            identity: [3; 32],
            ahead: false,
        }
    }

    fn group(count: u64) -> Group {
        Group { count, bytes: 100, left: count, ..Group::default() }
    }

    #[test]
    fn a_key_comes_back_from_its_block() {
        let queue = Queue::new(key(), 17);
        let block = queue.block(QueueId(5), Seed(1));
        let head = block::head(&block, Seed(1)).unwrap();
        let (id, back) = Queue::of_block(&head, block::payload(&block, &head, Seed(1)).unwrap()).unwrap();
        assert_eq!((id, back.key, back.next), (QueueId(5), key(), 17));
        let ahead = QueueKey { ahead: true, ..key() };
        assert_eq!(QueueKey::decode(&ahead.encode()), Some(ahead));
        for cut in 0..key().encode().len() {
            assert_eq!(QueueKey::decode(&key().encode()[..cut]), None);
        }
    }

    #[test]
    fn the_watermark_passes_what_is_done_and_only_that() {
        let mut queue = Queue::new(key(), 10);
        for first in [10, 14, 18] {
            queue.put(first, group(4));
        }
        assert_eq!((queue.records, queue.watermark()), (12, 10));
        let removed = queue.remove(14, 18);
        assert_eq!(removed, Removed { records: 5, marked: vec![14, 18], emptied: vec![14] });
        assert_eq!((queue.watermark(), queue.trim()), (10, vec![]));
        assert_eq!(queue.remove(14, 18), Removed::default());
        queue.remove(1, 13);
        assert_eq!((queue.records, queue.watermark()), (3, 18));
        assert_eq!(queue.trim(), [10, 14]);
        queue.remove(0, u64::MAX);
        assert_eq!((queue.records, queue.charge, queue.watermark()), (0, 0, 22));
    }

    #[test]
    fn a_longer_tail_replaces_the_shorter_one() {
        let mut queue = Queue::new(key(), 1);
        queue.put(1, group(2));
        queue.put(1, Group { bytes: 5000, ..group(5) });
        assert_eq!((queue.records, queue.next, queue.charge), (5, 6, 8192));
    }
}
