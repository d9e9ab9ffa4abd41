//! A broker, byte for byte: RabbitMQ's side of a conversation as far as a proxy can see it. What it has taken it never forgets.

mod contents;
mod hears;

use std::collections::{BTreeMap, HashSet, VecDeque};

use umbel::session::LinkId;
use umbel::wire::frame::{FrameKind, HEARTBEAT};
use umbel::wire::method::{MethodId, MethodWriter, Tune};
use umbel::wire::table::{TableWriter, Value};

use super::kit;
use super::ledger::{Id, Ledger};
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
}
