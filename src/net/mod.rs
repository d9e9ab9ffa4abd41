//! The only floor with sockets, tasks, clocks, threads and files. It drives the Hub and tells it nothing but bytes and time.
//!
//! One data thread: session tasks, link tasks and the Hub share it, so nothing on the way of a publish is locked or handed over.

mod activation;
mod batch;
mod certificate;
mod client;
mod clock;
mod counters;
mod destination;
mod dial;
pub mod judge;
mod known;
mod link;
mod listen;
mod load;
mod notice;
mod publisher;
mod read;
mod reload;
mod replay;
mod seldom;
mod serve;
mod settings;
mod shelf;
pub mod spool;
mod status;
#[cfg(test)]
mod survival;
mod thread;
mod tls;
mod turned_away;
mod way;

pub use activation::Handed;
pub use clock::now_us;
pub use destination::Destination;
pub use listen::bind;
pub use load::{LoadError, Loaded, World, load};
pub use replay::{Outcome, Replay};
pub use serve::{Serve, serve};
