//! A block: what the spool writes, in a form that explains itself wherever it is found.
//!
//! ```text
//! magic 8 │ kind 4 │ flags 4 │ queue 8 │ seq 8 │ at 8 │ lane 8 │ lengths 3 × 4 │ spare 4 │ payload check 8 │ head check 8 │ payload
//! ```
//! Little endian. Both checks are XXH3 with the spool's own secret seed, so that a message body that looks like a block is
//! not one. A head that is sound beside a payload that is not still says whose it was.

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::wire::num::{u32_clamped, u64_of, usize_of};

/// The first bytes of every block.
pub(super) const MAGIC: [u8; 8] = *b"\x89UmbSp1\n";
/// Octets before the payload.
pub(super) const HEAD: usize = 80;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One publish: `seq` its number in the queue, payload: method, header, body.
    Record,
    /// A queue: `seq` its lowest live number, `at` its next one, payload: its key.
    Queue,
    /// Which records of the group that starts at `seq` are done: `at` their count, payload: a bitmap.
    Done,
}

impl Kind {
    const fn code(self) -> u32 {
        match self {
            Self::Record => 1,
            Self::Queue => 2,
            Self::Done => 3,
        }
    }

    const fn of(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Record),
            2 => Some(Self::Queue),
            3 => Some(Self::Done),
            _ => None,
        }
    }
}

/// A block's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) flags: u32,
    pub(super) queue: u64,
    pub(super) seq: u64,
    pub(super) at: u64,
    pub(super) lane: u64,
    /// Lengths of the payload's three parts.
    pub(super) lengths: [u32; 3],
}

impl Head {
    /// Octets of the payload.
    pub(super) fn payload_len(&self) -> usize {
        self.lengths.iter().fold(0_usize, |sum, n| sum.saturating_add(usize_of(*n)))
    }

    /// Octets of the block.
    pub(super) fn block_len(&self) -> usize {
        HEAD.saturating_add(self.payload_len())
    }
}

/// The seed of every check in one spool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(pub(super) u64);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(***)")
    }
}

impl Seed {
    /// The check of some bytes.
    pub(super) fn check(self, bytes: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.0, bytes)
    }
}

/// Appends a block. The payload's check waits for [`seal`]: the data thread copies, the writer thread hashes.
pub(super) fn write(out: &mut Vec<u8>, head: &Head, parts: [&[u8]; 3]) {
    out.extend_from_slice(&MAGIC);
    for n in [head.kind.code(), head.flags] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for n in [head.queue, head.seq, head.at, head.lane] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for part in parts {
        out.extend_from_slice(&u32_clamped(part.len()).to_le_bytes());
    }
    out.extend_from_slice(&[0; 4 + 8 + 8]);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Fills in both checks of the block at the front of `bytes`, and gives its head; `None` where no block is.
pub(super) fn seal(bytes: &mut [u8], seed: Seed) -> Option<Head> {
    let head = head_fields(bytes)?;
    let (front, payload) = bytes.get_mut(..head.block_len())?.split_at_mut_checked(HEAD)?;
    front.get_mut(64..72)?.copy_from_slice(&seed.check(payload).to_le_bytes());
    let (fields, check) = front.split_at_mut_checked(72)?;
    check.copy_from_slice(&seed.check(fields).to_le_bytes());
    Some(head)
}

/// A whole sealed block.
pub(super) fn sealed(head: &Head, payload: &[u8], seed: Seed) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + payload.len());
    write(&mut out, head, [payload, &[], &[]]);
    let _ = seal(&mut out, seed);
    out
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

fn head_fields(bytes: &[u8]) -> Option<Head> {
    if bytes.len() < HEAD || !bytes.starts_with(&MAGIC) {
        return None;
    }
    Some(Head {
        kind: Kind::of(u32_at(bytes, 8)?)?,
        flags: u32_at(bytes, 12)?,
        queue: u64_at(bytes, 16)?,
        seq: u64_at(bytes, 24)?,
        at: u64_at(bytes, 32)?,
        lane: u64_at(bytes, 40)?,
        lengths: [u32_at(bytes, 48)?, u32_at(bytes, 52)?, u32_at(bytes, 56)?],
    })
}

/// The head at the front of `bytes`, if it is sound.
pub(super) fn head(bytes: &[u8], seed: Seed) -> Option<Head> {
    let head = head_fields(bytes)?;
    (u64_at(bytes, 72)? == seed.check(bytes.get(..72)?)).then_some(head)
}

/// The payload of the block at the front of `bytes`, whose head is sound, if it is sound too.
pub(super) fn payload<'a>(bytes: &'a [u8], head: &Head, seed: Seed) -> Option<&'a [u8]> {
    let payload = bytes.get(HEAD..head.block_len())?;
    (u64_at(bytes, 64)? == seed.check(payload)).then_some(payload)
}

/// What a walk over bytes comes upon.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A sound block, from here.
    Sound(Head, usize),
    /// A block whose head is sound and whose payload is not.
    Unsound(Head, usize),
    /// Bytes from here, so many, in which no block is to be found.
    Lost(usize, usize),
}

/// Walks `bytes` block by block. Where there is none, the walk goes on at the next one.
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    seed: Seed,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8], seed: Seed) -> Self {
        Self { bytes, at: 0, seed }
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let from = self.at;
        if let Some(head) = head(rest, self.seed) {
            // A payload that ends elsewhere than its head says is looked into: what follows may be sound.
            if payload(rest, &head, self.seed).is_some() {
                self.at += head.block_len();
                return Some(Step::Sound(head, from));
            }
            self.at += head.block_len().min(next_head(rest, self.seed).unwrap_or(rest.len()));
            return Some(Step::Unsound(head, from));
        }
        let gap = next_head(rest, self.seed).unwrap_or(rest.len());
        self.at += gap;
        Some(Step::Lost(from, gap))
    }
}

/// Where the next sound head stands, after the first octet.
fn next_head(bytes: &[u8], seed: Seed) -> Option<usize> {
    let rest = bytes.get(1..)?;
    memchr::memmem::find_iter(rest, &MAGIC)
        .map(|at| at + 1)
        .find(|at| bytes.get(*at..).is_some_and(|b| head(b, seed).is_some()))
}

/// One publish, as it was spooled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number in its queue: later ones are higher.
    pub seq: u64,
    /// Whose order it keeps: the caller's own number.
    pub lane: u64,
    /// When it was accepted, microseconds of Unix time.
    pub at_us: u64,
    /// The caller's own bits.
    pub flags: u32,
    /// It is older than `max_age`.
    pub aged: bool,
    bytes: Bytes,
    method_len: usize,
    header_len: usize,
}

impl Record {
    /// The basic.publish method frame's payload.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.bytes.get(..self.method_len).unwrap_or_default()
    }

    /// The header frame's payload.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        self.bytes.get(self.method_len..self.method_len + self.header_len).unwrap_or_default()
    }

    /// The body, not cut into frames.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.method_len + self.header_len..).unwrap_or_default()
    }

    /// Octets of the three.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.bytes.len()
    }

    /// The record whose head stands at `at` in `group`, whose payload has been checked.
    pub(super) fn at(group: &Bytes, head: &Head, at: usize, aged: bool) -> Self {
        let [method, header, _] = head.lengths;
        let from = (at + HEAD).min(group.len());
        let to = (from + head.payload_len()).min(group.len());
        Self {
            seq: head.seq,
            lane: head.lane,
            at_us: head.at,
            flags: head.flags,
            aged,
            bytes: group.slice(from..to),
            method_len: usize_of(method),
            header_len: usize_of(header),
        }
    }
}

/// How many blocks there are, sealed or not.
pub(super) fn count(bytes: &[u8]) -> usize {
    let mut at = 0;
    let mut next = || {
        at += bytes.get(at..).and_then(head_fields)?.block_len();
        Some(())
    };
    std::iter::from_fn(&mut next).count()
}

/// The records in blocks that may not be sealed yet; other blocks are left out.
pub(super) fn unsealed(bytes: &[u8]) -> Vec<Record> {
    let bytes = Bytes::copy_from_slice(bytes);
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes.get(at..).and_then(head_fields) {
        if head.kind == Kind::Record {
            records.push(Record::at(&bytes, &head, at, false));
        }
        at = at.saturating_add(head.block_len());
    }
    records
}

/// Octets that a record of such a payload takes.
pub(super) fn record_len(payload: usize) -> u64 {
    u64_of(HEAD.saturating_add(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed(7);

    fn record(seq: u64, body: &[u8]) -> Vec<u8> {
        let head = Head { kind: Kind::Record, flags: 1, queue: 2, seq, at: 3, lane: 4, lengths: [0; 3] };
        let mut out = Vec::new();
        write(&mut out, &head, [b"method", b"header", body]);
        assert_eq!(seal(&mut out, SEED).map(|head| head.block_len()), Some(out.len()));
        out
    }

    fn sound(bytes: &[u8]) -> Vec<u64> {
        Walk::new(bytes, SEED)
            .filter_map(|s| if let Step::Sound(h, _) = s { Some(h.seq) } else { None })
            .collect()
    }

    #[test]
    fn a_record_comes_back_as_its_three_parts() {
        let bytes = Bytes::from(record(9, b"body"));
        let head = head(&bytes, SEED).unwrap();
        let back = Record::at(&bytes, &head, 0, false);
        assert_eq!((back.seq, back.lane, back.at_us, back.flags), (9, 4, 3, 1));
        assert_eq!(
            (back.method(), back.header(), back.body()),
            (&b"method"[..], &b"header"[..], &b"body"[..])
        );
    }

    #[test]
    fn whichever_bit_flips_the_other_records_are_found() {
        let parts = [record(1, b"one"), record(2, b"two"), record(3, b"three")];
        let whole = parts.concat();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let hit = if bit / 8 < parts[0].len() {
                1
            } else if bit / 8 < parts[0].len() + parts[1].len() {
                2
            } else {
                3
            };
            let expected: Vec<u64> = [1, 2, 3].into_iter().filter(|s| *s != hit).collect();
            assert_eq!(sound(&bytes), expected, "bit {bit}");
        }
    }

    #[test]
    fn cut_anywhere_what_is_whole_is_found_and_the_walk_ends() {
        let whole = [record(1, b"one"), record(2, b"two")].concat();
        for cut in 0..whole.len() {
            assert_eq!(sound(&whole[..cut]).len(), usize::from(cut >= whole.len() / 2));
        }
    }

    #[test]
    fn a_body_that_looks_like_a_block_is_none() {
        let mut forged = record(99, b"forged");
        let _ = seal(&mut forged, Seed(8));
        let mut outer = record(1, &forged);
        assert_eq!(sound(&outer), [1]);
        // Even where the record around it is damaged.
        outer[20] ^= 1;
        assert!(sound(&outer).is_empty());
    }
}
