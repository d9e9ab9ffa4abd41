//! What the Hub is told by the configuration: plain numbers, already checked.

use std::rc::Rc;

use super::Credentials;
use crate::wire::table::TableLimits;

/// Bounds towards clients (SPEC S1). Each is checked before memory is taken.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest frame offered to clients, in octets.
    pub frame_max: u32,
    /// Highest channel number offered to clients.
    pub channel_max: u16,
    /// Largest body, in octets.
    pub message_bytes: u64,
    /// Of every table a client sends.
    pub table: TableLimits,
    /// Client connections at a time.
    pub sessions: usize,
    /// Of them, those from one address.
    pub sessions_per_ip: usize,
    /// Of them, those that have not logged in yet.
    pub preauth_sessions: usize,
    /// Largest frame before the login is through.
    pub preauth_frame_max: u32,
    /// A client without heartbeats that is silent for this long is closed; `None`: never.
    pub idle_ms: Option<u64>,
    /// Octets of everything unsettled, all upstreams together.
    pub memory_bytes: u64,
    /// From accept to connection.open-ok.
    pub handshake_ms: u64,
    /// A client that leaves this much unread is closed, unless a link of its own can be paused.
    pub output_backlog_bytes: usize,
    /// Octets of a client that may wait behind a gate before its socket is left unread.
    pub input_backlog_bytes: usize,
    /// How long a client may take to answer our close.
    pub close_ms: u64,
    /// How long a client that we have answered its close may keep its socket: RabbitMQ's own thirty seconds, or its heartbeat.
    pub leave_ms: u64,
    /// Longest time that a method waits for earlier publishes to settle.
    pub barrier_ms: u64,
    /// Heartbeat offered to clients in seconds where the upstream's is not known.
    pub heartbeat_s: u16,
    /// Whether a client of another host may log in as `guest` (SPEC S4).
    pub allow_remote_guest: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_max: 131_072,
            channel_max: 2047,
            message_bytes: 128 * 1024 * 1024,
            table: TableLimits::default(),
            sessions: 20_000,
            sessions_per_ip: 20_000,
            preauth_sessions: 20_000,
            preauth_frame_max: 8192,
            idle_ms: None,
            memory_bytes: 1 << 30,
            handshake_ms: 10_000,
            output_backlog_bytes: 16 * 1024 * 1024,
            input_backlog_bytes: 1024 * 1024,
            close_ms: 5_000,
            leave_ms: 30_000,
            barrier_ms: 1_000,
            heartbeat_s: 60,
            allow_remote_guest: false,
        }
    }
}

/// Celery's retry policy words (celery/app/defaults.py, `task_publish_retry_policy`), with a cap and jitter.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Before the first retry.
    pub interval_start_ms: u64,
    /// Added for each further one.
    pub interval_step_ms: u64,
    /// The longest wait.
    pub interval_max_ms: u64,
    /// `None`: for ever.
    pub max_retries: Option<u32>,
    /// Up to this share of a wait, in percent, is taken off at random.
    pub jitter_percent: u8,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            interval_start_ms: 0,
            interval_step_ms: 200,
            interval_max_ms: 5_000,
            max_retries: None,
            jitter_percent: 20,
        }
    }
}

impl Retry {
    /// The wait before retry number `attempt` (0 is the first), in milliseconds; `random` is any number.
    #[must_use]
    pub fn wait_ms(&self, attempt: u32, random: u64) -> u64 {
        let plain = self
            .interval_start_ms
            .saturating_add(self.interval_step_ms.saturating_mul(u64::from(attempt)))
            .min(self.interval_max_ms.max(self.interval_start_ms));
        shortened(plain, self.jitter_percent, random)
    }
}

/// A time, shortened by up to so many percent of it; `random` is any number.
#[must_use]
pub fn shortened(plain_ms: u64, percent: u8, random: u64) -> u64 {
    let span = plain_ms.saturating_mul(u64::from(percent.min(100))) / 100;
    plain_ms - random % (span + 1)
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// amqps.
    pub tls: bool,
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "amqps" } else { "amqp" }, self.host, self.port)
    }
}

/// One upstream.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Its name in the config.
    pub name: Rc<str>,
    /// Tried in turn.
    pub urls: Vec<Url>,
    /// Used instead of the client's own (SPEC L4).
    pub credentials: Option<Credentials>,
    /// The upstream's own login: for what an earlier life left in the spool, and for clients that came with a certificate.
    pub own: Option<Credentials>,
    /// The vhost to use instead of the client's.
    pub vhost: Option<Rc<[u8]>>,
    /// Pooled links at most, for each vhost and identity.
    pub links: usize,
    /// Leases on one link at most.
    pub channels_per_link: u16,
    /// A pooled link without leases is closed after this long.
    pub link_idle_ms: u64,
    /// A pooled link is replaced when it is this old.
    pub link_lifetime_ms: u64,
    /// Up to this share of its lifetime, in percent, is taken off at random.
    pub link_lifetime_jitter_percent: u8,
    /// A lease that is clean and idle goes back to the pool after this long.
    pub lease_idle_ms: u64,
    /// TCP connect to open-ok.
    pub connect_timeout_ms: u64,
    /// Asked of the upstream, in seconds; the smaller of this and its own counts. 0: the upstream's.
    pub heartbeat_s: u16,
    /// A publish unconfirmed for this long on a link that is otherwise silent: the link is taken for dead.
    pub confirm_timeout_ms: u64,
    /// Unconfirmed publishes kept in memory.
    pub window_messages: u64,
    /// Octets of them.
    pub window_bytes: u64,
    /// How links are dialed again.
    pub retry: Retry,
    /// How long accepted credentials are remembered.
    pub remember_ms: u64,
    /// Tell producers of connection.blocked, as the broker would.
    pub relay_blocked: bool,
    /// While it is down, what a route sends here goes where it was going, instead of waiting.
    pub turn_back: bool,
    /// Tier `durable`: on disk before it counts as accepted.
    pub durable: bool,
}

impl UpstreamSettings {
    /// All defaults, for one address.
    #[must_use]
    pub fn new(name: &str, host: &str, port: u16) -> Self {
        Self {
            name: name.into(),
            urls: vec![Url { host: host.into(), port, tls: false }],
            credentials: None,
            own: None,
            vhost: None,
            links: 2,
            channels_per_link: 1000,
            link_idle_ms: 60_000,
            link_lifetime_ms: 3_600_000,
            link_lifetime_jitter_percent: 10,
            lease_idle_ms: 5_000,
            connect_timeout_ms: 5_000,
            heartbeat_s: 0,
            confirm_timeout_ms: 30_000,
            window_messages: 1_000_000,
            window_bytes: 256 * 1024 * 1024,
            retry: Retry::default(),
            remember_ms: 3_600_000,
            relay_blocked: true,
            turn_back: false,
            durable: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_by_the_step_to_the_cap_and_jitter_only_shortens_them() {
        let retry = Retry {
            interval_start_ms: 0,
            interval_step_ms: 200,
            interval_max_ms: 1000,
            max_retries: None,
            jitter_percent: 0,
        };
        let waits: Vec<u64> = (0..7).map(|n| retry.wait_ms(n, 99)).collect();
        assert_eq!(waits, [0, 200, 400, 600, 800, 1000, 1000]);
        let jittered = Retry { jitter_percent: 50, ..retry };
        for random in 0..1000 {
            assert!((500..=1000).contains(&jittered.wait_ms(9, random)));
        }
    }
}
