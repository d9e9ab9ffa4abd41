//! A channel's consumers: which of them acknowledge, for a delivery can be held back from those alone (SPEC P4).

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

/// So many of a channel are told apart; deliveries to others pass.
const CONSUMERS_MAX: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    acknowledges: FxHashMap<Box<[u8]>, bool>,
    /// Those whose tag the broker has yet to name, in the order of its answers.
    unnamed: VecDeque<bool>,
}

impl Consumers {
    /// The client consumes, under a tag of its own or, where that is empty, one that the broker will name.
    pub(super) fn consumes(&mut self, tag: &[u8], acknowledges: bool) {
        if self.acknowledges.len() + self.unnamed.len() >= CONSUMERS_MAX {
            return;
        }
        if tag.is_empty() {
            self.unnamed.push_back(acknowledges);
        } else {
            self.acknowledges.insert(tag.into(), acknowledges);
        }
    }

    /// The broker has answered: a tag that nobody chose is the next one's that had none.
    pub(super) fn named(&mut self, tag: &[u8]) {
        if !self.acknowledges.contains_key(tag)
            && let Some(acknowledges) = self.unnamed.pop_front()
        {
            self.acknowledges.insert(tag.into(), acknowledges);
        }
    }

    /// It is over, by whichever side.
    pub(super) fn cancelled(&mut self, tag: &[u8]) {
        self.acknowledges.remove(tag);
    }

    /// Whether what goes to this consumer is acknowledged by it.
    pub(super) fn acknowledges(&self, tag: &[u8]) -> bool {
        self.acknowledges.get(tag) == Some(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_no_tag_gets_the_broker_s_in_order() {
        let mut consumers = Consumers::default();
        consumers.consumes(b"", true);
        consumers.consumes(b"own", true);
        consumers.consumes(b"", false);
        consumers.named(b"first");
        consumers.named(b"own");
        consumers.named(b"second");
        let told: [bool; 4] =
            [b"first".as_slice(), b"own", b"second", b"?"].map(|tag| consumers.acknowledges(tag));
        assert_eq!(told, [true, true, false, false]);
    }

    #[test]
    fn those_that_have_ended_are_forgotten_and_no_channel_makes_more_than_its_bound() {
        let mut consumers = Consumers::default();
        for n in 0..100_000_u32 {
            consumers.consumes(&n.to_be_bytes(), true);
            consumers.cancelled(&n.to_be_bytes());
        }
        assert!(consumers.acknowledges.is_empty());
        for n in 0..100_000_u32 {
            consumers.consumes(&n.to_be_bytes(), true);
            consumers.consumes(b"", true);
        }
        assert_eq!(consumers.acknowledges.len() + consumers.unnamed.len(), CONSUMERS_MAX);
    }
}
