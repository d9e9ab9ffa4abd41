//! `umbel check FILE`: every problem with its place and exit code 64, or a few lines of what the file says.

use std::path::Path;
use std::process::ExitCode;

use super::{EXIT_CONFIG, configuration};
use crate::config::Config;
use crate::policy::Mode;

/// Reads the file and says what is wrong with it, or what it says.
#[must_use]
pub fn check(path: &Path) -> ExitCode {
    match configuration(Some(path)) {
        Ok(config) => {
            print!("{}", summary(&path.display().to_string(), &config));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprint!("{problems}");
            let count = problems.lines().count();
            eprintln!("{count} problem{} in {}", plural(count), path.display());
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn summary(file: &str, config: &Config) -> String {
    let mut out = format!("{file}: OK\n  listens on {}", config.listen.amqp);
    match config.listen.admin {
        Some(admin) => out += &format!(", admin page on http://{admin}\n"),
        None => out += ", no admin page\n",
    }
    for upstream in &config.upstreams {
        let urls: Vec<String> = upstream.urls.iter().map(crate::config::BrokerUrl::shown).collect();
        out += &format!("  upstream {} is {}\n", upstream.name, urls.join(", "));
    }
    match &config.spool {
        Some(spool) => out += &format!("  spools to {}\n", spool.path),
        None => out += "  nothing waits on disk: there is no [spool]\n",
    }
    let policy = &config.policy;
    let (rules, routes) = (policy.rules().len(), policy.task_routes().len());
    let mode = if policy.mode() == Mode::Observe { ", all in dry run: nothing changes" } else { "" };
    out += &format!("  {rules} rule{}, {routes} task route{}{mode}\n", plural(rules), plural(routes));
    for (index, rule) in policy.rules().iter().enumerate() {
        let speaks: Vec<&str> = crate::policy::Aspect::ALL
            .into_iter()
            .filter(|a| rule.speaks_of(*a))
            .map(crate::policy::Aspect::key)
            .collect();
        let dry = if rule.mode == Mode::Observe { " (dry run)" } else { "" };
        out += &format!("    {}. {}: {}{dry}\n", index + 1, rule.name, speaks.join(", "));
    }
    for (later, earlier) in policy.task_routes().hidden() {
        let (later, earlier) = (later + 1, earlier + 1);
        out += &format!(
            "  note: task_routes[{later}] is never reached: task_routes[{earlier}] is \"*\" and comes first\n"
        );
    }
    out
}
