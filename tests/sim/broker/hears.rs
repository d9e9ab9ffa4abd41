//! What a broker hears, and how it answers methods.

use umbel::wire::frame::FrameKind;
use umbel::wire::method::{self, MethodId, MethodWriter};

use super::{Broker, Chan, Conn, Content, Phase};
use crate::sim::ledger::Ledger;
use crate::sim::rng::Rng;
use crate::sim::{kit, own};

impl Conn {
    pub(super) fn frame(
        &mut self,
        broker: &mut Broker,
        ledger: &mut Ledger,
        rng: &mut Rng,
        frame: &kit::OwnFrame,
    ) {
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

    pub(super) fn connection_method(&mut self, broker: &Broker, rng: &mut Rng, frame: &kit::OwnFrame) {
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

    pub(super) fn method(
        &mut self,
        broker: &mut Broker,
        ledger: &mut Ledger,
        rng: &mut Rng,
        frame: &kit::OwnFrame,
    ) {
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
