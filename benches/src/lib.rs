//! What the load generator, the null broker and the relay share: as much AMQP 0-9-1 as they speak, their arguments, their statistics.

pub mod amqp;
pub mod args;
pub mod client;
pub mod stats;
