//! The Hub's promises, one conversation each: what brokers and clients say and hear, frame by frame, on a clock that only the test turns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs,
    reason = "a test may"
)]

mod hub {
    pub mod blame;
    pub mod disk;
    pub mod gates;
    pub mod goodbyes;
    pub mod home;
    pub mod mechanisms;
    pub mod owners;
    pub mod pools;
    pub mod retries;
    pub mod stage;
    pub mod store;
    pub mod told;
    pub mod turned_away;
    pub mod unrouted;
}
#[path = "sim/kit.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod kit;
