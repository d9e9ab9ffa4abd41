//! What a client hears, held against what it may hear.

use umbel::wire::frame::FrameKind;
use umbel::wire::method::{self, MethodId};
use umbel::wire::table::{TableWriter, Value};

use super::{Chan, ChanState, Client, Delivering, Phase};
use crate::sim::ledger::{End, Fate, Id, Ledger};
use crate::sim::rng::Rng;
use crate::sim::{kit, own};

impl Client {
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

    pub(super) fn told_close(&mut self, close: method::Close<'_>, rng: &mut Rng, ledger: &mut Ledger) {
        let text = String::from_utf8_lossy(close.text).into_owned();
        ledger.note(|| format!("{:?} is told {} {text}", self.sid, close.code));
        let login = !self.running_since;
        let deserved = match close.code {
            403 => login && !self.good_password,
            530 => login && !self.good_vhost,
            320 => login || self.pinned || text.contains("shutting down"),
            506 if text.contains("came back") => self.lives.iter().any(|uid| ledger.routed_elsewhere(*uid)),
            506 => self.window_full || text.contains("max_retries"),
            _ => self.rude,
        };
        assert!(deserved, "{:?} in {:?} is told {} {text}", self.sid, self.phase, close.code);
        if close.code == 506 {
            self.lives.iter().for_each(|uid| ledger.home_was_full(*uid));
        }
        self.end_all(ledger, End::ByClient);
        self.phase = Phase::Told;
        if rng.chance(70) {
            self.say(0, &kit::bare(MethodId::CONNECTION_CLOSE_OK));
        }
    }

    pub(super) fn channel_method(&mut self, frame: &kit::OwnFrame, ledger: &mut Ledger) {
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

pub(super) fn content(c: &mut Chan, frame: &kit::OwnFrame, ledger: &mut Ledger) {
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
