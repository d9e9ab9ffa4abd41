//! What was seen and decided of messages: tasks, rules, queues, and what is no task.

use prometheus::{IntCounter, IntCounterVec};

use super::bounded::{BoundedLabels, LABEL_BYTES_MAX, OTHER};
use super::registrar::Registrar;
use super::words::{
    ByWord, Codec, DeadLetter, ExpiryAction, Mistake, Mode, NonTask, TaskVerdict, Unreadable, Word,
};

/// Combinations of task name, rule, verdict and upstream kept apart, as a multiple of the names kept apart.
const SERIES_PER_NAME: usize = 4;
/// Rules come from the config, but reloads bring new ones for as long as the process lives.
const RULES_MAX: usize = 4_096;

/// Counters of judged messages.
#[derive(Debug)]
pub struct Tasks {
    names: BoundedLabels,
    queues: BoundedLabels,
    rules: BoundedLabels,
    series: BoundedLabels,
    seen: IntCounterVec,
    queued: IntCounterVec,
    matched: IntCounterVec,
    rerouted: IntCounterVec,
    reprioritised: IntCounterVec,
    imposed: IntCounterVec,
    unjudged: IntCounterVec,
    expired: IntCounterVec,
    compressed: IntCounterVec,
    /// Bodies' octets before they were compressed.
    pub compression_before: ByWord<Codec, IntCounter>,
    /// Bodies' octets after they were compressed.
    pub compression_after: ByWord<Codec, IntCounter>,
    /// Bodies that compression would not have made smaller.
    pub compression_skipped: IntCounter,
    /// Messages that are no tasks (T4).
    pub non_tasks: ByWord<NonTask, IntCounter>,
    /// Bodies that could not be read (P7).
    pub unreadable: ByWord<Unreadable, IntCounter>,
    /// Rules' own mistakes (P9).
    pub mistakes: ByWord<Mistake, IntCounter>,
    /// Messages put into dead-letter places.
    pub dead_lettered: ByWord<DeadLetter, IntCounter>,
    /// Targets that we declared ourselves.
    pub declared: IntCounter,
}

/// One rule's counters: resolve once a rule and snapshot, keep with the compiled rule.
#[derive(Debug, Clone)]
pub struct RuleMetrics {
    /// Tasks that it decided something for, enforced or only observed.
    pub matched: ByWord<Mode, IntCounter>,
    /// Tasks whose destination it changed.
    pub rerouted: IntCounter,
    /// Tasks whose priority it changed.
    pub reprioritised: IntCounter,
    /// Tasks that it gave an expiry or a TTL.
    pub expiry_imposed: IntCounter,
    /// Tasks whose expiry it asked for in vain: no moment, or a naive one of a producer on local time. They passed.
    pub expiry_unjudged: IntCounter,
    /// Expired tasks, by what it did to them.
    pub expired: ByWord<ExpiryAction, IntCounter>,
    /// Bodies that it compressed.
    pub compressed: ByWord<Codec, IntCounter>,
}

/// The families with a `rule` label, to sum up.
pub(super) struct ByRule<'a> {
    pub matched: &'a IntCounterVec,
    pub rerouted: &'a IntCounterVec,
    pub reprioritised: &'a IntCounterVec,
    pub expired: &'a IntCounterVec,
    pub compressed: &'a IntCounterVec,
}

impl Tasks {
    pub(super) fn by_rule(&self) -> ByRule<'_> {
        ByRule {
            matched: &self.matched,
            rerouted: &self.rerouted,
            reprioritised: &self.reprioritised,
            expired: &self.expired,
            compressed: &self.compressed,
        }
    }

    pub(super) fn new(make: &Registrar<'_>, labels_max: usize, queues_max: usize) -> Self {
        Self {
            names: BoundedLabels::new(labels_max),
            queues: BoundedLabels::new(queues_max),
            rules: BoundedLabels::new(RULES_MAX),
            series: BoundedLabels::with_bytes_max(
                labels_max.saturating_mul(SERIES_PER_NAME),
                4 * LABEL_BYTES_MAX,
            ),
            seen: make.counters("tasks_total", "Tasks judged.", &["name", "rule", "verdict", "upstream"]),
            queued: make.counters(
                "tasks_queued_total",
                "Tasks by the queue they were sent to.",
                &["queue_name", "upstream"],
            ),
            matched: make.counters(
                "rule_matches_total",
                "Tasks for which a rule decided something.",
                &["rule", "mode"],
            ),
            rerouted: make.counters(
                "tasks_rerouted_total",
                "Tasks whose destination a rule changed.",
                &["rule"],
            ),
            reprioritised: make.counters(
                "tasks_reprioritised_total",
                "Tasks whose priority a rule changed.",
                &["rule"],
            ),
            imposed: make.counters(
                "tasks_expiry_imposed_total",
                "Tasks given an expiry or a TTL.",
                &["rule"],
            ),
            unjudged: make.counters(
                "tasks_expiry_unjudged_total",
                "Tasks that state an expiry nobody can judge (no moment, or a naive one of a producer with utc false); they passed.",
                &["rule"],
            ),
            expired: make.counters("tasks_expired_total", "Tasks found expired.", &["rule", "action"]),
            compressed: make.counters("tasks_compressed_total", "Bodies compressed.", &["rule", "codec"]),
            compression_before: make
                .counters_by("compression_in_bytes_total", "Bytes of bodies before compression."),
            compression_after: make
                .counters_by("compression_out_bytes_total", "Bytes of bodies after compression."),
            compression_skipped: make.counter(
                "compression_skipped_total",
                "Bodies left alone: they would not have shrunk, are too big for their codec, or go under an encoding that packed bytes would not survive.",
            ),
            non_tasks: make.counters_by("non_tasks_total", "Messages that are no tasks."),
            unreadable: make
                .counters_by("bodies_unreadable_total", "Bodies not understood, forwarded untouched."),
            mistakes: make.counters_by("policy_mistakes_total", "Verdicts that could not be carried out."),
            dead_lettered: make
                .counters_by("messages_dead_lettered_total", "Messages put into a dead-letter place."),
            declared: make.counter(
                "declares_total",
                "Targets of routes (a queue with its exchange and bindings) that were declared or looked for first.",
            ),
        }
    }

    /// The counter of one kind of task. Resolve once and keep: this hashes four strings.
    pub fn task(&self, name: &str, rule: &str, verdict: TaskVerdict, upstream: &str) -> IntCounter {
        let (name, rule) = (self.names.admit(name), self.rules.admit(rule));
        let verdict = verdict.word();
        let known = self.series.admit(&format!("{name}\0{rule}\0{verdict}\0{upstream}")) != OTHER;
        self.seen.with_label_values(&[if known { name } else { OTHER }, rule, verdict, upstream])
    }

    /// The counter of tasks sent to one queue. Resolve once and keep.
    pub fn queue(&self, queue: &str, upstream: &str) -> IntCounter {
        self.queued.with_label_values(&[self.queues.admit(queue), upstream])
    }

    /// One rule's counters. Resolve once and keep.
    pub fn rule(&self, rule: &str) -> RuleMetrics {
        let rule = self.rules.admit(rule);
        RuleMetrics {
            matched: by_word(&self.matched, rule),
            rerouted: self.rerouted.with_label_values(&[rule]),
            reprioritised: self.reprioritised.with_label_values(&[rule]),
            expiry_imposed: self.imposed.with_label_values(&[rule]),
            expiry_unjudged: self.unjudged.with_label_values(&[rule]),
            expired: by_word(&self.expired, rule),
            compressed: by_word(&self.compressed, rule),
        }
    }
}

fn by_word<W: Word>(family: &IntCounterVec, first: &str) -> ByWord<W, IntCounter> {
    ByWord::new(|word: W| family.with_label_values(&[first, word.word()]))
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn task_names_beyond_the_bound_are_counted_together() {
        let metrics = Metrics::new(2);
        for n in 0..10 {
            metrics.tasks.task(&format!("t.{n}"), "r", TaskVerdict::Forward, "default").inc();
        }
        let other = metrics.tasks.task("t.99", "r", TaskVerdict::Forward, "default");
        assert_eq!(other.get(), 8);
        assert!(
            metrics
                .render()
                .contains(r#"umbel_tasks_total{name="t.0",rule="r",upstream="default",verdict="forward"} 1"#)
        );
    }

    #[test]
    fn combinations_of_a_known_name_are_bounded_too() {
        let metrics = Metrics::new(1);
        for n in 0..50 {
            metrics.tasks.task("t", &format!("rule {n}"), TaskVerdict::Edit, "default").inc();
        }
        let kept =
            metrics.render().lines().filter(|line| line.starts_with(r#"umbel_tasks_total{name="t""#)).count();
        assert_eq!(kept, SERIES_PER_NAME);
    }

    #[test]
    fn names_of_queues_have_a_bound_of_their_own() {
        let metrics = Metrics::with_labels(3, 1);
        for name in ["a", "b", "c"] {
            metrics.tasks.task(name, "none", TaskVerdict::Forward, "default").inc();
            metrics.tasks.queue(name, "default").inc();
        }
        let rendered = metrics.render();
        assert!(rendered.contains(r#"name="c""#));
        assert!(
            rendered.contains(r#"umbel_tasks_queued_total{queue_name="__other__",upstream="default"} 2"#)
        );
    }

    #[test]
    fn two_handles_of_one_kind_of_task_count_together() {
        let metrics = Metrics::new(8);
        metrics.tasks.task("t", "r", TaskVerdict::Edit, "default").inc_by(3);
        assert_eq!(metrics.tasks.task("t", "r", TaskVerdict::Edit, "default").get(), 3);
        metrics.tasks.rule("r").matched.of(Mode::Observe).inc();
        assert_eq!(metrics.tasks.rule("r").matched.of(Mode::Observe).get(), 1);
    }
}
