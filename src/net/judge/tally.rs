//! What is counted of each task (M2), with the counters' handles kept: looked up once a task by its name, and noted in plain numbers
//! that are added to the counters when the judge rests: atomics cost more than all else here.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Case, OWN};
use crate::celery::{Task, delayed};
use crate::metrics::{IntCounter, Metrics, Mode, NonTask, RuleMetrics, TaskVerdict};
use crate::policy::{Aspect, Because, By, Destination, Policy};
use crate::wire::num::{same, u32_clamped, usize_of};

/// Task names whose handles are kept; names come from strangers.
const NAMES_MAX: usize = 16_384;
/// A longer name's handles are never kept.
const NAME_BYTES_MAX: usize = 256;
/// Ways of all names that are kept: by destination, rules and verdict.
const WAYS_MAX: usize = 65_536;
/// While more than this is noted at a time, notes are added together…
const NOTES_MIN: u64 = 64;
/// … for so long.
const NOTES_MS: u64 = 50;

/// How a task fared, as far as counters care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub verdict: TaskVerdict,
    pub because: Because,
    /// An index into the config's upstreams.
    pub upstream: usize,
    pub did: Did,
}

/// What changed, beside the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Did {
    pub rerouted: bool,
    pub reprioritised: bool,
    pub imposed: bool,
    pub passed_expired: bool,
    pub unjudged_expiry: bool,
}

impl Kind {
    pub fn new(verdict: TaskVerdict, because: Because) -> Self {
        Self { verdict, because, upstream: OWN.0, did: Did::default() }
    }
}

/// The counters of tasks that are alike.
#[derive(Debug)]
struct Way {
    exchange: Box<[u8]>,
    routing_key: Box<[u8]>,
    kind: Kind,
    /// Where the policy sends them: a place in the policy in force, compared and never followed.
    to: Option<*const Destination>,
    counters: Box<[IntCounter]>,
    /// Not yet added to the counters.
    noted: u64,
}

impl Way {
    fn is(&self, case: &Case<'_>, kind: &Kind, to: Option<&Destination>) -> bool {
        self.to == to.map(std::ptr::from_ref)
            && same(&self.routing_key, case.publish.routing_key)
            && same(&self.exchange, case.publish.exchange)
            && self.kind == *kind
    }
}

/// The ways of one name, by their place in `Tally::ways`: nearly always one.
#[derive(Debug)]
struct Ways {
    first: u32,
    more: Vec<u32>,
}

/// One thread's handles under one policy.
#[derive(Debug)]
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    names: FxHashMap<Box<[u8]>, Ways>,
    ways: Vec<Way>,
    /// Those of which something is noted, and how much in all.
    noted: Vec<u32>,
    notes: u64,
    /// What is no task, by what it is instead.
    others: Vec<(NonTask, u64)>,
    until_ms: u64,
    rules: FxHashMap<By, RuleMetrics>,
}

impl Tally {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            names: FxHashMap::default(),
            ways: Vec::new(),
            noted: Vec::new(),
            notes: 0,
            others: Vec::new(),
            until_ms: 0,
            rules: FxHashMap::default(),
        }
    }

    /// Notes a task; `to`: where the policy sends it.
    pub fn count(&mut self, case: &Case<'_>, kind: &Kind, to: Option<&Destination>) {
        let Some(task) = case.message.task else { return };
        let number = match self.find(task, case, kind, to) {
            Some(number) => number,
            None => self.learn(case, task, kind, to),
        };
        let Some(way) = self.ways.get_mut(usize_of(number)) else { return };
        if way.noted == 0 {
            self.noted.push(number);
        }
        way.noted += 1;
        self.notes += 1;
    }

    /// Notes messages that are no tasks.
    pub fn others(&mut self, kind: NonTask, count: u64) {
        match self.others.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, noted)) => *noted += count,
            None => self.others.push((kind, count)),
        }
        self.notes += count;
    }

    fn find(&self, task: &Task<'_>, case: &Case<'_>, kind: &Kind, to: Option<&Destination>) -> Option<u32> {
        let ways = self.names.get(task.name_bytes())?;
        let is = |number: &&u32| self.ways.get(usize_of(**number)).is_some_and(|way| way.is(case, kind, to));
        std::iter::once(&ways.first).chain(&ways.more).find(is).copied()
    }

    /// Nothing is judged for a moment: what is noted is added to the counters, unless much was noted and more is likely to come.
    pub fn rest(&mut self, now_ms: u64) {
        if self.notes > 0 && (self.notes < NOTES_MIN || now_ms >= self.until_ms) {
            self.until_ms = now_ms + NOTES_MS;
            self.add_up();
        }
    }

    /// Adds all that is noted to the counters.
    pub fn add_up(&mut self) {
        for number in self.noted.drain(..) {
            let Some(way) = self.ways.get_mut(usize_of(number)) else { continue };
            let noted = std::mem::take(&mut way.noted);
            way.counters.iter().for_each(|counter| counter.inc_by(noted));
        }
        for (kind, noted) in self.others.drain(..) {
            self.metrics.tasks.non_tasks.of(kind).inc_by(noted);
        }
        self.notes = 0;
    }

    /// The counters of a rule or a route.
    pub fn rule(&mut self, policy: &Policy, by: By) -> &RuleMetrics {
        self.rules.entry(by).or_insert_with(|| self.metrics.tasks.rule(&policy.name_of(by)))
    }

    fn learn(&mut self, case: &Case<'_>, task: &Task<'_>, kind: &Kind, to: Option<&Destination>) -> u32 {
        if self.names.len() >= NAMES_MAX || self.ways.len() >= WAYS_MAX {
            self.add_up();
            self.names.clear();
            self.ways.clear();
        }
        let way = Way {
            exchange: case.publish.exchange.into(),
            routing_key: case.publish.routing_key.into(),
            kind: *kind,
            to: to.map(std::ptr::from_ref),
            counters: self.counters(case, task.name(), kind, to),
            noted: 0,
        };
        let number = u32_clamped(self.ways.len());
        self.ways.push(way);
        let name = task.name_bytes();
        if name.len() <= NAME_BYTES_MAX {
            match self.names.get_mut(name) {
                Some(ways) => ways.more.push(number),
                None => drop(self.names.insert(name.into(), Ways { first: number, more: Vec::new() })),
            }
        }
        number
    }

    fn counters(
        &mut self,
        case: &Case<'_>,
        name: &str,
        kind: &Kind,
        to: Option<&Destination>,
    ) -> Box<[IntCounter]> {
        let policy = case.policy();
        let upstream = case.snapshot.upstream_name(kind.upstream);
        let rule = principal(kind).map_or_else(|| "none".to_owned(), |by| policy.name_of(by));
        let mut counters = vec![self.metrics.tasks.task(name, &rule, kind.verdict, upstream)];
        if matches!(kind.verdict, TaskVerdict::Forward | TaskVerdict::Edit)
            && let Some(queue) = queue(case, to)
        {
            counters.push(self.metrics.tasks.queue(&String::from_utf8_lossy(queue), upstream));
        }
        let mut deciders: Vec<By> = Vec::new();
        for by in Aspect::ALL.into_iter().filter_map(|aspect| kind.because.of(aspect)) {
            if !deciders.contains(&by) {
                deciders.push(by);
                counters.push(self.rule(policy, by).matched.of(Mode::Enforce).clone());
            }
        }
        let Because { expiry, route, priority, .. } = kind.because;
        let did = kind.did;
        if let Some(by) = route.filter(|_| did.rerouted) {
            counters.push(self.rule(policy, by).rerouted.clone());
        }
        if let Some(by) = priority.filter(|_| did.reprioritised) {
            counters.push(self.rule(policy, by).reprioritised.clone());
        }
        if let Some(by) = expiry.or(route).filter(|_| did.imposed) {
            counters.push(self.rule(policy, by).expiry_imposed.clone());
        }
        if let Some(by) = expiry.filter(|_| did.passed_expired) {
            counters.push(self.rule(policy, by).expired.of(crate::metrics::ExpiryAction::Pass).clone());
        }
        if let Some(by) = expiry.filter(|_| did.unjudged_expiry) {
            counters.push(self.rule(policy, by).expiry_unjudged.clone());
        }
        counters.into_boxed_slice()
    }
}

/// The one rule that a task's counter names: who kept it out, or else who moved it, or else whoever decided anything.
fn principal(kind: &Kind) -> Option<By> {
    let because = &kind.because;
    match kind.verdict {
        TaskVerdict::Expire => because.expiry,
        TaskVerdict::Refuse | TaskVerdict::DeadLetter => because.admission,
        TaskVerdict::Forward | TaskVerdict::Edit => because
            .route
            .or(because.priority)
            .or(because.compression)
            .or(because.expiry)
            .or(because.tier)
            .or(because.admission),
    }
}

/// The queue that it goes to, where that can be told.
fn queue<'a>(case: &'a Case<'_>, to: Option<&'a Destination>) -> Option<&'a [u8]> {
    let sent = case.publish.exchange;
    let (exchange, key) = if delayed::is_delayed_exchange(sent) {
        let (bits, key) = delayed::split(case.publish.routing_key);
        (if bits.is_empty() { sent } else { Default::default() }, key)
    } else {
        (sent, case.publish.routing_key)
    };
    match to {
        Some(Destination { queue: Some(queue), .. }) => Some(queue.as_bytes()),
        Some(to) => case.policy().queues().meant(to.exchange.as_bytes(), to.routing_key.as_bytes()),
        None => case.policy().queues().meant(exchange, key),
    }
}
