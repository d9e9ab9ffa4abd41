//! Opening: the directory, its secret, the store as it is found, and what can be saved of one that was damaged.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::disk::{Honest, Media, Overlay, SyncMode};
use super::super::index::Index;
use super::super::place::Place;
use super::super::queue::{Queue, QueueKey};
use super::super::report::{Recovered, SpoolHealth};
use super::super::salvage::{self, Finds, Raised};
use super::super::store::{Batch, Store, StoreError};
use super::super::{Owned, SpoolSettings};
use super::{Keeper, Opener, quarantine};
use crate::wire::num::u64_of;

/// A ballast is at least this large: what it takes to open a store that was cut off, and to remove from it.
const BALLAST_MIN: u64 = 64 << 10;

impl Keeper {
    /// Opens the directory. Only another owner is an error here: all else is a state that is told and retried.
    pub(in super::super) fn open(
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
            refusals: BTreeMap::new(),
            untold: BTreeSet::new(),
            unsaved: Vec::new(),
            health: SpoolHealth::Ok,
            known: false,
            unsynced: Arc::default(),
            ballast: None,
            epoch: 0,
            unsound: 0,
            answered_bytes: 0,
            out: VecDeque::new(),
        };
        match keeper.begin(now_us) {
            Ok(recovered) => Ok((keeper, recovered)),
            Err(StoreError::Io(error))
                if error.kind() == io::ErrorKind::ResourceBusy && keeper.settings.owned == Owned::Refuse =>
            {
                Err(error)
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the spool cannot be opened; trying again");
                keeper.health = SpoolHealth::of(&error);
                // Its owner's secret is ours, too: logins are hashed with it from the start.
                keeper.salt = Place::peek(path);
                Ok((keeper, Recovered::default()))
            }
        }
    }

    /// Owns the directory, opens the store, reads what it holds.
    pub(super) fn begin(&mut self, now_us: u64) -> Result<Recovered, StoreError> {
        let place = match self.place.take() {
            Some(place) => place,
            None => Place::own(&self.path).map_err(StoreError::Io)?,
        };
        let mut outcome = self.begin_in(&place, now_us);
        if let Err(error) = &outcome
            && SpoolHealth::of(error) == SpoolHealth::Full
        {
            // To open a store that was cut off takes a little room.
            place.drop_ballast();
            outcome = self.begin_in(&place, now_us);
        }
        self.place = Some(place);
        let recovered = outcome?;
        if let Err(error) = self.take_ballast() {
            tracing::warn!(%error, "no room for the spool's ballast: nothing new is taken until there is");
            self.turn(SpoolHealth::of_io(&error));
        }
        Ok(recovered)
    }

    /// As large as there is room for, and then always the same.
    pub(super) fn take_ballast(&mut self) -> io::Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        if let Some(bytes) = self.ballast.or_else(|| place.ballast()) {
            self.ballast = Some(bytes);
            return place.take_ballast(bytes);
        }
        let mut bytes = (self.settings.max_bytes / 32).clamp(BALLAST_MIN, 4 << 20);
        loop {
            match place.take_ballast(bytes) {
                Err(_) if bytes > BALLAST_MIN => bytes = (bytes / 4).max(BALLAST_MIN),
                Ok(()) => {
                    self.ballast = Some(bytes);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn begin_in(&mut self, place: &Place, now_us: u64) -> Result<Recovered, StoreError> {
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
        let trusted = self.known || place.is_clean();
        let (finds, raised) = if trusted { Default::default() } else { self.rolled_back(&file)? };
        place.unclean().map_err(StoreError::Io)?;
        let store = match Store::open(self.medium(&file)?) {
            Err(StoreError::Damaged(why)) => {
                self.rebuild(place, &file, &draft, now_us, &why, &mut recovered)?;
                Store::open(self.medium(&file)?)?
            }
            other => other?,
        };
        let store = if self.unsynced.load(Ordering::Acquire) {
            self.rewrite(place, &file, &draft, store)?
        } else {
            store
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
        let under = (self.opener)(file, sync).map_err(StoreError::Io)?;
        Ok(Arc::new(Honest { under, unsynced: Arc::clone(&self.unsynced) }))
    }

    /// After a failed sync: all that the store holds is written into a new file, which takes its place once it is on disk. Where there is
    /// no room for two, the old one goes on, as it would without us.
    fn rewrite(&self, place: &Place, file: &Path, draft: &Path, store: Store) -> Result<Store, StoreError> {
        let _ = std::fs::remove_file(draft);
        self.unsynced.store(false, Ordering::Release);
        let copied = self.medium(draft).and_then(Store::open).and_then(|fresh| store.copy_to(&fresh));
        let swapped = copied
            .and_then(|()| std::fs::rename(draft, file).and_then(|()| place.sync()).map_err(StoreError::Io));
        match swapped {
            Ok(()) => {
                drop(store);
                tracing::info!("the spool's store was written anew, for a sync had failed");
                Store::open(self.medium(file)?)
            }
            Err(error) => {
                let _ = std::fs::remove_file(draft);
                self.unsynced.store(true, Ordering::Release);
                if SpoolHealth::of(&error) != SpoolHealth::Full {
                    return Err(error);
                }
                tracing::error!(
                    %error,
                    "after a failed sync the spool's store could not be written anew: a power cut may damage it"
                );
                Ok(store)
            }
        }
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

    /// Queues of an older format have a salted hash of their owner's login in their key, which guesses at a password can be tried against:
    /// the user's name does as well. Of several of one user, the newest goes on under his name. The blocks of those that changed.
    fn forget_secrets(&mut self) -> Vec<(u64, Vec<u8>)> {
        let seed = self.seed();
        let mut taken: BTreeSet<QueueKey> = self.queues.values().map(|q| q.key.clone()).collect();
        let hashed = |q: &&mut Queue| !q.key.user.is_empty() && q.key.identity != [0; 32];
        let mut renamed = Vec::new();
        for (id, queue) in self.queues.iter_mut().rev().filter(|(_, q)| hashed(q)) {
            let key = QueueKey { identity: [0; 32], ..queue.key.clone() };
            if taken.insert(key.clone()) {
                queue.key = key;
                renamed.push((id.0, queue.block(*id, seed)));
            }
        }
        renamed
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
        // What is known here and not there yet is told with the next commit.
        for (key, why) in store.refusals()? {
            let waits = |q: &Queue| q.group_of(key.1).is_some_and(|(first, g)| !g.done.has(key.1 - first));
            if self.queues.get(&key.0).is_some_and(waits) {
                self.refusals.entry(key).or_insert(why);
            } else {
                self.untold.insert(key);
            }
        }
        let renamed = self.forget_secrets();
        if !renamed.is_empty() {
            store.commit(&Batch { queues: renamed, ..Batch::default() })?;
        }
        self.tails.clear();
        self.store = Some(store);
        self.known = true;
        for (queue, from, to) in std::mem::take(&mut self.unsaved) {
            self.remove(queue, from, to);
        }
        recovered.queues = self.reports();
        recovered.names = self.queues.iter().map(|(id, q)| (*id, q.key.clone(), q.next)).collect();
        recovered.records = recovered.queues.iter().map(|q| q.records).sum();
        Ok(())
    }
}
