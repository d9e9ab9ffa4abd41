//! A judge that mostly passes, and sometimes does each of the things that a policy may.

use std::rc::Rc;

use umbel::session::{
    Authored, Decision, Edited, Judge, Kept, Now, Place, PublishView, Settle, Settled, Target, UpstreamId,
};
use umbel::wire::HeaderPatch;
use umbel::wire::props::Property;

use super::kit;
use super::ledger::{Fate, Id, Ledger};
use super::rng::Rng;

pub struct SimJudge {
    pub rng: Rng,
    pub ledger: Ledger,
    pub upstreams: usize,
    /// In percent: how many publishes are not simply passed.
    pub meddles: u64,
}

impl SimJudge {
    fn target(&mut self) -> Rc<Target> {
        let n = self.rng.below(6);
        let mut methods = vec![kit::exchange_declare(&format!("t.{n}"), "direct")];
        match n {
            4 => methods.push(kit::queue_declare("bad.args", 2)),
            5 => methods.insert(0, kit::queue_declare("forbidden.target", 2)),
            _ => methods.push(kit::queue_declare(&format!("t.{n}"), 2)),
        }
        Rc::new(Target { name: format!("t.{n}"), methods })
    }

    fn edit(&mut self, view: &PublishView<'_>, id: Id) -> Decision {
        let mut edited = Edited { watch_return: self.rng.chance(20), ..Edited::default() };
        let mut to = 0;
        if self.upstreams > 1 && self.rng.chance(40) {
            to = 1;
            edited.upstream = Some(UpstreamId(1));
        }
        let mut doomed = is_doomed(view.exchange, view.routing_key);
        if self.rng.chance(50) {
            let target = self.target();
            edited.place =
                Some(Place { exchange: target.name.clone().into_bytes(), routing_key: b"key".to_vec() });
            // Where the target cannot be had, it goes where it was going, and what was wrong with that is wrong again.
            edited.target = Some(target);
        } else if self.rng.chance(20) {
            edited.place = Some(Place { exchange: b"ex.b".to_vec(), routing_key: b"else".to_vec() });
            doomed = false;
        }
        if self.rng.chance(50) {
            let whole: Vec<u8> = view.body.concat();
            let body = [b"EDIT".as_slice(), &whole].concat();
            let mut patch = HeaderPatch::new();
            patch.set_body_size(body.len() as u64).set_priority(3);
            let mut header = Vec::new();
            patch.apply(view.header_payload, &mut header).expect("a header that can be patched");
            edited.header = Some(header);
            edited.body = Some(body);
        }
        let or = if edited.target.is_some() { 0 } else { to };
        self.ledger.judged(id, Fate::Goes { upstream: to, or, doomed });
        Decision::Edit(Rc::new(edited))
    }

    fn settle(&mut self, view: &PublishView<'_>, id: Id) -> Decision {
        let settle = match self.rng.below(8) {
            0..4 => Settle::Ack,
            4 | 5 => Settle::Nack,
            6 => Settle::Return(312, "NO_ROUTE".into()),
            _ => Settle::Close(404, "no such thing here".into()),
        };
        let fate = match settle {
            Settle::Ack | Settle::Return(..) => Fate::Acked,
            Settle::Nack => Fate::Nacked,
            Settle::Close(..) => Fate::Closes,
        };
        self.ledger.judged(id, fate);
        let instead = (0..self.rng.below(3))
            .map(|_| Authored {
                upstream: UpstreamId(self.rng.below(self.upstreams)),
                exchange: if self.rng.chance(20) { b"ex.missing".to_vec() } else { b"ex.a".to_vec() },
                routing_key: view.routing_key.to_vec(),
                header: kit::header("authored", 3),
                body: b"our".to_vec(),
                target: if self.rng.chance(40) { Some(self.target()) } else { None },
            })
            .collect();
        Decision::Settle(Box::new(Settled { settle, instead, kept: Kept::Refused }))
    }
}

/// Whether the broker will close the channel for it.
pub fn is_doomed(exchange: &[u8], key: &[u8]) -> bool {
    exchange.starts_with(b"ex.missing") || exchange == b"ex.forbidden" || key.starts_with(b"huge")
}

impl Judge for SimJudge {
    fn judge(&mut self, _now: Now, view: &PublishView<'_>) -> Decision {
        let name = view.header.short(Property::MessageId).expect("every message of ours has an id");
        let id = Id::parse(std::str::from_utf8(name).expect("ids are ASCII"));
        assert_eq!(view.body.concat(), id.body(), "the judge sees the whole body");
        if view.routing_key.starts_with(b"nowhere") {
            self.ledger.chan(id.chan).to_nowhere.insert(id.n);
        }
        if self.rng.chance(self.meddles) {
            return if self.rng.chance(70) { self.edit(view, id) } else { self.settle(view, id) };
        }
        let doomed = is_doomed(view.exchange, view.routing_key);
        self.ledger.judged(id, Fate::Goes { upstream: 0, or: 0, doomed });
        Decision::Pass
    }
}
