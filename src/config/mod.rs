//! Text to certainty: one TOML file becomes one compiled [`Config`], or a list of every problem with its place (C1).
//!
//! Pure: environment variables and files come in through [`Surroundings`]. What a key means stands in `config.toml`.

mod limits;
mod listen;
mod problem;
mod reader;
mod secret;
mod sight;
mod spool;
mod units;
mod upstream;
mod url;

use std::collections::BTreeSet;

use toml::de::DeTable;

pub use limits::Limits;
pub use listen::{Listen, ServerTls};
pub use problem::{Place, Problem, Problems};
pub use secret::{Nothing, Secret, Surroundings};
pub use sight::{Log, LogFormat, Metrics};
pub use spool::Spool;
pub use upstream::{ClientTls, Credentials, Mandatory, Retry, Tier, Upstream};
pub use url::BrokerUrl;

use reader::{Review, Section};

/// A configuration that is certain: every name resolved, every pattern compiled, every bound within its range.
#[derive(Debug)]
pub struct Config {
    /// `[listen]`.
    pub listen: Listen,
    /// `[upstreams.*]`, `default` first, then by name. An index into this is what verdicts carry.
    pub upstreams: Vec<Upstream>,
    /// `[spool]`, if there is one.
    pub spool: Option<Spool>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[log]`.
    pub log: Log,
    /// `[metrics]`.
    pub metrics: Metrics,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Every problem of the text, in its order.
    pub fn parse(text: &str, surroundings: &dyn Surroundings) -> Result<Self, Problems> {
        let (config, problems, _) = read(text, surroundings);
        if problems.0.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Every key that a configuration may have, list positions left out, as far as `text` leads to it.
    #[must_use]
    pub fn keys(text: &str) -> BTreeSet<String> {
        read(text, &Nothing).2
    }
}

impl Default for Config {
    fn default() -> Self {
        read("", &Nothing).0
    }
}

fn read(text: &str, surroundings: &dyn Surroundings) -> (Config, Problems, BTreeSet<String>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let review = Review::new(text, surroundings);
    for error in &errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        review.problem(at, "", format!("not TOML: {}", error.message()));
    }
    let config = document(&review.root(&table), !errors.is_empty());
    let (problems, keys) = review.into_findings();
    (config, problems, keys)
}

fn document(root: &Section<'_>, broken: bool) -> Config {
    let config = Config {
        listen: Listen::read(&root.section("listen")),
        upstreams: upstreams(root),
        spool: Spool::read(&root.section("spool")),
        limits: Limits::read(&root.section("limits")),
        log: Log::read(&root.section("log")),
        metrics: Metrics::read(&root.section("metrics")),
    };
    if config.spool.is_none() {
        for upstream in config.upstreams.iter().filter(|u| u.tier == Tier::Durable) {
            let section = root.section("upstreams");
            let found = section.entries().into_iter().find(|(name, _)| *name == upstream.name);
            if let Some(table) = found.and_then(|(_, value)| value.section()) {
                table.problem_at("tier", "\"durable\" needs a [spool]");
            }
        }
    }
    // What is not TOML leaves keys in odd places: naming those as unknown would only hide the mistake.
    if !broken {
        root.close();
    }
    config
}

fn upstreams(root: &Section<'_>) -> Vec<Upstream> {
    let section = root.section("upstreams");
    let mut found: Vec<Upstream> = section
        .entries()
        .iter()
        .filter_map(|(name, value)| Some(Upstream::read(name, &value.section()?)))
        .collect();
    if !found.iter().any(|u| u.name == "default") {
        if section.is_present() {
            section
                .problem("expected [upstreams.default]: where everything goes that no rule sends elsewhere");
        }
        found.push(Upstream::named("default"));
    }
    found.sort_by(|a, b| (a.name != "default", &a.name).cmp(&(b.name != "default", &b.name)));
    found
}
