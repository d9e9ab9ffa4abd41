//! What the Hub asks of whoever knows policy, and what it can be told to do with a publish.

use std::net::IpAddr;
use std::rc::Rc;

use super::{Now, UpstreamId};
use crate::wire::props::ContentHeader;

/// What is known of the client that published.
#[derive(Debug, Clone, Copy)]
pub struct SessionFacts<'a> {
    /// The client's vhost.
    pub vhost: &'a [u8],
    /// The name it logged in with.
    pub user: &'a str,
    /// Its address.
    pub peer: IpAddr,
    /// Whether it uses publisher confirms on this channel.
    pub confirms: bool,
    /// The largest frame agreed with it; 0: no limit.
    pub frame_max: u32,
}

/// One whole message, legal on its channel, its table walked.
#[derive(Debug, Clone, Copy)]
pub struct PublishView<'a> {
    /// Who published it.
    pub session: SessionFacts<'a>,
    /// Where to.
    pub exchange: &'a [u8],
    /// With what key.
    pub routing_key: &'a [u8],
    /// Whether the client wants it back when it cannot be routed.
    pub mandatory: bool,
    /// The content header, parsed.
    pub header: &'a ContentHeader<'a>,
    /// The content header's payload.
    pub header_payload: &'a [u8],
    /// The body, in the pieces that it came in.
    pub body: &'a [&'a [u8]],
}

/// A place that must exist before something is published to it: what to declare, in order, as method payloads.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// A name for logs and for the memory of what is there.
    pub name: String,
    /// exchange.declare, queue.declare, queue.bind payloads; passive ones only look.
    pub methods: Vec<Vec<u8>>,
}

impl std::hash::Hash for Target {
    /// The name alone: asked for every publish that is routed, and two targets of one name are rare.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// What is published in place of, or besides, the client's own message.
#[derive(Debug, Clone)]
pub struct Authored {
    /// Where to.
    pub upstream: UpstreamId,
    /// Exchange.
    pub exchange: Vec<u8>,
    /// Routing key.
    pub routing_key: Vec<u8>,
    /// Content header payload.
    pub header: Vec<u8>,
    /// Body.
    pub body: Vec<u8>,
    /// Must be there first; where it cannot be, this message is left out and counted.
    pub target: Option<Rc<Target>>,
}

/// A destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Exchange.
    pub exchange: Vec<u8>,
    /// Routing key.
    pub routing_key: Vec<u8>,
}

/// What changes in a publish that goes on.
#[derive(Debug, Clone, Default)]
pub struct Edited {
    /// Another upstream than the session's own.
    pub upstream: Option<UpstreamId>,
    /// Another destination.
    pub place: Option<Place>,
    /// Must be there first; where it cannot be, the message goes where it was going (P9).
    pub target: Option<Rc<Target>>,
    /// Another content header payload.
    pub header: Option<Vec<u8>>,
    /// Another body.
    pub body: Option<Vec<u8>>,
    /// On disk before it counts as accepted, or not, whatever the upstream's tier.
    pub durable: Option<bool>,
    /// Published mandatory for our own sake (D6); the client does not hear of a return.
    pub watch_return: bool,
}

/// How a publish that does not go on is settled with its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settle {
    /// As if it had been published: an ack to those who use confirms.
    Ack,
    /// A nack to those who use confirms.
    Nack,
    /// basic.return with this code and text, then as `Ack`.
    Return(u16, String),
    /// channel.close with this code and text.
    Close(u16, String),
}

/// A publish that does not go on.
#[derive(Debug, Clone)]
pub struct Settled {
    /// What the client sees.
    pub settle: Settle,
    /// What is published instead; the client is answered when the last of these is confirmed.
    pub instead: Vec<Authored>,
    /// What the books call it.
    pub kept: Kept,
}

/// Why a publish does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Its time has passed.
    Expired,
    /// A rule keeps it out.
    Refused,
}

/// What becomes of a publish that its upstream could not route, where we asked to hear of that (D6).
#[derive(Debug)]
pub enum Unrouted {
    /// It is counted.
    Counted,
    /// These are published; the client is answered when the last of them is confirmed.
    Instead(Vec<Authored>),
    /// This is declared, and the message sent again, once.
    Declare(Rc<Target>),
}

/// What becomes of a publish.
#[derive(Debug)]
pub enum Decision {
    /// Byte for byte to the session's upstream.
    Pass,
    /// With changes.
    Edit(Rc<Edited>),
    /// Not at all.
    Settle(Box<Settled>),
}

/// Whoever knows policy.
pub trait Judge {
    /// A message has arrived whole.
    fn judge(&mut self, now: Now, publish: &PublishView<'_>) -> Decision;

    /// Whether this publish, which has just passed, and whatever differs from it only in what its body says (not in how long it is) all
    /// pass, so that those need not be shown one by one.
    fn passes_alike(&self, _publish: &PublishView<'_>) -> bool {
        false
    }

    /// So many more like this one have passed.
    fn passed_alike(&mut self, _publish: &PublishView<'_>, _count: u64) {}

    /// A message is about to be sent again, or leaves the spool: only what time may have changed is asked (P4).
    fn again(&mut self, _now: Now, _publish: &PublishView<'_>) -> Decision {
        Decision::Pass
    }

    /// Whether somebody waits for a queue to take this: a task, and not an event or a broadcast that nobody may care for.
    fn wants_queue(&mut self, _now: Now, _publish: &PublishView<'_>) -> bool {
        false
    }

    /// A message that was published to an upstream with `watch_return` has come back.
    fn unrouted(&mut self, _now: Now, _publish: &PublishView<'_>, _from: UpstreamId) -> Unrouted {
        Unrouted::Counted
    }

    /// Nothing more is judged for a moment: what was only noted is to be written down.
    fn rest(&mut self, _now: Now) {}

    /// Whether deliveries are to be shown to `delivery` at all.
    fn watches_deliveries(&self) -> bool {
        false
    }

    /// A message is on its way out to a consumer; the view says who consumes. `None`: it is handed on.
    fn delivery(&mut self, _now: Now, _delivery: &PublishView<'_>) -> Option<Held> {
        None
    }
}

/// A delivery that is not handed on to its consumer (P4).
#[derive(Debug)]
pub struct Held {
    /// What is published because of it.
    pub instead: Vec<Authored>,
    /// basic.reject without requeue, to the queue's own dead-letter exchange; else basic.ack, as a worker does.
    pub reject: bool,
}

/// Passes everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct PassAll;

impl Judge for PassAll {
    fn judge(&mut self, _now: Now, _publish: &PublishView<'_>) -> Decision {
        Decision::Pass
    }

    fn passes_alike(&self, _publish: &PublishView<'_>) -> bool {
        true
    }
}
