//! Tasks that no queue takes: counted, put into the dead-letter place, or their queue is declared and they go again (SPEC D6).

use super::authored::Death;
use super::{Case, Desk};
use crate::config::Mandatory;
use crate::metrics::{self, Mistake};
use crate::session::{Unrouted, UpstreamId};

impl Desk {
    /// What becomes of a task that its upstream has returned.
    pub(super) fn unrouted(&mut self, case: &Case<'_>, from: UpstreamId) -> Unrouted {
        let mandatory = case.snapshot.config.upstreams.get(from.0).map_or(Mandatory::Off, |u| u.mandatory);
        if let Some(held) = self.complaints.due(case.now.ms, Mistake::MissingTarget) {
            tracing::warn!(
                task = case.message.task.map_or("", |task| task.name()),
                exchange = %String::from_utf8_lossy(case.publish.exchange),
                routing_key = %String::from_utf8_lossy(case.publish.routing_key),
                upstream = case.snapshot.upstream_name(from.0),
                not_logged = held,
                "a task came back: no queue takes it"
            );
        }
        match mandatory {
            Mandatory::Off | Mandatory::Count => Unrouted::Counted,
            Mandatory::DeadLetter => self.unrouted_letter(case),
            Mandatory::Declare => self.targets.of_missing(case).map_or(Unrouted::Counted, Unrouted::Declare),
        }
    }

    fn unrouted_letter(&mut self, case: &Case<'_>) -> Unrouted {
        let Some(place) = case.snapshot.config.dead_letter.clone() else { return Unrouted::Counted };
        let death = Death { word: metrics::DeadLetter::Unroutable, detail: "no queue takes it", by: None };
        self.dead_letter(case, &place, &death)
            .map_or(Unrouted::Counted, |letter| Unrouted::Instead(vec![letter]))
    }
}
