//! The Hub in a simulated world: many clients, many faults, chance from a seed, a clock that only the test turns.
//!
//! `UMBEL_SIM_SEED=n` runs one seed, `UMBEL_SIM_STEPS=n` takes so many steps in all, `UMBEL_SIM_TRACE=1` says what led to a failure.

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

fn run(seed: u64, steps: u64) -> (u64, u64, u64) {
    let mut world = World::new(seed);
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
        eprintln!("UMBEL_SIM_SEED={seed} failed at step {at} of {steps} (UMBEL_SIM_TRACE=1 tells more)");
        resume_unwind(panic);
    }
    (ledger.judged, ledger.acks, ledger.duplicates)
}

#[test]
fn in_any_world_nothing_is_lost_mixed_reordered_or_answered_twice() {
    if let Some(seed) = env("UMBEL_SIM_SEED") {
        eprintln!("{:?}", run(seed, env("UMBEL_SIM_STEPS").unwrap_or(STEPS_A_SEED)));
        return;
    }
    let steps = env("UMBEL_SIM_STEPS").unwrap_or(60_000);
    let from = env("UMBEL_SIM_FROM").unwrap_or(1);
    let mut sums = (0, 0, 0);
    for seed in from..from + steps / STEPS_A_SEED {
        let (judged, acks, duplicates) = run(seed, STEPS_A_SEED);
        sums = (sums.0 + judged, sums.1 + acks, sums.2 + duplicates);
    }
    eprintln!("{} publishes judged, {} acked to clients, {} duplicates", sums.0, sums.1, sums.2);
    assert!(sums.0 > 0 && sums.1 > 0, "the simulation did something");
}
