//! The spool of a process that is not running, for `umbel spool`: looked at without a byte changed, exported, emptied by hand.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::SpoolSettings;
use super::block::{Kind, Record, Seed, Step, Walk};
use super::disk::{Disk, Media, Overlay};
use super::index::Index;
use super::keeper::{Keeper, file_opener};
use super::line::line;
use super::place::Place;
use super::queue::{QueueId, Refusals};
use super::report::{Completion, QueueReport};
use super::salvage;
use super::selection::Selection;
use super::store::{Store, StoreError};

/// A spool that is looked at. While it is, no process can own it.
#[derive(Debug)]
pub struct Inspection {
    store: Store,
    index: Index,
    refusals: Refusals,
    seed: Seed,
    _place: Place,
}

/// A medium with nothing on it.
#[derive(Debug)]
struct Blank;

impl Media for Blank {
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn io_error(error: StoreError) -> io::Error {
    match error {
        StoreError::Io(error) => error,
        StoreError::Damaged(why) => io::Error::new(io::ErrorKind::InvalidData, why),
    }
}

impl Inspection {
    /// Looks at the spool in a directory; nothing in it is changed. A damaged store is searched for records.
    ///
    /// # Errors
    /// There is none, a process owns it, or the disk cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let place = visit(path)?;
        let Some(salt) = place.salt()? else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the spool's salt is lost"));
        };
        let seed = salt.seed();
        let disk: Arc<dyn Media> = Arc::new(Disk::look(&place.store())?);
        let opened = Store::open(Arc::new(Overlay::over(Arc::clone(&disk))?));
        let store = match opened {
            Err(StoreError::Damaged(_)) => {
                let mut finds = salvage::scan(&*disk, seed)?;
                finds.keep_from(|_| 0);
                let store = Store::open(Arc::new(Overlay::over(Arc::new(Blank))?)).map_err(io_error)?;
                salvage::restore(finds.raise_each(&*disk), &finds.queues, &store, seed).map_err(io_error)?;
                store
            }
            other => other.map_err(io_error)?,
        };
        let index = Index::of(&store, seed).map_err(io_error)?;
        let mut refusals = store.refusals().map_err(io_error)?;
        refusals.retain(|(id, seq), _| {
            let group = index.queues.get(id).and_then(|queue| queue.group_of(*seq));
            group.is_some_and(|(first, group)| !group.done.has(seq - first))
        });
        Ok(Self { store, index, refusals, seed, _place: place })
    }

    /// Queues that have records.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueReport> {
        let queues = self.index.queues.iter().filter(|(_, q)| q.records > 0);
        in_order(queues.map(|(id, q)| q.report(*id).with_refusals(&self.refusals)))
    }

    /// Each record of the selection, queue by queue, in order.
    ///
    /// # Errors
    /// The disk's, or those of `each`.
    pub fn records(
        &self,
        selection: &Selection,
        mut each: impl FnMut(&QueueReport, &Record) -> io::Result<()>,
    ) -> io::Result<()> {
        for report in in_order(self.index.queues.iter().map(|(id, q)| q.report(*id))) {
            let id = &report.queue;
            let Some(queue) = self.index.queues.get(id).filter(|_| selection.has_queue(&report)) else {
                continue;
            };
            for (first, group) in queue.groups.iter().filter(|(_, g)| g.left > 0) {
                let value: Bytes = self.store.group((id.0, *first)).map_err(io_error)?.unwrap_or_default();
                for step in Walk::new(&value, self.seed) {
                    let Step::Sound(head, at) = step else { continue };
                    let waits = head.kind == Kind::Record && head.queue == id.0 && head.seq >= *first;
                    if waits && !group.done.has(head.seq - first) {
                        let record = Record::at(&value, &head, at, false);
                        if selection.has(&record) {
                            each(&report, &record)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the selection as JSON, a record a line, bytes in base64; tells how many.
    ///
    /// # Errors
    /// The disk's, or those of `out`.
    pub fn export(&self, selection: &Selection, out: &mut dyn Write) -> io::Result<u64> {
        let mut count = 0;
        self.records(selection, |queue, record| {
            count += 1;
            let refused = self.refusals.get(&(queue.queue, record.seq)).map(|why| &**why);
            serde_json::to_writer(&mut *out, &line(queue, record, refused)).map_err(io::Error::other)?;
            out.write_all(b"\n")
        })?;
        out.flush()?;
        Ok(count)
    }
}

/// A spool that is emptied by hand, owned for as long as that takes.
pub struct Custody {
    keeper: Keeper,
}

/// Commits that are tried: the first may find the disk full, and gives up the ballast then.
const COMMITS_TRIED: usize = 3;

impl Custody {
    /// Takes the spool in a directory. What is damaged is set aside as `umbel run` would.
    ///
    /// # Errors
    /// There is none, a process owns it, or the disk cannot be read.
    pub fn take(path: &Path, now_us: u64) -> io::Result<Self> {
        drop(visit(path)?);
        let (keeper, _) = Keeper::open(path, SpoolSettings::default(), file_opener(), now_us)?;
        Ok(Self { keeper })
    }

    /// Queues that have records.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueReport> {
        in_order(self.keeper.reports().into_iter())
    }

    /// Records of a queue in order, after a number, about so many octets; and whether these are the last.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&mut self, queue: QueueId, after: u64, max_bytes: u64) -> io::Result<(Vec<Record>, bool)> {
        self.keeper.read(queue, after, max_bytes, 0);
        let found = self.keeper.out.drain(..).find_map(|c| match c {
            Completion::Records { records, end, .. } => Some((records, end)),
            _ => None,
        });
        found.ok_or_else(|| io::Error::other(self.keeper.health().to_string()))
    }

    /// Removes records, which are gone from the disk once this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove(&mut self, queue: QueueId, seqs: &[u64], now_us: u64) -> io::Result<()> {
        for seq in seqs {
            self.keeper.remove(queue, *seq, *seq);
        }
        for _ in 0..COMMITS_TRIED {
            if !self.keeper.has_changes() {
                return Ok(());
            }
            self.keeper.commit(now_us, || Duration::ZERO);
        }
        if self.keeper.has_changes() {
            Err(io::Error::other(self.keeper.health().to_string()))
        } else {
            Ok(())
        }
    }

    /// Removes the selection; tells how many records are gone.
    ///
    /// # Errors
    /// The disk's.
    pub fn purge(&mut self, selection: &Selection, now_us: u64) -> io::Result<u64> {
        let mut gone = 0;
        for queue in self.queues().into_iter().filter(|q| selection.has_queue(q)) {
            let (mut after, mut end) = (0, false);
            while !end {
                let (records, last) = self.read(queue.queue, after, READ_BYTES)?;
                (after, end) = (records.last().map_or(after, |r| r.seq), last || records.is_empty());
                let seqs: Vec<u64> = records.iter().filter(|r| selection.has(r)).map(|r| r.seq).collect();
                self.remove(queue.queue, &seqs, now_us)?;
                gone += crate::wire::num::u64_of(seqs.len());
            }
        }
        Ok(gone)
    }

    /// Gives unused room back to the disk and leaves in peace.
    ///
    /// # Errors
    /// The disk's.
    pub fn leave(mut self, now_us: u64) -> io::Result<()> {
        if self.keeper.slack(super::writer::SLACK_MIN) {
            self.keeper.compact(now_us);
        }
        self.keeper.close()
    }
}

/// By owner; what goes ahead of another queue of the same login before it.
fn in_order(queues: impl Iterator<Item = QueueReport>) -> Vec<QueueReport> {
    let mut queues: Vec<QueueReport> = queues.collect();
    queues.sort_by(|a, b| {
        let owner = |q: &QueueReport| {
            (q.key.upstream.clone(), q.key.vhost.clone(), q.key.user.clone(), q.key.identity)
        };
        owner(a).cmp(&owner(b)).then(b.key.ahead.cmp(&a.key.ahead)).then(a.queue.cmp(&b.queue))
    });
    queues
}

/// Octets of records that are looked at in one go.
const READ_BYTES: u64 = 8 << 20;

fn visit(path: &Path) -> io::Result<Place> {
    Place::visit(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => io::Error::new(e.kind(), format!("{}: there is no spool", path.display())),
        _ => e,
    })
}
