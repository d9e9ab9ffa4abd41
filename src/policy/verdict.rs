//! What the policy says of one message, and why. Nothing here is copied that the policy itself holds.

use std::sync::Arc;

use super::aspects::{CompressionRule, DeadLetter, ExpiryAction, Tier};
use super::queue::{Declare, Plain};
use super::route::Destination;
use super::rule::Aspect;

/// Who decided: an index into the rules or the task routes, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// `[[rules]]`.
    Rule(usize),
    /// `[[task_routes]]`.
    TaskRoute(usize),
}

/// Who decided each aspect; none: nobody spoke of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Because {
    /// Whether it is let in.
    pub admission: Option<By>,
    /// Its expiry.
    pub expiry: Option<By>,
    /// Where it goes.
    pub route: Option<By>,
    /// Its priority.
    pub priority: Option<By>,
    /// How its body travels.
    pub compression: Option<By>,
    /// Its tier.
    pub tier: Option<By>,
}

impl Because {
    /// Who decided `aspect`.
    #[must_use]
    pub const fn of(&self, aspect: Aspect) -> Option<By> {
        match aspect {
            Aspect::Admission => self.admission,
            Aspect::Expiry => self.expiry,
            Aspect::Route => self.route,
            Aspect::Priority => self.priority,
            Aspect::Compression => self.compression,
            Aspect::Tier => self.tier,
        }
    }
}

/// What becomes of the message.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Fate<'p> {
    /// It goes on, with the verdict's edits.
    #[default]
    Forward,
    /// It has expired.
    Expired {
        /// What becomes of it; never `Pass`, which is forwarded.
        action: &'p ExpiryAction,
        /// When it expired, in microseconds since the epoch.
        at: i64,
    },
    /// Admission kept it out.
    Refused {
        /// How its client hears of it.
        how: Refusal<'p>,
        /// Why.
        reason: &'p str,
    },
}

/// How admission keeps a message out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Refusal<'p> {
    /// basic.nack for clients that use confirms, channel.close 403 for the others.
    Refuse,
    /// basic.nack for clients that use confirms, silence for the others.
    Nack,
    /// basic.return.
    Return,
    /// Silence.
    Drop,
    /// To a dead-letter place.
    DeadLetter(&'p Arc<DeadLetter>),
}

/// What changes in a message that goes on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edits<'p> {
    /// An index into the configured upstreams.
    pub upstream: Option<usize>,
    /// Where it goes instead. Ask [`Edits::place`] for exchange and key.
    pub destination: Option<&'p Destination>,
    /// The routing key behind a delayed delivery's bits, which stay; the exchange stays too then.
    pub delayed_key: Option<Vec<u8>>,
    /// Priority.
    pub priority: Option<u8>,
    /// A new expiry, in microseconds since the epoch: in the `expires` header, or in the body of protocol 1.
    pub expires: Option<i64>,
    /// The TTL property, in milliseconds.
    pub ttl_ms: Option<u64>,
    /// Delivery mode.
    pub delivery_mode: Option<u8>,
    /// Headers to add where they are missing.
    pub headers: &'p [(String, Plain)],
    /// Published mandatory, and a return relayed as if the client had asked.
    pub mandatory: bool,
    /// What to do with the body, as far as it needs it.
    pub compression: Option<CompressionRule>,
    /// What it takes to count as accepted.
    pub tier: Option<Tier>,
}

impl Edits<'_> {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            upstream: None,
            destination: None,
            delayed_key: None,
            priority: None,
            expires: None,
            ttl_ms: None,
            delivery_mode: None,
            headers: [],
            mandatory: false,
            compression: None,
            tier: None,
        } = self
        else {
            return false;
        };
        true
    }

    /// The new exchange and routing key of a message that went to `exchange`; none: where it was going.
    #[must_use]
    pub fn place<'a>(&'a self, exchange: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let destination = self.destination?;
        Some(match &self.delayed_key {
            Some(key) => (exchange, key),
            None => (destination.exchange.as_bytes(), destination.routing_key.as_bytes()),
        })
    }

    /// What must be there first.
    #[must_use]
    pub fn declare(&self) -> Option<&Arc<Declare>> {
        self.destination?.declare.as_ref()
    }
}

/// The whole verdict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict<'p> {
    /// Whether it goes on.
    pub fate: Fate<'p>,
    /// What changes in it.
    pub edits: Edits<'p>,
    /// Who decided what.
    pub because: Because,
    /// The task had expired and goes on all the same (`pass`).
    pub passed_expired: bool,
    /// The task states an expiry that a rule asked for and nobody can judge.
    pub unjudged_expiry: bool,
    /// The producer named a destination of its own, which the deciding route respects.
    pub respected: bool,
    /// Admission let it in and wants it counted (`count`).
    pub counted: bool,
    /// What rules in dry run would have decided.
    pub observed: Vec<(Aspect, By)>,
}

impl Verdict<'_> {
    /// The same verdict with nothing done: who decided becomes who would have (global dry run).
    #[must_use]
    pub fn only_observed(mut self) -> Verdict<'static> {
        let decided = |aspect: Aspect| Some((aspect, self.because.of(aspect)?));
        self.observed.extend(Aspect::ALL.into_iter().filter_map(decided));
        Verdict { observed: self.observed, ..Verdict::default() }
    }
}
