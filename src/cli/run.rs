//! `umbel run`: log, configuration, sockets, admin, data thread, wait.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::EXIT_CONFIG;
use crate::admin::{AdminState, Recent, StatusSource};
use crate::config::{Log, LogFormat};
use crate::metrics::Metrics;
use crate::net::{Handed, LoadError, Serve, bind, load, serve};

/// Runs the proxy until SIGTERM or SIGINT, then drains.
pub fn run(path: Option<&Path>) -> ExitCode {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            let file = path.map_or_else(|| "defaults".to_owned(), |p| p.display().to_string());
            match &error {
                LoadError::Problems(problems) => eprintln!("{}", problems.in_file(&file)),
                LoadError::Unreadable(why) => eprintln!("{why}"),
            }
            eprintln!("umbel: the configuration cannot be used; nothing was started");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let recent = Recent::new();
    log(&loaded.config.log, recent.clone());
    open_files();
    make_room(loaded.config.limits.preauth_connections);
    let labels = &loaded.config.metrics;
    let metrics = Arc::new(Metrics::with_labels(labels.task_names_max, labels.queue_names_max));
    let listen = &loaded.config.listen;
    let handed = match Handed::take() {
        Ok(handed) => handed,
        Err(error) => {
            tracing::error!(%error, "a socket was handed over (LISTEN_FDS) that cannot be listened on");
            return ExitCode::FAILURE;
        }
    };
    let shared = listen.reuse_port || handed.amqp.is_some();
    let listener = match handed.amqp.map_or_else(|| bind(listen.amqp, listen.reuse_port), Ok) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(address = %listen.amqp, %error, "cannot listen for AMQP");
            return ExitCode::FAILURE;
        }
    };
    let (source, status) = StatusSource::new();
    let mut admin_address = listen.admin;
    if let Some(address) = listen.admin {
        match handed.admin.map_or_else(|| bind(address, false), Ok) {
            Ok(socket) => {
                // The port of `:0` is known now, and a socket that was handed over has an address of its own.
                let address = socket.local_addr().unwrap_or(address);
                admin_address = Some(address);
                tracing::info!(%address, "admin page");
                admin(socket, AdminState::new(Arc::clone(&metrics), source, recent));
            }
            Err(error) => {
                tracing::error!(%address, %error, "cannot listen for the admin page");
                return ExitCode::FAILURE;
            }
        }
    }
    let seed = rand::random();
    match serve(Serve { loaded, metrics, status, seed, listener, admin: admin_address, shared }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot go on");
            ExitCode::FAILURE
        }
    }
}

fn log(log: &Log, recent: Recent) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = match log.format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).with(recent).init();
}

/// As many open files as the system lets us have: every client is one, and the usual soft limit of 1024 is old select()'s.
fn open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(?current, %error, "the limit on open files stays, and with it that on clients");
    }
}

/// What is beyond is room made when they come.
const ROOM_FILES_MAX: u64 = 65_536;

/// Makes room in the kernel's table of our files for as many clients as may come at once. It grows by itself, by doubling; but once we
/// have threads, whoever makes it grow waits for all processors each time, 15 to 100 ms in which nobody is accepted, and clients who
/// find the listener's queue full knock again after a second. It never shrinks, and eight octets a file is what it costs.
/// To be called before there are threads.
fn make_room(files: usize) {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let last = u64::try_from(files).unwrap_or(u64::MAX).min(limit).min(ROOM_FILES_MAX).saturating_sub(1);
    // Any file will do: it is closed again.
    let grown = i32::try_from(last)
        .map_err(std::io::Error::other)
        .and_then(|last| Ok(rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), last)?));
    if let Err(error) = grown {
        tracing::debug!(%error, "room for files is made when they come");
    }
}

/// The admin pages have a thread of their own: a busy data thread is seen, not waited for.
fn admin(socket: std::net::TcpListener, state: AdminState) {
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            if let Ok(listener) = tokio::net::TcpListener::from_std(socket) {
                crate::admin::serve(listener, state, std::future::pending::<()>()).await;
            }
        });
    };
    if let Err(error) = std::thread::Builder::new().name("admin".to_owned()).spawn(serve) {
        tracing::error!(%error, "no thread for the admin page");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn there_is_room_for_clients_before_they_come() {
        let room = || -> usize {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
            size.and_then(|size| size.trim().parse().ok()).unwrap_or(0)
        };
        super::open_files();
        let before = room();
        super::make_room(before * 2);
        assert_eq!(room(), before * 2);
    }
}
