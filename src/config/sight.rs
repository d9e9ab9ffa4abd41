//! `[log]` and `[metrics]`: what is told, and how much of what traffic names.

use super::reader::Section;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,umbel::net=debug`.
    pub level: String,
}

/// `[metrics]`: bounds on label values that come from traffic (M2); the rest counts as `__other__`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Most task names.
    pub task_names_max: usize,
    /// Most queue names.
    pub queue_names_max: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { task_names_max: 1000, queue_names_max: 500 }
    }
}

impl Log {
    /// Reads `[log]`.
    #[must_use]
    pub fn read(section: &Section<'_>) -> Self {
        let d = Self::default();
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let format = section.choice("format", &formats).unwrap_or(d.format);
        let level = section.string("level").unwrap_or(d.level);
        for part in level.split(',') {
            let word = part.rsplit('=').next().unwrap_or(part).trim();
            if !["off", "error", "warn", "info", "debug", "trace"].contains(&word) {
                section.problem_at(
                    "level",
                    format!("expected off, error, warn, info, debug or trace, found \"{word}\""),
                );
            }
        }
        section.close();
        Self { format, level }
    }
}

impl Metrics {
    /// Reads `[metrics]`.
    #[must_use]
    pub fn read(section: &Section<'_>) -> Self {
        let d = Self::default();
        let count = |key, default| {
            section.integer(key, 0..=1_000_000).and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
        };
        let metrics = Self {
            task_names_max: count("task_names_max", d.task_names_max),
            queue_names_max: count("queue_names_max", d.queue_names_max),
        };
        section.close();
        metrics
    }
}
