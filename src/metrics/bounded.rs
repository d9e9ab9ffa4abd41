//! Label values that come from traffic, bounded: the first N distinct ones keep their names, the rest are `__other__` (M2).
//!
//! Lock-free and append-only: an open-addressed table of cells, each written once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::wire::num::usize_clamped;

/// What every value beyond the bound is called.
pub const OTHER: &str = "__other__";
/// A longer value is `__other__` whatever the bound: a task's name may be 255 octets and more.
pub const LABEL_BYTES_MAX: usize = 200;
/// Cells looked at before a value counts as beyond the bound, so that chosen collisions cost a bounded search.
const PROBES_MAX: usize = 64;

/// The set of values admitted so far.
#[derive(Debug)]
pub struct BoundedLabels {
    cells: Box<[OnceLock<Box<str>>]>,
    max: usize,
    bytes_max: usize,
    taken: AtomicUsize,
}

impl BoundedLabels {
    /// Admits up to `max` distinct values of at most [`LABEL_BYTES_MAX`] octets.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self::with_bytes_max(max, LABEL_BYTES_MAX)
    }

    /// Admits up to `max` distinct values of at most `bytes_max` octets.
    #[must_use]
    pub fn with_bytes_max(max: usize, bytes_max: usize) -> Self {
        let cells = max.saturating_mul(2).next_power_of_two();
        Self {
            cells: (0..cells).map(|_| OnceLock::new()).collect(),
            max,
            bytes_max,
            taken: AtomicUsize::new(0),
        }
    }

    /// The value itself where it is among the first N, else [`OTHER`].
    pub fn admit(&self, value: &str) -> &str {
        if value.len() > self.bytes_max {
            return OTHER;
        }
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let start = usize_clamped(hasher.finish() >> 1);
        for step in 0..PROBES_MAX {
            let at = start.wrapping_add(step) & (self.cells.len() - 1);
            let Some(cell) = self.cells.get(at) else { return OTHER };
            if cell.get().is_none() && !self.claim(cell, value) {
                return OTHER;
            }
            match cell.get() {
                Some(held) if **held == *value => return held,
                _ => {}
            }
        }
        OTHER
    }

    /// Distinct values admitted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether none was admitted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the value into the empty cell unless the bound is reached. Whoever loses the race for the cell gives its place back.
    fn claim(&self, cell: &OnceLock<Box<str>>, value: &str) -> bool {
        let room = |taken: usize| (taken < self.max).then_some(taken + 1);
        if self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return false;
        }
        if cell.set(value.into()).is_err() {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_n_keep_their_names_and_the_rest_are_other() {
        let labels = BoundedLabels::new(3);
        assert!(labels.is_empty());
        for name in ["a", "b", "c", "a"] {
            assert_eq!(labels.admit(name), name);
        }
        assert_eq!(labels.admit("d"), OTHER);
        assert_eq!(labels.admit("b"), "b");
        assert_eq!(labels.len(), 3);
    }

    #[test]
    fn a_bound_of_zero_admits_nothing_and_a_long_value_is_other() {
        assert_eq!(BoundedLabels::new(0).admit("a"), OTHER);
        assert_eq!(BoundedLabels::new(9).admit(&"x".repeat(LABEL_BYTES_MAX + 1)), OTHER);
    }

    #[test]
    fn threads_that_race_for_places_never_exceed_the_bound() {
        let labels = BoundedLabels::new(50);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|n| drop(labels.admit(&format!("task.{n}")).to_owned())));
            }
        });
        assert_eq!(labels.len(), 50);
        let kept = (0..200).filter(|n| labels.admit(&format!("task.{n}")) != OTHER).count();
        assert_eq!(kept, 50);
    }
}
