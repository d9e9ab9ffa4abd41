//! The keeper: what the writer thread does, without the thread. It owns the directory, the store and the queues' state.
//!
//! ```text
//!            disk refuses                        room again, reopened
//!   Ok ───────────────────▶ Full / ReadOnly / Failed ───────────────▶ Ok
//!      what was staged is given back              retried with growing pauses
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

mod draft;
mod open;
mod read;

use super::SpoolSettings;
use super::block::{self, Seed};
use super::disk::{Disk, Media, SyncMode};
use super::place::{Place, Salt};
use super::queue::{GROUP_MAX, Queue, QueueId, QueueKey, Refusals, TAIL_MAX};
use super::report::{Completion, QueueReport, SpoolHealth};
use super::store::{Store, StoreError};
use crate::wire::num::u64_of;
use draft::{Draft, Tail};

/// Makes the medium of a file; tests put faults in between.
pub(super) type Opener = Box<dyn Fn(&Path, SyncMode) -> io::Result<Arc<dyn Media>> + Send>;

/// The real one.
pub(super) fn file_opener() -> Opener {
    Box::new(|path, sync| Ok(Arc::new(Disk::open(path, sync)?)))
}

/// Records of one queue as the data thread wrote them: blocks, not sealed yet, numbered without gaps.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) queue: QueueId,
    pub(super) key: Arc<QueueKey>,
    pub(super) bytes: Vec<u8>,
}

/// Refusals whose words are kept.
const REFUSALS_MAX: usize = 100_000;
/// Tails kept in memory at most.
const TAILS_MAX: usize = 512;

/// See the module.
pub(super) struct Keeper {
    path: PathBuf,
    settings: SpoolSettings,
    opener: Opener,
    place: Option<Place>,
    store: Option<Store>,
    salt: Option<Salt>,
    pub(super) queues: BTreeMap<QueueId, Queue>,
    tails: HashMap<QueueId, Tail>,
    staged: BTreeMap<QueueId, Vec<Draft>>,
    pub(super) staged_bytes: usize,
    dirty: BTreeSet<(QueueId, u64)>,
    /// Why brokers have refused what waits, and of which of that the store has not heard yet.
    refusals: Refusals,
    untold: BTreeSet<(QueueId, u64)>,
    /// Removals that no commit has held yet.
    unsaved: Vec<(QueueId, u64, u64)>,
    health: SpoolHealth,
    /// It has been open in this life: what was told to be on disk has been synced since, and is not looked for again.
    known: bool,
    /// A sync has failed: the store's file is not believed until it has been written anew.
    unsynced: Arc<AtomicBool>,
    /// Octets of the ballast, once one was made.
    ballast: Option<u64>,
    /// Runs of an older epoch come back unwritten: something before them did too.
    pub(super) epoch: u64,
    pub(super) unsound: u64,
    /// Octets of runs that have been answered.
    pub(super) answered_bytes: u64,
    pub(super) out: VecDeque<Completion>,
}

impl Keeper {
    pub(super) fn health(&self) -> &SpoolHealth {
        &self.health
    }

    /// The spool's secret, once the directory could be read.
    pub(super) fn salt(&self) -> Option<[u8; 32]> {
        self.salt.map(|s| s.0)
    }

    fn seed(&self) -> Seed {
        self.salt.map_or(Seed(0), Salt::seed)
    }

    /// Queues with something in them.
    pub(super) fn reports(&self) -> Vec<QueueReport> {
        self.queues.iter().filter(|(_, q)| q.records > 0).map(|(id, q)| q.report(*id)).collect()
    }

    /// Takes records for the next commit.
    pub(super) fn append(&mut self, mut run: Run, epoch: u64) {
        if epoch != self.epoch || self.store.is_none() || self.health != SpoolHealth::Ok {
            self.answered_bytes += u64_of(run.bytes.len());
            self.give_back(run.queue, &run.bytes);
            return;
        }
        let seed = self.seed();
        let queue = self.queues.entry(run.queue).or_insert_with(|| Queue::new((*run.key).clone(), 1));
        let drafts = self.staged.entry(run.queue).or_default();
        let mut rest = run.bytes.as_mut_slice();
        while let Some(head) = block::seal(rest, seed) {
            let len = head.block_len();
            let Some((bytes, after)) = std::mem::take(&mut rest).split_at_mut_checked(len) else { break };
            rest = after;
            let fits = drafts.last().is_some_and(|d| {
                d.first + d.count == head.seq && d.value.len().saturating_add(len) <= GROUP_MAX
            });
            if !fits {
                let tail = drafts.is_empty().then(|| self.tails.remove(&run.queue)).flatten();
                let follows = |t: &Tail| {
                    queue.groups.get(&t.first).is_some_and(|g| t.first + g.count == head.seq && g.left > 0)
                };
                let tail = tail.filter(|t| t.value.len() + len <= GROUP_MAX && follows(t));
                drafts.push(match tail {
                    Some(tail) => Draft::longer(tail, queue),
                    None => Draft::new(queue.block(run.queue, seed), head.seq, head.at),
                });
            }
            if let Some(draft) = drafts.last_mut() {
                draft.value.extend_from_slice(bytes);
                draft.count += 1;
            }
            self.staged_bytes += len;
        }
    }

    /// Hands blocks back as records.
    fn give_back(&mut self, queue: QueueId, bytes: &[u8]) {
        let records = block::unsealed(bytes);
        let why = if self.health == SpoolHealth::Ok {
            SpoolHealth::Failed("an earlier append".into())
        } else {
            self.health.clone()
        };
        self.out.push_back(Completion::NotKept { queue, records, why });
    }

    /// Why a broker has refused a record that waits.
    pub(super) fn refuse(&mut self, id: QueueId, seq: u64, why: Arc<str>) {
        if self.refusals.len() < REFUSALS_MAX && self.refusals.get(&(id, seq)) != Some(&why) {
            self.refusals.insert((id, seq), why);
            self.untold.insert((id, seq));
        }
    }

    fn forget_refusals(&mut self, id: QueueId, from: u64, to: u64) {
        while let Some(key) = self.refusals.range((id, from)..=(id, to)).next().map(|(key, _)| *key) {
            self.refusals.remove(&key);
            self.untold.insert(key);
        }
    }

    /// Marks records as done; the store hears of it with the next commit.
    pub(super) fn remove(&mut self, id: QueueId, from: u64, to: u64) {
        if !self.refusals.is_empty() && from <= to {
            self.forget_refusals(id, from, to);
        }
        for draft in self.staged.get_mut(&id).into_iter().flatten() {
            for seq in from.max(draft.fresh)..=to.min((draft.first + draft.count).saturating_sub(1)) {
                draft.done_count += u64::from(draft.done.add(seq - draft.first));
            }
        }
        let removed = self.queues.get_mut(&id).map(|queue| queue.remove(from, to)).unwrap_or_default();
        if removed.records == 0 && self.store.is_some() {
            return;
        }
        self.dirty.extend(removed.marked.into_iter().map(|first| (id, first)));
        match self.unsaved.last_mut() {
            Some((q, _, end)) if *q == id && end.checked_add(1) == Some(from) => *end = to,
            _ => self.unsaved.push((id, from, to)),
        }
    }

    /// Whether a commit would change anything.
    pub(super) fn has_changes(&self) -> bool {
        self.store.is_some() && !(self.staged.is_empty() && self.dirty.is_empty() && self.untold.is_empty())
    }

    /// Writes what is staged and the marks; what could not be written is given back.
    pub(super) fn commit(&mut self, now_us: u64, took: impl Fn() -> Duration) {
        if !self.has_changes() {
            return;
        }
        let staged = std::mem::take(&mut self.staged);
        self.answered_bytes += u64_of(std::mem::take(&mut self.staged_bytes));
        let (mut batch, plan) = self.plan(staged);
        let told = |key: &(QueueId, u64)| ((key.0.0, key.1), self.refusals.get(key).cloned());
        batch.refusals = self.untold.iter().map(told).collect();
        let Some(store) = &self.store else { return };
        let outcome = store.commit(&batch);
        let groups = std::mem::take(&mut batch.groups);
        match outcome {
            Ok(()) => {
                self.unsaved.clear();
                self.dirty.clear();
                self.untold.clear();
                let took = took();
                for (queue, from, to) in plan.appended {
                    self.out.push_back(Completion::Appended { queue, from, to, took });
                }
                for ((id, _), ((_, first), value)) in plan.fresh.into_iter().zip(groups) {
                    if value.len() <= TAIL_MAX && self.tails.len() < TAILS_MAX {
                        self.tails.insert(id, Tail { first, value });
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the spool could not be written");
                self.fail(&error, now_us);
                for ((id, fresh_at), (_, value)) in plan.fresh.into_iter().zip(groups) {
                    self.give_back(id, value.get(fresh_at..).unwrap_or_default());
                }
                // Were the commit there after all, these must not come back.
                for (id, from, to) in plan.appended {
                    self.remove(id, from, to);
                }
            }
        }
    }

    fn turn(&mut self, health: SpoolHealth) {
        if self.health != health {
            self.health = health.clone();
            self.out.push_back(Completion::Health(health));
        }
    }

    /// Something has failed: the store is of no use until it is opened again, which is tried at once, so that what waits can
    /// be read and removed.
    fn fail(&mut self, error: &StoreError, now_us: u64) {
        let health = SpoolHealth::of(error);
        self.store = None;
        self.tails.clear();
        self.epoch += 1;
        if health == SpoolHealth::Full
            && let Some(place) = &self.place
        {
            place.drop_ballast();
        }
        self.turn(health);
        self.answered_bytes += u64_of(std::mem::take(&mut self.staged_bytes));
        for (id, drafts) in std::mem::take(&mut self.staged) {
            for draft in drafts {
                self.give_back(id, draft.value.get(draft.fresh_at..).unwrap_or_default());
            }
        }
        if let Err(error) = self.reopen(now_us) {
            tracing::error!(%error, "the spool cannot be opened again; trying on");
        }
    }

    fn reopen(&mut self, now_us: u64) -> Result<(), StoreError> {
        let Some(place) = self.place.take() else { return Ok(()) };
        let first = !self.known;
        let outcome = self.begin_in(&place, now_us);
        self.place = Some(place);
        let recovered = outcome?;
        if first || recovered.set_aside.is_some() || recovered.unsound > 0 {
            self.out.push_back(Completion::Recovered(recovered));
        }
        Ok(())
    }

    /// Tries to be well again. Called now and then while it is not.
    pub(super) fn retry(&mut self, now_us: u64) {
        let late = self.place.is_none();
        if self.store.is_none() {
            let probed = self.place.as_ref().map_or(Ok(()), Place::probe).map_err(|e| SpoolHealth::of_io(&e));
            if let Err(health @ SpoolHealth::Failed(_)) = probed {
                return self.turn(health);
            }
            let outcome =
                if late { self.begin(now_us).map(Some) } else { self.reopen(now_us).map(|()| None) };
            match outcome {
                Ok(Some(recovered)) => self.out.push_back(Completion::Recovered(recovered)),
                Ok(None) => {}
                Err(error) => return self.turn(SpoolHealth::of(&error)),
            }
        }
        let mut room = self.take_ballast();
        if room.is_err() && self.slack(128 << 10) {
            self.compact(now_us);
            room = self.take_ballast();
        }
        match room {
            Ok(()) if self.store.is_some() => self.turn(SpoolHealth::Ok),
            Ok(()) => {}
            Err(error) => self.turn(SpoolHealth::of_io(&error)),
        }
    }

    /// Whether the file is larger than `least` octets, and much larger than what is in it.
    pub(super) fn slack(&self, least: u64) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Some(place) = &self.place else { return false };
        let there = place.store().metadata().map_or(0, |m| m.blocks().saturating_mul(512));
        let used: u64 = self.queues.values().map(|q| q.charge).sum();
        there > least && used < there / 4
    }

    /// Gives unused room back to the disk.
    pub(super) fn compact(&mut self, now_us: u64) {
        let Some(store) = &mut self.store else { return };
        if let Err(error) = store.compact() {
            tracing::error!(%error, "the spool could not be compacted");
            self.fail(&error, now_us);
        }
    }

    /// Ends in peace.
    pub(super) fn close(mut self) -> io::Result<()> {
        let Some(store) = self.store.take() else { return Ok(()) };
        drop(store);
        self.place.as_ref().map_or(Ok(()), Place::clean)
    }
}

/// Keeps damaged bytes; that this may fail too changes nothing else.
fn quarantine(place: &Place, queue: QueueId, seq: u64, bytes: &[u8]) {
    let name = format!("{}-{seq}.bin", queue.0);
    let kept = place.quarantine(&name, bytes);
    tracing::error!(
        queue = queue.0,
        seq,
        octets = bytes.len(),
        kept = kept.is_ok(),
        "damaged records were set aside"
    );
}
