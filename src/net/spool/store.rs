//! The embedded store (redb): groups, queues and marks, changed together or not at all.
//!
//! Everything that redb is asked may fail or, on a damaged file, panic: both come back as a [`StoreError`].

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::disk::{Backend, Media};
use super::queue::{QueueId, Refusals};

/// (queue, first number) → a queue's block, then records.
const GROUPS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("groups");
/// queue → its block.
const QUEUES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("queues");
/// (queue, first number) → which of the group's records are done.
const DONE: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("done");

/// (queue, number) → why a broker has refused a record that waits.
const REFUSALS: TableDefinition<'_, (u64, u64), &str> = TableDefinition::new("refusals");

/// Queue, first number.
type GroupKey = (u64, u64);

/// Pages that redb keeps in memory.
const CACHE_BYTES: usize = 8 << 20;

/// Octets copied in one commit.
const COPY_BYTES: usize = 8 << 20;

/// Why the store could not.
#[derive(Debug)]
pub(super) enum StoreError {
    /// The file is not what a store wrote.
    Damaged(String),
    /// The disk said no.
    Io(io::Error),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(why) => write!(f, "damaged: {why}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        match error {
            redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
                Self::Damaged(error.to_string())
            }
            redb::Error::Io(error) => Self::Io(error),
            redb::Error::PreviousIo => Self::Io(io::Error::other("an earlier operation failed")),
            other => Self::Damaged(other.to_string()),
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Runs what asks redb.
fn ask<T>(what: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(answer) => answer.map_err(StoreError::from),
        Err(panic) => Err(StoreError::Damaged(format!("the store panicked: {}", words(&*panic)))),
    }
}

/// Changes that happen together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Values of groups, new or longer.
    pub(super) groups: Vec<(GroupKey, Vec<u8>)>,
    /// Groups that are done.
    pub(super) gone: Vec<GroupKey>,
    /// Marks.
    pub(super) done: Vec<(GroupKey, Vec<u8>)>,
    /// Marks that the watermark has passed.
    pub(super) passed: Vec<GroupKey>,
    /// Queues' blocks.
    pub(super) queues: Vec<(u64, Vec<u8>)>,
    /// Refusals; `None`: it is forgotten.
    pub(super) refusals: Vec<(GroupKey, Option<Arc<str>>)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
            && self.gone.is_empty()
            && self.done.is_empty()
            && self.queues.is_empty()
            && self.refusals.is_empty()
    }
}

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    db: Database,
}

impl Store {
    /// Opens or makes one. Every page's checksum is checked: a flipped bit is found here, not in the middle of something.
    pub(super) fn open(media: Arc<dyn Media>) -> Result<Self, StoreError> {
        let db = ask(|| {
            let db = Database::builder()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create_with_backend(Backend(media))?;
            let write = db.begin_write()?;
            write.open_table(GROUPS)?;
            write.open_table(QUEUES)?;
            write.open_table(DONE)?;
            write.open_table(REFUSALS)?;
            write.commit()?;
            Ok(db)
        })?;
        Ok(Self { db })
    }

    /// Makes the changes; once this returns they are on disk.
    pub(super) fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        ask(|| {
            let mut write = self.db.begin_write()?;
            write.set_durability(Durability::Immediate).map_err(|_| StorageError::Unsupported)?;
            {
                let mut groups = write.open_table(GROUPS)?;
                for (key, value) in &batch.groups {
                    let mut place = groups.insert_reserve(key, value.len())?;
                    place.as_mut().copy_from_slice(value);
                }
                // After the values: a group may have become longer and done at once.
                for key in &batch.gone {
                    groups.remove(key)?;
                }
                let mut done = write.open_table(DONE)?;
                for (key, value) in &batch.done {
                    done.insert(key, value.as_slice())?;
                }
                for key in &batch.passed {
                    done.remove(key)?;
                }
                let mut queues = write.open_table(QUEUES)?;
                for (key, value) in &batch.queues {
                    queues.insert(key, value.as_slice())?;
                }
                let mut refusals = write.open_table(REFUSALS)?;
                for (key, why) in &batch.refusals {
                    match why {
                        Some(why) => refusals.insert(key, &**why)?,
                        None => refusals.remove(key)?,
                    };
                }
            }
            write.commit()?;
            Ok(())
        })
    }

    /// A group's value.
    pub(super) fn group(&self, key: (u64, u64)) -> Result<Option<Bytes>, StoreError> {
        ask(|| {
            let table = self.db.begin_read()?.open_table(GROUPS)?;
            Ok(table.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    /// Every queue's block.
    pub(super) fn queues(&self) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        ask(|| {
            let table = self.db.begin_read()?.open_table(QUEUES)?;
            let mut all = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                all.push((key.value(), value.value().to_vec()));
            }
            Ok(all)
        })
    }

    /// Every mark.
    pub(super) fn done(&self) -> Result<Vec<(GroupKey, Vec<u8>)>, StoreError> {
        ask(|| {
            let table = self.db.begin_read()?.open_table(DONE)?;
            let mut all = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                all.push((key.value(), value.value().to_vec()));
            }
            Ok(all)
        })
    }

    /// Every refusal.
    pub(super) fn refusals(&self) -> Result<Refusals, StoreError> {
        ask(|| {
            let table = self.db.begin_read()?.open_table(REFUSALS)?;
            let mut all = Refusals::new();
            for entry in table.iter()? {
                let (key, why) = entry?;
                let (queue, seq) = key.value();
                all.insert((QueueId(queue), seq), why.value().into());
            }
            Ok(all)
        })
    }

    /// Every group, in order, one at a time.
    pub(super) fn each_group(&self, mut seen: impl FnMut((u64, u64), &Bytes)) -> Result<(), StoreError> {
        ask(|| {
            let table = self.db.begin_read()?.open_table(GROUPS)?;
            for entry in table.iter()? {
                let (key, value) = entry?;
                seen(key.value(), &Bytes::copy_from_slice(value.value()));
            }
            Ok(())
        })
    }

    /// Writes all of it into another store, which has nothing yet.
    pub(super) fn copy_to(&self, other: &Self) -> Result<(), StoreError> {
        let refusals =
            self.refusals()?.into_iter().map(|((id, seq), why)| ((id.0, seq), Some(why))).collect();
        let mut batch = Batch { queues: self.queues()?, done: self.done()?, refusals, ..Batch::default() };
        let (mut bytes, mut outcome) = (0, Ok(()));
        self.each_group(|key, value| {
            batch.groups.push((key, value.to_vec()));
            bytes += value.len();
            if bytes >= COPY_BYTES && outcome.is_ok() {
                outcome = other.commit(&std::mem::take(&mut batch));
                bytes = 0;
            }
        })?;
        outcome?;
        other.commit(&batch)
    }

    /// Gives room that nothing uses back to the disk. Slow where much is kept.
    pub(super) fn compact(&mut self) -> Result<(), StoreError> {
        let db = &mut self.db;
        ask(|| {
            db.compact()?;
            Ok(())
        })
    }
}
