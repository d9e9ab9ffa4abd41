//! Clients' own links that their upstream has ended for what the client did: no upstream is lost by it (SPEC T5, M3).

use std::net::IpAddr;
use std::rc::Rc;

use super::Hub;
use super::link::Words;
use crate::session::{SessionId, UpstreamId};

/// Reply codes from here on blame the client (AMQP 0-9-1 §1.8); 320 is an operator's doing, or the broker's own end.
const CLIENTS_FAULT: u16 = 500;

/// The last of those that an upstream has parted with, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parted {
    /// Whom it logged in as.
    pub user: Rc<str>,
    /// Where it came from.
    pub client: IpAddr,
    /// Who ended it.
    pub upstream: UpstreamId,
    /// Code and text, in the upstream's words.
    pub why: String,
    /// How many since the last call, this one included.
    pub times: u64,
}

/// Whether a broker's words are about the client whose link it was.
pub(super) fn blames_its_client(words: Option<&Words>) -> bool {
    words.is_some_and(|(code, ..)| *code >= CLIENTS_FAULT)
}

impl Hub {
    /// Whose own link was ended for the client's own fault since the last call.
    pub fn parted(&mut self) -> Option<Parted> {
        self.parted.take()
    }

    /// An upstream has ended a client's own link and says whose fault it was; net is to hear of it.
    pub(super) fn note_parted(&mut self, sid: SessionId, words: &Words) {
        let times = self.parted.take().map_or(0, |p| p.times).saturating_add(1);
        let Some(s) = self.sessions.get(sid.0) else { return };
        let user = s.credentials.as_ref().map_or_else(Rc::default, |c| Rc::clone(&c.user));
        let why = format!("{} {}", words.0, words.1);
        self.parted = Some(Parted { user, client: s.peer, upstream: s.upstream, why, times });
    }
}
