//! What is known when we start again while no upstream can be asked: kept in one small file beside the spool (SPEC L4, D4).
//!
//! ```text
//! Hub ── what it has learned, ten times a second ──▶ ┌─ a thread of its own ───────────────┐
//!     ── Recall: is this login known? ─────────────▶ │ slow hashes, the book, its file      │
//!     ◀── yes, on these vhosts; or no ────────────── └──────────────────────────────────────┘
//! ```
//! A login is kept as a slow salted hash, never as itself. Who wants to be recalled pays for one hash, one after the other; users of
//! whom nothing is kept cost none.

mod book;
mod file;
mod keeper;
mod verifier;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustc_hash::FxHashSet;
use tokio::sync::Notify;

use super::thread::Thread;
use crate::config::Config;
use crate::session::{Credentials, Declaration, Facts, Hub, Learned, Recalled, SessionId};
use crate::wire::method::Tune;
use book::{Book, Octets};
use keeper::{Answer, Ask, Keeper, Lesson};
use verifier::Login;

/// Questions and news that wait at most; what is over it is learned again at another time.
const ASKS_MAX: usize = 1024;
/// Answers that wait at most: no more than sessions ask at a time.
const ANSWERS_MAX: usize = 4096;

/// The data thread's end.
#[derive(Debug)]
pub struct Memory {
    asks: Option<SyncSender<Ask>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

/// Where each upstream is, by name.
pub fn places(config: &Config) -> BTreeMap<String, String> {
    let place = |u: &crate::config::Upstream| {
        let urls: Vec<String> = u.urls.iter().map(|url| format!("{}:{}", url.host, url.port)).collect();
        (u.name.clone(), urls.join(" "))
    };
    config.upstreams.iter().map(place).collect()
}

fn login(upstream: &str, credentials: &Credentials) -> Login {
    Login {
        upstream: upstream.to_owned(),
        user: credentials.user.to_string(),
        mechanism: credentials.mechanism.to_vec(),
        response: credentials.response.0.to_vec(),
    }
}

impl Memory {
    /// Reads what an earlier life has left in the spool's directory, tells it to a Hub that has not started, and keeps what that learns.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn begin(
        directory: &Path,
        places: BTreeMap<String, String>,
        hub: &mut Hub,
        news: Arc<Notify>,
    ) -> std::io::Result<Self> {
        let mut book = match file::read(directory) {
            Ok(book) => book.unwrap_or_else(|| Book::new(rand::random())),
            Err(why) => {
                tracing::warn!(%why, "what was known before this start is lost (`known` in the spool's directory): until an upstream has been asked, nobody new can log in");
                Book::new(rand::random())
            }
        };
        book.keep(&places, super::clock::now_us());
        tell(&book, hub);
        let (asks, inbox) = sync_channel(ASKS_MAX);
        let (outbox, answers) = sync_channel(ANSWERS_MAX);
        let keeper = Keeper::new(directory, book, places);
        let thread = std::thread::Builder::new()
            .name("known".into())
            .spawn(move || keeper.run(&inbox, &outbox, &news))?;
        Ok(Self { asks: Some(asks), answers, thread: Some(thread) })
    }

    /// What the Hub has learned since is kept; `ours`: whether the directory is.
    pub fn tick(&self, hub: &mut Hub, ours: bool) {
        let Some(asks) = &self.asks else { return };
        for lesson in hub.take_learned() {
            let _ = asks.try_send(Ask::Learn(owned(lesson)));
        }
        if ours {
            let _ = asks.try_send(Ask::Ours);
        }
    }

    /// The configuration has changed.
    pub fn moved(&self, places: BTreeMap<String, String>) {
        if let Some(asks) = &self.asks {
            let _ = asks.try_send(Ask::Places(places));
        }
    }

    /// Asks about a client's login; whether it will be answered.
    pub fn recall(&self, sid: SessionId, serial: u64, upstream: &str, credentials: &Credentials) -> bool {
        let ask = Ask::Recall { sid: sid.0, serial, login: login(upstream, credentials) };
        self.asks.as_ref().is_some_and(|asks| asks.try_send(ask).is_ok())
    }

    /// Answers that have come, told to the Hub.
    pub fn poll(&self, thread: &Rc<Thread>) {
        while let Ok(answer) = self.answers.try_recv() {
            let known = answer.known.map(|(vhosts, for_ms)| Recalled {
                vhosts: vhosts.into_iter().map(|v| v.0.into()).collect(),
                for_ms,
            });
            let sid = SessionId(answer.sid);
            thread.hub.borrow_mut().recalled(thread.now(), sid, answer.serial, known);
        }
    }
}

impl Drop for Memory {
    /// What has been learned is on disk when this returns.
    fn drop(&mut self) {
        drop(self.asks.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of what is known has panicked");
        }
    }
}

/// The book told to a Hub.
fn tell(book: &Book, hub: &mut Hub) {
    let (mut upstreams, mut users, mut declared) = (Vec::new(), FxHashSet::default(), Vec::new());
    for (name, chapter) in &book.upstreams {
        let name: Rc<str> = name.as_str().into();
        users.extend(chapter.logins.iter().map(|l| (Rc::clone(&name), Rc::from(l.user.as_str()))));
        declared.extend(chapter.declared.iter().map(|d| Declaration {
            upstream: Rc::clone(&name),
            vhost: d.vhost.0.as_slice().into(),
            user: d.user.as_str().into(),
            payload: d.payload.0.as_slice().into(),
            reply: d.reply.0.as_slice().into(),
        }));
        if let Some(facts) = &chapter.facts {
            let tune = |(channel_max, frame_max, heartbeat)| Tune { channel_max, frame_max, heartbeat };
            upstreams.push((
                name,
                Facts {
                    server_properties: facts.server_properties.0.as_slice().into(),
                    mechanisms: facts.mechanisms.0.as_slice().into(),
                    locales: facts.locales.0.as_slice().into(),
                    tune: facts.tune.map(tune),
                },
            ));
        }
    }
    hub.recollect(upstreams, users, declared);
}

/// What was learned, without what only the data thread may hold.
fn owned(lesson: Learned) -> Lesson {
    let octets = |bytes: &[u8]| Octets(bytes.to_vec());
    match lesson {
        Learned::Upstream { upstream, facts } => Lesson::Upstream(
            upstream.to_string(),
            book::Facts {
                server_properties: octets(&facts.server_properties),
                mechanisms: octets(&facts.mechanisms),
                locales: octets(&facts.locales),
                tune: facts.tune.map(|t| (t.channel_max, t.frame_max, t.heartbeat)),
            },
        ),
        Learned::Accepted { upstream, credentials, vhost, for_ms } => Lesson::Accepted {
            login: login(&upstream, &credentials),
            vhost: vhost.map(|v| v.to_vec()),
            until_us: super::clock::now_us().saturating_add(for_ms.saturating_mul(1000)),
        },
        Learned::Refused { upstream, credentials } => Lesson::Refused(login(&upstream, &credentials)),
        Learned::Declared(d) => Lesson::Declared(
            d.upstream.to_string(),
            book::Declared {
                vhost: octets(&d.vhost),
                user: d.user.to_string(),
                payload: octets(&d.payload),
                reply: octets(&d.reply),
            },
        ),
    }
}
