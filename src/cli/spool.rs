//! `umbel spool`: what waits on disk, seen and moved by hand.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::spool_list::list;
use super::{EXIT_CONFIG, configuration};
use crate::config::{self, BrokerUrl, ClientTls, Config, expand};
use crate::metrics::Metrics;
use crate::net::spool::{Custody, Inspection, Selection};
use crate::net::{Destination, Outcome, Replay, World, judge};
use crate::policy::Pattern;
use crate::session::Judge;

/// Exit code where a running Umbel owns the spool (sysexits' EX_TEMPFAIL).
const EXIT_IN_USE: u8 = 75;

/// Which spool. One that a running Umbel owns is left alone (exit 75): its /status tells what waits, and it replays by itself.
#[derive(Debug, Args)]
pub struct Spool {
    /// The configuration whose `[spool]` is meant
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The spool's directory, instead of the configuration's
    #[arg(long, value_name = "DIR", global = true)]
    path: Option<PathBuf>,
    /// What to do with it
    #[command(subcommand)]
    action: Action,
}

/// What to do with a spool.
#[derive(Debug, Subcommand)]
enum Action {
    /// List its queues: upstream, vhost, user, messages, bytes, the oldest
    Ls {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Publish what waits, in order, with confirms; what the broker has confirmed leaves the spool, anything else stays
    Replay {
        /// Where to, e.g. amqp://user:${PASSWORD}@rabbit:5672/vhost (${NAME} is the environment variable NAME). Without it to the
        /// upstream that each message waits for, with the login of its urls. A vhost that is not named is each message's own
        #[arg(long, value_name = "URL")]
        to: Option<String>,
        /// At most so many messages a second
        #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(1..))]
        rate: Option<u64>,
        #[command(flatten)]
        only: Only,
    },
    /// Write what waits as JSON, one message a line; nothing is removed. Bodies are in base64, and so are the exact method and
    /// content header, which `umbel explain --message` reads
    Export {
        /// Where to; `-`: stdout
        #[arg(value_name = "FILE", default_value = "-")]
        to: PathBuf,
        #[command(flatten)]
        only: Only,
    },
    /// Remove what waits. It is lost
    Purge {
        #[command(flatten)]
        only: Only,
        /// Yes, remove it
        #[arg(long)]
        yes: bool,
    },
}

/// Which messages; everything given must hold.
#[derive(Debug, Args)]
struct Only {
    /// Only what waits for this upstream
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Only what was published on this vhost
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    /// Only what this user published
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only tasks of this name, or glob
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Only what has waited longer, e.g. 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
}

fn age(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| "expected an age such as 90s, 12h or 7d".to_owned())
}

impl Only {
    fn selection(&self) -> Result<Selection, Failure> {
        let task = self.task.as_deref().map(Pattern::glob).transpose().map_err(Failure::Usage)?;
        let micros = |age: Duration| u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        Ok(Selection {
            upstream: self.upstream.clone(),
            vhost: self.vhost.clone(),
            user: self.user.clone(),
            queue: None,
            task,
            before_us: self.older_than.map(|age| crate::net::now_us().saturating_sub(micros(age))),
        })
    }
}

/// Why it was not done.
enum Failure {
    /// What was asked cannot be understood.
    Usage(String),
    /// The spool, or a broker, said no.
    Io(io::Error),
    /// Some of it was not done; it has been said what.
    Partly,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Does it.
#[must_use]
pub fn spool(arguments: &Spool) -> ExitCode {
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(why)) => {
            eprintln!("umbel spool: {}", why.trim_end());
            ExitCode::from(EXIT_CONFIG)
        }
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::ResourceBusy => {
            eprintln!(
                "umbel spool: {error}; a running umbel replays it by itself, and its /status tells what waits"
            );
            ExitCode::from(EXIT_IN_USE)
        }
        // The reader of a pipe has had enough.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Io(error)) => {
            eprintln!("umbel spool: {error}");
            ExitCode::FAILURE
        }
        Err(Failure::Partly) => ExitCode::FAILURE,
    }
}

impl Spool {
    fn run(&self) -> Result<(), Failure> {
        let config = self.config.as_deref().map(|file| configuration(Some(file))).transpose();
        let config = config.map_err(Failure::Usage)?;
        let path = match (&self.path, &config) {
            (Some(path), _) => path.clone(),
            (None, Some(config)) => {
                config.spool.as_ref().map(|s| PathBuf::from(&s.path)).ok_or_else(|| {
                    Failure::Usage("the configuration has no [spool]: nothing waits on disk".to_owned())
                })?
            }
            (None, None) => {
                return Err(Failure::Usage(
                    "say which spool: --config FILE (with a [spool]), or --path DIR".to_owned(),
                ));
            }
        };
        match &self.action {
            Action::Ls { json } => {
                let text = list(&path, &Inspection::open(&path)?.queues(), *json, crate::net::now_us());
                io::stdout().lock().write_all(text.as_bytes())?;
                Ok(())
            }
            Action::Replay { to, rate, only } => replay(&path, config, to.as_deref(), *rate, only),
            Action::Export { to, only } => {
                let (selection, inspection) = (only.selection()?, Inspection::open(&path)?);
                let count = if to.as_os_str() == "-" {
                    inspection.export(&selection, &mut BufWriter::new(io::stdout().lock()))?
                } else {
                    export(&inspection, &selection, to)?
                };
                eprintln!("{count} messages exported; they are still in the spool");
                Ok(())
            }
            Action::Purge { only, yes } => purge(&path, &only.selection()?, *yes),
        }
    }
}

/// Into a file that only its owner reads: bodies may hold anything.
fn export(inspection: &Inspection, selection: &Selection, to: &Path) -> io::Result<u64> {
    use std::os::unix::fs::OpenOptionsExt;
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", to.display()));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(to).map_err(named)?;
    let mut out = BufWriter::new(file);
    let count = inspection.export(selection, &mut out).map_err(named)?;
    out.into_inner().map_err(|e| named(e.into_error()))?.sync_all().map_err(named)?;
    Ok(count)
}

fn purge(path: &Path, selection: &Selection, yes: bool) -> Result<(), Failure> {
    if !yes {
        let mut count = 0_u64;
        Inspection::open(path)?.records(selection, |_, _| {
            count += 1;
            Ok(())
        })?;
        return Err(Failure::Usage(format!("{count} messages would be lost; --yes removes them")));
    }
    let now_us = crate::net::now_us();
    let mut custody = Custody::take(path, now_us)?;
    let gone = custody.purge(selection, now_us)?;
    custody.leave(now_us)?;
    println!("{gone} messages removed");
    Ok(())
}

fn replay(
    path: &Path,
    config: Option<Arc<Config>>,
    to: Option<&str>,
    rate: Option<u64>,
    only: &Only,
) -> Result<(), Failure> {
    let url = to
        .map(|text| expand(text, &World).and_then(|text| BrokerUrl::parse(&text)))
        .transpose()
        .map_err(|why| Failure::Usage(format!("--to: {why}")))?;
    if url.is_none() && config.is_none() {
        return Err(Failure::Usage("say where to: --to URL, or --config FILE".to_owned()));
    }
    // What is asked of the policy: whether time has run out for a task.
    let judge = config.as_ref().map(|config| -> Box<dyn Judge> {
        let snapshot = Arc::new(judge::Snapshot::new(Arc::clone(config)));
        Box::new(judge::PolicyJudge::new(snapshot, Arc::new(Metrics::new(1)), 1))
    });
    let upstreams = config.as_ref();
    let destination = |name: &str| {
        let upstream = upstreams.and_then(|c| c.upstreams.iter().find(|u| u.name == name));
        match (&url, upstream) {
            (Some(url), upstream) => {
                Destination::url(url, upstream.map_or(&ClientTls::default(), |upstream| &upstream.tls))
            }
            (None, Some(upstream)) => Destination::upstream(upstream),
            (None, None) => {
                Err(format!("the configuration has no upstream '{name}': say where to with --to"))
            }
        }
    };
    drop(Inspection::open(path)?);
    let selection = only.selection()?;
    let outcome = Replay { path, selection, destination: Box::new(destination), judge, rate }.run();
    say(&outcome);
    if outcome.stopped.is_some() || outcome.left() > 0 { Err(Failure::Partly) } else { Ok(()) }
}

fn say(outcome: &Outcome) {
    println!("{} messages published and confirmed", outcome.confirmed);
    if outcome.expired > 0 {
        println!("{} had expired: done with as the configuration says", outcome.expired);
    }
    for (why, count) in &outcome.kept {
        eprintln!("umbel spool: {count} stay in the spool: {why}");
    }
    if let Some(why) = &outcome.stopped {
        eprintln!("umbel spool: stopped: {why}; the rest stays in the spool");
    }
}
