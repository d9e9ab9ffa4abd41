//! The usual case of many confirms: publishes from the front of a lane on, acked together (SPEC D2).

use super::Hub;
use super::books::Exit;
use crate::session::lane::{Item, Kind, PublishFlags, Store};
use crate::session::record::Record;
use crate::session::{LaneId, Now, Spot};
use crate::wire::num::{u32_clamped, u64_of, usize_clamped, usize_of};

impl Hub {
    /// All up to a tag, as far as there is nothing more to it than that. Does for each what `settle_publish` does for one.
    pub(super) fn acked_run(&mut self, now: Now, lane_id: LaneId, upto: u64) {
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        let mut link = lane.lease.and_then(|(lid, _)| self.links.get_mut(lid.0));
        let mut session = lane.session.and_then(|sid| self.sessions.get_mut(sid.0));
        let mut window =
            session.as_mut().and_then(|s| s.channel(lane.channel)).and_then(|c| c.confirm.as_mut());
        let (mut gone, mut in_runs, mut count, mut bytes, mut waited_ms, mut others) = (0, 0, 0, 0, 0, 0);
        let mut records: Vec<(Record, u64)> = Vec::new();
        let plain = |i: &Item| {
            i.tag <= upto
                && (i.settled
                    || matches!(
                        i.kind,
                        Kind::Publish(PublishFlags { risky: false, again: false, unrouted: false, .. })
                    ))
        };
        // What lies side by side in the stream is let go together, and numbers in a row are acked together.
        let mut beside: Option<(Spot, u32)> = None;
        let (mut seq, mut acked, mut told) = (0, 0, false);
        for item in lane.items.iter_mut().take(lane.sent).take_while(|i| plain(i)) {
            if item.settled {
                gone += 1;
                continue;
            }
            let front;
            let item = if item.last_tag() <= upto {
                gone += 1;
                in_runs += usize_of(item.count - 1);
                &*item
            } else {
                // The rest of a run stays.
                let frames = match (&item.store, &link) {
                    (Store::Stream(spot), Some(link)) => link.out.bytes_at(*spot),
                    _ => &[],
                };
                front = item.take_front(u32_clamped(usize_clamped(upto - item.tag + 1)), frames);
                in_runs += usize_of(front.count);
                &front
            };
            let publishes = u64::from(item.count);
            if let Kind::Publish(flags) = item.kind
                && (flags.authored || flags.replayed)
            {
                self.counters.book(flags, Exit::Forwarded);
                others += publishes;
            }
            count += publishes;
            bytes += u64::from(item.len);
            if let Some(record) = item.record {
                match records.last_mut() {
                    Some((first, last)) if first.is_followed(*last, record) => *last = record.number,
                    _ => records.push((record, record.number)),
                }
            }
            waited_ms += now.ms.saturating_sub(item.at_ms) * publishes;
            if let (Store::Stream(spot), Some(link)) = (&item.store, &mut link) {
                match &mut beside {
                    Some((first, pieces)) if first.is_beside(*spot) => *pieces += item.count,
                    other => {
                        if let Some((first, pieces)) = other.replace((*spot, item.count)) {
                            link.out.release_run(&mut self.spares, first, pieces);
                        }
                    }
                }
            }
            if let (Some(window), true) = (&mut window, item.seq != 0) {
                told = true;
                if item.seq == seq + u64_of(acked) {
                    acked += usize_of(item.count);
                } else {
                    window.ack_run(seq, acked);
                    (seq, acked) = (item.seq, usize_of(item.count));
                }
            }
        }
        if let (Some((first, pieces)), Some(link)) = (beside, link) {
            link.out.release_run(&mut self.spares, first, pieces);
        }
        if let Some(window) = window {
            window.ack_run(seq, acked);
        }
        lane.items.drain(..gone);
        lane.sent -= gone;
        lane.careful = lane.careful.saturating_sub(gone);
        lane.in_runs = lane.in_runs.saturating_sub(in_runs);
        if gone > 0 || count > 0 {
            lane.first_ms = now.ms;
        }
        self.counters.confirm_wait_ms += waited_ms;
        self.counters.forwarded += count - others;
        self.counters.confirmed += count;
        self.counters.confirm_count += count;
        if let Some(u) = self.upstreams.get_mut(lane.upstream.0) {
            u.confirmed += count;
            u.unsettled = u.unsettled.saturating_sub(count);
            u.unsettled_bytes = u.unsettled_bytes.saturating_sub(bytes);
            if lane.orphaned() {
                u.orphaned = u.orphaned.saturating_sub(count);
                u.orphans_settled += count;
            }
        }
        if let (Some(s), Some(sid)) = (session, lane.session) {
            s.unsettled = s.unsettled.saturating_sub(count);
            if let Some(c) = s.channel(lane.channel).filter(|c| told && !c.answers_due) {
                c.answers_due = true;
                self.answers_due.push((sid, lane.channel));
            }
        }
        for (first, last) in records {
            self.records_done(first, last);
        }
    }
}
