//! The one place that knows policy and session: asks the policy what becomes of a publish and says it in the Hub's words.
//!
//! ```text
//! PublishView ─▶ celery::read ─▶ Policy::judge ─▶ Verdict ─┬ forward ─▶ Pass, or Edit     (carry)
//!                                                          └ expired, refused ─▶ Settle    (settle)
//! ```
//!
//! A mistake of a rule costs no task (P9): what cannot be carried out leaves the message as it came, is counted and logged.

mod authored;
mod carry;
mod complaint;
mod settle;
mod snapshot;
mod tally;
mod target;
mod unrouted;

use std::sync::Arc;

pub use settle::{Handed, Withheld};
pub use snapshot::Snapshot;

use crate::celery::{self, NotTask, Reading, Task, Unreadable};
use crate::metrics::{self, Metrics, Mode, NonTask, TaskVerdict};
use crate::policy::{Because, By, Context, Destination, Fate, Memo, Message, Policy, Verdict};
use crate::session::{Decision, Held, Judge, Now, PublishView, Unrouted, UpstreamId};
use authored::Node;
use complaint::Complaints;
use tally::{Kind, Tally};
use target::Targets;

/// The upstream of every session: `default`, which the config puts first. A verdict's index into `config.upstreams` and the Hub's
/// [`UpstreamId`] are the same number.
pub const OWN: UpstreamId = UpstreamId(0);

/// Whoever knows policy, for one thread. A message is judged by one snapshot.
#[derive(Debug)]
pub struct PolicyJudge {
    snapshot: Arc<Snapshot>,
    desk: Desk,
}

/// What one thread remembers between two messages.
#[derive(Debug)]
struct Desk {
    memo: Memo,
    targets: Targets,
    tally: Tally,
    metrics: Arc<Metrics>,
    node: Node,
    complaints: Complaints,
    random: u64,
}

/// One message under judgement.
struct Case<'a> {
    snapshot: &'a Snapshot,
    now: Now,
    publish: &'a PublishView<'a>,
    message: Message<'a>,
}

impl PolicyJudge {
    /// A judge for one thread; `seed` is for weighted routes.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, metrics: Arc<Metrics>, seed: u64) -> Self {
        Self {
            snapshot,
            desk: Desk {
                memo: Memo::new(),
                targets: Targets::default(),
                tally: Tally::new(Arc::clone(&metrics)),
                metrics,
                node: Node::here(),
                complaints: Complaints::default(),
                random: seed | 1,
            },
        }
    }

    /// From the next message on, this snapshot judges (C2).
    pub fn replace(&mut self, snapshot: Arc<Snapshot>) {
        // Everything remembered points into the old policy.
        self.desk.tally.add_up();
        self.desk.memo = Memo::new();
        self.desk.targets = Targets::default();
        self.desk.tally = Tally::new(Arc::clone(&self.desk.metrics));
        self.snapshot = snapshot;
    }

    /// The snapshot that judges now.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Whether a task on its way out to a worker has expired, where a rule asks for that (P4); `None`: hand it on. The view says who
    /// consumes, and the exchange and key that the delivery names.
    pub fn expired_on_delivery(&mut self, now: Now, delivery: &PublishView<'_>) -> Option<Withheld> {
        if !self.snapshot.watches_deliveries {
            return None;
        }
        let reading = celery::read(&view(delivery), &self.snapshot.limits);
        let Reading::Task(task) = &reading else { return None };
        let case = Case::new(&self.snapshot, now, delivery, Some(task));
        let withheld = self.desk.withhold(&case);
        self.desk.tally.add_up();
        withheld
    }
}

impl Judge for PolicyJudge {
    fn judge(&mut self, now: Now, publish: &PublishView<'_>) -> Decision {
        let reading = celery::read(&view(publish), &self.snapshot.limits);
        let task = match &reading {
            Reading::Task(task) => Some(task),
            Reading::NotTask(kind) => {
                self.desk.tally.others(kind_word(*kind), 1);
                None
            }
            Reading::Unreadable(why) => {
                self.desk.metrics.tasks.unreadable.of(unreadable_word(*why)).inc();
                None
            }
        };
        // What is no task passes, nearly always: nothing more is made of it.
        if task.is_none() && !self.snapshot.config.policy.speaks_of_others() {
            return Decision::Pass;
        }
        let case = Case::new(&self.snapshot, now, publish, task);
        self.desk.judge(&case)
    }

    fn passes_alike(&self, publish: &PublishView<'_>) -> bool {
        !self.snapshot.config.policy.speaks_of_others() && celery::told_without_body(&view(publish)).is_some()
    }

    fn passed_alike(&mut self, publish: &PublishView<'_>, count: u64) {
        if let Some(kind) = celery::told_without_body(&view(publish)) {
            self.desk.tally.others(kind_word(kind), count);
        }
    }

    fn rest(&mut self, now: Now) {
        self.desk.tally.rest(now.ms);
    }

    fn watches_deliveries(&self) -> bool {
        self.snapshot.watches_deliveries
    }

    fn delivery(&mut self, now: Now, delivery: &PublishView<'_>) -> Option<Held> {
        let withheld = self.expired_on_delivery(now, delivery)?;
        Some(Held { instead: withheld.instead, reject: withheld.handed == settle::Handed::Reject })
    }

    fn wants_queue(&mut self, _now: Now, publish: &PublishView<'_>) -> bool {
        matches!(celery::read(&view(publish), &self.snapshot.limits), Reading::Task(_))
    }

    fn unrouted(&mut self, now: Now, publish: &PublishView<'_>, from: UpstreamId) -> Unrouted {
        let reading = celery::read(&view(publish), &self.snapshot.limits);
        let Reading::Task(task) = &reading else { return Unrouted::Counted };
        let case = Case::new(&self.snapshot, now, publish, Some(task));
        self.desk.unrouted(&case, from)
    }

    fn again(&mut self, now: Now, publish: &PublishView<'_>) -> Decision {
        if !self.snapshot.speaks_of_expiry {
            return Decision::Pass;
        }
        let reading = celery::read(&view(publish), &self.snapshot.limits);
        let Reading::Task(task) = &reading else { return Decision::Pass };
        let case = Case::new(&self.snapshot, now, publish, Some(task));
        let decision = self.desk.again(&case);
        self.desk.tally.add_up();
        decision
    }
}

impl<'a> Case<'a> {
    const fn new(
        snapshot: &'a Snapshot,
        now: Now,
        publish: &'a PublishView<'a>,
        task: Option<&'a Task<'a>>,
    ) -> Self {
        let message = Message {
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            header: publish.header,
            task,
        };
        Self { snapshot, now, publish, message }
    }

    fn policy(&self) -> &'a Policy {
        &self.snapshot.config.policy
    }

    const fn context(&self, random: u64) -> Context<'a> {
        let session = &self.publish.session;
        Context {
            vhost: session.vhost,
            user: session.user,
            client: session.peer,
            now: self.now.wall_us,
            random,
        }
    }
}

impl Desk {
    fn judge(&mut self, case: &Case<'_>) -> Decision {
        let watched = case.message.task.is_some() && case.snapshot.watches_returns(OWN.0);
        // What nobody can speak of needs no verdict, not even a blank one.
        if !watched && case.policy().is_blank() {
            return self.unspoken(case);
        }
        let context = case.context(self.random());
        let mut verdict = Verdict::default();
        let spoken = case.policy().speak(&mut self.memo, &context, &case.message, &mut verdict);
        if !spoken && !watched {
            return self.unspoken(case);
        }
        if !verdict.observed.is_empty() {
            self.observed(case, &verdict);
        }
        match verdict.fate {
            Fate::Forward => self.forward(case, &mut verdict),
            Fate::Expired { action, at } => self.expired(case, &verdict.because, action, at),
            Fate::Refused { how, reason } => self.refused(case, &verdict.because, how, reason),
        }
    }

    /// Nobody speaks of it: it counts, and that is all.
    fn unspoken(&mut self, case: &Case<'_>) -> Decision {
        self.count(case, &Kind::new(TaskVerdict::Forward, Because::default()), None);
        Decision::Pass
    }

    /// Counts a task; `to`: where the policy sends it.
    fn count(&mut self, case: &Case<'_>, kind: &Kind, to: Option<&Destination>) {
        if case.message.task.is_some() {
            self.tally.count(case, kind, to);
        } else if let Some(by) = kind.because.admission {
            self.tally.rule(case.policy(), by).matched.of(Mode::Enforce).inc();
        }
    }

    /// What rules in dry run would have decided (P8).
    fn observed(&mut self, case: &Case<'_>, verdict: &Verdict<'_>) {
        for (at, (aspect, by)) in verdict.observed.iter().enumerate() {
            tracing::debug!(
                task = case.message.task.map_or("", |task| task.name()),
                rule = case.policy().name_of(*by),
                aspect = aspect.key(),
                "dry run: would have decided"
            );
            let seen =
                verdict.observed.get(..at).unwrap_or_default().iter().any(|(_, earlier)| earlier == by);
            if !seen {
                self.tally.rule(case.policy(), *by).matched.of(Mode::Observe).inc();
            }
        }
    }

    /// A rule's own mistake: counted, logged, and no task is the worse for it (P9).
    fn mistake(&mut self, case: &Case<'_>, kind: metrics::Mistake, rule: Option<By>) {
        self.metrics.tasks.mistakes.of(kind).inc();
        if let Some(held) = self.complaints.due(case.now.ms, kind) {
            tracing::warn!(
                mistake = metrics::Word::word(kind),
                rule = rule.map(|by| case.policy().name_of(by)).unwrap_or_default(),
                task = case.message.task.map_or("", |task| task.name()),
                not_logged = held,
                "a verdict could not be carried out; the message goes as it came"
            );
        }
    }

    /// The message goes as it came.
    fn pass(&mut self, case: &Case<'_>, verdict: &Verdict<'_>) -> Decision {
        let mut kind = Kind::new(TaskVerdict::Forward, verdict.because);
        kind.did.passed_expired = verdict.passed_expired;
        kind.did.unjudged_expiry = verdict.unjudged_expiry;
        self.count(case, &kind, None);
        Decision::Pass
    }

    /// xorshift64*: which way a weighted route goes is no secret.
    const fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

const fn view<'a>(publish: &'a PublishView<'a>) -> celery::Publish<'a> {
    celery::Publish {
        exchange: publish.exchange,
        routing_key: publish.routing_key,
        header: publish.header,
        body: publish.body,
    }
}

const fn kind_word(kind: NotTask) -> NonTask {
    match kind {
        NotTask::Event => NonTask::Event,
        NotTask::Control => NonTask::Control,
        NotTask::Result => NonTask::Result,
        NotTask::Other => NonTask::Other,
    }
}

const fn unreadable_word(why: Unreadable) -> metrics::Unreadable {
    match why {
        Unreadable::Name | Unreadable::Syntax => metrics::Unreadable::Syntax,
        Unreadable::Codec | Unreadable::Decompress => metrics::Unreadable::Compression,
        Unreadable::TooLong | Unreadable::Bomb => metrics::Unreadable::TooLarge,
        Unreadable::TooComplex => metrics::Unreadable::TooDeep,
    }
}
