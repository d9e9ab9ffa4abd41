//! The spool of a process that is not running, for `umbel spool`: looked at without a byte changed, exported, purged.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::SpoolSettings;
use super::block::{Kind, Record, Seed, Step, Walk};
use super::disk::{Disk, Media, Overlay};
use super::index::Index;
use super::keeper::{Keeper, file_opener};
use super::place::Place;
use super::queue::{Queue, QueueId};
use super::report::QueueReport;
use super::salvage;
use super::store::{Store, StoreError};
use crate::wire::table::Value;
use crate::wire::{ContentHeader, method};

/// Which queues, and what of them.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only what waits for this upstream.
    pub upstream: Option<String>,
    /// Only this queue.
    pub queue: Option<QueueId>,
    /// Only what was accepted before, microseconds of Unix time.
    pub before_us: Option<u64>,
}

impl Selection {
    fn has_queue(&self, id: QueueId, queue: &Queue) -> bool {
        self.queue.is_none_or(|wanted| wanted == id)
            && self.upstream.as_ref().is_none_or(|wanted| *wanted == queue.key.upstream)
    }

    fn has(&self, record: &Record) -> bool {
        self.before_us.is_none_or(|before| record.at_us < before)
    }
}

/// A spool that is looked at. While it is, no process can own it.
#[derive(Debug)]
pub struct Inspection {
    store: Store,
    index: Index,
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
        let place = Place::visit(path)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: no spool to look at: {e}", path.display())))?;
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
        Ok(Self { store, index, seed, _place: place })
    }

    /// Queues that have records.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueReport> {
        self.index.queues.iter().filter(|(_, q)| q.records > 0).map(|(id, q)| q.report(*id)).collect()
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
        for (id, queue) in self.index.queues.iter().filter(|(id, q)| selection.has_queue(**id, q)) {
            let report = queue.report(*id);
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
            serde_json::to_writer(&mut *out, &line(queue, record)).map_err(io::Error::other)?;
            out.write_all(b"\n")
        })?;
        out.flush()?;
        Ok(count)
    }
}

/// Removes the selection; tells how many records are gone.
///
/// # Errors
/// A process owns the spool, or the disk cannot be written to.
pub fn purge(path: &Path, selection: &Selection, now_us: u64) -> io::Result<u64> {
    let mut gone = Vec::new();
    Inspection::open(path)?.records(selection, |queue, record| {
        gone.push((queue.queue, record.seq));
        Ok(())
    })?;
    let (mut keeper, _) = Keeper::open(path, SpoolSettings::default(), file_opener(), now_us)?;
    for (queue, seq) in &gone {
        keeper.remove(*queue, *seq, *seq);
    }
    keeper.commit(now_us, || Duration::ZERO);
    if keeper.has_changes() || keeper.out.iter().any(|c| matches!(c, super::Completion::Health(_))) {
        return Err(io::Error::other(keeper.health().to_string()));
    }
    if keeper.slack(super::writer::SLACK_MIN) {
        keeper.compact(now_us);
    }
    keeper.close()?;
    Ok(crate::wire::num::u64_of(gone.len()))
}

/// A record as JSON: where it goes and what it is as far as it can be read, and all of it in base64.
fn line(queue: &QueueReport, record: &Record) -> serde_json::Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let publish = method::split(record.method()).ok().and_then(|(_, reader)| method::publish(reader).ok());
    let header = ContentHeader::parse(record.header()).ok();
    let field = |name: &[u8]| match header.as_ref()?.headers()?.get(name) {
        Some(Value::Str(value)) => Some(text(value)),
        _ => None,
    };
    json!({
        "upstream": queue.key.upstream,
        "vhost": queue.key.vhost,
        "user": queue.key.user,
        "queue": queue.queue.0,
        "seq": record.seq,
        "lane": record.lane,
        "accepted_us": record.at_us,
        "flags": record.flags,
        "exchange": publish.as_ref().map(|p| text(p.exchange)),
        "routing_key": publish.as_ref().map(|p| text(p.routing_key)),
        "mandatory": publish.as_ref().map(|p| p.mandatory),
        "task": field(b"task"),
        "id": field(b"id"),
        "content_type": header.as_ref().and_then(|h| h.content_type()).map(text),
        "method": base64(record.method()),
        "header": base64(record.header()),
        "body": base64(record.body()),
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u32| DIGITS.get(crate::wire::num::usize_of(n & 63)).map_or('=', |d| char::from(*d));
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let used = place <= three.len();
            out.push(if used { digit(bits >> (18 - 6 * place)) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors =
            ["", "", "f", "Zg==", "fo", "Zm8=", "foo", "Zm9v", "foob", "Zm9vYg==", "foobar", "Zm9vYmFy"];
        for pair in vectors.chunks(2) {
            assert_eq!(base64(pair[0].as_bytes()), pair[1]);
        }
    }
}
