//! The two sides: sessions towards clients, links towards upstreams, and the bytes that flow on each.

use prometheus::{Counter, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::bounded::BoundedLabels;
use super::latency::Latency;
use super::registrar::Registrar;
use super::words::{
    ByWord, CacheAnswer, LeaseState, Limit, LinkDeath, LinkState, Login, Scope, SessionEnd, SessionState,
    Word,
};

/// Upstreams come from the config, but reloads bring new ones for as long as the process lives.
const UPSTREAMS_MAX: usize = 256;

/// Frames and octets in one direction on one side.
#[derive(Debug)]
pub struct Flow {
    /// Frames.
    pub frames: IntCounter,
    /// Octets.
    pub bytes: IntCounter,
}

/// What flows.
#[derive(Debug)]
pub struct Flows {
    /// From clients.
    pub client_in: Flow,
    /// To clients.
    pub client_out: Flow,
    /// From upstreams.
    pub upstream_in: Flow,
    /// To upstreams.
    pub upstream_out: Flow,
}

impl Flows {
    pub(super) fn new(make: &Registrar<'_>) -> Self {
        let labels = ["side", "direction"];
        let frames = make.counters("frames_total", "AMQP frames.", &labels);
        let bytes = make.counters("traffic_bytes_total", "Bytes on the wire, TLS not counted.", &labels);
        let flow = |side, direction| Flow {
            frames: frames.with_label_values(&[side, direction]),
            bytes: bytes.with_label_values(&[side, direction]),
        };
        Self {
            client_in: flow("client", "in"),
            client_out: flow("client", "out"),
            upstream_in: flow("upstream", "in"),
            upstream_out: flow("upstream", "out"),
        }
    }
}

/// Sessions and what clients did.
#[derive(Debug)]
pub struct Clients {
    /// Connections accepted.
    pub accepted: IntCounter,
    /// `accept` failed (out of descriptors, say).
    pub accept_errors: IntCounter,
    /// Sessions now, by what they do.
    pub sessions: ByWord<SessionState, IntGauge>,
    /// Sessions that ended, by why.
    pub ends: ByWord<SessionEnd, IntCounter>,
    /// Client channels open now.
    pub channels: IntGauge,
    /// Logins, by how they ended.
    pub logins: ByWord<Login, IntCounter>,
    /// Logins answered from memory, or not.
    pub credentials_cache: ByWord<CacheAnswer, IntCounter>,
    /// Errors that we raised ourselves (channel.close, connection.close).
    pub errors: ByWord<Scope, IntCounter>,
    /// Bounds reached.
    pub limits: ByWord<Limit, IntCounter>,
    /// Time during which some client's socket was left unread on purpose (D4: stays 0 but at the very bound).
    pub reads_paused_seconds: Counter,
    /// Sessions whose socket is left unread now.
    pub reads_paused: IntGauge,
    /// Octets waiting to be written to clients.
    pub backlog_bytes: IntGauge,
    /// Panics; each cost one session (S5).
    pub panics: IntCounter,
}

impl Clients {
    pub(super) fn new(make: &Registrar<'_>) -> Self {
        Self {
            accepted: make.counter("connections_accepted_total", "Client connections accepted."),
            accept_errors: make.counter("accept_errors_total", "Failed accepts of client connections."),
            sessions: make.gauges_by("sessions", "Client connections."),
            ends: make.counters_by("sessions_ended_total", "Client connections that ended."),
            channels: make.gauge("client_channels", "Channels that clients have open."),
            logins: make.counters_by("logins_total", "Logins of clients."),
            credentials_cache: make
                .counters_by("credentials_cache_total", "Look-ups of credentials seen working."),
            errors: make
                .counters_by("client_errors_total", "Channels and connections closed for a client's fault."),
            limits: make.counters_by("limits_hit_total", "Bounds that were reached."),
            reads_paused_seconds: make
                .real_counter("reads_paused_seconds_total", "Time during which a client was left unread."),
            reads_paused: make.gauge("reads_paused", "Clients left unread now."),
            backlog_bytes: make.gauge("client_backlog_bytes", "Bytes waiting to be written to clients."),
            panics: make.counter("panics_total", "Panics; each cost one session."),
        }
    }
}

/// Families by upstream.
#[derive(Debug)]
pub struct Upstreams {
    names: BoundedLabels,
    up: IntGaugeVec,
    blocked: IntGaugeVec,
    links: IntGaugeVec,
    deaths: IntCounterVec,
    leases: IntGaugeVec,
    opened: IntCounterVec,
    retries: IntCounterVec,
    resends: IntCounterVec,
    confirms: IntCounterVec,
    /// From the start of dialing to open-ok.
    pub connect_seconds: Latency,
}

/// One upstream's counters: resolve once an upstream and keep.
#[derive(Debug, Clone)]
pub struct UpstreamMetrics {
    /// 1 while a link to it is open.
    pub up: IntGauge,
    /// 1 while it says connection.blocked.
    pub blocked: IntGauge,
    /// Links now, by what they do.
    pub links: ByWord<LinkState, IntGauge>,
    /// Links that ended, by why.
    pub deaths: ByWord<LinkDeath, IntCounter>,
    /// Upstream channels, lent and waiting.
    pub leases: ByWord<LeaseState, IntGauge>,
    /// Links that came to open-ok.
    pub opened: IntCounter,
    /// Dials after a failure.
    pub retries: IntCounter,
    /// Publishes sent again because their link had died.
    pub resends: IntCounter,
    /// Publishes that it confirmed.
    pub confirms: IntCounter,
}

impl Upstreams {
    pub(super) fn new(make: &Registrar<'_>) -> Self {
        let one = ["upstream"];
        Self {
            names: BoundedLabels::new(UPSTREAMS_MAX),
            up: make.gauges("upstream_up", "Whether a link to the upstream is open.", &one),
            blocked: make.gauges("upstream_blocked", "Whether the upstream says connection.blocked.", &one),
            links: make.gauges("links", "Connections to upstreams.", &["upstream", LinkState::LABEL]),
            deaths: make.counters(
                "links_ended_total",
                "Connections to upstreams that ended.",
                &["upstream", LinkDeath::LABEL],
            ),
            leases: make.gauges("leases", "Channels open on upstreams.", &["upstream", LeaseState::LABEL]),
            opened: make.counters("links_opened_total", "Connections to upstreams that were opened.", &one),
            retries: make.counters("link_retries_total", "Dials after a failure.", &one),
            resends: make.counters(
                "publishes_resent_total",
                "Publishes sent again after their link had died.",
                &one,
            ),
            confirms: make.counters(
                "publishes_confirmed_total",
                "Confirms given by the upstream, of whatever was published there.",
                &one,
            ),
            connect_seconds: make
                .latency("link_connect_seconds", "From dialing an upstream to an open connection."),
        }
    }

    pub(super) fn resends(&self) -> &IntCounterVec {
        &self.resends
    }

    /// One upstream's counters. Resolve once and keep.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        let name = self.names.admit(name);
        let one = [name];
        UpstreamMetrics {
            up: self.up.with_label_values(&one),
            blocked: self.blocked.with_label_values(&one),
            links: ByWord::new(|word: LinkState| self.links.with_label_values(&[name, word.word()])),
            deaths: ByWord::new(|word: LinkDeath| self.deaths.with_label_values(&[name, word.word()])),
            leases: ByWord::new(|word: LeaseState| self.leases.with_label_values(&[name, word.word()])),
            opened: self.opened.with_label_values(&one),
            retries: self.retries.with_label_values(&one),
            resends: self.resends.with_label_values(&one),
            confirms: self.confirms.with_label_values(&one),
        }
    }
}
