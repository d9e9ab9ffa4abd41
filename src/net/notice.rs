//! What an operator is told of upstreams in the log: lost or refused, with why, and back. Not of every try (SPEC M3). And of clients whose
//! own link an upstream has ended for their own fault.

use super::seldom::Seldom;
use super::thread::Thread;
use super::turned_away::shown;
use crate::session::UpstreamState;

/// At most one line about an upstream in this long, unless it is good news.
const QUIET_MS: u64 = 5_000;

#[derive(Debug, Default)]
struct Told {
    why: Option<String>,
    at_ms: u64,
}

/// What was told last, an upstream each.
#[derive(Debug, Default)]
pub struct Notices {
    told: Vec<Told>,
    parted: Seldom,
}

impl Notices {
    /// Looks whether there is news.
    pub fn look(&mut self, thread: &Thread) {
        let now_ms = thread.now().ms;
        let parted = thread.hub.borrow_mut().parted();
        let hub = thread.hub.borrow();
        if let Some(parted) = parted
            && let Some(times) = self.parted.happened(now_ms, parted.times)
        {
            tracing::info!(
                user = shown(&parted.user),
                client = %parted.client,
                upstream = hub.upstream_name(parted.upstream).unwrap_or_default(),
                why = shown(&parted.why),
                times,
                "an upstream has ended a client's own link for what the client did"
            );
        }
        for index in 0.. {
            let Some(id) = hub.upstream_at(index) else { break };
            let (Some(look), Some(name)) = (hub.look_upstream(id), hub.upstream_name(id)) else { continue };
            if self.told.len() <= id.0 {
                self.told.resize_with(id.0 + 1, Told::default);
            }
            let Some(told) = self.told.get_mut(id.0) else { continue };
            let quiet = told.why.is_some() && now_ms.saturating_sub(told.at_ms) < QUIET_MS;
            match (&told.why, look.last_error) {
                (before, Some(why)) if !quiet && before.as_ref() != Some(&why) => {
                    tracing::warn!(
                        upstream = name,
                        why,
                        waiting = look.unsettled,
                        "an upstream is lost, or could not be reached"
                    );
                    *told = Told { why: Some(why), at_ms: now_ms };
                }
                (Some(_), None) if look.state == UpstreamState::Up => {
                    tracing::info!(upstream = name, waiting = look.unsettled, "an upstream is back");
                    told.why = None;
                }
                _ => {}
            }
        }
    }
}
