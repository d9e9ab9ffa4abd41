//! Real messages before the judge: each kind of decision, under a policy as an operator would write it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs,
    reason = "a test fails by panicking, and its input is ours"
)]

mod judge {
    pub mod admitted;
    pub mod court;
    pub mod expired;
    pub mod moved;
    pub mod patched;
}
