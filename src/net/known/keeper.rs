//! The thread that keeps what is known: hashes that take long, the book, and its file, written when something has changed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::book::{Book, Declared, Facts, Octets};
use super::file;
use super::verifier::{Login, Verifier};
use crate::net::clock::now_us;

/// How long changes gather before they are written, and how much longer than a write took the next one waits.
const GATHER: Duration = Duration::from_millis(100);
const REST: u32 = 20;
/// Verifiers known by their marks, so that a login that comes back costs nothing.
const MARKS_MAX: usize = 10_000;

/// What the data thread says.
pub(super) enum Ask {
    Learn(Lesson),
    /// Is this login known?
    Recall {
        sid: usize,
        serial: u64,
        login: Login,
    },
    /// Upstreams are there now.
    Places(BTreeMap<String, String>),
    /// The directory is ours: what is known may be written.
    Ours,
}

/// One thing learned.
pub(super) enum Lesson {
    Upstream(String, Facts),
    Accepted { login: Login, vhost: Option<Vec<u8>>, until_us: u64 },
    Refused(Login),
    Declared(String, Declared),
}

/// What is known of a login, for the session that asked: its vhosts, and for how many milliseconds.
pub(super) struct Answer {
    pub(super) sid: usize,
    pub(super) serial: u64,
    pub(super) known: Option<(Vec<Octets>, u64)>,
}

/// See the module.
pub(super) struct Keeper {
    directory: PathBuf,
    book: Book,
    places: BTreeMap<String, String>,
    secret: [u8; 32],
    marks: HashMap<[u8; 32], Verifier>,
    ours: bool,
    /// Not written yet, since then.
    changed: Option<Instant>,
    rests_until: Instant,
    /// The last write failed, and it has been said.
    failing: bool,
}

impl Keeper {
    #[expect(clippy::disallowed_methods, reason = "net is where clocks are read")]
    pub(super) fn new(directory: &Path, book: Book, places: BTreeMap<String, String>) -> Self {
        Self {
            directory: directory.to_owned(),
            book,
            places,
            secret: rand::random(),
            marks: HashMap::new(),
            ours: false,
            changed: None,
            rests_until: Instant::now(),
            failing: false,
        }
    }

    /// Until nobody is there to ask; what has changed is written then.
    #[expect(clippy::disallowed_methods, reason = "net is where clocks are read")]
    pub(super) fn run(mut self, asks: &Receiver<Ask>, answers: &SyncSender<Answer>, news: &Arc<Notify>) {
        loop {
            match asks.recv_timeout(GATHER) {
                Ok(Ask::Learn(lesson)) => {
                    if self.learn(lesson) {
                        self.changed.get_or_insert_with(Instant::now);
                    }
                }
                Ok(Ask::Recall { sid, serial, login }) => {
                    let known = self.recall(&login);
                    if answers.send(Answer { sid, serial, known }).is_err() {
                        break;
                    }
                    news.notify_one();
                }
                Ok(Ask::Places(places)) => self.places = places,
                Ok(Ask::Ours) if self.ours => {}
                Ok(Ask::Ours) => self.own(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if self.changed.is_some_and(|at| now >= at + GATHER) && now >= self.rests_until {
                self.write();
            }
        }
        if self.changed.is_some() {
            self.write();
        }
    }

    /// The directory is ours. A predecessor may have written since this life began.
    fn own(&mut self) {
        self.ours = true;
        if let Ok(Some(mut last)) = file::read(&self.directory) {
            last.keep(&self.places, now_us());
            if self.book.salt == last.salt {
                self.book.merge(last);
            }
        }
    }

    /// Whether the book has changed.
    fn learn(&mut self, lesson: Lesson) -> bool {
        match lesson {
            Lesson::Upstream(name, facts) => {
                let Some(place) = self.places.get(&name) else { return false };
                self.book.told(&name, place, facts);
                true
            }
            Lesson::Accepted { login, vhost, until_us } => {
                let Some(verifier) = self.verifier(&login) else { return false };
                let Some(place) = self.places.get(&login.upstream) else { return false };
                self.book.accepted((&login.upstream, place), &login.user, &verifier, vhost, until_us);
                true
            }
            Lesson::Refused(login) => {
                self.book.may_know(&login)
                    && self
                        .verifier(&login)
                        .is_some_and(|v| self.book.refused(&login.upstream, &login.user, &v))
            }
            Lesson::Declared(name, declared) => {
                let Some(place) = self.places.get(&name) else { return false };
                self.book.declared(&name, place, declared)
            }
        }
    }

    fn recall(&mut self, login: &Login) -> Option<(Vec<Octets>, u64)> {
        if !self.book.may_know(login) {
            return None;
        }
        let verifier = self.verifier(login)?;
        let now_us = now_us();
        let known = self.book.recall(&login.upstream, &login.user, &verifier, now_us)?;
        Some((known.vhosts.clone(), known.until_us.saturating_sub(now_us) / 1000))
    }

    fn verifier(&mut self, login: &Login) -> Option<Verifier> {
        let mark = login.mark(&self.secret);
        if let Some(verifier) = self.marks.get(&mark) {
            return Some(*verifier);
        }
        let verifier = login.verifier(&self.book.salt.0)?;
        if self.marks.len() >= MARKS_MAX {
            self.marks.clear();
        }
        self.marks.insert(mark, verifier);
        Some(verifier)
    }

    #[expect(clippy::disallowed_methods, reason = "net is where clocks are read")]
    fn write(&mut self) {
        if !self.ours {
            return;
        }
        let began = Instant::now();
        let written = file::write(&self.directory, &self.book);
        let took = began.elapsed();
        self.rests_until = Instant::now() + took * REST;
        match written {
            Ok(()) => {
                self.changed = None;
                self.failing = false;
            }
            Err(error) => {
                self.rests_until += Duration::from_secs(1);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "what is known cannot be written beside the spool; it is tried again");
                }
            }
        }
    }
}
