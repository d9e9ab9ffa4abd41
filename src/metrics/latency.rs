//! A histogram of durations made for runs: many publishes that share their times are observed with one call, in whole numbers.
//!
//! `prometheus::Histogram` adds floats in a compare-and-swap loop for every message; this one costs two relaxed additions a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto;

/// Upper bounds of the buckets in microseconds: 1 µs to 1 min in steps of 1, 2.5, 5. Above is `+Inf`.
const BOUNDS_MICROS: [u64; 24] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// A histogram in seconds, without labels (M2: histograms carry none from traffic). Clones share the numbers.
#[derive(Debug, Clone)]
pub struct Latency(Arc<Cells>);

#[derive(Debug)]
struct Cells {
    desc: Desc,
    /// One a bound and one above them all.
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Latency {
    pub(super) fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let desc = Desc::new(name.into(), help.into(), Vec::new(), Default::default())?;
        Ok(Self(Arc::new(Cells { desc, buckets: Default::default(), sum_nanos: AtomicU64::new(0) })))
    }

    /// Counts `times` events that each took `took`.
    #[inline]
    pub fn observe(&self, took: Duration, times: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let at = BOUNDS_MICROS.partition_point(|bound| bound * 1_000 < nanos);
        if let Some(bucket) = self.0.buckets.get(at) {
            bucket.fetch_add(times, Ordering::Relaxed);
        }
        self.0.sum_nanos.fetch_add(nanos.saturating_mul(times), Ordering::Relaxed);
    }

    /// Events counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The upper bound of the bucket in which the `per_mille`-th event lies; `None` while there is none.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Option<Duration> {
        let rank = self.count().saturating_mul(per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        let at = self.0.buckets.iter().position(|bucket| {
            seen += bucket.load(Ordering::Relaxed);
            seen >= rank
        })?;
        Some(BOUNDS_MICROS.get(at).map_or(Duration::MAX, |micros| Duration::from_micros(*micros)))
    }
}

impl Collector for Latency {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut seen = 0;
        let mut buckets = Vec::with_capacity(BOUNDS_MICROS.len());
        for (bound, bucket) in BOUNDS_MICROS.iter().zip(&self.0.buckets) {
            seen += bucket.load(Ordering::Relaxed);
            let mut shown = proto::Bucket::default();
            shown.set_upper_bound(Duration::from_micros(*bound).as_secs_f64());
            shown.set_cumulative_count(seen);
            buckets.push(shown);
        }
        let over = self.0.buckets.last().map_or(0, |bucket| bucket.load(Ordering::Relaxed));
        let sum = Duration::from_nanos(self.0.sum_nanos.load(Ordering::Relaxed));
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(seen + over);
        histogram.set_sample_sum(sum.as_secs_f64());
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        let mut family = proto::MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_counted_once_for_each_of_its_events() {
        let latency = Latency::new("umbel_test_seconds", "A test.").unwrap();
        assert_eq!(latency.quantile(500), None);
        latency.observe(Duration::from_micros(30), 16);
        latency.observe(Duration::from_micros(50), 1);
        latency.observe(Duration::from_secs(3_600), 3);
        assert_eq!(latency.count(), 20);
        assert_eq!(latency.quantile(500), Some(Duration::from_micros(50)));
        assert_eq!(latency.quantile(999), Some(Duration::MAX));
        let families = latency.collect();
        let histogram = families[0].get_metric()[0].get_histogram();
        assert_eq!(histogram.get_sample_count(), 20);
        assert_eq!(histogram.get_bucket()[5].cumulative_count(), 17, "a bound is inclusive, as `le` says");
        assert_eq!(histogram.get_bucket().last().unwrap().cumulative_count(), 17);
        assert!((histogram.get_sample_sum() - 10_800.000_53).abs() < 1e-6);
    }
}
