//! What a client does: opens, declares, publishes, consumes, is rude, all by chance.

use std::collections::{BTreeSet, VecDeque};

use umbel::wire::method::{MethodId, MethodWriter};

use super::{Chan, ChanState, Chances, Client, Phase};
use crate::sim::kit;
use crate::sim::ledger::{End, Id, Ledger};
use crate::sim::own::{self, Own};
use crate::sim::rng::Rng;

impl Client {
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
        self.lives.push(uid);
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
}
