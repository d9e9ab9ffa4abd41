//! Where families are made: every name gets its namespace here, and every family lands in one registry.

use prometheus::core::Collector;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::latency::Latency;
use super::words::{ByWord, Word};

/// What stands before every family's name.
pub const NAMESPACE: &str = "umbel";

/// Makes and registers families. Names are constants of this crate, so what can fail here fails in every test.
pub(super) struct Registrar<'a>(pub &'a Registry);

#[expect(
    clippy::expect_used,
    reason = "names and labels are constants: a clash fails the first test that builds Metrics"
)]
impl Registrar<'_> {
    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let made = made.expect("a family's name and labels are valid");
        self.0.register(Box::new(made.clone())).expect("a family is registered once");
        made
    }

    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(opts(name, help)))
    }

    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(opts(name, help)))
    }

    /// For seconds, which are not whole numbers.
    pub fn real_gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(opts(name, help)))
    }

    /// For seconds that only grow.
    pub fn real_counter(&self, name: &str, help: &str) -> prometheus::Counter {
        self.add(prometheus::Counter::with_opts(opts(name, help)))
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }

    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    /// One counter a word, all of them present from the start (at zero).
    pub fn counters_by<W: Word>(&self, name: &str, help: &str) -> ByWord<W, IntCounter> {
        let family = self.counters(name, help, &[W::LABEL]);
        ByWord::new(|word: W| family.with_label_values(&[word.word()]))
    }

    /// One gauge a word.
    pub fn gauges_by<W: Word>(&self, name: &str, help: &str) -> ByWord<W, IntGauge> {
        let family = self.gauges(name, help, &[W::LABEL]);
        ByWord::new(|word: W| family.with_label_values(&[word.word()]))
    }

    pub fn latency(&self, name: &str, help: &str) -> Latency {
        self.add(Latency::new(&format!("{NAMESPACE}_{name}"), help))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}
