//! `[spool]`: what waits on disk for an upstream to come back. Without it nothing does.

use std::time::Duration;

use super::reader::Section;

/// The spool's place and bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// Directory, created if missing.
    pub path: String,
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// What is older is set aside as expired by age; none: kept for ever.
    pub max_age: Option<Duration>,
    /// Records are written together for up to this long before one fsync; not where they come one by one, nor longer than that takes.
    pub group_commit: Duration,
    /// Whether an acknowledgement waits for fsync. Without, a power cut may lose the last moments.
    pub fsync: bool,
    /// Replay is paced to this many messages a second, so that live traffic is not starved; none: as fast as confirms allow.
    pub replay_rate: Option<u64>,
}

impl Spool {
    /// Reads `[spool]`, if it is there.
    #[must_use]
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let path = section.expanded("path");
        let spool = Self {
            path: path.clone().unwrap_or_default(),
            max_bytes: section.size("max_bytes", 1 << 20..=1 << 50).unwrap_or(1 << 30),
            max_age: section.duration("max_age").filter(|d| !d.is_zero()),
            group_commit: section.duration("group_commit").unwrap_or(Duration::from_millis(2)),
            fsync: section.flag("fsync", true),
            replay_rate: section.integer("replay_rate", 1..=1 << 32),
        };
        section.close();
        if section.is_present() && path.as_deref().is_none_or(str::is_empty) {
            section.problem("expected `path`, a directory");
        }
        path.filter(|p| !p.is_empty()).map(|_| spool)
    }
}
