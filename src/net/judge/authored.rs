//! What we publish ourselves: the REVOKED result, the `task-revoked` event, the dead letter.

use super::{Case, Desk, OWN};
use crate::celery::result::{Message, Revoked, Sender, revoked_event, revoked_result};
use crate::celery::time;
use crate::metrics::{self, Mistake};
use crate::policy::{By, DeadLetter};
use crate::session::{Authored, UpstreamId};
use crate::wire::{HeaderPatch, Property};

/// Who we are in events: `umbel@host`.
#[derive(Debug)]
pub(super) struct Node {
    hostname: String,
    clock: u64,
}

/// Why a message became a dead letter.
pub(super) struct Death<'a> {
    pub word: metrics::DeadLetter,
    pub detail: &'a str,
    pub by: Option<By>,
}

impl Node {
    /// Under this host's name.
    pub fn here() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = match host.trim() {
            "" => "localhost",
            host => host,
        };
        Self { hostname: format!("umbel@{host}"), clock: 0 }
    }

    fn sender(&mut self) -> Sender<'_> {
        self.clock += 1;
        Sender { hostname: &self.hostname, pid: std::process::id(), clock: self.clock }
    }
}

impl Desk {
    /// What a worker would have published of an expired task: a result for whoever may wait for it, and the event.
    pub(super) fn revocation(&mut self, case: &Case<'_>) -> Vec<Authored> {
        let Some(task) = case.message.task else { return Vec::new() };
        let Some(id) = &task.id() else { return Vec::new() };
        let mut instead = Vec::with_capacity(2);
        let reply_to = case.publish.header.reply_to().filter(|queue| !queue.is_empty());
        if let Some(reply_to) = reply_to
            && task.ignore_result() != Some(true)
        {
            let (group, parent_id) = (task.group(), task.parent_id());
            let revoked = Revoked {
                id: id.bytes(),
                group: group.as_ref().map(|text| text.bytes()),
                parent_id: parent_id.as_ref().map(|text| text.bytes()),
            };
            instead.push(own(revoked_result(&revoked, reply_to, case.now.wall_us)));
        }
        let event = revoked_event(id.bytes(), &self.node.sender(), case.now.wall_us);
        instead.push(Authored { target: Some(self.targets.events()), ..own(event) });
        instead
    }

    /// The message itself for a dead-letter place, with the reason in its headers; `None`: there is no such upstream.
    pub(super) fn dead_letter(
        &mut self,
        case: &Case<'_>,
        place: &DeadLetter,
        death: &Death<'_>,
    ) -> Option<Authored> {
        let upstream = place.upstream.unwrap_or(OWN.0);
        if !case.snapshot.has_upstream(upstream) {
            self.mistake(case, Mistake::UnknownUpstream, death.by);
            return None;
        }
        let mut header = Vec::with_capacity(case.publish.header_payload.len() + 256);
        if reasons(case, death).apply(case.publish.header_payload, &mut header).is_err() {
            // Better there without its reasons than not at all.
            self.mistake(case, Mistake::PatchDoesNotFit, death.by);
            header.extend_from_slice(case.publish.header_payload);
        }
        self.metrics.tasks.dead_lettered.of(death.word).inc();
        Some(Authored {
            upstream: UpstreamId(upstream),
            exchange: place.destination.exchange.as_bytes().to_vec(),
            routing_key: place.destination.routing_key.as_bytes().to_vec(),
            header,
            body: case.publish.body.concat(),
            target: self.targets.of(&place.destination, false),
        })
    }
}

/// Why, where from and when; and nothing that would send it anywhere else, or let it expire there.
fn reasons(case: &Case<'_>, death: &Death<'_>) -> HeaderPatch {
    let mut patch = HeaderPatch::new();
    let mut say = |name: &[u8], value: &[u8]| {
        patch.set_header_str(name, value);
    };
    say(b"x-umbel-reason", metrics::Word::word(death.word).as_bytes());
    say(b"x-umbel-detail", death.detail.as_bytes());
    say(b"x-umbel-exchange", case.publish.exchange);
    say(b"x-umbel-routing-key", case.publish.routing_key);
    say(b"x-umbel-time", time::format(case.now.wall_us).as_bytes());
    if let Some(by) = death.by {
        say(b"x-umbel-rule", case.policy().name_of(by).as_bytes());
    }
    if let Some(ttl) = case.publish.header.expiration() {
        say(b"x-umbel-expiration", ttl);
        patch.remove(Property::Expiration);
    }
    // RabbitMQ routes to these too.
    patch.remove_header(b"CC").remove_header(b"BCC");
    patch
}

fn own(message: Message) -> Authored {
    let Message { exchange, routing_key, header, body } = message;
    Authored { upstream: OWN, exchange, routing_key, header, body, target: None }
}
