//! The way of one publish: from its method frame to the end of a lane (ARCHITECTURE.md, «The way of one publish»).

use std::rc::Rc;

use super::assembly::{Whole, look_ahead};
use super::books::Exit;
use super::frames::Frames;
use super::frames::renumber;
use super::row::End;
use super::{Hub, Step};
use crate::session::client::{Assembly, Owed, Pin, State};
use crate::session::judge::{Decision, Edited, Judge, PublishView, SessionFacts, Settle, Settled};
use crate::session::lane::{PublishFlags, Wait, Way};
use crate::session::upstream::{TargetState, UpstreamState};
use crate::session::{Now, Refusal, Scope, SessionId, Target, UpstreamId};
use crate::wire::frame::{Frame, parse_frame};
use crate::wire::method::{self, MethodId};
use crate::wire::num::u64_of;
use crate::wire::props::ContentHeader;
use crate::wire::table::Outline;

impl Hub {
    /// basic.publish. The whole message is usually in the buffer; otherwise its frames are collected.
    pub(super) fn publish_frame(
        &mut self,
        now: Now,
        sid: SessionId,
        frame: Frame<'_>,
        rest: &[u8],
        judge: &mut dyn Judge,
    ) -> Result<Step, Refusal> {
        let (_, args) = method::split(frame.payload).map_err(super::connection::syntax)?;
        let publish =
            method::publish(args).map_err(|_| super::connection::syntax(method::MethodError::Short))?;
        if publish.exchange.len() + publish.routing_key.len() + 9 != frame.payload.len() {
            return Err(super::connection::syntax(method::MethodError::Trailing(MethodId::BASIC_PUBLISH)));
        }
        if publish.immediate {
            return Err(Refusal::connection(540, "immediate=true", MethodId::BASIC_PUBLISH));
        }
        // What it declares on a link of its own must be there before what it publishes here.
        if !self.replies_came(sid, frame.channel.0, Owed::Own, now.ms + self.limits.barrier_ms) {
            return Ok(Step::Hold);
        }
        let frame_max = self.sessions.get(sid.0).map_or(0, |s| s.frame_max);
        let mut body: [&[u8]; 8] = [&[]; 8];
        if let Some((header_payload, parts, len)) =
            look_ahead(frame, rest, frame_max, self.limits.message_bytes, &mut body)
        {
            let mut outline = Outline::default();
            let header = self.read_header(header_payload, &mut outline)?;
            self.counters.frames_in += 1 + u64_of(parts);
            let whole = Whole {
                frames: rest.get(..len).unwrap_or(&[]),
                method_payload: frame.payload,
                publish,
                header,
                header_payload,
                body: body.get(..parts).unwrap_or(&[]),
            };
            self.whole(now, sid, frame.channel.0, &whole, judge)?;
            return Ok(Step::Took(len));
        }
        if let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(frame.channel.0)) {
            let mut assembly = Assembly::new(&self.assembling);
            assembly.frames.extend_from_slice(rest.get(..frame.wire_len()).unwrap_or(&[]));
            assembly.count();
            c.assembly = Some(Box::new(assembly));
        }
        Ok(Step::Took(frame.wire_len()))
    }

    /// Publishes at the front of `buf`, for as long as they are plain; how many octets are done with. 0: `client_frame` is asked.
    pub(super) fn publishes(&mut self, now: Now, sid: SessionId, buf: &[u8], judge: &mut dyn Judge) -> usize {
        let (len, end) = self.row(now, sid, buf, judge);
        match end {
            End::Other => len,
            End::Judged { seq, decision } => {
                len + self.judged(now, sid, buf.get(len..).unwrap_or(&[]), seq, decision).unwrap_or(0)
            }
        }
    }

    /// A publish that `row` has seen to be whole and has had judged.
    fn judged(
        &mut self,
        now: Now,
        sid: SessionId,
        rest: &[u8],
        seq: u64,
        decision: Decision,
    ) -> Option<usize> {
        let (frame_max, message_bytes) = (self.sessions.get(sid.0)?.frame_max, self.limits.message_bytes);
        let frame = parse_frame(rest, frame_max).ok()??;
        let publish = method::publish(method::split(frame.payload).ok()?.1).ok()?;
        let mut body: [&[u8]; 8] = [&[]; 8];
        let (header_payload, parts, len) = look_ahead(frame, rest, frame_max, message_bytes, &mut body)?;
        self.counters.frames_in += 2 + u64_of(parts);
        let whole = Whole {
            frames: rest.get(..len)?,
            method_payload: frame.payload,
            publish,
            header: ContentHeader::parse(header_payload).ok()?,
            header_payload,
            body: body.get(..parts)?,
        };
        let ch = frame.channel.0;
        match self.decided(now, sid, ch, seq, &whole, decision) {
            Ok(()) => Some(len),
            Err(refusal) => {
                self.refuse(now, sid, ch, &refusal);
                if refusal.scope == Scope::Channel {
                    self.note_unfinished(sid, frame);
                }
                Some(frame.wire_len())
            }
        }
    }

    /// Steps 4 to 9: judged, numbered, put on a lane.
    pub(super) fn whole(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        message: &Whole<'_>,
        judge: &mut dyn Judge,
    ) -> Result<(), Refusal> {
        let Some(s) = self.sessions.get_mut(sid.0) else { return Ok(()) };
        let pin = s.pin;
        let Some(c) = s.channel(ch) else { return Ok(()) };
        if c.own {
            if let Pin::Up(lid) = pin {
                if let Some(window) = &mut c.confirm {
                    window.next();
                }
                let frames = message.frames;
                self.push_own(lid, ch, frames);
            }
            return Ok(());
        }
        let seq = c.confirm.as_mut().map_or(0, super::super::confirm::ConfirmWindow::next);
        let confirms = seq != 0;
        let decision = {
            let Some(s) = self.sessions.get(sid.0) else { return Ok(()) };
            let view = PublishView {
                session: SessionFacts {
                    vhost: &s.vhost,
                    user: s.credentials.as_ref().map_or("", |c| &c.user),
                    peer: s.peer,
                    confirms,
                    frame_max: s.frame_max,
                },
                exchange: message.publish.exchange,
                routing_key: message.publish.routing_key,
                mandatory: message.publish.mandatory,
                header: &message.header,
                header_payload: message.header_payload,
                body: message.body,
            };
            judge.judge(now, &view)
        };
        self.decided(now, sid, ch, seq, message, decision)
    }

    /// What has its number and its verdict.
    fn decided(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        seq: u64,
        message: &Whole<'_>,
        decision: Decision,
    ) -> Result<(), Refusal> {
        self.counters.accepted += 1;
        let own_upstream = self.sessions.get(sid.0).map_or(UpstreamId(0), |s| s.upstream);
        let mut flags = PublishFlags { mandatory: message.publish.mandatory, ..PublishFlags::default() };
        match decision {
            Decision::Pass => {
                let Some(lane) = self.lane_for(now, sid, ch, own_upstream) else {
                    return self.no_way(sid, ch, seq);
                };
                self.put_publish(now, lane, Frames::Raw(message.frames), flags, seq, None)
            }
            Decision::Edit(edited) => {
                flags.watched = edited.watch_return && !flags.mandatory;
                flags.durable = edited.durable;
                self.put_edited(now, sid, ch, seq, message, &edited, flags)
            }
            Decision::Settle(settled) => self.settle_here(now, sid, ch, seq, message, *settled),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a publish with its whole context, taken apart once")]
    fn put_edited(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        seq: u64,
        message: &Whole<'_>,
        edited: &Edited,
        flags: PublishFlags,
    ) -> Result<(), Refusal> {
        let own = self.sessions.get(sid.0).map_or(UpstreamId(0), |s| s.upstream);
        // What the judge names is a place in the configuration; ours never changes.
        let upstream = edited.upstream.and_then(|u| self.upstream_at(u.0)).unwrap_or(own);
        let turned_back = upstream != own && self.turns_back(upstream);
        let upstream = if turned_back { own } else { upstream };
        let Some(lane) = self.lane_for(now, sid, ch, upstream) else { return self.no_way(sid, ch, seq) };
        let mandatory = flags.mandatory || flags.watched;
        let original =
            || method::write_publish(message.publish.exchange, message.publish.routing_key, mandatory);
        let rewritten = match &edited.place {
            Some(place) if !turned_back => {
                Some(method::write_publish(&place.exchange, &place.routing_key, mandatory))
            }
            _ if mandatory != message.publish.mandatory => Some(original()),
            _ => None,
        };
        let method = rewritten.as_deref().unwrap_or(message.method_payload);
        let header = edited.header.as_deref().unwrap_or(message.header_payload);
        let whole_body;
        let body: &[&[u8]] = match &edited.body {
            Some(body) => {
                whole_body = [body.as_slice()];
                &whole_body
            }
            None => message.body,
        };
        // What is known to be there is not waited for.
        let pool = self.lanes.get(lane.0).map(|l| l.pool);
        let ready = |target: &Rc<Target>| {
            target.methods.is_empty()
                || pool.and_then(|p| self.target_state(p, target)) == Some(TargetState::Ready)
        };
        let moved = edited.target.is_some() || edited.place.is_some() || upstream != own;
        let wait = (moved && !turned_back).then(|| {
            let met = edited.target.as_ref().is_none_or(ready);
            let home = (upstream != own).then_some(own);
            Wait::on(Way { target: edited.target.clone(), otherwise: Some(original()), home }, met)
        });
        self.put_publish(now, lane, Frames::Parts { method, header, body }, flags, seq, wait)
    }

    /// Whether what a route sends to this upstream goes where it was going: it is down, and does not want to be waited for (P9).
    fn turns_back(&mut self, upstream: UpstreamId) -> bool {
        let down = self
            .upstreams
            .get(upstream.0)
            .is_some_and(|u| u.settings.turn_back && u.state == UpstreamState::Down);
        self.counters.routes_turned_back += u64::from(down);
        down
    }

    /// A publish that does not go on: what goes instead, and what the client is told.
    fn settle_here(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        seq: u64,
        message: &Whole<'_>,
        settled: Settled,
    ) -> Result<(), Refusal> {
        self.counters.book(PublishFlags::default(), Exit::Kept(settled.kept));
        match &settled.settle {
            Settle::Close(code, text) => {
                self.author_all(now, sid, ch, 0, settled.instead);
                return Err(Refusal::channel(*code, text.clone(), MethodId::BASIC_PUBLISH));
            }
            Settle::Nack => {
                self.author_all(now, sid, ch, 0, settled.instead);
                self.settle_seq(sid, ch, seq, false);
            }
            Settle::Return(code, text) => {
                self.author_all(now, sid, ch, 0, settled.instead);
                self.send_return(sid, ch, *code, text, message);
                self.settle_seq(sid, ch, seq, true);
            }
            Settle::Ack => self.author_all(now, sid, ch, seq, settled.instead),
        }
        Ok(())
    }

    fn send_return(&mut self, sid: SessionId, ch: u16, code: u16, text: &str, message: &Whole<'_>) {
        let frame_max = self.sessions.get(sid.0).map_or(0, |s| s.frame_max);
        let method = method::MethodWriter::new(MethodId::BASIC_RETURN)
            .short(code)
            .shortstr(text.as_bytes())
            .shortstr(message.publish.exchange)
            .shortstr(message.publish.routing_key)
            .done();
        let frames = Frames::Parts { method: &method, header: message.header_payload, body: message.body };
        if let Some(s) = self.sessions.get_mut(sid.0) {
            if s.state == State::Running {
                frames.write(s.out_for(ch), ch, frame_max);
            }
        }
        self.mark_client(sid);
    }

    /// A client's number is settled without the broker.
    pub(super) fn settle_seq(&mut self, sid: SessionId, ch: u16, seq: u64, ack: bool) {
        if seq == 0 {
            return;
        }
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) else { return };
        let Some(window) = &mut c.confirm else { return };
        window.settle(seq, ack);
        if !c.answers_due {
            c.answers_due = true;
            self.answers_due.push((sid, ch));
        }
    }

    /// There is no pool for the publish: it is refused where the client can see it.
    fn no_way(&mut self, sid: SessionId, ch: u16, seq: u64) -> Result<(), Refusal> {
        self.counters.refused_error += 1;
        if seq != 0 {
            self.settle_seq(sid, ch, seq, false);
            return Ok(());
        }
        Err(Refusal::connection(506, "no upstream takes this", MethodId::BASIC_PUBLISH))
    }

    /// Frames of a client's own channel, re-split where its link takes smaller ones.
    fn push_own(&mut self, lid: crate::session::LinkId, ch: u16, frames: &[u8]) {
        let Some(link) = self.links.get(lid.0) else { return };
        let frame_max = link.tune.frame_max;
        let mut out = Vec::with_capacity(frames.len());
        renumber(&mut out, frames, ch, frame_max);
        self.link_push_raw(lid, &out);
    }
}

/// The exchange that a publish method names.
pub(super) fn exchange_of(payload: &[u8]) -> &[u8] {
    method::split(payload).ok().and_then(|(_, args)| method::publish(args).ok()).map_or(&[], |p| p.exchange)
}
