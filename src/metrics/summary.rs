//! The numbers of `/status` that the metrics know by themselves: the ledger's sums, two latencies, what each rule did.

use std::collections::BTreeMap;

use prometheus::IntCounterVec;
use prometheus::core::Collector;

use super::status::{Counters, RuleStatus};
use super::{Latency, Metrics};

impl Metrics {
    /// Sums of the ledger, and the latencies' buckets.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let ledger = &self.delivery.ledger;
        let seconds =
            |latency: &Latency, per_mille| latency.quantile(per_mille).map(|took| took.as_secs_f64());
        // In flight first: what settles while we add up must not make it look larger than what was accepted.
        let in_flight = ledger.in_flight();
        Counters {
            in_flight,
            accepted: ledger.accepted.get(),
            forwarded: ledger.forwarded.get(),
            spooled: ledger.spooled.get(),
            refused: ledger.refused.all().map(|(_, counter)| counter.get()).sum(),
            expired: ledger.expired.get(),
            resent: sum_by(self.upstreams.resends(), "upstream").values().sum(),
            non_tasks: self.tasks.non_tasks.all().map(|(_, counter)| counter.get()).sum(),
            unreadable: self.tasks.unreadable.all().map(|(_, counter)| counter.get()).sum(),
            forward_seconds_p50: seconds(&self.delivery.forward_seconds, 500),
            forward_seconds_p99: seconds(&self.delivery.forward_seconds, 990),
            confirm_seconds_p50: seconds(&self.delivery.confirm_seconds, 500),
            confirm_seconds_p99: seconds(&self.delivery.confirm_seconds, 990),
        }
    }

    /// The rules that matched something, by name.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleStatus> {
        let families = self.tasks.by_rule();
        let rerouted = sum_by(families.rerouted, "rule");
        let reprioritised = sum_by(families.reprioritised, "rule");
        let expired = sum_by(families.expired, "rule");
        let compressed = sum_by(families.compressed, "rule");
        let of = |sums: &BTreeMap<String, u64>, name: &str| sums.get(name).copied().unwrap_or(0);
        let observed =
            sum_where(families.matched, "rule", |label, value| label == "mode" && value == "observe");
        let all = sum_by(families.matched, "rule");
        let rules = all.into_iter().map(|(name, matched)| RuleStatus {
            matched: matched.saturating_sub(of(&observed, &name)),
            observed: of(&observed, &name),
            rerouted: of(&rerouted, &name),
            reprioritised: of(&reprioritised, &name),
            expired: of(&expired, &name),
            compressed: of(&compressed, &name),
            name,
        });
        rules.filter(|rule| rule.matched + rule.observed > 0).collect()
    }
}

/// A family's counters added up by the value of one label.
fn sum_by(family: &IntCounterVec, label: &str) -> BTreeMap<String, u64> {
    sum_where(family, label, |name, _| name == label)
}

/// The same, of those series alone that carry a label of which `wanted` is true.
fn sum_where(
    family: &IntCounterVec,
    label: &str,
    wanted: impl Fn(&str, &str) -> bool,
) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for metric in family.collect().iter().flat_map(|gathered| gathered.get_metric()) {
        let labels = metric.get_label();
        let Some(key) = labels.iter().find(|pair| pair.name() == label) else { continue };
        if labels.iter().any(|pair| wanted(pair.name(), pair.value())) {
            *sums.entry(key.value().to_owned()).or_default() += whole(metric.get_counter().get_value());
        }
    }
    sums
}

/// prometheus hands counters out as floats; ours were whole numbers.
#[expect(clippy::as_conversions, reason = "`as` saturates, and a count below 2^53 is exact")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::super::{Codec, Metrics, Mode, Refusal};
    use super::*;
    use std::time::Duration;

    #[test]
    fn rules_that_matched_are_summed_over_their_other_labels() {
        let metrics = Metrics::new(8);
        let feeds = metrics.tasks.rule("feeds");
        feeds.matched.of(Mode::Enforce).inc_by(5);
        feeds.matched.of(Mode::Observe).inc_by(2);
        feeds.rerouted.inc_by(4);
        feeds.compressed.of(Codec::Zlib).inc();
        feeds.compressed.of(Codec::Zstd).inc();
        let _never = metrics.tasks.rule("never");
        let expected = RuleStatus {
            name: "feeds".into(),
            matched: 5,
            observed: 2,
            rerouted: 4,
            compressed: 2,
            ..RuleStatus::default()
        };
        assert_eq!(metrics.rules(), [expected]);
    }

    #[test]
    fn the_summary_adds_up_what_labels_keep_apart() {
        let metrics = Metrics::new(8);
        metrics.delivery.ledger.accepted.inc_by(3);
        metrics.delivery.ledger.refused.of(Refusal::Policy).inc();
        metrics.delivery.ledger.refused.of(Refusal::WindowFull).inc();
        metrics.upstreams.upstream("a").resends.inc_by(2);
        metrics.upstreams.upstream("b").resends.inc_by(3);
        metrics.delivery.forward_seconds.observe(Duration::from_micros(40), 9);
        let counters = metrics.counters();
        assert_eq!((counters.accepted, counters.refused, counters.in_flight, counters.resent), (3, 2, 1, 5));
        assert_eq!((counters.forward_seconds_p50, counters.confirm_seconds_p50), (Some(0.000_05), None));
    }
}
