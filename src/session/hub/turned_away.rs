//! Logins that are turned away: the client is told as a broker would tell it, and net hears whose login it was (SPEC T3, L4, M3).

use std::net::IpAddr;
use std::rc::Rc;

use super::Hub;
use super::link::Words;
use crate::session::client::State;
use crate::session::{Now, SessionId, UpstreamId};
use crate::wire::method::MethodId;

/// So many wait for net at most; more are a number.
const WAITING_MAX: usize = 64;

/// A client that was not let in. Nothing of its secret is in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnedAway {
    /// Whom it said it is; empty where its login names nobody.
    pub user: Rc<str>,
    /// Who was asked for at the upstream, where the configuration replaces clients' logins.
    pub stood_in: Option<Rc<str>>,
    /// The mechanism's name, as the client sent it.
    pub mechanism: Rc<[u8]>,
    /// Where it came from.
    pub client: IpAddr,
    /// Which upstream it was meant for.
    pub upstream: UpstreamId,
    /// Code and text of the refusal, or what was done without one.
    pub why: String,
}

/// What net has not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Door {
    waiting: Vec<TurnedAway>,
    more: u64,
}

impl Hub {
    /// Who was turned away since the last call, 64 at most, and how many more.
    pub fn turned_away(&mut self) -> (Vec<TurnedAway>, u64) {
        let Door { waiting, more } = std::mem::take(&mut self.door);
        (waiting, more)
    }

    /// A login was refused; net is to hear of it.
    pub(super) fn note_turned_away(&mut self, sid: SessionId, why: impl FnOnce() -> String) {
        if self.door.waiting.len() >= WAITING_MAX {
            self.door.more += 1;
            return;
        }
        let Some(s) = self.sessions.get(sid.0) else { return };
        let Some(own) = &s.credentials else { return };
        let (user, mechanism) = (Rc::clone(&own.user), Rc::clone(&own.mechanism));
        let (client, upstream) = (s.peer, s.upstream);
        let sent = self.login_at(sid, upstream).map(|c| c.user);
        let stood_in = sent.filter(|sent| *sent != user);
        self.door.waiting.push(TurnedAway { user, stood_in, mechanism, client, upstream, why: why() });
    }

    /// The upstream refused a client's login or vhost: told in its own words.
    pub(super) fn login_refused(&mut self, now: Now, sid: SessionId, close: Option<Words>) {
        let (code, text, cause) = close.unwrap_or_else(|| (403, self.refused_text(sid), MethodId::NONE));
        self.note_turned_away(sid, || format!("{code} {text}"));
        self.turn_away(now, sid, code, &text, cause);
    }

    /// `guest` from another host, which would look local to a broker on ours (SPEC S4).
    pub(super) fn remote_guest(&mut self, now: Now, sid: SessionId) {
        self.note_turned_away(sid, || {
            "guest may log in from this host alone (limits.allow_remote_guest)".into()
        });
        let text = self.refused_text(sid);
        self.turn_away(now, sid, 403, &text, MethodId::NONE);
    }

    fn turn_away(&mut self, now: Now, sid: SessionId, code: u16, text: &str, cause: MethodId) {
        self.counters.logins_refused += 1;
        self.counters.connection_errors += 1;
        // RabbitMQ hangs up on clients that have not said they know what a close means at this point.
        let logging_in = |s: &crate::session::client::Session| {
            matches!(s.state, State::StartOk | State::Verifying) && !s.takes_auth_close
        };
        if code == 403 && self.sessions.get(sid.0).is_some_and(logging_in) {
            self.drop_verify(sid);
            self.finish(sid);
            return;
        }
        self.close_client(now, sid, code, text, cause);
    }

    /// Hangs up without a word, as RabbitMQ does on logins that it cannot read or knows no mechanism for.
    pub(super) fn login_dropped(&mut self, sid: SessionId) {
        self.note_turned_away(sid, || {
            "hung up on without a word, as RabbitMQ does on a login that it cannot read".into()
        });
        self.counters.logins_refused += 1;
        self.counters.connection_errors += 1;
        self.drop_verify(sid);
        self.finish(sid);
    }

    /// No upstream could be asked: the client is told, and may come again.
    pub(super) fn login_unreachable(&mut self, now: Now, sid: SessionId, why: &str) {
        if self.ask_memory(sid) {
            return;
        }
        self.counters.logins_unreachable += 1;
        self.counters.connection_errors += 1;
        self.close_client(now, sid, 320, &format!("CONNECTION_FORCED - no upstream: {why}"), MethodId::NONE);
    }

    fn refused_text(&self, sid: SessionId) -> String {
        let own = self.sessions.get(sid.0).and_then(|s| s.credentials.as_ref());
        let mechanism = own.map(|c| String::from_utf8_lossy(&c.mechanism)).unwrap_or_default();
        format!(
            "ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
        )
    }
}
