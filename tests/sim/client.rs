//! A client, byte for byte: what it says, what it may hear, and what it would complain of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use umbel::session::SessionId;
use umbel::wire::frame::{FrameKind, HEARTBEAT};
use umbel::wire::method::{self, MethodId, MethodWriter};
use umbel::wire::table::{TableWriter, Value};

use super::kit;
use super::ledger::{End, Fate, Id, Ledger};
use super::own::{self, Own};
use super::rng::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Start,
    Tune,
    OpenOk,
    Running,
    /// It has said connection.close.
    Closing,
    /// It was told connection.close, and may still answer.
    Told,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChanState {
    Opening,
    Open,
    /// It has said channel.close.
    Closing,
    /// It was told channel.close and has not answered yet.
    Told,
}

struct Chan {
    uid: u32,
    state: ChanState,
    n: u32,
    /// Number of the first publish under confirms.
    confirm_from: Option<u32>,
    outstanding: BTreeSet<u32>,
    replies: VecDeque<MethodId>,
    /// It has done something that a broker may close it for.
    at_fault: bool,
    delivering: Option<Delivering>,
    consumer: bool,
    deliveries: u64,
    unacked: u64,
    /// In transactions, or with direct replies.
    own: Option<Own>,
}

struct Delivering {
    returned: bool,
    header: Option<(String, u64)>,
    body: Vec<u8>,
}

pub struct Client {
    pub sid: SessionId,
    pub phase: Phase,
    /// To be written.
    pub out: Vec<u8>,
    /// In the Hub's hands, not taken yet.
    pub held: Vec<u8>,
    /// Heard, not looked at yet.
    heard: Vec<u8>,
    chans: BTreeMap<u16, Chan>,
    /// Channels that it gave up with its connection: their lives, and their first numbers under confirms.
    given_up: BTreeMap<u16, (u32, Option<u32>)>,
    good_password: bool,
    good_vhost: bool,
    frame_max: u32,
    channel_max: usize,
    heartbeat: u16,
    pub pinned: bool,
    /// Says what no client may say.
    pub rude: bool,
    /// Reads nothing for now.
    pub deaf: bool,
    /// Says nothing, since then: perhaps in the middle of a body.
    pub mute_since_ms: Option<u64>,
    /// The Hub has said HangUp.
    pub hung_up: bool,
    pub window_full: bool,
    /// Which replies the vouched-for upstream state allows: logins may fail while no upstream is there.
    pub running_since: bool,
    pub talk_ms: u64,
    told_blocked: bool,
    /// What it said since somebody took note, where somebody does.
    pub notes: Vec<String>,
    pub tracing: bool,
}

pub struct Chances {
    /// Percent of clients that consume, get, and so on.
    pub pins: u64,
    /// Percent of channels that are for transactions or direct replies.
    pub own: u64,
    /// Percent of channels that are ruined.
    pub errors: u64,
    pub body_max: usize,
}

impl Client {
    pub fn new(sid: SessionId, rng: &mut Rng) -> Self {
        let old = rng.chance(10);
        Self {
            sid,
            phase: Phase::Start,
            out: if old { b"AMQP\x01\x01\x00\x09".to_vec() } else { b"AMQP\x00\x00\x09\x01".to_vec() },
            held: Vec::new(),
            heard: Vec::new(),
            chans: BTreeMap::new(),
            given_up: BTreeMap::new(),
            good_password: !rng.chance(6),
            good_vhost: !rng.chance(4),
            frame_max: 4096,
            channel_max: 1,
            heartbeat: 0,
            pinned: false,
            rude: false,
            deaf: false,
            mute_since_ms: None,
            hung_up: false,
            window_full: false,
            running_since: false,
            talk_ms: 0,
            told_blocked: false,
            notes: Vec::new(),
            tracing: false,
        }
    }

    /// One whose login is in order.
    pub fn reliable(mut self) -> Self {
        (self.good_password, self.good_vhost) = (true, true);
        self
    }

    fn say(&mut self, channel: u16, payload: &[u8]) {
        if self.tracing {
            let name = method::split(payload).map_or("?", |(id, _)| id.name());
            self.notes.push(format!("{:?} says {name} on {channel}", self.sid));
        }
        kit::push_method(&mut self.out, channel, payload);
    }

    pub fn say_heartbeat(&mut self, now_ms: u64) {
        if self.heartbeat > 0
            && now_ms >= self.talk_ms + u64::from(self.heartbeat) * 500
            && self.out.is_empty()
            && self.mute_since_ms.is_none()
        {
            self.talk_ms = now_ms;
            self.out.extend_from_slice(&HEARTBEAT);
        }
    }

    /// Whether everything it waits for has come.
    pub fn is_content(&self) -> bool {
        self.phase == Phase::Running
            && self.out.is_empty()
            && self.held.is_empty()
            && !self.told_blocked
            && self.chans.values().all(|c| {
                c.state == ChanState::Open
                    && c.outstanding.is_empty()
                    && c.replies.is_empty()
                    && c.own.as_ref().is_none_or(|own| own.echoes.is_empty())
            })
    }

    pub fn why_not_content(&self) -> String {
        let chans: Vec<String> = self
            .chans
            .iter()
            .map(|(n, c)| {
                format!(
                    "{n}(uid {}) {:?} outstanding {:?} replies {:?}",
                    c.uid, c.state, c.outstanding, c.replies
                )
            })
            .collect();
        format!(
            "{:?} {:?} out {} held {} pinned {} {chans:?}",
            self.sid,
            self.phase,
            self.out.len(),
            self.held.len(),
            self.pinned
        )
    }

    /// close-ok to every channel.close that it has not answered.
    pub fn answer_closes(&mut self) {
        let told: Vec<u16> =
            self.chans.iter().filter(|(_, c)| c.state == ChanState::Told).map(|(n, _)| *n).collect();
        for ch in told {
            self.chans.remove(&ch);
            self.say(ch, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
        }
    }

    /// It leaves without a word.
    pub fn vanish(&mut self, ledger: &mut Ledger) {
        self.end_all(ledger, End::ByClient);
        self.phase = Phase::Over;
    }

    /// Octets that it was sent and will never read: what they refuse has been refused.
    pub fn overhear(&mut self, bytes: &[u8], ledger: &mut Ledger) {
        self.heard.extend_from_slice(bytes);
        for frame in kit::take_frames(&mut self.heard) {
            self.note_refusal(&frame, ledger);
        }
    }

    fn note_refusal(&self, frame: &kit::OwnFrame, ledger: &mut Ledger) {
        let known = self.chans.get(&frame.channel).map(|c| (c.uid, c.confirm_from));
        let known = known.or_else(|| self.given_up.get(&frame.channel).copied());
        if let (Some(MethodId::BASIC_NACK), Some((uid, Some(from)))) = (frame.method(), known) {
            let (_, args) = method::split(&frame.payload).expect("a method");
            let (tag, _) = method::ack(args).expect("a nack");
            ledger.chan(uid).excused.insert(from + tag as u32 - 1);
        }
    }

    fn end_all(&mut self, ledger: &mut Ledger, end: End) {
        for (ch, c) in &self.chans {
            self.given_up.insert(*ch, (c.uid, c.confirm_from));
            let k = ledger.chan(c.uid);
            if k.end == End::Open {
                k.end = if c.at_fault { End::ByError } else { end };
            }
        }
        self.chans.clear();
    }

    /// Something that a client may do.
    pub fn act(&mut self, rng: &mut Rng, ledger: &mut Ledger, uids: &mut u32, chances: &Chances) {
        if self.mute_since_ms.is_some() || self.phase != Phase::Running || self.out.len() > 300_000 {
            return;
        }
        let numbers: Vec<u16> = self.chans.keys().copied().collect();
        if numbers.is_empty() || (numbers.len() < 3.min(self.channel_max) && rng.chance(3)) {
            self.open_channel(rng, ledger, uids, chances);
            return;
        }
        let ch = *rng.pick(&numbers);
        let state = self.chans[&ch].state;
        match state {
            ChanState::Told => {
                if rng.chance(50) {
                    self.chans.remove(&ch);
                    self.say(ch, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
                } else if rng.chance(30) {
                    // It has not looked yet, and says something that is thrown away.
                    let bytes = kit::publish(ch, "ex.a", "late", false, "0-0-4", b"late", self.frame_max);
                    self.out.extend_from_slice(&bytes);
                }
            }
            ChanState::Closing => {}
            ChanState::Opening | ChanState::Open => self.use_channel(ch, rng, ledger, chances),
        }
    }

    fn open_channel(&mut self, rng: &mut Rng, ledger: &mut Ledger, uids: &mut u32, chances: &Chances) {
        let ch = 1 + rng.below(5) as u16;
        if self.chans.contains_key(&ch) {
            return;
        }
        *uids += 1;
        let uid = *uids;
        ledger.open(uid);
        let mut chan = Chan {
            uid,
            state: ChanState::Opening,
            n: 0,
            confirm_from: None,
            outstanding: BTreeSet::new(),
            replies: VecDeque::new(),
            at_fault: false,
            delivering: None,
            consumer: false,
            deliveries: 0,
            unacked: 0,
            own: None,
        };
        self.say(ch, &kit::channel_open());
        if rng.chance(chances.own) {
            self.pinned = true;
            let tx = rng.chance(60);
            chan.own = Some(Own::new(uid, tx));
            let (payload, reply) = if tx {
                (kit::bare(MethodId::TX_SELECT), MethodId::TX_SELECT_OK)
            } else {
                (kit::consume_replies(own::REPLY_TO), MethodId::BASIC_CONSUME_OK)
            };
            chan.replies.push_back(reply);
            self.say(ch, &payload);
        } else if rng.chance(50) {
            self.say(ch, &kit::confirm_select());
            chan.replies.push_back(MethodId::CONFIRM_SELECT_OK);
            chan.confirm_from = Some(1);
            ledger.chan(uid).confirm_from = Some(1);
        }
        self.chans.insert(ch, chan);
    }

    fn use_channel(&mut self, ch: u16, rng: &mut Rng, ledger: &mut Ledger, chances: &Chances) {
        let roll = rng.below(100);
        if self.chans[&ch].own.is_some() && !(83..88).contains(&roll) {
            self.use_own(ch, roll, rng, ledger);
            return;
        }
        match roll {
            0..70 => {
                for _ in 0..1 + rng.below(4) {
                    self.publish(ch, rng, ledger, chances);
                }
            }
            70..80 => self.ask(ch, rng, chances),
            80..83 => {
                let c = self.chans.get_mut(&ch).expect("chosen from them");
                if c.confirm_from.is_none() {
                    c.confirm_from = Some(c.n + 1);
                    c.replies.push_back(MethodId::CONFIRM_SELECT_OK);
                    ledger.chan(c.uid).confirm_from = Some(c.n + 1);
                    self.say(ch, &kit::confirm_select());
                }
            }
            83..86 => {
                let c = self.chans.get_mut(&ch).expect("chosen from them");
                c.state = ChanState::Closing;
                let end = if c.at_fault { End::ByError } else { End::ByClient };
                ledger.chan(c.uid).end = end;
                self.say(ch, &kit::close(MethodId::CHANNEL_CLOSE, 200, "bye", MethodId::NONE));
            }
            86..88 => {
                if rng.chance(15) {
                    self.goodbye(ledger);
                }
            }
            88..94 => {
                let c = self.chans.get_mut(&ch).expect("chosen from them");
                if c.unacked > 0 {
                    let tag = c.deliveries - c.unacked + 1;
                    c.unacked -= 1;
                    let payload = MethodWriter::new(MethodId::BASIC_ACK).longlong(tag).octet(0).done();
                    self.say(ch, &payload);
                }
            }
            _ => {
                if rng.chance(chances.errors) && rng.chance(10) {
                    self.be_rude(rng, ch, ledger);
                }
            }
        }
    }

    /// On a channel for transactions or direct replies.
    fn use_own(&mut self, ch: u16, roll: usize, rng: &mut Rng, ledger: &mut Ledger) {
        let frame_max = self.frame_max;
        let c = self.chans.get_mut(&ch).expect("chosen from them");
        let Some(own) = &mut c.own else { return };
        if roll < 70 || !own.tx {
            let bytes = own.publish(ch, rng, frame_max);
            self.out.extend_from_slice(&bytes);
        } else if roll < 90 {
            own.commit();
            c.replies.push_back(MethodId::TX_COMMIT_OK);
            self.say(ch, &kit::bare(MethodId::TX_COMMIT));
        } else {
            own.roll_back(&mut ledger.own);
            c.replies.push_back(MethodId::TX_ROLLBACK_OK);
            self.say(ch, &kit::bare(MethodId::TX_ROLLBACK));
        }
    }

    /// The lives of its channels, of those that it gave up too.
    pub fn uids(&self) -> impl Iterator<Item = u32> {
        self.chans.values().map(|c| c.uid).chain(self.given_up.values().map(|(uid, _)| *uid))
    }

    pub fn has_heartbeat(&self) -> Option<u64> {
        (self.heartbeat > 0 && self.phase == Phase::Running).then(|| u64::from(self.heartbeat) * 1000)
    }

    pub fn goodbye(&mut self, ledger: &mut Ledger) {
        self.say(0, &kit::close(MethodId::CONNECTION_CLOSE, 200, "bye", MethodId::NONE));
        self.end_all(ledger, End::ByClient);
        self.phase = Phase::Closing;
    }

    fn be_rude(&mut self, rng: &mut Rng, ch: u16, ledger: &mut Ledger) {
        self.rude = true;
        match rng.below(6) {
            0 => self.out.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n"),
            1 => {
                let publish = MethodWriter::new(MethodId::BASIC_PUBLISH)
                    .short(0)
                    .shortstr(b"")
                    .shortstr(b"")
                    .octet(2)
                    .done();
                self.say(ch, &publish);
            }
            2 => self.say(ch, &kit::bare(MethodId::CONNECTION_CLOSE_OK)),
            3 => self.say(ch, &kit::channel_open()),
            4 => self.out.extend_from_slice(&[3, 0, 1, 0, 0, 0, 1, 0, 0xCE]),
            _ => self.out.extend_from_slice(&[1, 0, 1, 0xff, 0, 0, 0]),
        }
        self.end_all(ledger, End::ByClient);
        self.phase = Phase::Closing;
    }

    fn publish(&mut self, ch: u16, rng: &mut Rng, ledger: &mut Ledger, chances: &Chances) {
        let c = self.chans.get_mut(&ch).expect("chosen from them");
        c.n += 1;
        let len = match rng.below(20) {
            0..3 => 0,
            3..16 => rng.below(200),
            16..19 => rng.below(6000),
            _ => rng.below(chances.body_max),
        };
        let id = Id { chan: c.uid, n: c.n, len: len as u32 };
        ledger.chan(c.uid).sent = c.n;
        if c.confirm_from.is_some() {
            c.outstanding.insert(c.n);
        }
        let ruins = rng.chance(chances.errors) && rng.chance(10);
        let (exchange, key) = if ruins {
            c.at_fault = true;
            *rng.pick(&[
                ("ex.missing", "key"),
                ("ex.missing2", "key"),
                ("ex.forbidden", "key"),
                ("ex.a", "huge"),
            ])
        } else {
            (
                *rng.pick(&["", "ex.a", "ex.b"]),
                *rng.pick(&["key", "key", "key", "nowhere", "reject", "other"]),
            )
        };
        let mandatory = rng.chance(15);
        let frame_max = if rng.chance(30) { 4096.min(self.frame_max) } else { self.frame_max };
        let bytes = kit::publish(ch, exchange, key, mandatory, &id.name(), id.body(), frame_max);
        self.out.extend_from_slice(&bytes);
    }

    fn ask(&mut self, ch: u16, rng: &mut Rng, chances: &Chances) {
        let pins = rng.chance(chances.pins);
        let ruins = rng.chance(chances.errors) && rng.chance(20);
        let c = self.chans.get_mut(&ch).expect("chosen from them");
        let (payload, reply) = if ruins {
            c.at_fault = true;
            (kit::queue_declare(["bad", "none", "forbidden"][rng.below(3)], 2), MethodId::QUEUE_DECLARE_OK)
        } else if pins {
            self.pinned = true;
            match rng.below(4) {
                0 => (kit::basic_get("q"), MethodId::BASIC_GET_EMPTY),
                1 => (kit::basic_qos(4), MethodId::BASIC_QOS_OK),
                2 => (kit::queue_declare("", 4), MethodId::QUEUE_DECLARE_OK),
                _ if !c.consumer => {
                    c.consumer = true;
                    (kit::basic_consume("q", "tag"), MethodId::BASIC_CONSUME_OK)
                }
                _ => (kit::basic_get("q"), MethodId::BASIC_GET_EMPTY),
            }
        } else {
            match rng.below(3) {
                0 => (kit::queue_declare("q", 2), MethodId::QUEUE_DECLARE_OK),
                1 => (kit::queue_declare("q", 2 | 16), MethodId::NONE),
                _ => (kit::exchange_declare("ex.c", "topic"), MethodId::EXCHANGE_DECLARE_OK),
            }
        };
        if reply != MethodId::NONE {
            c.replies.push_back(reply);
        }
        self.say(ch, &payload);
    }

    /// Octets from the Hub.
    pub fn hear(&mut self, bytes: &[u8], rng: &mut Rng, ledger: &mut Ledger) {
        self.heard.extend_from_slice(bytes);
        if self.phase == Phase::Start && self.heard.starts_with(b"AMQP") {
            panic!("the Hub refused our protocol header");
        }
        for frame in kit::take_frames(&mut self.heard) {
            if frame.kind != FrameKind::Heartbeat {
                self.frame(&frame, rng, ledger);
            }
        }
    }

    fn frame(&mut self, frame: &kit::OwnFrame, rng: &mut Rng, ledger: &mut Ledger) {
        ledger.note(|| {
            let name = frame.method().map_or("content", MethodId::name);
            format!("{:?} hears {name} on {}", self.sid, frame.channel)
        });
        if self.phase == Phase::Told || self.phase == Phase::Over {
            assert_eq!(
                frame.method(),
                Some(MethodId::CONNECTION_CLOSE_OK),
                "{frame:?} to {:?} after connection.close",
                self.sid
            );
            return;
        }
        if frame.channel == 0 {
            self.connection_method(frame, rng, ledger);
            return;
        }
        if self.phase == Phase::Closing {
            self.note_refusal(frame, ledger);
            return;
        }
        assert_eq!(self.phase, Phase::Running, "{frame:?} on a channel before open-ok");
        let sid = self.sid;
        let c = self
            .chans
            .get_mut(&frame.channel)
            .unwrap_or_else(|| panic!("{frame:?} to {sid:?} on a channel it does not have"));
        if c.delivering.is_some() || frame.kind != FrameKind::Method {
            content(c, frame, ledger);
            return;
        }
        self.channel_method(frame, ledger);
    }

    fn connection_method(&mut self, frame: &kit::OwnFrame, rng: &mut Rng, ledger: &mut Ledger) {
        let (id, args) = method::split(&frame.payload).expect("a method");
        match (self.phase, id) {
            (Phase::Start, MethodId::CONNECTION_START) => {
                let capabilities = TableWriter::new()
                    .with("authentication_failure_close", Value::Bool(true))
                    .with("connection.blocked", Value::Bool(true))
                    .into_bytes();
                let properties = TableWriter::new()
                    .str("product", b"simulated")
                    .with("capabilities", Value::Table(umbel::wire::Table::new(&capabilities)))
                    .into_bytes();
                let password = if self.good_password { "pw" } else { "wrong" };
                self.say(0, &kit::start_ok("app", password, &properties));
                self.phase = Phase::Tune;
            }
            (Phase::Tune, MethodId::CONNECTION_TUNE) => {
                assert!(self.good_password, "a wrong password got as far as tune");
                let tune = method::tune(args).expect("a tune");
                self.frame_max = if rng.chance(30) { 4096 } else { tune.frame_max };
                self.channel_max = usize::from(tune.channel_max);
                self.heartbeat = if rng.chance(50) { 0 } else { tune.heartbeat.min(*rng.pick(&[1, 20])) };
                self.say(0, &kit::tune_ok(tune.channel_max, self.frame_max, self.heartbeat));
                self.say(0, &kit::open(if self.good_vhost { "/" } else { "nope" }));
                self.phase = Phase::OpenOk;
            }
            (Phase::OpenOk, MethodId::CONNECTION_OPEN_OK) => {
                assert!(self.good_vhost, "an unknown vhost was opened");
                self.phase = Phase::Running;
                self.running_since = true;
            }
            (Phase::Closing, MethodId::CONNECTION_CLOSE_OK) => self.phase = Phase::Over,
            (Phase::Running, MethodId::CONNECTION_BLOCKED | MethodId::CONNECTION_UNBLOCKED) => {
                let blocked = id == MethodId::CONNECTION_BLOCKED;
                assert_ne!(blocked, self.told_blocked, "{:?} is told {} twice", self.sid, id.name());
                self.told_blocked = blocked;
            }
            (Phase::Closing, MethodId::CONNECTION_BLOCKED | MethodId::CONNECTION_UNBLOCKED) => {}
            (_, MethodId::CONNECTION_CLOSE) => {
                self.told_close(method::close(args).expect("a close"), rng, ledger)
            }
            _ => panic!("unexpected {} in {:?}", id.name(), self.phase),
        }
    }

    fn told_close(&mut self, close: method::Close<'_>, rng: &mut Rng, ledger: &mut Ledger) {
        let text = String::from_utf8_lossy(close.text).into_owned();
        ledger.note(|| format!("{:?} is told {} {text}", self.sid, close.code));
        let login = !self.running_since;
        let deserved = match close.code {
            403 => login && !self.good_password,
            530 => login && !self.good_vhost,
            320 => login || self.pinned || text.contains("shutting down"),
            506 => self.window_full || text.contains("max_retries"),
            _ => self.rude,
        };
        assert!(deserved, "{:?} in {:?} is told {} {text}", self.sid, self.phase, close.code);
        self.end_all(ledger, End::ByClient);
        self.phase = Phase::Told;
        if rng.chance(70) {
            self.say(0, &kit::bare(MethodId::CONNECTION_CLOSE_OK));
        }
    }

    fn channel_method(&mut self, frame: &kit::OwnFrame, ledger: &mut Ledger) {
        let (sid, ch) = (self.sid, frame.channel);
        let (id, mut args) = method::split(&frame.payload).expect("a method");
        let c = self.chans.get_mut(&ch).expect("looked up just now");
        if c.state == ChanState::Told {
            assert_eq!(
                id,
                MethodId::CHANNEL_CLOSE_OK,
                "{} to {sid:?} on channel {ch} after channel.close",
                id.name()
            );
            return;
        }
        match id {
            MethodId::CHANNEL_OPEN_OK => {
                assert!(matches!(c.state, ChanState::Opening | ChanState::Closing), "open-ok twice");
                if c.state == ChanState::Opening {
                    c.state = ChanState::Open;
                }
            }
            MethodId::CHANNEL_CLOSE_OK => {
                assert_eq!(c.state, ChanState::Closing, "close-ok that nobody asked for");
                self.chans.remove(&ch);
            }
            MethodId::CHANNEL_CLOSE => {
                let close = method::close(args).expect("a close");
                let text = String::from_utf8_lossy(close.text).into_owned();
                let judged_so = ledger.chan(c.uid).fates.values().any(|f| *f == Fate::Closes);
                assert!(
                    c.at_fault || judged_so,
                    "innocent channel {ch} (uid {}) of {sid:?} is closed: {} {text}",
                    c.uid,
                    close.code
                );
                ledger
                    .note(|| format!("{sid:?} channel {ch} uid {} is closed: {} {text}", c.uid, close.code));
                ledger.chan(c.uid).end = if c.at_fault { End::ByError } else { End::ByClient };
                if c.state == ChanState::Closing {
                    self.say(ch, &kit::bare(MethodId::CHANNEL_CLOSE_OK));
                } else {
                    c.state = ChanState::Told;
                    c.outstanding.clear();
                    c.replies.clear();
                }
            }
            MethodId::BASIC_ACK | MethodId::BASIC_NACK => {
                let (tag, multiple) = method::ack(args).expect("an ack");
                let from = c.confirm_from.expect("a channel in confirm mode");
                let last = from + tag as u32 - 1;
                let answered: Vec<u32> = if multiple {
                    c.outstanding.range(..=last).copied().collect()
                } else {
                    c.outstanding.get(&last).copied().into_iter().collect()
                };
                assert!(
                    !answered.is_empty(),
                    "tag {tag} (multiple {multiple}) on channel uid {} answers nothing",
                    c.uid
                );
                for n in answered {
                    c.outstanding.remove(&n);
                    ledger.answered(c.uid, n, id == MethodId::BASIC_ACK);
                }
            }
            MethodId::BASIC_RETURN => {
                c.delivering = Some(Delivering { returned: true, header: None, body: Vec::new() })
            }
            MethodId::BASIC_DELIVER => {
                let tag = args.shortstr().and_then(|_| args.u64()).expect("a tag");
                assert_eq!(tag, c.deliveries + 1, "deliveries come in order");
                c.deliveries = tag;
                c.unacked += u64::from(c.own.is_none());
                c.delivering = Some(Delivering { returned: false, header: None, body: Vec::new() });
            }
            _ => {
                let expected = c.replies.pop_front();
                assert_eq!(expected, Some(id), "{} on channel uid {} in {:?}", id.name(), c.uid, c.state);
                if let (MethodId::TX_COMMIT_OK, Some(own)) = (id, &mut c.own) {
                    own.committed(&ledger.own);
                }
            }
        }
    }
}

fn content(c: &mut Chan, frame: &kit::OwnFrame, ledger: &mut Ledger) {
    assert!(c.state != ChanState::Told, "{frame:?} after channel.close");
    let d = c.delivering.as_mut().unwrap_or_else(|| panic!("{frame:?} out of order"));
    match (frame.kind, &d.header) {
        (FrameKind::Header, None) => {
            d.header =
                Some((kit::message_id(&frame.payload).expect("an id"), kit::body_size(&frame.payload)));
        }
        (FrameKind::Body, Some(_)) => d.body.extend_from_slice(&frame.payload),
        _ => panic!("{frame:?} out of order in a delivery"),
    }
    let Some((name, size)) = &d.header else { return };
    if (d.body.len() as u64) < *size {
        return;
    }
    if let Some(id) = own::parse(name) {
        assert_eq!(d.body, id.body(), "the body of {name} came back mixed");
        c.own.as_mut().expect("a channel with direct replies").replied(id);
        c.delivering = None;
        return;
    }
    let id = Id::parse(name);
    let body = d.body.strip_prefix(b"EDIT").filter(|b| *b == id.body()).unwrap_or(&d.body);
    assert_eq!(body, id.body(), "the body of {name} came back mixed");
    if d.returned {
        assert_eq!(id.chan, c.uid, "{name} was returned to another channel");
        assert!(ledger.chan(id.chan).returned.insert(id.n), "{name} was returned twice");
    }
    c.delivering = None;
}
