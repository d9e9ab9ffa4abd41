//! `[upstreams.NAME]`: a broker, or several nodes of one, and how we keep links to it.

use std::time::Duration;

use super::reader::Section;
use super::secret::Secret;
use super::url::BrokerUrl;
use super::value::Value;
use crate::policy::Tier;

/// The words for [`Tier`].
pub const TIERS: &[(&str, Tier)] = &[("window", Tier::Window), ("durable", Tier::Durable)];

/// Whose login is used upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// The client's own.
    Client,
    /// The url's (or `EXTERNAL`, with our certificate), whoever the client is. The client's are not checked against the broker.
    Configured,
}

/// What is done about publishes that no queue takes (D6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mandatory {
    /// Nothing: as directly.
    Off,
    /// Counted and logged.
    Count,
    /// Sent to `[dead_letter]`.
    DeadLetter,
    /// The queue is declared, and the task sent again.
    Declare,
}

/// The retry of Celery's policy words (D3).
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Wait before the first try.
    pub interval_start: Duration,
    /// Added for each further try.
    pub interval_step: Duration,
    /// The longest wait.
    pub interval_max: Duration,
    /// How often; none: for ever.
    pub max_retries: Option<u64>,
    /// Each wait is shortened by up to this part of it, 0 to 1, at random.
    pub jitter: f64,
}

/// TLS towards a broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientTls {
    /// PEM file: who signs the broker's certificate; none: the system's roots.
    pub ca: Option<String>,
    /// PEM file: our own certificate.
    pub cert: Option<String>,
    /// PEM file: its key.
    pub key: Option<String>,
    /// The name that the certificate must bear; none: the url's host.
    pub server_name: Option<String>,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its name; `default` is where everything goes that no rule sends elsewhere.
    pub name: String,
    /// Its nodes, tried in turn.
    pub urls: Vec<BrokerUrl>,
    /// What counts as accepted.
    pub tier: Tier,
    /// Whose login is used.
    pub credentials: Credentials,
    /// TLS settings for `amqps://` urls.
    pub tls: ClientTls,
    /// Most pooled links per vhost and identity.
    pub links: u64,
    /// Most leased channels on one pooled link.
    pub channels_per_link: u64,
    /// A pooled link without leases is closed after this.
    pub idle_timeout: Duration,
    /// A pooled link is replaced after this, in a quiet moment; none: never.
    pub link_lifetime: Option<Duration>,
    /// `link_lifetime` is shortened by up to this part of it, 0 to 1, at random.
    pub link_lifetime_jitter: f64,
    /// A lease that has been idle and confirmed this long goes back to the pool.
    pub lease_idle: Duration,
    /// From the start of a connection attempt to connection.open-ok.
    pub connect_timeout: Duration,
    /// Heartbeat interval asked of the broker; zero: none.
    pub heartbeat: Duration,
    /// A link on which a confirm is this late is given up.
    pub confirm_timeout: Duration,
    /// Most unconfirmed publishes, all links together.
    pub window_messages: u64,
    /// Most bytes of unconfirmed publishes, all links together.
    pub window_bytes: u64,
    /// Waiting between attempts.
    pub retry: Retry,
    /// How long a login that worked is remembered (L4).
    pub remember_credentials: Duration,
    /// What is done about unroutable publishes.
    pub mandatory: Mandatory,
    /// Whether what a route sends here goes where it was going while this one is down, instead of waiting.
    pub turn_back: bool,
    /// Whether clients are told of the broker's connection.blocked. Celery ignores it; others stop publishing.
    pub relay_blocked: bool,
}

impl Upstream {
    /// An upstream of this name with every default.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let local =
            BrokerUrl { host: "127.0.0.1".to_owned(), port: 5672, tls: false, login: None, vhost: None };
        Self {
            name: name.to_owned(),
            urls: vec![local],
            tier: Tier::Window,
            credentials: Credentials::Client,
            tls: ClientTls::default(),
            links: 2,
            channels_per_link: 1000,
            idle_timeout: Duration::from_secs(60),
            link_lifetime: Some(Duration::from_secs(3600)),
            link_lifetime_jitter: 0.1,
            lease_idle: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(30),
            window_messages: 1_000_000,
            window_bytes: 256 << 20,
            retry: Retry::default(),
            remember_credentials: Duration::from_secs(86_400),
            mandatory: Mandatory::Off,
            turn_back: false,
            relay_blocked: true,
        }
    }

    /// The configured login, from the first url that has one: for replay and for what we publish ourselves.
    #[must_use]
    pub fn login(&self) -> Option<&(String, Secret)> {
        self.urls.iter().find_map(|url| url.login.as_ref())
    }

    /// Reads `[upstreams.NAME]`.
    #[must_use]
    pub fn read(name: &str, section: &Section<'_>) -> Self {
        let d = Self::named(name);
        let (password, tls) = (password(section), section.section("tls"));
        let mut urls = section.value("urls").map(urls).unwrap_or_else(|| d.urls.clone());
        if name != "default" && !section.has("urls") {
            section.problem("expected `urls`, a list such as [\"amqp://127.0.0.1:5672\"]");
        }
        if let Some(password) = password {
            give_password(section, &mut urls, &password);
        }
        let credentials = section
            .choice(
                "credentials",
                &[("client", Credentials::Client), ("configured", Credentials::Configured)],
            )
            .unwrap_or(d.credentials);
        let tls = ClientTls::read(&tls, &urls);
        let upstream = Self {
            name: d.name,
            tier: section.choice("tier", TIERS).unwrap_or(d.tier),
            credentials,
            tls,
            links: section.integer("links", 1..=1024).unwrap_or(d.links),
            channels_per_link: section
                .integer("channels_per_link", 1..=65_535)
                .unwrap_or(d.channels_per_link),
            idle_timeout: section.positive_duration("idle_timeout", d.idle_timeout),
            link_lifetime: lifetime(section, d.link_lifetime),
            link_lifetime_jitter: part(section, "link_lifetime_jitter").unwrap_or(d.link_lifetime_jitter),
            lease_idle: section.positive_duration("lease_idle", d.lease_idle),
            connect_timeout: section.positive_duration("connect_timeout", d.connect_timeout),
            heartbeat: heartbeat(section).unwrap_or(d.heartbeat),
            confirm_timeout: section.positive_duration("confirm_timeout", d.confirm_timeout),
            window_messages: section.integer("window_messages", 1..=1 << 32).unwrap_or(d.window_messages),
            window_bytes: section.size("window_bytes", 65_536..=1 << 40).unwrap_or(d.window_bytes),
            retry: Retry::read(&section.section("retry")),
            remember_credentials: section.duration("remember_credentials").unwrap_or(d.remember_credentials),
            mandatory: section.choice("mandatory", MANDATORY).unwrap_or(d.mandatory),
            turn_back: section
                .choice("when_down", &[("wait", false), ("turn-back", true)])
                .unwrap_or(d.turn_back),
            relay_blocked: section.flag("relay_blocked", d.relay_blocked),
            urls,
        };
        if upstream.credentials == Credentials::Configured
            && upstream.login().is_none()
            && upstream.tls.cert.is_none()
            && section.has("credentials")
        {
            section.problem_at(
                "credentials",
                "\"configured\" needs a url with user:password@ (or `user` there and `password_file`), or `tls.cert`",
            );
        }
        section.close();
        upstream
    }
}

const MANDATORY: &[(&str, Mandatory)] = &[
    ("off", Mandatory::Off),
    ("count", Mandatory::Count),
    ("dead-letter", Mandatory::DeadLetter),
    ("declare", Mandatory::Declare),
];

impl Default for Retry {
    fn default() -> Self {
        Self {
            interval_start: Duration::ZERO,
            interval_step: Duration::from_millis(200),
            interval_max: Duration::from_secs(5),
            max_retries: None,
            jitter: 0.2,
        }
    }
}

impl Retry {
    fn read(section: &Section<'_>) -> Self {
        let d = Self::default();
        let retry = Self {
            interval_start: section.duration("interval_start").unwrap_or(d.interval_start),
            interval_step: section.duration("interval_step").unwrap_or(d.interval_step),
            interval_max: section.duration("interval_max").unwrap_or(d.interval_max),
            max_retries: section.integer("max_retries", 0..=u64::MAX),
            jitter: part(section, "jitter").unwrap_or(d.jitter),
        };
        if retry.interval_max < retry.interval_start {
            section.problem_at("interval_max", "expected no less than `interval_start`");
        }
        if retry.interval_start.is_zero() && retry.interval_step.is_zero() {
            section.problem_at(
                "interval_step",
                "expected more than nothing where `interval_start` is nothing: it would never wait",
            );
        }
        section.close();
        retry
    }
}

impl ClientTls {
    fn read(section: &Section<'_>, urls: &[BrokerUrl]) -> Self {
        let tls = Self {
            ca: section.expanded("ca"),
            cert: section.expanded("cert"),
            key: section.expanded("key"),
            server_name: section.expanded("server_name"),
        };
        if tls.cert.is_some() != tls.key.is_some() {
            section.problem("expected `cert` and `key` together");
        }
        if section.is_present() && !urls.iter().any(|url| url.tls) {
            section.problem("has no effect: no url of this upstream is amqps://");
        }
        section.close();
        if urls.iter().any(|url| url.tls) {
            section.surroundings().client_tls(&tls).unwrap_or_else(|why| section.problem(why));
        }
        tls
    }
}

fn urls(value: Value<'_>) -> Vec<BrokerUrl> {
    let items = value.one_or_many();
    let parse = |item: &Value<'_>| BrokerUrl::parse(&item.expanded()?).map_err(|why| item.problem(why)).ok();
    items.iter().filter_map(parse).collect()
}

/// `password` (may name an environment variable) or `password_file`, for urls that name only a user.
fn password(section: &Section<'_>) -> Option<Secret> {
    let inline = section.expanded("password");
    let Some(value) = section.value("password_file") else { return inline.map(Secret::new) };
    if inline.is_some() {
        value.problem("expected either `password` or `password_file`, found both");
    }
    let path = value.expanded()?;
    match value.surroundings().file(&path) {
        Ok(text) if text.trim().is_empty() => {
            value.problem(format!("{path} is empty"));
            None
        }
        Ok(text) => Some(Secret::new(text.trim_end_matches(['\n', '\r']).to_owned())),
        Err(why) => {
            value.problem(format!("cannot read {path}: {why}"));
            None
        }
    }
}

fn give_password(section: &Section<'_>, urls: &mut [BrokerUrl], password: &Secret) {
    let mut given = false;
    for (_, empty) in
        urls.iter_mut().filter_map(|url| url.login.as_mut()).filter(|(_, p)| p.reveal().is_empty())
    {
        *empty = password.clone();
        given = true;
    }
    if !given {
        let key = if section.has("password_file") { "password_file" } else { "password" };
        section.problem_at(key, "has no effect: no url names a user without a password (amqp://user@host)");
    }
}

/// Heartbeats are whole seconds on the wire, 16 bits of them.
fn heartbeat(section: &Section<'_>) -> Option<Duration> {
    let value = section.value("heartbeat")?;
    let found = value.duration()?;
    if found.subsec_nanos() != 0 || found.as_secs() > 65_535 {
        value.problem("expected whole seconds, at most 65535");
        return None;
    }
    Some(found)
}

/// `"0s"` means for ever.
fn lifetime(section: &Section<'_>, default: Option<Duration>) -> Option<Duration> {
    section.duration("link_lifetime").map_or(default, |d| (!d.is_zero()).then_some(d))
}

/// A number from 0 to 1.
fn part(section: &Section<'_>, key: &'static str) -> Option<f64> {
    let value = section.value(key)?;
    let found = value.number()?;
    if !(0.0..=1.0).contains(&found) {
        value.problem(format!("expected a number from 0 to 1, found {found}"));
        return None;
    }
    Some(found)
}
