//! Random steps against a model: appends, removals, commits, full disks, restarts, power cuts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::block::{self, Head, Kind};
use super::super::keeper::{Keeper, Run};
use super::super::testing::{Dice, Dir, Sim};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append { queue: u64, count: u64, size: usize },
    Remove { queue: u64, from: u64, len: u64 },
    Commit,
    Read { queue: u64 },
    Full { room: usize },
    Restart,
    Cut { seed: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0_usize..2000, 1 => 20_000_usize..60_000, 1 => Just(300_000)];
    prop_oneof![
        6 => (0_u64..3, 1_u64..12, size).prop_map(|(queue, count, size)| Step::Append { queue, count, size }),
        4 => (0_u64..3, 0_u64..30, 1_u64..20).prop_map(|(queue, from, len)| Step::Remove { queue, from, len }),
        4 => Just(Step::Commit),
        2 => (0_u64..3).prop_map(|queue| Step::Read { queue }),
        1 => (0_usize..200_000).prop_map(|room| Step::Full { room }),
        1 => Just(Step::Restart),
        2 => any::<u64>().prop_map(|seed| Step::Cut { seed }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Staged,
    Kept,
    /// Given back: it may only come back with a crash.
    GivenBack,
    /// Asked to be removed: it may only come back with a crash.
    Removing,
    /// Its removal was committed.
    Gone,
}

struct World {
    dir: Dir,
    sim: Sim,
    keeper: Option<Keeper>,
    fates: BTreeMap<(QueueId, u64), (Fate, usize)>,
    next: BTreeMap<QueueId, u64>,
}

fn body(queue: QueueId, seq: u64, size: usize) -> Vec<u8> {
    (0..size).map(|n| (queue.0 * 7 + seq * 31 + n as u64 * 3) as u8).collect()
}

impl World {
    fn new() -> Self {
        let (dir, sim) = (Dir::new("model"), Sim::default());
        let mut world = Self { dir, sim, keeper: None, fates: BTreeMap::new(), next: BTreeMap::new() };
        world.open();
        world
    }

    fn keeper(&mut self) -> &mut Keeper {
        self.keeper.as_mut().unwrap()
    }

    fn open(&mut self) {
        let settings = SpoolSettings { max_bytes: 1 << 20, ..SpoolSettings::default() };
        let (keeper, recovered) = Keeper::open(self.dir.path(), settings, self.sim.opener(), 1).unwrap();
        assert_eq!((keeper.health(), recovered.unsound, recovered.set_aside), (&SpoolHealth::Ok, 0, None));
        self.keeper = Some(keeper);
    }

    fn append(&mut self, queue: QueueId, count: u64, size: usize) {
        let mut bytes = Vec::new();
        for _ in 0..count {
            let next = self.next.entry(queue).or_insert(1);
            let head = Head {
                kind: Kind::Record,
                flags: 0,
                queue: queue.0,
                seq: *next,
                at: 9,
                lane: 4,
                lengths: [0; 3],
            };
            block::write(&mut bytes, &head, [b"m", b"h", &body(queue, *next, size)]);
            self.fates.insert((queue, *next), (Fate::Staged, size));
            *next += 1;
        }
        let epoch = self.keeper().epoch;
        self.keeper().append(Run { queue, key: Arc::new(key(&queue.0.to_string())), bytes }, epoch);
        self.hear();
    }

    fn hear(&mut self) -> Vec<Completion> {
        let all: Vec<Completion> = self.keeper().out.drain(..).collect();
        for completion in &all {
            match completion {
                Completion::Appended { queue, from, to, .. } => {
                    for seq in *from..=*to {
                        let fate = &mut self.fates.get_mut(&(*queue, seq)).unwrap().0;
                        if *fate == Fate::Staged {
                            *fate = Fate::Kept;
                        }
                    }
                }
                Completion::NotKept { queue, records, .. } => {
                    for record in records {
                        let (fate, size) = self.fates.get_mut(&(*queue, record.seq)).unwrap();
                        assert_eq!(record.body(), body(*queue, record.seq, *size));
                        assert!(*fate == Fate::Staged || *fate == Fate::Removing, "{fate:?}");
                        *fate = Fate::GivenBack;
                    }
                }
                _ => {}
            }
        }
        all
    }

    fn commit(&mut self) {
        self.keeper().commit(1, || Duration::ZERO);
        let failed = self.hear().iter().any(|c| matches!(c, Completion::Health(_)));
        if failed {
            self.sim.set_room(None);
            self.keeper().retry(1);
            self.hear();
            assert_eq!(self.keeper().health(), &SpoolHealth::Ok);
            // What was removed before is remembered, and written with the next commit.
            self.keeper().commit(1, || Duration::ZERO);
            self.hear();
        }
        for (fate, _) in self.fates.values_mut() {
            assert_ne!(*fate, Fate::Staged);
            if *fate == Fate::Removing {
                *fate = Fate::Gone;
            }
        }
    }

    fn read(&mut self, queue: QueueId) -> Vec<u64> {
        let (mut after, mut seqs) = (0, Vec::new());
        loop {
            self.keeper().read(queue, after, 50_000, 1);
            let answer = self.hear().into_iter().find(|c| matches!(c, Completion::Records { .. }));
            let Some(Completion::Records { records, end, unsound, .. }) = answer else {
                panic!("no records")
            };
            assert_eq!(unsound, 0);
            for record in &records {
                let size = self.fates[&(queue, record.seq)].1;
                assert_eq!(record.body(), body(queue, record.seq, size));
                seqs.push(record.seq);
            }
            after = records.last().map_or(after, |r| r.seq);
            if end {
                assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
                return seqs;
            }
        }
    }

    fn of(&self, queue: QueueId, wanted: impl Fn(Fate) -> bool) -> Vec<u64> {
        let range = self.fates.range((queue, 0)..=(queue, u64::MAX));
        range.filter(|(_, (fate, _))| wanted(*fate)).map(|((_, seq), _)| *seq).collect()
    }

    /// Everything that must be there is, and nothing that must not.
    fn after_crash(&mut self) {
        self.open();
        for queue in [0, 1, 2].map(QueueId) {
            let seqs = self.read(queue);
            for seq in self.of(queue, |fate| fate == Fate::Kept) {
                assert!(seqs.contains(&seq), "{queue:?}: {seq} is lost");
            }
            for seq in self.of(queue, |fate| fate == Fate::Gone) {
                assert!(!seqs.contains(&seq), "{queue:?}: {seq} is back");
            }
            let range = self.fates.range_mut((queue, 0)..=(queue, u64::MAX));
            for ((_, seq), (fate, _)) in range {
                *fate = if seqs.contains(seq) { Fate::Kept } else { Fate::Gone };
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { queue, count, size } => self.append(QueueId(queue), count, size),
            Step::Remove { queue, from, len } => {
                let queue = QueueId(queue);
                self.keeper().remove(queue, from, from + len);
                let range = self.fates.range_mut((queue, from)..=(queue, from + len));
                for (_, (fate, _)) in range.filter(|(_, (f, _))| matches!(f, Fate::Staged | Fate::Kept)) {
                    *fate = Fate::Removing;
                }
            }
            Step::Commit => self.commit(),
            Step::Read { queue } => {
                let seqs = self.read(QueueId(queue));
                assert_eq!(seqs, self.of(QueueId(queue), |fate| fate == Fate::Kept));
            }
            Step::Full { room } => {
                self.sim.set_room(Some(room));
                self.commit();
                self.sim.set_room(None);
            }
            Step::Restart => {
                self.commit();
                self.keeper.take().unwrap().close().unwrap();
                self.open();
                for queue in [0, 1, 2].map(QueueId) {
                    assert_eq!(self.read(queue), self.of(queue, |fate| fate == Fate::Kept));
                }
            }
            Step::Cut { seed } => {
                self.keeper = None;
                self.sim.cut(&mut Dice::new(seed));
                self.after_crash();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_was_kept_is_there_and_what_was_removed_is_not(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.take(Step::Restart);
    }
}
