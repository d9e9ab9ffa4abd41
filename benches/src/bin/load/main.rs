//! The producers. Every mode logs in first, says `ready`, waits for a line on its standard input, and answers with one line of JSON.
//!
//! publish  as fast as the window lets it · paced  so many a second · latency  one confirmed publish at a time · beside  one a millisecond
//! cycles   connect, publish, close · steady  the same over connections that stay · idle  connections that do nothing
//! storm    everybody connects at once
//!
//! `--message` names a file of encoded publishes on channel 1, all of one length, sent in turn.

mod connections;
mod latency;
mod message;
mod producer;
mod producers;
mod sink;
mod storm;

use std::io::{self, BufRead, Write};

use umbel_bench::args::Args;
use umbel_bench::client::Client;

/// What is offered to the kernel at once, at most.
const WRITE_BYTES: usize = 1024 * 1024;

fn main() {
    let args = Args::from_env(&[
        "mode",
        "to",
        "message",
        "size",
        "connections",
        "count",
        "warm",
        "window",
        "confirm",
        "rate",
        "control",
        "queue",
        "broker",
        "parallel",
        "seconds",
        "publish",
        "write",
    ]);
    let done = match args.text("mode", "publish").as_str() {
        "publish" => producers::publish(&args),
        "paced" => producers::paced(&args),
        "latency" => latency::latency(&args),
        "cycles" => connections::cycles(&args),
        "steady" => connections::steady(&args),
        "idle" => connections::idle(&args),
        "storm" => storm::storm(&args),
        "beside" => latency::beside(&args),
        "prepare" => prepare(&args),
        other => Err(io::Error::other(format!("no mode {other}"))),
    };
    match done {
        Ok(json) => println!("{{{json}}}"),
        Err(e) => {
            println!("{{\"error\": \"{}\"}}", e.to_string().replace('"', "'"));
            std::process::exit(1);
        }
    }
}

/// The runner reads its clocks now.
fn ready() -> io::Result<()> {
    println!("ready");
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(())
}

/// A durable queue that is there and empty.
fn prepare(args: &Args) -> io::Result<String> {
    let mut client = Client::channel(&args.text("to", "127.0.0.1:5672"), false)?;
    let queue = args.text("queue", "bench");
    client.declare(&queue, true)?;
    client.purge(&queue)?;
    Ok("\"ok\": true".to_owned())
}
