//! Reading: records in order, with what is unsound on the way set aside.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::block::{Kind, Record, Step, Walk};
use super::super::queue::QueueId;
use super::super::report::{Completion, SpoolHealth};
use super::super::store::StoreError;
use super::{Keeper, quarantine};
use crate::wire::num::u64_of;

impl Keeper {
    /// Reads records of a queue in order, after a number.
    pub(in super::super) fn read(&mut self, id: QueueId, after: u64, max_bytes: u64, now_us: u64) {
        match self.read_some(id, after, max_bytes, now_us) {
            Ok(records) => self.out.push_back(records),
            Err(error) => {
                tracing::error!(%error, "the spool could not be read");
                let why = SpoolHealth::of(&error);
                self.fail(&error, now_us);
                self.out.push_back(Completion::ReadFailed { queue: id, why });
            }
        }
    }

    fn read_some(
        &mut self,
        id: QueueId,
        after: u64,
        max_bytes: u64,
        now_us: u64,
    ) -> Result<Completion, StoreError> {
        let Some(store) = &self.store else {
            return Ok(Completion::ReadFailed { queue: id, why: self.health.clone() });
        };
        let seed = self.seed();
        let (mut records, mut bytes, mut unsound) = (Vec::new(), 0, Vec::new());
        let mut end = true;
        let empty = BTreeMap::new();
        let groups = self.queues.get(&id).map_or(&empty, |q| &q.groups);
        let aged_before = self.settings.max_age.map_or(0, |age| now_us.saturating_sub(micros(age)));
        let start = groups.range(..=after).next_back().map_or(0, |(first, _)| *first);
        for (first, group) in groups.range(start..).filter(|(f, g)| g.left > 0 && *f + g.count > after + 1) {
            if bytes >= max_bytes {
                end = false;
                break;
            }
            let value = store.group((id.0, *first))?.unwrap_or_default();
            let mut next = *first;
            for step in Walk::new(&value, seed) {
                let Step::Sound(head, at) = step else { continue };
                if head.kind != Kind::Record || head.queue != id.0 || head.seq < next {
                    continue;
                }
                unsound.extend((next..head.seq).map(|seq| (*first, seq)));
                next = head.seq + 1;
                if head.seq <= after || group.done.has(head.seq - first) {
                    continue;
                }
                if bytes >= max_bytes {
                    end = false;
                    next = first + group.count;
                    break;
                }
                bytes += u64_of(head.block_len());
                records.push(Record::at(&value, &head, at, head.at < aged_before));
            }
            unsound.extend((next..first + group.count).map(|seq| (*first, seq)));
            let lost = |(f, seq): &(u64, u64)| f == first && !group.done.has(seq - first);
            if unsound.iter().any(lost)
                && let Some(place) = &self.place
            {
                quarantine(place, id, *first, &value);
            }
            unsound.retain(|entry| entry.0 != *first || lost(entry));
        }
        let lost = u64_of(unsound.len());
        for (_, seq) in unsound {
            self.remove(id, seq, seq);
        }
        self.unsound += lost;
        Ok(Completion::Records { queue: id, records, end, unsound: lost })
    }
}

fn micros(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}
