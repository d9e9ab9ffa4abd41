//! Records that stay on disk because a broker has refused them: which, and when they are tried again (SPEC D4).

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::wire::method::MethodId;

/// How long until what was refused is tried again: at first, and at most.
const RETRY_MS: (u64, u64) = (2_000, 60_000);
/// What one turn may have refused: each refusal costs a channel.
const REFUSALS_A_TURN: u32 = 64;
/// Places remembered as refused.
const PLACES_MAX: usize = 10_000;

/// Numbers, as runs: what is refused for one reason lies side by side.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// The first of each run, and its last.
    runs: BTreeMap<u64, u64>,
    count: u64,
}

impl Aside {
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.runs.range(..=number).next_back().is_some_and(|(_, end)| number <= *end)
    }

    pub(super) fn insert(&mut self, number: u64) {
        if self.has(number) {
            return;
        }
        self.count += 1;
        let (mut from, mut to) = (number, number);
        if let Some((before, end)) = self.runs.range(..number).next_back().map(|(a, b)| (*a, *b)) {
            if end + 1 == number {
                self.runs.remove(&before);
                from = before;
            }
        }
        if let Some(end) = number.checked_add(1).and_then(|next| self.runs.remove(&next)) {
            to = end;
        }
        self.runs.insert(from, to);
    }

    /// Takes a number out; whether it was there.
    pub(super) fn take(&mut self, number: u64) -> bool {
        let Some((from, to)) = self.runs.range(..=number).next_back().map(|(a, b)| (*a, *b)) else {
            return false;
        };
        if number > to {
            return false;
        }
        self.count -= 1;
        self.runs.remove(&from);
        if from < number {
            self.runs.insert(from, number - 1);
        }
        if number < to {
            self.runs.insert(number + 1, to);
        }
        true
    }

    /// The first number behind this one.
    pub(super) fn first_behind(&self, number: u64) -> Option<u64> {
        let next = number.checked_add(1)?;
        if self.has(next) {
            return Some(next);
        }
        self.runs.range(next..).next().map(|(from, _)| *from)
    }
}

/// When, and how far, what was refused is tried again.
///
/// ```text
/// refused ─▶ 2 s ─▶ a turn: in order, until the last, or 64 refusals ─┬ some were taken ─▶ 2 s
///                                                                     └ none ─▶ twice as long, up to a minute
/// ```
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The next begins at this time; 0: none is due.
    pub(super) at_ms: u64,
    wait_ms: u64,
    /// One is under way.
    pub(super) under_way: bool,
    /// How many were aside when it began, and how many it has had refused.
    began_with: u64,
    refusals: u32,
    /// Places that have refused something in it, and why: what else goes there is not sent.
    places: FxHashMap<Box<[u8]>, Rc<str>>,
}

/// A broker's refusal.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    /// What it speaks of: nothing else that goes there is sent in the same turn.
    pub(super) place: Option<Vec<u8>>,
    /// Its words.
    pub(super) why: Rc<str>,
}

impl Turns {
    /// Something has been put aside.
    pub(super) fn refused(&mut self, now_ms: u64, refused: Refused) {
        self.refusals = self.refusals.saturating_add(1);
        if let Some(place) = refused.place.filter(|_| self.places.len() < PLACES_MAX) {
            self.places.insert(place.into(), refused.why);
        }
        self.schedule(now_ms);
    }

    /// There is something to be tried again.
    pub(super) fn schedule(&mut self, now_ms: u64) {
        if self.at_ms == 0 {
            self.wait_ms = RETRY_MS.0;
            self.at_ms = now_ms + RETRY_MS.0;
        }
    }

    /// Why a publish to there need not be sent: it would be refused.
    pub(super) fn forbids(&self, exchange: &[u8], key: &[u8]) -> Option<Rc<str>> {
        if self.places.is_empty() {
            return None;
        }
        let topic = || self.places.get(place(exchange, Some(key)).as_slice());
        self.places.get(exchange).or_else(topic).map(Rc::clone)
    }

    /// Whether a turn has had enough.
    pub(super) fn is_spent(&self) -> bool {
        self.under_way && self.refusals >= REFUSALS_A_TURN
    }

    pub(super) fn begin(&mut self, count: u64) {
        self.under_way = true;
        self.began_with = count;
        self.refusals = 0;
        self.places.clear();
    }

    /// The turn is over, with so many aside.
    pub(super) fn end(&mut self, now_ms: u64, count: u64) {
        self.under_way = false;
        self.wait_ms = if count < self.began_with {
            RETRY_MS.0
        } else {
            self.wait_ms.saturating_mul(2).clamp(RETRY_MS.0, RETRY_MS.1)
        };
        self.at_ms = if count == 0 { 0 } else { now_ms + self.wait_ms };
        if count == 0 {
            self.places.clear();
        }
    }
}

impl Refused {
    /// In the words of a close, of nothing in particular.
    pub(super) fn of((code, text, _): &(u16, String, MethodId)) -> Self {
        Self { place: None, why: format!("{code} {text}").into() }
    }

    /// By a nack, which says neither what of nor why.
    pub(super) fn nacked() -> Self {
        Self { place: None, why: "basic.nack".into() }
    }
}

/// What a broker's refusal speaks of: an exchange, or one of its topics.
pub(super) fn place(exchange: &[u8], topic: Option<&[u8]>) -> Vec<u8> {
    topic.map_or_else(|| exchange.to_vec(), |key| [exchange, b"\0", key].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(place: Option<Vec<u8>>) -> Refused {
        Refused { place, why: "403 ACCESS_REFUSED".into() }
    }

    #[test]
    fn numbers_side_by_side_are_one_run_and_leave_it_one_by_one() {
        let mut aside = Aside::default();
        [5, 3, 4, 9, 4].into_iter().for_each(|n| aside.insert(n));
        assert_eq!((aside.len(), aside.runs.len()), (4, 2));
        assert_eq!([2, 3, 5, 6, 9].map(|n| aside.has(n)), [false, true, true, false, true]);
        assert_eq!([0, 3, 5, 9].map(|n| aside.first_behind(n)), [Some(3), Some(4), Some(9), None]);
        assert!(aside.take(4) && !aside.take(4));
        assert_eq!([0, 3, 5].map(|n| aside.first_behind(n)), [Some(3), Some(5), Some(9)]);
        assert!(aside.take(3) && aside.take(5) && aside.take(9));
        assert_eq!((aside.len(), aside.runs.len()), (0, 0));
    }

    #[test]
    fn turns_are_further_and_further_apart_until_something_is_taken() {
        let mut turns = Turns::default();
        turns.refused(1_000, refused(None));
        let mut waits = Vec::new();
        for _ in 0..7 {
            let began = turns.at_ms;
            turns.begin(10);
            turns.refused(began, refused(None));
            turns.end(began, 10);
            waits.push(turns.at_ms - began);
        }
        assert_eq!(waits, [4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        turns.begin(10);
        turns.end(0, 9);
        assert_eq!(turns.at_ms, 2_000);
        turns.begin(9);
        turns.end(5_000, 0);
        assert_eq!(turns.at_ms, 0, "nothing is aside");
    }

    #[test]
    fn a_place_that_has_refused_is_not_asked_again_in_the_same_turn_and_a_topic_is_not_its_exchange() {
        let mut turns = Turns::default();
        turns.begin(3);
        turns.refused(0, refused(Some(place(b"x", None))));
        turns.refused(0, refused(Some(place(b"t", Some(b"a.b")))));
        assert_eq!(turns.forbids(b"x", b"k").as_deref(), Some("403 ACCESS_REFUSED"));
        assert!(turns.forbids(b"t", b"a.b").is_some());
        assert!(turns.forbids(b"t", b"a.c").is_none() && turns.forbids(b"", b"x").is_none());
        assert!(!turns.is_spent());
        (0..REFUSALS_A_TURN).for_each(|_| turns.refused(0, refused(None)));
        assert!(turns.is_spent());
        turns.end(0, 3);
        turns.begin(3);
        assert!(turns.forbids(b"x", b"k").is_none() && !turns.is_spent());
    }
}
