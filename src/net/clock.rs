//! The clocks, read here and nowhere else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::session::Now;

/// Both clocks of a thread.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A monotonic clock that begins at one second, so that no deadline lies before its origin.
    #[expect(clippy::disallowed_methods, reason = "net is where clocks are read")]
    pub fn start() -> Self {
        let now = Instant::now();
        Self { origin: now.checked_sub(Duration::from_secs(1)).unwrap_or(now) }
    }

    /// Microseconds since the origin, for what is shorter than a [`Now`] can tell.
    #[expect(clippy::disallowed_methods, reason = "net is where clocks are read")]
    pub fn us(&self) -> u64 {
        u64::try_from(Instant::now().saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }

    /// The time.
    #[expect(clippy::disallowed_methods, reason = "net is where clocks are read")]
    pub fn now(&self) -> Now {
        let ms = u64::try_from(Instant::now().saturating_duration_since(self.origin).as_millis())
            .unwrap_or(u64::MAX);
        Now { ms, wall_us: wall_us() }
    }
}

/// Microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "net is where clocks are read")]
pub fn wall_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_micros()).ok())
        .unwrap_or(0)
}

/// Microseconds since 1970, as the spool counts them.
#[must_use]
pub fn now_us() -> u64 {
    u64::try_from(wall_us()).unwrap_or(0)
}
