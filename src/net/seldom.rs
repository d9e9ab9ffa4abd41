//! Lines of the log that any stranger can cause: one a second, with how many there were (SPEC M3, S1).

use std::cell::Cell;

/// Between two lines of a kind.
const QUIET_MS: u64 = 1_000;

/// One kind of line.
#[derive(Debug, Default)]
pub struct Seldom {
    quiet_until_ms: Cell<u64>,
    untold: Cell<u64>,
}

impl Seldom {
    /// So many times it has happened; how often since the last line, where there is to be one now.
    pub fn happened(&self, now_ms: u64, times: u64) -> Option<u64> {
        self.untold.set(self.untold.get().saturating_add(times));
        if now_ms < self.quiet_until_ms.get() || self.untold.get() == 0 {
            return None;
        }
        self.quiet_until_ms.set(now_ms.saturating_add(QUIET_MS));
        Some(self.untold.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_a_thousand_more_as_a_number_a_second_later() {
        let lines = Seldom::default();
        assert_eq!(lines.happened(5, 1), Some(1));
        assert!((0..1_000).all(|n| lines.happened(5 + n / 2, 1).is_none()));
        assert_eq!(lines.happened(1_005, 1), Some(1_001));
        assert_eq!(lines.happened(3_000, 0), None, "nothing has happened since");
        assert_eq!(lines.happened(3_000, 1), Some(1));
    }
}
