//! The data thread's end: buffers, numbers, and no waiting.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::block::{self, Head, Kind};
use super::keeper::{self, Keeper, Opener, Run};
use super::queue::{self, GROUP_MAX, QueueId, QueueKey};
use super::report::{Completion, Gauges, Recovered, SpoolHealth};
use super::writer::{self, Ages, Answer, Command, Waker, Writer};
use super::{Publish, Refused, SpoolSettings};
use crate::wire::num::u64_of;

/// Octets of one record at most: a quarter of the largest value the store takes.
const RECORD_MAX: usize = 512 << 20;
/// Refusals of one queue that wait to be handed over, and octets of each.
const REFUSALS_MAX: usize = 10_000;
const REFUSAL_BYTES: usize = 255;
/// Commands that wait for the writer at most.
const COMMANDS_MAX: usize = 256;
/// Answers that wait for the data thread at most.
const ANSWERS_MAX: usize = 4096;

/// A queue as the data thread knows it.
#[derive(Debug)]
struct Line {
    key: Arc<QueueKey>,
    next: u64,
    /// Written, not handed over yet.
    run: Vec<u8>,
    /// Octets of the run before it: as much room is made at once.
    last_run: usize,
    removals: Vec<(u64, u64)>,
    refusals: Vec<(u64, Arc<str>)>,
    reading: Option<Ask>,
}

/// A read, asked for.
#[derive(Debug, Clone, Copy)]
struct Ask {
    after: u64,
    max_bytes: u64,
    sent: bool,
}

/// The data thread's end of the spool.
#[derive(Debug)]
pub struct Spool {
    settings: SpoolSettings,
    salt: [u8; 32],
    ids: HashMap<QueueKey, QueueId>,
    lines: BTreeMap<QueueId, Line>,
    commands: Option<SyncSender<Command>>,
    answers: Receiver<Answer>,
    /// Given back before they were handed over.
    own: VecDeque<Completion>,
    gauges: Arc<Gauges>,
    ages: Ages,
    health: SpoolHealth,
    epoch: u64,
    /// Records handed over and not answered.
    unanswered: u64,
    /// Octets not handed over yet.
    gathered: u64,
    /// A failure is being answered: nothing is taken until all of it is.
    settling: bool,
    thread: Option<JoinHandle<()>>,
}

impl Spool {
    /// Opens the spool in a directory, which is made if it is missing, and starts its thread. This reads all that is there.
    ///
    /// # Errors
    /// Another process owns the directory, or no thread can be had. A disk that is full, read-only or broken is no error but a
    /// [`SpoolHealth`]: the spool tries on.
    pub fn open(path: &Path, settings: SpoolSettings, waker: Waker) -> io::Result<(Self, Recovered)> {
        Self::open_on(path, settings, waker, keeper::file_opener())
    }

    pub(super) fn open_on(
        path: &Path,
        settings: SpoolSettings,
        waker: Waker,
        opener: Opener,
    ) -> io::Result<(Self, Recovered)> {
        let (keeper, recovered) = Keeper::open(path, settings.clone(), opener, writer::now_us())?;
        let (commands, inbox) = sync_channel(COMMANDS_MAX);
        let (outbox, answers) = sync_channel(ANSWERS_MAX);
        let gauges = Arc::new(Gauges::default());
        gauges.set(
            recovered.records,
            recovered.queues.iter().map(|q| q.bytes).sum(),
            recovered.queues.iter().filter_map(|q| q.oldest_us).min(),
        );
        // Where the directory could not be read, logins are hashed with a secret of this life only.
        let salt = keeper.salt().unwrap_or_else(rand::random);
        let health = keeper.health().clone();
        let ages = Ages::begin();
        let writer = Writer {
            keeper,
            commands: inbox,
            answers: outbox,
            waker,
            gauges: Arc::clone(&gauges),
            ages,
            group_commit: settings.group_commit,
        };
        let thread = std::thread::Builder::new().name("spool".into()).spawn(move || writer.run())?;
        let mut spool = Self {
            settings,
            salt,
            ids: HashMap::new(),
            lines: BTreeMap::new(),
            commands: Some(commands),
            answers,
            own: VecDeque::new(),
            gauges,
            ages,
            health,
            epoch: 0,
            unanswered: 0,
            gathered: 0,
            settling: false,
            thread: Some(thread),
        };
        spool.learn(&recovered);
        Ok((spool, recovered))
    }

    fn learn(&mut self, recovered: &Recovered) {
        for (id, key, next) in &recovered.names {
            // One that was made up before the store could be read has nothing in it.
            if let Some(made_up) = self.ids.insert(key.clone(), *id).filter(|made_up| made_up != id) {
                self.lines.remove(&made_up);
            }
            let line = self.lines.entry(*id).or_insert_with(|| Line::new(key.clone()));
            line.next = line.next.max(*next);
        }
    }

    /// The secret of this spool, the same in every life of it.
    #[must_use]
    pub fn salt(&self) -> [u8; 32] {
        self.salt
    }

    /// What a poll last told.
    #[must_use]
    pub fn health(&self) -> &SpoolHealth {
        &self.health
    }

    /// Numbers for metrics and status; may be shared with other threads.
    #[must_use]
    pub fn gauges(&self) -> Arc<Gauges> {
        Arc::clone(&self.gauges)
    }

    /// How long the oldest record has waited.
    #[must_use]
    pub fn oldest_age(&self) -> Option<Duration> {
        let now_us = self.ages.now_us();
        self.gauges.oldest_us().map(|at| Duration::from_micros(now_us.saturating_sub(at)))
    }

    /// Whether nothing is on its way to the disk.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.gathered == 0 && self.gauges.in_flight() == 0
    }

    /// The queue of this key, a new one where there is none.
    pub fn queue(&mut self, key: &QueueKey) -> QueueId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        // By the clock: a queue's number is never used again, even where a damaged store has forgotten it.
        let last = self.lines.last_key_value().map_or(0, |(id, _)| id.0);
        let id = QueueId(writer::now_us().max(last + 1));
        self.ids.insert(key.clone(), id);
        self.lines.insert(id, Line::new(key.clone()));
        id
    }

    /// Takes a copy of a publish and gives its number in the queue. It is handed over by [`Self::flush`], or when much has
    /// gathered; a completion tells what came of it.
    ///
    /// # Errors
    /// It was not taken: why.
    pub fn append(&mut self, queue: QueueId, publish: &Publish<'_>) -> Result<u64, Refused> {
        let parts = [publish.method, publish.header, publish.body];
        let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        self.admits(len)?;
        let Some(line) = self.lines.get_mut(&queue) else { return Err(Refused::Busy) };
        let seq = line.next;
        let head = Head {
            kind: Kind::Record,
            flags: publish.flags,
            queue: queue.0,
            seq,
            at: publish.at_us,
            lane: publish.lane,
            lengths: [0; 3],
        };
        if line.run.capacity() == 0 {
            line.run.reserve(line.last_run);
        }
        block::write(&mut line.run, &head, parts);
        line.next += 1;
        self.unanswered += 1;
        self.gathered += block::record_len(len);
        if line.run.len() >= GROUP_MAX {
            self.hand_over(queue);
        }
        Ok(seq)
    }

    fn admits(&self, len: usize) -> Result<(), Refused> {
        if self.health != SpoolHealth::Ok {
            return Err(Refused::Disk(self.health.clone()));
        }
        if len > RECORD_MAX {
            return Err(Refused::TooLarge);
        }
        if self.settling {
            return Err(Refused::Busy);
        }
        let (in_flight, new) =
            (self.gauges.in_flight().saturating_add(self.gathered), block::record_len(len));
        // What is in flight may be rounded up to twice its size in the store.
        let charge = queue::charge(new).max(new);
        if self.gauges.bytes().saturating_add(in_flight).saturating_add(charge) > self.settings.max_bytes {
            return Err(Refused::Bound);
        }
        if in_flight > 0 && in_flight.saturating_add(new) > self.settings.in_flight_max {
            return Err(Refused::Busy);
        }
        Ok(())
    }

    /// The records numbered from `from` to `to`, both included, need not be kept any more.
    pub fn remove(&mut self, queue: QueueId, from: u64, to: u64) {
        let Some(line) = self.lines.get_mut(&queue) else { return };
        match line.removals.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(from) => *end = to,
            _ => line.removals.push((from, to)),
        }
    }

    /// A broker has refused a record that stays: its words, at most so many octets of them.
    pub fn refused(&mut self, queue: QueueId, seq: u64, why: &str) {
        if let Some(line) = self.lines.get_mut(&queue).filter(|line| line.refusals.len() < REFUSALS_MAX) {
            let end =
                (0..=why.len().min(REFUSAL_BYTES)).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
            line.refusals.push((seq, why.get(..end).unwrap_or_default().into()));
        }
    }

    /// Asks for records of a queue that are on disk, in order, after a number, about so many octets (at least one record).
    /// [`Completion::Records`] answers. One read a queue at a time: false where one is under way.
    pub fn read(&mut self, queue: QueueId, after: u64, max_bytes: u64) -> bool {
        let Some(line) = self.lines.get_mut(&queue).filter(|line| line.reading.is_none()) else {
            return false;
        };
        line.reading = Some(Ask { after, max_bytes, sent: false });
        true
    }

    /// Hands over what has gathered. Call it once a turn. Whether that was all: what the writer has no room for goes with the next call.
    pub fn flush(&mut self) -> bool {
        let ids: Vec<QueueId> =
            self.lines.iter().filter(|(_, line)| line.is_waiting()).map(|(id, _)| *id).collect();
        // What is removed from one queue may have been appended to another first.
        if ids.iter().all(|id| self.hand_over(*id)) {
            for id in ids {
                self.hand_over_the_rest(id);
            }
        }
        !self.lines.values().any(Line::is_waiting)
    }

    /// Whether nothing that was appended is left here.
    fn hand_over(&mut self, id: QueueId) -> bool {
        let (Some(commands), Some(line)) = (&self.commands, self.lines.get_mut(&id)) else { return true };
        if !line.run.is_empty() {
            if self.settling {
                return false;
            }
            let len = line.run.len();
            let run = Run { queue: id, key: Arc::clone(&line.key), bytes: std::mem::take(&mut line.run) };
            // Counted before the writer can have answered it.
            self.gauges.in_flight.fetch_add(u64_of(len), Ordering::AcqRel);
            if let Err(TrySendError::Full(Command::Append { run, .. })) =
                commands.try_send(Command::Append { run, epoch: self.epoch })
            {
                self.gauges.in_flight.fetch_sub(u64_of(len), Ordering::AcqRel);
                line.run = run.bytes;
                return false;
            }
            line.last_run = len.min(GROUP_MAX);
            self.gathered = self.gathered.saturating_sub(u64_of(len));
        }
        true
    }

    /// Behind the appends: a removal never overtakes the append it is for, nor a read the removals before it.
    fn hand_over_the_rest(&mut self, id: QueueId) {
        let (Some(commands), Some(line)) = (&self.commands, self.lines.get_mut(&id)) else { return };
        if !line.refusals.is_empty() {
            let refused = std::mem::take(&mut line.refusals);
            if let Err(TrySendError::Full(Command::Refuse { refused, .. })) =
                commands.try_send(Command::Refuse { queue: id, refused })
            {
                line.refusals = refused;
                return;
            }
        }
        if !line.removals.is_empty() {
            let ranges = std::mem::take(&mut line.removals);
            if let Err(TrySendError::Full(Command::Remove { ranges, .. })) =
                commands.try_send(Command::Remove { queue: id, ranges })
            {
                line.removals = ranges;
                return;
            }
        }
        if let Some(ask) = line.reading.as_mut().filter(|ask| !ask.sent) {
            let read = Command::Read { queue: id, after: ask.after, max_bytes: ask.max_bytes };
            ask.sent = commands.try_send(read).is_ok();
        }
    }

    /// The next thing that has happened, if any.
    pub fn poll(&mut self) -> Option<Completion> {
        if let Some(completion) = self.own.pop_front() {
            return Some(completion);
        }
        let (epoch, completion) = self.answers.try_recv().ok()?;
        if epoch != self.epoch {
            self.epoch = epoch;
            self.settling = true;
        }
        match &completion {
            Completion::Appended { from, to, .. } => {
                self.unanswered = self.unanswered.saturating_sub(to - from + 1)
            }
            Completion::NotKept { records, .. } => {
                self.unanswered = self.unanswered.saturating_sub(u64_of(records.len()));
            }
            Completion::Records { queue, .. } | Completion::ReadFailed { queue, .. } => {
                if let Some(line) = self.lines.get_mut(queue) {
                    line.reading = None;
                }
            }
            Completion::Recovered(recovered) => self.learn(recovered),
            Completion::Health(health) => self.health = health.clone(),
        }
        if self.settling {
            self.settle();
        }
        Some(completion)
    }

    /// Once all that was handed over before a failure has been answered, what was not handed over is given back too.
    fn settle(&mut self) {
        let waiting: usize =
            self.lines.values().filter(|l| !l.run.is_empty()).map(|l| block::count(&l.run)).sum();
        if self.unanswered > u64_of(waiting) {
            return;
        }
        for (id, line) in &mut self.lines {
            if line.run.is_empty() {
                continue;
            }
            let bytes = std::mem::take(&mut line.run);
            self.gathered = self.gathered.saturating_sub(u64_of(bytes.len()));
            let why = SpoolHealth::Failed("an earlier append".into());
            self.own.push_back(Completion::NotKept { queue: *id, records: block::unsealed(&bytes), why });
        }
        self.unanswered = 0;
        self.settling = false;
    }

    /// Hands over all that has gathered, commits it and ends the thread. This waits for the disk. What has not been polled is
    /// returned: among it may be records that were not kept.
    pub fn close(mut self) -> Vec<Completion> {
        let mut rest = Vec::new();
        if self.settling {
            rest.extend(std::iter::from_fn(|| self.poll()));
        }
        self.end(&mut rest);
        rest
    }

    fn end(&mut self, rest: &mut Vec<Completion>) {
        loop {
            self.flush();
            rest.extend(std::iter::from_fn(|| self.poll()));
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished)
                || !self.lines.values().any(Line::is_waiting)
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(commands) = self.commands.take() {
            let mut last = Some(Command::Close);
            while let Some(command) = last.take() {
                if let Err(TrySendError::Full(command)) = commands.try_send(command) {
                    rest.extend(std::iter::from_fn(|| self.poll()));
                    std::thread::sleep(Duration::from_millis(1));
                    last = Some(command);
                }
            }
        }
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            rest.extend(std::iter::from_fn(|| self.poll()));
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the spool's thread has panicked");
        }
        rest.extend(std::iter::from_fn(|| self.poll()));
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(&mut Vec::new());
        }
    }
}

impl Line {
    fn new(key: QueueKey) -> Self {
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

    fn is_waiting(&self) -> bool {
        !self.run.is_empty()
            || !self.removals.is_empty()
            || !self.refusals.is_empty()
            || self.reading.is_some_and(|ask| !ask.sent)
    }
}
