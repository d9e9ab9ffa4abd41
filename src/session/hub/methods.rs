//! The methods of a client's channels: answered here, relayed on the lane, or sent to the client's own link.

use super::connection::syntax;
use super::{Hub, Step};
use crate::session::client::{ChannelState, Gate, Owed, Pin, Reply, State};
use crate::session::confirm::ConfirmWindow;
use crate::session::judge::Judge;
use crate::session::lane::Kind;
use crate::session::{LinkId, Now, Refusal, SessionId};
use crate::wire::frame::{Frame, FrameKind};
use crate::wire::method::{self, Field, MethodId, MethodWriter};

/// Where the pseudo-queue of direct reply-to lives (RabbitMQ): bound to the very channel that publishes.
const REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";
/// Exchange types that every RabbitMQ knows; declaring another one may end the whole connection (503).
const PLAIN_TYPES: [&[u8]; 4] = [b"direct", b"fanout", b"topic", b"headers"];

impl Hub {
    /// One frame on a channel of a client that is in.
    pub(super) fn channel_frame(
        &mut self,
        now: Now,
        sid: SessionId,
        frame: Frame<'_>,
        rest: &[u8],
        judge: &mut dyn Judge,
    ) -> Result<Step, Refusal> {
        let ch = frame.channel.0;
        let took = Step::Took(frame.wire_len());
        let Some(s) = self.sessions.get_mut(sid.0) else { return Ok(took) };
        let draining = s.state == State::Draining;
        let Some(c) = s.channel(ch) else {
            return if draining { Ok(took) } else { self.channel_open(sid, frame) };
        };
        match c.state {
            ChannelState::Open => {}
            ChannelState::Closing => {
                self.while_channel_closes(now, sid, frame);
                return Ok(took);
            }
            ChannelState::ClosingByClient => return Ok(took),
        }
        if c.assembly.is_some() {
            return self.content_frame(now, sid, frame, judge);
        }
        if frame.kind != FrameKind::Method {
            return Err(Refusal::connection(
                505,
                "expected method frame, got non method frame instead",
                MethodId::NONE,
            ));
        }
        let (id, _) = method::split(frame.payload).map_err(syntax)?;
        if id == MethodId::BASIC_PUBLISH {
            return self.publish_frame(now, sid, frame, rest, judge);
        }
        if draining {
            return Ok(took);
        }
        self.channel_method(now, sid, frame)
    }

    fn channel_open(&mut self, sid: SessionId, frame: Frame<'_>) -> Result<Step, Refusal> {
        let ch = frame.channel.0;
        let took = Ok(Step::Took(frame.wire_len()));
        let Some(s) = self.sessions.get_mut(sid.0) else { return took };
        if frame.kind != FrameKind::Method {
            return Err(Refusal::connection(
                505,
                "expected method frame, got non method frame instead",
                MethodId::NONE,
            ));
        }
        let (id, _) = method::split(frame.payload).map_err(syntax)?;
        if id != MethodId::CHANNEL_OPEN {
            // RabbitMQ is still busy with a channel's end when it is closed a second time, and answers that too.
            if id == MethodId::CHANNEL_CLOSE && s.last_closed == ch {
                self.client_push(sid, ch, &MethodWriter::new(MethodId::CHANNEL_CLOSE_OK).done());
                return took;
            }
            return Err(Refusal::connection(504, "expected 'channel.open'", id));
        }
        method::check(frame.payload, &self.limits.table).map_err(syntax)?;
        // RabbitMQ counts open channels, whatever their numbers.
        if s.channel_max != 0 && s.channels.len() >= usize::from(s.channel_max) {
            self.counters.limit_channels += 1;
            let max = s.channel_max;
            return Err(Refusal::connection(
                530,
                format!("number of channels opened ({max}) has reached the negotiated channel_max ({max})"),
                MethodId::NONE,
            ));
        }
        let pin = s.pin;
        match pin {
            Pin::Up(lid) => {
                if self.number_is_taken(sid, ch) {
                    if let Some(s) = self.sessions.get_mut(sid.0) {
                        s.gate = Gate::Number(ch);
                        self.barriers.push(sid);
                    }
                    return Ok(Step::Hold);
                }
                if let Some(s) = self.sessions.get_mut(sid.0) {
                    s.add_channel(ch);
                    if let Some(c) = s.channel(ch) {
                        c.own_replies.push_back(Reply::Told);
                    }
                }
                self.link_push(lid, ch, frame.payload);
            }
            _ => {
                s.add_channel(ch);
                self.client_push(sid, ch, &MethodWriter::new(MethodId::CHANNEL_OPEN_OK).longstr(b"").done());
            }
        }
        took
    }

    /// Whether a channel number is still being closed on the client's own link: the broker may have said close as well, and throws
    /// everything away but the answer to that.
    pub(super) fn number_is_taken(&self, sid: SessionId, ch: u16) -> bool {
        self.pinned_link(sid)
            .and_then(|l| self.links.get(l.0))
            .is_some_and(|l| l.swallow_close_ok.contains(&ch))
    }

    fn while_channel_closes(&mut self, now: Now, sid: SessionId, frame: Frame<'_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        let ch = frame.channel.0;
        let Ok((id, _)) = method::split(frame.payload) else { return };
        let pin = self.sessions.get(sid.0).map(|s| s.pin);
        match id {
            MethodId::CHANNEL_CLOSE_OK => {
                let broker_closed =
                    self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)).is_some_and(|c| c.broker_closed);
                if let (Some(Pin::Up(lid)), true) = (pin, broker_closed) {
                    self.link_push(lid, ch, frame.payload);
                }
                self.forget_channel(sid, ch);
            }
            // RabbitMQ's own word for it.
            MethodId::CHANNEL_OPEN => self.refuse_second_open(now, sid),
            // Both said close: each answers the other's, and close-ok is still to come.
            MethodId::CHANNEL_CLOSE => {
                self.client_push(sid, ch, &MethodWriter::new(MethodId::CHANNEL_CLOSE_OK).done());
            }
            _ => {}
        }
    }

    fn refuse_second_open(&mut self, now: Now, sid: SessionId) {
        let refusal = Refusal::connection(504, "second 'channel.open' seen", MethodId::CHANNEL_OPEN);
        self.refuse(now, sid, 0, &refusal);
    }

    pub(super) fn forget_channel(&mut self, sid: SessionId, ch: u16) {
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.remove_channel(ch);
        }
    }

    /// channel.close to a client; what it handed over on the channel goes on.
    pub(super) fn close_client_channel(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        code: u16,
        text: &str,
        cause: MethodId,
    ) {
        self.send_answers(now);
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        let pin = s.pin;
        let Some(c) = s.channel(ch) else { return };
        if c.state != ChannelState::Open {
            return;
        }
        c.state = ChannelState::Closing;
        c.assembly = None;
        c.own_replies.clear();
        c.confirm = None;
        self.client_push(sid, ch, &method::write_close(MethodId::CHANNEL_CLOSE, code, text, cause));
        self.orphan_channel(now, sid, ch);
        if let Pin::Up(lid) = pin {
            // The broker's side of the channel goes with it: its consumers, its unacknowledged deliveries.
            if let Some(link) = self.links.get_mut(lid.0) {
                link.swallow_close_ok.insert(ch);
            }
            self.link_push(
                lid,
                ch,
                &method::write_close(MethodId::CHANNEL_CLOSE, 200, "closed by umbel", MethodId::NONE),
            );
        }
    }

    fn channel_method(&mut self, now: Now, sid: SessionId, frame: Frame<'_>) -> Result<Step, Refusal> {
        let ch = frame.channel.0;
        let took = Step::Took(frame.wire_len());
        let spec = method::check(frame.payload, &self.limits.table).map_err(|e| {
            self.counters.limit_table += u64::from(matches!(e, method::MethodError::Table(..)));
            syntax(e)
        })?;
        let id = spec.id;
        if !spec.from_client || id.class() == 10 {
            return Err(Refusal::connection(503, "unimplemented method", id));
        }
        // What we answer ourselves does not overtake what the broker has yet to answer.
        let ours = matches!(id, MethodId::CONFIRM_SELECT | MethodId::CHANNEL_FLOW);
        if ours && !self.replies_came(sid, ch, Owed::Any, u64::MAX) {
            return Ok(Step::Hold);
        }
        let Some(s) = self.sessions.get_mut(sid.0) else { return Ok(took) };
        let pin = s.pin;
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) else { return Ok(took) };
        match id {
            MethodId::CHANNEL_OPEN => Err(Refusal::connection(504, "second 'channel.open' seen", id)),
            MethodId::CHANNEL_CLOSE => self.client_closes_channel(now, sid, frame),
            // The answer to a flow of the broker's own, on the client's own link.
            MethodId::CHANNEL_FLOW_OK if c.flows > 0 => {
                c.flows -= 1;
                if let Pin::Up(lid) = pin {
                    self.link_push(lid, ch, frame.payload);
                }
                Ok(took)
            }
            // Nobody has asked. On a shared link it would end everybody's.
            MethodId::CHANNEL_CLOSE_OK | MethodId::CHANNEL_FLOW_OK | MethodId::BASIC_CANCEL_OK => {
                Err(Refusal::connection(503, "unimplemented method", id))
            }
            MethodId::CHANNEL_FLOW => {
                if frame.payload.last() == Some(&0) {
                    return Err(Refusal::connection(540, "active=false", id));
                }
                self.client_push(sid, ch, &MethodWriter::new(MethodId::CHANNEL_FLOW_OK).octet(1).done());
                Ok(took)
            }
            MethodId::CONFIRM_SELECT => {
                if c.tx {
                    return Err(Refusal::channel(406, "cannot switch from tx to confirm mode", id));
                }
                let nowait = frame.payload.last().is_some_and(|b| b & 1 != 0);
                let first = c.confirm.is_none();
                if first {
                    c.confirm = Some(ConfirmWindow::new());
                }
                if let (true, true, Pin::Up(lid)) = (c.own, first, pin) {
                    self.link_push(lid, ch, &MethodWriter::new(MethodId::CONFIRM_SELECT).octet(1).done());
                }
                if !nowait {
                    self.client_push(sid, ch, &MethodWriter::new(MethodId::CONFIRM_SELECT_OK).done());
                }
                Ok(took)
            }
            MethodId::TX_SELECT if c.confirm.is_some() => {
                Err(Refusal::channel(406, "cannot switch from confirm to tx mode", id))
            }
            MethodId::TX_COMMIT | MethodId::TX_ROLLBACK if !c.tx => {
                Err(Refusal::channel(406, "channel is not transactional", id))
            }
            _ => self.broker_method(now, sid, id, frame),
        }
    }

    fn client_closes_channel(&mut self, now: Now, sid: SessionId, frame: Frame<'_>) -> Result<Step, Refusal> {
        let ch = frame.channel.0;
        let pin = self.sessions.get(sid.0).map(|s| s.pin);
        match pin {
            Some(Pin::Up(lid)) => {
                if !self.barrier(now, sid, false) {
                    return Ok(Step::Hold);
                }
                self.send_answers(now);
                self.link_push(lid, ch, frame.payload);
                self.orphan_channel(now, sid, ch);
                if let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) {
                    c.state = ChannelState::ClosingByClient;
                }
            }
            _ => {
                if self.may_still_be_told(sid, Some(ch)) && !self.barrier(now, sid, false) {
                    return Ok(Step::Hold);
                }
                self.forget_pass(sid);
                self.send_answers(now);
                self.orphan_channel(now, sid, ch);
                self.forget_channel(sid, ch);
                if let Some(s) = self.sessions.get_mut(sid.0) {
                    s.last_closed = ch;
                }
                self.client_push(sid, ch, &MethodWriter::new(MethodId::CHANNEL_CLOSE_OK).done());
            }
        }
        Ok(Step::Took(frame.wire_len()))
    }

    /// A method that only the broker can answer.
    fn broker_method(
        &mut self,
        now: Now,
        sid: SessionId,
        id: MethodId,
        frame: Frame<'_>,
    ) -> Result<Step, Refusal> {
        let ch = frame.channel.0;
        let payload = self.fill_in_queue(sid, ch, id, frame.payload)?;
        let payload = payload.as_deref().unwrap_or(frame.payload);
        let pinned = matches!(self.sessions.get(sid.0).map(|s| s.pin), Some(Pin::Up(_)));
        if let (false, MethodId::BASIC_ACK | MethodId::BASIC_NACK | MethodId::BASIC_REJECT) = (pinned, id) {
            return unknown_delivery(id, payload).map(|()| Step::Took(frame.wire_len()));
        }
        if !pinned && !needs_own_link(id, payload) {
            self.relay(now, sid, ch, id, payload)?;
            return Ok(Step::Took(frame.wire_len()));
        }
        let Some(lid) = self.ensure_pinned(now, sid) else { return Ok(Step::Hold) };
        if !self.replies_came(sid, ch, Owed::Lane, u64::MAX) {
            return Ok(Step::Hold);
        }
        if let Some(orphans) = observes(id) {
            if !self.barrier(now, sid, orphans) {
                return Ok(Step::Hold);
            }
        }
        if let (MethodId::BASIC_CONSUME, Ok((_, args))) = (id, method::split(payload)) {
            self.note_consume(sid, ch, args);
        }
        self.before_own(sid, ch, id, payload, lid);
        self.expect_reply(sid, ch, id, payload, lid);
        Ok(Step::Took(frame.wire_len()))
    }

    /// A method goes to the client's own link. What it declares without waiting, we wait for: its next publish goes another way.
    fn expect_reply(&mut self, sid: SessionId, ch: u16, id: MethodId, payload: &[u8], lid: LinkId) {
        let consumes = matches!(id, MethodId::BASIC_CONSUME | MethodId::BASIC_CANCEL);
        let (waiting, nowait) = without_nowait(id, payload);
        let expected = has_reply(id) && !(consumes && nowait);
        if let (true, Some(c)) = (expected, self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch))) {
            c.own_replies.push_back(if nowait { Reply::Ours } else { Reply::Told });
        }
        self.link_push(lid, ch, if expected { &waiting } else { payload });
    }

    /// Whether replies that are owed on a channel have come, so that what is said next does not overtake them. Closes the gate if not.
    pub(super) fn replies_came(&mut self, sid: SessionId, ch: u16, owed: Owed, until_ms: u64) -> bool {
        let Some(s) = self.sessions.get_mut(sid.0) else { return true };
        if s.state == State::Draining || !s.channel(ch).is_some_and(|c| c.owes(owed)) {
            return true;
        }
        s.gate = Gate::Replies { channel: ch, owed, until_ms };
        self.barriers.push(sid);
        false
    }

    /// tx and direct reply-to need publishes on the client's own channel from here on.
    fn before_own(&mut self, sid: SessionId, ch: u16, id: MethodId, payload: &[u8], lid: LinkId) {
        let reply_to = id == MethodId::BASIC_CONSUME
            && method::split(payload)
                .is_ok_and(|(_, r)| method::queue_named(r).is_ok_and(|q| q.queue == REPLY_TO));
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) else { return };
        if id == MethodId::TX_SELECT {
            c.tx = true;
            c.own = true;
        } else if reply_to && !c.own {
            c.own = true;
            if let Some(window) = &mut c.confirm {
                // The broker counts from 1 on this channel; the client is further.
                c.own_offset = window.next() - 1;
                window.take_back();
                self.link_push(lid, ch, &MethodWriter::new(MethodId::CONFIRM_SELECT).octet(1).done());
            }
        }
    }

    /// Names left empty mean the queue last declared on the channel: filled in here, so that a lease carries no hidden state.
    /// (rabbit_channel: `expand_queue_name_shortcut`, `expand_routing_key_shortcut`.)
    fn fill_in_queue(
        &mut self,
        sid: SessionId,
        ch: u16,
        id: MethodId,
        payload: &[u8],
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let takes_name = matches!(
            id,
            MethodId::QUEUE_BIND
                | MethodId::QUEUE_UNBIND
                | MethodId::QUEUE_PURGE
                | MethodId::QUEUE_DELETE
                | MethodId::BASIC_CONSUME
                | MethodId::BASIC_GET
        );
        if !takes_name {
            return Ok(None);
        }
        let Ok((_, args)) = method::split(payload) else { return Ok(None) };
        let Ok(named) = method::queue_named(args) else { return Ok(None) };
        if !named.queue.is_empty() {
            return Ok(None);
        }
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) else { return Ok(None) };
        if c.last_queue.is_empty() {
            return Err(Refusal::channel(404, "no previously declared queue", id));
        }
        let name = c.last_queue.clone();
        let mut writer = MethodWriter::new(id).short(0).shortstr(&name);
        let mut rest = crate::wire::Reader::new(named.rest);
        if matches!(id, MethodId::QUEUE_BIND | MethodId::QUEUE_UNBIND) {
            if let (Ok(exchange), Ok(key)) = (rest.shortstr(), rest.shortstr()) {
                writer = writer.shortstr(exchange).shortstr(if key.is_empty() { &name } else { key });
            }
        }
        Ok(Some(writer.raw(rest.rest()).done()))
    }

    /// Whether something a client has published may yet come back to it: a confirm, a return, a refusal of its exchange, the answer to
    /// a method. Only then does a goodbye wait: a publish that nobody will speak of costs no round trip (SPEC L1, T3).
    pub(super) fn may_still_be_told(&self, sid: SessionId, ch: Option<u16>) -> bool {
        let Some(s) = self.sessions.get(sid.0) else { return false };
        if s.unsettled == 0 || s.state != State::Running {
            return false;
        }
        let answers = s.pool.and_then(|p| self.pools.get(p.0)).is_some_and(|p| self.answers(p));
        answers
            && s.channels.iter().filter(|(n, _)| ch.is_none_or(|ch| ch == *n)).any(|(_, c)| {
                // What the disk has vouched for has been answered.
                let awaited = |seq| seq != 0 && c.confirm.as_ref().is_none_or(|window| window.awaits(seq));
                c.lanes.iter().filter_map(|(_, l)| self.lanes.get(l.0)).any(|l| {
                    l.items.iter().any(|i| {
                        !i.settled
                            && match i.kind {
                                Kind::Publish(f) => awaited(i.seq) || f.mandatory || f.risky,
                                Kind::Method { tell, .. } => tell,
                            }
                    })
                })
            })
    }

    /// A barrier's pass counts for one frame only.
    pub(super) fn forget_pass(&mut self, sid: SessionId) {
        if let Some(s) = self.sessions.get_mut(sid.0) {
            s.passed = false;
        }
    }

    /// Whether everything before has settled, so that a method that can see messages may go. Closes the gate if not.
    pub(super) fn barrier(&mut self, now: Now, sid: SessionId, orphans: bool) -> bool {
        let until_ms = now.ms + self.limits.barrier_ms;
        let Some(s) = self.sessions.get_mut(sid.0) else { return true };
        if std::mem::take(&mut s.passed) {
            return true;
        }
        let orphans = self
            .upstreams
            .get(s.upstream.0)
            .filter(|u| orphans && u.orphaned > 0)
            .map(|u| u.orphans_settled + u.orphaned);
        if s.unsettled == 0 && orphans.is_none() {
            return true;
        }
        s.gate = Gate::Barrier { until_ms, orphans };
        self.barriers.push(sid);
        false
    }
}

/// A client that has never consumed acknowledges: there is no delivery, in RabbitMQ's words.
fn unknown_delivery(id: MethodId, payload: &[u8]) -> Result<(), Refusal> {
    let (tag, multiple) =
        method::split(payload).ok().and_then(|(_, args)| method::ack(args).ok()).unwrap_or_default();
    if tag == 0 && multiple && id != MethodId::BASIC_REJECT {
        return Ok(());
    }
    Err(Refusal::channel(406, format!("unknown delivery tag {tag}"), id))
}

/// Whether a method waits for what was published before it (`Some`), and also for what clients that are gone published (`true`).
fn observes(id: MethodId) -> Option<bool> {
    match id {
        MethodId::BASIC_GET
        | MethodId::QUEUE_PURGE
        | MethodId::QUEUE_DELETE
        | MethodId::QUEUE_DECLARE
        | MethodId::BASIC_CONSUME => Some(true),
        MethodId::BASIC_ACK
        | MethodId::BASIC_NACK
        | MethodId::BASIC_REJECT
        | MethodId::BASIC_QOS
        | MethodId::BASIC_CANCEL
        | MethodId::BASIC_RECOVER
        | MethodId::BASIC_RECOVER_ASYNC => None,
        _ => Some(false),
    }
}

/// What only a lasting connection can do, and what could end a shared one (SPEC T5, T6).
fn needs_own_link(id: MethodId, payload: &[u8]) -> bool {
    match id {
        MethodId::BASIC_QOS
        | MethodId::BASIC_CONSUME
        | MethodId::BASIC_GET
        | MethodId::BASIC_RECOVER
        | MethodId::BASIC_RECOVER_ASYNC
        | MethodId::TX_SELECT
        | MethodId::TX_COMMIT
        | MethodId::TX_ROLLBACK
        | MethodId::ACCESS_REQUEST => true,
        MethodId::QUEUE_DECLARE => {
            let nameless = method::split(payload)
                .is_ok_and(|(_, r)| method::queue_named(r).is_ok_and(|q| q.queue.is_empty()));
            nameless || flags_of(payload) & 4 != 0
        }
        MethodId::EXCHANGE_DECLARE => {
            let Ok((_, mut args)) = method::split(payload) else { return true };
            let kind = args.u16().and_then(|_| args.shortstr()).and_then(|_| args.shortstr()).unwrap_or(&[]);
            !PLAIN_TYPES.contains(&kind)
        }
        _ => false,
    }
}

/// The octet of packed bits of a method that has one.
pub(super) fn flags_of(payload: &[u8]) -> u8 {
    flags_at(payload).and_then(|at| payload.get(at)).copied().unwrap_or(0)
}

/// Where the octet of packed bits is in a method's payload.
fn flags_at(payload: &[u8]) -> Option<usize> {
    let (id, mut r) = method::split(payload).ok()?;
    let spec = method::spec_of(id)?;
    for field in spec.fields {
        match field {
            Field::Octet => return Some(payload.len() - r.rest().len()),
            Field::Short => drop(r.u16().ok()?),
            Field::Long => drop(r.u32().ok()?),
            Field::LongLong => drop(r.u64().ok()?),
            Field::ShortStr => drop(r.shortstr().ok()?),
            Field::LongStr | Field::Table => drop(r.longstr().ok()?),
        }
    }
    None
}

/// The no-wait bit of a method, if it has one.
fn nowait_bit(id: MethodId) -> u8 {
    match id {
        MethodId::EXCHANGE_DECLARE | MethodId::QUEUE_DECLARE => 16,
        MethodId::EXCHANGE_DELETE => 2,
        MethodId::QUEUE_DELETE => 4,
        MethodId::EXCHANGE_BIND
        | MethodId::EXCHANGE_UNBIND
        | MethodId::QUEUE_BIND
        | MethodId::QUEUE_PURGE
        | MethodId::BASIC_CANCEL => 1,
        MethodId::BASIC_CONSUME => 8,
        _ => 0,
    }
}

/// A method's payload without its no-wait bit, and whether it had one: on a lease every method is answered, so that its end is known.
pub(super) fn without_nowait(id: MethodId, payload: &[u8]) -> (Vec<u8>, bool) {
    let mut payload = payload.to_vec();
    let bit = nowait_bit(id);
    let mut had = false;
    if bit != 0 {
        if let Some(flags) = flags_at(&payload).and_then(|at| payload.get_mut(at)) {
            had = *flags & bit != 0;
            *flags &= !bit;
        }
    }
    (payload, had)
}

/// Whether a method of a client has a reply at all.
pub(super) fn has_reply(id: MethodId) -> bool {
    !matches!(
        id,
        MethodId::BASIC_ACK
            | MethodId::BASIC_NACK
            | MethodId::BASIC_REJECT
            | MethodId::BASIC_RECOVER_ASYNC
            | MethodId::BASIC_PUBLISH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_no_wait_bit_is_found_wherever_the_names_end() {
        let declare = MethodWriter::new(MethodId::QUEUE_DECLARE)
            .short(0)
            .shortstr(b"q")
            .octet(2 | 16)
            .longstr(b"")
            .done();
        let (plain, had) = without_nowait(MethodId::QUEUE_DECLARE, &declare);
        assert!(had);
        assert_eq!(flags_of(&plain), 2);
        let bind = MethodWriter::new(MethodId::QUEUE_BIND)
            .short(0)
            .shortstr(b"q")
            .shortstr(b"e")
            .shortstr(b"k")
            .octet(1)
            .longstr(b"")
            .done();
        assert!(without_nowait(MethodId::QUEUE_BIND, &bind).1);
    }

    #[test]
    fn exclusive_and_nameless_queues_and_unknown_exchange_types_need_a_link_of_ones_own() {
        let declare = |name: &[u8], bits| {
            MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(name).octet(bits).longstr(b"").done()
        };
        assert!(needs_own_link(MethodId::QUEUE_DECLARE, &declare(b"", 0)));
        assert!(needs_own_link(MethodId::QUEUE_DECLARE, &declare(b"q", 4)));
        assert!(!needs_own_link(MethodId::QUEUE_DECLARE, &declare(b"q", 2)));
        let exchange = |kind: &[u8]| {
            MethodWriter::new(MethodId::EXCHANGE_DECLARE)
                .short(0)
                .shortstr(b"e")
                .shortstr(kind)
                .octet(0)
                .longstr(b"")
                .done()
        };
        assert!(needs_own_link(MethodId::EXCHANGE_DECLARE, &exchange(b"x-delayed-message")));
        assert!(!needs_own_link(MethodId::EXCHANGE_DECLARE, &exchange(b"topic")));
    }
}
