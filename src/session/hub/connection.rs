//! A client's connection: its protocol header, login, tune, open, and its end. The frames of its channels are `methods` and `publish`.

use std::rc::Rc;

use super::{Hub, Step};
use crate::session::client::{Gate, State};
use crate::session::judge::Judge;
use crate::session::{LinkId, Now, Refusal, Scope, SessionId};
use crate::wire::frame::{FRAME_MIN_SIZE, Frame, FrameError, FrameKind};
use crate::wire::method::{self, MethodId, MethodWriter, Tune};
use crate::wire::table::TableError;

/// What RabbitMQ answers to a protocol header it does not speak, before it hangs up.
const OUR_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

impl Hub {
    /// Both headers of 0-9-1 clients: `AMQP 0 0 9 1`, and py-amqp's up to 2.3, `AMQP 1 1 0 9` (SPEC T2).
    pub(super) fn protocol_header(&mut self, now: Now, sid: SessionId, rest: &[u8]) -> Step {
        let Some((head, _)) = rest.split_first_chunk::<8>() else {
            if b"AMQP".iter().zip(rest).all(|(a, b)| a == b) {
                return Step::Took(0);
            }
            return self.another_protocol(sid, rest);
        };
        match head {
            b"AMQP\x00\x00\x09\x01"
            | b"AMQP\x01\x01\x00\x09"
            | b"AMQP\x01\x01\x08\x00"
            | b"AMQP\x01\x01\x09\x01" => {}
            _ => return self.another_protocol(sid, rest),
        }
        let known = self
            .sessions
            .get(sid.0)
            .and_then(|s| self.upstreams.get(s.upstream.0))
            .is_some_and(|u| u.facts.is_some());
        if known {
            self.send_start(sid);
        } else {
            if let Some(s) = self.sessions.get_mut(sid.0) {
                s.state = State::Probing;
                s.gate = Gate::Upstream;
            }
            self.probe(now, sid);
        }
        Step::Took(8)
    }

    fn another_protocol(&mut self, sid: SessionId, rest: &[u8]) -> Step {
        self.counters.connection_errors += 1;
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.out.extend_from_slice(OUR_HEADER);
        }
        self.mark_client(sid);
        self.finish(sid);
        Step::Took(rest.len())
    }

    /// A frame could not be read.
    pub(super) fn client_frame_error(&mut self, now: Now, sid: SessionId, error: FrameError) {
        let said_goodbye = self
            .sessions
            .get(sid.0)
            .is_some_and(|s| matches!(s.state, State::Closing | State::Leaving | State::Draining));
        if said_goodbye {
            self.finish(sid);
            return;
        }
        let code = if error == FrameError::StrayHeartbeat { 505 } else { 501 };
        self.refuse(now, sid, 0, &Refusal::connection(code, error.to_string(), MethodId::NONE));
    }

    /// One whole frame of a client. `rest` begins with it and goes on with what follows it in the buffer.
    pub(super) fn client_frame(
        &mut self,
        now: Now,
        sid: SessionId,
        frame: Frame<'_>,
        rest: &[u8],
        judge: &mut dyn Judge,
    ) -> Step {
        let Some(state) = self.sessions.get(sid.0).map(|s| s.state) else { return Step::Took(rest.len()) };
        if frame.kind == FrameKind::Heartbeat {
            return Step::Took(frame.wire_len());
        }
        let channel = frame.channel.0;
        let result = match state {
            State::Closing | State::Leaving => {
                self.while_closing(now, sid, frame);
                Ok(Step::Took(frame.wire_len()))
            }
            State::Running | State::Draining if channel != 0 => {
                self.channel_frame(now, sid, frame, rest, judge)
            }
            _ if channel != 0 || frame.kind != FrameKind::Method => Err(Refusal::connection(
                505,
                format!("type {}, all octets = {}", frame.kind.octet(), octets(frame.payload)),
                MethodId::NONE,
            )),
            _ => self.connection_method(now, sid, state, frame),
        };
        match result {
            Ok(step) => step,
            Err(refusal) => {
                self.refuse(now, sid, channel, &refusal);
                if refusal.scope == Scope::Channel {
                    self.note_unfinished(sid, frame);
                }
                Step::Took(frame.wire_len())
            }
        }
    }

    fn connection_method(
        &mut self,
        now: Now,
        sid: SessionId,
        state: State,
        frame: Frame<'_>,
    ) -> Result<Step, Refusal> {
        let took = Ok(Step::Took(frame.wire_len()));
        method::check(frame.payload, &self.limits.table).map_err(|e| {
            self.counters.limit_table += u64::from(matches!(e, method::MethodError::Table(..)));
            match e {
                // RabbitMQ's own words for what it cannot read on channel 0, and none before the client is in.
                method::MethodError::Short if frame.payload.len() >= 4 => {
                    Refusal::connection(541, "", MethodId::NONE)
                }
                method::MethodError::Trailing(_) => Refusal::connection(541, "", MethodId::NONE),
                method::MethodError::Utf8(id) => Refusal::connection(501, e.to_string(), id),
                e => syntax(e),
            }
        })?;
        let (id, args) = method::split(frame.payload).map_err(syntax)?;
        match (state, id) {
            (State::Running | State::Draining, MethodId::CONNECTION_CLOSE) => {
                self.client_closes(now, sid, frame)
            }
            (State::Draining, MethodId::CONNECTION_CLOSE_OK) => {
                self.finish(sid);
                took
            }
            (State::Draining, _) => took,
            (State::StartOk, MethodId::CONNECTION_START_OK) => {
                let start_ok = method::start_ok(args).map_err(|_| syntax(method::MethodError::Short))?;
                self.start_ok(now, sid, start_ok)?;
                took
            }
            (State::TuneOk, MethodId::CONNECTION_TUNE_OK) => {
                let tune = method::tune(args).map_err(|_| syntax(method::MethodError::Short))?;
                self.tune_ok(sid, tune)?;
                took
            }
            (State::Open, MethodId::CONNECTION_OPEN) => {
                let mut args = args;
                let vhost = args.shortstr().map_err(|_| syntax(method::MethodError::Short))?;
                self.open(now, sid, vhost);
                took
            }
            (State::Running, MethodId::CONNECTION_UPDATE_SECRET) => self.update_secret(now, sid, frame),
            (State::Running, _) => {
                Err(Refusal::connection(504, "unexpected method in connection state running", id))
            }
            _ => Err(Refusal::connection(504, "unexpected method in connection state opening", id)),
        }
    }

    /// OAuth's new token: the broker on the client's own link decides.
    fn update_secret(&mut self, now: Now, sid: SessionId, frame: Frame<'_>) -> Result<Step, Refusal> {
        match self.ensure_pinned(now, sid) {
            Some(lid) => {
                self.link_push(lid, 0, frame.payload);
                Ok(Step::Took(frame.wire_len()))
            }
            None => Ok(Step::Hold),
        }
    }

    /// connection.tune: never more than the upstream and we can do (SPEC L6).
    pub(super) fn send_tune(&mut self, sid: SessionId) {
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        let theirs = self
            .upstreams
            .get(s.upstream.0)
            .and_then(|u| u.facts.as_ref())
            .and_then(|f| f.tune)
            .unwrap_or(Tune { channel_max: 0, frame_max: 0, heartbeat: self.limits.heartbeat_s });
        let least = |a: u32, b: u32| {
            if a == 0 {
                b
            } else if b == 0 {
                a
            } else {
                a.min(b)
            }
        };
        let offer = Tune {
            channel_max: u16::try_from(least(
                u32::from(theirs.channel_max),
                u32::from(self.limits.channel_max),
            ))
            .unwrap_or(u16::MAX),
            frame_max: least(theirs.frame_max, self.limits.frame_max),
            heartbeat: theirs.heartbeat,
        };
        s.channel_max = offer.channel_max;
        s.frame_max = offer.frame_max;
        s.state = State::TuneOk;
        s.gate = Gate::Open;
        self.client_push(sid, 0, &method::write_tune(MethodId::CONNECTION_TUNE, offer));
    }

    fn tune_ok(&mut self, sid: SessionId, tune: Tune) -> Result<(), Refusal> {
        let Some(s) = self.sessions.get_mut(sid.0) else { return Ok(()) };
        let refuse = |what: &str, client: u32, server: u32| {
            Err(Refusal::connection(
                530,
                format!("negotiated {what} = {client} is higher than the maximum allowed value ({server})"),
                MethodId::CONNECTION_TUNE_OK,
            ))
        };
        // 0 is «no limit»: our own stays.
        if tune.frame_max != 0 && tune.frame_max < FRAME_MIN_SIZE {
            return Err(Refusal::connection(
                530,
                format!(
                    "negotiated frame_max = {} is lower than the minimum allowed value ({FRAME_MIN_SIZE})",
                    tune.frame_max
                ),
                MethodId::CONNECTION_TUNE_OK,
            ));
        }
        if s.frame_max != 0 && (tune.frame_max > s.frame_max || tune.frame_max == 0) {
            return refuse("frame_max", tune.frame_max, s.frame_max);
        }
        if s.channel_max != 0 && (tune.channel_max > s.channel_max || tune.channel_max == 0) {
            return refuse("channel_max", u32::from(tune.channel_max), u32::from(s.channel_max));
        }
        s.frame_max = tune.frame_max;
        s.channel_max = tune.channel_max;
        s.heartbeat_s = tune.heartbeat;
        s.state = State::Open;
        Ok(())
    }

    fn open(&mut self, now: Now, sid: SessionId, vhost: &[u8]) {
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        let Some(settings) = self.upstreams.get(s.upstream.0).map(|u| Rc::clone(&u.settings)) else { return };
        s.vhost = settings.vhost.clone().unwrap_or_else(|| vhost.into());
        let (upstream, vhost) = (s.upstream, Rc::clone(&s.vhost));
        let verify = s.verify;
        s.state = State::Opening;
        s.gate = Gate::Upstream;
        let Some(credentials) = self.login_at(sid, upstream) else { return };
        let hash = self.remembered.hash(&credentials, Some(&vhost));
        if verify.is_none() && self.remembered.knows(upstream, hash, now.ms) {
            let pool = self.pool_for(now, upstream, &vhost, &credentials);
            self.open_ok(now, sid, pool);
        } else if let Some(lid) = verify {
            self.verify_vhost(now, lid);
        } else {
            self.verify(now, sid, Some(vhost));
        }
    }

    /// The client is in.
    pub(super) fn open_ok(&mut self, now: Now, sid: SessionId, pool: crate::session::PoolId) {
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.users += 1;
        }
        self.handshaking = self.handshaking.saturating_sub(1);
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.pool = Some(pool);
            s.state = State::Running;
            s.gate = Gate::Open;
            s.deadline_ms = u64::MAX;
            s.opened_ms = now.ms;
        }
        self.client_push(sid, 0, &MethodWriter::new(MethodId::CONNECTION_OPEN_OK).shortstr(b"").done());
        self.actions.push_back(super::Action::Resume(sid));
        self.claim_elsewhere(now, sid);
    }

    /// A link that was trying this client's login is of no use any more.
    pub(super) fn drop_verify(&mut self, sid: SessionId) {
        let verify = self.sessions.get_mut(sid.0).and_then(|s| s.verify.take());
        if let Some(lid) = verify {
            self.abandon_link(lid);
        }
    }

    /// The client's socket is gone: what it handed over goes on, what was its own goes with it.
    pub fn client_gone(&mut self, now: Now, sid: SessionId) {
        self.send_answers(now);
        self.unpin(now, sid);
        self.drop_verify(sid);
        self.orphan_lanes(now, sid);
        if let Some(s) = self.sessions.try_remove(sid.0) {
            if s.pool.is_none() {
                self.handshaking = self.handshaking.saturating_sub(1);
            }
            if let Some(count) = self.per_ip.get_mut(&s.peer) {
                *count -= 1;
                if *count == 0 {
                    self.per_ip.remove(&s.peer);
                }
            }
            if let Some(pool) = s.pool.and_then(|p| self.pools.get_mut(p.0)) {
                pool.users = pool.users.saturating_sub(1);
                pool.idle_since_ms = now.ms;
            }
        }
        self.barriers.retain(|&b| b != sid);
    }

    /// The link that tried this session's login, if it is still trying.
    pub(super) fn verified_by(&self, sid: SessionId, lid: LinkId) -> bool {
        self.sessions.get(sid.0).is_some_and(|s| s.verify == Some(lid))
    }
}

pub(super) fn syntax(error: method::MethodError) -> Refusal {
    match error {
        method::MethodError::Unknown(id) => Refusal::connection(540, error.to_string(), id),
        method::MethodError::Table(id, TableError::TooDeep | TableError::TooManyEntries) => {
            Refusal::connection(502, error.to_string(), id)
        }
        method::MethodError::Trailing(id) | method::MethodError::Table(id, _) => {
            Refusal::connection(501, format!("cannot decode: {error}"), id)
        }
        method::MethodError::Short => {
            Refusal::connection(501, format!("cannot decode: {error}"), MethodId::NONE)
        }
        method::MethodError::Utf8(_) => Refusal::connection(501, error.to_string(), MethodId::NONE),
    }
}

/// Octets as RabbitMQ prints them, cut where a reply text ends anyway.
pub(super) fn octets(payload: &[u8]) -> String {
    let shown: Vec<String> = payload.iter().take(80).map(u8::to_string).collect();
    format!("<<{}{}>>", shown.join(","), if payload.len() > 80 { ",..." } else { "" })
}
