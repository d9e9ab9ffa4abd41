//! The commands: what a person types, and what it comes back with.

mod captured;
mod check;
mod difference;
mod explain;
mod import;
mod report;
mod run;
mod spool;
mod spool_list;
mod translate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::net::{LoadError, load};

/// A transparent AMQP 0-9-1 proxy for Celery.
#[derive(Debug, Parser)]
#[command(name = "umbel", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be the proxy, until SIGTERM.
    Run {
        /// The configuration; without it every key has its default.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List every problem of a configuration, with its place; exit 64 if there is one.
    Check {
        /// The configuration.
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Say what would become of a task, which rule is behind it, and which bytes would change.
    Explain(explain::Explain),
    /// Print a Celery application's task_routes and task_queues as TOML.
    Import(import::Import),
    /// See, replay, export or remove what waits on disk.
    Spool(spool::Spool),
}

/// Exit code of a configuration that cannot be used (sysexits' EX_USAGE).
pub const EXIT_CONFIG: u8 = 64;

/// Does what the command line asks.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run::run(config.as_deref()),
        Command::Check { config } => check::check(&config),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Import(arguments) => import::import(&arguments),
        Command::Spool(arguments) => spool::spool(&arguments),
    }
}

/// The configuration at `path`, or why there is none: one problem a line, each with its place.
fn configuration(path: Option<&Path>) -> Result<Arc<Config>, String> {
    let file = path.map_or_else(|| "defaults".to_owned(), |p| p.display().to_string());
    load(path).map(|loaded| loaded.config).map_err(|error| match error {
        LoadError::Problems(problems) => problems.in_file(&file),
        LoadError::Unreadable(why) => why + "\n",
    })
}
