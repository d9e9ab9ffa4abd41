//! Real full and read-only disks: small tmpfs mounts, where this process may mount.

use std::path::Path;
use std::process::{Command, Stdio};

use super::super::testing::Dir;
use super::*;

/// A tmpfs, unmounted at the end.
struct Mount(Dir);

impl Mount {
    fn new(name: &str, size: &str) -> Option<Self> {
        let dir = Dir::new(name);
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "umbel-test"], dir.path());
        if !mounted {
            println!("skipped: this process may not mount a tmpfs");
        }
        mounted.then_some(Self(dir))
    }

    fn remount(&self, how: &str) -> bool {
        mount(&["-o", &format!("remount,{how}")], self.0.path())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let done = Command::new("mount").args(arguments).arg(at).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

/// Appends until the disk is full; tells the last number that was kept.
fn fill(spool: &mut Spool, queue: QueueId, mut kept: u64) -> u64 {
    let mut given_back = 0;
    while *spool.health() == SpoolHealth::Ok {
        if given_back == 0 {
            let _ = spool.append(queue, &publish(&[9; 5000]));
        }
        spool.flush();
        while let Some(completion) = spool.poll() {
            match completion {
                Completion::Appended { to, .. } => {
                    assert_eq!(given_back, 0);
                    kept = to;
                }
                Completion::NotKept { records, .. } => {
                    if given_back == 0 {
                        assert_eq!(
                            records[0].seq,
                            kept + 1,
                            "nothing is lost between what was kept and what came back"
                        );
                    }
                    given_back += records.len();
                }
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    kept
}

fn healthy(spool: &mut Spool) {
    until(spool, |c| (matches!(c, Completion::Health(SpoolHealth::Ok))).then_some(()));
}

#[test]
fn a_full_disk_is_told_and_what_waits_is_read_removed_and_makes_room() {
    let Some(mount) = Mount::new("full", "3m") else { return };
    let (mut spool, _) = Spool::open(mount.0.path(), SpoolSettings::default(), Box::new(|| {})).unwrap();
    let queue = spool.queue(&key("app"));
    let mut before = 0;
    for _ in 0..2 {
        let kept = fill(&mut spool, queue, before);
        assert!(kept > before + 50, "{kept}");
        assert_eq!(*spool.health(), SpoolHealth::Full);
        assert_eq!(spool.append(queue, &publish(b"x")), Err(Refused::Disk(SpoolHealth::Full)));
        let records = all(&mut spool, queue);
        assert_eq!(records.last().map(|r| r.seq), Some(kept));
        spool.remove(queue, 0, kept);
        healthy(&mut spool);
        before = spool.append(queue, &publish(b"")).unwrap();
        synced(&mut spool, queue, before);
        spool.remove(queue, before, before);
    }
    assert_eq!(all(&mut spool, queue), []);
    drop(spool);
    let (_, recovered) = Spool::open(mount.0.path(), SpoolSettings::default(), Box::new(|| {})).unwrap();
    assert_eq!((recovered.records, recovered.unsound), (0, 0));
}

#[test]
fn a_disk_that_others_fill_is_told_and_used_again_when_they_make_room() {
    let Some(mount) = Mount::new("others", "4m") else { return };
    let (mut spool, _) = Spool::open(mount.0.path(), SpoolSettings::default(), Box::new(|| {})).unwrap();
    let queue = spool.queue(&key("app"));
    spool.append(queue, &publish(b"first")).unwrap();
    synced(&mut spool, queue, 1);
    let other = mount.0.path().join("other");
    let _ = std::fs::write(&other, vec![1; 4 << 20]);
    let kept = fill(&mut spool, queue, 1);
    assert_eq!(all(&mut spool, queue).len() as u64, kept);
    std::fs::remove_file(other).unwrap();
    healthy(&mut spool);
}

#[test]
fn a_disk_full_from_the_start_takes_nothing_until_there_is_room() {
    let Some(mount) = Mount::new("start", "1m") else { return };
    let other = mount.0.path().join("other");
    let _ = std::fs::write(&other, vec![1; 2 << 20]);
    let place = mount.0.path().join("spool");
    let (mut spool, _) = Spool::open(&place, SpoolSettings::default(), Box::new(|| {})).unwrap();
    assert_eq!(*spool.health(), SpoolHealth::Full);
    let queue = spool.queue(&key("app"));
    assert_eq!(spool.append(queue, &publish(b"x")), Err(Refused::Disk(SpoolHealth::Full)));
    std::fs::remove_file(other).unwrap();
    healthy(&mut spool);
    spool.append(queue, &publish(b"x")).unwrap();
    synced(&mut spool, queue, 1);
}

#[test]
fn a_disk_that_becomes_read_only_is_told_and_used_again() {
    let Some(mount) = Mount::new("ro", "4m") else { return };
    let (mut spool, _) = Spool::open(mount.0.path(), SpoolSettings::default(), Box::new(|| {})).unwrap();
    let queue = spool.queue(&key("app"));
    spool.append(queue, &publish(b"first")).unwrap();
    synced(&mut spool, queue, 1);
    drop(spool);
    assert!(mount.remount("ro"));
    let (mut spool, recovered) =
        Spool::open(mount.0.path(), SpoolSettings::default(), Box::new(|| {})).unwrap();
    assert_eq!((spool.health(), recovered.records), (&SpoolHealth::ReadOnly, 0));
    assert!(mount.remount("rw"));
    let recovered = until(&mut spool, |c| match c {
        Completion::Recovered(recovered) => Some(recovered),
        _ => None,
    });
    assert_eq!(recovered.records, 1);
    let queue = spool.queue(&key("app"));
    if *spool.health() != SpoolHealth::Ok {
        healthy(&mut spool);
    }
    assert_eq!(spool.append(queue, &publish(b"second")), Ok(2));
    synced(&mut spool, queue, 2);
    assert_eq!(all(&mut spool, queue).len(), 2);
}
