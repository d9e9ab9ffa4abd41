//! The way through Umbel: from a publish's last byte in to its first byte out, measured by runs.
//!
//! Publishes that one read brought leave with one write, so a run costs two readings of the clock, whatever it holds. The oldest of a
//! run speaks for all of it: what is shown is never less than what was.

use std::cell::Cell;
use std::time::Duration;

/// What has come in and has not gone out yet.
#[derive(Debug, Default)]
pub struct Way {
    since_us: Cell<u64>,
    publishes: Cell<u64>,
}

impl Way {
    /// So many publishes have come in, and are to go out.
    pub fn came_in(&self, publishes: u64, now_us: u64) {
        if publishes == 0 {
            return;
        }
        if self.publishes.get() == 0 {
            self.since_us.set(now_us);
        }
        self.publishes.set(self.publishes.get().saturating_add(publishes));
    }

    /// Whether anything is on its way: the clock need not be read otherwise.
    pub fn is_empty(&self) -> bool {
        self.publishes.get() == 0
    }

    /// Something has been written to an upstream: how long the run has taken, and how many there were.
    pub fn went_out(&self, now_us: u64) -> (Duration, u64) {
        (Duration::from_micros(now_us.saturating_sub(self.since_us.get())), self.publishes.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_a_run_speaks_for_all_of_it() {
        let way = Way::default();
        way.came_in(0, 5);
        assert!(way.is_empty());
        way.came_in(3, 10);
        way.came_in(2, 25);
        assert_eq!(way.went_out(40), (Duration::from_micros(30), 5));
        assert!(way.is_empty());
    }
}
