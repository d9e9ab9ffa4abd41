//! The writer thread: takes commands, commits what has gathered, answers. Only here anybody waits for the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::keeper::{Keeper, Run};
use super::queue::QueueId;
use super::report::{Completion, Gauges, SpoolHealth};

/// What the data thread asks.
#[derive(Debug)]
pub(super) enum Command {
    Append { run: Run, epoch: u64 },
    Remove { queue: QueueId, ranges: Vec<(u64, u64)> },
    Refuse { queue: QueueId, refused: Vec<(u64, Arc<str>)> },
    Read { queue: QueueId, after: u64, max_bytes: u64 },
    Close,
}

/// An answer, and the epoch it was given in.
pub(super) type Answer = (u64, Completion);

/// Called when there is something to poll.
pub type Waker = Box<dyn Fn() + Send>;

/// A file smaller than this is never worth compacting while there is room.
pub(super) const SLACK_MIN: u64 = 16 << 20;

/// Octets in one commit at most.
const COMMIT_BYTES: usize = 4 << 20;
/// Removals alone wait this long for others, or for an append.
const REMOVALS_WAIT: Duration = Duration::from_millis(20);
/// How long between two tries to be well again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// A spool that nobody has asked anything for this long may be compacted.
const IDLE: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Writer {
    pub(super) keeper: Keeper,
    pub(super) commands: Receiver<Command>,
    pub(super) answers: SyncSender<Answer>,
    pub(super) waker: Waker,
    pub(super) gauges: Arc<Gauges>,
    pub(super) ages: Ages,
    /// Commits are this far apart, unless much is waiting, or one record at a time; and none waits longer than the one before it took.
    pub(super) group_commit: Duration,
}

/// When what is due.
#[derive(Default)]
struct Due {
    last_commit: Option<Instant>,
    /// How long the last commit took, and how many runs were in it.
    took: Duration,
    company: usize,
    /// When the first of what is staged came, and in how many runs it did.
    staged: Option<Instant>,
    runs: usize,
    removals: Option<Instant>,
    retry: Option<(Instant, Duration)>,
    idle: Option<Instant>,
}

impl Writer {
    /// Runs until it is told to close, or nobody is there to tell it anything.
    pub(super) fn run(mut self) {
        let mut due = Due::default();
        self.mend(&mut due, instant());
        let mut reads = Vec::new();
        let mut open = true;
        while open {
            let now = instant();
            let wait = self.next(&due, now);
            match self.commands.recv_timeout(wait.saturating_duration_since(now)) {
                Ok(command) => open = self.gather(command, &mut due, &mut reads),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            let now = instant();
            if !open || self.commit_due(&due, now) {
                self.keeper.commit(now_us(), || now.elapsed());
                (due.last_commit, due.staged) = (Some(now), None);
                if due.runs > 0 {
                    (due.took, due.company, due.runs) = (now.elapsed(), due.runs, 0);
                }
                due.removals = self.keeper.has_changes().then(|| now + REMOVALS_WAIT);
            }
            for (queue, after, max_bytes) in reads.drain(..) {
                self.keeper.read(queue, after, max_bytes, self.ages.now_us());
            }
            self.mend(&mut due, now);
            self.answer();
        }
        if let Err(error) = self.keeper.close() {
            tracing::warn!(%error, "the spool could not be marked as closed in peace");
        }
    }

    /// Takes a command and those behind it, as far as one commit goes.
    fn gather(&mut self, first: Command, due: &mut Due, reads: &mut Vec<(QueueId, u64, u64)>) -> bool {
        due.idle = Some(instant() + IDLE);
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Append { run, epoch } => {
                    self.keeper.append(run, epoch);
                    due.staged = due.staged.or_else(|| Some(instant()));
                    due.runs += 1;
                }
                Command::Remove { queue, ranges } => {
                    for (from, to) in ranges {
                        self.keeper.remove(queue, from, to);
                    }
                    due.removals = due.removals.or_else(|| Some(instant() + REMOVALS_WAIT));
                }
                Command::Refuse { queue, refused } => {
                    for (seq, why) in refused {
                        self.keeper.refuse(queue, seq, why);
                    }
                    due.removals = due.removals.or_else(|| Some(instant() + REMOVALS_WAIT));
                }
                Command::Read { queue, after, max_bytes } => reads.push((queue, after, max_bytes)),
                Command::Close => return false,
            }
            next = (self.keeper.staged_bytes < COMMIT_BYTES).then(|| self.commands.try_recv().ok()).flatten();
        }
        true
    }

    fn commit_at(&self, due: &Due, now: Instant) -> Option<Instant> {
        if !self.keeper.has_changes() {
            return None;
        }
        if self.keeper.staged_bytes == 0 {
            return due.removals.or(Some(now));
        }
        // Who came alone last time waits for nobody, and nobody waits longer for company than the disk itself takes.
        if self.keeper.staged_bytes >= COMMIT_BYTES / 4 || due.company <= 1 {
            return Some(now);
        }
        let apart = due.last_commit.map_or(now, |last| last + self.group_commit);
        Some(due.staged.map_or(now, |first| first + due.took).min(apart))
    }

    fn commit_due(&self, due: &Due, now: Instant) -> bool {
        self.commit_at(due, now).is_some_and(|at| at <= now)
    }

    fn next(&self, due: &Due, now: Instant) -> Instant {
        let times = [self.commit_at(due, now), due.retry.map(|(at, _)| at), due.idle];
        times.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(60))
    }

    /// Heals what is ill; gives room back when nothing else is to be done.
    fn mend(&mut self, due: &mut Due, now: Instant) {
        if *self.keeper.health() == SpoolHealth::Ok {
            due.retry = None;
        } else {
            let (at, pause) = due.retry.unwrap_or((now + RETRY.0, RETRY.0));
            due.retry = Some((at, pause));
            if at <= now {
                self.keeper.retry(now_us());
                let pause = if matches!(self.keeper.health(), SpoolHealth::Full | SpoolHealth::Owned(_)) {
                    RETRY.0
                } else {
                    (pause * 2).min(RETRY.1)
                };
                due.retry = Some((now + pause, pause));
            }
        }
        if due.idle.is_some_and(|at| at <= now) {
            due.idle = None;
            if self.keeper.slack(SLACK_MIN) {
                self.keeper.compact(now_us());
            }
        }
    }

    fn answer(&mut self) {
        let queues = self.keeper.queues.values();
        let (records, bytes) = queues.fold((0, 0), |(r, b), q| (r + q.records, b + q.charge));
        let oldest_us = self.keeper.queues.values().filter_map(super::queue::Queue::oldest_us).min();
        self.gauges.set(records, bytes, oldest_us);
        self.gauges.unsound.store(self.keeper.unsound, Ordering::Relaxed);
        let answered = std::mem::take(&mut self.keeper.answered_bytes);
        self.gauges.in_flight.fetch_sub(answered, Ordering::AcqRel);
        if self.keeper.out.is_empty() {
            return;
        }
        for completion in std::mem::take(&mut self.keeper.out) {
            // A handle that is gone wants no answers.
            if let Err(std::sync::mpsc::TrySendError::Full(answer)) =
                self.answers.try_send((self.keeper.epoch, completion))
            {
                (self.waker)();
                let _ = self.answers.send(answer);
            }
        }
        (self.waker)();
    }
}

#[expect(clippy::disallowed_methods, reason = "the writer thread times its own commits")]
fn instant() -> Instant {
    Instant::now()
}

/// Unix time as it was when this began, and steady from then on: what waits does not age by a jump of the wall clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ages {
    since: Instant,
    since_us: u64,
}

impl Ages {
    pub(super) fn begin() -> Self {
        Self { since: instant(), since_us: now_us() }
    }

    /// Microseconds.
    pub(super) fn now_us(&self) -> u64 {
        let elapsed = u64::try_from(instant().saturating_duration_since(self.since).as_micros());
        self.since_us.saturating_add(elapsed.unwrap_or(u64::MAX))
    }
}

/// Microseconds of Unix time.
#[expect(clippy::disallowed_methods, reason = "what is of an earlier life is known by the wall clock")]
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
