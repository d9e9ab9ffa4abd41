//! What a rule can say, beside a route: priority, expiry, compression, admission, and the tier of delivery.

use std::sync::Arc;

use super::route::Destination;
use crate::celery::compression::Codec;

/// Where a publish must be before it counts as accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// In memory until confirmed: lost only with our own process.
    Window,
    /// On disk before it counts.
    Durable,
}

/// What a rule does to priorities: 0 to 255, and absent counts as 0, as in the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriorityRule {
    /// Whatever it was, this.
    pub set: Option<u8>,
    /// Where the producer asked for none (absent or 0: Celery writes 0 then), this.
    pub default: Option<u8>,
    /// This instead of that, before `min` and `max`.
    pub map: Vec<(u8, u8)>,
    /// No less than this.
    pub min: Option<u8>,
    /// No more than this.
    pub max: Option<u8>,
}

impl PriorityRule {
    /// Whether the rule sets a priority, so that a route's does not count; without, it only bounds what there is.
    #[must_use]
    pub const fn sets(&self) -> bool {
        self.set.is_some() || self.default.is_some()
    }

    /// The priority that comes of `asked`.
    #[must_use]
    pub fn apply(&self, asked: Option<u8>) -> Option<u8> {
        let start = match (self.set, asked.filter(|p| *p > 0), self.default) {
            (Some(set), ..) => Some(set),
            (None, None, Some(default)) => Some(default),
            _ => asked,
        };
        let plain = start.unwrap_or(0);
        let mapped = self.map.iter().find(|(from, _)| *from == plain).map_or(plain, |(_, to)| *to);
        let bounded = mapped.max(self.min.unwrap_or(0)).min(self.max.unwrap_or(u8::MAX));
        if bounded == plain { start } else { Some(bounded) }
    }
}

/// A place for what is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// An index into the configured upstreams; none: the one it would have gone to.
    pub upstream: Option<usize>,
    /// Where to, and what to declare first.
    pub destination: Destination,
}

/// What becomes of a task that has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpiryAction {
    /// What a worker would have done: the REVOKED result, the `task-revoked` event.
    Revoke,
    /// To a dead-letter place.
    DeadLetter(Arc<DeadLetter>),
    /// basic.return.
    Return,
    /// basic.nack, for clients that use confirms.
    Nack,
    /// Forwarded and counted.
    Pass,
}

/// What a rule does about expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryRule {
    /// What becomes of the expired.
    pub action: ExpiryAction,
    /// Given to tasks that have no expiry: microseconds after their eta, or after now.
    pub default: Option<i64>,
    /// The latest expiry, likewise; tasks without one get it too.
    pub max: Option<i64>,
    /// Whether the remaining time is stamped as the message's TTL.
    pub stamp_ttl: bool,
    /// Whether it is checked on the way out to a worker too.
    pub on_delivery: bool,
}

/// What a rule does about compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionRule {
    /// What to do with a body that goes plain, or compressed.
    pub packing: Packing,
    /// Smaller bodies are left alone.
    pub min_bytes: u64,
    /// Whether a plain body under a `compression` header loses that header (Celery 5.3.0 to 5.3.5 retries).
    pub repair: bool,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Left as it is.
    Keep,
    /// Compressed with this codec.
    Compress(Codec),
    /// Decompressed: for workers that lack the producer's codec.
    Decompress,
}

/// What a rule does about letting tasks in.
#[derive(Debug, Clone, PartialEq)]
pub struct AdmissionRule {
    /// What becomes of them.
    pub action: AdmissionAction,
    /// Why, for the client, the log and dead-letter headers.
    pub reason: String,
    /// Only what exceeds this rate is acted upon.
    pub rate: Option<Rate>,
}

/// What becomes of a task that a rule of admission speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdmissionAction {
    /// Let in, whatever later rules say.
    Allow,
    /// Let in and counted.
    Count,
    /// basic.nack for clients that use confirms, channel.close 403 for the others.
    Refuse,
    /// basic.nack for clients that use confirms; others are none the wiser.
    Nack,
    /// basic.return.
    Return,
    /// Accepted and thrown away.
    Drop,
    /// To a dead-letter place.
    DeadLetter(Arc<DeadLetter>),
}

/// So many a second on average, so many at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens a second.
    pub per_second: f64,
    /// Most tokens.
    pub burst: f64,
}

/// The tokens that one rule has left.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    tokens: f64,
    seen: Option<i64>,
}

impl Bucket {
    /// Takes a token if there is one; `now` in microseconds.
    #[expect(
        clippy::as_conversions,
        reason = "microseconds between two messages; precision past 2^53 does not matter"
    )]
    pub fn take(&mut self, rate: Rate, now: i64) -> bool {
        self.tokens = match self.seen {
            None => rate.burst,
            Some(seen) => {
                rate.burst.min(self.tokens + now.saturating_sub(seen).max(0) as f64 * rate.per_second / 1e6)
            }
        };
        self.seen = Some(self.seen.map_or(now, |seen| seen.max(now)));
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_set_defaulted_mapped_and_clamped_within_a_byte() {
        let rule = |f: fn(&mut PriorityRule)| {
            let mut rule = PriorityRule::default();
            f(&mut rule);
            rule
        };
        assert_eq!(rule(|r| r.set = Some(9)).apply(None), Some(9));
        assert_eq!(rule(|r| r.default = Some(5)).apply(Some(0)), Some(5));
        assert_eq!(rule(|r| r.default = Some(5)).apply(Some(3)), Some(3));
        assert_eq!(rule(|r| r.max = Some(3)).apply(Some(200)), Some(3));
        assert_eq!(rule(|r| r.max = Some(3)).apply(None), None);
        assert_eq!(rule(|r| r.min = Some(2)).apply(None), Some(2));
        assert_eq!(rule(|r| r.map = vec![(9, 1)]).apply(Some(9)), Some(1));
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate { per_second: 2.0, burst: 3.0 };
        let mut bucket = Bucket::default();
        let taken = (0..10).filter(|_| bucket.take(rate, 0)).count();
        assert_eq!(taken, 3);
        assert!(!bucket.take(rate, 400_000) && bucket.take(rate, 500_000) && !bucket.take(rate, 500_000));
    }
}
