//! One queue at the data thread's end: what was appended, removed, refused and asked for, until the writer has been told.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use super::Publish;
use super::block::{self, Head, Kind};
use super::queue::{QueueId, QueueKey};
use super::writer::Command;

/// Refusals of one queue that wait to be handed over, and octets of each.
const REFUSALS_MAX: usize = 10_000;
const REFUSAL_BYTES: usize = 255;

/// A queue as the data thread knows it.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) key: Arc<QueueKey>,
    pub(super) next: u64,
    /// Written, not handed over yet.
    pub(super) run: Vec<u8>,
    /// Octets of the run before it: as much room is made at once.
    pub(super) last_run: usize,
    removals: Vec<(u64, u64)>,
    refusals: Vec<(u64, Arc<str>)>,
    pub(super) reading: Option<Ask>,
}

/// A read, asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    after: u64,
    max_bytes: u64,
    sent: bool,
}

impl Gathered {
    pub(super) fn new(key: QueueKey) -> Self {
        Self {
            key: Arc::new(key),
            next: 1,
            run: Vec::new(),
            last_run: 0,
            removals: Vec::new(),
            refusals: Vec::new(),
            reading: None,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.run.is_empty()
            || !self.removals.is_empty()
            || !self.refusals.is_empty()
            || self.reading.is_some_and(|ask| !ask.sent)
    }

    /// Writes a publish behind the others; its number.
    pub(super) fn append(&mut self, id: QueueId, publish: &Publish<'_>, parts: [&[u8]; 3]) -> u64 {
        let seq = self.next;
        let head = Head {
            kind: Kind::Record,
            flags: publish.flags,
            queue: id.0,
            seq,
            at: publish.at_us,
            lane: publish.lane,
            lengths: [0; 3],
        };
        if self.run.capacity() == 0 {
            self.run.reserve(self.last_run);
        }
        block::write(&mut self.run, &head, parts);
        self.next += 1;
        seq
    }

    /// Both included.
    pub(super) fn remove(&mut self, from: u64, to: u64) {
        match self.removals.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(from) => *end = to,
            _ => self.removals.push((from, to)),
        }
    }

    /// In these words, as far as there is room for them.
    pub(super) fn refused(&mut self, seq: u64, why: &str) {
        if self.refusals.len() < REFUSALS_MAX {
            let end =
                (0..=why.len().min(REFUSAL_BYTES)).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
            self.refusals.push((seq, why.get(..end).unwrap_or_default().into()));
        }
    }

    /// Whether no other read is under way.
    pub(super) fn ask(&mut self, after: u64, max_bytes: u64) -> bool {
        let free = self.reading.is_none();
        if free {
            self.reading = Some(Ask { after, max_bytes, sent: false });
        }
        free
    }

    /// Behind the appends: a removal never overtakes the append it is for, nor a read the removals before it.
    pub(super) fn hand_over_the_rest(&mut self, id: QueueId, commands: &SyncSender<Command>) {
        if !self.refusals.is_empty() {
            let refused = std::mem::take(&mut self.refusals);
            if let Err(TrySendError::Full(Command::Refuse { refused, .. })) =
                commands.try_send(Command::Refuse { queue: id, refused })
            {
                self.refusals = refused;
                return;
            }
        }
        if !self.removals.is_empty() {
            let ranges = std::mem::take(&mut self.removals);
            if let Err(TrySendError::Full(Command::Remove { ranges, .. })) =
                commands.try_send(Command::Remove { queue: id, ranges })
            {
                self.removals = ranges;
                return;
            }
        }
        if let Some(ask) = self.reading.as_mut().filter(|ask| !ask.sent) {
            let read = Command::Read { queue: id, after: ask.after, max_bytes: ask.max_bytes };
            ask.sent = commands.try_send(read).is_ok();
        }
    }
}
