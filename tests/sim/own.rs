//! What goes on a client's own channel: transactions and direct reply-to. Nobody judges it, and nobody sends it twice: a link's death is
//! the client's own concern (SPEC T2, T6, D5).

use std::collections::{HashMap, HashSet, VecDeque};

use super::kit;
use super::ledger::Id;
use super::rng::Rng;

/// Where direct replies come from.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A message's name says that it is one of these.
pub fn name(id: Id) -> String {
    format!("own-{}", id.name())
}

/// Which one, if it is.
pub fn parse(name: &str) -> Option<Id> {
    name.strip_prefix("own-").map(Id::parse)
}

/// A client's side of such a channel.
pub struct Own {
    pub tx: bool,
    uid: u32,
    n: u32,
    /// Said since the last commit or rollback, and in commits that are not answered.
    open: Vec<u32>,
    committing: VecDeque<Vec<u32>>,
    /// Replies that are to come.
    pub echoes: VecDeque<u32>,
}

impl Own {
    pub fn new(uid: u32, tx: bool) -> Self {
        Self { tx, uid, n: 0, open: Vec::new(), committing: VecDeque::new(), echoes: VecDeque::new() }
    }

    /// The frames of the next message.
    pub fn publish(&mut self, ch: u16, rng: &mut Rng, frame_max: u32) -> Vec<u8> {
        self.n += 1;
        let most = *rng.pick(&[1, 200, 20_000]);
        let id = Id { chan: self.uid, n: self.n, len: rng.below(most) as u32 };
        if self.tx {
            self.open.push(id.n);
        } else {
            self.echoes.push_back(id.n);
        }
        kit::publish(ch, "", "key", false, &name(id), id.body(), frame_max)
    }

    /// It says commit.
    pub fn commit(&mut self) {
        self.committing.push_back(std::mem::take(&mut self.open));
    }

    /// It says rollback: none of these may ever be seen.
    pub fn roll_back(&mut self, book: &mut OwnBook) {
        book.undone.extend(self.open.drain(..).map(|n| (self.uid, n)));
    }

    /// commit-ok: the broker has all of it.
    pub fn committed(&mut self, book: &OwnBook) {
        let batch = self.committing.pop_front().expect("commit-ok that nobody asked for");
        for n in batch {
            let last = book.last.get(&self.uid).copied().unwrap_or(0);
            assert!(n <= last, "own-{}-{n} is committed, and the broker has no more than {last}", self.uid);
        }
    }

    /// A direct reply.
    pub fn replied(&mut self, id: Id) {
        assert_eq!((Some(id.n), id.chan), (self.echoes.pop_front(), self.uid), "replies come in order");
    }
}

/// What brokers have of all of them.
#[derive(Debug, Default)]
pub struct OwnBook {
    last: HashMap<u32, u32>,
    undone: HashSet<(u32, u32)>,
    pub taken: u64,
}

impl OwnBook {
    /// A broker has taken one for good.
    pub fn arrive(&mut self, id: Id) {
        self.taken += 1;
        let last = self.last.entry(id.chan).or_default();
        assert!(id.n > *last, "own-{} came after {last}", id.name());
        *last = id.n;
        assert!(!self.undone.contains(&(id.chan, id.n)), "own-{} was rolled back", id.name());
    }
}
