//! How a client may log in, and what stands for its login upstream: mechanisms are offered only where they can work (SPEC L4, S3, S4).

use super::Hub;
use crate::session::client::{Gate, State};
use crate::session::upstream::UpstreamState;
use crate::session::{Credentials, Now, Refusal, SessionId, UpstreamId};
use crate::wire::method::{self, MethodId, MethodWriter};
use crate::wire::table::{Table, Value, check_table};

/// Mechanisms of one round whose response is the client's own: they can be relayed. Others (RABBIT-CR-DEMO, …) ask back.
const RELAYED: [&[u8]; 2] = [b"PLAIN", b"AMQPLAIN"];
/// RabbitMQ 4's: whoever comes is the broker's own `guest`, or whom it has configured.
const ANONYMOUS: &[u8] = b"ANONYMOUS";
const EXTERNAL: &[u8] = b"EXTERNAL";

impl Hub {
    /// A client has shown a certificate, and this is whom it names: EXTERNAL may log in with it.
    pub fn certified(&mut self, sid: SessionId, name: &str) {
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.certified = Some(name.into());
        }
    }

    /// connection.start with the upstream's own properties: Celery reads product and capabilities from them.
    pub(super) fn send_start(&mut self, sid: SessionId) {
        let mechanisms = self.offered(sid).join(&b' ');
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        s.state = State::StartOk;
        s.gate = Gate::Open;
        let facts = self.upstreams.get(s.upstream.0).and_then(|u| u.facts.as_ref());
        let (properties, locales): (&[u8], &[u8]) =
            facts.map_or((&[], b"en_US"), |f| (&f.server_properties, &f.locales));
        let payload = MethodWriter::new(MethodId::CONNECTION_START)
            .octet(0)
            .octet(9)
            .longstr(properties)
            .longstr(&mechanisms)
            .longstr(locales)
            .done();
        self.client_push(sid, 0, &payload);
    }

    /// What a client may log in with, in the broker's order: what we can relay, or, where its login is replaced, what we can read.
    fn offered(&self, sid: SessionId) -> Vec<&[u8]> {
        let Some(s) = self.sessions.get(sid.0) else { return Vec::new() };
        let Some(u) = self.upstreams.get(s.upstream.0) else { return Vec::new() };
        let theirs: &[u8] = match &u.facts {
            Some(f) if u.settings.credentials.is_none() => &f.mechanisms,
            _ => b"PLAIN AMQPLAIN",
        };
        let local = s.peer.to_canonical().is_loopback() || self.limits.allow_remote_guest;
        let relayed = |m: &&[u8]| RELAYED.contains(m) || (*m == ANONYMOUS && local);
        let mut offered: Vec<&[u8]> = theirs.split(|&b| b == b' ').filter(relayed).collect();
        if s.certified.is_some() && self.lets_in_by_certificate(s.upstream) {
            offered.push(EXTERNAL);
        }
        offered
    }

    /// Whether an upstream has a login of its own for those who come with a certificate, and the broker takes it.
    fn lets_in_by_certificate(&self, upstream: UpstreamId) -> bool {
        let Some(u) = self.upstreams.get(upstream.0) else { return false };
        let Some(own) = &u.settings.own else { return false };
        u.facts.as_ref().is_none_or(|f| f.mechanisms.split(|&b| b == b' ').any(|m| m == &*own.mechanism))
    }

    /// The login that stands for a client at an upstream: the configured one; the upstream's own for who came with a certificate
    /// (EXTERNAL is never passed on: ours would be the certificate that the broker sees); else the client's.
    pub(super) fn login_at(&self, sid: SessionId, upstream: UpstreamId) -> Option<Credentials> {
        let settings = &self.upstreams.get(upstream.0)?.settings;
        let theirs = self.sessions.get(sid.0)?.credentials.as_ref();
        match &settings.credentials {
            Some(configured) => Some(configured.clone()),
            None if theirs.is_some_and(|c| &*c.mechanism == EXTERNAL) => settings.own.clone(),
            None => theirs.cloned(),
        }
    }

    pub(super) fn start_ok(
        &mut self,
        now: Now,
        sid: SessionId,
        start_ok: method::StartOk<'_>,
    ) -> Result<(), Refusal> {
        check_table(start_ok.client_properties, &self.limits.table)
            .map_err(|e| Refusal::connection(502, e.to_string(), MethodId::CONNECTION_START_OK))?;
        let is_offered = self.offered(sid).contains(&start_ok.mechanism);
        let Some(s) = self.sessions.get_mut(sid.0) else { return Ok(()) };
        let capabilities = Table::new(start_ok.client_properties).get(b"capabilities");
        let capability = |name: &[u8]| match capabilities {
            Some(Value::Table(t)) => t.get(name).and_then(|v| v.bool()) == Some(true),
            _ => false,
        };
        s.takes_blocked = capability(b"connection.blocked");
        s.takes_auth_close = capability(b"authentication_failure_close");
        s.properties = start_ok.client_properties.into();
        if let Some(why) = s.doomed.clone() {
            self.counters.logins_unreachable += 1;
            return Err(Refusal::connection(320, format!("no upstream: {why}"), MethodId::NONE));
        }
        let (upstream, peer) = (s.upstream, s.peer);
        let own = match &s.certified {
            Some(name) if start_ok.mechanism == EXTERNAL => Credentials::external(name),
            _ => Credentials::of_response(start_ok.mechanism, start_ok.response),
        };
        let is_guest = &*own.user == "guest" && start_ok.mechanism != EXTERNAL;
        s.credentials = Some(own);
        if is_guest && !peer.to_canonical().is_loopback() && !self.limits.allow_remote_guest {
            self.remote_guest(now, sid);
            return Ok(());
        }
        if !is_offered {
            self.login_dropped(sid);
            return Ok(());
        }
        let Some(credentials) = self.login_at(sid, upstream) else { return Ok(()) };
        let known = self.remembered.knows(upstream, self.remembered.hash(&credentials, None), now.ms);
        let tune_known =
            self.upstreams.get(upstream.0).and_then(|u| u.facts.as_ref()).is_some_and(|f| f.tune.is_some());
        if known && tune_known {
            self.counters.logins_remembered += 1;
            self.send_tune(sid);
        } else {
            if let Some(s) = self.sessions.get_mut(sid.0) {
                s.state = State::Verifying;
                s.gate = Gate::Upstream;
            }
            // Nobody is there to be asked: what is kept answers at once.
            let down = self.upstreams.get(upstream.0).is_some_and(|u| u.state == UpstreamState::Down);
            if !(down && self.ask_memory(sid)) {
                self.verify(now, sid, None);
            }
        }
        Ok(())
    }
}
