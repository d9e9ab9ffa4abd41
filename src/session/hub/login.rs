//! Links logging in: probes, logins tried for a client, pooled links, and pinned ones with the client's own properties (SPEC L1, L4, T7).

use std::borrow::Cow;
use std::rc::Rc;

use super::Hub;
use super::link::Words;
use crate::session::client::State;
use crate::session::learned::Learned;
use crate::session::settings::shortened;
use crate::session::upstream::{Facts, LinkState, LinkUse, UpstreamState};
use crate::session::{LinkId, Now, SessionId, UpstreamId};
use crate::wire::frame::{FRAME_MIN_SIZE, FRAME_OVERHEAD};
use crate::wire::method::{self, MethodId, MethodWriter, Tune};
use crate::wire::num::usize_of;
use crate::wire::{Reader, Table};

/// The frame_max that we ask of an upstream at most, and at least (RabbitMQ from 4.1 refuses less than 8192).
const FRAME_MAX_ASKED: u32 = 131_072;
const FRAME_MAX_LEAST: u32 = 8192;

/// A start-ok's octets besides its properties, mechanism and response: the frame's, two ids, the lengths, a locale.
const START_OK_OVERHEAD: usize = FRAME_OVERHEAD + 4 + 4 + 1 + 4 + 1 + 32;

impl Hub {
    /// To be called once before anything else: asks every upstream what it is.
    pub fn start(&mut self, now: Now) {
        for index in 0..self.upstreams.len() {
            self.probe_upstream(now, UpstreamId(index));
        }
    }

    pub(super) fn probe_upstream(&mut self, now: Now, upstream: UpstreamId) {
        let Some(u) = self.upstreams.get_mut(upstream.0) else { return };
        if u.probing {
            return;
        }
        u.probing = true;
        let properties = Rc::clone(&self.our_properties);
        self.dial(now, upstream, LinkUse::Probe, None, Rc::from(&[][..]), properties);
    }

    /// A client has come and nothing is known of its upstream.
    pub(super) fn probe(&mut self, now: Now, sid: SessionId) {
        if let Some(upstream) = self.sessions.get(sid.0).map(|s| s.upstream) {
            self.probe_upstream(now, upstream);
        }
    }

    /// Probes that are due, while nothing is known, or what is known is in doubt: from `tick`.
    pub(super) fn probe_again(&mut self, now: Now) {
        for index in 0..self.upstreams.len() {
            let due = self
                .upstreams
                .get(index)
                .is_some_and(|u| !u.probing && u.asks_again() && now.ms >= u.probe_at_ms);
            if due {
                self.probe_upstream(now, UpstreamId(index));
            }
        }
    }

    pub(super) fn probe_ended(&mut self, now: Now, upstream: UpstreamId, why: &str) {
        let random = self.random();
        let Some(u) = self.upstreams.get_mut(upstream.0) else { return };
        u.probing = false;
        u.probe_attempt = u.probe_attempt.saturating_add(1);
        u.probe_at_ms = now.ms + u.settings.retry.wait_ms(u.probe_attempt, random).max(200);
        if u.facts.is_none() {
            u.facts = u.recalled.take();
        }
        let known = u.facts.is_some();
        let urls: Vec<String> = u.settings.urls.iter().map(ToString::to_string).collect();
        let name = Rc::clone(&u.settings.name);
        let waiting: Vec<usize> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.state == State::Probing && s.upstream == upstream)
            .map(|(i, _)| i)
            .collect();
        for id in waiting {
            let sid = SessionId(id);
            if !known {
                if let Some(s) = self.sessions.get_mut(id) {
                    s.doomed = Some(format!("upstream '{name}' at {} ({why})", urls.join(", ")).into());
                }
            }
            self.send_start(sid);
            self.actions.push_back(super::Action::Resume(sid));
        }
    }

    /// Tries a client's credentials on a link that becomes pooled.
    pub(super) fn verify(&mut self, now: Now, sid: SessionId, vhost: Option<Rc<[u8]>>) {
        let Some(s) = self.sessions.get(sid.0) else { return };
        let upstream = s.upstream;
        let credentials = self.login_at(sid, upstream);
        let properties = Rc::clone(&self.our_properties);
        let named = vhost.is_some();
        let lid = self.dial(
            now,
            upstream,
            LinkUse::Verify(sid),
            credentials,
            vhost.unwrap_or_else(|| Rc::from(&[][..])),
            properties,
        );
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.verify = Some(lid);
        }
        let _ = named;
    }

    /// The client has named its vhost while its login stands.
    pub(super) fn verify_vhost(&mut self, now: Now, lid: LinkId) {
        let Some(link) = self.links.get_mut(lid.0) else { return };
        if let LinkUse::Verify(sid) = link.used {
            if let Some(s) = self.sessions.get(sid.0) {
                link.vhost = Rc::clone(&s.vhost);
            }
        }
        if link.state == LinkState::Vhost {
            self.say_vhost(now, lid);
        }
    }

    fn say_vhost(&mut self, now: Now, lid: LinkId) {
        let Some(link) = self.links.get_mut(lid.0) else { return };
        link.state = LinkState::OpenOk;
        link.deadline_ms =
            now.ms + self.upstreams.get(link.upstream.0).map_or(5000, |u| u.settings.connect_timeout_ms);
        let vhost = Rc::clone(&link.vhost);
        self.link_push(
            lid,
            0,
            &MethodWriter::new(MethodId::CONNECTION_OPEN).shortstr(&vhost).shortstr(b"").octet(0).done(),
        );
    }

    /// net has connected a link.
    pub fn dialed(&mut self, now: Now, lid: LinkId) {
        let Some(link) = self.links.get_mut(lid.0) else { return };
        if link.state != LinkState::Dialing {
            self.actions.push_back(super::Action::HangUpLink(lid));
            return;
        }
        link.state = LinkState::Start;
        link.rx_ms = now.ms;
        link.tx_ms = now.ms;
        self.link_push_raw(lid, b"AMQP\x00\x00\x09\x01");
    }

    /// A method on channel 0 of a link.
    pub(super) fn link_method(
        &mut self,
        now: Now,
        lid: LinkId,
        id: MethodId,
        args: Reader<'_>,
        payload: &[u8],
    ) {
        let Some(link) = self.links.get(lid.0) else { return };
        let used = link.used;
        match (link.state, id) {
            (LinkState::Start, MethodId::CONNECTION_START) => self.upstream_starts(now, lid, args),
            (LinkState::Tune, MethodId::CONNECTION_TUNE) => match method::tune(args) {
                Ok(tune) => self.upstream_tunes(now, lid, tune),
                Err(_) => self.link_failed(now, lid, "connection.tune ends early"),
            },
            (LinkState::OpenOk, MethodId::CONNECTION_OPEN_OK) => self.link_up(now, lid),
            (_, MethodId::CONNECTION_CLOSE) => {
                self.link_push(lid, 0, &MethodWriter::new(MethodId::CONNECTION_CLOSE_OK).done());
                let words: Option<Words> = method::close(args)
                    .ok()
                    .map(|c| (c.code, String::from_utf8_lossy(c.text).into_owned(), c.cause));
                let why = words.as_ref().map_or_else(String::new, |w| format!("{} {}", w.0, w.1));
                self.bury(now, lid, &format!("closed by the upstream: {why}"), words);
                self.actions.push_back(super::Action::HangUpLink(lid));
            }
            (LinkState::Closing, _) => {}
            (LinkState::Up, MethodId::CONNECTION_CLOSE_OK) => self.pinned_close_ok(now, lid),
            (LinkState::Up, MethodId::CONNECTION_BLOCKED) => self.blocked(lid, used, payload, true),
            (LinkState::Up, MethodId::CONNECTION_UNBLOCKED) => self.blocked(lid, used, payload, false),
            (LinkState::Up, MethodId::CONNECTION_UPDATE_SECRET_OK) => {
                if let LinkUse::Pinned(sid) = used {
                    self.client_push(sid, 0, payload);
                }
            }
            (_, MethodId::CONNECTION_SECURE) => {
                self.link_failed(now, lid, "the mechanism asks for a second round")
            }
            _ => self.link_failed(now, lid, &format!("unexpected {} from the upstream", id.name())),
        }
    }

    fn upstream_starts(&mut self, now: Now, lid: LinkId, args: Reader<'_>) {
        let Ok(start) = method::start(args) else {
            self.link_failed(now, lid, "connection.start ends early");
            return;
        };
        let Some(link) = self.links.get_mut(lid.0) else { return };
        let upstream = link.upstream;
        if let Some(u) = self.upstreams.get_mut(upstream.0) {
            let tune = u.facts.as_ref().or(u.recalled.as_ref()).and_then(|f| f.tune);
            let facts = Facts {
                server_properties: start.server_properties.into(),
                mechanisms: start.mechanisms.into(),
                locales: start.locales.into(),
                tune,
            };
            if u.facts.as_ref() != Some(&facts) {
                let upstream = Rc::clone(&u.settings.name);
                self.lessons.learn(|| Learned::Upstream { upstream, facts: facts.clone() });
            }
            u.facts = Some(facts);
            u.state = UpstreamState::Up;
            u.doubted = false;
            u.last_error = None;
            u.probe_attempt = 0;
        }
        if link.used == LinkUse::Probe {
            // Its duty is done: an expected end, not a death.
            link.state = LinkState::Closing;
            self.bury(now, lid, "probed", None);
            self.abandon_link(lid);
            return;
        }
        let Some(credentials) = link.credentials.clone() else {
            self.link_failed(now, lid, "no credentials to log in with");
            return;
        };
        link.state = LinkState::Tune;
        let taken = START_OK_OVERHEAD + credentials.mechanism.len() + credentials.response.0.len();
        let properties = fitting(&link.properties, usize_of(FRAME_MIN_SIZE).saturating_sub(taken));
        let locale = start.locales.split(|&b| b == b' ').next().unwrap_or(b"en_US");
        let payload = MethodWriter::new(MethodId::CONNECTION_START_OK)
            .longstr(&properties)
            .shortstr(&credentials.mechanism)
            .longstr(&credentials.response.0)
            .shortstr(locale)
            .done();
        self.link_push(lid, 0, &payload);
    }

    fn upstream_tunes(&mut self, now: Now, lid: LinkId, theirs: Tune) {
        let Some(link) = self.links.get_mut(lid.0) else { return };
        let upstream = link.upstream;
        let Some(u) = self.upstreams.get_mut(upstream.0) else { return };
        if let Some(facts) = u.facts.as_mut().filter(|f| f.tune != Some(theirs)) {
            facts.tune = Some(theirs);
            let upstream = Rc::clone(&u.settings.name);
            self.lessons.learn(|| Learned::Upstream { upstream, facts: facts.clone() });
        }
        let client_frame_max = match link.used {
            LinkUse::Pinned(sid) => self.sessions.get(sid.0).map_or(0, |s| s.frame_max),
            _ => 0,
        };
        let wanted = if client_frame_max == 0 { FRAME_MAX_ASKED } else { client_frame_max };
        let wanted = if theirs.frame_max == 0 { wanted } else { wanted.min(theirs.frame_max) };
        let heartbeat = match (theirs.heartbeat, u.settings.heartbeat_s) {
            (theirs, 0) => theirs,
            (0, ours) => ours,
            (theirs, ours) => theirs.min(ours),
        };
        let at_least =
            if theirs.frame_max == 0 { FRAME_MAX_LEAST } else { FRAME_MAX_LEAST.min(theirs.frame_max) };
        link.tune = Tune { channel_max: theirs.channel_max, frame_max: wanted.max(at_least), heartbeat };
        link.state = LinkState::Vhost;
        let (tune, used, credentials) = (link.tune, link.used, link.credentials.clone());
        self.link_push(lid, 0, &method::write_tune(MethodId::CONNECTION_TUNE_OK, tune));
        if let Some(credentials) = credentials {
            self.login_worked(now, upstream, &credentials, None);
        }
        match used {
            LinkUse::Verify(sid) => match self.sessions.get(sid.0).map(|s| s.state) {
                Some(State::Verifying) => {
                    self.counters.logins_accepted += 1;
                    self.send_tune(sid);
                    self.actions.push_back(super::Action::Resume(sid));
                }
                Some(State::Opening) => self.verify_vhost(now, lid),
                _ => self.link_failed(now, lid, "its client is gone"),
            },
            _ => self.say_vhost(now, lid),
        }
    }

    fn link_up(&mut self, now: Now, lid: LinkId) {
        let jitter = self.random();
        let Some(link) = self.links.get_mut(lid.0) else { return };
        let (upstream, used) = (link.upstream, link.used);
        link.state = LinkState::Up;
        link.since_ms = now.ms;
        link.deadline_ms = u64::MAX;
        let vhost = Rc::clone(&link.vhost);
        let Some(credentials) = link.credentials.clone() else { return };
        let Some(u) = self.upstreams.get_mut(upstream.0) else { return };
        u.state = UpstreamState::Up;
        u.opened += 1;
        let settings = Rc::clone(&u.settings);
        self.login_worked(now, upstream, &credentials, Some(&vhost));
        let lifetime_ms = shortened(settings.link_lifetime_ms, settings.link_lifetime_jitter_percent, jitter);
        let retire_at_ms = now.ms + lifetime_ms;
        match used {
            LinkUse::Pinned(sid) => self.pin_up(now, sid, lid),
            LinkUse::Pooled(pool) => {
                self.renew_logins(now, lid);
                if let Some(link) = self.links.get_mut(lid.0) {
                    link.retire_at_ms = retire_at_ms;
                }
                if let Some(p) = self.pools.get_mut(pool.0) {
                    p.refused = false;
                    p.idle_since_ms = now.ms;
                }
                self.serve(now, pool);
            }
            LinkUse::Verify(sid) => {
                self.renew_logins(now, lid);
                let pool = self.pool_for(now, upstream, &vhost, &credentials);
                let room = self.pools.get(pool.0).is_some_and(|p| p.links.len() < settings.links);
                if room {
                    if let Some(link) = self.links.get_mut(lid.0) {
                        link.used = LinkUse::Pooled(pool);
                        link.retire_at_ms = retire_at_ms;
                    }
                    if let Some(p) = self.pools.get_mut(pool.0) {
                        p.links.push(lid);
                        p.refused = false;
                        p.idle_since_ms = now.ms;
                    }
                } else {
                    // Others were quicker: the pool has what it may have.
                    self.abandon_link(lid);
                }
                if let Some(s) = self.sessions.get_mut(sid.0) {
                    s.verify = None;
                }
                if self.sessions.get(sid.0).is_some_and(|s| s.state == State::Opening) {
                    self.open_ok(now, sid, pool);
                }
                self.serve(now, pool);
            }
            LinkUse::Probe | LinkUse::Dead => {}
        }
    }
}

/// As many of a table's entries as have room, what a broker acts upon first: until it is tuned, RabbitMQ up to 4.0 takes frames of
/// 4,096 octets and hangs up over a longer one, and a token or what a client tells of itself may be nearly as long.
fn fitting(properties: &[u8], room: usize) -> Cow<'_, [u8]> {
    if properties.len() <= room {
        return Cow::Borrowed(properties);
    }
    let entries: Vec<_> = Table::new(properties).entries().map_while(Result::ok).collect();
    let matters = |name: &[u8]| matches!(name, b"capabilities" | b"connection_name" | b"product");
    let mut kept = Vec::new();
    for first in [true, false] {
        for entry in entries.iter().filter(|e| matters(e.name) == first) {
            let bytes = properties.get(entry.range.clone()).unwrap_or(&[]);
            if kept.len() + bytes.len() <= room {
                kept.extend_from_slice(bytes);
            }
        }
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_acts_upon_stays_where_not_everything_fits() {
        let mut table = Vec::new();
        for name in [&b"platform"[..], b"capabilities", b"note"] {
            table.push(u8::try_from(name.len()).unwrap());
            table.extend_from_slice(name);
            table.extend_from_slice(b"S\0\0\0\x04text");
        }
        let names = |room| {
            let kept = fitting(&table, room).into_owned();
            assert!(kept.len() <= room);
            Table::new(&kept)
                .entries()
                .map(|e| String::from_utf8(e.unwrap().name.to_vec()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(table.len()), ["platform", "capabilities", "note"]);
        assert_eq!(names(40), ["capabilities", "platform"]);
        assert_eq!(names(36), ["capabilities", "note"]);
        assert_eq!(names(3), Vec::<String>::new());
    }
}
