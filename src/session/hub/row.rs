//! Publishes in a row: what holds for all that one client sends on one channel is looked up once, not for each (SPEC F1).
//!
//! ```text
//! a whole publish? ─ room in the window? ─ number ─ verdict ─┬ as it came, or edited for the same lane ─▶ onto the link
//!        └ no                └ no                            └ anything else
//!          the ordinary way, from its first frame              the ordinary way, from its verdict on
//! ```
//! Whatever is not plain is left to `publish`: the two must not differ in anything that can be seen.

use super::Hub;
use super::journal::Journal;
use super::lease::CROWDED_BYTES;
use super::reader::Reader;
use super::road::Road;
use crate::session::awaited::Whose;
use crate::session::client::{Channel, ChannelState, Gate, Session, State};
use crate::session::judge::{Decision, Judge, SessionFacts};
use crate::session::stream::CHUNK_BYTES;
use crate::session::{Now, SessionId};
use crate::wire::frame::parse_frame;
use crate::wire::num::u64_of;

/// How a row ended.
pub(super) enum End {
    /// What comes next is not for this road.
    Other,
    /// The publish that comes next has its number and its verdict, which is more than this road can carry out.
    Judged { seq: u64, decision: Decision },
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
        let Some((lid, up)) = lane.lease.filter(|_| !lane.waiting() && !lane.one_by_one()) else {
            return nothing;
        };
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
            .min(messages.saturating_mul(2).saturating_sub(u64_of(lane.len())));
        let room_bytes =
            bytes.saturating_sub(upstream.unsettled_bytes).min(limits.memory_bytes.saturating_sub(memory));
        let held_max = bytes.saturating_add(u64_of(CHUNK_BYTES));
        let (confirms, frame_max) = (confirm.is_some(), *frame_max);
        let (confirm, limits) = (confirm.as_mut(), &*limits);
        let mut road = Road {
            lane,
            link,
            ch: ch.0,
            up,
            pool,
            upstream,
            spares,
            confirm,
            unsettled,
            room,
            room_bytes,
            held_max,
            journal,
            run: None,
            now,
        };
        let facts = SessionFacts {
            vhost,
            user: credentials.as_ref().map_or("", |c| &c.user),
            peer: *peer,
            confirms,
            frame_max,
        };
        let mut reader = Reader::new(ch, frame_max, limits);
        let (mut at, mut count) = (0, 0);
        let end = loop {
            let rest = buf.get(at..).unwrap_or(&[]);
            if !reader.read(rest) {
                break End::Other;
            }
            let len = reader.frames().len();
            if road.is_full(len) {
                break End::Other;
            }
            let header = reader.header();
            let view = reader.view(facts, &header);
            match judge.judge(now, &view) {
                Decision::Pass if by_tier || !road.takes_whole(len) => road.pass(&reader, &view, by_tier),
                Decision::Pass => {
                    road.pass_whole(rest, len, &view);
                    // Those behind it that say the same are not read one by one.
                    let next = rest.get(len..).unwrap_or(&[]);
                    let alike = reader.alike(next, road.more(len).min(1));
                    if alike > 0 && judge.passes_alike(&view) {
                        let alike = reader.alike(next, road.more(len));
                        road.pass_more(alike, len);
                        judge.passed_alike(&view, u64_of(alike));
                        counters.frames_in += u64_of(alike * (2 + view.body.len()));
                        count += u64_of(alike);
                        at += len * alike;
                    }
                }
                Decision::Edit(edited) => {
                    let elsewhere = edited.upstream.is_some_and(|u| order.get(u.0) != Some(own));
                    let to_disk = edited.durable.unwrap_or(by_tier);
                    let plain =
                        !elsewhere && (!to_disk || !has_spool || has_journal) && road.is_ready(&edited);
                    if !plain || !road.edited(moves, &view, reader.method_payload(), &edited, to_disk) {
                        break End::Judged { seq: road.number(), decision: Decision::Edit(edited) };
                    }
                }
                decision @ Decision::Settle(_) => break End::Judged { seq: road.number(), decision },
            }
            counters.frames_in += 2 + u64_of(view.body.len());
            count += 1;
            at += len;
        };
        counters.accepted += count;
        *spool_dirty |= has_journal && count > 0;
        drop(road);
        if count > 0 {
            self.mark_link(lid);
        }
        (at, end)
    }
}
