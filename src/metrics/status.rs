//! What `/status` says, as plain data: the data thread fills it in, the admin floor shows it (M1).
//!
//! Never a secret in it: urls come without user information, identities as `user@vhost`. Times are ages in seconds, so that no
//! clock is needed to read them; the two points in time are Unix seconds.

use serde::Serialize;

/// Sessions listed at most; the totals count all of them.
pub const SESSIONS_LISTED_MAX: usize = 500;

/// Everything that a person wants to see at a glance.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// The process.
    pub process: ProcessStatus,
    /// The configuration in force.
    pub config: ConfigStatus,
    /// Where we listen.
    pub listeners: Vec<ListenerStatus>,
    /// The brokers that we forward to.
    pub upstreams: Vec<UpstreamStatus>,
    /// The clients.
    pub sessions: SessionsStatus,
    /// What waits on disk; `None` where no spool is configured.
    pub spool: Option<SpoolStatus>,
    /// Filled in from the metrics by the admin floor.
    pub counters: Counters,
    /// Filled in from the metrics by the admin floor: the rules that matched something.
    pub rules: Vec<RuleStatus>,
    /// Filled in by the admin floor: the last warnings and errors of the log, newest first.
    pub warnings: Vec<WarningStatus>,
}

/// The process.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ProcessStatus {
    /// Our version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Since it started.
    pub uptime_seconds: u64,
    /// Whether it is shutting down (D7).
    pub draining: bool,
}

/// The configuration in force.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ConfigStatus {
    /// The file; `None` where there is none and every key has its default.
    pub path: Option<String>,
    /// Of the file's bytes, so that two instances can be compared.
    pub hash: String,
    /// When it was read, in Unix seconds.
    pub loaded_at_unix_seconds: u64,
    /// Why the last reload changed nothing; `None` where it was applied.
    pub last_reload_error: Option<String>,
    /// Whether every rule only observes (P8).
    pub observe: bool,
}

/// A listening socket.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ListenerStatus {
    /// `amqp`, `amqps`, `admin`.
    pub kind: String,
    /// The address.
    pub address: String,
}

/// Whether an upstream can take tasks now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamState {
    /// Not tried yet.
    #[default]
    Unknown,
    /// A link is open, or the last one that was tried came to open.
    Up,
    /// It says connection.blocked: a memory or disk alarm.
    Blocked,
    /// The last dial failed or the last link died.
    Down,
}

/// A broker.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UpstreamStatus {
    /// Its name in the config.
    pub name: String,
    /// Without user information.
    pub urls: Vec<String>,
    /// Whether it can take tasks now.
    pub state: UpstreamState,
    /// Of its server properties.
    pub product: Option<String>,
    /// Of its server properties.
    pub version: Option<String>,
    /// Its reason, while it is blocked.
    pub blocked: Option<String>,
    /// Why it was last lost or could not be reached.
    pub last_error: Option<String>,
    /// `window` or `durable`.
    pub tier: String,
    /// Until it is dialed again, while it is down.
    pub retry_in_seconds: Option<f64>,
    /// Our connections to it.
    pub links: Vec<LinkStatus>,
}

/// A connection of ours to an upstream.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LinkStatus {
    /// Its number, unique in the process.
    pub id: u64,
    /// The url that it is connected to, without user information.
    pub url: String,
    /// Our end of it, as the broker lists its connections' peers.
    pub from: Option<String>,
    /// `dialing`, `login`, `open`, `blocked`, `draining`.
    pub state: String,
    /// `user@vhost`.
    pub identity: String,
    /// The session that it belongs to alone.
    pub pinned_by: Option<u64>,
    /// Upstream channels lent out.
    pub channels_used: u32,
    /// Upstream channels open and free to be lent.
    pub channels_free: u32,
    /// The most that it may have.
    pub channels_max: u32,
    /// Publishes written and not confirmed.
    pub unconfirmed_messages: u64,
    /// Octets kept for resending.
    pub unconfirmed_bytes: u64,
    /// Since open-ok.
    pub connected_seconds: u64,
}

/// The clients: totals of all, and the first of them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SessionsStatus {
    /// All of them.
    pub total: u64,
    /// Not logged in yet.
    pub handshaking: u64,
    /// Those that publish over shared links.
    pub pooled: u64,
    /// Those with a link of their own.
    pub pinned: u64,
    /// At most [`SESSIONS_LISTED_MAX`].
    pub listed: Vec<SessionStatus>,
}

/// One client connection.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SessionStatus {
    /// Its number, unique in the process.
    pub id: u64,
    /// Its address.
    pub peer: String,
    /// As it logged in.
    pub user: String,
    /// As it asked for.
    pub vhost: String,
    /// `product version` of its client properties.
    pub client: String,
    /// The `connection_name` of its client properties.
    pub connection_name: Option<String>,
    /// `handshake`, `pooled`, `pinned`, `closing`.
    pub state: String,
    /// The link that is its own: its channels have the same numbers there.
    pub pinned_link: Option<u64>,
    /// Its channels.
    pub channels: Vec<ChannelStatus>,
    /// Octets waiting to be written to it.
    pub out_backlog_bytes: u64,
    /// Since it last sent a frame.
    pub idle_seconds: u64,
    /// Since it was accepted.
    pub connected_seconds: u64,
}

/// One channel of a client, and where it is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ChannelStatus {
    /// The client's number of it.
    pub number: u16,
    /// Whether the client asked for confirms.
    pub confirm: bool,
    /// Where its publishes go now.
    pub lanes: Vec<LaneStatus>,
    /// Publishes neither confirmed nor refused yet.
    pub unsettled: u64,
}

/// The road of one channel to one upstream.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LaneStatus {
    /// The upstream's name.
    pub upstream: String,
    /// The link of its lease; `None` while it has none.
    pub link: Option<u64>,
    /// The upstream channel's number on that link.
    pub channel: Option<u16>,
}

/// What waits on disk.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SpoolStatus {
    /// Where it is.
    pub path: String,
    /// Whether it can take more now.
    pub accepting: bool,
    /// Why it cannot.
    pub last_error: Option<String>,
    /// Records.
    pub messages: u64,
    /// Of them, those that an upstream has refused: tried again in turn.
    pub aside: u64,
    /// Octets on disk.
    pub bytes: u64,
    /// The configured bound.
    pub bytes_max: u64,
    /// The age of the oldest record.
    pub oldest_seconds: u64,
    /// Damaged files set aside.
    pub quarantined: u64,
}

/// The ledger and two latencies.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counters {
    /// Publishes taken from clients.
    pub accepted: u64,
    /// Confirmed by an upstream.
    pub forwarded: u64,
    /// Handed to the spool.
    pub spooled: u64,
    /// Refused visibly.
    pub refused: u64,
    /// Not forwarded because they had expired.
    pub expired: u64,
    /// Accepted and none of these yet.
    pub in_flight: u64,
    /// Publishes sent again because their link had died.
    pub resent: u64,
    /// Messages that are no tasks.
    pub non_tasks: u64,
    /// Bodies that could not be read.
    pub unreadable: u64,
    /// Last byte in to first byte out: the median's bucket, in seconds.
    pub forward_seconds_p50: Option<f64>,
    /// And the 99th percentile's.
    pub forward_seconds_p99: Option<f64>,
    /// Last byte in to the upstream's confirm: the median's bucket, in seconds.
    pub confirm_seconds_p50: Option<f64>,
    /// And the 99th percentile's.
    pub confirm_seconds_p99: Option<f64>,
}

/// What one rule did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RuleStatus {
    /// The rule's name.
    pub name: String,
    /// Tasks that it decided something for.
    pub matched: u64,
    /// Tasks that it would have, in a dry run.
    pub observed: u64,
    /// Tasks that it sent elsewhere.
    pub rerouted: u64,
    /// Tasks whose priority it changed.
    pub reprioritised: u64,
    /// Tasks that it found expired.
    pub expired: u64,
    /// Bodies that it compressed.
    pub compressed: u64,
}

/// A line of the log.
#[derive(Debug, Clone, Default, Serialize)]
pub struct WarningStatus {
    /// When, in Unix seconds.
    pub at_unix_seconds: u64,
    /// `WARN` or `ERROR`.
    pub level: String,
    /// The event's target: the module that logged it.
    pub target: String,
    /// What it says, fields included.
    pub message: String,
}
