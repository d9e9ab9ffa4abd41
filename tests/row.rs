//! Publishes that arrive together are handled in rows; whatever is in them, the upstream and the client must see the same octets as if
//! every frame had come by itself (SPEC T1, D2, D8).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions
)]

use proptest::prelude::*;
use umbel::wire::frame::{FrameKind, parse_frame};
use umbel::wire::method::{self, MethodId};

#[path = "sim/easy.rs"]
mod easy;
#[path = "row/judge.rs"]
mod judge;
#[path = "sim/kit.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod kit;
#[path = "row/message.rs"]
mod message;
#[path = "row/pair.rs"]
mod pair;

use message::{message, publish};
use pair::{Kept, Pair};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn publishes_in_a_row_leave_and_are_answered_as_they_would_be_one_frame_at_a_time(
        messages in prop::collection::vec(message(), 1..40),
        confirms in any::<bool>(),
        channel in prop::sample::select(vec![1_u16, 5]),
        window in prop::sample::select(vec![(4_u64, 64 << 20), (100_000, 20_000), (100_000, 64 << 20), (100_000, 64 << 20)]),
        kept in prop::sample::select(vec![Kept::InMemory, Kept::WhereAsked, Kept::OnDisk, Kept::OnDiskFirst]),
        damage in prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>())),
        answered in prop::collection::vec((1_u64..101, prop::bool::weighted(0.3), prop::bool::weighted(0.9)), 0..8),
    ) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|m| publish(&mut bytes, channel, m));
        if let Some((place, octet)) = damage {
            let place = place.index(bytes.len());
            bytes[place] = octet;
        }
        let mut together = Pair::logged_in(channel, confirms, window, kept);
        together.send(&bytes);
        let mut apart = Pair::logged_in(channel, confirms, window, kept);
        let mut rest = bytes.as_slice();
        while let Ok(Some(frame)) = parse_frame(rest, 0) {
            let (one, tail) = rest.split_at(frame.wire_len());
            apart.send(one);
            rest = tail;
        }
        apart.send(rest);
        for (part, multiple, ack) in answered {
            together.answer(part, multiple, ack);
            apart.answer(part, multiple, ack);
        }
        let (upstream, client, counted, disk) = together.end();
        let (upstream_apart, client_apart, counted_apart, disk_apart) = apart.end();
        prop_assert_eq!(counted, counted_apart);
        prop_assert!(upstream == upstream_apart, "{} and {} octets upstream", upstream.len(), upstream_apart.len());
        prop_assert_eq!(answers(&client), answers(&client_apart));
        prop_assert_eq!(disk, disk_apart);
    }
}

/// What a client is told: each number's answer, and everything else. Runs of acks may be cut in different places.
fn answers(bytes: &[u8]) -> (Vec<(u64, bool)>, Vec<Vec<u8>>) {
    let (mut numbers, mut others, mut rest) = (Vec::new(), Vec::new(), bytes);
    let mut next = 1;
    while let Some(frame) = parse_frame(rest, 0).unwrap() {
        rest = &rest[frame.wire_len()..];
        match method::split(frame.payload) {
            Ok((id @ (MethodId::BASIC_ACK | MethodId::BASIC_NACK), args))
                if frame.kind == FrameKind::Method =>
            {
                let (tag, multiple) = method::ack(args).unwrap();
                let from = if multiple { next } else { tag };
                (from..=tag).for_each(|n| numbers.push((n, id == MethodId::BASIC_ACK)));
                next = next.max(tag + 1);
            }
            _ => others.push(frame.payload.to_vec()),
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    (numbers, others)
}
