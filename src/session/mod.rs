//! The protocol's promises, without a socket and without a clock: towards clients as a server, towards brokers as a client.
//!
//! `Hub` is the whole of it; `net` feeds it bytes and time and carries out its `Action`s. It knows nothing of Celery or of policy:
//! what becomes of a publish it asks a `Judge`.
//!
//! ```text
//! Session ─ Channel ─ Lane ─▶ (lease) UpChannel ─ Link      Pool = links of one (upstream, vhost, identity)
//! ```

mod aside;
mod awaited;
mod backlog;
mod client;
mod confirm;
mod consumers;
mod hub;
mod identity;
mod judge;
mod lane;
mod learned;
mod record;
mod refusal;
mod run;
mod settings;
pub mod spool;
mod stream;
mod upstream;

pub use hub::{
    Action, ChannelLook, Counters, Hub, LinkLook, Parted, Rounds, SessionLook, Sizes, Totals, TurnedAway,
    UpstreamLook,
};
pub use identity::{Credentials, Secret};
pub use judge::{
    Authored, Decision, Edited, Held, Judge, Kept, PassAll, Place, PublishView, SessionFacts, Settle,
    Settled, Target, Unrouted,
};
pub use learned::{Declaration, Learned, Recalled};
pub use refusal::{Refusal, Scope, reply_name};
pub use settings::{Limits, Retry, UpstreamSettings, Url};
pub use stream::{OutStream, Spares, Spot};
pub use upstream::{Facts, UpstreamState};

/// Both clocks, read once by `net` for everything that one event causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a monotonic clock of any origin: timers.
    pub ms: u64,
    /// Microseconds since 1970, wall clock: expiry.
    pub wall_us: i64,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $($(#[$doc])* #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)] pub struct $name(pub usize);)*
    };
}

ids! {
    /// A client connection, until `client_gone`.
    SessionId
    /// A connection to an upstream, until `link_gone`.
    LinkId
    /// The ordered road of one client channel to one upstream.
    LaneId
    /// The links of one upstream, vhost and identity.
    PoolId
    /// An upstream, by its place in the settings.
    UpstreamId
}
