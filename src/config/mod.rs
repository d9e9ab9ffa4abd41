//! Text to certainty: one TOML file becomes one compiled [`Config`], or a list of every problem with its place (C1).
//!
//! Pure: environment variables and files come in through [`Surroundings`]. What a key means stands in `config.toml`.

mod aspects;
mod conditions;
mod limits;
mod listen;
mod policy;
mod problem;
mod reader;
mod rules;
mod secret;
mod sight;
mod spool;
mod units;
mod upstream;
mod url;
mod value;

use std::collections::BTreeSet;
use std::sync::Arc;

use toml::de::DeTable;

pub use crate::policy::Tier;
pub use limits::Limits;
pub use listen::{ClientCert, Listen, LoginFrom, ServerTls};
pub use problem::{Place, Problem, Problems};
pub use secret::{Nothing, Secret, Surroundings, expand};
pub use sight::{Log, LogFormat, Metrics};
pub use spool::Spool;
pub use units::{duration, size};
pub use upstream::{ClientTls, Credentials, Mandatory, Retry, Upstream};
pub use url::BrokerUrl;

use crate::policy::{DeadLetter, Policy, Rule};
use policy::Known;
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
    /// Where what nobody takes goes, if there is such a place.
    pub dead_letter: Option<Arc<DeadLetter>>,
    /// `[policy]`, `[[rules]]`, `[[task_routes]]`, `[[task_queues]]`, compiled.
    pub policy: Policy,
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
    let mut review = Review::new(text, surroundings);
    for error in &errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        review.not_toml(at, error.message());
    }
    let config = document(&review.root(&table));
    let (problems, keys) = review.into_findings();
    (config, problems, keys)
}

fn document(root: &Section<'_>) -> Config {
    let upstreams = upstreams(root);
    let names: Vec<String> = upstreams.iter().map(|u| u.name.clone()).collect();
    let (mode, settings) = policy::settings(&root.section("policy"));
    let queues = policy::queues(root, settings);
    let mut known = Known { upstreams: &names, queues: &queues, dead_letter: None };
    known.dead_letter = policy::dead_letter(&root.section("dead_letter"), &known);
    let rules = rules::rules(root, &known);
    let task_routes = policy::task_routes(root, &known);
    let dead_letter = known.dead_letter.take();
    let config = Config {
        listen: Listen::read(&root.section("listen")),
        spool: Spool::read(&root.section("spool")),
        limits: Limits::read(&root.section("limits")),
        log: Log::read(&root.section("log")),
        metrics: Metrics::read(&root.section("metrics")),
        dead_letter,
        policy: Policy::new(rules, task_routes, queues, mode),
        upstreams,
    };
    consistent(root, &config);
    root.close();
    config
}

/// What one section asks of another.
fn consistent(root: &Section<'_>, config: &Config) {
    let complain = |upstream: &Upstream, key: &str, why: &str| {
        let found = root.section("upstreams").entries().into_iter().find(|(name, _)| *name == upstream.name);
        if let Some(table) = found.and_then(|(_, value)| value.section()) {
            table.problem_at(key, why);
        }
    };
    for upstream in &config.upstreams {
        if upstream.tier == Tier::Durable && config.spool.is_none() {
            complain(upstream, "tier", "\"durable\" needs a [spool]");
        }
        if upstream.mandatory == Mandatory::DeadLetter && config.dead_letter.is_none() {
            complain(upstream, "mandatory", "\"dead-letter\" needs a [dead_letter] place");
        }
    }
    let durable = |rule: &Rule| rule.tier == Some(Tier::Durable);
    for (rule, section) in config.policy.rules().iter().zip(root.sections("rules")) {
        if durable(rule) && config.spool.is_none() {
            section.problem_at("tier", "\"durable\" needs a [spool]");
        }
    }
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
