//! Publishes that arrive together are handled in rows; whatever is in them, the upstream and the client must see the same octets as if
//! every frame had come by itself (SPEC T1, D2, D8).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions
)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use proptest::prelude::*;
use umbel::session::spool::{Spool, SpoolAppend, SpoolKey, SpoolQueue};
use umbel::session::{
    Action, Decision, Edited, Hub, Judge, Kept as Why, Limits, LinkId, Now, Place, PublishView, SessionId,
    Settle, Settled, Target, UpstreamSettings,
};
use umbel::wire::frame::{ChannelId, FrameKind, parse_frame, write_frame};
use umbel::wire::method::{self, MethodId, MethodWriter};
use umbel::wire::{NewHeader, TableWriter};

#[path = "sim/easy.rs"]
mod easy;
#[path = "sim/kit.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod kit;

const NOW: Now = Now { ms: 5_000, wall_us: 1_700_000_000_000_000 };

/// Decides by the routing key; what only moves a message is one for all, as the real judge has it.
struct ByKey {
    moved: Rc<Edited>,
    awaited: Rc<Edited>,
    watched: Rc<Edited>,
    kept: Rc<Edited>,
    loose: Rc<Edited>,
}

impl ByKey {
    fn new() -> Self {
        let place = |key: &[u8]| Some(Place { exchange: b"moved".to_vec(), routing_key: key.to_vec() });
        let declare =
            MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(b"new").octet(2).longstr(b"");
        let target = Rc::new(Target { name: "queue new".to_owned(), methods: vec![declare.done()] });
        Self {
            moved: Rc::new(Edited { place: place(b"there"), ..Edited::default() }),
            awaited: Rc::new(Edited { place: place(b"new"), target: Some(target), ..Edited::default() }),
            watched: Rc::new(Edited { watch_return: true, ..Edited::default() }),
            kept: Rc::new(Edited { durable: Some(true), ..Edited::default() }),
            loose: Rc::new(Edited { durable: Some(false), place: place(b"loose"), ..Edited::default() }),
        }
    }
}

impl Judge for ByKey {
    fn judge(&mut self, _now: Now, publish: &PublishView<'_>) -> Decision {
        match publish.routing_key {
            b"moved" => Decision::Edit(Rc::clone(&self.moved)),
            b"awaited" => Decision::Edit(Rc::clone(&self.awaited)),
            b"watched" => Decision::Edit(Rc::clone(&self.watched)),
            b"kept" => Decision::Edit(Rc::clone(&self.kept)),
            b"loose" => Decision::Edit(Rc::clone(&self.loose)),
            b"shorter" => {
                let mut header = Vec::new();
                NewHeader { body_size: 2, priority: Some(9), ..NewHeader::default() }.write(&mut header);
                let (header, body) = (Some(header), Some(b"ok".to_vec()));
                Decision::Edit(Rc::new(Edited { header, body, ..Edited::default() }))
            }
            b"nacked" => Decision::Settle(Box::new(Settled {
                settle: Settle::Nack,
                instead: Vec::new(),
                kept: Why::Refused,
            })),
            b"dropped" => Decision::Settle(Box::new(Settled {
                settle: Settle::Ack,
                instead: Vec::new(),
                kept: Why::Refused,
            })),
            b"refused" => Decision::Settle(Box::new(Settled {
                settle: Settle::Close(403, "no".to_owned()),
                instead: Vec::new(),
                kept: Why::Refused,
            })),
            _ => Decision::Pass,
        }
    }
}

/// A spool of one queue that takes everything, and says so when it is told to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Disk {
    /// Flags; method, header, body.
    records: Vec<(u32, [Vec<u8>; 3])>,
    removed: BTreeSet<u64>,
}

struct Shelf(Rc<RefCell<Disk>>);

impl Spool for Shelf {
    fn queue(&mut self, _key: &SpoolKey) -> SpoolQueue {
        SpoolQueue(1)
    }

    fn append(&mut self, _queue: SpoolQueue, publish: &SpoolAppend<'_>) -> Option<u64> {
        let mut disk = self.0.borrow_mut();
        let &SpoolAppend { flags, method, header, body, .. } = publish;
        disk.records.push((flags, [method.to_vec(), header.to_vec(), body.concat()]));
        Some(disk.records.len() as u64)
    }

    fn read(&mut self, _queue: SpoolQueue, _after: Option<u64>, _bytes: usize) {}

    fn remove(&mut self, _queue: SpoolQueue, from: u64, to: u64) {
        self.0.borrow_mut().removed.extend(from..=to);
    }

    fn flush(&mut self) -> bool {
        true
    }

    fn takes(&self) -> bool {
        true
    }
}

/// Where publishes are kept until they are confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    InMemory,
    /// And on disk, if the policy says so.
    WhereAsked,
    /// And on disk, which is as fast as the broker.
    OnDisk,
    /// And on disk, which is faster than the broker.
    OnDiskFirst,
}

/// One client and its upstream, which takes everything and confirms when it is told to.
struct Pair {
    hub: Hub,
    judge: ByKey,
    sid: SessionId,
    upstream: Vec<u8>,
    client: Vec<u8>,
    /// What the client has sent and the Hub has not taken.
    kept: Vec<u8>,
    published: u64,
    on: u16,
    link: Option<LinkId>,
    disk: Rc<RefCell<Disk>>,
    durable: Kept,
}

impl Pair {
    fn logged_in(channel: u16, confirms: bool, window: (u64, u64), durable: Kept) -> Self {
        let mut settings = UpstreamSettings::new("default", "127.0.0.1", 5672);
        (settings.window_messages, settings.window_bytes) = window;
        settings.durable = matches!(durable, Kept::OnDisk | Kept::OnDiskFirst);
        let mut hub = Hub::new(Limits::default(), vec![settings], [7; 32], Vec::new());
        let disk = Rc::new(RefCell::new(Disk::default()));
        if durable != Kept::InMemory {
            hub.set_spool(NOW, Box::new(Shelf(Rc::clone(&disk))), Vec::new(), None);
        }
        hub.start(NOW);
        let sid = hub.accept(NOW, IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let mut pair = Self {
            hub,
            judge: ByKey::new(),
            sid,
            upstream: Vec::new(),
            client: Vec::new(),
            kept: Vec::new(),
            published: 0,
            on: 0,
            link: None,
            disk,
            durable,
        };
        pair.settle();
        easy::login(channel, confirms).iter().for_each(|said| pair.send(said));
        // The lane has its lease before the row begins.
        let mut first = Vec::new();
        publish(&mut first, channel, &Message { key: "first", ..Message::default() });
        pair.send(&first);
        pair.confirm();
        pair
    }

    fn send(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        self.hand_in();
        self.settle();
    }

    fn hand_in(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        let took = self.hub.client_bytes(NOW, self.sid, &kept, &mut self.judge);
        self.kept = kept[took..].to_vec();
    }

    fn settle(&mut self) {
        loop {
            let mut idle = true;
            while let Some(action) = self.hub.next_action() {
                idle = false;
                match action {
                    Action::Dial { link, .. } => self.hub.dialed(NOW, link),
                    Action::HangUpLink(link) => self.hub.link_gone(NOW, link, "hung up"),
                    Action::Resume(_) => self.hand_in(),
                    Action::HangUp(_) | Action::Cut(_) | Action::Recall(_) => {}
                }
            }
            let mut links = Vec::new();
            self.hub.take_dirty_links(&mut links);
            for lid in links {
                idle = false;
                self.read_link(lid);
            }
            let mut sessions = Vec::new();
            self.hub.take_dirty_sessions(&mut sessions);
            for sid in sessions {
                idle = false;
                let out = self.hub.client_out(sid).to_vec();
                self.client.extend_from_slice(&out);
                self.hub.client_written(NOW, sid, out.len());
            }
            if idle {
                return;
            }
        }
    }

    fn read_link(&mut self, lid: LinkId) {
        let sent = easy::taken(&mut self.hub, NOW, lid);
        let mut answers = Vec::new();
        easy::answer(&sent, &mut answers, |frame, method| {
            if method == Some(MethodId::BASIC_PUBLISH) {
                (self.published, self.on) = (self.published + 1, frame.channel.0);
            }
        });
        self.upstream.extend_from_slice(&sent);
        self.link = Some(lid);
        self.hub.link_bytes(NOW, lid, &answers, &mut self.judge);
    }

    /// The disk has all that it was given.
    fn sync(&mut self) {
        self.hub.flush_spool();
        let last = self.disk.borrow().records.len() as u64;
        if last > 0 {
            self.hub.spool_synced(NOW, SpoolQueue(1), last);
        }
        self.settle();
    }

    /// The upstream confirms all that it has.
    fn confirm(&mut self) {
        let ack = MethodWriter::new(MethodId::BASIC_ACK).longlong(self.published).octet(1).done();
        let mut frame = Vec::new();
        write_frame(&mut frame, FrameKind::Method, ChannelId(self.on), &ack);
        let link = self.link.unwrap();
        self.hub.link_bytes(NOW, link, &frame, &mut self.judge);
        self.settle();
    }

    /// What came out of it all: to the upstream, to the client, and how it was counted.
    fn end(mut self) -> (Vec<u8>, Vec<u8>, [u64; 9], Disk) {
        if self.durable == Kept::OnDiskFirst {
            self.sync();
        }
        self.confirm();
        self.confirm();
        self.sync();
        let (records, awaited) = self.hub.spool_waiting();
        let c = &self.hub.counters;
        let counted = [
            c.accepted,
            c.forwarded,
            c.refused(),
            c.expired,
            c.spooled,
            c.records_done,
            self.hub.unsettled(),
            records,
            awaited as u64,
        ];
        (self.upstream, self.client, counted, self.disk.take())
    }
}

#[derive(Debug, Clone)]
struct Message {
    key: &'static str,
    exchange: &'static str,
    ticket: u16,
    bits: u8,
    /// Octets of each body frame.
    body: Vec<usize>,
    headers: u8,
    /// So many of it, one behind the other, with other words of the same length in them; every so many-th with longer ones.
    times: usize,
    longer: usize,
}

impl Default for Message {
    fn default() -> Self {
        Self { key: "pass", exchange: "", ticket: 0, bits: 0, body: vec![5], headers: 0, times: 1, longer: 9 }
    }
}

fn publish(out: &mut Vec<u8>, channel: u16, m: &Message) {
    (0..m.times).for_each(|n| publish_one(out, channel, m, n));
}

fn publish_one(out: &mut Vec<u8>, channel: u16, m: &Message, n: usize) {
    let method = MethodWriter::new(MethodId::BASIC_PUBLISH).short(m.ticket).shortstr(m.exchange.as_bytes());
    let method = method.shortstr(m.key.as_bytes()).octet(m.bits).done();
    write_frame(out, FrameKind::Method, ChannelId(channel), &method);
    let words = format!("{:03}{}", n % 1000, if n % m.longer == m.longer - 1 { "longer" } else { "" });
    let word = |h: u8| if usize::from(h) == n % 7 || h > 30 { b"\xff\xfe\xfd" } else { words.as_bytes() };
    let table = (0..m.headers).fold(TableWriter::new(), |t, h| t.str(&format!("h{h}"), word(h)));
    let mut header = Vec::new();
    let body_size = m.body.iter().sum::<usize>() as u64;
    let headers = (m.headers > 0).then(|| table.table());
    let correlation_id = (m.headers % 2 == 1).then_some(words.as_bytes());
    NewHeader { body_size, headers, correlation_id, delivery_mode: Some(2), ..NewHeader::default() }
        .write(&mut header);
    write_frame(out, FrameKind::Header, ChannelId(channel), &header);
    for &size in &m.body {
        write_frame(out, FrameKind::Body, ChannelId(channel), &vec![n.to_le_bytes()[0]; size]);
    }
}

fn message() -> impl Strategy<Value = Message> {
    let key = prop::sample::select(vec![
        "pass", "pass", "pass", "moved", "moved", "awaited", "watched", "shorter", "kept", "loose", "nacked",
        "dropped", "refused",
    ]);
    // The rare ones end the channel or the connection: most worlds have few of them.
    let key = prop_oneof![9 => key.prop_filter("rare", |k| *k != "refused"), 1 => Just("refused")];
    let bits = prop_oneof![20 => Just(0_u8), 4 => Just(1), 1 => Just(2)];
    let body = prop_oneof![
        prop::collection::vec(1_usize..3000, 0..10),
        prop::collection::vec(1_usize..40, 0..2),
        Just(vec![1000]),
    ];
    let exchange = prop::sample::select(vec!["", "", "known", "other"]);
    let times = prop_oneof![3 => Just(1_usize), 1 => 2_usize..200];
    (key, exchange, prop::sample::select(vec![0_u16, 0, 7]), bits, body, 0_u8..40, times, 1_usize..50)
        .prop_map(|(key, exchange, ticket, bits, body, headers, times, longer)| Message {
            key,
            exchange,
            ticket,
            bits,
            body,
            headers,
            times,
            longer,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn publishes_in_a_row_leave_and_are_answered_as_they_would_be_one_frame_at_a_time(
        messages in prop::collection::vec(message(), 1..40),
        confirms in any::<bool>(),
        channel in prop::sample::select(vec![1_u16, 5]),
        window in prop::sample::select(vec![(4_u64, 64 << 20), (100_000, 20_000), (100_000, 64 << 20), (100_000, 64 << 20)]),
        kept in prop::sample::select(vec![Kept::InMemory, Kept::WhereAsked, Kept::OnDisk, Kept::OnDiskFirst]),
        damage in prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|m| publish(&mut bytes, channel, m));
        if let Some((place, octet)) = damage {
            let place = place.index(bytes.len());
            bytes[place] = octet;
        }
        let mut together = Pair::logged_in(channel, confirms, window, kept);
        together.send(&bytes);
        let mut apart = Pair::logged_in(channel, confirms, window, kept);
        let mut rest = bytes.as_slice();
        while let Ok(Some(frame)) = parse_frame(rest, 0) {
            let (one, tail) = rest.split_at(frame.wire_len());
            apart.send(one);
            rest = tail;
        }
        apart.send(rest);
        let (upstream, client, counted, disk) = together.end();
        let (upstream_apart, client_apart, counted_apart, disk_apart) = apart.end();
        prop_assert_eq!(counted, counted_apart);
        prop_assert!(upstream == upstream_apart, "{} and {} octets upstream", upstream.len(), upstream_apart.len());
        prop_assert_eq!(answers(&client), answers(&client_apart));
        prop_assert_eq!(disk, disk_apart);
    }
}

/// What a client is told: each number's answer, and everything else. Runs of acks may be cut in different places.
fn answers(bytes: &[u8]) -> (Vec<(u64, bool)>, Vec<Vec<u8>>) {
    let (mut numbers, mut others, mut rest) = (Vec::new(), Vec::new(), bytes);
    let mut next = 1;
    while let Some(frame) = parse_frame(rest, 0).unwrap() {
        rest = &rest[frame.wire_len()..];
        match method::split(frame.payload) {
            Ok((id @ (MethodId::BASIC_ACK | MethodId::BASIC_NACK), args))
                if frame.kind == FrameKind::Method =>
            {
                let (tag, multiple) = method::ack(args).unwrap();
                let from = if multiple { next } else { tag };
                (from..=tag).for_each(|n| numbers.push((n, id == MethodId::BASIC_ACK)));
                next = next.max(tag + 1);
            }
            _ => others.push(frame.payload.to_vec()),
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    (numbers, others)
}
