//! What the Hub asks of a spool, and what it must not know of it: files, threads, time-outs (SPEC D4).

use std::rc::Rc;

use crate::wire::num::{u32_clamped, usize_of};

/// Whose publishes: never a credential, only what tells one login from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpoolKey {
    /// The upstream's name in the configuration.
    pub upstream: Rc<str>,
    /// The vhost.
    pub vhost: Rc<[u8]>,
    /// The user.
    pub user: Rc<str>,
    /// What tells those who have no name from each other ([`super::Credentials::owner`]). In an older format a salted hash of the login.
    pub identity: [u8; 32],
    /// What goes before all else of the same login: it was in memory when a drain's time was up.
    pub ahead: bool,
}

/// A queue of the spool; its records are numbered without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpoolQueue(pub u64);

/// It is nowhere but in the spool. Without this bit, memory has it too.
pub const ONLY_HERE: u32 = 1;
/// A declaration that goes before what follows: its payload is in `method`, and there is nothing else.
pub const DECLARES: u32 = 2;
/// `method` is a list of payloads (see [`Needs`]), the publish the last.
pub const HAS_NEEDS: u32 = 4;

/// One publish on its way to disk.
#[derive(Debug, Clone, Copy)]
pub struct SpoolAppend<'a> {
    /// Whose order it keeps.
    pub lane: u64,
    /// When it was accepted, microseconds since 1970 by the clock that ages are counted by.
    pub at_us: i64,
    /// `ONLY_HERE`, `DECLARES`, `HAS_NEEDS`.
    pub flags: u32,
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
    /// As they were given.
    pub flags: u32,
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

/// What must be there before a spooled publish goes out, and how it goes where that cannot be (SPEC P9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs<'a> {
    /// The target's name.
    pub name: &'a [u8],
    /// The publish method's payload for where it was going before the policy spoke; empty: it is left out.
    pub otherwise: &'a [u8],
    /// The name of the upstream that it was going to, where that is another; else empty.
    pub home: &'a [u8],
    /// The publish method's payload.
    pub publish: &'a [u8],
}

impl<'a> Needs<'a> {
    /// One byte string, each part behind its length: name, declarations, otherwise, home, publish.
    #[must_use]
    pub fn pack(&self, declarations: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        let before = std::iter::once(self.name).chain(declarations.iter().map(Vec::as_slice));
        for part in before.chain([self.otherwise, self.home, self.publish]) {
            out.extend_from_slice(&u32_clamped(part.len()).to_le_bytes());
            out.extend_from_slice(part);
        }
        out
    }

    /// Reads what `pack` wrote, and the declarations.
    #[must_use]
    pub fn unpack(mut bytes: &'a [u8]) -> Option<(Self, Vec<&'a [u8]>)> {
        let mut parts = Vec::new();
        while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
            let (part, rest) = rest.split_at_checked(usize_of(u32::from_le_bytes(*len)))?;
            parts.push(part);
            bytes = rest;
        }
        let (publish, home, otherwise) = (parts.pop()?, parts.pop()?, parts.pop()?);
        if parts.is_empty() || !bytes.is_empty() {
            return None;
        }
        let name = parts.remove(0);
        Some((Self { name, otherwise, home, publish }, parts))
    }
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

    /// A broker has refused a record that stays: why, to be shown to people. A spool may forget it.
    fn refused(&mut self, _queue: SpoolQueue, _number: u64, _why: &Rc<str>) {}

    /// What was appended goes to the writer now. Whether all of it has: what the writer has no room for goes when this is called again.
    fn flush(&mut self) -> bool;

    /// Whether an append would be taken.
    fn takes(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_come_back_as_they_were_packed_and_nothing_else_is_read_as_needs() {
        let needs = Needs { name: b"queue feeds", otherwise: b"", home: b"eu", publish: b"publish" };
        let packed = needs.pack(&[b"declare".to_vec(), b"bind".to_vec()]);
        assert_eq!(Needs::unpack(&packed), Some((needs, vec![&b"declare"[..], b"bind"])));
        for cut in 0..packed.len() {
            if let Some((read, _)) = Needs::unpack(&packed[..cut]) {
                assert_ne!(read.publish, needs.publish, "cut at {cut}");
            }
        }
    }
}
