//! The promise in numbers: what was accepted, what became of it, how long it took, and what waits on disk.

use prometheus::{Gauge, IntCounter, IntGauge};

use super::latency::Latency;
use super::registrar::Registrar;
use super::words::{ByWord, NackOrigin, Refusal, Returned, SpoolExit, SpoolFault};

/// The ledger of publishes. Every accepted publish is settled exactly once, under one of four words, so that after a drain
/// accepted = forwarded + spooled + refused + expired; before it, the difference is in flight.
#[derive(Debug)]
pub struct Ledger {
    /// Whole, legal publishes taken from clients.
    pub accepted: IntCounter,
    /// Confirmed by an upstream without the spool's help.
    pub forwarded: IntCounter,
    /// Given to the spool, which has a ledger of its own from here on.
    pub spooled: IntCounter,
    /// Refused so that the producer can know it.
    pub refused: ByWord<Refusal, IntCounter>,
    /// Expired and not forwarded.
    pub expired: IntCounter,
}

impl Ledger {
    /// Settled, under any of the four words.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let refused: u64 = self.refused.all().map(|(_, counter)| counter.get()).sum();
        self.forwarded.get() + self.spooled.get() + self.expired.get() + refused
    }

    /// Accepted and not settled. Settled is read first, so this is never too small.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let settled = self.settled();
        self.accepted.get().saturating_sub(settled)
    }
}

/// What waits on disk. Its own ledger: appended + found at start = the exits + the messages that still wait.
#[derive(Debug)]
pub struct Spool {
    /// Records waiting.
    pub messages: IntGauge,
    /// Octets they take on disk.
    pub bytes: IntGauge,
    /// Of them, those that an upstream has refused: they are tried again in turn.
    pub aside: IntGauge,
    /// Records that an upstream has refused, each time that it did.
    pub put_aside: IntCounter,
    /// The age of the oldest.
    pub oldest_age_seconds: Gauge,
    /// Records written.
    pub appended: IntCounter,
    /// Records that an earlier life of the process left behind.
    pub recovered: IntCounter,
    /// Records read back and published again.
    pub replayed: IntCounter,
    /// Records gone, by how.
    pub exits: ByWord<SpoolExit, IntCounter>,
    /// Files that were damaged and set aside.
    pub quarantined_files: IntCounter,
    /// Failed operations.
    pub faults: ByWord<SpoolFault, IntCounter>,
    /// How long a group commit took to be on disk.
    pub sync_seconds: Latency,
}

/// Delivery, all of it.
#[derive(Debug)]
pub struct Delivery {
    /// Every publish, settled once.
    pub ledger: Ledger,
    /// What waits on disk.
    pub spool: Spool,
    /// From a publish's last byte in to its first byte out.
    pub forward_seconds: Latency,
    /// From a publish's last byte in to the upstream's confirm.
    pub confirm_seconds: Latency,
    /// Publishes written and not yet confirmed, over all upstreams.
    pub unconfirmed_messages: IntGauge,
    /// Octets kept for resending, counted by whole chunks.
    pub unconfirmed_bytes: IntGauge,
    /// Messages that a broker returned.
    pub returned: ByWord<Returned, IntCounter>,
    /// Negative acknowledgements given to producers.
    pub nacked: ByWord<NackOrigin, IntCounter>,
}

impl Delivery {
    pub(super) fn new(make: &Registrar<'_>) -> Self {
        Self {
            ledger: Ledger {
                accepted: make.counter("publishes_accepted_total", "Publishes taken from clients."),
                forwarded: make.counter("publishes_forwarded_total", "Publishes confirmed by an upstream without the spool's help."),
                spooled: make.counter("publishes_spooled_total", "Publishes handed to the spool."),
                refused: make.counters_by("publishes_refused_total", "Publishes refused visibly."),
                expired: make
                    .counter("publishes_expired_total", "Publishes not forwarded because they had expired."),
            },
            spool: Spool {
                messages: make.gauge("spool_messages", "Records waiting on disk."),
                bytes: make.gauge("spool_bytes", "Bytes of the records waiting on disk."),
                aside: make.gauge(
                    "spool_aside_messages",
                    "Records on disk that an upstream has refused; tried again in turn.",
                ),
                put_aside: make
                    .counter("spool_put_aside_total", "Refusals of records that stay on disk for it."),
                oldest_age_seconds: make
                    .real_gauge("spool_oldest_age_seconds", "Age of the oldest record on disk."),
                appended: make.counter("spool_appended_total", "Records written to the spool."),
                recovered: make.counter("spool_recovered_total", "Records found in the spool at start."),
                replayed: make.counter("spool_replayed_total", "Records read back and published."),
                exits: make.counters_by("spool_exits_total", "Records that left the spool."),
                quarantined_files: make.counter("spool_quarantined_files_total", "Damaged files set aside."),
                faults: make.counters_by("spool_faults_total", "Failed operations on the spool."),
                sync_seconds: make
                    .latency("spool_sync_seconds", "Time of a group commit until it was on disk."),
            },
            forward_seconds: make
                .latency("publish_forward_seconds", "From a publish's last byte in to its first byte out."),
            confirm_seconds: make
                .latency("publish_confirm_seconds", "From a publish's last byte in to its confirm; each counts with the mean of its tenth of a second."),
            unconfirmed_messages: make
                .gauge("unconfirmed_messages", "Publishes written upstream and not yet confirmed."),
            unconfirmed_bytes: make.gauge("unconfirmed_bytes", "Bytes kept for resending."),
            returned: make.counters_by("messages_returned_total", "Messages returned by a broker."),
            nacked: make
                .counters_by("messages_nacked_total", "Negative acknowledgements given to producers."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn what_is_accepted_is_in_flight_until_it_is_settled_under_one_word() {
        let metrics = Metrics::new(8);
        let ledger = &metrics.delivery.ledger;
        ledger.accepted.inc_by(10);
        ledger.forwarded.inc_by(4);
        ledger.spooled.inc_by(3);
        ledger.expired.inc();
        ledger.refused.of(Refusal::WindowFull).inc();
        assert_eq!(ledger.in_flight(), 1);
        ledger.refused.of(Refusal::Policy).inc();
        assert_eq!((ledger.settled(), ledger.in_flight()), (10, 0));
    }
}
