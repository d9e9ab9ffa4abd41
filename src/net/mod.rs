//! The only floor with sockets, tasks, clocks, threads and files. It drives the Hub and tells it nothing but bytes and time.
//!
//! One data thread: session tasks, link tasks and the Hub share it, so nothing on the way of a publish is locked or handed over.

mod client;
mod clock;
mod counters;
mod dial;
pub mod judge;
mod link;
mod listen;
mod load;
mod reload;
mod serve;
mod settings;
mod shelf;
pub mod spool;
mod status;
mod thread;
mod tls;

pub use listen::bind;
pub use load::{LoadError, Loaded, load};
pub use serve::{Serve, serve};
