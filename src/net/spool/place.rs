//! The spool's directory: who owns it, its secret, what is set aside, and the ballast.
//!
//! ```text
//! lock        held while somebody owns the directory
//! salt        the secret behind every check and every hashed login, three times
//! spool.redb  the store
//! ballast     room that is given up when the disk is full, so that what waits can still be read and removed
//! clean       there while nobody owns the store and its last owner closed it
//! quarantine/ records that failed their check, as they were found
//! spool.redb.damaged-…  a store that could not be opened
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand::TryRngCore;
use sha2::{Digest, Sha256};

use super::block::Seed;

/// Octets that are kept in the quarantine at most: what is damaged must not fill the disk.
const QUARANTINE_MAX: u64 = 64 << 20;

/// Damaged stores that are kept.
const ASIDE_MAX: usize = 3;

/// The secret of one spool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Salt(pub(super) [u8; 32]);

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(***)")
    }
}

impl Salt {
    /// The seed of the checks, which tells nothing of the salt.
    pub(super) fn seed(self) -> Seed {
        let digest = Sha256::new().chain_update(b"umbel spool checks").chain_update(self.0).finalize();
        Seed(digest.first_chunk().map_or(0, |b| u64::from_le_bytes(*b)))
    }

    fn line(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let check = Sha256::digest(self.0);
        format!("{} {}\n", hex(&self.0), hex(check.get(..8).unwrap_or_default()))
    }

    fn of_line(line: &str) -> Option<Self> {
        let digits = line.get(..64)?;
        let mut salt = [0; 32];
        for (n, byte) in salt.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * n..2 * n + 2)?, 16).ok()?;
        }
        let salt = Self(salt);
        (salt.line().trim_end() == line).then_some(salt)
    }
}

/// The directory, owned.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Held for as long as this lives; released by the kernel if we do not.
    lock: File,
}

impl Place {
    /// Makes the directory and owns it.
    pub(super) fn own(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mut lock = OpenOptions::new();
        lock.read(true).write(true).create(true).truncate(false).mode(0o600);
        let place = Self::locked(path, &lock)?;
        // Only to be read by people: on a full disk it stays empty.
        let mut lock = &place.lock;
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(place)
    }

    /// Owns a directory that is there, without writing to it.
    pub(super) fn visit(path: &Path) -> io::Result<Self> {
        Self::locked(path, OpenOptions::new().read(true))
    }

    fn locked(path: &Path, how: &OpenOptions) -> io::Result<Self> {
        let lock = how.open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(path.join("lock")).unwrap_or_default();
                let owner = owner
                    .trim()
                    .parse::<u32>()
                    .map_or_else(|_| "another process".into(), |pid| format!("process {pid}"));
                let why = format!("{}: this spool is in use by {owner}", path.display());
                Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
            }
        }
    }

    /// The store's file.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join("spool.redb")
    }

    /// The secret of a directory that may be another's.
    pub(super) fn peek(path: &Path) -> Option<Salt> {
        fs::read_to_string(path.join("salt")).ok()?.lines().find_map(Salt::of_line)
    }

    /// The secret, if one is there and sound.
    pub(super) fn salt(&self) -> io::Result<Option<Salt>> {
        match fs::read_to_string(self.path.join("salt")) {
            Ok(text) => Ok(text.lines().find_map(Salt::of_line)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let bytes = fs::read(self.path.join("salt"))?;
                Ok(String::from_utf8_lossy(&bytes).lines().find_map(Salt::of_line))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a new secret, on disk before it is used.
    pub(super) fn new_salt(&self) -> io::Result<Salt> {
        let mut salt = Salt([0; 32]);
        rand::rngs::OsRng.try_fill_bytes(&mut salt.0).map_err(io::Error::other)?;
        let (draft, path) = (self.path.join("salt.new"), self.path.join("salt"));
        let mut file = private(&draft)?;
        file.write_all(salt.line().repeat(3).as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        self.sync()?;
        Ok(salt)
    }

    /// The directory's own entries are on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Renames a file that is of no use any more, and tells its new name.
    pub(super) fn set_aside(&self, file: &Path, now_us: u64) -> io::Result<PathBuf> {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".damaged-{now_us}"));
        let aside = PathBuf::from(name);
        fs::rename(file, &aside)?;
        self.sync()?;
        // They are for people to look at; the disk is for what waits.
        let mut all: Vec<PathBuf> = fs::read_dir(&self.path)?.flatten().map(|e| e.path()).collect();
        all.retain(|path| path.to_string_lossy().contains(".damaged-"));
        all.sort();
        for old in all.iter().take(all.len().saturating_sub(ASIDE_MAX)) {
            let _ = fs::remove_file(old);
        }
        Ok(aside)
    }

    /// Whether the last owner closed the store in peace.
    pub(super) fn is_clean(&self) -> bool {
        self.path.join("clean").exists()
    }

    /// From here on the store may be cut off at any moment.
    pub(super) fn unclean(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join("clean")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync(),
        }
    }

    /// The store is closed, and all of it on disk.
    pub(super) fn clean(&self) -> io::Result<()> {
        private(&self.path.join("clean"))?.sync_all()?;
        self.sync()
    }

    /// Whether the disk takes anything at all: cheaper to find out than by opening a store, all of which is read.
    pub(super) fn probe(&self) -> io::Result<()> {
        let path = self.path.join("probe");
        let written = private(&path).and_then(|mut file| file.write_all(b"?").and_then(|()| file.sync_all()));
        let _ = fs::remove_file(&path);
        written
    }

    /// Keeps bytes that failed their check, as far as there is room for such.
    pub(super) fn quarantine(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let directory = self.path.join("quarantine");
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let kept: u64 =
            fs::read_dir(&directory)?.flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum();
        if kept.saturating_add(crate::wire::num::u64_of(bytes.len())) > QUARANTINE_MAX {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the quarantine is full"));
        }
        let mut file = private(&directory.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// The ballast's size, if one lies there.
    pub(super) fn ballast(&self) -> Option<u64> {
        let found = fs::metadata(self.path.join("ballast")).ok()?;
        (found.len() > 0 && found.blocks().saturating_mul(512) >= found.len()).then_some(found.len())
    }

    /// Makes sure that the ballast lies there. It is made only where there is room for twice as much, so that a disk which has
    /// just that much room left does not look well again.
    pub(super) fn take_ballast(&self, bytes: u64) -> io::Result<()> {
        if self.ballast() == Some(bytes) {
            return Ok(());
        }
        let path = self.path.join("ballast");
        let written = (|| {
            let mut file = private(&path)?;
            let zeros = [0; 1 << 14];
            for _ in 0..(2 * bytes).div_ceil(1 << 14) {
                file.write_all(&zeros)?;
            }
            file.set_len(bytes)?;
            file.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        written
    }

    /// Gives the ballast's room back to the disk.
    pub(super) fn drop_ballast(&self) {
        let _ = fs::remove_file(self.path.join("ballast"));
        let _ = self.sync();
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::spool::testing::Dir;

    #[test]
    fn a_spool_has_one_owner() {
        let dir = Dir::new("owner");
        let owned = Place::own(dir.path()).unwrap();
        assert_eq!(Place::own(dir.path()).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        assert!(Place::visit(dir.path()).is_err());
        drop(owned);
        Place::own(dir.path()).unwrap();
    }

    #[test]
    fn the_salt_survives_the_loss_of_two_of_its_three_lines() {
        let dir = Dir::new("salt");
        let place = Place::own(dir.path()).unwrap();
        assert_eq!(place.salt().unwrap(), None);
        let salt = place.new_salt().unwrap();
        let file = dir.path().join("salt");
        let mut bytes = fs::read(&file).unwrap();
        bytes[3] ^= 4;
        bytes[90] ^= 128;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(place.salt().unwrap(), Some(salt));
        bytes[200] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(place.salt().unwrap(), None);
    }
}
