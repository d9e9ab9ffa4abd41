//! From the configuration's words to the Hub's numbers.

use std::time::Duration;

use crate::config::{self, Config};
use crate::session::{Credentials, Limits, Retry, UpstreamSettings, Url};
use crate::wire::table::{TABLE_DEPTH_MAX, TableLimits, TableWriter, Value};

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX / 4)
}

/// `[limits]` and what of `[listen]` the Hub must know.
pub fn limits(config: &Config) -> Limits {
    let l = &config.limits;
    Limits {
        frame_max: l.frame_max,
        channel_max: l.channel_max,
        message_bytes: l.message_bytes,
        table: TableLimits { depth: l.table_depth.min(TABLE_DEPTH_MAX), entries: l.table_entries },
        sessions: l.connections,
        sessions_per_ip: l.connections_per_ip,
        preauth_sessions: l.preauth_connections,
        preauth_frame_max: l.preauth_frame_max,
        idle_ms: l.idle_timeout.map(ms),
        memory_bytes: l.memory_bytes,
        handshake_ms: ms(l.handshake_timeout),
        output_backlog_bytes: usize::try_from(l.output_backlog_bytes).unwrap_or(usize::MAX),
        input_backlog_bytes: usize::try_from(l.input_backlog_bytes).unwrap_or(usize::MAX),
        close_ms: 5_000,
        leave_ms: 30_000,
        barrier_ms: 1_000,
        heartbeat_s: 60,
        allow_remote_guest: config.listen.allow_remote_guest,
    }
}

/// `[upstreams.*]`, in the configuration's order.
pub fn upstreams(config: &Config) -> Vec<UpstreamSettings> {
    config.upstreams.iter().map(upstream).collect()
}

fn upstream(u: &config::Upstream) -> UpstreamSettings {
    let own = match u.login() {
        Some((user, password)) => Some(Credentials::plain(user, password.reveal())),
        None => u.tls.cert.as_ref().map(|_| Credentials::external("EXTERNAL")),
    };
    let credentials = match u.credentials {
        config::Credentials::Configured => own.clone(),
        config::Credentials::Client => None,
    };
    UpstreamSettings {
        name: u.name.as_str().into(),
        urls: u.urls.iter().map(|url| Url { host: url.host.clone(), port: url.port, tls: url.tls }).collect(),
        credentials,
        own,
        vhost: u.urls.iter().find_map(|url| url.vhost.as_ref()).map(|v| v.as_bytes().into()),
        links: usize::try_from(u.links).unwrap_or(usize::MAX),
        channels_per_link: u16::try_from(u.channels_per_link).unwrap_or(u16::MAX),
        link_idle_ms: ms(u.idle_timeout),
        link_lifetime_ms: u.link_lifetime.map_or(u64::MAX / 400, ms),
        link_lifetime_jitter_percent: percent(u.link_lifetime_jitter),
        lease_idle_ms: ms(u.lease_idle),
        connect_timeout_ms: ms(u.connect_timeout),
        heartbeat_s: u16::try_from(u.heartbeat.as_secs()).unwrap_or(u16::MAX),
        confirm_timeout_ms: ms(u.confirm_timeout),
        window_messages: u.window_messages,
        window_bytes: u.window_bytes,
        retry: Retry {
            interval_start_ms: ms(u.retry.interval_start),
            interval_step_ms: ms(u.retry.interval_step),
            interval_max_ms: ms(u.retry.interval_max),
            max_retries: u.retry.max_retries.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            jitter_percent: percent(u.retry.jitter),
        },
        remember_ms: ms(u.remember_credentials),
        relay_blocked: u.relay_blocked,
        turn_back: u.turn_back,
        durable: u.tier == config::Tier::Durable,
    }
}

/// A share of 0 to 1 as whole percent.
fn percent(share: f64) -> u8 {
    (0..=100_u8).find(|&p| f64::from(p) >= share * 100.0).unwrap_or(100)
}

/// The client properties of our shared links: who we are, and where.
pub fn our_properties(host: &str) -> Vec<u8> {
    let capabilities = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ]
    .iter()
    .fold(TableWriter::new(), |t, name| t.with(name, Value::Bool(true)));
    TableWriter::new()
        .str("product", b"Umbel")
        .str("version", env!("CARGO_PKG_VERSION").as_bytes())
        .str("platform", b"Rust")
        .str("information", b"a proxy for Celery: this connection is shared by producers")
        .str("connection_name", format!("umbel@{host}:{}", std::process::id()).as_bytes())
        .with("capabilities", Value::Table(capabilities.table()))
        .into_bytes()
}
