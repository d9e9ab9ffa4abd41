//! A bad configuration: every problem is listed, with its place, its key and what was expected (SPEC C1).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod config {
    pub mod problem;
    pub mod routes;
    pub mod rules;
    pub mod settings;
    pub mod text;
    pub mod tour;
}
