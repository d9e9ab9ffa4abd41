//! The methods of a client's channels: answered here, relayed on the lane, or sent to the client's own link.

use super::connection::syntax;
use super::needs::{has_reply, needs_own_link, observes, without_nowait};
use super::{Hub, Step};
use crate::session::client::{ChannelState, Owed, Pin, Reply, State};
use crate::session::confirm::ConfirmWindow;
use crate::session::judge::Judge;
use crate::session::{LinkId, Now, Refusal, SessionId};
use crate::wire::frame::{Frame, FrameKind};
use crate::wire::method::{self, MethodId, MethodWriter};

/// Where the pseudo-queue of direct reply-to lives (RabbitMQ): bound to the very channel that publishes.
const REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// tx.select, and a consumer of direct replies: what is published behind them belongs on the client's own channel.
fn sets_apart(id: MethodId, payload: &[u8]) -> bool {
    let replies = |payload| {
        method::split(payload).is_ok_and(|(_, r)| method::queue_named(r).is_ok_and(|q| q.queue == REPLY_TO))
    };
    id == MethodId::TX_SELECT || (id == MethodId::BASIC_CONSUME && replies(payload))
}

/// Whether a method leaves its queue's name to what was last declared.
fn nameless(id: MethodId, payload: &[u8]) -> bool {
    let takes_name = matches!(
        id,
        MethodId::QUEUE_BIND
            | MethodId::QUEUE_UNBIND
            | MethodId::QUEUE_PURGE
            | MethodId::QUEUE_DELETE
            | MethodId::BASIC_CONSUME
            | MethodId::BASIC_GET
    );
    takes_name
        && method::split(payload).is_ok_and(|(_, r)| method::queue_named(r).is_ok_and(|q| q.queue.is_empty()))
}

/// Who answers a method.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Here {
    /// The broker.
    No,
    /// We do, or we say more than the client did.
    Answered,
    /// We do, by closing its channel.
    Refused,
}

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
                self.while_channel_closes(sid, frame)?;
                return Ok(took);
            }
            ChannelState::ClosingByClient => return Ok(took),
        }
        if c.assembly.is_some() {
            return self.content_frame(now, sid, frame, judge);
        }
        if frame.kind != FrameKind::Method {
            return Err(Refusal::no_method());
        }
        let (id, _) = method::split(frame.payload).map_err(syntax)?;
        if id == MethodId::BASIC_PUBLISH {
            return self.publish_frame(now, sid, frame, rest, judge);
        }
        if draining {
            // What would have been published in a transaction that nobody commits, or for a reply that nobody hears, is not sent as if
            // it were anything else: its client was never told that it had been taken.
            c.own |= sets_apart(id, frame.payload);
            return Ok(took);
        }
        self.channel_method(now, sid, frame)
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
        // What we answer ourselves does not overtake what the broker has yet to answer, nor does a refusal what was published before it.
        let known = self.answered_here(sid, ch, id, frame.payload);
        if known != Here::No && !self.replies_came(sid, ch, Owed::Any, u64::MAX) {
            return Ok(Step::Hold);
        }
        if known == Here::Refused {
            if self.may_still_be_told(sid, Some(ch)) && !self.barrier(now, sid, false) {
                return Ok(Step::Hold);
            }
            self.forget_pass(sid);
            self.send_answers(now);
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

    /// Whether a method is answered here, or needs what an answer that is under way will tell: the name of the queue last declared.
    fn answered_here(&mut self, sid: SessionId, ch: u16, id: MethodId, payload: &[u8]) -> Here {
        let Some(s) = self.sessions.get_mut(sid.0) else { return Here::No };
        let pinned = matches!(s.pin, Pin::Up(_));
        let Some(c) = s.channel(ch) else { return Here::No };
        let refused = match id {
            MethodId::CONFIRM_SELECT if !c.tx => return Here::Answered,
            MethodId::CHANNEL_FLOW => return Here::Answered,
            MethodId::CONFIRM_SELECT => true,
            MethodId::TX_SELECT => c.confirm.is_some(),
            MethodId::TX_COMMIT | MethodId::TX_ROLLBACK => !c.tx,
            MethodId::BASIC_ACK | MethodId::BASIC_NACK | MethodId::BASIC_REJECT => {
                !pinned && unknown_delivery(id, payload).is_err()
            }
            _ if nameless(id, payload) && c.owes(Owed::Any) => return Here::Answered,
            _ => nameless(id, payload) && c.last_queue.is_empty(),
        };
        if refused { Here::Refused } else { Here::No }
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
        match (id, method::split(payload)) {
            (MethodId::BASIC_CONSUME, Ok((_, args))) => self.note_consume(sid, ch, args),
            // Without an answer to come, it is over at once.
            (MethodId::BASIC_CANCEL, Ok((_, args))) if payload.last().is_some_and(|bits| bits & 1 != 0) => {
                self.note_cancel(sid, ch, args);
            }
            _ => {}
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

    /// tx and direct reply-to need publishes on the client's own channel from here on.
    fn before_own(&mut self, sid: SessionId, ch: u16, id: MethodId, payload: &[u8], lid: LinkId) {
        let apart = sets_apart(id, payload);
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) else { return };
        if id == MethodId::TX_SELECT {
            c.tx = true;
            c.own = true;
        } else if apart && !c.own {
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
        if !nameless(id, payload) {
            return Ok(None);
        }
        let Ok((_, args)) = method::split(payload) else { return Ok(None) };
        let Ok(named) = method::queue_named(args) else { return Ok(None) };
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
