//! What an operator is told of logins that were refused: who, from where, by which upstream and why, and never a secret. The same one
//! is told again after a minute at the earliest, with the number of times (SPEC M3).

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::thread::Thread;
use crate::session::TurnedAway;

/// The same login is told of at most once in this long.
const QUIET_MS: u64 = 60_000;
/// So many different ones are told of one by one in that time; of others, how many.
const KINDS_MAX: usize = 64;
/// Characters of a stranger's text that are shown.
const SHOWN_MAX: usize = 160;

/// Who, from where, at which upstream.
type Who = (Rc<str>, IpAddr, usize);

/// What has been told.
#[derive(Debug, Default)]
pub struct Refusals {
    told: HashMap<Who, Quiet>,
    /// Those beyond, and when they are told of.
    more: u64,
    more_at_ms: u64,
}

#[derive(Debug)]
struct Quiet {
    until_ms: u64,
    /// How often since it was told.
    times: u64,
    last: TurnedAway,
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    One { who: TurnedAway, times: u64 },
    More(u64),
}

impl Refusals {
    /// Looks who was turned away, and logs what is due.
    pub fn look(&mut self, thread: &Thread) {
        let (who, more) = thread.hub.borrow_mut().turned_away();
        for line in self.lines(thread.now().ms, who, more) {
            match line {
                Line::One { who, times } => {
                    let hub = thread.hub.borrow();
                    tracing::warn!(
                        user = shown(&who.user),
                        client = %who.client,
                        upstream = hub.upstream_name(who.upstream).unwrap_or_default(),
                        stood_in = who.stood_in.as_deref().map(shown),
                        mechanism = shown(&String::from_utf8_lossy(&who.mechanism)),
                        why = shown(&who.why),
                        times,
                        "a login was refused"
                    );
                }
                Line::More(times) => {
                    tracing::warn!(times, "logins were refused, of too many kinds to tell of each")
                }
            }
        }
    }

    fn lines(&mut self, now_ms: u64, who: Vec<TurnedAway>, more: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        self.more += more;
        for who in who {
            let key = (Rc::clone(&who.user), who.client, who.upstream.0);
            if let Some(quiet) = self.told.get_mut(&key) {
                quiet.times += 1;
                quiet.last = who;
            } else if self.told.len() < KINDS_MAX {
                let quiet = Quiet { until_ms: now_ms.saturating_add(QUIET_MS), times: 0, last: who.clone() };
                self.told.insert(key, quiet);
                lines.push(Line::One { who, times: 1 });
            } else {
                self.more += 1;
            }
        }
        self.told.retain(|_, quiet| {
            if now_ms < quiet.until_ms {
                return true;
            }
            if quiet.times == 0 {
                return false;
            }
            let times = std::mem::take(&mut quiet.times);
            quiet.until_ms = now_ms.saturating_add(QUIET_MS);
            lines.push(Line::One { who: quiet.last.clone(), times });
            true
        });
        if self.more > 0 && now_ms >= self.more_at_ms {
            self.more_at_ms = now_ms.saturating_add(QUIET_MS);
            lines.push(Line::More(std::mem::take(&mut self.more)));
        }
        lines
    }
}

/// A stranger's text, cut. As a field's string it is escaped by whoever writes the log.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::session::UpstreamId;

    fn login(user: &str) -> TurnedAway {
        TurnedAway {
            user: user.into(),
            stood_in: None,
            mechanism: b"PLAIN".as_slice().into(),
            client: Ipv4Addr::LOCALHOST.into(),
            upstream: UpstreamId(0),
            why: "403 ACCESS_REFUSED".into(),
        }
    }

    fn one(user: &str, times: u64) -> Line {
        Line::One { who: login(user), times }
    }

    #[test]
    fn a_login_is_told_of_at_once_and_then_once_a_minute_with_the_number_of_times() {
        let mut refusals = Refusals::default();
        assert_eq!(
            refusals.lines(0, vec![login("a"), login("b"), login("a")], 0),
            [one("a", 1), one("b", 1)]
        );
        assert_eq!(refusals.lines(59_999, vec![login("a")], 0), []);
        assert_eq!(refusals.lines(60_000, vec![], 0), [one("a", 2)]);
        assert_eq!(refusals.lines(60_001, vec![login("b")], 0), [one("b", 1)], "b had come no more");
    }

    #[test]
    fn a_thousand_names_are_sixty_four_lines_and_a_number() {
        let mut refusals = Refusals::default();
        let all = (0..1_000).map(|n| login(&format!("u{n}"))).collect();
        let lines = refusals.lines(5, all, 7);
        assert_eq!((lines.len(), lines.last()), (65, Some(&Line::More(943))));
        assert_eq!(refusals.lines(6, vec![login("late")], 0), [], "it is among the next minute's");
        assert_eq!(refusals.lines(60_005, vec![], 0), [Line::More(1)]);
        assert!(refusals.told.is_empty(), "nobody of them came again");
    }
}
