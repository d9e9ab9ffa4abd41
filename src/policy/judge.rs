//! One message in, one verdict out.
//!
//! ```text
//! admission ─ kept out ─▶ Refused
//!     │ let in
//! expiry ── expired ────▶ Expired (but `pass`)
//!     │ in time
//! route ─▶ priority ─▶ compression ─▶ tier ─▶ Forward, with edits
//! ```

use super::aspects::{AdmissionAction, ExpiryAction, ExpiryRule, Packing};
use super::case::Case;
use super::matching::{Context, Message};
use super::memo::{Memo, Plan};
use super::moments::{Standing, imposed, standing, ttl};
use super::route::{Force, Target};
use super::rule::{Aspect, Mode, Rule};
use super::verdict::{By, Fate, Refusal, Verdict};
use super::{CompressionRule, Policy};
use crate::celery::Task;
use crate::wire::num::{same, usize_of};

/// A route's codec leaves smaller bodies alone.
const ROUTE_COMPRESSION_BYTES_MIN: u64 = 1024;

/// A task that has expired since it was accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expired<'p> {
    /// What becomes of it.
    pub action: &'p ExpiryAction,
    /// When it expired, in microseconds since the epoch.
    pub at: i64,
    /// The rule that says so.
    pub by: By,
}

impl Policy {
    /// What to do with a message.
    #[must_use]
    pub fn judge<'p>(&'p self, memo: &mut Memo, context: &Context<'_>, message: &Message<'_>) -> Verdict<'p> {
        let mut verdict = Verdict::default();
        self.speak(memo, context, message, &mut verdict);
        verdict
    }

    /// The same into `verdict`, which is blank; whether anybody could speak of the message, as far as its task's name tells. If not, it
    /// passes, and nothing was observed.
    pub fn speak<'p>(
        &'p self,
        memo: &mut Memo,
        context: &Context<'_>,
        message: &Message<'_>,
        verdict: &mut Verdict<'p>,
    ) -> bool {
        let spoken = self.judge_in(self.mode, memo, context, message, verdict);
        if self.mode == Mode::Observe {
            *verdict = std::mem::take(verdict).only_observed();
        }
        spoken
    }

    /// What would be done if no dry run were on, anywhere.
    #[must_use]
    pub fn judge_enforced<'p>(
        &'p self,
        memo: &mut Memo,
        context: &Context<'_>,
        message: &Message<'_>,
    ) -> Verdict<'p> {
        let mut verdict = Verdict::default();
        self.judge_in(Mode::Observe, memo, context, message, &mut verdict);
        verdict
    }

    /// Whether a task has expired since it was accepted: asked when it leaves the spool or is sent again (P4).
    #[must_use]
    pub fn expired_since<'p>(
        &'p self,
        memo: &mut Memo,
        context: &Context<'_>,
        message: &Message<'_>,
    ) -> Option<Expired<'p>> {
        self.expired(memo, context, message, |_| true)
    }

    /// The same for a task on its way out to a worker, where a rule asks for that.
    #[must_use]
    pub fn expired_on_delivery<'p>(
        &'p self,
        memo: &mut Memo,
        context: &Context<'_>,
        message: &Message<'_>,
    ) -> Option<Expired<'p>> {
        self.expired(memo, context, message, |rule| rule.on_delivery)
    }

    fn expired<'p>(
        &'p self,
        memo: &mut Memo,
        context: &Context<'_>,
        message: &Message<'_>,
        wanted: impl Fn(&ExpiryRule) -> bool,
    ) -> Option<Expired<'p>> {
        let task = message.task?;
        let plan = memo.plan(self, task);
        if self.mode == Mode::Observe || plan.of(Aspect::Expiry).is_empty() {
            return None;
        }
        let Standing::Expired(at) = standing(task, context.now) else { return None };
        let case = Case::new(self, context, message);
        let (by, rule) = self.decide(&plan, Aspect::Expiry, &case, &mut Observing::as_configured())?;
        let expiry = rule.expiry.as_ref().filter(|e| wanted(e) && e.action != ExpiryAction::Pass)?;
        Some(Expired { action: &expiry.action, at, by })
    }

    /// `mode` is the policy's own, or [`Mode::Observe`] to take every dry run for live.
    fn judge_in<'p>(
        &'p self,
        mode: Mode,
        memo: &mut Memo,
        context: &Context<'_>,
        message: &Message<'_>,
        verdict: &mut Verdict<'p>,
    ) -> bool {
        if self.is_blank() || (message.task.is_none() && !self.speaks_of_others()) {
            return false;
        }
        let mut observing = Observing { all_live: mode == Mode::Observe, seen: Vec::new() };
        let Some(task) = message.task else {
            return self.judge_other(&mut observing, memo, context, message, verdict);
        };
        let plan = memo.plan(self, task);
        if plan.idle {
            return false;
        }
        let case = Case::new(self, context, message);
        self.admit(&plan, &case, &mut observing, memo, verdict);
        if verdict.fate == Fate::Forward {
            self.expire(&plan, &case, task, &mut observing, verdict);
        }
        if verdict.fate == Fate::Forward {
            let target = self.route(&plan, &case, &mut observing, verdict);
            self.prioritise(&plan, &case, target, &mut observing, verdict);
            self.pack(&plan, &case, target, &mut observing, verdict);
            if let Some((by, rule)) = self.decide(&plan, Aspect::Tier, &case, &mut observing) {
                verdict.because.tier = Some(by);
                verdict.edits.tier = rule.tier;
            }
        }
        verdict.observed = observing.seen;
        true
    }

    /// The first rule that matches and speaks of `aspect`; those in dry run before it are noted and passed by.
    fn decide<'p>(
        &'p self,
        plan: &Plan,
        aspect: Aspect,
        case: &Case<'_>,
        observing: &mut Observing,
    ) -> Option<(By, &'p Rule)> {
        self.first(plan.of(aspect), aspect, case, observing)
    }

    fn first<'p>(
        &'p self,
        candidates: &[u32],
        aspect: Aspect,
        case: &Case<'_>,
        observing: &mut Observing,
    ) -> Option<(By, &'p Rule)> {
        for index in candidates {
            let Some(rule) = self.rule_at(*index).filter(|rule| case.holds(rule)) else { continue };
            let by = By::Rule(usize_of(*index));
            if rule.mode == Mode::Enforce || observing.all_live {
                return Some((by, rule));
            }
            observing.seen.push((aspect, by));
        }
        None
    }

    /// What is no task: only admission may speak of it, and only where a rule says `traffic`.
    fn judge_other<'p>(
        &'p self,
        observing: &mut Observing,
        memo: &mut Memo,
        context: &Context<'_>,
        message: &Message<'_>,
        verdict: &mut Verdict<'p>,
    ) -> bool {
        let case = Case::new(self, context, message);
        if let Some((by, rule)) = self.first(&self.of_others, Aspect::Admission, &case, observing) {
            admission(by, rule, &case, memo, verdict);
        }
        verdict.observed = std::mem::take(&mut observing.seen);
        true
    }

    fn admit<'p>(
        &'p self,
        plan: &Plan,
        case: &Case<'_>,
        observing: &mut Observing,
        memo: &mut Memo,
        verdict: &mut Verdict<'p>,
    ) {
        if let Some((by, rule)) = self.decide(plan, Aspect::Admission, case, observing) {
            admission(by, rule, case, memo, verdict);
        }
    }

    fn expire<'p>(
        &'p self,
        plan: &Plan,
        case: &Case<'_>,
        task: &Task<'_>,
        observing: &mut Observing,
        verdict: &mut Verdict<'p>,
    ) {
        let Some((by, rule)) = self.decide(plan, Aspect::Expiry, case, observing) else { return };
        let Some(expiry) = &rule.expiry else { return };
        verdict.because.expiry = Some(by);
        let now = case.context.now;
        match standing(task, now) {
            Standing::Expired(at) => {
                match &expiry.action {
                    ExpiryAction::Pass => verdict.passed_expired = true,
                    action => verdict.fate = Fate::Expired { action, at },
                }
                return;
            }
            Standing::Unjudged => verdict.unjudged_expiry = true,
            Standing::InTime => {}
        }
        let imposed = imposed(expiry, task, now);
        verdict.edits.expires = imposed;
        if let Some(expires) = imposed.or_else(|| task.expires_at()).filter(|_| expiry.stamp_ttl) {
            verdict.edits.ttl_ms = ttl(case.message.header.expiration(), expires.saturating_sub(now));
        }
    }

    fn route<'p>(
        &'p self,
        plan: &Plan,
        case: &Case<'_>,
        observing: &mut Observing,
        verdict: &mut Verdict<'p>,
    ) -> Option<(By, &'p Target)> {
        let ruled = self.decide(plan, Aspect::Route, case, observing);
        let ruled = ruled.and_then(|(by, rule)| {
            let route = rule.route.as_ref()?;
            Some((by, route.choose(case.context.random)?, route.force))
        });
        let tabled = || {
            let index = plan.task_route?;
            let entry = self.task_routes.get(index)?;
            Some((By::TaskRoute(index), &entry.target, entry.force))
        };
        let (by, target, force) = ruled.or_else(tabled)?;
        verdict.because.route = Some(by);
        verdict.edits.delivery_mode =
            target.route.delivery_mode.filter(|mode| case.message.header.delivery_mode() != Some(*mode));
        verdict.edits.mandatory = target.route.mandatory;
        verdict.edits.headers = &target.route.headers;
        let free = case.message.header.expiration().is_none();
        verdict.edits.ttl_ms = verdict.edits.ttl_ms.or(target.route.expiration_ms.filter(|_| free));
        if force == Force::Respect && !case.is_default() {
            verdict.respected = true;
        } else {
            redirect(target, case, verdict);
        }
        Some((by, target))
    }

    fn prioritise<'p>(
        &'p self,
        plan: &Plan,
        case: &Case<'_>,
        target: Option<(By, &'p Target)>,
        observing: &mut Observing,
        verdict: &mut Verdict<'p>,
    ) {
        let asked = case.message.header.priority();
        // Nothing on the wire tells a priority of 0 from none at all (wire/CELERY.md §1.1), so a route's counts for both.
        let routed =
            target.and_then(|(by, t)| Some((by, t.route.priority?))).filter(|_| asked.unwrap_or(0) == 0);
        let ruled = self.decide(plan, Aspect::Priority, case, observing);
        let ruled = ruled.and_then(|(by, rule)| Some((by, rule.priority.as_ref()?)));
        let priority = match (ruled, routed) {
            (Some((by, rule)), routed) => {
                verdict.because.priority = Some(by);
                let base = routed.map(|(_, p)| p).filter(|_| !rule.sets());
                rule.apply(base.or(asked))
            }
            (None, Some((by, priority))) => {
                verdict.because.priority = Some(by);
                Some(priority)
            }
            (None, None) => asked,
        };
        verdict.edits.priority = priority.filter(|_| priority != asked);
    }

    fn pack<'p>(
        &'p self,
        plan: &Plan,
        case: &Case<'_>,
        target: Option<(By, &'p Target)>,
        observing: &mut Observing,
        verdict: &mut Verdict<'p>,
    ) {
        let ruled = self.decide(plan, Aspect::Compression, case, observing);
        let ruled = ruled.and_then(|(by, rule)| Some((by, rule.compression?)));
        let routed = || {
            let (by, target) = target?;
            let packing = Packing::Compress(target.route.compression?);
            Some((by, CompressionRule { packing, min_bytes: ROUTE_COMPRESSION_BYTES_MIN, repair: false }))
        };
        let Some((by, rule)) = ruled.or_else(routed) else { return };
        verdict.because.compression = Some(by);
        let packed = case.message.task.is_some_and(|task| task.compression().is_some());
        let wanted = match rule.packing {
            Packing::Compress(_) if !packed => case.message.header.body_size >= rule.min_bytes,
            Packing::Decompress => packed,
            Packing::Keep | Packing::Compress(_) => rule.repair && packed,
        };
        verdict.edits.compression = wanted.then_some(rule);
    }
}

/// What rules in dry run would have decided.
struct Observing {
    all_live: bool,
    seen: Vec<(Aspect, By)>,
}

impl Observing {
    const fn as_configured() -> Self {
        Self { all_live: false, seen: Vec::new() }
    }
}

fn admission<'p>(by: By, rule: &'p Rule, case: &Case<'_>, memo: &mut Memo, verdict: &mut Verdict<'p>) {
    let Some(admission) = &rule.admission else { return };
    verdict.because.admission = Some(by);
    if let (Some(rate), By::Rule(index)) = (admission.rate, by)
        && memo.buckets.entry(index).or_default().take(rate, case.context.now)
    {
        return;
    }
    let how = match &admission.action {
        AdmissionAction::Allow => return,
        AdmissionAction::Count => {
            verdict.counted = true;
            return;
        }
        AdmissionAction::Refuse => Refusal::Refuse,
        AdmissionAction::Nack => Refusal::Nack,
        AdmissionAction::Return => Refusal::Return,
        AdmissionAction::Drop => Refusal::Drop,
        AdmissionAction::DeadLetter(place) => Refusal::DeadLetter(place),
    };
    verdict.fate = Fate::Refused { how, reason: &admission.reason };
}

fn redirect<'p>(target: &'p Target, case: &Case<'_>, verdict: &mut Verdict<'p>) {
    verdict.edits.upstream = target.route.upstream;
    let Some(destination) = &target.destination else { return };
    if !case.bits.is_empty() {
        if destination.routing_key.as_bytes() != case.key {
            verdict.edits.delayed_key = Some([case.bits, destination.routing_key.as_bytes()].concat());
            verdict.edits.destination = Some(destination);
        }
        return;
    }
    let stays = same(destination.exchange.as_bytes(), case.message.exchange)
        && same(destination.routing_key.as_bytes(), case.message.routing_key);
    // At another broker its name is the same, but the place must be made there.
    verdict.edits.destination = (!stays || target.route.upstream.is_some()).then_some(destination);
}
