//! Clients' numbers that wait for the disk, in runs: what one channel publishes in a row is appended in a row, and is one entry here.

use std::collections::VecDeque;

use super::SessionId;
use crate::wire::num::{u64_of, usize_clamped};

/// Whose numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) sid: SessionId,
    /// The session's number may be another client's by the time the disk answers.
    pub(super) serial: u64,
    pub(super) channel: u16,
}

/// Records `number`, `number + 1` … are for the client's `seq`, `seq + 1` …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    number: u64,
    pub(super) count: usize,
    pub(super) whose: Whose,
    pub(super) seq: u64,
}

impl Run {
    fn end(&self) -> u64 {
        self.number + u64_of(self.count)
    }

    /// Its first so many, and the rest.
    fn split(self, count: usize) -> (Self, Self) {
        let more = u64_of(count);
        let rest =
            Self { number: self.number + more, seq: self.seq + more, count: self.count - count, ..self };
        (Self { count, ..self }, rest)
    }
}

/// See the module. Records' numbers ascend.
#[derive(Debug, Default)]
pub(super) struct AwaitedRuns(VecDeque<Run>);

impl AwaitedRuns {
    /// How many numbers wait.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|run| run.count).sum()
    }

    pub(super) fn push(&mut self, number: u64, whose: Whose, seq: u64) {
        if let Some(last) = self.0.back_mut()
            && (last.end(), last.whose, last.seq + u64_of(last.count)) == (number, whose, seq)
        {
            last.count += 1;
            return;
        }
        self.0.push_back(Run { number, count: 1, whose, seq });
    }

    /// What waits for records up to this one: the first run of it.
    pub(super) fn pop_upto(&mut self, upto: u64) -> Option<Run> {
        let first = *self.0.front().filter(|run| run.number <= upto)?;
        self.0.pop_front();
        let count = usize_clamped(upto - first.number).saturating_add(1);
        if count >= first.count {
            return Some(first);
        }
        let (first, rest) = first.split(count);
        self.0.push_front(rest);
        Some(first)
    }

    /// Who waits for this record, and waits for it no longer.
    pub(super) fn take(&mut self, number: u64) -> Option<(Whose, u64)> {
        let index = self.0.partition_point(|run| run.end() <= number);
        let run = *self.0.get(index).filter(|run| run.number <= number)?;
        self.0.remove(index);
        let (before, rest) = run.split(usize_clamped(number - run.number));
        let (one, after) = rest.split(1);
        for (offset, part) in [before, after].into_iter().filter(|part| part.count > 0).enumerate() {
            self.0.insert(index + offset, part);
        }
        Some((one.whose, one.seq))
    }

    /// A client's channel is gone.
    pub(super) fn forget(&mut self, sid: SessionId, channel: u16) {
        self.0.retain(|run| (run.whose.sid, run.whose.channel) != (sid, channel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Whose = Whose { sid: SessionId(1), serial: 1, channel: 1 };
    const B: Whose = Whose { channel: 2, ..A };

    /// Records 1 to 5 of one channel, 6 and 8 of another, whose 7 nobody waits for.
    fn runs() -> AwaitedRuns {
        let mut runs = AwaitedRuns::default();
        (1..=5).for_each(|n| runs.push(n, A, n + 10));
        runs.push(6, B, 1);
        runs.push(8, B, 2);
        runs
    }

    fn all(mut runs: AwaitedRuns) -> Vec<(u16, u64)> {
        let mut all = Vec::new();
        while let Some(run) = runs.pop_upto(u64::MAX) {
            (run.seq..).take(run.count).for_each(|seq| all.push((run.whose.channel, seq)));
        }
        all
    }

    #[test]
    fn what_one_channel_appends_in_a_row_is_one_run_and_gaps_and_other_channels_end_it() {
        let runs = runs();
        assert_eq!((runs.0.len(), runs.len()), (3, 7));
        assert_eq!(all(runs), [(1, 11), (1, 12), (1, 13), (1, 14), (1, 15), (2, 1), (2, 2)]);
    }

    #[test]
    fn the_disk_may_get_as_far_as_the_middle_of_a_run() {
        let mut runs = runs();
        let first = runs.pop_upto(2).unwrap();
        assert_eq!((first.seq, first.count), (11, 2));
        assert_eq!(runs.pop_upto(2), None);
        assert_eq!((runs.len(), all(runs)[0]), (5, (1, 13)));
    }

    #[test]
    fn one_record_is_taken_out_of_a_run_and_the_others_still_wait() {
        for (number, left) in [(1, [12, 13, 14, 15]), (3, [11, 12, 14, 15]), (5, [11, 12, 13, 14])] {
            let mut runs = runs();
            assert_eq!(runs.take(number), Some((A, number + 10)));
            assert_eq!(runs.take(number), None);
            let seqs: Vec<u64> = all(runs).into_iter().filter(|(c, _)| *c == 1).map(|(_, seq)| seq).collect();
            assert_eq!(seqs, left);
        }
        assert_eq!(runs().take(7), None);
        assert_eq!(runs().take(9), None);
    }

    #[test]
    fn a_channel_that_is_gone_waits_for_nothing() {
        let mut runs = runs();
        runs.forget(SessionId(1), 1);
        assert_eq!(all(runs), [(2, 1), (2, 2)]);
    }
}
