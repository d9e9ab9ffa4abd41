//! What goes again although its broker has answered: refused by a nack that nobody would hear of, or returned and to be routed now (D4, D6).

use super::Hub;
use super::recall::owner;
use crate::session::lane::{Item, Kind, PublishFlags, Store};
use crate::session::{LaneId, Now};
use crate::wire::frame::parse_frame;
use crate::wire::method;
use crate::wire::props::ContentHeader;

/// How often a publish goes again that several queues may be given: those of them that took it get it once more each time (D8).
const NACKS_OF_SEVERAL_MAX: u8 = 5;

impl Hub {
    /// Whether a broker's nack is its last word on a publish: one queue that is full (`x-overflow=reject-publish`) refuses what the others
    /// of its exchange have taken, and would be asked for ever.
    pub(super) fn nacked_for_good(&self, lane_id: LaneId, index: usize, flags: PublishFlags) -> bool {
        flags.nacks >= NACKS_OF_SEVERAL_MAX && self.may_be_for_several(lane_id, index).unwrap_or(true)
    }

    /// Not for several: to the default exchange, or to one that was declared `direct`, without the headers that copy (RabbitMQ's
    /// sender-selected distribution).
    fn may_be_for_several(&self, lane_id: LaneId, index: usize) -> Option<bool> {
        let bytes = self.item_bytes(lane_id, index)?;
        let publish = parse_frame(&bytes, 0).ok()??;
        let header = parse_frame(bytes.get(publish.wire_len()..)?, 0).ok()??;
        let exchange = method::publish(method::split(publish.payload).ok()?.1).ok()?.exchange;
        let pool = self.pools.get(self.lanes.get(lane_id.0)?.pool.0)?;
        let direct =
            matches!(exchange, b"" | b"amq.direct") || self.declared.is_direct(&owner(pool), exchange);
        let headers = ContentHeader::parse(header.payload).ok()?.headers();
        let copied =
            headers.is_some_and(|h| [b"CC".as_slice(), b"BCC"].iter().any(|name| h.get(name).is_some()));
        Some(!direct || copied)
    }

    /// The broker did not take a publish whose client cannot be told: it goes to the end of its lane, after a pause. What waits for the
    /// backlog stays behind it: its record may be in that backlog, which is not read before it is settled.
    pub(super) fn try_again(&mut self, now: Now, lane_id: LaneId, index: usize) {
        let Some(mut copy) = self.copied_out(lane_id, index) else { return };
        if let Kind::Publish(flags) = &mut copy.kind {
            flags.nacks = flags.nacks.saturating_add(1);
        }
        if let Some(lane) = self.lanes.get_mut(lane_id.0) {
            let waits = |i: &Item| !i.settled && i.wait.as_ref().is_some_and(|w| w.behind);
            let at = lane.items.iter().position(waits).unwrap_or(lane.items.len());
            lane.items.insert(at, copy);
            lane.not_before_ms = lane.not_before_ms.max(now.ms + 1000);
        }
        self.counters.retries += 1;
    }

    /// A returned publish whose queue is being declared goes again: before everything that has not been sent, behind those that were
    /// returned before it, so that order is kept.
    pub(super) fn send_again(&mut self, now: Now, lane_id: LaneId, index: usize) {
        let Some(mut copy) = self.copied_out(lane_id, index) else { return };
        if let Kind::Publish(flags) = &mut copy.kind {
            (flags.again, flags.redone, flags.returned) = (false, true, false);
        }
        self.counters.returned_declared += 1;
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        let redone = |i: &&Item| matches!(i.kind, Kind::Publish(PublishFlags { redone: true, .. }));
        let at = lane.sent + lane.items.iter().skip(lane.sent).take_while(redone).count();
        lane.items.insert(at, copy);
        self.seek(now, lane_id);
    }

    /// An item as it waits again. The copy takes over what is counted and awaited: the old one goes without being settled in anybody's
    /// eyes.
    fn copied_out(&mut self, lane_id: LaneId, index: usize) -> Option<Item> {
        let bytes = self.item_bytes(lane_id, index)?;
        let lane = self.lanes.get_mut(lane_id.0)?;
        let item = lane.items.get_mut(index)?;
        let copy = Item {
            store: Store::Own(bytes.into()),
            kind: item.kind,
            settled: false,
            strikes: item.strikes,
            tag: crate::session::lane::UNSENT,
            seq: std::mem::take(&mut item.seq),
            len: item.len,
            count: 1,
            at_ms: item.at_ms,
            record: item.record.take(),
            wait: item.wait.take(),
        };
        item.settled = true;
        let old = std::mem::replace(&mut item.store, Store::Own(Box::default()));
        if let (Store::Stream(spot), Some((lid, _))) = (old, lane.lease) {
            if let Some(link) = self.links.get_mut(lid.0) {
                link.out.release(&mut self.spares, spot);
            }
        }
        Some(copy)
    }
}
