//! `umbel explain`: one task in, every verdict with the rule behind it and the bytes that would change out.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::captured::{Captured, Described, parse};
use super::report::{Findings, Report};
use super::{EXIT_CONFIG, configuration};
use crate::celery::{BodyLimits, Publish, Reading, read, time};
use crate::config::Config;
use crate::policy::edit::{Means, edit};
use crate::policy::{Context, Memo, Message};
use crate::wire::ContentHeader;
use crate::wire::num::usize_clamped;

/// A captured message is read up to this size.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// What is to be explained.
#[derive(Debug, Args)]
pub struct Explain {
    /// The configuration; without it every key has its default, and nothing changes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A captured message: a JSON file with `frames_hex`, a line of `umbel spool export`, or exchange, routing_key, properties, headers,
    /// body; `-`: stdin
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    message: Option<PathBuf>,
    /// The task's name
    #[arg(long, value_name = "NAME", required_unless_present = "message")]
    task: Option<String>,
    /// The task's id
    #[arg(long, default_value = "00000000-0000-4000-8000-000000000000")]
    id: String,
    /// The queue that the producer names [default: the default queue]
    #[arg(long)]
    queue: Option<String>,
    /// The exchange that the producer names
    #[arg(long, conflicts_with = "queue")]
    exchange: Option<String>,
    /// The routing key that the producer names
    #[arg(long, conflicts_with = "queue")]
    routing_key: Option<String>,
    /// The priority that the producer asks for
    #[arg(long)]
    priority: Option<u8>,
    /// How often it has been retried
    #[arg(long, default_value_t = 0)]
    retries: i32,
    /// When it may run: an ISO date, or `+90s` from now
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    eta: Option<String>,
    /// When it expires: an ISO date, `+90s` from now, or `-5s`
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    expires: Option<String>,
    /// A further header
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// The body's content type
    #[arg(long, default_value = "application/json")]
    content_type: String,
    /// A body of this size, e.g. 12KiB
    #[arg(long)]
    size: Option<String>,
    /// Celery's message protocol
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    protocol: u8,
    /// Who publishes
    #[arg(long, default_value = "guest")]
    user: String,
    /// In which vhost
    #[arg(long, default_value = "/")]
    vhost: String,
    /// From which address
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
    /// What the time is: an ISO date [default: the clock's]
    #[arg(long, value_name = "WHEN")]
    now: Option<String>,
    /// Where a split by weight falls
    #[arg(long, default_value_t = 0)]
    random: u64,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Explains.
#[must_use]
pub fn explain(arguments: &Explain) -> ExitCode {
    let config = match configuration(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(problems) => {
            eprint!("{problems}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match arguments.report(&config) {
        Ok(report) if arguments.json => {
            println!("{}", report.json());
            ExitCode::SUCCESS
        }
        Ok(report) => {
            print!("{}", report.text());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("umbel explain: {why}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

impl Explain {
    fn report(&self, config: &Config) -> Result<Report, String> {
        let now = match &self.now {
            Some(text) => time::parse(text.as_bytes()).ok_or("--now: expected an ISO date")?.unix_micros,
            None => clock(),
        };
        let captured = match &self.message {
            Some(path) => parse(&message(path)?).map_err(|why| format!("{}: {why}", path.display()))?,
            None => self.described(config, now)?.publish(),
        };
        let context = Context {
            vhost: self.vhost.as_bytes(),
            user: &self.user,
            client: self.client,
            now,
            random: self.random,
        };
        judged(config, &captured, &context)
    }

    fn described(&self, config: &Config, now: i64) -> Result<Described, String> {
        let moment = |flag: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => when(text, now)
                .map(Some)
                .ok_or_else(|| format!("--{flag}: expected an ISO date, or +90s, or -5s")),
        };
        let pair = |text: &String| {
            let (name, value) =
                text.split_once('=').ok_or_else(|| format!("--header {text}: expected NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        let size = match &self.size {
            None => 0,
            Some(text) => crate::config::size(text).ok_or("--size: expected a size such as 12KiB")?,
        };
        if size > MESSAGE_BYTES_MAX {
            return Err(format!("--size: expected at most {MESSAGE_BYTES_MAX} bytes"));
        }
        let default = &config.policy.queues().settings().default_queue;
        let key = self.routing_key.clone().or(self.queue.clone());
        Ok(Described {
            exchange: self.exchange.clone().unwrap_or_default(),
            routing_key: key
                .unwrap_or_else(|| if self.exchange.is_some() { String::new() } else { default.clone() }),
            task: self.task.clone().unwrap_or_default(),
            id: self.id.clone(),
            protocol: self.protocol,
            priority: self.priority.or(Some(0)),
            retries: self.retries,
            eta: moment("eta", &self.eta)?,
            expires: moment("expires", &self.expires)?,
            headers: self.headers.iter().map(pair).collect::<Result<_, String>>()?,
            content_type: self.content_type.clone(),
            size: usize_clamped(size),
        })
    }
}

/// The verdict on a captured publish, with everything that a reader wants to know of it.
fn judged(config: &Config, captured: &Captured, context: &Context<'_>) -> Result<Report, String> {
    let header = ContentHeader::parse(&captured.header).map_err(|e| format!("content header: {e}"))?;
    let limits = BodyLimits {
        decompressed_bytes: usize_clamped(config.limits.decompressed_bytes),
        ratio: usize_clamped(config.limits.decompressed_ratio),
        ..BodyLimits::default()
    };
    let (exchange, routing_key) = (captured.exchange.as_slice(), captured.routing_key.as_slice());
    let body = [captured.body.as_slice()];
    let reading = read(&Publish { exchange, routing_key, header: &header, body: &body }, &limits);
    let task = match &reading {
        Reading::Task(task) => Some(task),
        Reading::NotTask(_) | Reading::Unreadable(_) => None,
    };
    let message = Message { exchange, routing_key, header: &header, task };
    let verdict = config.policy.judge(&mut Memo::new(), context, &message);
    let enforced = config.policy.judge_enforced(&mut Memo::new(), context, &message);
    let means = Means { limits, ..Means::default() };
    let edited = edit(&verdict.edits, &message, &captured.header, &body, &means)
        .map_err(|e| format!("header table: {e}"))?;
    let (verdict, enforced, edited) = (&verdict, &enforced, &edited);
    Ok(Report::new(
        config,
        &Findings { captured, reading: &reading, message: &message, verdict, enforced, edited },
    ))
}

fn message(path: &Path) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(MESSAGE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MESSAGE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}

/// An ISO date, or a span from now.
fn when(text: &str, now: i64) -> Option<i64> {
    let span = |text: &str| i64::try_from(crate::config::duration(text)?.as_micros()).ok();
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(later), _) => now.checked_add(span(later)?),
        (_, Some(earlier)) => now.checked_sub(span(earlier)?),
        _ => Some(time::parse(text.as_bytes())?.unix_micros),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command on the top floor: nobody else has a clock to lend it"
)]
fn clock() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|d| i64::try_from(d.as_micros()).ok()).unwrap_or(0)
}
