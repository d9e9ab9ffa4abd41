//! One client and its upstream, with a Hub between, and a disk.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use umbel::session::spool::{Spool, SpoolAppend, SpoolKey, SpoolQueue};
use umbel::session::{Action, Hub, Limits, LinkId, Now, SessionId, UpstreamSettings};
use umbel::wire::frame::{ChannelId, FrameKind, write_frame};
use umbel::wire::method::{MethodId, MethodWriter};

use super::easy;
use super::judge::ByKey;
use super::message::{Message, publish};

const NOW: Now = Now { ms: 5_000, wall_us: 1_700_000_000_000_000 };

/// A spool of one queue that takes everything, and says so when it is told to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Disk {
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
pub enum Kept {
    InMemory,
    /// And on disk, if the policy says so.
    WhereAsked,
    /// And on disk, which is as fast as the broker.
    OnDisk,
    /// And on disk, which is faster than the broker.
    OnDiskFirst,
}

/// One client and its upstream, which takes everything and confirms when it is told to.
pub struct Pair {
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
    pub fn logged_in(channel: u16, confirms: bool, window: (u64, u64), durable: Kept) -> Self {
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

    pub fn send(&mut self, bytes: &[u8]) {
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
        self.answer(100, true, true);
    }

    /// It answers one publish, where it is in hundredths of all that it has, or all up to it.
    pub fn answer(&mut self, part: u64, multiple: bool, ack: bool) {
        let tag = (self.published * part).div_ceil(100);
        let method = if ack { MethodId::BASIC_ACK } else { MethodId::BASIC_NACK };
        let ack = MethodWriter::new(method).longlong(tag).octet(u8::from(multiple)).done();
        let mut frame = Vec::new();
        write_frame(&mut frame, FrameKind::Method, ChannelId(self.on), &ack);
        let link = self.link.unwrap();
        self.hub.link_bytes(NOW, link, &frame, &mut self.judge);
        self.hub.audit().unwrap();
        self.settle();
    }

    /// What came out of it all: to the upstream, to the client, and how it was counted.
    pub fn end(mut self) -> (Vec<u8>, Vec<u8>, [u64; 10], Disk) {
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
            self.judge.seen,
        ];
        (self.upstream, self.client, counted, self.disk.take())
    }
}
