//! The Hub in a simulated world: many clients, many faults, chance from a seed, a clock that only the test turns.
//!
//! A million steps in all: 200 seeds, 5,000 steps each; the last quarter of them with a disk that is slow, fills up and fails.
//! `UMBEL_SIM_SEED=n` runs one seed, `UMBEL_SIM_FROM=n` begins with another, `UMBEL_SIM_STEPS=n` takes so many steps in all,
//! `UMBEL_SIM_SPOOL=1` gives all of them a disk, `UMBEL_SIM_TRACE=1` says what led to a failure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs,
    reason = "a test may"
)]

mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use sim::world::World;

/// Steps of one seed's run.
const STEPS_A_SEED: u64 = 5_000;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64, steps: u64, spools: bool) -> (u64, u64, u64) {
    let mut world = World::new(seed, spools);
    world.judge.ledger.tracing = env("UMBEL_SIM_TRACE").is_some();
    let mut at = 0;
    let result = catch_unwind(AssertUnwindSafe(|| {
        while at < steps {
            world.step(at);
            at += 1;
        }
        world.wind_down();
    }));
    let ledger = &world.judge.ledger;
    if let Err(panic) = result {
        for line in &ledger.trace {
            eprintln!("{line}");
        }
        let disk = if spools { "UMBEL_SIM_SPOOL=1 " } else { "" };
        eprintln!(
            "{disk}UMBEL_SIM_SEED={seed} failed at step {at} of {steps} (UMBEL_SIM_TRACE=1 tells more)"
        );
        resume_unwind(panic);
    }
    (ledger.judged, ledger.acks, ledger.duplicates)
}

/// Steps of all quarters together, unless somebody asks for others.
const STEPS: u64 = 1_000_000;

/// A million steps in four parts, so that as many processors as there are have something to do.
fn quarter(which: u64) {
    let spools = which == 3 || env("UMBEL_SIM_SPOOL").is_some();
    if let Some(seed) = env("UMBEL_SIM_SEED") {
        if which == 0 {
            eprintln!("{:?}", run(seed, env("UMBEL_SIM_STEPS").unwrap_or(STEPS_A_SEED), spools));
        }
        return;
    }
    let seeds = (env("UMBEL_SIM_STEPS").unwrap_or(STEPS) / STEPS_A_SEED).div_ceil(4);
    let from = env("UMBEL_SIM_FROM").unwrap_or(1) + which * seeds;
    let mut sums = (0, 0, 0);
    for seed in from..from + seeds {
        let (judged, acks, duplicates) = run(seed, STEPS_A_SEED, spools);
        sums = (sums.0 + judged, sums.1 + acks, sums.2 + duplicates);
    }
    eprintln!(
        "seeds {from} to {}: {} publishes judged, {} acked to clients, {} duplicates",
        from + seeds - 1,
        sums.0,
        sums.1,
        sums.2
    );
    assert!(sums.0 > 0 && sums.1 > 0, "the simulation did something");
}

#[test]
fn in_any_world_nothing_is_lost_mixed_reordered_or_answered_twice_first_quarter() {
    quarter(0);
}

#[test]
fn in_any_world_nothing_is_lost_mixed_reordered_or_answered_twice_second_quarter() {
    quarter(1);
}

#[test]
fn in_any_world_nothing_is_lost_mixed_reordered_or_answered_twice_third_quarter() {
    quarter(2);
}

#[test]
fn in_any_world_nothing_is_lost_mixed_reordered_or_answered_twice_with_a_failing_disk() {
    quarter(3);
}

/// Found beyond the million: a publish came home to a lane in the tick that took the lane for idle, and its lease was given back under it.
#[test]
fn a_lane_that_something_comes_home_to_is_not_idle() {
    run(361, 500, false);
}

/// Found beyond the million: max_retries was used up, the disk filled in the middle of a lane some of which had records, and what the disk
/// had taken of it came after what it had not.
#[test]
fn what_the_disk_takes_of_a_lane_before_it_fills_does_not_come_after_the_rest() {
    run(251, 5_000, true);
}

/// Found beyond the million: max_retries was used up, the full disk took nothing of a lane, and what came later was on that disk already:
/// it was sent before what it had come behind.
#[test]
fn what_the_disk_takes_nothing_of_does_not_wait_for_what_came_later() {
    run(2741, 5_000, true);
}

/// Found beyond the million: a client that had been told connection.close, and neither read nor said anything, was found after five
/// seconds, with whatever heartbeat it had agreed.
#[test]
fn a_client_that_falls_silent_is_found_in_time_also_when_it_has_been_told_close() {
    run(253, 2_000, false);
    run(304, 5_000, true);
}

/// Found beyond the million: a client's connection.close had gone out on its own link, and a channel.close of ours behind it.
#[test]
fn nothing_is_said_behind_connection_close() {
    run(517, 4_000, false);
}
