//! Contents at a broker: taken, confirmed, delivered.

use umbel::wire::frame::{ChannelId, FrameKind, write_body, write_frame};
use umbel::wire::method::{MethodId, MethodWriter};

use super::{Broker, Conn, Pending, Taken};
use crate::sim::ledger::{Id, Ledger};
use crate::sim::rng::Rng;
use crate::sim::{kit, own};

impl Conn {
    pub(super) fn maybe_whole(
        &mut self,
        broker: &mut Broker,
        ledger: &mut Ledger,
        rng: &mut Rng,
        channel: u16,
    ) {
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
        let refuses = content.key.starts_with("reject") && rng.chance(50);
        let ack = !refuses || id.is_some_and(|id| !ledger.may_be_nacked(id));
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
    pub(super) fn take_own(&mut self, ledger: &mut Ledger, channel: u16, id: Id, body: &[u8]) {
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

    pub(super) fn confirm_all(&mut self, channel: u16, which: impl Fn(&Pending) -> bool) {
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

    pub(super) fn confirm_some(&mut self, broker: &Broker, ledger: &mut Ledger, rng: &mut Rng) {
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

    pub(super) fn deliver_some(&mut self, rng: &mut Rng) {
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

    pub(super) fn deliver(&mut self, channel: u16, name: &str, id: Id) {
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
}
