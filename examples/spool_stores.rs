//! Measures the spool's store beside its rival and a bare file: `cargo run --release --example spool_stores [DIRECTORY [RECORDS]]`.
//!
//! Records of 1 KiB go in groups, each group one value, each commit synced; a second cursor reads and removes, half of all behind.
//! At the end everything is removed, and what the disk gets back is shown. The last line is the spool itself, thread and all.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a measurement may stop where it fails, and reads the clock"
)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, TableDefinition};
use umbel::net::spool::{Completion, Publish, QueueKey, Refused, Spool, SpoolSettings};

const RECORD: usize = 1024;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("groups");

trait Store {
    fn append(&mut self, id: u64, value: &[u8]);
    fn take(&mut self, _id: u64) {}
    fn settle(&mut self) {}
}

struct Bare(File);

impl Store for Bare {
    fn append(&mut self, _: u64, value: &[u8]) {
        self.0.write_all(value).unwrap();
        self.0.sync_data().unwrap();
    }
}

struct Redb(Database);

impl Store for Redb {
    fn append(&mut self, id: u64, value: &[u8]) {
        let write = self.0.begin_write().unwrap();
        write
            .open_table(TABLE)
            .unwrap()
            .insert_reserve(id, value.len())
            .unwrap()
            .as_mut()
            .copy_from_slice(value);
        write.commit().unwrap();
    }

    fn take(&mut self, id: u64) {
        let read = self.0.begin_read().unwrap().open_table(TABLE).unwrap();
        assert!(!read.get(id).unwrap().unwrap().value().is_empty());
        let mut write = self.0.begin_write().unwrap();
        write.set_durability(redb::Durability::None).unwrap();
        write.open_table(TABLE).unwrap().remove(id).unwrap();
        write.commit().unwrap();
    }

    fn settle(&mut self) {
        self.0.begin_write().unwrap().commit().unwrap();
        self.0.compact().unwrap();
    }
}

struct Fjall(fjall::Database, fjall::Keyspace);

impl Store for Fjall {
    fn append(&mut self, id: u64, value: &[u8]) {
        let mut batch = self.0.batch().durability(Some(fjall::PersistMode::SyncData));
        batch.insert(&self.1, id.to_be_bytes(), value);
        batch.commit().unwrap();
    }

    fn take(&mut self, id: u64) {
        assert!(!self.1.get(id.to_be_bytes()).unwrap().unwrap().is_empty());
        self.1.remove(id.to_be_bytes()).unwrap();
    }

    fn settle(&mut self) {
        self.1.rotate_memtable_and_wait().unwrap();
        self.1.major_compact().unwrap();
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn open(name: &str, place: &Path) -> Box<dyn Store> {
    match name {
        "redb" => {
            Box::new(Redb(Database::builder().set_cache_size(16 << 20).create(place.join("db")).unwrap()))
        }
        "fjall" => {
            let db = fjall::Database::builder(place)
                .cache_size(16 << 20)
                .max_journaling_size(128 << 20)
                .open()
                .unwrap();
            let options = || {
                fjall::KeyspaceCreateOptions::default()
                    .with_kv_separation(Some(fjall::KvSeparationOptions::default()))
                    .max_memtable_size(16 << 20)
            };
            let groups = db.keyspace("groups", options).unwrap();
            Box::new(Fjall(db, groups))
        }
        _ => Box::new(Bare(File::create(place.join("bare")).unwrap())),
    }
}

fn on_disk(path: &Path) -> u64 {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        return fs::read_dir(path).unwrap().map(|e| on_disk(&e.unwrap().path())).sum();
    }
    meta.blocks() * 512
}

fn written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    text.lines().find_map(|l| l.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.2} p99 {:.2} max {:.2} ms", at(0.5), at(0.99), at(1.0))
}

fn store(name: &str, place: &Path, group: usize, records: u64) {
    let _ = fs::remove_dir_all(place);
    fs::create_dir_all(place).unwrap();
    let (mut store, mut value) = (open(name, place), noise(group * RECORD));
    let groups = records / group as u64;
    let (behind, before, start) = (groups / 2, written(), Instant::now());
    let (mut times, mut peak) = (Vec::new(), 0);
    for id in 0..groups {
        value[..8].copy_from_slice(&id.to_be_bytes());
        let begun = Instant::now();
        store.append(id, &value);
        times.push(begun.elapsed());
        if id >= behind {
            store.take(id - behind);
        }
        if id % (groups / 8).max(1) == 0 {
            peak = on_disk(place).max(peak);
        }
    }
    let rate = records as f64 / start.elapsed().as_secs_f64();
    let amount = (written() - before) as f64 / (records as f64 * RECORD as f64);
    for id in groups - behind..groups {
        store.take(id);
    }
    store.settle();
    println!(
        "{name:>6} × {group:<4} {rate:>8.0} records/s  commit {}  written {amount:.1}×  peak {} MB  emptied {} MB",
        quantiles(&mut times),
        peak.max(on_disk(place)) >> 20,
        on_disk(place) >> 20,
    );
}

/// The spool as the data thread uses it, both as fast as it goes and with what is read removed again.
fn spool(place: &Path, records: u64) {
    let _ = fs::remove_dir_all(place);
    let settings = SpoolSettings { max_bytes: 4 << 30, ..SpoolSettings::default() };
    let (mut spool, _) = Spool::open(place, settings, Box::new(|| {})).unwrap();
    let queue = spool.queue(&QueueKey {
        upstream: "default".into(),
        vhost: "/".into(),
        user: "app".into(),
        identity: [0; 32],
        ahead: false,
    });
    let body = noise(RECORD);
    let publish = Publish { lane: 0, at_us: 1, flags: 0, method: b"method", header: b"header", body: &body };
    let (start, before) = (Instant::now(), written());
    let (mut sent, mut kept, mut given, mut turns, mut longest) = (0, 0, 0, Vec::new(), Duration::ZERO);
    while kept < records || given < records {
        let turn = Instant::now();
        for _ in 0..64 {
            match (sent < records).then(|| spool.append(queue, &publish)) {
                Some(Ok(_)) => sent += 1,
                Some(Err(Refused::Busy)) | None => break,
                Some(Err(why)) => panic!("{why:?}"),
            }
        }
        spool.flush();
        longest = longest.max(turn.elapsed());
        let busy = spool.gauges().in_flight() > 16 << 20 || sent == records;
        while let Some(completion) = spool.poll() {
            match completion {
                Completion::Appended { to, took, .. } => {
                    kept = to;
                    turns.push(took);
                }
                Completion::Records { records, .. } => {
                    given = records.last().map_or(given, |r| r.seq);
                    spool.remove(queue, 0, given);
                }
                other => panic!("{other:?}"),
            }
        }
        if kept >= records / 2 && given < kept {
            spool.read(queue, given, 1 << 20);
        }
        if busy {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let rate = records as f64 / start.elapsed().as_secs_f64();
    let amount = (written() - before) as f64 / (records as f64 * RECORD as f64);
    println!(
        " spool        {rate:>8.0} records/s in and out  commit {}  written {amount:.1}×  longest turn of the caller {longest:.1?}",
        quantiles(&mut turns),
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let place = PathBuf::from(arguments.next().unwrap_or_else(|| "target/spool_stores".into()));
    let records = arguments.next().map_or(400_000, |n| n.parse().unwrap());
    for group in [248, 16] {
        for name in ["bare", "redb", "fjall"] {
            store(name, &place, group, if group < 100 { records / 10 } else { records });
        }
    }
    spool(&place, records);
    let _ = fs::remove_dir_all(&place);
}
