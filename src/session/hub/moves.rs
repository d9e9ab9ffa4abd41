//! Edits that the judge hands out again and again, with what became of them: the method as it is sent, and the way back.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::session::judge::{Edited, PublishView};
use crate::session::lane::Way;
use crate::wire::method;

/// How many are remembered; all are forgotten when there are more.
const MOVES_MAX: usize = 1024;

/// What becomes of a publish by its edits.
#[derive(Debug, Clone)]
pub(super) struct Move {
    /// The method's payload; `None`: as it came.
    pub(super) method: Option<Rc<[u8]>>,
    /// What must be there, and where it goes if it is not.
    pub(super) way: Option<Rc<Way>>,
}

#[derive(Debug)]
struct Known {
    /// Its address is the key, so it must not end before.
    _edited: Rc<Edited>,
    original: Box<[u8]>,
    moved: Move,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Moves(FxHashMap<*const Edited, Known>);

impl Moves {
    /// What was learnt of these very edits on this very method.
    pub(super) fn known(&self, edited: &Rc<Edited>, original: &[u8]) -> Option<&Move> {
        let known = self.0.get(&Rc::as_ptr(edited))?;
        (*known.original == *original).then_some(&known.moved)
    }

    /// Works it out, and remembers it where the judge keeps the edits too.
    pub(super) fn learn(&mut self, view: &PublishView<'_>, original: &[u8], edited: &Rc<Edited>) -> Move {
        let mandatory = view.mandatory || edited.watch_return;
        let here = || method::write_publish(view.exchange, view.routing_key, mandatory);
        let method = match &edited.place {
            Some(place) => Some(method::write_publish(&place.exchange, &place.routing_key, mandatory)),
            None => (mandatory != view.mandatory).then(here),
        };
        let way = (edited.target.is_some() || edited.place.is_some())
            .then(|| Rc::new(Way { target: edited.target.clone(), otherwise: Some(here()), home: None }));
        let moved = Move { method: method.map(Into::into), way };
        if Rc::strong_count(edited) > 1 {
            if self.0.len() >= MOVES_MAX {
                self.0.clear();
            }
            let known = Known { _edited: Rc::clone(edited), original: original.into(), moved: moved.clone() };
            self.0.insert(Rc::as_ptr(edited), known);
        }
        moved
    }

    /// The judge has changed.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
