//! The road of a row: everything of a lane, its lease, its link and its client that publishes change on their way, held once for all of
//! them (SPEC F1).

use std::rc::Rc;

use super::frames::{Frames, renumber};
use super::journal::Journal;
use super::moves::Moves;
use super::reader::Reader;
use crate::session::confirm::ConfirmWindow;
use crate::session::judge::{Edited, PublishView};
use crate::session::lane::{Item, Kind, Lane, PublishFlags, Store, UNSENT, Wait};
use crate::session::upstream::{Link, Pool, TargetState, Upstream};
use crate::session::{Now, Spares};
use crate::wire::frame::FRAME_OVERHEAD;
use crate::wire::num::{u32_clamped, u64_of, usize_clamped, usize_of};

/// Where a row of publishes goes: everything of theirs that lies on one lease.
pub(super) struct Road<'h> {
    pub(super) lane: &'h mut Lane,
    pub(super) link: &'h mut Link,
    /// The client's channel, and the lease's.
    pub(super) ch: u16,
    pub(super) up: u16,
    pub(super) pool: &'h Pool,
    pub(super) upstream: &'h mut Upstream,
    pub(super) spares: &'h mut Spares,
    /// The client's numbers, and what it has unsettled.
    pub(super) confirm: Option<&'h mut ConfirmWindow>,
    pub(super) unsettled: &'h mut u64,
    /// How many more publishes, and octets, its bounds leave room for; and what its link's chunks may hold.
    pub(super) room: u64,
    pub(super) room_bytes: u64,
    pub(super) held_max: u64,
    /// Where the disk is to have them too.
    pub(super) journal: Option<Journal<'h>>,
    pub(super) run: Option<Run<'h>>,
    pub(super) now: Now,
}

/// Publishes side by side in what the client sent that go on as they came: they are copied, numbered and remembered together, once there
/// is another or the row ends. One that nobody has judged is not among them.
pub(super) struct Run<'h> {
    /// From the first of them on.
    bytes: &'h [u8],
    /// Octets of all, and how many there are.
    len: usize,
    count: usize,
    /// How many more, and octets, there is room for.
    room: u64,
    room_bytes: usize,
    mandatory: bool,
    risky: bool,
}

impl Run<'_> {
    fn takes(&self, len: usize) -> bool {
        self.room > 0 && len <= self.room_bytes
    }

    /// So many more, together so many octets.
    fn add(&mut self, count: usize, len: usize) {
        self.count += count;
        self.len += len;
        self.room = self.room.saturating_sub(u64_of(count));
        self.room_bytes = self.room_bytes.saturating_sub(len);
    }
}

/// Whatever ends a row, a panic of the judge too: what was let in before it goes on (S5).
impl Drop for Road<'_> {
    fn drop(&mut self) {
        self.end_run();
    }
}

impl<'h> Road<'h> {
    /// Whether a publish of so many octets finds no room.
    #[inline]
    pub(super) fn is_full(&mut self, len: usize) -> bool {
        if self.run.as_ref().is_some_and(|run| run.takes(len)) {
            return false;
        }
        self.end_run();
        self.room == 0
            || u64_of(len + FRAME_OVERHEAD) > self.room_bytes
            || u64_of(self.link.out.held()) > self.held_max
    }

    fn is_risky(&self, exchange: &[u8]) -> bool {
        !exchange.is_empty() && !self.pool.known_exchanges.contains(exchange)
    }

    /// What must be there first is known to be there.
    pub(super) fn is_ready(&self, edited: &Edited) -> bool {
        edited.target.as_ref().is_none_or(|target| {
            target.methods.is_empty() || self.pool.targets.get(target) == Some(&TargetState::Ready)
        })
    }

    /// Whether none of so many octets of frames must be split for this link.
    pub(super) fn takes_whole(&self, len: usize) -> bool {
        let frame_max = self.link.tune.frame_max;
        frame_max == 0 || len <= usize_of(frame_max)
    }

    /// The client's number of the publish that comes next.
    pub(super) fn number(&mut self) -> u64 {
        self.end_run();
        self.confirm.as_mut().map_or(0, |window| window.next())
    }

    /// As it came. `bytes` begins with its frames, `len` octets for which `is_full` has seen room.
    #[inline]
    pub(super) fn pass_whole(&mut self, bytes: &'h [u8], len: usize, view: &PublishView<'_>) {
        let (mandatory, risky) = (view.mandatory, self.is_risky(view.exchange));
        match &mut self.run {
            Some(run) if run.mandatory == mandatory && run.risky == risky => run.add(1, len),
            _ => {
                let run = Run { bytes, len: 0, count: 0, room: 0, room_bytes: 0, mandatory, risky };
                self.begin_run(run, len);
            }
        }
    }

    /// How many more publishes of this length the run takes that has just been added to.
    pub(super) fn more(&self, len: usize) -> usize {
        self.run.as_ref().map_or(0, |run| usize_clamped(run.room).min(run.room_bytes / len.max(1)))
    }

    /// So many more, as long as the last, for which `more` has seen room.
    pub(super) fn pass_more(&mut self, count: usize, len: usize) {
        if let Some(run) = &mut self.run {
            run.add(count, len * count);
        }
    }

    #[inline(never)]
    fn begin_run(&mut self, mut run: Run<'h>, len: usize) {
        self.end_run();
        let bytes = usize_clamped(self.room_bytes.saturating_sub(u64_of(FRAME_OVERHEAD)));
        run.room_bytes = self.link.out.room(self.spares, len).min(bytes);
        run.room = self.room;
        run.add(1, len);
        self.run = Some(run);
    }

    /// What `put` does for one publish, for all of a run.
    #[inline(never)]
    fn end_run(&mut self) {
        let Some(Run { bytes, len, count, mandatory, risky, .. }) = self.run.take() else { return };
        let frames = bytes.get(..len).unwrap_or(&[]);
        let (ch, up, count32) = (self.ch, self.up, u32_clamped(count));
        let spot = self.link.out.keep_run(self.spares, frames.len(), count32, |out| {
            if ch == up { out.extend_from_slice(frames) } else { renumber(out, frames, up, 0) }
        });
        let flags = PublishFlags { mandatory, risky, ..PublishFlags::default() };
        let tag = self.weigh(count, spot.len());
        let seq = self.confirm.as_mut().map_or(0, |window| window.next_run(count));
        self.lane.push_sent(Item {
            store: Store::Stream(spot),
            tag,
            len: spot.len(),
            count: count32,
            at_ms: self.now.ms,
            ..item(flags, seq)
        });
        if risky {
            // The first of them that is taken says that their exchange is there.
            self.lane.part(|spot| self.link.out.bytes_at(spot));
        }
    }

    /// So many publishes enter the lane, together so many octets: the tag of the first on the lease.
    fn weigh(&mut self, count: usize, bytes: u32) -> u64 {
        let (publishes, bytes) = (u64_of(count), u64::from(bytes));
        let tag = self.link.channel(self.up).map_or(0, |c| {
            c.next_tag += publishes;
            c.next_tag - publishes
        });
        if self.lane.sent == 0 {
            self.lane.first_ms = self.now.ms;
        }
        self.lane.busy_ms = self.now.ms;
        self.room = self.room.saturating_sub(publishes);
        self.room_bytes = self.room_bytes.saturating_sub(bytes);
        self.upstream.unsettled += publishes;
        self.upstream.unsettled_bytes += bytes;
        *self.unsettled += publishes;
        tag
    }

    /// As it came, by itself: it goes to disk as well, or must be split.
    pub(super) fn pass(&mut self, read: &Reader<'_>, view: &PublishView<'_>, to_disk: bool) {
        let (seq, risky) = (self.number(), self.is_risky(view.exchange));
        let flags = PublishFlags { mandatory: view.mandatory, risky, ..PublishFlags::default() };
        let parts = (read.method_payload(), view.header_payload, view.body);
        let journal = self.journal.as_mut().filter(|_| to_disk);
        let record = journal.and_then(|j| j.keep(parts, None, seq));
        self.put(&Frames::Raw(read.frames()), Item { record, ..item(flags, seq) });
    }

    /// With the edits in its frames, where there is room for them; `original`: the method's payload as the client sent it.
    pub(super) fn edited(
        &mut self,
        moves: &mut Moves,
        view: &PublishView<'_>,
        original: &[u8],
        edited: &Rc<Edited>,
        to_disk: bool,
    ) -> bool {
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
        let frames = Frames::Parts { method, header, body };
        self.end_run();
        if u64_of(frames.len(0)) > self.room_bytes {
            return false;
        }
        let exchange = edited.place.as_ref().map_or(view.exchange, |place| &place.exchange);
        let (seq, mandatory) = (self.number(), view.mandatory);
        let flags = PublishFlags {
            mandatory,
            watched: edited.watch_return && !mandatory,
            durable: edited.durable,
            risky: self.is_risky(exchange),
            ..PublishFlags::default()
        };
        let journal = self.journal.as_mut().filter(|_| to_disk);
        let record = journal.and_then(|j| j.keep((method, header, body), moved.way.as_deref(), seq));
        let wait = moved.way.as_ref().map(|way| Wait { way: Rc::clone(way), met: true, behind: false });
        self.put(&frames, Item { record, wait, ..item(flags, seq) });
        true
    }

    /// One publish enters the lane.
    fn put(&mut self, frames: &Frames<'_>, item: Item) {
        let spot = frames.keep(&mut self.link.out, self.spares, self.up, self.link.tune.frame_max);
        let (tag, at_ms) = (self.weigh(1, spot.len()), self.now.ms);
        self.lane.push_sent(Item { store: Store::Stream(spot), tag, len: spot.len(), at_ms, ..item });
    }
}

/// A publish that is to get its place.
fn item(flags: PublishFlags, seq: u64) -> Item {
    Item {
        store: Store::Own(Box::default()),
        kind: Kind::Publish(flags),
        settled: false,
        strikes: 0,
        tag: UNSENT,
        seq,
        len: 0,
        count: 1,
        at_ms: 0,
        wait: None,
        record: None,
    }
}
