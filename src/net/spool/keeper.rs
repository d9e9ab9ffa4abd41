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
use std::time::Duration;

use super::SpoolSettings;
use super::block::{self, Kind, Record, Seed, Step, Walk};
use super::disk::{Disk, Media, Overlay, SyncMode};
use super::index::Index;
use super::place::{Place, Salt};
use super::queue::{Bits, GROUP_MAX, Group, Queue, QueueId, QueueKey, TAIL_MAX, done_block};
use super::report::{Completion, QueueReport, Recovered, SpoolHealth};
use super::salvage::{self, Finds, Raised};
use super::store::{Batch, Store, StoreError};
use crate::wire::num::u64_of;

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

/// A group that is being written.
#[derive(Debug)]
struct Draft {
    first: u64,
    count: u64,
    value: Vec<u8>,
    /// Where in `value` the records begin that no commit has held yet, and the first one's number.
    fresh_at: usize,
    fresh: u64,
    oldest_us: u64,
    /// Removed before they were written.
    done: Bits,
    done_count: u64,
}

/// The end of a queue's last group, if it is short enough to be written again.
#[derive(Debug)]
struct Tail {
    first: u64,
    value: Vec<u8>,
}

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
    /// Removals that no commit has held yet.
    unsaved: Vec<(QueueId, u64, u64)>,
    health: SpoolHealth,
    /// Runs of an older epoch come back unwritten: something before them did too.
    pub(super) epoch: u64,
    pub(super) unsound: u64,
    /// Octets of runs that have been answered.
    pub(super) answered_bytes: u64,
    pub(super) out: VecDeque<Completion>,
}

impl Keeper {
    /// Opens the directory. Only another owner is an error here: all else is a state that is told and retried.
    pub(super) fn open(
        path: &Path,
        settings: SpoolSettings,
        opener: Opener,
        now_us: u64,
    ) -> io::Result<(Self, Recovered)> {
        let mut keeper = Self {
            path: path.to_owned(),
            settings,
            opener,
            place: None,
            store: None,
            salt: None,
            queues: BTreeMap::new(),
            tails: HashMap::new(),
            staged: BTreeMap::new(),
            staged_bytes: 0,
            dirty: BTreeSet::new(),
            unsaved: Vec::new(),
            health: SpoolHealth::Ok,
            epoch: 0,
            unsound: 0,
            answered_bytes: 0,
            out: VecDeque::new(),
        };
        match keeper.begin(now_us) {
            Ok(recovered) => Ok((keeper, recovered)),
            Err(StoreError::Io(error)) if error.kind() == io::ErrorKind::ResourceBusy => Err(error),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the spool cannot be opened; trying again");
                keeper.health = SpoolHealth::of(&error);
                Ok((keeper, Recovered::default()))
            }
        }
    }

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

    fn ballast_bytes(&self) -> u64 {
        (self.settings.max_bytes / 32).clamp(64 << 10, 4 << 20)
    }

    /// Owns the directory, opens the store, reads what it holds.
    fn begin(&mut self, now_us: u64) -> Result<Recovered, StoreError> {
        let place = match self.place.take() {
            Some(place) => place,
            None => Place::own(&self.path).map_err(StoreError::Io)?,
        };
        let outcome = self.begin_in(&place, now_us);
        let ballast = place.take_ballast(self.ballast_bytes());
        self.place = Some(place);
        let recovered = outcome?;
        if let Err(error) = ballast {
            tracing::warn!(%error, "no room for the spool's ballast: nothing new is taken until there is");
            self.turn(SpoolHealth::of_io(&error));
        }
        Ok(recovered)
    }

    fn begin_in(&mut self, place: &Place, now_us: u64) -> Result<Recovered, StoreError> {
        let mut recovered = Recovered::default();
        let file = place.store();
        self.salt = match place.salt().map_err(StoreError::Io)? {
            Some(salt) => Some(salt),
            None => {
                // Without the secret no record can be told from a forged one.
                if file.metadata().is_ok_and(|m| m.len() > 0) {
                    self.set_aside(place, &file, now_us, "its salt is lost", &mut recovered)?;
                }
                Some(place.new_salt().map_err(StoreError::Io)?)
            }
        };
        let draft = file.with_extension("redb.new");
        if !file.exists() && draft.exists() {
            std::fs::rename(&draft, &file).map_err(StoreError::Io)?;
        }
        let (finds, raised) = if place.is_clean() { Default::default() } else { self.rolled_back(&file)? };
        place.unclean().map_err(StoreError::Io)?;
        let store = match Store::open(self.medium(&file)?) {
            Err(StoreError::Damaged(why)) => {
                self.rebuild(place, &file, &draft, now_us, &why, &mut recovered)?;
                Store::open(self.medium(&file)?)?
            }
            other => other?,
        };
        recovered.salvaged += u64_of(raised.len());
        salvage::restore(raised.into_iter().map(Ok), &finds.queues, &store, self.seed())?;
        self.load(place, store, &mut recovered)?;
        Ok(recovered)
    }

    /// What lies in the file of commits that a repair will roll back. Looked for before the repair, which may write over it.
    fn rolled_back(&self, file: &Path) -> Result<(Finds, Vec<Raised>), StoreError> {
        let nothing = Ok(Default::default());
        let media = self.medium(file)?;
        if media.len().map_err(StoreError::Io)? == 0 {
            return nothing;
        }
        let peek = Overlay::over(Arc::clone(&media)).map_err(StoreError::Io)?;
        let known = Store::open(Arc::new(peek)).and_then(|store| Index::of(&store, self.seed()));
        // A store that cannot even be looked at is salvaged as a whole.
        let Ok(known) = known else { return nothing };
        let mut finds = salvage::scan(&*media, self.seed()).map_err(StoreError::Io)?;
        finds.keep_from(|id| known.queues.get(&id).map_or(0, |queue| queue.next));
        let raised =
            finds.raise_each(&*media).collect::<io::Result<Vec<Raised>>>().map_err(StoreError::Io)?;
        if raised.is_empty() { nothing } else { Ok((finds, raised)) }
    }

    fn medium(&self, file: &Path) -> Result<Arc<dyn Media>, StoreError> {
        let sync = if self.settings.fsync { SyncMode::Always } else { SyncMode::Never };
        (self.opener)(file, sync).map_err(StoreError::Io)
    }

    fn set_aside(
        &self,
        place: &Place,
        file: &Path,
        now_us: u64,
        why: &str,
        recovered: &mut Recovered,
    ) -> Result<(), StoreError> {
        let aside = place.set_aside(file, now_us).map_err(StoreError::Io)?;
        tracing::error!(file = %aside.display(), why, "the spool's store was damaged and has been set aside");
        recovered.set_aside = Some(aside.display().to_string());
        Ok(())
    }

    /// Writes what a damaged store still holds into a new one, which then takes its place. Killed at any step, the next start
    /// finds either the damaged store, or the whole new one.
    fn rebuild(
        &self,
        place: &Place,
        file: &Path,
        draft: &Path,
        now_us: u64,
        why: &str,
        recovered: &mut Recovered,
    ) -> Result<(), StoreError> {
        let _ = std::fs::remove_file(draft);
        let media = self.medium(file)?;
        let mut finds = salvage::scan(&*media, self.seed()).map_err(StoreError::Io)?;
        finds.keep_from(|_| 0);
        let store = Store::open(self.medium(draft)?)?;
        recovered.salvaged = finds.records();
        recovered.unsound += finds.missing();
        for (queue, seq, bytes) in finds.unsound(&*media) {
            quarantine(place, queue, seq, &bytes);
        }
        salvage::restore(finds.raise_each(&*media), &finds.queues, &store, self.seed())?;
        drop((store, media));
        self.set_aside(place, file, now_us, why, recovered)?;
        std::fs::rename(draft, file).and_then(|()| place.sync()).map_err(StoreError::Io)
    }

    fn load(&mut self, place: &Place, store: Store, recovered: &mut Recovered) -> Result<(), StoreError> {
        let index = Index::of(&store, self.seed())?;
        for (queue, first, bytes) in &index.damaged {
            quarantine(place, *queue, *first, bytes);
        }
        recovered.unsound += index.unsound;
        self.unsound += recovered.unsound;
        self.queues = index.queues;
        self.dirty = index.dirty;
        self.tails.clear();
        self.store = Some(store);
        for (queue, from, to) in std::mem::take(&mut self.unsaved) {
            self.remove(queue, from, to);
        }
        recovered.queues = self.reports();
        recovered.names = self.queues.iter().map(|(id, q)| (*id, q.key.clone(), q.next)).collect();
        recovered.records = recovered.queues.iter().map(|q| q.records).sum();
        Ok(())
    }

    /// Queues with something in them.
    pub(super) fn reports(&self) -> Vec<QueueReport> {
        let waiting = self.queues.iter().filter(|(_, q)| q.records > 0);
        let report = |(id, q): (&QueueId, &Queue)| QueueReport {
            queue: *id,
            key: q.key.clone(),
            records: q.records,
            bytes: q.charge,
            oldest_us: q.oldest_us(),
        };
        waiting.map(report).collect()
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
        while let Some(len) = block::seal(rest, seed) {
            let Some((bytes, after)) = std::mem::take(&mut rest).split_at_mut_checked(len) else { break };
            rest = after;
            let Some(head) = block::head(bytes, seed) else { break };
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

    /// Marks records as done; the store hears of it with the next commit.
    pub(super) fn remove(&mut self, id: QueueId, from: u64, to: u64) {
        for draft in self.staged.get_mut(&id).into_iter().flatten() {
            for seq in from.max(draft.fresh)..=to.min((draft.first + draft.count).saturating_sub(1)) {
                draft.done_count += u64::from(draft.done.add(seq - draft.first));
            }
        }
        if let Some(queue) = self.queues.get_mut(&id) {
            let removed = queue.remove(from, to);
            self.dirty.extend(removed.marked.into_iter().map(|first| (id, first)));
        }
        match self.unsaved.last_mut() {
            Some((q, _, end)) if *q == id && end.checked_add(1) == Some(from) => *end = to,
            _ => self.unsaved.push((id, from, to)),
        }
    }

    /// Whether a commit would change anything.
    pub(super) fn has_changes(&self) -> bool {
        self.store.is_some() && !(self.staged.is_empty() && self.dirty.is_empty())
    }

    /// Writes what is staged and the marks; what could not be written is given back.
    pub(super) fn commit(&mut self, now_us: u64, took: impl Fn() -> Duration) {
        if !self.has_changes() {
            return;
        }
        let staged = std::mem::take(&mut self.staged);
        self.answered_bytes += u64_of(std::mem::take(&mut self.staged_bytes));
        let (mut batch, plan) = self.plan(staged);
        let Some(store) = &self.store else { return };
        let outcome = store.commit(&batch);
        let groups = std::mem::take(&mut batch.groups);
        match outcome {
            Ok(()) => {
                self.unsaved.clear();
                self.dirty.clear();
                let took = took();
                for (queue, from, to) in plan.appended {
                    self.out.push_back(Completion::Appended { queue, from, to, took });
                }
                for ((id, _), ((_, first), value)) in plan.fresh.into_iter().zip(groups) {
                    if value.len() <= TAIL_MAX {
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

    fn plan(&mut self, staged: BTreeMap<QueueId, Vec<Draft>>) -> (Batch, Plan) {
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
        let Some(place) = self.place.take() else { return self.begin(now_us).map(drop) };
        let outcome = self.begin_in(&place, now_us);
        self.place = Some(place);
        let recovered = outcome?;
        if recovered.set_aside.is_some() || recovered.unsound > 0 {
            self.out.push_back(Completion::Recovered(recovered));
        }
        Ok(())
    }

    /// Tries to be well again. Called now and then while it is not.
    pub(super) fn retry(&mut self, now_us: u64) {
        let late = self.place.is_none();
        if self.store.is_none() {
            let outcome =
                if late { self.begin(now_us).map(Some) } else { self.reopen(now_us).map(|()| None) };
            match outcome {
                Ok(Some(recovered)) => self.out.push_back(Completion::Recovered(recovered)),
                Ok(None) => {}
                Err(error) => return self.turn(SpoolHealth::of(&error)),
            }
        }
        let Some(place) = &self.place else { return };
        let mut room = place.take_ballast(self.ballast_bytes());
        if room.is_err() && self.slack() {
            self.compact(now_us);
            room = self.place.as_ref().map_or(room, |place| place.take_ballast(self.ballast_bytes()));
        }
        match room {
            Ok(()) if self.store.is_some() => self.turn(SpoolHealth::Ok),
            Ok(()) => {}
            Err(error) => self.turn(SpoolHealth::of_io(&error)),
        }
    }

    /// Whether the file is much larger than what is in it.
    pub(super) fn slack(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Some(place) = &self.place else { return false };
        let there = place.store().metadata().map_or(0, |m| m.blocks().saturating_mul(512));
        let used: u64 = self.queues.values().map(|q| q.charge).sum();
        there > (self.settings.max_bytes / 8).min(16 << 20) && used < there / 4
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

    /// Reads records of a queue in order, after a number.
    pub(super) fn read(&mut self, id: QueueId, after: u64, max_bytes: u64, now_us: u64) {
        match self.read_some(id, after, max_bytes, now_us) {
            Ok(records) => self.out.push_back(records),
            Err(error) => {
                tracing::error!(%error, "the spool could not be read");
                let why = SpoolHealth::of(&error);
                self.fail(&error, now_us);
                self.out.push_back(Completion::ReadFailed { queue: id, why });
            }
        }
    }

    fn read_some(
        &mut self,
        id: QueueId,
        after: u64,
        max_bytes: u64,
        now_us: u64,
    ) -> Result<Completion, StoreError> {
        let Some(store) = &self.store else {
            return Ok(Completion::ReadFailed { queue: id, why: self.health.clone() });
        };
        let seed = self.seed();
        let (mut records, mut bytes, mut unsound) = (Vec::new(), 0, Vec::new());
        let mut end = true;
        let empty = BTreeMap::new();
        let groups = self.queues.get(&id).map_or(&empty, |q| &q.groups);
        let aged_before = self.settings.max_age.map_or(0, |age| now_us.saturating_sub(micros(age)));
        let start = groups.range(..=after).next_back().map_or(0, |(first, _)| *first);
        for (first, group) in groups.range(start..).filter(|(f, g)| g.left > 0 && *f + g.count > after + 1) {
            if bytes >= max_bytes {
                end = false;
                break;
            }
            let value = store.group((id.0, *first))?.unwrap_or_default();
            let mut next = *first;
            for step in Walk::new(&value, seed) {
                let Step::Sound(head, at) = step else { continue };
                if head.kind != Kind::Record || head.queue != id.0 || head.seq < next {
                    continue;
                }
                unsound.extend((next..head.seq).map(|seq| (*first, seq)));
                next = head.seq + 1;
                if head.seq <= after || group.done.has(head.seq - first) {
                    continue;
                }
                if bytes >= max_bytes {
                    end = false;
                    next = first + group.count;
                    break;
                }
                bytes += u64_of(head.block_len());
                records.push(Record::at(&value, &head, at, head.at < aged_before));
            }
            unsound.extend((next..first + group.count).map(|seq| (*first, seq)));
            let lost = |(f, seq): &(u64, u64)| f == first && !group.done.has(seq - first);
            if unsound.iter().any(lost)
                && let Some(place) = &self.place
            {
                quarantine(place, id, *first, &value);
            }
            unsound.retain(|entry| entry.0 != *first || lost(entry));
        }
        let lost = u64_of(unsound.len());
        for (_, seq) in unsound {
            self.remove(id, seq, seq);
        }
        self.unsound += lost;
        Ok(Completion::Records { queue: id, records, end, unsound: lost })
    }
}

impl Draft {
    fn new(value: Vec<u8>, first: u64, oldest_us: u64) -> Self {
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

    fn longer(tail: Tail, queue: &Queue) -> Self {
        let group = queue.groups.get(&tail.first);
        let mut draft = Self::new(tail.value, tail.first, group.map_or(0, |g| g.oldest_us));
        draft.count = group.map_or(0, |g| g.count);
        draft.fresh = draft.first + draft.count;
        draft
    }
}

/// What follows a commit.
#[derive(Debug, Default)]
struct Plan {
    appended: Vec<(QueueId, u64, u64)>,
    /// For each group of the batch: its queue, and where what is new in it begins.
    fresh: Vec<(QueueId, usize)>,
}

impl Plan {
    fn appended(&mut self, id: QueueId, from: u64, to: u64) {
        match self.appended.last_mut() {
            Some((q, _, end)) if *q == id && *end + 1 == from => *end = to,
            _ => self.appended.push((id, from, to)),
        }
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

fn micros(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}
