//! Umbel, a transparent AMQP 0-9-1 proxy for Celery. ARCHITECTURE.md draws the floors; imports point down only.

pub mod admin;
pub mod celery;
pub mod cli;
pub mod config;
pub mod metrics;
pub mod net;
pub mod policy;
pub mod session;
pub mod wire;
