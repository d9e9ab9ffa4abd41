//! A verdict that keeps a message back: what its client is told, and what is published instead.
//!
//! ```text
//!              clients that use confirms      the others
//! revoke       ack, once result and event are confirmed      (nothing)
//! dead-letter  ack, once the dead letter is confirmed        (nothing)
//! return       basic.return, then ack                        basic.return
//! nack         nack                                          (nothing)
//! refuse       nack                                          channel.close 403
//! drop         ack                                           (nothing)
//! ```

use super::authored::Death;
use super::tally::Kind;
use super::{Case, Desk};
use crate::celery::time;
use crate::metrics::{self, TaskVerdict};
use crate::policy::{Because, By, ExpiryAction, Refusal};
use crate::session::{Authored, Decision, Kept, Settle, Settled};

/// A short string's length.
const TEXT_BYTES_MAX: usize = 255;

/// A delivery that is not handed on to a worker.
#[derive(Debug)]
pub struct Withheld {
    /// What is published first.
    pub instead: Vec<Authored>,
    /// What its broker is told then.
    pub handed: Handed,
}

/// How a withheld delivery leaves its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// basic.ack, as a worker does.
    Ack,
    /// basic.reject without requeue: to the queue's own dead-letter exchange, if it has one.
    Reject,
}

/// How an expired task is settled, and what its counters call that.
struct Expiry {
    word: metrics::ExpiryAction,
    settle: Settle,
    instead: Vec<Authored>,
}

impl Expiry {
    fn settled(self) -> Settled {
        Settled { settle: self.settle, instead: self.instead, kept: Kept::Expired }
    }
}

impl Desk {
    pub(super) fn expired(
        &mut self,
        case: &Case<'_>,
        because: &Because,
        action: &ExpiryAction,
        at: i64,
    ) -> Decision {
        let Some(expiry) = self.expire(case, because.expiry, action, at) else {
            self.count(case, &Kind::new(TaskVerdict::Forward, *because), None);
            return Decision::Pass;
        };
        self.count_expired(case, because, expiry.word);
        Decision::Settle(Box::new(expiry.settled()))
    }

    /// Whether a message that was accepted has expired since.
    pub(super) fn again(&mut self, case: &Case<'_>) -> Decision {
        let context = case.context(0);
        let Some(expired) = case.policy().expired_since(&mut self.memo, &context, &case.message) else {
            return Decision::Pass;
        };
        let because = Because { expiry: Some(expired.by), ..Because::default() };
        let Some(expiry) = self.expire(case, Some(expired.by), expired.action, expired.at) else {
            return Decision::Pass;
        };
        self.count_expired(case, &because, expiry.word);
        Decision::Settle(Box::new(expiry.settled()))
    }

    /// The same on the way out to a worker.
    pub(super) fn withhold(&mut self, case: &Case<'_>) -> Option<Withheld> {
        let context = case.context(0);
        let expired = case.policy().expired_on_delivery(&mut self.memo, &context, &case.message)?;
        let expiry = self.expire(case, Some(expired.by), expired.action, expired.at)?;
        let because = Because { expiry: Some(expired.by), ..Because::default() };
        self.count_expired(case, &because, expiry.word);
        let handed = if expiry.settle == Settle::Ack { Handed::Ack } else { Handed::Reject };
        Some(Withheld { instead: expiry.instead, handed })
    }

    /// None: it goes on all the same.
    fn expire(&mut self, case: &Case<'_>, by: Option<By>, action: &ExpiryAction, at: i64) -> Option<Expiry> {
        let detail = || format!("expired at {}", time::format(at));
        let (word, settle, instead) = match action {
            ExpiryAction::Pass => return None,
            ExpiryAction::Revoke => (metrics::ExpiryAction::Revoke, Settle::Ack, self.revocation(case)),
            ExpiryAction::DeadLetter(place) => {
                let death = Death { word: metrics::DeadLetter::Expired, detail: &detail(), by };
                let letter = self.dead_letter(case, place, &death)?;
                (metrics::ExpiryAction::DeadLetter, Settle::Ack, vec![letter])
            }
            ExpiryAction::Return => (metrics::ExpiryAction::Return, no_route(&detail()), Vec::new()),
            ExpiryAction::Nack => (metrics::ExpiryAction::Nack, Settle::Nack, Vec::new()),
        };
        tracing::debug!(
            task = case.message.task.map_or("", |task| task.name()),
            id = case.message.task.and_then(|task| task.id()).as_ref().and_then(|id| id.as_str()),
            rule = by.map(|by| case.policy().name_of(by)),
            action = metrics::Word::word(word),
            "a task has expired"
        );
        Some(Expiry { word, settle, instead })
    }

    fn count_expired(&mut self, case: &Case<'_>, because: &Because, word: metrics::ExpiryAction) {
        self.count(case, &Kind::new(TaskVerdict::Expire, *because), None);
        if let Some(by) = because.expiry {
            self.tally.rule(case.policy(), by).expired.of(word).inc();
        }
    }

    pub(super) fn refused(
        &mut self,
        case: &Case<'_>,
        because: &Because,
        how: Refusal<'_>,
        reason: &str,
    ) -> Decision {
        let (settle, instead) = match how {
            Refusal::Refuse if case.publish.session.confirms => (Settle::Nack, Vec::new()),
            Refusal::Refuse => (Settle::Close(403, text(reason.to_owned())), Vec::new()),
            Refusal::Nack => (Settle::Nack, Vec::new()),
            Refusal::Return => (no_route(reason), Vec::new()),
            Refusal::Drop => (Settle::Ack, Vec::new()),
            Refusal::DeadLetter(place) => {
                let death =
                    Death { word: metrics::DeadLetter::Refused, detail: reason, by: because.admission };
                let Some(letter) = self.dead_letter(case, place, &death) else {
                    self.count(case, &Kind::new(TaskVerdict::Forward, *because), None);
                    return Decision::Pass;
                };
                (Settle::Ack, vec![letter])
            }
        };
        let dead = !instead.is_empty();
        let verdict = if dead { TaskVerdict::DeadLetter } else { TaskVerdict::Refuse };
        self.count(case, &Kind::new(verdict, *because), None);
        tracing::debug!(
            task = case.message.task.map_or("", |task| task.name()),
            rule = because.admission.map(|by| case.policy().name_of(by)),
            reason,
            "a message was kept out"
        );
        Decision::Settle(Box::new(Settled { settle, instead, kept: Kept::Refused }))
    }
}

fn no_route(why: &str) -> Settle {
    Settle::Return(312, text(format!("NO_ROUTE - {why}")))
}

/// Cut at a character, so that a client's decoder is not hurt.
fn text(mut text: String) -> String {
    while text.len() > TEXT_BYTES_MAX {
        text.pop();
    }
    text
}
