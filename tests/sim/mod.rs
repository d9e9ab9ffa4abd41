//! A simulated world around the Hub: see `world`.

pub mod broker;
pub mod client;
pub mod disk;
pub mod judge;
pub mod kit;
pub mod ledger;
pub mod own;
pub mod rng;
pub mod world;
