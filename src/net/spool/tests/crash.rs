//! `kill -9` at random instants: a second process of this test writes until it is killed, and its last words are held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::super::testing::{Dice, Dir};
use super::*;

const PLACE: &str = "UMBEL_TEST_SPOOL_TO_CRASH";
const QUEUES: [&str; 2] = ["one", "two"];

fn body(seq: u64) -> Vec<u8> {
    let size = if seq.is_multiple_of(97) { 100_000 } else { seq * 37 % 1500 };
    (0..size).map(|n| (seq * 11 + n) as u8).collect()
}

/// Writes, removes, and says so, until it is killed. Nothing in an ordinary run of the tests.
#[test]
fn a_process_that_writes_until_it_is_killed() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let settings = SpoolSettings { group_commit: Duration::from_micros(300), ..SpoolSettings::default() };
    let (mut spool, recovered) =
        Spool::open(std::path::Path::new(&place), settings, Box::new(|| {})).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nunsound 0 {} 0", recovered.unsound).unwrap();
    let queues = QUEUES.map(|user| spool.queue(&key(user)));
    let of = |queue| queues.iter().position(|q| *q == queue).unwrap();
    let (mut last, mut dice) = ([0; 2], Dice::new(u64::from(std::process::id())));
    loop {
        for (n, queue) in queues.into_iter().enumerate() {
            for _ in 0..dice.below(6) {
                let next = spool.append(queue, &publish(&[])).unwrap_or(0);
                let _ = spool.append(queue, &publish(&body(next + 1))).map(|seq| last[n] = seq);
            }
            if dice.below(20) == 0 && last[n] > 40 {
                let from = last[n] - dice.below(40);
                writeln!(out, "removing {n} {from} {}", from + 10).unwrap();
                spool.remove(queue, from, from + 10);
            }
        }
        spool.flush();
        while let Some(completion) = spool.poll() {
            match completion {
                Completion::Appended { queue, from, to, .. } => {
                    writeln!(out, "synced {} {from} {to}", of(queue)).unwrap();
                }
                Completion::NotKept { why, .. } => panic!("{why}"),
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_micros(dice.below(800)));
    }
}

#[test]
fn after_kill_9_all_that_was_synced_is_there_in_order() {
    let dir = Dir::new("kill");
    let mut dice = Dice::new(u64::from(std::process::id()));
    let mut synced: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    let mut removed: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    let mut wrote = false;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "net::spool::tests::crash::a_process_that_writes_until_it_is_killed",
                "--nocapture",
            ])
            .env(PLACE, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        let (begun, begins) = std::sync::mpsc::channel();
        let words = std::thread::spawn(move || {
            let (mut text, mut waits) = (String::new(), (0..QUEUES.len()).collect::<BTreeSet<_>>());
            while pipe.read_line(&mut text).unwrap() > 0 {
                let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
                waits.retain(|queue| !last.starts_with(&format!("synced {queue} ")));
                if waits.is_empty() {
                    let _ = begun.send(());
                }
            }
            text
        });
        begins.recv_timeout(Duration::from_secs(60)).expect("each queue has something on disk");
        std::thread::sleep(Duration::from_millis(dice.below(400)));
        child.kill().unwrap();
        child.wait().unwrap();
        let text = words.join().unwrap();
        // A last line that was cut off says nothing.
        let lines = text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, queue, from, to] = words[..] else { continue };
            let (Ok(queue), Ok(from), Ok(to)) = (queue.parse(), from.parse::<u64>(), to.parse::<u64>())
            else {
                continue;
            };
            match what {
                "synced" => synced.entry(queue).or_default().extend(from..=to),
                "removing" => removed.entry(queue).or_default().extend(from..=to),
                "unsound" => assert_eq!(from, 0),
                _ => {}
            }
        }
        let (mut spool, recovered) = open(&dir, SpoolSettings::default());
        assert_eq!((recovered.unsound, &recovered.set_aside), (0, &None));
        for (n, user) in QUEUES.iter().enumerate() {
            let queue = spool.queue(&key(user));
            let records = all(&mut spool, queue);
            assert!(records.is_sorted_by(|a, b| a.seq < b.seq));
            let there: BTreeSet<u64> = records.iter().map(|r| r.seq).collect();
            for record in records.iter().filter(|r| !r.body().is_empty()) {
                assert!(record.body() == body(record.seq), "{user} {}", record.seq);
            }
            let gone = removed.entry(n).or_default();
            for seq in synced.entry(n).or_default().iter() {
                assert!(there.contains(seq) || gone.contains(seq), "round {round}: {user} {seq} is lost");
            }
            // What has come back after all stays from here on, unless it is removed again.
            synced.insert(n, there.clone());
            removed.insert(n, BTreeSet::new());
            wrote |= !there.is_empty();
        }
    }
    assert!(wrote, "a loaded machine gave none of six the time to write anything");
}
