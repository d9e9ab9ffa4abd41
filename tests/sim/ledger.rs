//! What must have happened: every publish that the Hub took, what was decided of it, where it arrived and what its client was told.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::OnceLock;

use super::own::OwnBook;
use super::rng::Rng;

/// Which message: of which channel's life, the how-manieth, how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub chan: u32,
    pub n: u32,
    pub len: u32,
}

impl Id {
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split('-').map(|p| p.parse().expect("ids are three numbers"));
        let mut next = || parts.next().expect("ids are three numbers");
        Self { chan: next(), n: next(), len: next() }
    }

    pub fn name(self) -> String {
        format!("{}-{}-{}", self.chan, self.n, self.len)
    }

    /// The body that belongs to it: a piece of what looks like noise, another one for each message.
    pub fn body(self) -> &'static [u8] {
        let at = (self.chan as usize * 7919 + self.n as usize * 131) % BODIES_APART;
        &noise()[at..at + self.len as usize]
    }
}

/// Bodies begin in this many places; what is longest ends behind them.
const BODIES_APART: usize = 1 << 20;
const BODY_MAX: usize = 1 << 19;

/// Made once: a simulation spends its time on the Hub.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut rng = Rng::new(1);
        (0..(BODIES_APART + BODY_MAX) / 8).flat_map(|_| rng.next().to_le_bytes()).collect()
    })
}

/// What the judge said of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes to this upstream, or where it was going, if its target is not to be had there.
    Goes { upstream: usize, or: usize, doomed: bool },
    /// It does not go on, and the client hears an ack.
    Acked,
    /// It does not go on, and the client hears a nack.
    Nacked,
    /// It does not go on, and the channel is closed.
    Closes,
}

impl Fate {
    /// A route sends it to another upstream, from where it may come home.
    fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Goes { upstream, or, .. } if upstream != or)
    }
}

/// How a channel ended, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Open,
    /// By the client, in whatever way: what was taken must arrive.
    ByClient,
    /// By an error: with confirms, what was not acked may be lost.
    ByError,
}

#[derive(Debug)]
pub struct Chan {
    pub confirm_from: Option<u32>,
    pub end: End,
    pub fates: BTreeMap<u32, Fate>,
    pub acked: BTreeSet<u32>,
    pub nacked: BTreeSet<u32>,
    /// Refused in a way that the client could see.
    pub excused: BTreeSet<u32>,
    pub sent: u32,
    /// Highest first arrival, by upstream.
    high: HashMap<usize, u32>,
    /// Nacked by a broker, and how often: tried again later, out of order.
    broker_nacked: BTreeMap<u32, u8>,
    /// On disk for another upstream when the process ended, and perhaps on its way home from there: its place in the order is lost.
    astray: BTreeSet<u32>,
    pub returned: BTreeSet<u32>,
    /// Where they were going there is no queue.
    pub to_nowhere: BTreeSet<u32>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub chans: BTreeMap<u32, Chan>,
    /// How often a message was taken by an upstream, and how many of those were duplicates to be expected.
    arrived: HashMap<(usize, u32, u32), u32>,
    expected: HashMap<(usize, u32, u32), u32>,
    pub total: u64,
    pub duplicates: u64,
    pub judged: u64,
    pub acks: u64,
    pub nacks: u64,
    /// There is a disk: what is refused where it was going at last is kept, and has its turn when all else has gone. By then what its
    /// policy declares for it may be there, and it arrives.
    keeps_refused: bool,
    /// What has been on disk.
    pub on_disk: HashSet<(u32, u32)>,
    /// Since the Hub was last given octets of a client.
    pub last_judged: Vec<Id>,
    /// What went on, so that a failure can be read.
    pub own: OwnBook,
    pub trace: std::collections::VecDeque<String>,
    pub tracing: bool,
}

impl Ledger {
    pub fn new(keeps_refused: bool) -> Self {
        Self { keeps_refused, ..Self::default() }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.tracing {
            if self.trace.len() > 40000 {
                self.trace.pop_front();
            }
            self.trace.push_back(line());
        }
    }

    pub fn open(&mut self, chan: u32) {
        self.chans.insert(
            chan,
            Chan {
                confirm_from: None,
                end: End::Open,
                fates: BTreeMap::new(),
                acked: BTreeSet::new(),
                nacked: BTreeSet::new(),
                excused: BTreeSet::new(),
                sent: 0,
                high: HashMap::new(),
                broker_nacked: BTreeMap::new(),
                astray: BTreeSet::new(),
                returned: BTreeSet::new(),
                to_nowhere: BTreeSet::new(),
            },
        );
    }

    pub fn chan(&mut self, chan: u32) -> &mut Chan {
        self.chans.get_mut(&chan).expect("a channel of ours")
    }

    pub fn judged(&mut self, id: Id, fate: Fate) {
        self.judged += 1;
        if matches!(fate, Fate::Goes { .. }) {
            self.last_judged.push(id);
        }
        self.note(|| format!("judged {} {fate:?}", id.name()));
        let c = self.chan(id.chan);
        let last = c.fates.last_key_value().map_or(0, |(n, _)| *n);
        assert_eq!(id.n, last + 1, "messages of channel {} are judged in order, none left out", id.chan);
        c.fates.insert(id.n, fate);
    }

    /// An upstream has taken a message.
    pub fn arrive(&mut self, upstream: usize, id: Id, body: &[u8], orderly: bool) {
        self.total += 1;
        self.note(|| format!("arrived {} at {upstream}", id.name()));
        let original = body.strip_prefix(b"EDIT").unwrap_or(body);
        assert!(body == id.body() || original == id.body(), "the body of {} is not its own", id.name());
        let c = self.chans.get_mut(&id.chan).expect("a message of ours");
        let (turned_back, doomed) = match c.fates.get(&id.n) {
            Some(&Fate::Goes { upstream: to, or, doomed }) => {
                assert!(to == upstream || or == upstream, "{} went to another upstream", id.name());
                (to != upstream, doomed)
            }
            other => panic!("{} arrived, and was decided {other:?}", id.name()),
        };
        let key = (upstream, id.chan, id.n);
        let count = self.arrived.entry(key).or_default();
        *count += 1;
        if *count > 1 {
            self.duplicates += 1;
            let expected = self.expected.get(&key).copied().unwrap_or(0);
            assert!(
                *count <= 1 + expected,
                "{} arrived {count} times, {expected} duplicates are accounted for",
                id.name()
            );
            return;
        }
        let high = c.high.entry(upstream).or_default();
        let out_of_turn = c.broker_nacked.contains_key(&id.n) || c.astray.contains(&id.n);
        let aside = doomed && self.keeps_refused;
        if orderly && !turned_back && !out_of_turn && !aside {
            assert!(id.n > *high, "{} arrived after {high}", id.name());
            *high = id.n;
        }
    }

    /// A link died, or a channel, before the Hub could know that this was taken: it may come again.
    pub fn may_come_again(&mut self, upstream: usize, id: Id) {
        *self.expected.entry((upstream, id.chan, id.n)).or_default() += 1;
    }

    pub fn broker_nacked(&mut self, id: Id) {
        self.note(|| format!("broker nacks {}", id.name()));
        *self.chan(id.chan).broker_nacked.entry(id.n).or_default() += 1;
    }

    /// Whether a broker may nack it (once more). What an exchange may give to several queues goes again five times and not more.
    pub fn may_be_nacked(&mut self, id: Id) -> bool {
        self.chan(id.chan).broker_nacked.get(&id.n).is_none_or(|&times| times < 5)
    }

    /// The retries of an upstream are used up: what has no number and has not arrived may have been refused by closing its connection.
    pub fn give_up(&mut self, chan: u32) {
        let c = &self.chans[&chan];
        let numbered = |n| c.confirm_from.is_some_and(|from| n >= from);
        let refused =
            c.fates.iter().filter(|(n, fate)| !numbered(**n) && !self.has_arrived(chan, **n, **fate));
        let refused: Vec<u32> = refused.map(|(n, _)| *n).collect();
        self.chan(chan).excused.extend(refused);
    }

    pub fn routed_elsewhere(&self, chan: u32) -> bool {
        self.chans[&chan].fates.values().any(Fate::is_elsewhere)
    }

    /// The connection is closed because nothing takes more: what a route had sent elsewhere may have come home to that, if it has no number
    /// and has not arrived.
    pub fn home_was_full(&mut self, chan: u32) {
        let c = &self.chans[&chan];
        let numbered = |n| c.confirm_from.is_some_and(|from| n >= from);
        let unknown = |n, fate| !numbered(n) && !self.has_arrived(chan, n, fate);
        let home = c.fates.iter().filter(|(n, fate)| fate.is_elsewhere() && unknown(**n, **fate));
        let home: Vec<u32> = home.map(|(n, _)| *n).collect();
        self.chan(chan).excused.extend(home);
    }

    /// A drain has refused something of somebody: what has a number and no answer may be that.
    pub fn left_unanswered(&mut self, chan: u32) {
        let c = self.chan(chan);
        let Some(from) = c.confirm_from else { return };
        let unanswered =
            c.fates.keys().filter(|n| **n >= from && !c.acked.contains(n) && !c.nacked.contains(n));
        let unanswered: Vec<u32> = unanswered.copied().collect();
        c.excused.extend(unanswered);
    }

    fn has_arrived(&self, chan: u32, n: u32, fate: Fate) -> bool {
        let at = |upstream| self.arrived.contains_key(&(upstream, chan, n));
        matches!(fate, Fate::Goes { upstream, or, .. } if at(upstream) || at(or))
    }

    /// A client hears of one of its numbers.
    pub fn answered(&mut self, chan: u32, n: u32, ack: bool) {
        self.note(|| format!("client hears {} of {chan}-{n}", if ack { "ack" } else { "nack" }));
        let fate = *self
            .chan(chan)
            .fates
            .get(&n)
            .unwrap_or_else(|| panic!("{chan}-{n} was answered and never judged"));
        let arrived = self.has_arrived(chan, n, fate);
        let on_disk = self.on_disk.contains(&(chan, n));
        let c = self.chan(chan);
        assert!(!c.acked.contains(&n) && !c.nacked.contains(&n), "{chan}-{n} is answered twice");
        if ack {
            assert!(
                arrived || fate == Fate::Acked || on_disk,
                "{chan}-{n} is acked, and neither a broker nor the disk has it ({fate:?})"
            );
            c.acked.insert(n);
            self.acks += 1;
        } else {
            c.nacked.insert(n);
            self.nacks += 1;
        }
    }

    /// The process is gone. What is left on disk, by upstream, comes again, there or at home; what it had in memory only may be lost,
    /// unless it had time to write it down (`in_peace`).
    pub fn restarted(&mut self, left: &[(usize, Id)], in_peace: bool) {
        let mut seen = HashSet::new();
        for &(upstream, id) in left {
            let home = match self.chan(id.chan).fates.get(&id.n) {
                Some(&Fate::Goes { upstream: to, or, .. }) if to == upstream && or != to => Some(or),
                _ => None,
            };
            if home.is_some() && !in_peace {
                self.chan(id.chan).astray.insert(id.n);
            }
            for place in [Some(upstream), home].into_iter().flatten() {
                // Taken already; or there twice: written in one place and not yet removed in another, when the power went.
                if self.arrived.contains_key(&(place, id.chan, id.n)) || !seen.insert((place, id)) {
                    self.may_come_again(place, id);
                }
            }
        }
        if in_peace {
            return;
        }
        let kept: HashSet<(u32, u32)> = left.iter().map(|(_, id)| (id.chan, id.n)).collect();
        for (&chan, c) in &mut self.chans {
            let lost = c.fates.iter().filter(|(n, fate)| {
                matches!(fate, Fate::Goes { .. }) && !c.acked.contains(n) && !kept.contains(&(chan, **n))
            });
            let lost: Vec<u32> = lost.map(|(n, _)| *n).collect();
            c.excused.extend(lost);
        }
    }

    /// After everything has healed: nothing is missing that was not refused where its client could see it.
    /// `kept`: what the disk still has, refused and tried again for as long as its broker refuses it, for which it must have a reason.
    pub fn settle_accounts(&self, kept: &HashSet<(u32, u32)>) {
        for (&chan, c) in &self.chans {
            for (&n, &fate) in &c.fates {
                let confirms = c.confirm_from.is_some_and(|from| n >= from);
                let answered = c.acked.contains(&n) || c.nacked.contains(&n);
                if confirms && c.end == End::Open {
                    assert!(answered, "{chan}-{n} ({fate:?}) was never answered");
                }
                let Fate::Goes { doomed, .. } = fate else { continue };
                if kept.contains(&(chan, n)) {
                    assert!(
                        doomed || c.to_nowhere.contains(&n),
                        "{chan}-{n} ({fate:?}) is kept, and nobody refuses it"
                    );
                    continue;
                }
                // A nack ends it for a client with confirms, also for one that left before it heard.
                if doomed
                    || (confirms && c.broker_nacked.contains_key(&n))
                    || c.excused.contains(&n)
                    || c.nacked.contains(&n)
                    || (confirms && c.end == End::ByError && !answered)
                {
                    continue;
                }
                assert!(
                    self.has_arrived(chan, n, fate),
                    "{chan}-{n} ({fate:?}) is lost (confirms: {confirms}, acked: {}, channel ended {:?})",
                    c.acked.contains(&n),
                    c.end
                );
            }
        }
    }
}
