//! Publishes in a row: what holds for all that one client sends on one channel is looked up once, not for each (SPEC F1).
//!
//! ```text
//! a whole publish? ─ room in the window? ─ number ─ verdict ─┬ as it came, or edited for the same lane ─▶ onto the link
//!        └ no                └ no                            └ anything else
//!          the ordinary way, from its first frame              the ordinary way, from its verdict on
//! ```
//! Whatever is not plain is left to `publish`: the two must not differ in anything that can be seen.

use std::rc::Rc;

use super::Hub;
use super::assembly::look_ahead;
use super::frames::Frames;
use super::journal::Journal;
use super::lease::CROWDED_BYTES;
use super::moves::Moves;
use crate::session::awaited::Whose;
use crate::session::client::{Channel, ChannelState, Gate, Session, State};
use crate::session::confirm::ConfirmWindow;
use crate::session::judge::{Decision, Edited, Judge, PublishView, SessionFacts};
use crate::session::lane::{Item, Kind, Lane, PublishFlags, Store, Wait};
use crate::session::record::Record;
use crate::session::stream::CHUNK_BYTES;
use crate::session::upstream::{Link, Pool, TargetState, Upstream};
use crate::session::{Now, OutStream, SessionId, Spares, Spot};
use crate::wire::frame::{FRAME_OVERHEAD, FrameKind, parse_frame};
use crate::wire::method::{self, MethodId};
use crate::wire::num::u64_of;
use crate::wire::props::ContentHeader;
use crate::wire::table::{Outline, check_and_outline};

/// How a row ended.
pub(super) enum End {
    /// What comes next is not for this road.
    Other,
    /// The publish that comes next has its number and its verdict, which is more than this road can carry out.
    Judged { seq: u64, decision: Decision },
}

/// Where a row of publishes goes: everything of theirs that lies on one lease.
struct Road<'h> {
    lane: &'h mut Lane,
    link: &'h mut Link,
    /// The lease's channel.
    up: u16,
    pool: &'h Pool,
    upstream: &'h mut Upstream,
    /// How many more publishes, and octets, its bounds leave room for; and what its link's chunks may hold.
    room: u64,
    room_bytes: u64,
    held_max: u64,
    /// An exchange that needs no further thought.
    known: &'h [u8],
    /// Where the disk is to have them too.
    journal: Option<Journal<'h>>,
}

impl Hub {
    /// Puts publishes from the front of `buf` onto their lane; how many octets of it are done with, and what ended the row.
    pub(super) fn row(
        &mut self,
        now: Now,
        sid: SessionId,
        buf: &[u8],
        judge: &mut dyn Judge,
    ) -> (usize, End) {
        let nothing = (0, End::Other);
        let at_us = self.accepted_us(now);
        let Self {
            sessions,
            lanes,
            links,
            pools,
            upstreams,
            order,
            counters,
            spares,
            limits,
            spool,
            moves,
            spool_dirty,
            backlogs,
            ..
        } = self;
        let memory: u64 = upstreams.iter().map(|u| u.unsettled_bytes).sum();
        let Some(session) = sessions.get_mut(sid.0) else { return nothing };
        if session.state != State::Running || session.gate != Gate::Open {
            return nothing;
        }
        let Session {
            vhost, credentials, peer, frame_max, upstream: own, channels, unsettled, serial, ..
        } = session;
        let Ok(Some(first)) = parse_frame(buf, *frame_max) else { return nothing };
        let ch = first.channel;
        let Ok(index) = channels.binary_search_by_key(&ch.0, |(n, _)| *n) else { return nothing };
        let Some((_, channel)) = channels.get_mut(index) else { return nothing };
        let Channel { state, assembly, own: apart, own_replies, lanes: roads, confirm, .. } = &mut **channel;
        if *state != ChannelState::Open || assembly.is_some() || *apart || !own_replies.is_empty() {
            return nothing;
        }
        let Some((_, lane_id)) = roads.iter().find(|(u, _)| u == own) else { return nothing };
        let Some(lane) = lanes.get_mut(lane_id.0) else { return nothing };
        let Some((lid, up)) = lane.lease.filter(|_| !lane.waiting() && !lane.careful) else { return nothing };
        let (Some(link), Some(pool)) = (links.get_mut(lid.0), pools.get(lane.pool.0)) else { return nothing };
        if lane.items.is_empty() && link.out.held() >= CROWDED_BYTES {
            return nothing;
        }
        let Some(upstream) = upstreams.get_mut(lane.upstream.0) else { return nothing };
        let backlog = pool.backlog.and_then(|b| Some((b, backlogs.get_mut(b.index())?)));
        if backlog.as_ref().is_some_and(|(_, b)| b.spilling) {
            return nothing;
        }
        let has_spool = spool.is_some();
        let by_tier = upstream.settings.durable && has_spool;
        let journal = spool.as_deref_mut().zip(backlog).and_then(|(spool, (id, backlog))| {
            let (lane, whose) = (*lane_id, Whose { sid, serial: *serial, channel: ch.0 });
            let queue = backlog.main.queue?;
            Some(Journal { spool, queue, backlog: id, line: &mut backlog.main, lane, whose, at_us })
        });
        // The first of a login's publishes makes its backlog.
        if by_tier && journal.is_none() {
            return nothing;
        }
        let has_journal = journal.is_some();
        // See `window_full`, which also counts.
        let (messages, bytes) = (upstream.settings.window_messages, upstream.settings.window_bytes);
        let room = messages
            .saturating_sub(upstream.unsettled)
            .min(messages.saturating_mul(2).saturating_sub(u64_of(lane.items.len())));
        let room_bytes =
            bytes.saturating_sub(upstream.unsettled_bytes).min(limits.memory_bytes.saturating_sub(memory));
        let held_max = bytes.saturating_add(u64_of(CHUNK_BYTES));
        let mut road =
            Road { lane, link, up, pool, upstream, room, room_bytes, held_max, known: &[], journal };
        let facts = SessionFacts {
            vhost,
            user: credentials.as_ref().map_or("", |c| &c.user),
            peer: *peer,
            confirms: confirm.is_some(),
            frame_max: *frame_max,
        };
        let mut outline = Outline::default();
        let mut body: [&[u8]; 8] = [&[]; 8];
        let (mut at, mut count) = (0, 0);
        let end = loop {
            let rest = buf.get(at..).unwrap_or(&[]);
            let Ok(Some(frame)) = parse_frame(rest, *frame_max) else { break End::Other };
            if frame.channel != ch || frame.kind != FrameKind::Method {
                break End::Other;
            }
            let Ok((MethodId::BASIC_PUBLISH, args)) = method::split(frame.payload) else { break End::Other };
            let Ok(publish) = method::publish(args) else { break End::Other };
            let whole = publish.exchange.len() + publish.routing_key.len() + 9 == frame.payload.len();
            if !whole || publish.immediate {
                break End::Other;
            }
            let ahead = look_ahead(frame, rest, *frame_max, limits.message_bytes, &mut body);
            let Some((header_payload, parts, len)) = ahead else { break End::Other };
            let Ok(mut header) = ContentHeader::parse(header_payload) else { break End::Other };
            if let Some(table) = header.headers() {
                if check_and_outline(table.bytes(), &limits.table, &mut outline).is_err() {
                    break End::Other;
                }
                header.set_outline(&outline);
            }
            if road.is_full(len) {
                break End::Other;
            }
            let seq = confirm.as_mut().map_or(0, ConfirmWindow::next);
            let view = PublishView {
                session: facts,
                exchange: publish.exchange,
                routing_key: publish.routing_key,
                mandatory: publish.mandatory,
                header: &header,
                header_payload,
                body: body.get(..parts).unwrap_or(&[]),
            };
            let frames = rest.get(..len).unwrap_or(&[]);
            let mut flags = PublishFlags { mandatory: publish.mandatory, ..PublishFlags::default() };
            let (spot, wait, record) = match judge.judge(now, &view) {
                Decision::Pass => {
                    flags.risky = road.is_risky(publish.exchange);
                    let journal = road.journal.as_mut().filter(|_| by_tier);
                    let record =
                        journal.and_then(|j| j.keep((frame.payload, header_payload, view.body), None, seq));
                    (road.raw(spares, frames, ch.0), None, record)
                }
                Decision::Edit(edited) => {
                    let elsewhere = edited.upstream.is_some_and(|u| order.get(u.0) != Some(own));
                    let to_disk = edited.durable.unwrap_or(by_tier);
                    if elsewhere || (to_disk && has_spool && !has_journal) || !road.is_ready(&edited) {
                        break End::Judged { seq, decision: Decision::Edit(edited) };
                    }
                    flags.watched = edited.watch_return && !flags.mandatory;
                    flags.durable = edited.durable;
                    let seq = to_disk.then_some(seq);
                    road.edited(spares, moves, &view, frame.payload, &edited, &mut flags, seq)
                }
                decision @ Decision::Settle(_) => break End::Judged { seq, decision },
            };
            road.put(spot, flags, seq, wait, record, now);
            *unsettled += 1;
            counters.frames_in += 2 + u64_of(parts);
            count += 1;
            at += len;
        };
        counters.accepted += count;
        *spool_dirty |= has_journal && count > 0;
        if count > 0 {
            road.lane.busy_ms = now.ms;
            self.mark_link(lid);
        }
        (at, end)
    }
}

impl Road<'_> {
    /// Whether a publish of so many octets finds no room.
    fn is_full(&self, len: usize) -> bool {
        self.room == 0
            || u64_of(len + FRAME_OVERHEAD) > self.room_bytes
            || u64_of(self.link.out.held()) > self.held_max
    }

    fn is_risky(&self, exchange: &[u8]) -> bool {
        !exchange.is_empty() && exchange != self.known && !self.pool.known_exchanges.contains(exchange)
    }

    /// What must be there first is known to be there.
    fn is_ready(&self, edited: &Edited) -> bool {
        edited.target.as_ref().is_none_or(|target| {
            target.methods.is_empty() || self.pool.targets.get(target) == Some(&TargetState::Ready)
        })
    }

    fn raw(&mut self, spares: &mut Spares, frames: &[u8], ch: u16) -> Spot {
        let frame_max = self.link.tune.frame_max;
        if ch == self.up && (frame_max == 0 || frames.len() <= crate::wire::num::usize_of(frame_max)) {
            return self.link.out.keep(spares, frames.len(), |out| out.extend_from_slice(frames));
        }
        self.keep(spares, &Frames::Raw(frames))
    }

    fn keep(&mut self, spares: &mut Spares, frames: &Frames<'_>) -> Spot {
        let out: &mut OutStream = &mut self.link.out;
        frames.keep(out, spares, self.up, self.link.tune.frame_max)
    }

    /// Its frames with the edits in them; `original`: the method's payload as the client sent it; `kept`: its client's number, where the
    /// disk is to have it too.
    #[expect(clippy::too_many_arguments, reason = "what a row knows of one publish, field by field")]
    fn edited(
        &mut self,
        spares: &mut Spares,
        moves: &mut Moves,
        view: &PublishView<'_>,
        original: &[u8],
        edited: &Rc<Edited>,
        flags: &mut PublishFlags,
        kept: Option<u64>,
    ) -> (Spot, Option<Wait>, Option<Record>) {
        let fresh;
        let moved = match moves.known(edited, original) {
            Some(known) => known,
            None => {
                fresh = moves.learn(view, original, edited);
                &fresh
            }
        };
        let header = edited.header.as_deref().unwrap_or(view.header_payload);
        let whole_body;
        let body: &[&[u8]] = match &edited.body {
            Some(body) => {
                whole_body = [body.as_slice()];
                &whole_body
            }
            None => view.body,
        };
        let method = moved.method.as_deref().unwrap_or(original);
        flags.risky = self.is_risky(edited.place.as_ref().map_or(view.exchange, |place| &place.exchange));
        let journal = self.journal.as_mut().zip(kept);
        let record = journal.and_then(|(j, seq)| j.keep((method, header, body), moved.way.as_deref(), seq));
        let spot = self.keep(spares, &Frames::Parts { method, header, body });
        let wait = moved.way.as_ref().map(|way| Wait { way: Rc::clone(way), met: true, behind: false });
        (spot, wait, record)
    }

    fn put(
        &mut self,
        spot: Spot,
        flags: PublishFlags,
        seq: u64,
        wait: Option<Wait>,
        record: Option<Record>,
        now: Now,
    ) {
        let tag = self.link.channel(self.up).map_or(0, |c| {
            c.next_tag += 1;
            c.next_tag - 1
        });
        if self.lane.sent == 0 {
            self.lane.first_ms = now.ms;
        }
        self.lane.sent += 1;
        self.room = self.room.saturating_sub(1);
        self.room_bytes = self.room_bytes.saturating_sub(u64::from(spot.len()));
        self.upstream.unsettled += 1;
        self.upstream.unsettled_bytes += u64::from(spot.len());
        self.lane.items.push_back(Item {
            store: Store::Stream(spot),
            kind: Kind::Publish(flags),
            settled: false,
            strikes: 0,
            tag,
            seq,
            len: spot.len(),
            at_ms: now.ms,
            wait,
            record,
        });
    }
}
