//! A publish that is on a lane already, as the judge sees it again: because it waits, or because it came back.

use std::net::{IpAddr, Ipv4Addr};

use super::Hub;
use super::frames::Frames;
use crate::session::LaneId;
use crate::session::judge::{PublishView, SessionFacts};
use crate::session::lane::Kind;
use crate::wire::ContentHeader;
use crate::wire::method;

impl Hub {
    /// Shows an item to `ask`. Whoever published it may be gone: the pool's login says who it was, and where from is not known any more.
    pub(super) fn view_item<R>(
        &self,
        lane_id: LaneId,
        index: usize,
        ask: impl FnOnce(&PublishView<'_>) -> R,
    ) -> Option<R> {
        let bytes = self.item_bytes(lane_id, index)?;
        let lane = self.lanes.get(lane_id.0)?;
        let item = lane.items.get(index)?;
        let Kind::Publish(flags) = item.kind else { return None };
        let frames = Frames::Raw(&bytes);
        let (method_payload, header_payload, body) = frames.parts()?;
        let (_, args) = method::split(method_payload).ok()?;
        let publish = method::publish(args).ok()?;
        let header = ContentHeader::parse(header_payload).ok()?;
        let pool = self.pools.get(lane.pool.0)?;
        Some(ask(&PublishView {
            session: SessionFacts {
                vhost: &pool.vhost,
                user: lane.user.as_deref().unwrap_or(&pool.credentials.user),
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                confirms: item.seq != 0,
                frame_max: 0,
            },
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            mandatory: flags.mandatory,
            header: &header,
            header_payload,
            body: &body,
        }))
    }
}
