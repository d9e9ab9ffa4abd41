//! A case: what every rule is asked about.

use super::Policy;
use super::matching::{Context, Message};
use super::queue::Queues;
use super::rule::Rule;
use crate::celery::delayed;

/// A message and where it is meant to go: what every rule is asked about.
pub(super) struct Case<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) message: &'a Message<'a>,
    queues: &'a Queues,
    /// A delayed delivery's bits, which no rule sees or moves.
    pub(super) bits: &'a [u8],
    pub(super) key: &'a [u8],
}

impl<'a> Case<'a> {
    pub(super) fn new(policy: &'a Policy, context: &'a Context<'a>, message: &'a Message<'a>) -> Self {
        let (bits, key) = if delayed::is_delayed_exchange(message.exchange) {
            delayed::split(message.routing_key)
        } else {
            (Default::default(), message.routing_key)
        };
        Self { context, message, queues: policy.queues(), bits, key }
    }

    pub(super) fn holds(&self, rule: &Rule) -> bool {
        let queue = || {
            let exchange = if self.bits.is_empty() { self.message.exchange } else { Default::default() };
            self.queues.meant(exchange, self.key)
        };
        let queue = rule.matches.queue.as_ref().and_then(|_| queue());
        rule.matches.holds(self.context, self.message, queue, self.key)
    }

    /// Whether the producer sent it where everything goes that nobody routed.
    pub(super) fn is_default(&self) -> bool {
        if self.bits.is_empty() {
            return self.queues.is_default(self.message.exchange, self.key);
        }
        let settings = self.queues.settings();
        self.key == settings.default_queue.as_bytes()
            || self.key == self.queues.default_routing_key().as_bytes()
    }
}
