//! A Hub on a stage: brokers that open their doors as the test says, clients that log in, frames that are heard and said one by one.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};

use umbel::session::{Action, Hub, Judge, Limits, LinkId, Now, PassAll, SessionId, UpstreamSettings};
use umbel::wire::frame::FrameKind;
use umbel::wire::method::{MethodId, MethodWriter, Tune, write_tune};
use umbel::wire::table::{TableWriter, Value};

use crate::kit::{self, OwnFrame};

/// What happens to whoever dials an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// In, if the password is this one.
    Opens(&'static str),
    /// Connection refused.
    Shut,
    /// No answer, until whoever dialed has had enough.
    Silent,
    /// 530: the vhost is gone.
    NoVhost,
}

#[derive(Default)]
struct Wire {
    upstream: usize,
    came: Vec<u8>,
    frames: VecDeque<OwnFrame>,
    greeted: bool,
    /// Octets said that the Hub has not taken.
    kept: Vec<u8>,
    over: bool,
    /// Its broker takes its time over connection.close-ok.
    close_waits: bool,
}

pub struct Stage {
    pub hub: Hub,
    pub judge: Box<dyn Judge>,
    pub now: Now,
    pub doors: Vec<Door>,
    /// When each link was dialed, in order.
    pub dials: Vec<(u64, LinkId)>,
    links: BTreeMap<LinkId, Wire>,
    clients: BTreeMap<SessionId, Wire>,
    /// Links whose dial nobody answers.
    unanswered: Vec<LinkId>,
}

/// One upstream, `default`.
pub fn upstream() -> UpstreamSettings {
    let mut settings = UpstreamSettings::new("default", "127.0.0.1", 5672);
    settings.links = 1;
    settings
}

impl Stage {
    pub fn new(upstreams: Vec<UpstreamSettings>) -> Self {
        Self::with_limits(upstreams, Limits::default())
    }

    pub fn with_limits(upstreams: Vec<UpstreamSettings>, limits: Limits) -> Self {
        let doors = vec![Door::Opens("pw"); upstreams.len()];
        let mut stage = Self {
            hub: Hub::new(limits, upstreams, [7; 32], Vec::new()),
            judge: Box::new(PassAll),
            now: Now { ms: 1_000, wall_us: 1_000_000 },
            doors,
            dials: Vec::new(),
            links: BTreeMap::new(),
            clients: BTreeMap::new(),
            unanswered: Vec::new(),
        };
        stage.hub.start(stage.now);
        stage.carry();
        stage
    }

    /// Time passes, in ticks.
    pub fn later(&mut self, ms: u64) {
        let until = self.now.ms + ms;
        while self.now.ms < until {
            self.now.ms = (self.now.ms + 100).min(until);
            self.now.wall_us = i64::try_from(self.now.ms).unwrap() * 1000;
            self.hub.tick(self.now, &mut *self.judge);
            self.carry();
        }
    }

    /// Carries out what the Hub wants, until it wants nothing.
    pub fn carry(&mut self) {
        loop {
            let mut idle = true;
            while let Some(action) = self.hub.next_action() {
                idle = false;
                match action {
                    Action::Dial { link, upstream, .. } => self.dialed(link, upstream.0),
                    Action::HangUpLink(lid) => {
                        if self.links.remove(&lid).is_some() {
                            self.hub.link_gone(self.now, lid, "hung up");
                        }
                    }
                    Action::HangUp(sid) | Action::Cut(sid) => {
                        if let Some(c) = self.clients.get_mut(&sid) {
                            c.over = true;
                        }
                    }
                    Action::Resume(sid) => self.client_says(sid, &[]),
                    // Nothing is kept here of an earlier life.
                    Action::Recall(_) => {}
                }
            }
            let lids: Vec<LinkId> = self.links.keys().copied().collect();
            for lid in lids {
                idle &= !self.listen(lid);
            }
            if idle {
                break;
            }
        }
        self.hub.flush_spool();
        self.hub.audit().unwrap_or_else(|why| panic!("the books: {why}"));
    }

    fn dialed(&mut self, lid: LinkId, upstream: usize) {
        self.dials.push((self.now.ms, lid));
        match self.doors[upstream] {
            Door::Shut => return self.hub.dial_failed(self.now, lid, "connection refused"),
            Door::Silent => return self.unanswered.push(lid),
            Door::Opens(_) | Door::NoVhost => {}
        }
        self.links.insert(lid, Wire { upstream, ..Wire::default() });
        self.hub.dialed(self.now, lid);
    }

    /// Whoever dialed in vain has had enough.
    pub fn dials_time_out(&mut self) {
        for lid in std::mem::take(&mut self.unanswered) {
            self.hub.dial_failed(self.now, lid, "timed out");
        }
        self.carry();
    }

    /// Takes what a link was sent; whether there was anything. Logins and channels are answered, the rest is kept for the test.
    fn listen(&mut self, lid: LinkId) -> bool {
        let mut bytes = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 8];
            let n = self.hub.link_out(lid, &mut slices);
            let piece: Vec<u8> = slices[..n].iter().flat_map(|s| s.iter().copied()).collect();
            if piece.is_empty() {
                break;
            }
            self.hub.link_written(self.now, lid, piece.len());
            bytes.extend(piece);
        }
        let Some(wire) = self.links.get_mut(&lid) else { return false };
        if bytes.is_empty() {
            return false;
        }
        wire.came.extend(bytes);
        if !wire.greeted {
            wire.greeted = true;
            wire.came.drain(..8);
            let capabilities =
                TableWriter::new().with("authentication_failure_close", Value::Bool(true)).into_bytes();
            let properties = TableWriter::new()
                .with("capabilities", Value::Table(umbel::wire::Table::new(&capabilities)))
                .into_bytes();
            self.say(lid, 0, &kit::start(&properties));
        }
        let Some(wire) = self.links.get_mut(&lid) else { return true };
        let frames = kit::take_frames(&mut wire.came);
        for frame in frames {
            self.hear(lid, frame);
        }
        true
    }

    fn hear(&mut self, lid: LinkId, frame: OwnFrame) {
        let Some(wire) = self.links.get_mut(&lid) else { return };
        let door = self.doors[wire.upstream];
        let close = |code, text| kit::close(MethodId::CONNECTION_CLOSE, code, text, MethodId::NONE);
        let answer = match frame.method() {
            Some(MethodId::CONNECTION_START_OK) => match door {
                Door::Opens(password)
                    if !frame.payload.windows(password.len()).any(|w| w == password.as_bytes()) =>
                {
                    close(403, "ACCESS_REFUSED - Login was refused")
                }
                _ => write_tune(
                    MethodId::CONNECTION_TUNE,
                    Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 0 },
                ),
            },
            Some(
                MethodId::CONNECTION_TUNE_OK | MethodId::CONNECTION_CLOSE_OK | MethodId::CHANNEL_CLOSE_OK,
            ) => return,
            Some(MethodId::CONNECTION_OPEN) => match door {
                Door::NoVhost => close(530, "NOT_ALLOWED - vhost / not found"),
                _ => MethodWriter::new(MethodId::CONNECTION_OPEN_OK).shortstr(b"").done(),
            },
            Some(MethodId::CHANNEL_OPEN) => kit::channel_open_ok(),
            Some(MethodId::CONFIRM_SELECT) => kit::bare(MethodId::CONFIRM_SELECT_OK),
            Some(MethodId::CONNECTION_CLOSE) if !wire.close_waits => kit::bare(MethodId::CONNECTION_CLOSE_OK),
            _ => {
                wire.frames.push_back(frame);
                return;
            }
        };
        self.say(lid, frame.channel, &answer);
    }

    /// The broker says something.
    pub fn say(&mut self, lid: LinkId, channel: u16, payload: &[u8]) {
        let mut bytes = Vec::new();
        kit::push_method(&mut bytes, channel, payload);
        self.say_raw(lid, &bytes);
    }

    pub fn say_raw(&mut self, lid: LinkId, bytes: &[u8]) {
        let took = self.hub.link_bytes(self.now, lid, bytes, &mut *self.judge);
        assert_eq!(took, bytes.len(), "whole frames are taken whole");
        self.carry();
    }

    /// What the broker has heard on a link since it was last asked: methods and contents.
    pub fn heard(&mut self, lid: LinkId) -> Vec<OwnFrame> {
        self.carry();
        self.links.get_mut(&lid).map(|w| w.frames.drain(..).collect()).unwrap_or_default()
    }

    /// The methods that the broker has heard on a link since it was last asked, but for those that the stage answers itself.
    pub fn methods(&mut self, lid: LinkId) -> Vec<MethodId> {
        self.heard(lid).iter().filter_map(OwnFrame::method).collect()
    }

    /// The broker will not answer connection.close on this link: the test hears it.
    pub fn leaves_close_unanswered(&mut self, lid: LinkId) {
        self.links.get_mut(&lid).unwrap().close_waits = true;
    }

    /// The names of the messages that the broker has heard on a link since it was last asked.
    pub fn published(&mut self, lid: LinkId) -> Vec<String> {
        let headers =
            |f: &OwnFrame| (f.kind == FrameKind::Header).then(|| kit::message_id(&f.payload).unwrap());
        self.heard(lid).iter().filter_map(headers).collect()
    }

    /// A link is cut.
    pub fn cut(&mut self, lid: LinkId) {
        self.links.remove(&lid);
        self.hub.link_gone(self.now, lid, "reset by peer");
        self.carry();
    }

    /// The links that are up, and whose bytes go both ways.
    pub fn up(&self) -> Vec<LinkId> {
        let up = |l: &umbel::session::LinkLook| l.state == "up";
        self.hub.look_links(self.now).iter().filter(|l| up(l)).map(|l| l.id).collect()
    }

    /// The only link that is up.
    pub fn link(&self) -> LinkId {
        let up = self.up();
        assert_eq!(up.len(), 1, "one link is up: {up:?}");
        up[0]
    }

    /// A client with channel 1 open.
    pub fn client(&mut self, password: &str) -> SessionId {
        self.client_with_heartbeat(password, 0)
    }

    pub fn client_with_heartbeat(&mut self, password: &str, heartbeat_s: u16) -> SessionId {
        let sid = self.calls(password, heartbeat_s);
        let heard = self.client_hears(sid);
        let last = heard.iter().filter_map(OwnFrame::method).next_back();
        assert_eq!(last, Some(MethodId::CHANNEL_OPEN_OK), "the client is in: {heard:?}");
        sid
    }

    /// A client that says all it has to say to have channel 1 open, whatever comes of it.
    pub fn caller(&mut self, password: &str) -> SessionId {
        self.calls(password, 0)
    }

    fn calls(&mut self, password: &str, heartbeat_s: u16) -> SessionId {
        let sid = self.hub.accept(self.now, IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        self.clients.insert(sid, Wire::default());
        let capabilities = TableWriter::new()
            .with("authentication_failure_close", Value::Bool(true))
            .with("connection.blocked", Value::Bool(true))
            .into_bytes();
        let properties = TableWriter::new()
            .with("capabilities", Value::Table(umbel::wire::Table::new(&capabilities)))
            .into_bytes();
        let mut bytes = b"AMQP\x00\x00\x09\x01".to_vec();
        kit::push_method(&mut bytes, 0, &kit::start_ok("app", password, &properties));
        kit::push_method(&mut bytes, 0, &kit::tune_ok(2047, 131_072, heartbeat_s));
        kit::push_method(&mut bytes, 0, &kit::open("/"));
        kit::push_method(&mut bytes, 1, &kit::channel_open());
        self.client_says(sid, &bytes);
        self.carry();
        sid
    }

    pub fn client_says(&mut self, sid: SessionId, bytes: &[u8]) {
        let Some(c) = self.clients.get_mut(&sid) else { return };
        c.kept.extend_from_slice(bytes);
        let took = self.hub.client_bytes(self.now, sid, &c.kept, &mut *self.judge);
        c.kept.drain(..took);
    }

    /// Octets of a client that the Hub has not taken.
    pub fn kept(&self, sid: SessionId) -> usize {
        self.clients[&sid].kept.len()
    }

    /// A method of a client.
    pub fn client_method(&mut self, sid: SessionId, channel: u16, payload: &[u8]) {
        let mut bytes = Vec::new();
        kit::push_method(&mut bytes, channel, payload);
        self.client_says(sid, &bytes);
        self.carry();
    }

    /// A publish of a client on channel 1.
    pub fn publish(&mut self, sid: SessionId, exchange: &str, key: &str, mandatory: bool, name: &str) {
        let bytes = kit::publish(1, exchange, key, mandatory, name, b"body", 131_072);
        self.client_says(sid, &bytes);
        self.carry();
    }

    /// What a client has heard since it was last asked.
    pub fn client_hears(&mut self, sid: SessionId) -> Vec<OwnFrame> {
        self.carry();
        let bytes = self.hub.client_out(sid).to_vec();
        self.hub.client_written(self.now, sid, bytes.len());
        let c = self.clients.get_mut(&sid).unwrap();
        c.came.extend(bytes);
        kit::take_frames(&mut c.came)
    }

    /// The methods that a client has heard since it was last asked.
    pub fn client_methods(&mut self, sid: SessionId) -> Vec<MethodId> {
        self.client_hears(sid).iter().filter_map(OwnFrame::method).collect()
    }

    /// Whether the Hub wants a client's socket closed.
    pub fn hung_up(&self, sid: SessionId) -> bool {
        self.clients[&sid].over
    }

    /// A client's socket is gone.
    pub fn client_leaves(&mut self, sid: SessionId) {
        self.clients.remove(&sid);
        self.hub.client_gone(self.now, sid);
        self.carry();
    }
}
