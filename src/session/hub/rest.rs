//! What is in memory goes to disk, in order: when a drain's time is up, and when retries are used up (SPEC D3, D7).

use super::Hub;
use super::books::Exit;
use super::frames::Frames;
use super::spool::is_declaration;
use crate::session::backlog::Held;
use crate::session::lane::{Item, Kind, Wait};
use crate::session::record::{BacklogId, Which};
use crate::session::spool::{DECLARES, ONLY_HERE};
use crate::session::{LaneId, Now};
use crate::wire::frame::parse_frame;
use crate::wire::num::u64_of;

/// Where an item is once the disk has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    /// On its lane as well.
    InMemoryToo,
    /// Off its lane: it comes back when its record is read.
    OnDisk,
}

impl Hub {
    /// The drain's time is up: what is in memory and not confirmed goes to disk, in order (SPEC D7), as far as the spool takes it at once;
    /// asked again when it has written. How many are in memory only.
    pub fn spool_the_rest(&mut self, now: Now) -> u64 {
        let lanes: Vec<usize> = self.lanes.iter().map(|(i, _)| i).collect();
        // What the disk has given back came before what waits behind it.
        let held = self.spool_held(now);
        let left =
            lanes.into_iter().map(|id| self.spool_lane(now, LaneId(id), Stays::InMemoryToo)).sum::<u64>()
                + held;
        self.spool_dirty = true;
        self.flush_spool();
        left
    }

    /// All of a lane goes ahead of what is on disk, for it came before it; only what waits behind the backlog goes to its end. How many
    /// are in memory only.
    pub(super) fn spool_lane(&mut self, now: Now, lane_id: LaneId, stays: Stays) -> u64 {
        if self.spool.is_none() {
            return 0;
        }
        self.part(lane_id);
        let Some(lane) = self.lanes.get(lane_id.0) else { return 0 };
        let bare = |i: &Item| !i.settled && i.record.is_none() && matches!(i.kind, Kind::Publish(_));
        let (mut left, replays, count) =
            (u64_of(lane.items.iter().filter(|i| bare(i)).count()), lane.replay, lane.items.len());
        // Where some of it has records already, the disk may take one and not the next, and none may overtake another: all of it stays
        // on its lane as well, and what is read from disk waits for that.
        let mixed = lane.items.iter().any(|i| !i.settled && i.record.is_some());
        let b = self.pools.get(lane.pool.0).and_then(|p| p.backlog);
        if left == 0 || b.is_some_and(|b| self.spool_held_of(now, b) > 0) {
            return left;
        }
        let mut took = false;
        for index in 0..count {
            let Some(item) = self.lanes.get(lane_id.0).and_then(|l| l.items.get(index)) else { continue };
            // What a lane of the spool carries without a record was given back once: all that is on disk came after it.
            let behind = item.wait.as_ref().is_some_and(|w| w.behind);
            let which = if behind { Which::Main } else { Which::Ahead };
            let before = item.record;
            // Nor does what another upstream's disk has belong here.
            let is_there =
                before.is_some_and(|r| replays || behind || r.which == Which::Ahead || Some(r.backlog) != b);
            let bare = bare(item);
            let declares = matches!(item.kind, Kind::Method { id, .. } if is_declaration(id));
            let asked = matches!(item.kind, Kind::Method { tell: true, .. });
            if item.settled || is_there || !(declares || matches!(item.kind, Kind::Publish(_))) {
                continue;
            }
            let speaks = stays == Stays::OnDisk;
            let stays = if mixed && !behind && !asked { Stays::InMemoryToo } else { stays };
            let Some(bytes) = self.item_bytes(lane_id, index) else { continue };
            // What memory has too goes on from there if the disk gives it back, in its old place.
            let flags = if stays == Stays::OnDisk { ONLY_HERE } else { 0 };
            let record = if declares {
                let payload = parse_frame(&bytes, 0).ok().flatten().map(|f| f.payload.to_vec());
                let b = self.lanes.get(lane_id.0).map(|l| l.pool).and_then(|pool| self.backlog_of(pool));
                b.zip(payload).and_then(|(b, payload)| {
                    self.append(now, b, which, lane_id, DECLARES | flags, (&payload, &[], &[]))
                })
            } else {
                let wait = self
                    .lanes
                    .get_mut(lane_id.0)
                    .and_then(|l| l.items.get_mut(index))
                    .and_then(|i| i.wait.take());
                let frames = Frames::Raw(&bytes);
                let record = self.append_publish(now, which, lane_id, flags, &frames, wait.as_ref());
                if let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) {
                    item.wait = wait;
                }
                record
            };
            // What follows must not get there first. Where the disk has taken nothing of it, what is there came later, and waits for it.
            let Some(record) = record else {
                if speaks && !mixed && took {
                    self.wait_behind(lane_id, index);
                }
                break;
            };
            left -= u64::from(bare);
            took = true;
            let Some(item) = self.lanes.get_mut(lane_id.0).and_then(|l| l.items.get_mut(index)) else {
                break;
            };
            // Its record speaks for its client's number, too: where it alone has it, or as well.
            let seq = match stays {
                Stays::OnDisk => std::mem::take(&mut item.seq),
                Stays::InMemoryToo => item.seq,
            };
            item.record = (stays == Stays::InMemoryToo).then_some(record);
            if let Some(before) = before {
                self.replaces(record, before);
            }
            if speaks {
                self.await_disk(lane_id, record, seq);
            }
            if stays == Stays::InMemoryToo {
                continue;
            }
            // Whoever waits for a reply is not left waiting: that is refused, although it will be declared.
            if !asked {
                self.settle_item(lane_id, index, Exit::Spooled);
            }
            if let Some(b) = self.backlogs.get_mut(record.backlog.index()) {
                b.spilling = true;
            }
        }
        left
    }

    /// The disk has what came before this on a lane, and takes no more: this and what follows waits until that has gone.
    fn wait_behind(&mut self, lane_id: LaneId, from: usize) {
        if !self.lanes.get(lane_id.0).is_some_and(|l| self.spills(l.pool)) {
            return;
        }
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        for item in lane.items.iter_mut().skip(from).filter(|i| !i.settled) {
            item.wait.get_or_insert_with(Wait::behind).behind = true;
        }
    }

    /// What the disk gave back is tried once more.
    fn spool_held(&mut self, now: Now) -> u64 {
        let ids: Vec<usize> = self.backlogs.iter().filter(|(_, b)| b.held() > 0).map(|(i, _)| i).collect();
        ids.into_iter().map(|id| self.spool_held_of(now, BacklogId::new(id))).sum()
    }

    /// How many of a backlog's the disk does not take.
    pub(super) fn spool_held_of(&mut self, now: Now, b: BacklogId) -> u64 {
        for which in [Which::Ahead, Which::Main] {
            while let Some(held) = self.backlogs.get_mut(b.index()).and_then(|b| b.line(which).next_held()) {
                let Held { record, older } = &held;
                let body: [&[u8]; 1] = [&record.body];
                let parts = (record.method.as_slice(), record.header.as_slice(), &body[..]);
                let Some(written) = self.append(now, b, which, LaneId(0), record.flags, parts) else {
                    let Some(backlog) = self.backlogs.get_mut(b.index()) else { break };
                    backlog.line(which).held.push_front(held);
                    return backlog.held();
                };
                if let Some(older) = *older {
                    self.replaces(written, older);
                }
            }
        }
        0
    }
}
