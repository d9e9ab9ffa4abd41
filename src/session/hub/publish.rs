//! The way of one publish: from its method frame to the end of a lane (ARCHITECTURE.md, «The way of one publish»).

use std::rc::Rc;

use super::books::Exit;
use super::row::End;
use super::{Hub, Step};
use crate::session::client::{Assembly, Owed, Pin, State};
use crate::session::judge::{Decision, Edited, Judge, PublishView, SessionFacts, Settle, Settled};
use crate::session::lane::{Item, Kind, Lane, PublishFlags, Store, UNSENT, Wait, Way};
use crate::session::stream::CHUNK_BYTES;
use crate::session::upstream::{LinkState, TargetState, UpstreamState};
use crate::session::{LaneId, Now, OutStream, Refusal, SessionId, Spares, Spot, Target, UpstreamId};
use crate::wire::frame::{ChannelId, FRAME_OVERHEAD, Frame, FrameKind, parse_frame, write_body, write_frame};
use crate::wire::method::{self, MethodId, Publish};
use crate::wire::num::{u32_clamped, u64_of, usize_of};
use crate::wire::props::{ContentHeader, PropsError};
use crate::wire::table::{Outline, TableError, check_and_outline};

/// A message that is all there.
struct Whole<'a> {
    /// Its frames as the client sent them, one after the other.
    frames: &'a [u8],
    method_payload: &'a [u8],
    publish: Publish<'a>,
    header: ContentHeader<'a>,
    header_payload: &'a [u8],
    body: &'a [&'a [u8]],
}

/// Frames to put on a lane.
#[derive(Clone, Copy)]
pub(super) enum Frames<'a> {
    /// As they came, whatever channel is in them.
    Raw(&'a [u8]),
    /// To be built.
    Parts { method: &'a [u8], header: &'a [u8], body: &'a [&'a [u8]] },
}

/// Method payload, header payload, body pieces.
type Parts<'a> = (&'a [u8], &'a [u8], Vec<&'a [u8]>);

impl Frames<'_> {
    /// Octets at most on a link with this frame_max.
    fn len(&self, frame_max: u32) -> usize {
        let pieces = |n: usize| if frame_max == 0 { 1 } else { n / usize_of(frame_max.max(4096) - 8) + 2 };
        match *self {
            Self::Raw(bytes) => bytes.len() + pieces(bytes.len()) * FRAME_OVERHEAD,
            Self::Parts { method, header, body } => {
                let body_len: usize = body.iter().map(|b| b.len()).sum();
                method.len() + header.len() + body_len + (2 + body.len() + pieces(body_len)) * FRAME_OVERHEAD
            }
        }
    }

    /// Method, header and body pieces.
    pub(super) fn parts(&self) -> Option<Parts<'_>> {
        match self {
            Self::Parts { method, header, body } => Some((method, header, body.to_vec())),
            Self::Raw(bytes) => {
                let mut rest: &[u8] = bytes;
                let mut next = || {
                    let frame = parse_frame(rest, 0).ok()??;
                    rest = rest.get(frame.wire_len()..).unwrap_or(&[]);
                    Some(frame.payload)
                };
                let (method, header) = (next()?, next()?);
                let mut body = Vec::new();
                while let Some(part) = next() {
                    body.push(part);
                }
                Some((method, header, body))
            }
        }
    }

    /// Writes them to the end of a link's stream, kept until released.
    pub(super) fn keep(
        &self,
        out: &mut OutStream,
        spares: &mut Spares,
        channel: u16,
        frame_max: u32,
    ) -> Spot {
        let most = match *self {
            Self::Raw(bytes) if frame_max == 0 || bytes.len() <= usize_of(frame_max) => bytes.len(),
            _ => self.len(frame_max),
        };
        out.keep(spares, most, |out| self.write(out, channel, frame_max))
    }

    fn write(&self, out: &mut Vec<u8>, channel: u16, frame_max: u32) {
        match *self {
            Self::Raw(bytes) => renumber(out, bytes, channel, frame_max),
            Self::Parts { method, header, body } => {
                let channel = ChannelId(channel);
                write_frame(out, FrameKind::Method, channel, method);
                write_frame(out, FrameKind::Header, channel, header);
                for part in body {
                    write_body(out, channel, part, frame_max);
                }
            }
        }
    }
}

/// Copies frames with another channel number; bodies are split where they are over `frame_max` (SPEC L6).
fn renumber(out: &mut Vec<u8>, mut bytes: &[u8], channel: u16, frame_max: u32) {
    let [c1, c0] = channel.to_be_bytes();
    let fits_all = frame_max == 0 || bytes.len() <= usize_of(frame_max);
    if fits_all {
        // The usual case: one copy, then two octets a frame.
        let start = out.len();
        out.extend_from_slice(bytes);
        let mut rest = out.get_mut(start..).unwrap_or(&mut []);
        while let Some((head, tail)) = rest.split_first_chunk_mut::<7>() {
            let &mut [_, ref mut a, ref mut b, s3, s2, s1, s0] = head;
            (*a, *b) = (c1, c0);
            let size = usize_of(u32::from_be_bytes([s3, s2, s1, s0]));
            rest = tail.get_mut(size + 1..).unwrap_or(&mut []);
        }
        return;
    }
    while let Ok(Some(frame)) = parse_frame(bytes, 0) {
        match frame.kind {
            FrameKind::Body => write_body(out, ChannelId(channel), frame.payload, frame_max),
            kind => write_frame(out, kind, ChannelId(channel), frame.payload),
        }
        bytes = bytes.get(frame.wire_len()..).unwrap_or(&[]);
    }
}

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
            let mut assembly = Assembly::default();
            assembly.frames.extend_from_slice(rest.get(..frame.wire_len()).unwrap_or(&[]));
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
                Some(frame.wire_len())
            }
        }
    }

    fn read_header<'a>(
        &mut self,
        payload: &'a [u8],
        outline: &'a mut Outline,
    ) -> Result<ContentHeader<'a>, Refusal> {
        let mut header = ContentHeader::parse(payload).map_err(|e| {
            let code = if matches!(e, PropsError::Class(_) | PropsError::Weight(_)) { 505 } else { 541 };
            Refusal::connection(code, e.to_string(), MethodId::BASIC_PUBLISH)
        })?;
        if let Some(table) = header.headers() {
            check_and_outline(table.bytes(), &self.limits.table, outline).map_err(|e| {
                self.counters.limit_table += 1;
                let code =
                    if matches!(e, TableError::TooDeep | TableError::TooManyEntries) { 502 } else { 541 };
                Refusal::connection(code, e.to_string(), MethodId::BASIC_PUBLISH)
            })?;
            header.set_outline(outline);
        }
        Ok(header)
    }

    fn body_size(&mut self, payload: &[u8]) -> Result<u64, Refusal> {
        let mut r = crate::wire::Reader::new(payload);
        let unexpected = |what: &str| Refusal::connection(505, what.to_owned(), MethodId::BASIC_PUBLISH);
        let short = |_| {
            let words = format!("type 2, all octets = {}: unknown_frame", super::connection::octets(payload));
            Refusal::connection(501, words, MethodId::NONE)
        };
        let class = r.u16().map_err(short)?;
        if class != 60 {
            return Err(unexpected(&format!(
                "expected content header for class 60, got one for class {class} instead"
            )));
        }
        let size = r.u16().and_then(|_| r.u64()).map_err(short)?;
        if size > self.limits.message_bytes {
            self.counters.limit_message += 1;
            return Err(Refusal::channel(
                406,
                format!(
                    "message size {size} is larger than configured max size {}",
                    self.limits.message_bytes
                ),
                MethodId::BASIC_PUBLISH,
            ));
        }
        Ok(size)
    }

    /// A header or body frame of a message that is being collected.
    pub(super) fn content_frame(
        &mut self,
        now: Now,
        sid: SessionId,
        frame: Frame<'_>,
        judge: &mut dyn Judge,
    ) -> Result<Step, Refusal> {
        let ch = frame.channel.0;
        let took = Step::Took(frame.wire_len());
        let left = self
            .sessions
            .get_mut(sid.0)
            .and_then(|s| s.channel(ch))
            .and_then(|c| c.assembly.as_ref())
            .and_then(|a| a.left);
        let left = match (left, frame.kind) {
            (None, FrameKind::Header) => {
                let size = self.body_size(frame.payload)?;
                self.read_header(frame.payload, &mut Outline::default())?;
                size
            }
            (Some(left), FrameKind::Body) => {
                let got = u64_of(frame.payload.len());
                left.checked_sub(got).ok_or_else(|| {
                    Refusal::connection(
                        501,
                        "body of the message is longer than its header declared",
                        MethodId::BASIC_PUBLISH,
                    )
                })?
            }
            (None, _) => {
                return Err(Refusal::connection(
                    505,
                    "expected content header for class 60, got non content header frame instead",
                    MethodId::BASIC_PUBLISH,
                ));
            }
            (Some(_), _) => {
                return Err(Refusal::connection(
                    505,
                    "expected content body, got non content body frame instead",
                    MethodId::BASIC_PUBLISH,
                ));
            }
        };
        let Some(c) = self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)) else { return Ok(took) };
        let Some(assembly) = &mut c.assembly else { return Ok(took) };
        assembly.left = Some(left);
        write_frame(&mut assembly.frames, frame.kind, frame.channel, frame.payload);
        if left > 0 {
            return Ok(took);
        }
        let Some(assembly) = c.assembly.take() else { return Ok(took) };
        self.collected(now, sid, ch, &assembly.frames, judge)?;
        Ok(took)
    }

    fn collected(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        frames: &[u8],
        judge: &mut dyn Judge,
    ) -> Result<(), Refusal> {
        let mut rest = frames;
        let mut next = || match parse_frame(rest, 0) {
            Ok(Some(frame)) => {
                rest = rest.get(frame.wire_len()..).unwrap_or(&[]);
                Some(frame.payload)
            }
            _ => None,
        };
        let (Some(method_payload), Some(header_payload)) = (next(), next()) else { return Ok(()) };
        let mut body = Vec::new();
        while let Some(part) = next() {
            body.push(part);
        }
        let (_, args) = method::split(method_payload).map_err(super::connection::syntax)?;
        let publish =
            method::publish(args).map_err(|_| super::connection::syntax(method::MethodError::Short))?;
        let mut outline = Outline::default();
        let header = self.read_header(header_payload, &mut outline)?;
        let whole = Whole { frames, method_payload, publish, header, header_payload, body: &body };
        self.whole(now, sid, ch, &whole, judge)
    }

    /// Steps 4 to 9: judged, numbered, put on a lane.
    fn whole(
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

    /// The lane of a client's channel to an upstream; made on first use.
    pub(super) fn lane_for(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        upstream: UpstreamId,
    ) -> Option<LaneId> {
        let s = self.sessions.get_mut(sid.0)?;
        let (own, pool) = (s.upstream, s.pool?);
        let c = s.channel(ch)?;
        if let Some(&(_, lane)) = c.lanes.iter().find(|(u, _)| *u == upstream) {
            return Some(lane);
        }
        let pool = if upstream == own {
            pool
        } else {
            let settings = self.upstreams.get(upstream.0).map(|u| Rc::clone(&u.settings))?;
            let s = self.sessions.get(sid.0)?;
            let credentials = self.login_at(sid, upstream)?;
            let vhost = settings.vhost.clone().unwrap_or_else(|| Rc::clone(&s.vhost));
            self.pool_for(now, upstream, &vhost, &credentials)
        };
        let mut lane = Lane::new(sid, ch, upstream, pool, now.ms);
        lane.user = self.sessions.get(sid.0).and_then(|s| s.credentials.as_ref()).map(|c| Rc::clone(&c.user));
        let lane = LaneId(self.lanes.insert(lane));
        if let Some(p) = self.pools.get_mut(pool.0) {
            p.lanes += 1;
        }
        let c = self.sessions.get_mut(sid.0)?.channel(ch)?;
        c.lanes.push((upstream, lane));
        Some(lane)
    }

    /// A publish enters its lane, or goes to disk, or is refused because every bound is reached (SPEC D4).
    pub(super) fn put_publish(
        &mut self,
        now: Now,
        lid: LaneId,
        frames: Frames<'_>,
        flags: PublishFlags,
        seq: u64,
        wait: Option<Wait>,
    ) -> Result<(), Refusal> {
        let Some(lane) = self.lanes.get(lid.0) else { return Ok(()) };
        let (sid, ch, pool, upstream) = (lane.session, lane.channel, lane.pool, lane.upstream);
        let full = self.window_full(lid, u64_of(frames.len(0)));
        let spilling = self.spills(pool);
        let mut wait = wait;
        if (full || spilling) && self.spool.is_some() {
            // Once something of a lane waits behind the backlog, so does what follows.
            let behind = spilling && self.waits_behind(lid);
            if !behind && self.spill(now, lid, &frames, flags, seq, wait.as_ref()) {
                return Ok(());
            }
            if full {
                self.counters.refused_spool += u64::from(!flags.authored);
                return self.refuse_publish(
                    sid,
                    ch,
                    seq,
                    "the upstream takes no more, and neither does the spool",
                );
            }
            wait.get_or_insert_with(|| Wait::on(Way::default(), true)).behind = true;
        }
        if full {
            self.counters.refused_window += u64::from(!flags.authored);
            return self.refuse_publish(sid, ch, seq, "the upstream takes no more, and the window is full");
        }
        let mut flags = flags;
        flags.risky = self.is_risky(pool, &frames);
        let by_tier = self.upstreams.get(upstream.0).is_some_and(|u| u.settings.durable);
        let durable = !flags.authored && flags.durable.unwrap_or(by_tier) && !spilling;
        let record = if durable && self.spool.is_some() {
            self.keep_on_disk(now, lid, &frames, seq, wait.as_ref())
        } else {
            None
        };
        self.put(now, lid, frames, Kind::Publish(flags), seq, wait, record);
        Ok(())
    }

    /// Whether the last publish of a lane waits behind its login's backlog.
    fn waits_behind(&self, lane: LaneId) -> bool {
        let last = self
            .lanes
            .get(lane.0)
            .and_then(|l| l.items.iter().rev().find(|i| !i.settled && matches!(i.kind, Kind::Publish(_))));
        last.is_some_and(|i| i.wait.as_ref().is_some_and(|w| w.behind))
    }

    /// Whether a publish goes to an exchange that nothing has been confirmed on yet, on this pool.
    fn is_risky(&self, pool: crate::session::PoolId, frames: &Frames<'_>) -> bool {
        let exchange = match frames {
            Frames::Parts { method, .. } => exchange_of(method),
            Frames::Raw(bytes) => {
                parse_frame(bytes, 0).ok().flatten().map_or(&[][..], |f| exchange_of(f.payload))
            }
        };
        !exchange.is_empty() && self.pools.get(pool.0).is_some_and(|p| !p.known_exchanges.contains(exchange))
    }

    /// Whether a lane takes no more: the upstream's messages, its octets, the memory that its link really holds (whole chunks), what
    /// is remembered behind one message that is never confirmed, or the memory of all of it.
    fn window_full(&mut self, lane: LaneId, more: u64) -> bool {
        let Some(lane) = self.lanes.get(lane.0) else { return true };
        let Some(u) = self.upstreams.get(lane.upstream.0) else { return true };
        let held = lane.lease.and_then(|(l, _)| self.links.get(l.0)).map_or(0, |l| u64_of(l.out.held()));
        let full = u.unsettled >= u.settings.window_messages
            || u.unsettled_bytes.saturating_add(more) > u.settings.window_bytes
            || held > u.settings.window_bytes.saturating_add(u64_of(CHUNK_BYTES))
            || u64_of(lane.items.len()) >= u.settings.window_messages.saturating_mul(2);
        let memory: u64 = self.upstreams.iter().map(|u| u.unsettled_bytes).sum();
        let over_memory = memory.saturating_add(more) > self.limits.memory_bytes;
        self.counters.limit_window += u64::from(full);
        self.counters.limit_memory += u64::from(over_memory);
        full || over_memory
    }

    /// Refused where the client can know it: a nack to those who use confirms, connection.close 506 to the others.
    fn refuse_publish(
        &mut self,
        sid: Option<SessionId>,
        ch: u16,
        seq: u64,
        why: &'static str,
    ) -> Result<(), Refusal> {
        match (sid, seq) {
            (Some(sid), 1..) => {
                self.settle_seq(sid, ch, seq, false);
                Ok(())
            }
            _ => Err(Refusal::connection(506, why, MethodId::BASIC_PUBLISH)),
        }
    }

    /// A record of the spool on its lane.
    pub(super) fn put_record(
        &mut self,
        now: Now,
        lane: LaneId,
        frames: Frames<'_>,
        kind: Kind,
        wait: Option<Wait>,
        record: Option<u64>,
    ) {
        self.put(now, lane, frames, kind, 0, wait, record);
    }

    /// A method whose reply the lane waits for.
    pub(super) fn relay(
        &mut self,
        now: Now,
        sid: SessionId,
        ch: u16,
        id: MethodId,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        let own = self.sessions.get(sid.0).map_or(UpstreamId(0), |s| s.upstream);
        let Some(lane) = self.lane_for(now, sid, ch, own) else { return Ok(()) };
        let full = self.window_full(lane, u64_of(payload.len()));
        let (payload, nowait) = super::methods::without_nowait(id, payload);
        let mut frame = Vec::with_capacity(payload.len() + FRAME_OVERHEAD);
        write_frame(&mut frame, FrameKind::Method, ChannelId(ch), &payload);
        if super::methods::has_reply(id) {
            // What is answered here does not overtake what the broker has yet to answer.
            let owing =
                self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch)).is_some_and(|c| c.lane_replies > 0);
            let remembered = if owing { None } else { self.remembered_declare(lane, &payload) };
            if let Some(reply) = remembered {
                // The upstream cannot be asked: what worked before works again, and is declared when it is back (SPEC D4).
                let spills = full || self.lanes.get(lane.0).is_some_and(|l| self.spills(l.pool));
                let spilled = spills && self.spill_declaration(now, lane, id, &payload);
                if full && !spilled {
                    return Err(window_refusal(id));
                }
                self.counters.declares_remembered += 1;
                if !nowait {
                    self.send_answers(now);
                    self.note_reply(sid, ch, method_of(&reply), &reply);
                    self.client_push(sid, ch, &reply);
                }
                if !spilled {
                    self.put(now, lane, Frames::Raw(&frame), Kind::Method { id, tell: false }, 0, None, None);
                }
                return Ok(());
            }
            if full {
                return Err(window_refusal(id));
            }
            if let (false, Some(c)) = (nowait, self.sessions.get_mut(sid.0).and_then(|s| s.channel(ch))) {
                c.lane_replies += 1;
            }
            self.put(now, lane, Frames::Raw(&frame), Kind::Method { id, tell: !nowait }, 0, None, None);
        }
        Ok(())
    }

    /// Whether a pool's upstream answers at the moment.
    pub(super) fn answers(&self, pool: &crate::session::upstream::Pool) -> bool {
        pool.links.iter().any(|l| self.links.get(l.0).is_some_and(|l| l.state == LinkState::Up && !l.blocked))
    }

    /// The answer that this very declaration got before, where its upstream cannot answer now.
    fn remembered_declare(&self, lane: LaneId, payload: &[u8]) -> Option<Box<[u8]>> {
        let pool = self.pools.get(self.lanes.get(lane.0)?.pool.0)?;
        if self.answers(pool) { None } else { pool.declared.get(payload).cloned() }
    }

    /// An item enters its lane: straight into the link's out-stream where nothing is before it, else it waits in order.
    #[expect(clippy::too_many_arguments, reason = "an item, field by field, made in one place")]
    pub(super) fn put(
        &mut self,
        now: Now,
        lane_id: LaneId,
        frames: Frames<'_>,
        kind: Kind,
        seq: u64,
        wait: Option<Wait>,
        record: Option<u64>,
    ) {
        self.leave_crowd(now, lane_id);
        let Some(lane) = self.lanes.get_mut(lane_id.0) else { return };
        lane.busy_ms = now.ms;
        let straight = !lane.waiting() && !lane.careful && wait.as_ref().is_none_or(|w| w.met && !w.behind);
        let link = lane
            .lease
            .filter(|_| straight)
            .and_then(|(l, up)| self.links.get_mut(l.0).map(|link| (l, up, link)));
        let item = match link {
            Some((lid, up, link)) => {
                let frame_max = link.tune.frame_max;
                let spot = frames.keep(&mut link.out, &mut self.spares, up, frame_max);
                let tag = link.channel(up).map_or(0, |c| {
                    if matches!(kind, Kind::Publish(_)) {
                        c.next_tag += 1;
                    }
                    c.next_tag - 1
                });
                if lane.sent == 0 {
                    lane.first_ms = now.ms;
                }
                lane.sent += 1;
                if !link.dirty {
                    link.dirty = true;
                    self.dirty_links.push(lid);
                }
                Item {
                    store: Store::Stream(spot),
                    kind,
                    settled: false,
                    strikes: 0,
                    tag,
                    seq,
                    len: spot.len(),
                    at_ms: now.ms,
                    wait,
                    record,
                }
            }
            None => {
                let mut own = Vec::with_capacity(frames.len(0));
                frames.write(&mut own, 0, 0);
                let len = u32_clamped(own.len());
                Item {
                    store: Store::Own(own.into()),
                    kind,
                    settled: false,
                    strikes: 0,
                    tag: UNSENT,
                    seq,
                    len,
                    at_ms: now.ms,
                    record,
                    wait,
                }
            }
        };
        let (bytes, waits) = (u64::from(item.len), item.tag == UNSENT);
        lane.items.push_back(item);
        let (session, upstream, orphaned) = (lane.session, lane.upstream, lane.orphaned());
        if let Some(u) = self.upstreams.get_mut(upstream.0) {
            u.unsettled += 1;
            u.unsettled_bytes += bytes;
            u.orphaned += u64::from(orphaned);
        }
        if let Some(s) = session.and_then(|sid| self.sessions.get_mut(sid.0)) {
            s.unsettled += 1;
        }
        if waits {
            self.seek(now, lane_id);
        }
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

/// Whether a method frame of basic.publish, or as much of it as tells, is at the front.
pub(super) fn begins_publish(buf: &[u8]) -> bool {
    matches!(buf, [1, _, _, _, _, _, _, 0, 60, 0, 40, ..])
}

/// The exchange that a publish method names.
pub(super) fn exchange_of(payload: &[u8]) -> &[u8] {
    method::split(payload).ok().and_then(|(_, args)| method::publish(args).ok()).map_or(&[], |p| p.exchange)
}

fn method_of(payload: &[u8]) -> MethodId {
    method::split(payload).map_or(MethodId::NONE, |(id, _)| id)
}

fn window_refusal(cause: MethodId) -> Refusal {
    Refusal::connection(506, "the upstream takes no more and the window is full", cause)
}

/// The header's payload, the number of body pieces and the octets of the whole message, when all of it is in the buffer, in order,
/// and in few enough pieces.
pub(super) fn look_ahead<'a>(
    method: Frame<'_>,
    rest: &'a [u8],
    frame_max: u32,
    message_bytes: u64,
    body: &mut [&'a [u8]; 8],
) -> Option<(&'a [u8], usize, usize)> {
    let mut at = method.wire_len();
    let header = parse_frame(rest.get(at..)?, frame_max).ok()??;
    if header.kind != FrameKind::Header || header.channel != method.channel {
        return None;
    }
    let size = u64::from_be_bytes(*header.payload.get(4..12)?.first_chunk::<8>()?);
    if header.payload.first_chunk::<2>() != Some(&[0, 60]) || size > message_bytes {
        return None;
    }
    at += header.wire_len();
    let (mut seen, mut parts) = (0, 0);
    while seen < size {
        let part = parse_frame(rest.get(at..)?, frame_max).ok()??;
        if part.kind != FrameKind::Body || part.channel != method.channel {
            return None;
        }
        seen += u64_of(part.payload.len());
        *body.get_mut(parts)? = part.payload;
        parts += 1;
        at += part.wire_len();
    }
    (seen == size).then_some((header.payload, parts, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_get_another_channel_number_and_bodies_are_split_where_the_link_takes_less() {
        let mut frames = Vec::new();
        write_frame(&mut frames, FrameKind::Method, ChannelId(1), b"method");
        write_frame(&mut frames, FrameKind::Body, ChannelId(1), &[5; 10_000]);
        for frame_max in [0, 131_072, 4096] {
            let mut out = Vec::new();
            renumber(&mut out, &frames, 513, frame_max);
            let (mut rest, mut body, mut count) = (out.as_slice(), 0, 0);
            while let Some(frame) = parse_frame(rest, frame_max).unwrap() {
                assert_eq!(frame.channel, ChannelId(513));
                if frame.kind == FrameKind::Body {
                    body += frame.payload.len();
                }
                count += 1;
                rest = &rest[frame.wire_len()..];
            }
            assert_eq!((body, rest.len()), (10_000, 0));
            assert_eq!(count, if frame_max == 4096 { 4 } else { 2 });
            assert!(out.len() <= Frames::Raw(&frames).len(frame_max));
        }
    }
}
