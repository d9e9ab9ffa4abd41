//! Flipped bits, torn files, lost files: what is sound comes back, what is not is counted.

use std::collections::BTreeSet;
use std::fs;

use super::super::testing::{Dice, Dir};
use super::*;

/// Two queues of 200 records each, of all sizes; the first 50 of the first removed.
fn written(dir: &Dir) -> (QueueId, QueueId) {
    let (mut spool, _) = open(dir, SpoolSettings::default());
    let (one, two) = (spool.queue(&key("one")), spool.queue(&key("two")));
    let mut dice = Dice::new(3);
    for n in 1..=200_u64 {
        for queue in [one, two] {
            let size = if n % 20 == 0 { 70_000 } else { dice.below(3000) as usize };
            spool.append(queue, &publish(&vec![n as u8; size])).unwrap();
        }
        if n % 8 == 0 {
            synced(&mut spool, two, n);
        }
    }
    spool.remove(one, 1, 50);
    while spool.gauges().records() != 350 {
        spool.flush();
        std::thread::sleep(Duration::from_millis(1));
    }
    (one, two)
}

fn whole(records: &[Record]) {
    assert!(records.is_sorted_by(|a, b| a.seq < b.seq));
    for record in records {
        assert!(record.body().iter().all(|b| *b == record.seq as u8));
    }
}

#[test]
fn wherever_bits_flip_only_the_records_they_hit_are_lost_and_those_are_counted() {
    let dir = Dir::new("flips");
    let (one, two) = written(&dir);
    let file = dir.path().join("spool.redb");
    let sound = fs::read(&file).unwrap();
    // Where there is something: a flip in what is empty shows nothing.
    let used: Vec<usize> =
        (0..sound.len()).step_by(512).filter(|at| sound[*at..*at + 512].iter().any(|b| *b != 0)).collect();
    for seed in 0..25 {
        let mut dice = Dice::new(seed);
        let flips = 1 + dice.below(if seed % 2 == 0 { 2 } else { 30 });
        let mut bytes = sound.clone();
        for _ in 0..flips {
            let at = used[dice.below(used.len() as u64) as usize] + dice.below(512) as usize;
            bytes[at] ^= 1 << dice.below(8);
        }
        for entry in fs::read_dir(dir.path()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().contains("damaged") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        fs::write(&file, &bytes).unwrap();
        if seed % 3 == 0 {
            let _ = fs::remove_file(dir.path().join("clean"));
        }
        let (mut spool, recovered) = open(&dir, SpoolSettings::default());
        assert_eq!(*spool.health(), SpoolHealth::Ok, "seed {seed}");
        let (first, second) = (all(&mut spool, one), all(&mut spool, two));
        whole(&first);
        whole(&second);
        assert!(first.iter().all(|r| r.seq > 50), "seed {seed}: a removed record is back");
        let there = (first.len() + second.len()) as u64;
        assert_eq!(there, recovered.records);
        assert!(there + flips >= 350, "seed {seed}: {flips} flips lost {} records", 350 - there);
        assert_eq!(there + recovered.unsound, 350, "seed {seed}: {recovered:?}");
        drop(spool);
        fs::write(&file, &sound).unwrap();
    }
}

#[test]
fn of_a_file_cut_short_all_before_the_cut_comes_back() {
    let dir = Dir::new("short");
    written(&dir);
    let file = dir.path().join("spool.redb");
    let sound = fs::read(&file).unwrap();
    for eighths in [0, 1, 3, 5, 7] {
        let bytes = &sound[..sound.len() * eighths / 8];
        fs::write(&file, bytes).unwrap();
        let (mut spool, recovered) = open(&dir, SpoolSettings::default());
        let (one, two) = (spool.queue(&key("one")), spool.queue(&key("two")));
        let (one, two) = (all(&mut spool, one), all(&mut spool, two));
        whole(&one);
        whole(&two);
        assert_eq!((one.len() + two.len()) as u64, recovered.records);
        assert_eq!(recovered.set_aside.is_some(), eighths > 0);
        let queue = spool.queue(&key("one"));
        let seq = spool.append(queue, &publish(b"goes on")).unwrap();
        synced(&mut spool, queue, seq);
    }
}

#[test]
fn a_file_that_is_no_store_is_set_aside_and_a_new_one_begun() {
    let dir = Dir::new("garbage");
    drop(open(&dir, SpoolSettings::default()));
    fs::write(dir.path().join("spool.redb"), vec![0x5a; 100_000]).unwrap();
    let (mut spool, recovered) = open(&dir, SpoolSettings::default());
    let aside = recovered.set_aside.unwrap();
    assert_eq!(fs::read(aside).unwrap(), vec![0x5a; 100_000]);
    let queue = spool.queue(&key("app"));
    spool.append(queue, &publish(b"x")).unwrap();
    synced(&mut spool, queue, 1);
}

#[test]
fn a_spool_that_is_looked_at_is_not_changed() {
    let dir = Dir::new("look");
    let (one, _) = written(&dir);
    let state = |dir: &Dir| -> BTreeSet<(String, Vec<u8>)> {
        let files = fs::read_dir(dir.path()).unwrap().flatten();
        files.map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).unwrap())).collect()
    };
    // As a process that was killed leaves it, and with damage.
    fs::remove_file(dir.path().join("clean")).unwrap();
    for damage in [false, true] {
        if damage {
            let file = dir.path().join("spool.redb");
            let mut bytes = fs::read(&file).unwrap();
            bytes[0] ^= 1;
            fs::write(&file, bytes).unwrap();
        }
        let before = state(&dir);
        let inspection = Inspection::open(dir.path()).unwrap();
        let queues = inspection.queues();
        assert_eq!(queues.iter().map(|q| q.records).sum::<u64>(), 350);
        assert!(Spool::open(dir.path(), SpoolSettings::default(), Box::new(|| {})).is_err());
        let mut lines = Vec::new();
        let selection = Selection { queue: Some(one), ..Selection::default() };
        assert_eq!(inspection.export(&selection, &mut lines).unwrap(), 150);
        let text = String::from_utf8(lines).unwrap();
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&first["seq"], &first["user"], &first["method_b64"]),
            (&51.into(), &"one".into(), &"bWV0aG9k".into())
        );
        drop(inspection);
        assert!(state(&dir) == before);
    }
}

#[test]
fn a_purge_removes_what_was_selected_and_leaves_the_rest() {
    let dir = Dir::new("purge");
    let (one, two) = written(&dir);
    let selection = Selection {
        queue: Some(two),
        upstream: Some("default".into()),
        before_us: Some(2_000_000),
        ..Selection::default()
    };
    let purge = |selection: &Selection| {
        let mut custody = Custody::take(dir.path(), 1).unwrap();
        let gone = custody.purge(selection, 1).unwrap();
        custody.leave(1).unwrap();
        gone
    };
    assert_eq!(purge(&Selection { before_us: Some(1), ..selection.clone() }), 0);
    assert_eq!(purge(&Selection { upstream: Some("x".into()), ..selection.clone() }), 0);
    assert_eq!(purge(&Selection { user: Some("one".into()), ..selection.clone() }), 0);
    assert_eq!(purge(&selection), 200);
    let (mut spool, recovered) = open(&dir, SpoolSettings::default());
    assert_eq!((recovered.records, all(&mut spool, two).len()), (150, 0));
    assert_eq!(all(&mut spool, one).len(), 150);
}
