//! A sync that fails: the kernel says so once, counts what was to be written as written, and tries it never again.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::disk::{Disk, Media, SyncMode};
use super::super::keeper::Opener;
use super::*;
use crate::wire::num::usize_clamped;

/// A change that no sync has written yet.
#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

/// By inode: what is on the platters, and what is to come there.
type Images = HashMap<u64, (Vec<u8>, Vec<Change>)>;

/// A disk behind the page cache that the files are.
#[derive(Debug, Default)]
struct Platters {
    images: Mutex<Images>,
    fails: AtomicBool,
}

/// A file on it.
#[derive(Debug)]
struct Cached {
    file: Disk,
    inode: u64,
    disk: Arc<Platters>,
}

impl Cached {
    fn change(&self, change: Change) {
        self.disk.images.lock().unwrap().entry(self.inode).or_default().1.push(change);
    }
}

impl Media for Cached {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(at, out)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write(at, bytes.to_vec()));
        self.file.write(at, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len));
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut images = self.disk.images.lock().unwrap();
        let (image, changes) = images.entry(self.inode).or_default();
        let changes = std::mem::take(changes);
        if self.disk.fails.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        for change in changes {
            match change {
                Change::Len(len) => image.resize(usize_clamped(len), 0),
                Change::Write(at, bytes) => {
                    let at = usize_clamped(at);
                    image.resize(image.len().max(at + bytes.len()), 0);
                    image[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        Ok(())
    }
}

impl Platters {
    fn opener(self: &Arc<Self>) -> Opener {
        let disk = Arc::clone(self);
        Box::new(move |path, _| {
            let file = Disk::open(path, SyncMode::Never)?;
            Ok(Arc::new(Cached { file, inode: path.metadata()?.ino(), disk: Arc::clone(&disk) }))
        })
    }

    /// Whatever was not synced is gone.
    fn power_cut(&self, file: &Path) {
        let image = self.images.lock().unwrap().remove(&file.metadata().unwrap().ino()).unwrap().0;
        fs::write(file, image).unwrap();
    }
}

#[test]
fn what_is_kept_after_a_failed_sync_survives_a_power_cut() {
    let (dir, disk) = (Dir::new("unsynced"), Arc::new(Platters::default()));
    let open =
        || Spool::open_on(dir.path(), SpoolSettings::default(), Box::new(|| {}), disk.opener()).unwrap();
    let (mut spool, _) = open();
    // Small groups, several in a page of the store.
    let queues: Vec<QueueId> = (0..60).map(|n| spool.queue(&key(&format!("app {n}")))).collect();
    for queue in &queues {
        spool.append(*queue, &publish(&[1; 200])).unwrap();
        synced(&mut spool, *queue, 1);
    }
    // A page of the first is written for it, and never arrives.
    disk.fails.store(true, Ordering::Relaxed);
    spool.append(queues[0], &publish(&[2; 200])).unwrap();
    until(&mut spool, |c| matches!(c, Completion::NotKept { .. }).then_some(()));
    disk.fails.store(false, Ordering::Relaxed);
    until(&mut spool, |c| matches!(c, Completion::Health(SpoolHealth::Ok)).then_some(()));
    // From now on all is well; pages that nothing has to do with are not written again.
    for n in 2..100 {
        spool.append(queues[59], &publish(&[3; 2000])).unwrap();
        synced(&mut spool, queues[59], n);
    }
    drop(spool);
    disk.power_cut(&dir.path().join("spool.redb"));
    let (mut spool, recovered) = open();
    assert_eq!((recovered.set_aside, recovered.unsound, recovered.salvaged), (None, 0, 0));
    for queue in &queues[..59] {
        assert_eq!(all(&mut spool, *queue).iter().map(|r| r.seq).collect::<Vec<_>>(), [1]);
    }
    assert_eq!(all(&mut spool, queues[59]).len(), 99);
}
