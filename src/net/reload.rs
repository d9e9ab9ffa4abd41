//! Reload: on SIGHUP and when the file changes, symlink swaps included; one atomic swap of one snapshot (SPEC C2).

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::judge::{PolicyJudge, Snapshot};
use super::load::{LoadError, Loaded, load};
use super::thread::Thread;
use crate::config::Config;
use crate::metrics::{Metrics, Reload};
use crate::policy::Mode;
use crate::session::Judge;

/// A file is read this long after its last change: editors write in steps.
const SETTLE: Duration = Duration::from_millis(200);

/// The judge of a configuration that has just been loaded.
pub fn first_judge(loaded: &Loaded, metrics: &Arc<Metrics>, seed: [u8; 32]) -> Box<dyn Judge> {
    let [a, b, c, d, e, f, g, h, ..] = seed;
    let snapshot = Arc::new(Snapshot::new(Arc::clone(&loaded.config)));
    Box::new(PolicyJudge::new(snapshot, Arc::clone(metrics), u64::from_be_bytes([a, b, c, d, e, f, g, h])))
}

/// Whether every rule only observes.
pub fn observes(config: &Config) -> bool {
    config.policy.mode() == Mode::Observe
}

/// One message for every time that the file should be looked at again.
pub fn watch(loaded: &Rc<RefCell<Loaded>>) -> io::Result<mpsc::Receiver<()>> {
    let (tell, told) = mpsc::channel(1);
    let path = loaded.borrow().path.clone();
    let mut hangups = signal(SignalKind::hangup())?;
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let watcher = path.as_deref().and_then(|p| watch_file(p, changed));
    tokio::task::spawn_local(async move {
        let _watcher = watcher;
        loop {
            tokio::select! {
                _ = hangups.recv() => {}
                Some(()) = changes.recv() => {
                    tokio::time::sleep(SETTLE).await;
                    while changes.try_recv().is_ok() {}
                }
            }
            if tell.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(told)
}

/// Watches the folder of the file, and of what it links to: a ConfigMap is swapped by renaming a symlink beside it.
fn watch_file(path: &Path, changed: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|e| !e.kind.is_access()) {
            let _ = changed.try_send(());
        }
    })
    .map_err(|error| tracing::warn!(%error, "the configuration file is not watched; SIGHUP reloads it"))
    .ok()?;
    let mut folders: Vec<PathBuf> = Vec::new();
    for file in [Some(path.to_path_buf()), std::fs::canonicalize(path).ok()].into_iter().flatten() {
        let folder = match file.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
            _ => PathBuf::from("."),
        };
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    for folder in folders {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, folder = %folder.display(), "the configuration's folder is not watched");
        }
    }
    Some(watcher)
}

/// Reads the file again and puts it to use, all or nothing. Why not, if not.
pub fn reload(thread: &Rc<Thread>, loaded: &Rc<RefCell<Loaded>>, seed: [u8; 32]) -> Option<String> {
    let began_us = thread.clock.us();
    let error = exchange(thread, loaded, seed);
    let metrics = &thread.metrics.config;
    metrics.reload_seconds.observe(Duration::from_micros(thread.clock.us().saturating_sub(began_us)), 1);
    metrics.last_successful.set(i64::from(error.is_none()));
    in_force(&loaded.borrow(), &thread.metrics);
    error
}

/// When the configuration in force was read.
pub fn in_force(loaded: &Loaded, metrics: &Metrics) {
    metrics.config.last_success_seconds.set(Duration::from_secs(loaded.at_unix_seconds).as_secs_f64());
}

fn exchange(thread: &Rc<Thread>, loaded: &Rc<RefCell<Loaded>>, seed: [u8; 32]) -> Option<String> {
    let path = loaded.borrow().path.clone()?;
    let metrics = Arc::clone(&thread.metrics);
    match load(Some(&path)) {
        Ok(fresh) => {
            // Everything that can fail is built before the first thing is swapped. Certificates are renewed in files of the same
            // name: they are read again although the configuration is the same.
            let incoming = fresh.config.listen.tls.as_ref().map(super::tls::incoming).transpose();
            let both = incoming.and_then(|i| Ok((i, super::serve::outgoing(&fresh.config)?)));
            let (incoming, tls) = match both {
                Ok(both) => both,
                Err(why) => {
                    metrics.config.reloads.of(Reload::Invalid).inc();
                    tracing::error!(file = %path.display(), %why, "the configuration is not reloaded, nothing has changed");
                    return Some(why);
                }
            };
            *thread.incoming.borrow_mut() = incoming;
            if fresh.hash == loaded.borrow().hash {
                let upstreams = 0..fresh.config.upstreams.len();
                let order: Vec<_> =
                    upstreams.filter_map(|index| thread.hub.borrow().upstream_at(index)).collect();
                thread.set_tls(&order, tls);
                metrics.config.reloads.of(Reload::Unchanged).inc();
                return None;
            }
            let judge = first_judge(&fresh, &metrics, seed);
            let limits = super::settings::limits(&fresh.config);
            let upstreams = super::settings::upstreams(&fresh.config);
            let order = thread.hub.borrow_mut().reconfigure(thread.now(), limits, upstreams);
            thread.hub.borrow_mut().watch_deliveries(judge.watches_deliveries());
            thread.set_tls(&order, tls);
            *thread.judge.borrow_mut() = judge;
            thread.carry_out();
            say_what_stays(&loaded.borrow().config, &fresh.config);
            tracing::info!(file = %path.display(), hash = %fresh.hash, "the configuration is reloaded");
            metrics.config.reloads.of(Reload::Applied).inc();
            *loaded.borrow_mut() = fresh;
            None
        }
        Err(error) => {
            metrics.config.reloads.of(Reload::Invalid).inc();
            let text = match &error {
                LoadError::Problems(problems) => problems.in_file(&path.display().to_string()),
                LoadError::Unreadable(why) => why.clone(),
            };
            tracing::error!(file = %path.display(), "the configuration is not reloaded, nothing has changed:\n{text}");
            Some(text)
        }
    }
}

/// What cannot change while running says so.
fn say_what_stays(before: &Config, after: &Config) {
    for (what, changed) in [
        ("listen.amqp", before.listen.amqp != after.listen.amqp),
        ("listen.admin", before.listen.admin != after.listen.admin),
        ("spool", before.spool != after.spool),
    ] {
        if changed {
            tracing::warn!(key = what, "changed in the file, but it stays as it is until the next start");
        }
    }
}
