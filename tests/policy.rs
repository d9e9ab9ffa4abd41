//! What the policy says of a task, told as an operator writes it: TOML in, a task in, the verdict out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod policy {
    pub mod admission;
    pub mod bodies;
    pub mod expiry;
    pub mod matching;
    pub mod routes;
    pub mod sent;
}
