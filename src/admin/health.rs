//! Alive and ready, judged from what is known: no sockets here.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::status::{Status, UpstreamState};

/// A data thread that has not ticked for longer is dead to `/healthz`.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// When the data thread's clock was last seen to have turned.
#[derive(Debug)]
pub struct Pulse(Mutex<(Instant, u64)>);

impl Pulse {
    /// As if the clock had turned just now.
    #[must_use]
    pub fn new(now: Instant, ticks: u64) -> Self {
        Self(Mutex::new((now, ticks)))
    }

    /// Looks at the clock; the error says for how long it has stood still, where that is too long.
    pub fn check(&self, now: Instant, ticks: u64) -> Result<(), Duration> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.1 != ticks {
            *seen = (now, ticks);
        }
        let silent = now.saturating_duration_since(seen.0);
        if silent > SILENCE_MAX { Err(silent) } else { Ok(()) }
    }
}

/// Whether tasks can be taken, in words either way, a line a fact.
///
/// A file that a reload refused is told but does not make us unready: what is in force is good (C2), and a bad edit pushed to
/// every sidecar must not take every producer out of service.
pub fn readiness(status: &Status) -> Result<String, String> {
    let mut words = String::new();
    let mut takes = false;
    for upstream in &status.upstreams {
        takes |= upstream.state == UpstreamState::Up;
        let state = match upstream.state {
            UpstreamState::Unknown => "not reached yet",
            UpstreamState::Up => "up",
            UpstreamState::Blocked => "blocked",
            UpstreamState::Down => "down",
        };
        _ = write!(words, "upstream {}: {state}", upstream.name);
        let why = upstream.blocked.as_ref().or(upstream.last_error.as_ref());
        if let (Some(why), false) = (why, upstream.state == UpstreamState::Up) {
            _ = write!(words, " ({why})");
        }
        words.push('\n');
    }
    if let Some(spool) = &status.spool {
        takes |= spool.accepting;
        let why = spool.last_error.as_deref().unwrap_or("its bound is reached");
        _ = if spool.accepting {
            writeln!(words, "spool: ready")
        } else {
            writeln!(words, "spool: takes nothing ({why})")
        };
    }
    if let Some(error) = &status.config.last_reload_error {
        _ = writeln!(words, "config: the last reload was refused, the one before it is in force: {error}");
    }
    if status.process.draining {
        return Err(format!("not ready: draining\n{words}"));
    }
    if takes {
        Ok(format!("ready\n{words}"))
    } else {
        Err(format!("not ready: nothing can take tasks\n{words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::status::{SpoolStatus, UpstreamStatus};

    fn with(state: UpstreamState) -> Status {
        let last_error = Some("connection refused".into());
        let upstream =
            UpstreamStatus { name: "default".into(), state, last_error, ..UpstreamStatus::default() };
        Status { upstreams: vec![upstream], ..Status::default() }
    }

    #[test]
    fn a_clock_that_stands_still_is_noticed_after_ten_seconds_and_forgiven_when_it_turns() {
        let start = crate::admin::serve::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let pulse = Pulse::new(start, 7);
        assert_eq!(pulse.check(after(10), 7), Ok(()));
        assert_eq!(pulse.check(after(11), 7), Err(Duration::from_secs(11)));
        assert_eq!(pulse.check(after(12), 8), Ok(()));
        assert_eq!(pulse.check(after(20), 8), Ok(()));
    }

    #[test]
    fn an_upstream_that_is_up_makes_us_ready_and_one_that_is_down_says_why_not() {
        assert_eq!(readiness(&with(UpstreamState::Up)).unwrap(), "ready\nupstream default: up\n");
        let words = readiness(&with(UpstreamState::Down)).unwrap_err();
        assert_eq!(words, "not ready: nothing can take tasks\nupstream default: down (connection refused)\n");
    }

    #[test]
    fn a_spool_with_room_makes_us_ready_while_the_upstream_is_down() {
        let mut status = with(UpstreamState::Down);
        status.spool = Some(SpoolStatus { accepting: true, ..SpoolStatus::default() });
        assert!(readiness(&status).is_ok());
        status.spool = Some(SpoolStatus { last_error: Some("disk full".into()), ..SpoolStatus::default() });
        assert!(readiness(&status).unwrap_err().contains("spool: takes nothing (disk full)"));
    }

    #[test]
    fn a_refused_reload_is_told_and_a_drain_is_unready() {
        let mut status = with(UpstreamState::Up);
        status.config.last_reload_error = Some("line 3: unknown key".into());
        assert!(readiness(&status).unwrap().contains("line 3: unknown key"));
        status.process.draining = true;
        assert!(readiness(&status).unwrap_err().starts_with("not ready: draining"));
    }
}
