//! A client, byte for byte: what it says, what it may hear, and what it would complain of.

mod acts;
mod hears;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use umbel::session::SessionId;
use umbel::wire::frame::HEARTBEAT;
use umbel::wire::method::{self, MethodId};

use super::kit;
use super::ledger::{End, Ledger};
use super::own::Own;
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
    /// Of all channels that it ever had.
    lives: Vec<u32>,
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
            lives: Vec::new(),
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
        if frame.method() == Some(MethodId::CONNECTION_CLOSE) {
            let (_, args) = method::split(&frame.payload).expect("a method");
            if method::close(args).expect("a close").code == 506 {
                self.lives.iter().for_each(|uid| ledger.home_was_full(*uid));
            }
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
}
