//! The spool as its caller sees it: what is appended, read, removed, and found again.

mod crash;
mod damage;
mod full;
mod model;
mod unsynced;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::testing::Dir;
use super::*;

fn key(user: &str) -> QueueKey {
    QueueKey {
        upstream: "default".into(),
        vhost: "/".into(),
        user: user.into(),
        identity: [0; 32],
        ahead: false,
    }
}

fn open(dir: &Dir, settings: SpoolSettings) -> (Spool, Recovered) {
    Spool::open(dir.path(), settings, Box::new(|| {})).unwrap()
}

fn publish(body: &[u8]) -> Publish<'_> {
    Publish { lane: 3, at_us: 1_000_000, flags: 5, method: b"method", header: b"header", body }
}

/// Polls until `wanted` has seen what it wants.
fn until<T>(spool: &mut Spool, mut wanted: impl FnMut(Completion) -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        spool.flush();
        while let Some(completion) = spool.poll() {
            if let Some(found) = wanted(completion) {
                return found;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(20), "waited too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn synced(spool: &mut Spool, queue: QueueId, seq: u64) {
    until(spool, |c| match c {
        Completion::Appended { queue: q, to, .. } => (q == queue && to >= seq).then_some(()),
        Completion::NotKept { why, .. } => panic!("not kept: {why}"),
        _ => None,
    });
}

fn all(spool: &mut Spool, queue: QueueId) -> Vec<Record> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        assert!(spool.read(queue, after, 100_000));
        let (records, end) = until(spool, |c| match c {
            Completion::Records { records, end, unsound, .. } => {
                assert_eq!(unsound, 0);
                Some((records, end))
            }
            Completion::ReadFailed { why, .. } => panic!("{why}"),
            _ => None,
        });
        after = records.last().map_or(after, |r| r.seq);
        found.extend(records);
        if end {
            return found;
        }
    }
}

#[test]
fn what_the_writer_has_no_room_for_is_said_and_goes_with_a_later_flush() {
    let dir = Dir::new("no-room");
    let gate = Arc::new(std::sync::Mutex::new(()));
    let (shut, at_the_gate) = (gate.lock().unwrap(), Arc::clone(&gate));
    // The writer says that there is news, and gets no further.
    let waker = Box::new(move || drop(at_the_gate.lock()));
    let (mut spool, _) = Spool::open(dir.path(), SpoolSettings::default(), waker).unwrap();
    let queue = spool.queue(&key("app"));
    let mut count = 0_u64;
    let all = |spool: &mut Spool| {
        spool.append(queue, &publish(b"body")).unwrap();
        spool.flush()
    };
    while all(&mut spool) {
        count += 1;
        assert!(count < 100_000, "the writer stands still and takes everything");
    }
    assert!(!spool.flush(), "and says so again");
    drop(shut);
    synced(&mut spool, queue, count + 1);
    assert!(spool.flush());
}

#[test]
fn what_was_appended_is_read_back_in_order_in_the_next_life() {
    let dir = Dir::new("order");
    let (mut spool, recovered) = open(&dir, SpoolSettings::default());
    assert_eq!(recovered, Recovered { names: Vec::new(), ..Recovered::default() });
    let queue = spool.queue(&key("app"));
    let salt = spool.salt();
    for n in 0..3000_u32 {
        let body = vec![7; usize::try_from(n % 700).unwrap()];
        spool.append(queue, &Publish { lane: u64::from(n), ..publish(&body) }).unwrap();
        if n % 100 == 0 {
            spool.flush();
        }
    }
    synced(&mut spool, queue, 3000);
    assert_eq!(spool.gauges().in_flight(), 0);
    drop(spool);
    let (mut spool, recovered) = open(&dir, SpoolSettings::default());
    assert_eq!((recovered.records, recovered.unsound, recovered.salvaged), (3000, 0, 0));
    assert_eq!(recovered.queues[0].key, key("app"));
    assert_eq!((spool.queue(&key("app")), spool.salt()), (queue, salt));
    let records = all(&mut spool, queue);
    assert_eq!(records.len(), 3000);
    for (n, record) in records.iter().enumerate() {
        assert_eq!((record.seq, record.lane), (n as u64 + 1, n as u64));
        assert_eq!((record.method(), record.header()), (&b"method"[..], &b"header"[..]));
        assert_eq!((record.body().len(), record.flags, record.aged), (n % 700, 5, false));
    }
    assert_eq!(spool.append(queue, &publish(b"next")), Ok(3001));
}

#[test]
fn what_was_removed_is_gone_and_its_room_is_used_again() {
    let dir = Dir::new("room");
    let settings = SpoolSettings { max_bytes: 4 << 20, ..SpoolSettings::default() };
    let (mut spool, _) = open(&dir, settings.clone());
    let queue = spool.queue(&key("app"));
    let body = vec![1; 10_000];
    for _ in 0..20 {
        let mut last = 0;
        for _ in 0..100 {
            last = spool.append(queue, &publish(&body)).unwrap();
        }
        synced(&mut spool, queue, last);
        spool.remove(queue, last - 99, last);
        while spool.gauges().records() > 0 {
            spool.flush();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(all(&mut spool, queue), []);
    drop(spool);
    assert!(dir.path().join("spool.redb").metadata().unwrap().len() < 8 << 20);
    let (mut spool, recovered) = open(&dir, settings);
    assert_eq!((recovered.records, spool.queue(&key("app"))), (0, queue));
    assert_eq!(spool.append(queue, &publish(b"")), Ok(2001));
}

#[test]
fn at_the_bound_new_ones_are_refused_and_old_ones_stay() {
    let dir = Dir::new("bound");
    let (mut spool, _) = open(&dir, SpoolSettings { max_bytes: 1 << 20, ..SpoolSettings::default() });
    let queue = spool.queue(&key("app"));
    let body = vec![1; 10_000];
    let mut taken = 0;
    let refused = loop {
        match spool.append(queue, &publish(&body)) {
            Ok(seq) => taken = seq,
            Err(refused) => break refused,
        }
        synced(&mut spool, queue, taken);
    };
    assert_eq!(refused, Refused::Bound);
    assert!(taken > 20, "{taken}");
    assert_eq!(all(&mut spool, queue).len() as u64, taken);
}

#[test]
fn a_record_older_than_the_age_is_marked() {
    let dir = Dir::new("age");
    let age = Some(Duration::from_secs(60));
    let (mut spool, _) = open(&dir, SpoolSettings { max_age: age, ..SpoolSettings::default() });
    let queue = spool.queue(&key("app"));
    spool.append(queue, &publish(b"old")).unwrap();
    spool.append(queue, &Publish { at_us: writer::now_us(), ..publish(b"new") }).unwrap();
    synced(&mut spool, queue, 2);
    assert_eq!(all(&mut spool, queue).iter().map(|r| r.aged).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_read_goes_on_after_a_number_and_leaves_out_what_was_removed() {
    let dir = Dir::new("after");
    let (mut spool, _) = open(&dir, SpoolSettings::default());
    let queue = spool.queue(&key("app"));
    for _ in 0..10 {
        spool.append(queue, &publish(b"x")).unwrap();
    }
    synced(&mut spool, queue, 10);
    spool.remove(queue, 5, 6);
    spool.remove(queue, 8, 8);
    assert!(spool.read(queue, 3, 1 << 20));
    assert!(!spool.read(queue, 3, 1 << 20));
    let seqs = until(&mut spool, |c| match c {
        Completion::Records { records, end, .. } => {
            Some((records.iter().map(|r| r.seq).collect::<Vec<_>>(), end))
        }
        _ => None,
    });
    assert_eq!(seqs, (vec![4, 7, 9, 10], true));
    assert!(spool.read(queue, 0, 1));
    let first = until(&mut spool, |c| match c {
        Completion::Records { records, end, .. } => Some((records.len(), end)),
        _ => None,
    });
    assert_eq!(first, (1, false));
}

#[test]
fn two_owners_are_one_too_many() {
    let dir = Dir::new("two");
    let (_spool, _) = open(&dir, SpoolSettings::default());
    let second = Spool::open(dir.path(), SpoolSettings::default(), Box::new(|| {}));
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
}

#[test]
fn a_successor_waits_for_its_predecessor_and_finds_what_that_left() {
    let dir = Dir::new("successor");
    let (mut first, _) = open(&dir, SpoolSettings::default());
    let queue = first.queue(&key("app"));
    let waits = SpoolSettings { owned: Owned::Wait, ..SpoolSettings::default() };
    let (mut second, recovered) = open(&dir, waits);
    assert_eq!(
        (recovered.records, second.salt()),
        (0, first.salt()),
        "logins are hashed alike from the start"
    );
    assert!(matches!(second.health(), SpoolHealth::Owned(why) if why.contains("in use")));
    let made_up = second.queue(&key("app"));
    assert!(matches!(second.append(made_up, &publish(b"x")), Err(Refused::Disk(SpoolHealth::Owned(_)))));
    first.append(queue, &publish(b"left")).unwrap();
    synced(&mut first, queue, 1);
    drop(first);
    let found = until(&mut second, |c| match c {
        Completion::Recovered(recovered) => Some(recovered.records),
        _ => None,
    });
    assert_eq!((found, second.queue(&key("app"))), (1, queue));
    assert_eq!(all(&mut second, queue)[0].body(), b"left");
    assert_eq!(second.append(queue, &publish(b"next")), Ok(2));
}

#[test]
fn a_key_with_a_hash_of_a_login_is_forgotten_and_what_it_owns_is_known_by_the_users_name() {
    let dir = Dir::new("owners");
    let hashed = |n| QueueKey { identity: [n; 32], ..key("app") };
    let named = QueueKey { identity: [0; 32], ..key("app") };
    let nameless = QueueKey { user: String::new(), ..hashed(7) };
    let (mut spool, _) = open(&dir, SpoolSettings::default());
    let older = spool.queue(&hashed(1));
    let newer = spool.queue(&hashed(2));
    let other = spool.queue(&nameless);
    for queue in [older, newer, other] {
        spool.append(queue, &publish(b"x")).unwrap();
        synced(&mut spool, queue, 1);
    }
    drop(spool);
    for _ in 0..2 {
        let (mut spool, recovered) = open(&dir, SpoolSettings::default());
        let keys: Vec<&QueueKey> = recovered.queues.iter().map(|q| &q.key).collect();
        assert_eq!(keys, [&hashed(1), &named, &nameless], "the newest of two goes on under the name");
        assert_eq!((spool.queue(&named), all(&mut spool, newer).len()), (newer, 1));
    }
    let (mut spool, _) = open(&dir, SpoolSettings::default());
    spool.remove(newer, 1, 1);
    spool.remove(older, 1, 1);
    drop(spool);
    let (mut spool, recovered) = open(&dir, SpoolSettings::default());
    assert_eq!((recovered.records, spool.queue(&named)), (1, newer));
}

#[test]
fn why_a_record_was_refused_is_kept_as_long_as_the_record() {
    let dir = Dir::new("refusals");
    let looked = || Inspection::open(dir.path()).unwrap().queues().remove(0).refused;
    let (mut spool, _) = open(&dir, SpoolSettings::default());
    let queue = spool.queue(&key("app"));
    for seq in 1..=3 {
        spool.append(queue, &publish(b"x")).unwrap();
        spool.refused(queue, seq, &"é".repeat(200));
    }
    synced(&mut spool, queue, 3);
    spool.refused(queue, 3, "403 ACCESS_REFUSED");
    drop(spool);
    let cut: Arc<str> = "é".repeat(127).into();
    assert_eq!(looked(), [(Arc::clone(&cut), 2), ("403 ACCESS_REFUSED".into(), 1)].into());
    let (mut spool, _) = open(&dir, SpoolSettings::default());
    spool.remove(queue, 2, 3);
    drop(spool);
    assert_eq!(looked(), [(cut, 1)].into());
}
