//! The log's last warnings and errors, kept for the page: a layer of the subscriber and a short ring.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::metrics::status::WarningStatus;

/// Lines kept.
const LINES_MAX: usize = 50;
/// Octets kept of one line.
const LINE_BYTES_MAX: usize = 600;

/// The ring. Clones share it; as a [`Layer`] it fills itself.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<VecDeque<WarningStatus>>>);

impl Recent {
    /// An empty ring.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Newest first.
    #[must_use]
    pub fn list(&self) -> Vec<WarningStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    fn push(&self, line: WarningStatus) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        // Levels grow with their noise: WARN and ERROR are the two that are not above WARN.
        if *meta.level() > Level::WARN {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        self.push(WarningStatus {
            at_unix_seconds: unix_seconds(),
            level: meta.level().to_string(),
            target: meta.target().to_owned(),
            message: line.0.0,
        });
    }
}

/// The message, then `name=value` for each field, cut where it gets long.
#[derive(Default)]
struct Line(Cut);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        _ = write!(self.0, " {}={value}", field.name());
    }
}

/// A string that takes no more than its bound, so that a long value is never written out whole.
#[derive(Default)]
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = LINE_BYTES_MAX.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let fits = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= room).last();
        self.0.push_str(fits.and_then(|end| text.get(..end)).unwrap_or_default());
        Err(std::fmt::Error)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a line of the log shows the wall clock; nothing is decided by it"
)]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn warnings_and_errors_are_kept_newest_first_and_nothing_quieter() {
        let recent = Recent::new();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(recent.clone()), || {
            tracing::info!("started");
            tracing::warn!(upstream = "default", attempt = 3, "link lost");
            tracing::error!("spool is full");
        });
        let lines: Vec<_> = recent.list().into_iter().map(|line| (line.level, line.message)).collect();
        assert_eq!(
            lines,
            [
                ("ERROR".to_owned(), "spool is full".to_owned()),
                ("WARN".to_owned(), "link lost upstream=default attempt=3".to_owned())
            ]
        );
    }

    #[test]
    fn the_ring_and_each_of_its_lines_are_bounded() {
        let recent = Recent::new();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(recent.clone()), || {
            for n in 0..LINES_MAX + 10 {
                tracing::warn!(long = "ä".repeat(2_000), "line {n}");
            }
        });
        let lines = recent.list();
        assert_eq!(lines.len(), LINES_MAX);
        assert!(lines[0].message.starts_with("line 59"));
        assert!(lines.iter().all(|line| line.message.len() <= LINE_BYTES_MAX));
    }
}
