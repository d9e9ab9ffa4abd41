//! What the spool's tests share: a directory that goes away, and a disk that fails as it is told.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::disk::Media;
use super::keeper::Opener;
use crate::wire::num::{u64_of, usize_clamped};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory of its own, removed at the end.
pub(in crate::net) struct Dir(PathBuf);

impl Dir {
    pub(in crate::net) fn new(name: &str) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("umbel-spool-{name}-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(in crate::net) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Numbers that look random and are the same each time (xorshift).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}

/// What has been done to a simulated disk since its last sync.
#[derive(Debug, Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Len(usize),
}

#[derive(Debug, Default)]
struct State {
    /// As the process sees it.
    now: Vec<u8>,
    /// As it is after a power cut, without what is pending.
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// Octets that may still be written before the disk is full.
    room: Option<usize>,
}

/// A disk that loses power, and fills up, when it is told to.
#[derive(Debug, Clone, Default)]
pub(super) struct Sim(Arc<Mutex<State>>);

const SECTOR: usize = 512;

impl Sim {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Of what was not synced, some sectors arrive and some do not.
    pub(super) fn cut(&self, dice: &mut Dice) {
        let mut state = self.state();
        let mut image = std::mem::take(&mut state.durable);
        for pending in std::mem::take(&mut state.pending) {
            match pending {
                Pending::Len(len) if dice.below(2) == 0 => image.resize(len, 0),
                Pending::Len(_) => {}
                Pending::Write(at, bytes) => {
                    for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                        let from = at + n * SECTOR;
                        if dice.below(3) > 0 {
                            image.resize(image.len().max(from + sector.len()), 0);
                            image[from..from + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        state.durable = image.clone();
        state.now = image;
        state.room = None;
    }

    pub(super) fn set_room(&self, room: Option<usize>) {
        self.state().room = room;
    }

    pub(super) fn opener(&self) -> Opener {
        let sim = self.clone();
        Box::new(move |path, _| {
            assert!(path.ends_with("spool.redb"), "a store was rebuilt");
            Ok(Arc::new(sim.clone()))
        })
    }
}

impl Media for Sim {
    fn len(&self) -> io::Result<u64> {
        Ok(u64_of(self.state().now.len()))
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let (at, state) = (usize_clamped(at), self.state());
        out.copy_from_slice(state.now.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (at, mut state) = (usize_clamped(at), self.state());
        if let Some(room) = &mut state.room {
            *room = room.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        }
        let len = state.now.len().max(at + bytes.len());
        state.now.resize(len, 0);
        state.now[at..at + bytes.len()].copy_from_slice(bytes);
        state.pending.push(Pending::Write(at, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.now.resize(usize_clamped(len), 0);
        state.pending.push(Pending::Len(usize_clamped(len)));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        for pending in std::mem::take(&mut state.pending) {
            match pending {
                Pending::Len(len) => state.durable.resize(len, 0),
                Pending::Write(at, bytes) => {
                    let len = state.durable.len().max(at + bytes.len());
                    state.durable.resize(len, 0);
                    state.durable[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        Ok(())
    }
}
