//! A run: publishes that went out side by side, as they came, and stand on their lane as one item (SPEC F1).
//!
//! ```text
//! stream:  … │publish│publish│publish│publish│ …      one piece of it, kept once, confirmed from its front on
//! lane:      └── tag 7, number 3, count 4 ──┘         the fourth has tag 10 and number 6
//! ```
//! Nothing is known of one of them that is not known of all: whatever happens to one alone (a nack, a return, a confirm out of turn, the
//! loss of its link) parts them first, and each is an item of its own from then on.

use super::lane::{Item, Kind, Lane, Store, Wait};
use super::stream::Spot;
use crate::wire::frame::{FRAME_OVERHEAD, FrameKind};
use crate::wire::num::{u32_clamped, u64_of, usize_of};

impl Item {
    /// The last delivery tag of those that it is.
    pub(super) fn last_tag(&self) -> u64 {
        self.tag + u64::from(self.count.saturating_sub(1))
    }

    /// Its first so many as an item of their own: those behind them are what it is from now on. `frames`: what the stream keeps of it.
    pub(super) fn take_front(&mut self, count: u32, frames: &[u8]) -> Self {
        let count = count.min(self.count);
        let len = lens(frames).take(usize_of(count)).sum();
        let (front, rest) = match self.store {
            Store::Stream(spot) => spot.split(len),
            // What waits is never a run.
            Store::Own(_) => (Spot::default(), Spot::default()),
        };
        let taken = Self {
            store: Store::Stream(front),
            kind: self.kind,
            settled: false,
            strikes: self.strikes,
            tag: self.tag,
            seq: self.seq,
            record: None,
            len: front.len(),
            count,
            at_ms: self.at_ms,
            wait: None::<Wait>,
        };
        self.store = Store::Stream(rest);
        self.len = rest.len();
        self.count -= count;
        self.tag += u64::from(count);
        self.seq += if self.seq == 0 { 0 } else { u64::from(count) };
        taken
    }
}

impl Lane {
    /// How many publishes and methods are on it.
    pub(super) fn len(&self) -> usize {
        self.items.len() + self.in_runs
    }

    /// A publish, or a run of them, that was just sent.
    pub(super) fn push_sent(&mut self, run: Item) {
        self.in_runs += usize_of(run.count.saturating_sub(1));
        self.sent += 1;
        self.items.push_back(run);
    }

    /// Parts all runs. What is before the first of them is not looked at: nothing is moved twice.
    pub(super) fn part<'b>(&mut self, bytes_at: impl Fn(Spot) -> &'b [u8]) {
        let (mut first, mut left) = (self.items.len(), self.in_runs);
        for (index, item) in self.items.iter().enumerate().rev() {
            if left == 0 {
                break;
            }
            first = index;
            left = left.saturating_sub(usize_of(item.count.saturating_sub(1)));
        }
        let behind = self.items.split_off(first);
        self.items.reserve(behind.len() + self.in_runs);
        for mut item in behind {
            if let (Store::Stream(spot), 2..) = (&item.store, item.count) {
                let mut frames = bytes_at(*spot);
                while item.count > 1 {
                    let one = item.take_front(1, frames);
                    frames = frames.get(usize_of(one.len)..).unwrap_or(&[]);
                    self.items.push_back(one);
                    self.sent += 1;
                }
            }
            self.items.push_back(item);
        }
        self.in_runs = 0;
    }

    /// Where the first publish on it is, while it is in the stream: of a run, its first.
    pub(super) fn first_spot<'b>(&self, bytes_at: impl Fn(Spot) -> &'b [u8]) -> Option<Spot> {
        let item = self.items.front()?;
        match item.store {
            Store::Stream(spot) if item.count > 1 => Some(spot.split(lens(bytes_at(spot)).next()?).0),
            Store::Stream(spot) => Some(spot),
            Store::Own(_) => None,
        }
    }

    /// Whether what its runs say of themselves is what their octets say, for the audit.
    pub(super) fn runs_add_up<'b>(&self, bytes_at: impl Fn(Spot) -> &'b [u8]) -> bool {
        let runs = || self.items.iter().filter(|i| i.count != 1);
        let adds_up = |i: &Item| match i.store {
            Store::Stream(spot) => {
                let (count, len) = lens(bytes_at(spot)).fold((0, 0), |(n, sum), len| (n + 1, sum + len));
                let bare = i.record.is_none() && i.wait.is_none() && !i.settled;
                bare && matches!(i.kind, Kind::Publish(_)) && (count, len) == (i.count, i.len)
            }
            Store::Own(_) => false,
        };
        let more = runs().map(|i| u64::from(i.count.saturating_sub(1))).sum::<u64>();
        runs().all(adds_up) && more == u64_of(self.in_runs)
    }
}

/// The length of each publish in frames that hold nothing else.
fn lens(mut frames: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let mut len = 0;
        while let Some(&[kind, _, _, s3, s2, s1, s0]) = frames.get(len..)?.first_chunk() {
            if len > 0 && kind == FrameKind::Method.octet() {
                break;
            }
            len += usize_of(u32::from_be_bytes([s3, s2, s1, s0])) + FRAME_OVERHEAD;
        }
        frames = frames.get(len..)?;
        (len > 0).then_some(u32_clamped(len))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::lane::PublishFlags;
    use crate::session::stream::{OutStream, Spares};
    use crate::session::{PoolId, SessionId, UpstreamId};
    use crate::wire::frame::{ChannelId, write_frame};

    /// Publishes with bodies of these lengths; an empty one has no frame.
    fn frames(bodies: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        for &len in bodies {
            write_frame(&mut out, FrameKind::Method, ChannelId(1), b"method");
            write_frame(&mut out, FrameKind::Header, ChannelId(1), b"header");
            if len > 0 {
                write_frame(&mut out, FrameKind::Body, ChannelId(1), &vec![1; len]);
            }
        }
        out
    }

    /// A lane with a single publish and a run behind it; numbered or not.
    fn lane(out: &mut OutStream, bodies: &[usize], seq: u64) -> Lane {
        let mut spares = Spares::default();
        let mut lane = Lane::new(SessionId(0), 1, UpstreamId(0), PoolId(0), 0);
        let mut tag = 1;
        for bodies in [&[3][..], bodies] {
            let bytes = frames(bodies);
            let count = u32_clamped(bodies.len());
            let spot = out.keep_run(&mut spares, bytes.len(), count, |o| o.extend_from_slice(&bytes));
            lane.push_sent(Item {
                store: Store::Stream(spot),
                kind: Kind::Publish(PublishFlags::default()),
                settled: false,
                strikes: 0,
                tag,
                seq: if seq == 0 { 0 } else { seq + tag - 1 },
                record: None,
                len: spot.len(),
                count,
                at_ms: 5,
                wait: None,
            });
            tag += u64::from(count);
        }
        lane
    }

    /// Tag, number, count and octets of each.
    fn seen(lane: &Lane, out: &OutStream) -> Vec<(u64, u64, u32, Vec<u8>)> {
        let of = |i: &Item| match i.store {
            Store::Stream(spot) => (i.tag, i.seq, i.count, out.bytes_at(spot).to_vec()),
            Store::Own(_) => (i.tag, i.seq, i.count, Vec::new()),
        };
        lane.items.iter().map(of).collect()
    }

    #[test]
    fn a_run_that_is_parted_is_what_its_publishes_would_have_been_one_by_one() {
        for seq in [0, 9] {
            let mut out = OutStream::default();
            let bodies = [4, 0, 200, 4];
            let mut lane = lane(&mut out, &bodies, seq);
            assert_eq!((lane.len(), lane.items.len(), lane.sent), (5, 2, 2));
            assert!(lane.runs_add_up(|spot| out.bytes_at(spot)));
            lane.part(|spot| out.bytes_at(spot));
            let want: Vec<_> = (0_u64..)
                .zip([3].iter().chain(&bodies))
                .map(|(n, &len)| (n + 1, if seq == 0 { 0 } else { seq + n }, 1, frames(&[len])))
                .collect();
            assert_eq!(seen(&lane, &out), want);
            assert_eq!((lane.len(), lane.items.len(), lane.sent), (5, 5, 5));
            assert!(lane.runs_add_up(|spot| out.bytes_at(spot)));
        }
    }

    #[test]
    fn what_is_taken_off_the_front_and_what_is_left_are_the_run() {
        let mut out = OutStream::default();
        let mut lane = lane(&mut out, &[4, 0, 200], 9);
        let run = lane.items.back_mut().unwrap();
        let Store::Stream(spot) = run.store else { panic!("a run waits") };
        assert_eq!(run.last_tag(), 4);
        let front = run.take_front(2, out.bytes_at(spot));
        let (tag, seq, count, len) = (front.tag, front.seq, front.count, front.len);
        assert_eq!((tag, seq, count, len), (2, 10, 2, u32_clamped(frames(&[4, 0]).len())));
        assert_eq!(seen(&lane, &out).pop(), Some((4, 12, 1, frames(&[200]))));
    }

    #[test]
    fn a_tag_within_a_run_is_found_there() {
        let mut out = OutStream::default();
        let lane = lane(&mut out, &[4, 0, 200], 0);
        assert_eq!([0, 1, 2, 4, 5].map(|tag| lane.tagged(tag)), [None, Some(0), Some(1), Some(1), None]);
    }

    #[test]
    fn the_first_of_a_run_is_owed_once_all_of_it_is_written() {
        let mut out = OutStream::default();
        let mut lane = lane(&mut out, &[4, 4], 0);
        lane.items.pop_front();
        let (one, mut spares) = (frames(&[3]).len() + frames(&[4]).len(), Spares::default());
        let first = lane.first_spot(|spot| out.bytes_at(spot)).unwrap();
        out.written(&mut spares, one - 1);
        assert!(!out.is_written(first));
        out.written(&mut spares, 1);
        assert!(out.is_written(first));
    }
}
