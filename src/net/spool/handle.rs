//! The data thread's end: buffers, numbers, and no waiting.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::block;
use super::gathered::Gathered;
use super::keeper::{self, Keeper, Opener, Run};
use super::queue::{self, GROUP_MAX, QueueId, QueueKey};
use super::report::{Completion, Gauges, Recovered, SpoolHealth};
use super::writer::{self, Ages, Answer, Command, Waker, Writer};
use super::{Publish, Refused, SpoolSettings};
use crate::wire::num::u64_of;

/// Octets of one record at most: a quarter of the largest value the store takes.
const RECORD_MAX: usize = 512 << 20;
/// Commands that wait for the writer at most.
const COMMANDS_MAX: usize = 256;
/// Answers that wait for the data thread at most.
const ANSWERS_MAX: usize = 4096;

/// The data thread's end of the spool.
#[derive(Debug)]
pub struct Spool {
    settings: SpoolSettings,
    salt: [u8; 32],
    ids: HashMap<QueueKey, QueueId>,
    queues: BTreeMap<QueueId, Gathered>,
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
            queues: BTreeMap::new(),
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
                self.queues.remove(&made_up);
            }
            let line = self.queues.entry(*id).or_insert_with(|| Gathered::new(key.clone()));
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
        let last = self.queues.last_key_value().map_or(0, |(id, _)| id.0);
        let id = QueueId(writer::now_us().max(last + 1));
        self.ids.insert(key.clone(), id);
        self.queues.insert(id, Gathered::new(key.clone()));
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
        let Some(line) = self.queues.get_mut(&queue) else { return Err(Refused::Busy) };
        let seq = line.append(queue, publish, parts);
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
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.remove(from, to);
        }
    }

    /// A broker has refused a record that stays: its words, at most so many octets of them.
    pub fn refused(&mut self, queue: QueueId, seq: u64, why: &str) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.refused(seq, why);
        }
    }

    /// Asks for records of a queue that are on disk, in order, after a number, about so many octets (at least one record).
    /// [`Completion::Records`] answers. One read a queue at a time: false where one is under way.
    pub fn read(&mut self, queue: QueueId, after: u64, max_bytes: u64) -> bool {
        self.queues.get_mut(&queue).is_some_and(|queue| queue.ask(after, max_bytes))
    }

    /// Hands over what has gathered. Call it once a turn. Whether that was all: what the writer has no room for goes with the next call.
    pub fn flush(&mut self) -> bool {
        let ids: Vec<QueueId> =
            self.queues.iter().filter(|(_, line)| line.is_waiting()).map(|(id, _)| *id).collect();
        // What is removed from one queue may have been appended to another first.
        if ids.iter().all(|id| self.hand_over(*id))
            && let Some(commands) = &self.commands
        {
            for id in ids {
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.hand_over_the_rest(id, commands);
                }
            }
        }
        !self.queues.values().any(Gathered::is_waiting)
    }

    /// Whether nothing that was appended is left here.
    fn hand_over(&mut self, id: QueueId) -> bool {
        let (Some(commands), Some(line)) = (&self.commands, self.queues.get_mut(&id)) else { return true };
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
                if let Some(line) = self.queues.get_mut(queue) {
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
            self.queues.values().filter(|l| !l.run.is_empty()).map(|l| block::count(&l.run)).sum();
        if self.unanswered > u64_of(waiting) {
            return;
        }
        for (id, line) in &mut self.queues {
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
                || !self.queues.values().any(Gathered::is_waiting)
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
