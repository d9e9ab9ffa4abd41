//! The names of the numbers: every Prometheus family of the program, built once and shared (M2).
//!
//! Handles are atomics. What carries a label from traffic or config is resolved once (`tasks.task(…)`, `tasks.queue(…)`,
//! `tasks.rule(…)`, `upstreams.upstream(…)`) and kept with the verdict, the rule or the link: nothing is looked up per message.
//! Runs of messages count with `inc_by` and `Latency::observe(took, times)`.

mod bounded;
mod delivery;
mod latency;
mod registrar;
mod sides;
pub mod status;
mod summary;
mod tasks;
mod words;

pub use bounded::{BoundedLabels, LABEL_BYTES_MAX, OTHER};
pub use delivery::{Delivery, Ledger, Spool};
pub use latency::Latency;
pub use prometheus::{Counter, Gauge, IntCounter, IntGauge};
pub use registrar::NAMESPACE;
pub use sides::{Clients, Flow, Flows, UpstreamMetrics, Upstreams};
pub use tasks::{RuleMetrics, Tasks};
pub use words::*;

use prometheus::{Registry, TextEncoder};
use registrar::Registrar;

/// Task names and queue names kept apart where the config does not say.
pub const LABELS_MAX: usize = 1_000;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every number of the process. Built once, shared as `Arc<Metrics>`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Judged messages, rules, queues.
    pub tasks: Tasks,
    /// The ledger, the spool, latencies.
    pub delivery: Delivery,
    /// Frames and octets.
    pub flows: Flows,
    /// Sessions, logins, limits.
    pub clients: Clients,
    /// Links, leases, retries, by upstream.
    pub upstreams: Upstreams,
    /// The config in force.
    pub config: ConfigMetrics,
    /// Turns of the data thread's clock, at least one a second: `/healthz` notices when they stop.
    pub ticks: IntCounter,
}

/// Reloads, and when the config in force was read.
#[derive(Debug)]
pub struct ConfigMetrics {
    /// Reloads, by how they ended.
    pub reloads: ByWord<Reload, IntCounter>,
    /// Unix time of the last one that was applied.
    pub last_success_seconds: Gauge,
    /// Whether the last one tried was valid.
    pub last_successful: IntGauge,
    /// How long reading and compiling took.
    pub reload_seconds: Latency,
    /// Unix time at which the process started.
    pub start_seconds: Gauge,
}

impl Metrics {
    /// All families, `labels_max` distinct task names and as many queue names.
    #[must_use]
    pub fn new(labels_max: usize) -> Self {
        Self::with_labels(labels_max, labels_max)
    }

    /// Metrics that name up to so many tasks and queues; the rest are `__other__`.
    #[must_use]
    pub fn with_labels(task_names_max: usize, queue_names_max: usize) -> Self {
        let registry = Registry::new();
        let make = Registrar(&registry);
        let build = make.gauges("build_info", "What was built; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            tasks: Tasks::new(&make, task_names_max, queue_names_max),
            delivery: Delivery::new(&make),
            flows: Flows::new(&make),
            clients: Clients::new(&make),
            upstreams: Upstreams::new(&make),
            config: ConfigMetrics {
                reloads: make.counters_by("config_reloads_total", "Reloads of the configuration."),
                last_success_seconds: make.real_gauge(
                    "config_last_success_timestamp_seconds",
                    "When the configuration in force was read.",
                ),
                last_successful: make
                    .gauge("config_last_reload_successful", "Whether the last configuration read was valid."),
                reload_seconds: make
                    .latency("config_reload_seconds", "Time to read and compile a configuration."),
                start_seconds: make.real_gauge("start_timestamp_seconds", "When the process started."),
            },
            ticks: make.counter("ticks_total", "Turns of the data thread's clock."),
            registry,
        }
    }

    /// The text exposition format, families sorted by name.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(LABELS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::proto::MetricType;
    use std::collections::BTreeSet;

    /// Metrics with every labelled family touched once, so that all of them are gathered.
    fn touched() -> Metrics {
        let metrics = Metrics::new(8);
        metrics.tasks.task("t", "r", TaskVerdict::Forward, "default").inc();
        metrics.tasks.queue("celery", "default").inc();
        metrics.tasks.rule("r").rerouted.inc();
        metrics.upstreams.upstream("default").retries.inc();
        metrics
    }

    #[test]
    fn every_family_is_named_as_prometheus_asks() {
        let units = ["seconds", "bytes", "total", "info"];
        for family in touched().registry.gather() {
            let name = family.name();
            assert!(name.starts_with("umbel_"), "{name} is outside the namespace");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name} is not snake case");
            assert!(family.help().ends_with('.'), "{name} has no sentence of help");
            let counts = family.get_field_type() == MetricType::COUNTER;
            assert_eq!(counts, name.ends_with("_total"), "{name}: counters, and only they, end in _total");
            if family.get_field_type() == MetricType::HISTOGRAM {
                assert!(name.ends_with("_seconds"), "{name} has no base unit");
                assert!(
                    family.get_metric().iter().all(|m| m.get_label().is_empty()),
                    "{name} carries labels"
                );
            }
            for odd in ["ms", "millis", "micros", "minutes", "kib", "kilobytes", "octets", "percent"] {
                assert!(!name.split('_').any(|word| word == odd), "{name} is not in base units");
            }
            for unit in units {
                let trimmed = name.strip_suffix("_total").unwrap_or(name);
                let inside = trimmed.rsplit_once('_').map_or("", |(head, _)| head);
                assert!(!inside.split('_').any(|word| word == unit), "{name}: the unit {unit} stands last");
            }
        }
    }

    /// The page of the metrics: a row each.
    fn page() -> String {
        let rows = touched().registry.gather().into_iter().map(|family| {
            let labels: BTreeSet<&str> =
                family.get_metric().iter().flat_map(|m| m.get_label()).map(|label| label.name()).collect();
            let labels: Vec<String> = labels.into_iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            format!("| `{}` | {kind} | {} | {} |\n", family.name(), labels.join(", "), family.help())
        });
        rows.collect()
    }

    #[test]
    fn the_page_of_the_metrics_has_each_of_them_as_it_is_exported() {
        let written: String = include_str!("../../deploy/METRICS.md")
            .lines()
            .filter(|line| line.starts_with("| `umbel_"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(written, page(), "deploy/METRICS.md should have these rows:\n{}", page());
    }

    #[test]
    fn what_alerts_and_documents_ask_for_is_exported() {
        let families = touched().registry.gather();
        let known: BTreeSet<&str> = families.iter().map(|family| family.name()).collect();
        for text in [
            include_str!("../../deploy/alerts.yml"),
            include_str!("../../README.md"),
            include_str!("../../ARCHITECTURE.md"),
            include_str!("../../CHANGELOG.md"),
            include_str!("../../tests/faults/README.md"),
        ] {
            for word in text.split(|c: char| !c.is_ascii_lowercase() && c != '_') {
                let name = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|part| word.strip_suffix(part).filter(|base| base.ends_with("_seconds")))
                    .unwrap_or(word);
                // `umbel_` and `umbel_publishes_*` are beginnings of names.
                let is_name = name.starts_with("umbel_") && !name.ends_with('_');
                assert!(!is_name || known.contains(name), "{word} is not exported");
            }
        }
    }

    #[test]
    fn tasks_and_queues_join_with_celery_exporters_labels() {
        let rendered = touched().render();
        assert!(rendered.contains(r#"umbel_tasks_total{name="t","#));
        assert!(rendered.contains(r#"umbel_tasks_queued_total{queue_name="celery","#));
    }

    #[test]
    fn the_exposition_can_be_read_line_by_line() {
        let rendered = touched().render();
        let mut series = BTreeSet::new();
        for line in rendered.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name.to_owned()), "{name} is there twice");
        }
        assert!(series.len() > 150, "{} series", series.len());
        assert!(series.contains(r#"umbel_build_info{version="0.1.0"}"#));
    }

    #[test]
    fn a_hostile_label_value_cannot_break_a_line() {
        let metrics = Metrics::new(8);
        metrics.tasks.queue("a\"} 1\nevil_total 2\\", "default").inc();
        let rendered = metrics.render();
        assert!(!rendered.lines().any(|line| line.starts_with("evil")));
        assert!(rendered.contains(r#"queue_name="a\"} 1\nevil_total 2\\""#));
    }
}
