//! A lane: the ordered road of one client channel to one upstream, and what is on it.
//!
//! ```text
//!          settled ◀── sent on the lease ──▶│◀── waiting (for a lease, a target, a link) ──
//! items:   [x] [ ] [x] [ ] [ ] [ ]          │ [ ] [ ] [ ]
//! ```
//! Items leave at the front once settled; those sent are sent again, in order, when their lease is lost (SPEC D3, D8).

use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::record::Record;
use super::{LinkId, PoolId, SessionId, Spot, Target, UpstreamId};
use crate::wire::method::MethodId;
use crate::wire::num::usize_of;

/// Where an item's frames are.
#[derive(Debug)]
pub(super) enum Store {
    /// In the out-stream of the lease's link.
    Stream(Spot),
    /// On its own: it waits.
    Own(Box<[u8]>),
}

/// Who hears what of a publish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PublishFlags {
    /// The client asked for mandatory.
    pub(super) mandatory: bool,
    /// We asked for mandatory.
    pub(super) watched: bool,
    /// On disk before it counts as accepted, or not; `None`: as the upstream's tier says.
    pub(super) durable: Option<bool>,
    /// A return has come for it on this lease.
    pub(super) returned: bool,
    /// A return has come for it on any lease: its client knows, and does not hear it again when it is sent again.
    pub(super) returned_before: bool,
    /// To an exchange that is not known to be there: the broker may close the channel for it.
    pub(super) risky: bool,
    /// Written by us, not by the client.
    pub(super) authored: bool,
    /// Back from the spool.
    pub(super) replayed: bool,
    /// Returned, and to be sent again once its queue is there: its confirm ends nothing.
    pub(super) again: bool,
    /// Has been sent again because of that.
    pub(super) redone: bool,
    /// It has waited for its broker: its queue may be gone, and we have asked to be told.
    pub(super) late: bool,
    /// It is late, and no queue takes it: its confirm leaves it on disk.
    pub(super) unrouted: bool,
    /// How often its broker has nacked it and it has gone again.
    pub(super) nacks: u8,
}

/// What an item is, besides bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// method, header, body: settled by a confirm.
    Publish(PublishFlags),
    /// A method, settled by its reply; `tell`: the client waits for that reply.
    Method { id: MethodId, tell: bool },
}

/// One thing on a lane.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) store: Store,
    pub(super) kind: Kind,
    pub(super) settled: bool,
    /// How often its link was ended by the broker while it was the first unconfirmed of its lane.
    pub(super) strikes: u8,
    /// Delivery tag on the current lease, `UNSENT` while it waits.
    pub(super) tag: u64,
    /// The client's number, 0 where it does not use confirms.
    pub(super) seq: u64,
    /// Its record in the spool; another upstream's, where it has come home from there.
    pub(super) record: Option<Record>,
    /// Octets of its frames.
    pub(super) len: u32,
    /// How many publishes it is: see `run`.
    pub(super) count: u32,
    /// When it was accepted, in milliseconds.
    pub(super) at_ms: u64,
    /// What must be there before it is sent, and how it goes where that cannot be.
    pub(super) wait: Option<Wait>,
}

impl Item {
    /// The backlog that it waited for is empty.
    pub(super) fn stop_waiting_behind(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.behind = false;
            self.wait.take_if(|w| w.way.target.is_none() && w.way.otherwise.is_none());
        }
    }
}

/// An item's target, whether it waits for it or not any more.
#[derive(Debug)]
pub(super) struct Wait {
    /// Items that are sent the same way share it.
    pub(super) way: Rc<Way>,
    /// It waits until its login's backlog is empty: the spool could not take it.
    pub(super) behind: bool,
    /// The target is known to be there. The way out is kept: it may be gone by the time the broker looks.
    pub(super) met: bool,
}

impl Wait {
    /// For something of ours: where its target cannot be had, it is left out.
    pub(super) fn of(target: Rc<Target>) -> Self {
        Self::on(Way { target: Some(target), ..Way::default() }, false)
    }

    pub(super) fn on(way: Way, met: bool) -> Self {
        Self { way: Rc::new(way), behind: false, met }
    }

    /// For nothing but the backlog.
    pub(super) fn behind() -> Self {
        Self { behind: true, ..Self::on(Way::default(), true) }
    }
}

/// A target, and the way out.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// What must be there first.
    pub(super) target: Option<Rc<Target>>,
    /// The publish method's payload for where it was going before the policy spoke; `None`: it is left out.
    pub(super) otherwise: Option<Vec<u8>>,
    /// The upstream that it was going to, where that is another.
    pub(super) home: Option<UpstreamId>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    /// The client, while it lives.
    pub(super) session: Option<SessionId>,
    pub(super) channel: u16,
    /// Whom the client logged in as; `None`: as the pool does.
    pub(super) user: Option<Rc<str>>,
    pub(super) upstream: UpstreamId,
    pub(super) pool: PoolId,
    /// Upstream channel, while leased.
    pub(super) lease: Option<(LinkId, u16)>,
    /// In its pool's queue for a lease.
    pub(super) queued: bool,
    pub(super) items: VecDeque<Item>,
    /// Publishes in its runs, without the first of each.
    pub(super) in_runs: usize,
    /// How many items from the front are on the lease.
    pub(super) sent: usize,
    /// When something last happened here.
    pub(super) busy_ms: u64,
    /// Since when the first of what was sent has been waited for: when it was sent, or when the one before it was settled.
    pub(super) first_ms: u64,
    /// Nothing is sent before this: a refused target or a nack is being waited out.
    pub(super) not_before_ms: u64,
    /// So many from the front are sent one at a time: one of them closes channels, and we are finding out which. Nothing goes behind them
    /// until they are settled.
    pub(super) careful: usize,
    /// So many of its first items were on their way when a link was ended: each goes alone, on a link of their own.
    pub(super) suspects: usize,
    /// One of them is on its way there.
    pub(super) tried: bool,
    /// Carries what comes back from the spool.
    pub(super) replay: bool,
    /// The broker has closed its client's channel: what stands behind the fault goes on, but nobody waits to see it.
    pub(super) forsaken: bool,
    /// Exchanges that were refused here since: what stands behind and goes to one of them would be refused as well.
    pub(super) refused: Option<Box<FxHashSet<Box<[u8]>>>>,
}

impl Lane {
    pub(super) fn new(
        session: SessionId,
        channel: u16,
        upstream: UpstreamId,
        pool: PoolId,
        now_ms: u64,
    ) -> Self {
        Self {
            session: Some(session),
            channel,
            user: None,
            upstream,
            pool,
            lease: None,
            queued: false,
            items: VecDeque::new(),
            in_runs: 0,
            sent: 0,
            busy_ms: now_ms,
            first_ms: now_ms,
            not_before_ms: 0,
            careful: 0,
            suspects: 0,
            tried: false,
            replay: false,
            forsaken: false,
            refused: None,
        }
    }

    /// Whether nothing is sent behind what is not answered: something in here ends channels or links, and we are finding out what.
    pub(super) fn one_by_one(&self) -> bool {
        self.careful > 0 || self.suspects > 0
    }

    /// Whether what is on it was left by a client in good order: others may wait to see it.
    pub(super) fn orphaned(&self) -> bool {
        self.session.is_none() && !self.forsaken
    }

    /// How many publishes and methods are not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.items.iter().filter(|i| !i.settled).map(|i| usize_of(i.count)).sum()
    }

    /// Whether anything waits to be sent.
    pub(super) fn waiting(&self) -> bool {
        self.sent < self.items.len()
    }

    /// The publish with this delivery tag on the lease, or the run that it is in. Tags ascend along the items: a method carries the tag of the publish before
    /// it, what is not sent carries `UNSENT`.
    pub(super) fn tagged(&self, tag: u64) -> Option<usize> {
        let index = self.items.partition_point(|i| i.last_tag() < tag);
        let item = self.items.get(index)?;
        (item.tag <= tag && matches!(item.kind, Kind::Publish(_))).then_some(index)
    }
}

/// The tag of what is not sent.
pub(super) const UNSENT: u64 = u64::MAX;
