//! `umbel spool`: what waits on disk, seen and moved by hand.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Which spool.
#[derive(Debug, Args)]
pub struct Spool {
    /// The configuration whose `[spool]` is meant
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The spool's directory, instead of a configuration
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "config")]
    pub path: Option<PathBuf>,
    /// What to do with it
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with a spool.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List its queues: upstream, vhost, messages, bytes, the oldest
    Ls {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Publish what waits, in order, with the upstream's configured login
    Replay {
        /// Only what waits for this upstream
        #[arg(long, value_name = "NAME")]
        upstream: Option<String>,
        /// At most so many messages a second
        #[arg(long, value_name = "MESSAGES")]
        rate: Option<u64>,
    },
    /// Write what waits as JSON, one message a line; nothing is removed
    Export {
        /// Where to; `-`: stdout
        #[arg(value_name = "FILE", default_value = "-")]
        to: PathBuf,
        /// Only what waits for this upstream
        #[arg(long, value_name = "NAME")]
        upstream: Option<String>,
    },
    /// Remove what waits. It is lost
    Purge {
        /// Only what waits for this upstream
        #[arg(long, value_name = "NAME")]
        upstream: Option<String>,
        /// Only what is older, e.g. 7d
        #[arg(long, value_name = "AGE")]
        older_than: Option<String>,
        /// Yes, remove it
        #[arg(long, required = true)]
        yes: bool,
    },
}
