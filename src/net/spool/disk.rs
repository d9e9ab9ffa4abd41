//! What the store stands on: a file, or a file that is only looked at.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

use crate::wire::num::{u64_of, usize_clamped};

/// Bytes that can be read, written and synced by place.
pub(super) trait Media: Debug + Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()>;
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncMode {
    Always,
    /// It survives our own death, not a power cut.
    Never,
}

/// A file.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    sync: SyncMode,
}

impl Disk {
    /// Only to be read.
    pub(super) fn look(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, sync: SyncMode::Never })
    }

    pub(super) fn open(path: &Path, sync: SyncMode) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Self { file, sync })
    }
}

impl Media for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, at)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        match self.sync {
            SyncMode::Always => self.file.sync_data(),
            SyncMode::Never => Ok(()),
        }
    }
}

/// A medium whose failed syncs are remembered: the kernel tells of each once, counts what it could not write as written, and tries it
/// never again. Until all of it is written anew, what is read is not what a power cut would leave.
#[derive(Debug)]
pub(super) struct Honest {
    pub(super) under: Arc<dyn Media>,
    pub(super) unsynced: Arc<AtomicBool>,
}

impl Media for Honest {
    fn len(&self) -> io::Result<u64> {
        self.under.len()
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.under.read(at, out)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.under.write(at, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.under.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.under.sync().inspect_err(|_| self.unsynced.store(true, Ordering::Release))
    }
}

/// A medium that is read and never written: what the store writes (a repair, say) stays in memory.
#[derive(Debug)]
pub(super) struct Overlay {
    under: Arc<dyn Media>,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    /// How much of what is under it still counts: what was cut off does not come back.
    under_len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

const PAGE: u64 = 4096;

impl Overlay {
    pub(super) fn over(under: Arc<dyn Media>) -> io::Result<Self> {
        let len = under.len()?;
        Ok(Self { under, over: Mutex::new(Over { len, under_len: len, pages: BTreeMap::new() }) })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page(&self, over: &Over, at: u64) -> io::Result<Box<[u8]>> {
        if let Some(page) = over.pages.get(&at) {
            return Ok(page.clone());
        }
        let mut page = vec![0; usize_clamped(PAGE)];
        let there = usize_clamped(over.under_len.saturating_sub(at).min(PAGE));
        if let Some(part) = page.get_mut(..there).filter(|part| !part.is_empty()) {
            self.under.read(at, part)?;
        }
        Ok(page.into_boxed_slice())
    }
}

/// The parts of `len` octets from `at` on, page by page: page, place in it, place in the whole, length.
fn parts(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let here = at + u64_of(done);
        let within = usize_clamped(here % PAGE);
        let n = (usize_clamped(PAGE) - within).min(len - done);
        let part = (here - here % PAGE, within, done, n);
        done += n;
        (n > 0).then_some(part)
    })
}

impl Media for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.state();
        if at.saturating_add(u64_of(out.len())) > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, within, place, n) in parts(at, out.len()) {
            let page = self.page(&over, page)?;
            if let (Some(to), Some(from)) = (out.get_mut(place..place + n), page.get(within..within + n)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut over = self.state();
        for (start, within, place, n) in parts(at, bytes.len()) {
            let mut page = self.page(&over, start)?;
            if let (Some(to), Some(from)) = (page.get_mut(within..within + n), bytes.get(place..place + n)) {
                to.copy_from_slice(from);
            }
            over.pages.insert(start, page);
        }
        over.len = over.len.max(at.saturating_add(u64_of(bytes.len())));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.state();
        if len < over.len {
            let kept = over.under_len.min(len);
            over.under_len = kept;
            over.pages.retain(|at, _| *at < len);
            if let Some((at, page)) = over.pages.last_entry().map(|e| (*e.key(), e.into_mut())) {
                page.get_mut(usize_clamped((len - at).min(PAGE))..).unwrap_or_default().fill(0);
            }
        }
        over.len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A medium in the store's own words.
#[derive(Debug, Clone)]
pub(super) struct Backend(pub(super) Arc<dyn Media>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, reason = "small numbers of the test's own")]
mod tests {
    use super::*;
    use crate::net::spool::testing::Dir;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_overlay_reads_as_the_file_would_and_leaves_it_alone(
            start in proptest::collection::vec(any::<u8>(), 0..20_000),
            steps in proptest::collection::vec((0_u64..20_000, 0_usize..9000, any::<u8>(), any::<bool>()), 0..12),
        ) {
            let dir = Dir::new("overlay");
            let path = dir.path().join("f");
            std::fs::write(&path, &start).unwrap();
            let overlay = Overlay::over(Arc::new(Disk::open(&path, SyncMode::Always).unwrap())).unwrap();
            let mut model = start.clone();
            for (at, len, byte, cut) in steps {
                if cut {
                    model.resize(at as usize, 0);
                    overlay.set_len(at).unwrap();
                } else {
                    model.resize(model.len().max(at as usize + len), 0);
                    model[at as usize..at as usize + len].fill(byte);
                    overlay.write(at, &vec![byte; len]).unwrap();
                }
                prop_assert_eq!(overlay.len().unwrap(), model.len() as u64);
                let mut seen = vec![0; model.len()];
                overlay.read(0, &mut seen).unwrap();
                prop_assert_eq!(&seen, &model);
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), start);
        }
    }
}
