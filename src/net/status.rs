//! `/status`, filled in from a look at the Hub (SPEC M1). Never a secret.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::load::Loaded;
use super::shelf::Shelf;
use super::thread::Thread;
use crate::config::{self, BrokerUrl, Listen, Tier, Upstream};
use crate::metrics::status::{
    ChannelStatus, ConfigStatus, LaneStatus, LinkStatus, ListenerStatus, ProcessStatus, SESSIONS_LISTED_MAX,
    SessionStatus, SessionsStatus, SpoolStatus, Status, UpstreamState, UpstreamStatus,
};
use crate::session::{self, LinkLook, Now, SessionLook, UpstreamId};
use crate::wire::num::{u32_clamped, u64_of};
use crate::wire::table::{Table, Value};

/// What the Hub does not know: since when, where we listen, and how the last reload went.
pub struct Reporter {
    since: Now,
    places: Places,
    last_reload_error: Option<String>,
}

/// Where we listen, as the sockets say: the port of `:0`, the address of a socket that was handed over.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// For clients.
    pub amqp: SocketAddr,
    /// For whoever wants to know how it is.
    pub admin: Option<SocketAddr>,
}

impl Reporter {
    /// From now on.
    pub fn new(since: Now, places: Places) -> Self {
        Self { since, places, last_reload_error: None }
    }

    /// A reload has been tried.
    pub fn reloaded(&mut self, error: Option<String>) {
        self.last_reload_error = error;
    }

    /// How everything is.
    pub fn report(
        &self,
        thread: &Rc<Thread>,
        loaded: &Loaded,
        shelf: Option<&Shelf>,
        draining: bool,
    ) -> Status {
        let now = thread.now();
        let hub = thread.hub.borrow();
        let links = hub.look_links(now);
        let (sessions, total) = hub.look_sessions(now, SESSIONS_LISTED_MAX);
        let totals = hub.totals();
        let upstreams = loaded.config.upstreams.iter().enumerate();
        let upstreams = upstreams.map(|(index, u)| upstream(index, u, &links, thread)).collect();
        let name = |id| hub.upstream_name(id).unwrap_or_default().to_owned();
        Status {
            process: ProcessStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_seconds: now.ms.saturating_sub(self.since.ms) / 1000,
                draining,
            },
            config: ConfigStatus {
                path: loaded.path.as_ref().map(|p| p.display().to_string()),
                hash: loaded.hash.clone(),
                loaded_at_unix_seconds: loaded.at_unix_seconds,
                last_reload_error: self.last_reload_error.clone(),
                observe: super::reload::observes(&loaded.config),
            },
            listeners: listeners(&loaded.config.listen, self.places),
            upstreams,
            sessions: SessionsStatus {
                total: u64_of(total),
                handshaking: u64_of(totals.handshaking),
                pooled: u64_of(totals.pooled),
                pinned: u64_of(totals.pinned),
                listed: sessions.iter().map(|s| session(s, thread, &name)).collect(),
            },
            spool: loaded
                .config
                .spool
                .as_ref()
                .zip(shelf)
                .map(|(s, shelf)| spool(s, shelf, hub.spool_aside())),
            ..Status::default()
        }
    }
}

fn upstream(index: usize, u: &Upstream, links: &[LinkLook], thread: &Thread) -> UpstreamStatus {
    let hub = thread.hub.borrow();
    let id = hub.upstream_at(index).unwrap_or(UpstreamId(index));
    let look = hub.look_upstream(id);
    let mine: Vec<&LinkLook> = links.iter().filter(|l| l.upstream == id).collect();
    let blocked = mine.iter().any(|l| l.blocked);
    let properties = look.as_ref().and_then(|l| l.server_properties.clone());
    let text = |name: &str| properties.as_ref().and_then(|p| string(p, name));
    UpstreamStatus {
        name: u.name.clone(),
        urls: u.urls.iter().map(BrokerUrl::shown).collect(),
        state: match look.as_ref().map(|l| l.state) {
            Some(session::UpstreamState::Up) if blocked => UpstreamState::Blocked,
            Some(session::UpstreamState::Up) => UpstreamState::Up,
            Some(session::UpstreamState::Down) => UpstreamState::Down,
            Some(session::UpstreamState::Unknown) | None => UpstreamState::Unknown,
        },
        product: text("product"),
        version: text("version"),
        blocked: blocked.then(|| "the broker says connection.blocked".to_owned()),
        last_error: look.as_ref().and_then(|l| l.last_error.clone()),
        tier: match u.tier {
            Tier::Window => "window".to_owned(),
            Tier::Durable => "durable".to_owned(),
        },
        retry_in_seconds: hub.retry_in_ms(thread.now(), id).map(|ms| Duration::from_millis(ms).as_secs_f64()),
        links: mine.into_iter().map(|l| link(l, thread)).collect(),
    }
}

fn listeners(listen: &Listen, places: Places) -> Vec<ListenerStatus> {
    let one = |kind: &str, address: SocketAddr| ListenerStatus {
        kind: kind.to_owned(),
        address: address.to_string(),
    };
    let amqp = one(if listen.tls.is_some() { "amqps" } else { "amqp" }, places.amqp);
    std::iter::once(amqp).chain(places.admin.map(|a| one("admin", a))).collect()
}

fn spool(settings: &config::Spool, shelf: &Shelf, aside: u64) -> SpoolStatus {
    let look = shelf.look();
    SpoolStatus {
        path: settings.path.clone(),
        accepting: look.error.is_none() && look.bytes < settings.max_bytes,
        last_error: look.error,
        messages: look.records,
        aside,
        bytes: look.bytes,
        bytes_max: settings.max_bytes,
        oldest_seconds: look.oldest_seconds,
        quarantined: look.unsound,
    }
}

fn string(table: &[u8], name: &str) -> Option<String> {
    match Table::new(table).get(name.as_bytes()) {
        Some(Value::Str(s)) => Some(String::from_utf8_lossy(s).into_owned()),
        _ => None,
    }
}

fn link(l: &LinkLook, thread: &Thread) -> LinkStatus {
    LinkStatus {
        id: u64_of(l.id.0),
        url: l.url.clone(),
        from: thread.link_address(l.id).map(|a| a.to_string()),
        state: if l.blocked {
            "blocked".to_owned()
        } else {
            l.state.replace("up", "open").replace("closing", "draining")
        },
        identity: l.identity.clone(),
        pinned_by: l.pinned_by.map(|s| u64_of(s.0)),
        channels_used: u32_clamped(l.leased),
        channels_free: u32_clamped(l.channels.saturating_sub(l.leased)),
        channels_max: u32::from(l.channel_max),
        unconfirmed_messages: u64_of(l.unsettled),
        unconfirmed_bytes: u64_of(l.held),
        connected_seconds: l.up_ms / 1000,
    }
}

fn session(s: &SessionLook, thread: &Thread, name: &dyn Fn(UpstreamId) -> String) -> SessionStatus {
    let text = |name| string(&s.properties, name);
    SessionStatus {
        id: u64_of(s.id.0),
        peer: thread.session_address(s.id).map_or_else(|| s.peer.to_string(), |a| a.to_string()),
        user: s.user.clone(),
        vhost: s.vhost.clone(),
        client: [text("product"), text("version").or_else(|| text("product_version"))]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" "),
        connection_name: text("connection_name"),
        state: match s.state {
            "login" => "handshake".to_owned(),
            "running" if s.pinned.is_some() => "pinned".to_owned(),
            "running" => "pooled".to_owned(),
            other => other.to_owned(),
        },
        pinned_link: s.pinned.map(|l| u64_of(l.0)),
        channels: s
            .channels
            .iter()
            .map(|c| ChannelStatus {
                number: c.number,
                confirm: c.confirm,
                lanes: c
                    .lanes
                    .iter()
                    .map(|(upstream, lease)| LaneStatus {
                        upstream: name(*upstream),
                        link: lease.map(|(l, _)| u64_of(l.0)),
                        channel: lease.map(|(_, up)| up),
                    })
                    .collect(),
                unsettled: u64_of(c.unsettled),
            })
            .collect(),
        out_backlog_bytes: u64_of(s.backlog_bytes),
        idle_seconds: s.idle_ms / 1000,
        connected_seconds: s.up_ms / 1000,
    }
}
