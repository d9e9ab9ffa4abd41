//! A broker, byte for byte: RabbitMQ's side of a conversation as far as a proxy can see it. What it has taken it never forgets.

use std::collections::{BTreeMap, HashSet, VecDeque};

use umbel::session::LinkId;
use umbel::wire::frame::{ChannelId, FrameKind, HEARTBEAT, write_body, write_frame};
use umbel::wire::method::{self, MethodId, MethodWriter, Tune};
use umbel::wire::table::{TableWriter, Value};

use super::kit;
use super::ledger::{Id, Ledger};
use super::own;
use super::rng::Rng;

/// What outlives its connections.
pub struct Broker {
    pub index: usize,
    pub up: bool,
    /// A memory alarm: connections that publish are not read.
    pub alarm: bool,
    pub tune: Tune,
    pub exchanges: HashSet<String>,
    /// Confirms come late.
    pub lazy: bool,
    /// Connections die as soon as they are open.
    pub flaky: bool,
}

impl Broker {
    pub fn new(index: usize, rng: &mut Rng) -> Self {
        let tune = Tune {
            channel_max: *rng.pick(&[2047, 2047, 4, 2]),
            frame_max: *rng.pick(&[131_072, 131_072, 8192]),
            heartbeat: *rng.pick(&[10, 0]),
        };
        let exchanges = ["", "ex.a", "ex.b", "ex.forbidden"].map(String::from).into();
        Self { index, up: true, alarm: false, tune, exchanges, lazy: false, flaky: false }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Header,
    StartOk,
    TuneOk,
    Open,
    Running,
    /// It has said connection.close.
    Closing,
    /// The client side has.
    Closed,
}

struct Content {
    exchange: String,
    key: String,
    mandatory: bool,
    header: Option<Vec<u8>>,
    body: Vec<u8>,
    left: u64,
}

struct Pending {
    tag: u64,
    taken: Option<usize>,
    ack: bool,
}

#[derive(Default)]
struct Chan {
    confirm: bool,
    next_tag: u64,
    pending: VecDeque<Pending>,
    content: Option<Content>,
    closing: bool,
    consumer: Option<Vec<u8>>,
    deliveries: u64,
    /// In transactions: what is held back until commit.
    tx: Option<Vec<Id>>,
    /// Its consumer hears direct replies, and nothing else.
    replies: bool,
}

/// One message on one connection, and the octet of our output at which the other side knows of it.
struct Taken {
    id: Option<Id>,
    known_at: Option<u64>,
}

/// One connection to a broker.
pub struct Conn {
    lid: LinkId,
    phase: Phase,
    chans: BTreeMap<u16, Chan>,
    /// Octets that have come and are not read yet.
    pub input: Vec<u8>,
    /// Octets to be sent.
    pub out: Vec<u8>,
    pushed: u64,
    taken: Vec<Taken>,
    published: bool,
    told_blocked: bool,
    agreed: Tune,
    beat_ms: u64,
    pub heard_ms: u64,
    /// The Hub has given it up, and sends again what was not confirmed, while we still read what was on its way.
    condemned: bool,
}

impl Conn {
    pub fn new(lid: LinkId, now_ms: u64) -> Self {
        Self {
            lid,
            phase: Phase::Header,
            chans: BTreeMap::new(),
            input: Vec::new(),
            out: Vec::new(),
            pushed: 0,
            taken: Vec::new(),
            published: false,
            told_blocked: false,
            agreed: Tune { channel_max: 0, frame_max: 0, heartbeat: 0 },
            beat_ms: now_ms,
            heard_ms: now_ms,
            condemned: false,
        }
    }

    fn say(&mut self, channel: u16, payload: &[u8]) {
        let before = self.out.len();
        kit::push_method(&mut self.out, channel, payload);
        self.pushed += (self.out.len() - before) as u64;
    }

    fn say_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.pushed += bytes.len() as u64;
    }

    /// The Hub hangs up; `read` octets of ours have been read by it.
    pub fn condemn(&mut self, broker: &Broker, ledger: &mut Ledger, read: u64) {
        if !self.condemned {
            self.condemned = true;
            for t in &self.taken {
                if let (Some(id), true) = (t.id, t.known_at.is_none_or(|at| at > read)) {
                    ledger.may_come_again(broker.index, id);
                }
            }
        }
    }

    /// The connection is gone; `read` octets of ours have been read by the other side.
    pub fn died(&mut self, broker: &Broker, ledger: &mut Ledger, read: u64) {
        self.condemn(broker, ledger, read);
        self.taken.clear();
        self.chans.clear();
        self.phase = Phase::Closed;
    }

    /// Open, and nothing has been published on it.
    pub fn is_fresh(&self) -> bool {
        self.phase == Phase::Running && !self.published
    }

    pub fn is_over(&self) -> bool {
        self.phase == Phase::Closed && self.out.is_empty()
    }

    /// Reads what has come, unless an alarm keeps it from it.
    pub fn work(&mut self, broker: &mut Broker, ledger: &mut Ledger, rng: &mut Rng, now_ms: u64) {
        if broker.alarm && self.published {
            if !self.told_blocked && self.phase == Phase::Running {
                self.told_blocked = true;
                self.say(
                    0,
                    &MethodWriter::new(MethodId::CONNECTION_BLOCKED).shortstr(b"low on memory").done(),
                );
            }
        } else {
            self.read(broker, ledger, rng, now_ms);
        }
        if self.told_blocked && !broker.alarm && self.phase == Phase::Running {
            self.told_blocked = false;
            self.say(0, &kit::bare(MethodId::CONNECTION_UNBLOCKED));
        }
        if self.phase == Phase::Running {
            self.confirm_some(broker, ledger, rng);
            self.deliver_some(rng);
        }
        if self.agreed.heartbeat > 0 && now_ms >= self.beat_ms + u64::from(self.agreed.heartbeat) * 500 {
            self.beat_ms = now_ms;
            self.say_raw(&HEARTBEAT);
        }
    }

    fn read(&mut self, broker: &mut Broker, ledger: &mut Ledger, rng: &mut Rng, now_ms: u64) {
        if !self.input.is_empty() {
            self.heard_ms = now_ms;
        }
        if self.phase == Phase::Header {
            if self.input.len() < 8 {
                return;
            }
            let header: Vec<u8> = self.input.drain(..8).collect();
            assert_eq!(header, b"AMQP\x00\x00\x09\x01", "links open with the header of 0-9-1");
            self.phase = Phase::StartOk;
            let capabilities =
                TableWriter::new().with("authentication_failure_close", Value::Bool(true)).into_bytes();
            let properties = TableWriter::new()
                .str("product", b"RabbitMQ")
                .with("capabilities", Value::Table(umbel::wire::Table::new(&capabilities)))
                .into_bytes();
            self.say(0, &kit::start(&properties));
        }
        for frame in kit::take_frames(&mut self.input) {
            if self.agreed.frame_max > 0 {
                assert!(
                    frame.payload.len() + 8 <= self.agreed.frame_max as usize,
                    "a frame over what was agreed: {}",
                    frame.payload.len()
                );
            }
            if frame.channel == 0 && frame.kind == FrameKind::Method {
                ledger.note(|| format!("{:?} says {:?} on 0", self.lid, frame.method()));
            }
            if frame.kind != FrameKind::Heartbeat {
                self.frame(broker, ledger, rng, &frame);
            }
            if self.phase == Phase::Closed {
                self.input.clear();
                return;
            }
        }
    }

    fn frame(&mut self, broker: &mut Broker, ledger: &mut Ledger, rng: &mut Rng, frame: &kit::OwnFrame) {
        if self.phase == Phase::Closing {
            if frame.method() == Some(MethodId::CONNECTION_CLOSE_OK) {
                self.phase = Phase::Closed;
            }
            return;
        }
        if frame.channel == 0 {
            self.connection_method(broker, rng, frame);
            return;
        }
        assert_eq!(
            self.phase,
            Phase::Running,
            "{:?} on channel {} of {:?} while its connection is not open",
            frame.method(),
            frame.channel,
            self.lid
        );
        match frame.method() {
            Some(MethodId::CHANNEL_OPEN) => {
                assert!(
                    !self.chans.contains_key(&frame.channel),
                    "channel {} is opened twice, or before close-ok",
                    frame.channel
                );
                self.chans.insert(frame.channel, Chan { next_tag: 1, ..Chan::default() });
                let max = usize::from(self.agreed.channel_max);
                assert!(max == 0 || self.chans.len() <= max, "{} channels, {max} agreed", self.chans.len());
                self.say(frame.channel, &kit::channel_open_ok());
                return;
            }
            Some(MethodId::CHANNEL_CLOSE_OK) => {
                let closing = self.chans.remove(&frame.channel).is_some_and(|c| c.closing);
                assert!(closing, "close-ok for a channel that was not closed");
                return;
            }
            Some(MethodId::CHANNEL_CLOSE) => {
                let c = self.chans.get(&frame.channel).expect("channel.close on an open channel");
                let closing = c.closing;
                if !closing {
                    self.confirm_all(frame.channel, |_| true);
                    self.chans.remove(&frame.channel);
                }
                self.say(frame.channel, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
                return;
            }
            _ => {}
        }
        let c = self
            .chans
            .get_mut(&frame.channel)
            .unwrap_or_else(|| panic!("{frame:?} on a channel that is not open"));
        if c.closing {
            return;
        }
        match (frame.kind, &mut c.content) {
            (FrameKind::Method, None) => self.method(broker, ledger, rng, frame),
            (FrameKind::Header, Some(content)) if content.header.is_none() => {
                content.left = kit::body_size(&frame.payload);
                content.header = Some(frame.payload.clone());
                self.maybe_whole(broker, ledger, rng, frame.channel);
            }
            (FrameKind::Body, Some(content)) if content.header.is_some() => {
                content.left = content
                    .left
                    .checked_sub(frame.payload.len() as u64)
                    .expect("no more body than announced");
                content.body.extend_from_slice(&frame.payload);
                self.maybe_whole(broker, ledger, rng, frame.channel);
            }
            _ => panic!("unexpected {frame:?}: content out of order on a link"),
        }
    }

    fn connection_method(&mut self, broker: &Broker, rng: &mut Rng, frame: &kit::OwnFrame) {
        let (id, mut args) = method::split(&frame.payload).expect("a method");
        let refuse = |conn: &mut Self, code, text: &str, cause| {
            conn.say(0, &kit::close(MethodId::CONNECTION_CLOSE, code, text, cause));
            conn.phase = Phase::Closing;
        };
        match (self.phase, id) {
            (Phase::StartOk, MethodId::CONNECTION_START_OK) => {
                let ok = method::start_ok(args).expect("a start-ok");
                if ok.response == b"\0app\0pw" {
                    self.phase = Phase::TuneOk;
                    let tune = method::write_tune(MethodId::CONNECTION_TUNE, broker.tune);
                    self.say(0, &tune);
                } else {
                    refuse(
                        self,
                        403,
                        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
                        MethodId::NONE,
                    );
                }
            }
            (Phase::TuneOk, MethodId::CONNECTION_TUNE_OK) => {
                self.agreed = method::tune(args).expect("a tune-ok");
                assert!(self.agreed.frame_max <= broker.tune.frame_max && self.agreed.frame_max >= 4096);
                assert!(self.agreed.channel_max <= broker.tune.channel_max && self.agreed.channel_max > 0);
                self.phase = Phase::Open;
            }
            (Phase::Open, MethodId::CONNECTION_OPEN) => {
                let vhost = args.shortstr().expect("a vhost");
                if vhost == b"/" {
                    self.phase = Phase::Running;
                    self.say(0, &MethodWriter::new(MethodId::CONNECTION_OPEN_OK).shortstr(b"").done());
                } else {
                    let text = format!("NOT_ALLOWED - vhost {} not found", String::from_utf8_lossy(vhost));
                    refuse(self, 530, &text, MethodId::CONNECTION_OPEN);
                }
            }
            (_, MethodId::CONNECTION_CLOSE) => {
                let _ = rng;
                self.say(0, &kit::bare(MethodId::CONNECTION_CLOSE_OK));
                self.phase = Phase::Closed;
            }
            _ => panic!("unexpected {} in {:?}", id.name(), self.phase),
        }
    }

    /// An operator closes the connection.
    pub fn close(&mut self) {
        if self.phase == Phase::Running {
            self.say(
                0,
                &kit::close(
                    MethodId::CONNECTION_CLOSE,
                    320,
                    "CONNECTION_FORCED - broker forced connection closure",
                    MethodId::NONE,
                ),
            );
            self.phase = Phase::Closing;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a broker's words, spelled out")]
    fn close_channel(
        &mut self,
        ledger: &mut Ledger,
        rng: &mut Rng,
        broker: &Broker,
        channel: u16,
        code: u16,
        text: &str,
        cause: MethodId,
    ) {
        // RabbitMQ confirms what it took before it closes, or at least has it; what it refused it says.
        let all = rng.chance(80);
        self.confirm_all(channel, |p| all || !p.ack);
        ledger.note(|| format!("broker {} closes channel {channel}: {code} {text}", broker.index));
        self.say(channel, &kit::close(MethodId::CHANNEL_CLOSE, code, text, cause));
        let pushed = self.pushed;
        let c = self.chans.get_mut(&channel).expect("an open channel");
        c.closing = true;
        c.content = None;
        for p in std::mem::take(&mut c.pending) {
            if let Some(t) = p.taken.and_then(|t| self.taken.get_mut(t)) {
                // Not confirmed, and never will be: it may be sent again.
                if let (Some(id), true) = (t.id, p.ack) {
                    ledger.may_come_again(broker.index, id);
                }
                t.known_at = Some(pushed);
            }
        }
    }

    fn maybe_whole(&mut self, broker: &mut Broker, ledger: &mut Ledger, rng: &mut Rng, channel: u16) {
        let c = self.chans.get_mut(&channel).expect("an open channel");
        if c.content.as_ref().is_none_or(|k| k.left > 0) {
            return;
        }
        let content = c.content.take().expect("looked at just now");
        self.published = true;
        let header = content.header.expect("a header came first");
        let name = kit::message_id(&header).expect("every message has an id");
        if let Some(id) = own::parse(&name) {
            self.take_own(ledger, channel, id, &content.body);
            return;
        }
        let (exchange, key) = (&content.exchange, &content.key);
        ledger
            .note(|| format!("{name} comes on channel {channel} of {:?} for '{exchange}' '{key}'", self.lid));
        if !broker.exchanges.contains(exchange) {
            let text = format!("NOT_FOUND - no exchange '{}' in vhost '/'", content.exchange);
            self.close_channel(ledger, rng, broker, channel, 404, &text, MethodId::BASIC_PUBLISH);
            return;
        }
        if content.exchange == "ex.forbidden" {
            let text =
                "ACCESS_REFUSED - access to exchange 'ex.forbidden' in vhost '/' refused for user 'app'";
            self.close_channel(ledger, rng, broker, channel, 403, text, MethodId::BASIC_PUBLISH);
            return;
        }
        if content.key.starts_with("huge") {
            let text = "PRECONDITION_FAILED - message size 999 is larger than configured max size 99";
            self.close_channel(ledger, rng, broker, channel, 406, text, MethodId::BASIC_PUBLISH);
            return;
        }
        let id = (name != "authored").then(|| Id::parse(&name));
        let c = self.chans.get_mut(&channel).expect("an open channel");
        assert!(c.confirm, "every publish upstream is under confirms");
        let tag = c.next_tag;
        c.next_tag += 1;
        let ack = !(content.key.starts_with("reject") && rng.chance(50));
        if let Some(id) = id {
            if ack {
                if self.condemned {
                    ledger.may_come_again(broker.index, id);
                }
                // What no queue takes is tried again later: no queue could tell.
                let orderly = !self.condemned && !content.key.starts_with("nowhere");
                ledger.arrive(broker.index, id, &content.body, orderly);
            } else {
                ledger.broker_nacked(id);
            }
        }
        let taken = ack.then(|| {
            self.taken.push(Taken { id, known_at: None });
            self.taken.len() - 1
        });
        c.pending.push_back(Pending { tag, taken, ack });
        if content.mandatory && content.key.starts_with("nowhere") {
            if let Some(id) = id.filter(|_| ack) {
                // Whoever keeps what comes back may try it again.
                ledger.may_come_again(broker.index, id);
            }
            let mut frames = Vec::new();
            let method = MethodWriter::new(MethodId::BASIC_RETURN)
                .short(312)
                .shortstr(b"NO_ROUTE")
                .shortstr(content.exchange.as_bytes())
                .shortstr(content.key.as_bytes())
                .done();
            kit::push_method(&mut frames, channel, &method);
            write_frame(&mut frames, FrameKind::Header, ChannelId(channel), &header);
            write_body(&mut frames, ChannelId(channel), &content.body, self.agreed.frame_max);
            self.say_raw(&frames);
        }
    }

    /// A message on a client's own channel: held until commit, or answered.
    fn take_own(&mut self, ledger: &mut Ledger, channel: u16, id: Id, body: &[u8]) {
        assert_eq!(body, id.body(), "the body of own-{} is not its own", id.name());
        let c = self.chans.get_mut(&channel).expect("an open channel");
        if let Some(held) = &mut c.tx {
            held.push(id);
            return;
        }
        assert!(c.replies, "own-{} on a channel that is nobody's own", id.name());
        ledger.own.arrive(id);
        self.deliver(channel, &own::name(id), id);
    }

    fn confirm_all(&mut self, channel: u16, which: impl Fn(&Pending) -> bool) {
        let Some(c) = self.chans.get_mut(&channel) else { return };
        let (now, later) = std::mem::take(&mut c.pending).into_iter().partition::<Vec<_>, _>(which);
        c.pending = later.into();
        for p in now {
            let payload = if p.ack { kit::ack(p.tag, false) } else { kit::nack(p.tag, false) };
            self.say(channel, &payload);
            if let Some(t) = p.taken {
                self.taken[t].known_at = Some(self.pushed);
            }
        }
    }

    fn confirm_some(&mut self, broker: &Broker, ledger: &mut Ledger, rng: &mut Rng) {
        let channels: Vec<u16> =
            self.chans.iter().filter(|(_, c)| !c.pending.is_empty()).map(|(n, _)| *n).collect();
        for channel in channels {
            if rng.chance(if broker.lazy { 97 } else { 40 }) {
                continue;
            }
            let c = self.chans.get_mut(&channel).expect("an open channel");
            let mut said = Vec::new();
            if rng.chance(60) {
                // A run of the same kind from the front, as one.
                let kind = c.pending[0].ack;
                let run = c.pending.iter().take_while(|p| p.ack == kind).count();
                let n = 1 + rng.below(run);
                let batch: Vec<Pending> = c.pending.drain(..n).collect();
                let last = batch[batch.len() - 1].tag;
                let multiple = batch.len() > 1 || rng.chance(20);
                said.push((batch, if kind { kit::ack(last, multiple) } else { kit::nack(last, multiple) }));
            } else {
                let at = rng.below(c.pending.len());
                let p = c.pending.remove(at).expect("an index in range");
                let payload = if p.ack { kit::ack(p.tag, false) } else { kit::nack(p.tag, false) };
                said.push((vec![p], payload));
            }
            for (batch, payload) in said {
                ledger.note(|| {
                    format!(
                        "broker confirms {:?} on channel {channel} of {:?}",
                        batch.iter().map(|p| (p.tag, p.ack)).collect::<Vec<_>>(),
                        self.lid
                    )
                });
                self.say(channel, &payload);
                for t in batch.iter().filter_map(|p| p.taken) {
                    self.taken[t].known_at = Some(self.pushed);
                }
            }
        }
    }

    fn deliver_some(&mut self, rng: &mut Rng) {
        let channels: Vec<u16> = self
            .chans
            .iter()
            .filter(|(_, c)| c.consumer.is_some() && !c.replies && !c.closing)
            .map(|(n, _)| *n)
            .collect();
        for channel in channels {
            if !rng.chance(20) {
                continue;
            }
            let next = self.chans[&channel].deliveries as u32 + 1;
            let id = Id { chan: 0, n: next, len: rng.below(20_000) as u32 };
            self.deliver(channel, &id.name(), id);
        }
    }

    fn deliver(&mut self, channel: u16, name: &str, id: Id) {
        let c = self.chans.get_mut(&channel).expect("an open channel");
        c.deliveries += 1;
        let tag = c.consumer.clone().expect("a consumer");
        let method = MethodWriter::new(MethodId::BASIC_DELIVER)
            .shortstr(&tag)
            .longlong(c.deliveries)
            .octet(0)
            .shortstr(b"")
            .shortstr(b"q")
            .done();
        let mut frames = Vec::new();
        kit::push_method(&mut frames, channel, &method);
        let header = kit::header(name, id.len as usize);
        write_frame(&mut frames, FrameKind::Header, ChannelId(channel), &header);
        write_body(&mut frames, ChannelId(channel), id.body(), self.agreed.frame_max);
        self.say_raw(&frames);
    }

    fn method(&mut self, broker: &mut Broker, ledger: &mut Ledger, rng: &mut Rng, frame: &kit::OwnFrame) {
        let (id, mut args) = method::split(&frame.payload).expect("a method");
        let ch = frame.channel;
        let mut fail =
            |conn: &mut Self, code, text: &str| conn.close_channel(ledger, rng, broker, ch, code, text, id);
        match id {
            MethodId::BASIC_PUBLISH => {
                let p = method::publish(args).expect("a publish");
                assert!(!p.immediate);
                let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                let content = Content {
                    exchange: text(p.exchange),
                    key: text(p.routing_key),
                    mandatory: p.mandatory,
                    header: None,
                    body: Vec::new(),
                    left: 0,
                };
                self.chans.get_mut(&ch).expect("an open channel").content = Some(content);
            }
            MethodId::CONFIRM_SELECT => {
                self.chans.get_mut(&ch).expect("an open channel").confirm = true;
                self.say(ch, &kit::bare(MethodId::CONFIRM_SELECT_OK));
            }
            MethodId::QUEUE_DECLARE => {
                let named = method::queue_named(args).expect("a name");
                match named.queue {
                    q if q.starts_with(b"bad") => {
                        fail(self, 406, "PRECONDITION_FAILED - inequivalent arg 'durable'")
                    }
                    q if q.starts_with(b"none") => {
                        fail(self, 404, "NOT_FOUND - no queue 'none' in vhost '/'")
                    }
                    q if q.starts_with(b"forbidden") => fail(self, 403, "ACCESS_REFUSED - access to queue"),
                    q => {
                        let name = if q.is_empty() { b"amq.gen-1".to_vec() } else { q.to_vec() };
                        self.say(ch, &kit::queue_declare_ok(&name));
                    }
                }
            }
            MethodId::EXCHANGE_DECLARE => {
                let name = args.u16().and_then(|_| args.shortstr()).expect("a name");
                broker.exchanges.insert(String::from_utf8_lossy(name).into_owned());
                self.say(ch, &kit::bare(MethodId::EXCHANGE_DECLARE_OK));
            }
            MethodId::BASIC_GET => {
                self.say(ch, &MethodWriter::new(MethodId::BASIC_GET_EMPTY).shortstr(b"").done())
            }
            MethodId::BASIC_QOS => self.say(ch, &kit::bare(MethodId::BASIC_QOS_OK)),
            MethodId::BASIC_CONSUME => {
                let named = method::queue_named(args).expect("a name");
                let tag = umbel::wire::Reader::new(named.rest).shortstr().expect("a tag").to_vec();
                self.say(ch, &MethodWriter::new(MethodId::BASIC_CONSUME_OK).shortstr(&tag).done());
                let c = self.chans.get_mut(&ch).expect("an open channel");
                c.replies = named.queue == own::REPLY_TO.as_bytes();
                c.consumer = Some(tag);
            }
            MethodId::TX_SELECT => {
                self.chans.get_mut(&ch).expect("an open channel").tx = Some(Vec::new());
                self.say(ch, &kit::bare(MethodId::TX_SELECT_OK));
            }
            MethodId::TX_COMMIT | MethodId::TX_ROLLBACK => {
                let held = self.chans.get_mut(&ch).and_then(|c| c.tx.as_mut()).expect("a transaction");
                let held = std::mem::take(held);
                let commits = id == MethodId::TX_COMMIT;
                held.into_iter().filter(|_| commits).for_each(|id| ledger.own.arrive(id));
                let ok = if commits { MethodId::TX_COMMIT_OK } else { MethodId::TX_ROLLBACK_OK };
                self.say(ch, &kit::bare(ok));
            }
            MethodId::BASIC_ACK => {
                let (tag, _) = method::ack(args).expect("an ack");
                let c = &self.chans[&ch];
                assert!(tag <= c.deliveries, "an ack for a delivery that was not made on this link");
            }
            _ => panic!("unexpected {} on a link", id.name()),
        }
    }
}
