//! `[limits]`: every bound that keeps a stranger's bytes from growing us (S1), with its default.

use std::time::Duration;

use super::reader::Section;

/// The bounds. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame offered to clients, end octet and header included.
    pub frame_max: u32,
    /// Most channels a client may open.
    pub channel_max: u16,
    /// Largest body of one message.
    pub message_bytes: u64,
    /// How deep tables and lists may nest.
    pub table_depth: usize,
    /// Most entries of one table, nested ones counted.
    pub table_entries: usize,
    /// Most client connections.
    pub connections: usize,
    /// Most client connections from one address.
    pub connections_per_ip: usize,
    /// From accept to connection.open-ok.
    pub handshake_timeout: Duration,
    /// A client without heartbeats that says nothing this long is closed; none: never (Celery producers are silent for days).
    pub idle_timeout: Option<Duration>,
    /// Largest frame before the login is through.
    pub preauth_frame_max: u32,
    /// Connections that have not logged in yet, all together.
    pub preauth_connections: usize,
    /// What may wait to be written to one client before it is closed (S1: a client that does not read).
    pub output_backlog_bytes: u64,
    /// What one client may have handed over and the window has not taken yet.
    pub input_backlog_bytes: u64,
    /// Largest body that is decompressed to look inside.
    pub decompressed_bytes: u64,
    /// Largest growth by decompression, as a factor.
    pub decompressed_ratio: u64,
    /// Most memory for everything that waits for confirms, all upstreams together.
    pub memory_bytes: u64,
    /// How long shutdown may drain (D7).
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_max: 131_072,
            channel_max: 2047,
            message_bytes: 128 << 20,
            table_depth: 32,
            table_entries: 16_384,
            connections: 65_536,
            connections_per_ip: 65_536,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: None,
            preauth_frame_max: 8192,
            preauth_connections: 16_384,
            output_backlog_bytes: 64 << 20,
            input_backlog_bytes: 1 << 20,
            decompressed_bytes: 64 << 20,
            decompressed_ratio: 200,
            memory_bytes: 1 << 30,
            drain_timeout: Duration::from_secs(25),
        }
    }
}

impl Limits {
    /// Reads `[limits]`.
    #[must_use]
    pub fn read(s: &Section<'_>) -> Self {
        let d = Self::default();
        let limits = Self {
            // AMQP 0-9-1 §4.2.3: frame_max is at least 4096; RabbitMQ 4.1 refuses under 8192 (L6).
            frame_max: narrow(s.size("frame_max", 8192..=1 << 30), d.frame_max),
            channel_max: narrow(s.integer("channel_max", 1..=65_535), d.channel_max),
            message_bytes: s.size("message_bytes", 1024..=1 << 40).unwrap_or(d.message_bytes),
            table_depth: narrow(s.integer("table_depth", 1..=1024), d.table_depth),
            table_entries: narrow(s.integer("table_entries", 16..=1 << 20), d.table_entries),
            connections: narrow(s.integer("connections", 1..=1 << 24), d.connections),
            connections_per_ip: narrow(s.integer("connections_per_ip", 1..=1 << 24), d.connections_per_ip),
            handshake_timeout: s.positive_duration("handshake_timeout", d.handshake_timeout),
            idle_timeout: s.duration("idle_timeout").filter(|d| !d.is_zero()),
            preauth_frame_max: narrow(s.size("preauth_frame_max", 4096..=1 << 20), d.preauth_frame_max),
            preauth_connections: narrow(s.integer("preauth_connections", 1..=1 << 24), d.preauth_connections),
            output_backlog_bytes: s
                .size("output_backlog_bytes", 65_536..=1 << 40)
                .unwrap_or(d.output_backlog_bytes),
            input_backlog_bytes: s
                .size("input_backlog_bytes", 65_536..=1 << 40)
                .unwrap_or(d.input_backlog_bytes),
            decompressed_bytes: s.size("decompressed_bytes", 1024..=1 << 40).unwrap_or(d.decompressed_bytes),
            decompressed_ratio: s.integer("decompressed_ratio", 1..=1 << 20).unwrap_or(d.decompressed_ratio),
            memory_bytes: s.size("memory_bytes", 1 << 20..=1 << 44).unwrap_or(d.memory_bytes),
            drain_timeout: s.positive_duration("drain_timeout", d.drain_timeout),
        };
        if limits.connections_per_ip > limits.connections && s.has("connections_per_ip") {
            s.problem_at(
                "connections_per_ip",
                format!("expected no more than `connections`, which is {}", limits.connections),
            );
        }
        if limits.preauth_frame_max > limits.frame_max {
            s.problem_at(
                "preauth_frame_max",
                format!("expected no more than `frame_max`, which is {}", limits.frame_max),
            );
        }
        s.close();
        limits
    }
}

/// A value that its range has already bounded, in the type that fits.
fn narrow<T: TryFrom<u64>>(found: Option<u64>, default: T) -> T {
    found.and_then(|n| T::try_from(n).ok()).unwrap_or(default)
}
