//! A client channel in confirm mode: which of its sequence numbers are settled, and which answers are due (SPEC D2).
//!
//! Numbers are settled in any order by several lanes; each is answered exactly once. A run of acks at the front is answered with one
//! `multiple`, anything else on its own.

use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Pending,
    Acked,
    Nacked,
    Answered,
}

/// One answer to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The client's own sequence number.
    pub tag: u64,
    /// All up to `tag` that are not answered yet.
    pub multiple: bool,
    /// ack or nack.
    pub ack: bool,
}

/// The sequence numbers that a client has not been answered.
#[derive(Debug, Default)]
pub struct ConfirmWindow {
    /// The number of the first mark.
    first: u64,
    marks: VecDeque<Mark>,
    /// How many marks at the front are acked, one after the other: the usual case needs no list.
    run: usize,
    /// Settled out of order since the last `answers`.
    strays: Vec<u64>,
}

impl ConfirmWindow {
    /// From the moment of confirm.select; the first publish is number 1.
    #[must_use]
    pub fn new() -> Self {
        Self { first: 1, ..Self::default() }
    }

    /// The number of the next publish.
    pub fn next(&mut self) -> u64 {
        self.marks.push_back(Mark::Pending);
        self.last()
    }

    /// The first of the numbers of the next so many publishes.
    pub fn next_run(&mut self, count: usize) -> u64 {
        let first = self.first + crate::wire::num::u64_of(self.marks.len());
        self.marks.resize(self.marks.len() + count, Mark::Pending);
        first
    }

    /// The lowest number that may still wait for an answer.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The highest number that was given out; before the first, 0.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + crate::wire::num::u64_of(self.marks.len()) - 1
    }

    /// Whether publish number `seq` is not settled yet.
    #[must_use]
    pub fn awaits(&self, seq: u64) -> bool {
        let offset = seq.checked_sub(self.first).map(crate::wire::num::usize_clamped);
        offset.and_then(|offset| self.marks.get(offset)) == Some(&Mark::Pending)
    }

    /// The last number given out was only looked at.
    pub fn take_back(&mut self) {
        self.marks.pop_back();
    }

    /// Lets the memory of a burst go; called when the channel has been quiet.
    pub fn shrink(&mut self) {
        self.marks.shrink_to_fit();
        self.strays.shrink_to_fit();
    }

    /// Publish number `seq` is settled; a second settling of it is ignored.
    pub fn settle(&mut self, seq: u64, ack: bool) {
        let Some(offset) = seq.checked_sub(self.first) else { return };
        let offset = crate::wire::num::usize_clamped(offset);
        let Some(mark) = self.marks.get_mut(offset) else { return };
        if *mark == Mark::Pending {
            *mark = if ack { Mark::Acked } else { Mark::Nacked };
            if ack && offset == self.run {
                self.run += 1;
            } else {
                self.strays.push(seq);
            }
        }
    }

    /// So many publishes from number `seq` on are acked.
    pub fn ack_run(&mut self, seq: u64, count: usize) {
        let mut done = 0;
        if seq.checked_sub(self.first).map(crate::wire::num::usize_clamped) == Some(self.run) {
            for mark in self.marks.iter_mut().skip(self.run).take(count) {
                if *mark != Mark::Pending {
                    break;
                }
                *mark = Mark::Acked;
                done += 1;
            }
            self.run += done;
        }
        (seq..).take(count).skip(done).for_each(|seq| self.settle(seq, true));
    }

    /// What is due now.
    pub fn answers(&mut self, mut answer: impl FnMut(Answer)) {
        // A nack in front is answered alone; it ends a run of acks before it.
        let mut run = std::mem::take(&mut self.run);
        self.marks.drain(..run);
        self.first += crate::wire::num::u64_of(run);
        let mut last = self.first.saturating_sub(1);
        while let Some(&mark) = self.marks.front() {
            match mark {
                Mark::Pending => break,
                Mark::Acked => {
                    run += 1;
                    last = self.first;
                }
                Mark::Nacked => {
                    if run > 0 {
                        answer(Answer { tag: last, multiple: run > 1, ack: true });
                        run = 0;
                    }
                    answer(Answer { tag: self.first, multiple: false, ack: false });
                }
                Mark::Answered => {}
            }
            self.marks.pop_front();
            self.first += 1;
        }
        if run > 0 {
            answer(Answer { tag: last, multiple: run > 1, ack: true });
        }
        for seq in std::mem::take(&mut self.strays) {
            let Some(offset) = seq.checked_sub(self.first) else { continue };
            let Some(mark) = self.marks.get_mut(crate::wire::num::usize_clamped(offset)) else { continue };
            let ack = match *mark {
                Mark::Acked => true,
                Mark::Nacked => false,
                Mark::Pending | Mark::Answered => continue,
            };
            *mark = Mark::Answered;
            answer(Answer { tag: seq, multiple: false, ack });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(w: &mut ConfirmWindow) -> Vec<(u64, bool, bool)> {
        let mut all = Vec::new();
        w.answers(|a| all.push((a.tag, a.multiple, a.ack)));
        all
    }

    #[test]
    fn a_number_is_awaited_from_when_it_is_given_out_until_it_is_settled_answered_or_not() {
        let mut w = ConfirmWindow::new();
        assert!(!w.awaits(1));
        (0..3).for_each(|_| _ = w.next());
        w.settle(1, true);
        w.settle(3, false);
        assert_eq!([0, 1, 2, 3, 4].map(|seq| w.awaits(seq)), [false, false, true, false, false]);
        answers(&mut w);
        assert_eq!([0, 1, 2, 3, 4].map(|seq| w.awaits(seq)), [false, false, true, false, false]);
    }

    #[test]
    fn a_run_that_is_acked_at_once_is_answered_as_one_acked_by_one() {
        for (before, from, count) in [(0, 1, 5), (2, 3, 3), (0, 3, 2), (2, 1, 5), (1, 2, 9)] {
            let (mut one, mut run) = (ConfirmWindow::new(), ConfirmWindow::new());
            for w in [&mut one, &mut run] {
                (0..6).for_each(|_| _ = w.next());
                w.settle(5, false);
                (1..=before).for_each(|seq| w.settle(seq, true));
            }
            (from..from + count).for_each(|seq| one.settle(seq, true));
            run.ack_run(from, crate::wire::num::usize_clamped(count));
            assert_eq!(answers(&mut one), answers(&mut run), "{before} before, {count} from {from} on");
            assert_eq!(one.first(), run.first());
        }
    }

    #[test]
    fn a_run_of_acks_is_one_multiple_and_a_single_one_is_not() {
        let mut w = ConfirmWindow::new();
        assert_eq!((w.next(), w.next(), w.next()), (1, 2, 3));
        w.settle(1, true);
        assert_eq!(answers(&mut w), [(1, false, true)]);
        w.settle(3, true);
        w.settle(2, true);
        assert_eq!(answers(&mut w), [(3, true, true)]);
        assert!(w.marks.is_empty());
    }

    #[test]
    fn out_of_order_settlings_are_answered_at_once_alone_and_never_again() {
        let mut w = ConfirmWindow::new();
        for _ in 0..4 {
            w.next();
        }
        w.settle(3, true);
        w.settle(2, false);
        assert_eq!(answers(&mut w), [(3, false, true), (2, false, false)]);
        w.settle(3, true);
        w.settle(1, true);
        assert_eq!(answers(&mut w), [(1, false, true)]);
        w.settle(4, true);
        assert_eq!(answers(&mut w), [(4, false, true)]);
    }

    #[test]
    fn a_nack_between_acks_splits_the_run_so_that_no_multiple_covers_it() {
        let mut w = ConfirmWindow::new();
        for _ in 0..5 {
            w.next();
        }
        for (seq, ack) in [(1, true), (2, true), (3, false), (4, true), (5, true)] {
            w.settle(seq, ack);
        }
        assert_eq!(answers(&mut w), [(2, true, true), (3, false, false), (5, true, true)]);
    }

    #[test]
    fn each_number_is_answered_exactly_once_in_any_order_of_settling() {
        let mut state = 12345_u64;
        for _ in 0..200 {
            let mut w = ConfirmWindow::new();
            let n = 30;
            let mut order: Vec<u64> = (0..n).map(|_| w.next()).collect();
            for i in (1..order.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                order.swap(i, usize::try_from(state >> 33).unwrap() % (i + 1));
            }
            let (mut answered, mut truth) =
                (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
            for (i, seq) in order.iter().enumerate() {
                let ack = seq % 7 != 0;
                truth.insert(*seq, ack);
                w.settle(*seq, ack);
                if i % 3 == 0 || i + 1 == order.len() {
                    w.answers(|a| {
                        let from = if a.multiple { 1 } else { a.tag };
                        for t in from..=a.tag {
                            if a.multiple && answered.contains_key(&t) {
                                continue;
                            }
                            assert_eq!(answered.insert(t, a.ack), None, "{t} answered twice");
                        }
                    });
                }
            }
            assert_eq!(answered, truth);
        }
    }
}
