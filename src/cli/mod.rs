//! The commands: what a person types, and what it comes back with.

mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
}

/// Exit code of a configuration that cannot be used (sysexits' EX_USAGE).
pub const EXIT_CONFIG: u8 = 64;

/// Does what the command line asks.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run::run(config.as_deref()),
    }
}
