//! A task's moments against the clock: whether it has expired, which expiry a rule gives it, and the TTL that is left.

use super::aspects::ExpiryRule;
use crate::celery::Task;

/// A TTL is not stamped for what lies further ahead: brokers refuse it (wire/CELERY.md §1.1), and it would not matter.
const TTL_MS_MAX: u64 = 365 * 86_400_000;

/// How a task stands to its expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has none, or it is yet to come.
    InTime,
    /// Strictly `now > expires`, as a worker has it (celery/worker/request.py `maybe_expire`); or its eta lies after its expiry, for
    /// then it will have expired.
    Expired(i64),
    /// It states one that nobody can judge: no moment, or a naive one of a producer on local time.
    Unjudged,
}

pub(super) fn standing(task: &Task<'_>, now: i64) -> Standing {
    let stated = task.expires();
    if !stated.is_stated() {
        return Standing::InTime;
    }
    match task.certain(&stated) {
        None => Standing::Unjudged,
        Some(at) if now > at || task.eta_at().is_some_and(|eta| eta > at) => Standing::Expired(at),
        Some(_) => Standing::InTime,
    }
}

/// The expiry that a rule gives a task, where it has none or a later one. What cannot be read is left alone.
pub(super) fn imposed(rule: &ExpiryRule, task: &Task<'_>, now: i64) -> Option<i64> {
    let after = |span: i64| task.eta_at().map_or(now, |eta| eta.max(now)).saturating_add(span);
    if rule.default.is_none() && rule.max.is_none() {
        return None;
    }
    if task.eta().is_stated() && task.eta_at().is_none() {
        return None;
    }
    if task.expires().is_stated() {
        let expires = task.expires_at()?;
        return rule.max.map(after).filter(|latest| expires > *latest);
    }
    match (rule.default, rule.max) {
        (Some(default), Some(max)) => Some(after(default.min(max))),
        (one, other) => one.or(other).map(after),
    }
}

/// The TTL for what remains, where the message has none or a longer one. Rounded up: the broker must not be earlier than a worker.
pub(super) fn ttl(present: Option<&[u8]>, remaining_micros: i64) -> Option<u64> {
    let remaining = u64::try_from(remaining_micros).ok()?.div_ceil(1000);
    let present = present.map(|text| std::str::from_utf8(text).ok().and_then(|t| t.parse::<u64>().ok()));
    match present {
        // Not a number: the broker's to refuse, as it would directly.
        Some(None) => None,
        Some(Some(present)) if present <= remaining => None,
        _ => Some(remaining).filter(|ms| *ms <= TTL_MS_MAX),
    }
}
