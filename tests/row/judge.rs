//! A judge that decides by the routing key: one of each decision there is.

use std::rc::Rc;

use umbel::session::{
    Decision, Edited, Judge, Kept as Why, Now, Place, PublishView, Settle, Settled, Target,
};
use umbel::wire::NewHeader;
use umbel::wire::method::{MethodId, MethodWriter};

/// Decides by the routing key; what only moves a message is one for all, as the real judge has it.
pub struct ByKey {
    moved: Rc<Edited>,
    awaited: Rc<Edited>,
    watched: Rc<Edited>,
    kept: Rc<Edited>,
    loose: Rc<Edited>,
    /// Publishes that it was shown or told of.
    pub seen: u64,
}

impl ByKey {
    pub fn new() -> Self {
        let place = |key: &[u8]| Some(Place { exchange: b"moved".to_vec(), routing_key: key.to_vec() });
        let declare =
            MethodWriter::new(MethodId::QUEUE_DECLARE).short(0).shortstr(b"new").octet(2).longstr(b"");
        let target = Rc::new(Target { name: "queue new".to_owned(), methods: vec![declare.done()] });
        Self {
            moved: Rc::new(Edited { place: place(b"there"), ..Edited::default() }),
            awaited: Rc::new(Edited { place: place(b"new"), target: Some(target), ..Edited::default() }),
            watched: Rc::new(Edited { watch_return: true, ..Edited::default() }),
            kept: Rc::new(Edited { durable: Some(true), ..Edited::default() }),
            loose: Rc::new(Edited { durable: Some(false), place: place(b"loose"), ..Edited::default() }),
            seen: 0,
        }
    }
}

impl Judge for ByKey {
    fn passes_alike(&self, publish: &PublishView<'_>) -> bool {
        publish.routing_key == b"pass"
    }

    fn passed_alike(&mut self, publish: &PublishView<'_>, count: u64) {
        assert!(self.passes_alike(publish));
        self.seen += count;
    }

    fn judge(&mut self, _now: Now, publish: &PublishView<'_>) -> Decision {
        self.seen += 1;
        match publish.routing_key {
            b"moved" => Decision::Edit(Rc::clone(&self.moved)),
            b"awaited" => Decision::Edit(Rc::clone(&self.awaited)),
            b"watched" => Decision::Edit(Rc::clone(&self.watched)),
            b"kept" => Decision::Edit(Rc::clone(&self.kept)),
            b"loose" => Decision::Edit(Rc::clone(&self.loose)),
            b"shorter" => {
                let mut header = Vec::new();
                NewHeader { body_size: 2, priority: Some(9), ..NewHeader::default() }.write(&mut header);
                let (header, body) = (Some(header), Some(b"ok".to_vec()));
                Decision::Edit(Rc::new(Edited { header, body, ..Edited::default() }))
            }
            b"nacked" => Decision::Settle(Box::new(Settled {
                settle: Settle::Nack,
                instead: Vec::new(),
                kept: Why::Refused,
            })),
            b"dropped" => Decision::Settle(Box::new(Settled {
                settle: Settle::Ack,
                instead: Vec::new(),
                kept: Why::Refused,
            })),
            b"refused" => Decision::Settle(Box::new(Settled {
                settle: Settle::Close(403, "no".to_owned()),
                instead: Vec::new(),
                kept: Why::Refused,
            })),
            _ => Decision::Pass,
        }
    }
}
