//! How often a mistake is logged: a second apart, however many messages share it.

use crate::metrics::{Mistake, Word};

const APART_MS: u64 = 1_000;

/// When each kind of mistake may be logged again.
#[derive(Debug)]
pub(super) struct Complaints(Vec<Quiet>);

#[derive(Debug, Clone, Copy, Default)]
struct Quiet {
    until_ms: u64,
    held: u64,
}

impl Default for Complaints {
    fn default() -> Self {
        Self(vec![Quiet::default(); Mistake::ALL.len()])
    }
}

impl Complaints {
    /// Whether it may be logged now, and how many were not since the last time.
    pub fn due(&mut self, now_ms: u64, kind: Mistake) -> Option<u64> {
        let quiet = self.0.get_mut(kind.index())?;
        if now_ms < quiet.until_ms {
            quiet.held += 1;
            return None;
        }
        quiet.until_ms = now_ms.saturating_add(APART_MS);
        Some(std::mem::take(&mut quiet.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_logged_once_a_second_with_the_number_of_those_that_were_not() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.due(5_000, Mistake::Codec), Some(0));
        assert_eq!(complaints.due(5_001, Mistake::Codec), None);
        assert_eq!(complaints.due(5_999, Mistake::Codec), None);
        assert_eq!(complaints.due(5_999, Mistake::UnknownUpstream), Some(0));
        assert_eq!(complaints.due(6_000, Mistake::Codec), Some(2));
    }
}
