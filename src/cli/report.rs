//! What `umbel explain` says: the task, each aspect with the rule behind it, and the bytes that would change.

use serde::Serialize;

use super::captured::Captured;
use super::difference::{self, Difference};
use crate::celery::{Reading, Stated, time};
use crate::config::Config;
use crate::policy::edit::{Edited, Packed};
use crate::policy::{
    Aspect, By, DeclareExchange, Edits, ExpiryAction, Fate, Message, Mode, Packing, Refusal, Tier, Verdict,
};
use crate::wire::ContentHeader;

/// One aspect.
#[derive(Debug, Serialize)]
struct Line {
    aspect: &'static str,
    /// Who decided; none: nobody spoke of it.
    by: Option<String>,
    /// Only in dry run: nothing comes of it.
    dry_run: bool,
    before: String,
    after: String,
}

#[derive(Debug, Serialize)]
struct Subject {
    name: String,
    id: Option<String>,
    protocol: u8,
    retries: i64,
    eta: Option<String>,
    expires: Option<String>,
}

#[derive(Debug, Serialize)]
struct Spot {
    exchange: String,
    routing_key: String,
}

/// The whole explanation.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `task`, or what it is instead.
    kind: String,
    task: Option<Subject>,
    /// What becomes of it.
    fate: String,
    from: Spot,
    to: Spot,
    upstream: String,
    aspects: Vec<Line>,
    /// What would be declared first.
    declares: Vec<String>,
    changes: Vec<Difference>,
}

/// What was found out about one message.
#[derive(Debug, Clone, Copy)]
pub struct Findings<'a> {
    /// As it came.
    pub captured: &'a Captured,
    /// What it is.
    pub reading: &'a Reading<'a>,
    /// As policy sees it.
    pub message: &'a Message<'a>,
    /// What becomes of it.
    pub verdict: &'a Verdict<'a>,
    /// What would, if no dry run were on.
    pub enforced: &'a Verdict<'a>,
    /// Its new bytes.
    pub edited: &'a Edited,
}

impl Report {
    /// Gathers what there is to say.
    #[must_use]
    pub fn new(config: &Config, found: &Findings<'_>) -> Self {
        let Findings { captured, reading, message, verdict, enforced, edited } = *found;
        let before = (message.exchange, message.routing_key);
        let after = verdict.edits.place(message.exchange).unwrap_or(before);
        let upstream = verdict.edits.upstream.unwrap_or(0);
        let case = Case { config, message, edited };
        let goes_on = verdict.fate == Fate::Forward;
        let lines =
            Aspect::ALL.into_iter().flat_map(|aspect| case.lines(aspect, verdict, enforced)).collect();
        Self {
            kind: kind(reading),
            task: subject(reading),
            fate: fate(&verdict.fate),
            from: spot(before),
            to: spot(if goes_on { after } else { before }),
            upstream: config.upstreams.get(upstream).map(|u| u.name.clone()).unwrap_or_default(),
            aspects: lines,
            declares: if goes_on { declares(&verdict.edits) } else { Vec::new() },
            changes: if goes_on { changes(captured, message.header, after, edited) } else { Vec::new() },
        }
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = match &self.task {
            Some(task) => {
                let id = task.id.as_deref().unwrap_or("none");
                format!("{}  (protocol {}, id {id}, retries {})\n", task.name, task.protocol, task.retries)
            }
            None => format!("{}\n", self.kind),
        };
        out += &format!("  {}\n", self.fate);
        let moved = self.from.words() != self.to.words();
        let to = if moved { format!(" → {}", self.to.words()) } else { String::new() };
        out += &format!("  {}{to}, upstream {}\n\n", self.from.words(), self.upstream);
        for line in &self.aspects {
            let what = if line.before == line.after {
                line.before.clone()
            } else {
                format!("{} → {}", line.before, line.after)
            };
            out += &format!("  {:<12} {what}\n", line.aspect);
            if let Some(by) = &line.by {
                let dry = if line.dry_run { ", in dry run: nothing comes of it" } else { "" };
                out += &format!("  {:<12} by {by}{dry}\n", "");
            }
        }
        for declare in &self.declares {
            out += &format!("\n  declared first: {declare}");
        }
        if !self.declares.is_empty() {
            out.push('\n');
        }
        if self.changes.is_empty() {
            out += "\n  no byte changes\n";
        } else {
            out += "\n  bytes that change (- as it came, + as it leaves)\n";
            self.changes.iter().for_each(|change| out += &change.text());
        }
        out
    }
}

impl Spot {
    fn words(&self) -> String {
        if self.exchange.is_empty() {
            format!("queue {}", self.routing_key)
        } else {
            format!("exchange {}, routing key {:?}", self.exchange, self.routing_key)
        }
    }
}

fn spot((exchange, key): (&[u8], &[u8])) -> Spot {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Spot { exchange: text(exchange), routing_key: text(key) }
}

fn kind(reading: &Reading<'_>) -> String {
    match reading {
        Reading::Task(_) => "task".to_owned(),
        Reading::NotTask(what) => format!("not a task ({}): passes untouched", what.label()),
        Reading::Unreadable(why) => format!("cannot be read ({why:?}): passes untouched"),
    }
}

fn subject(reading: &Reading<'_>) -> Option<Subject> {
    let Reading::Task(task) = reading else { return None };
    Some(Subject {
        name: task.name().to_owned(),
        id: task.id().map(|id| String::from_utf8_lossy(id.bytes()).into_owned()),
        protocol: task.protocol().number(),
        retries: task.retries().unwrap_or(0),
        eta: task.eta().as_str().map(str::to_owned),
        expires: task.expires().as_str().map(str::to_owned),
    })
}

fn fate(fate: &Fate<'_>) -> String {
    match fate {
        Fate::Forward => "is forwarded".to_owned(),
        Fate::Expired { action, at } => {
            format!("has expired (at {}): {}", time::format(*at), expiry_words(action))
        }
        Fate::Refused { how, reason } => format!("is kept out ({reason}): {}", refusal_words(how)),
    }
}

fn expiry_words(action: &ExpiryAction) -> String {
    match action {
        ExpiryAction::Revoke => "revoked, as a worker would".to_owned(),
        ExpiryAction::DeadLetter(place) => format!("to {}", spot_of(&place.destination).words()),
        ExpiryAction::Return => "basic.return".to_owned(),
        ExpiryAction::Nack => "basic.nack".to_owned(),
        ExpiryAction::Pass => "passes, counted".to_owned(),
    }
}

fn refusal_words(how: &Refusal<'_>) -> String {
    match how {
        Refusal::Refuse => "basic.nack, or channel.close 403".to_owned(),
        Refusal::Nack => "basic.nack".to_owned(),
        Refusal::Return => "basic.return".to_owned(),
        Refusal::Drop => "accepted and dropped".to_owned(),
        Refusal::DeadLetter(place) => format!("to {}", spot_of(&place.destination).words()),
    }
}

fn spot_of(destination: &crate::policy::Destination) -> Spot {
    Spot { exchange: destination.exchange.clone(), routing_key: destination.routing_key.clone() }
}

fn declares(edits: &Edits<'_>) -> Vec<String> {
    let Some(declare) = edits.declare() else { return Vec::new() };
    let exchange =
        declare.exchange.as_ref().map(|DeclareExchange { name, kind }| format!("{kind} exchange {name}"));
    let bind =
        |(exchange, key): &(String, String)| format!("binding {exchange} → {} by {key:?}", declare.queue);
    let queue = format!("queue {}", declare.queue);
    exchange.into_iter().chain([queue]).chain(declare.binds.iter().map(bind)).collect()
}

fn changes(
    captured: &Captured,
    old: &ContentHeader<'_>,
    place: difference::Place<'_>,
    edited: &Edited,
) -> Vec<Difference> {
    let mut found = difference::method((&captured.exchange, &captured.routing_key), place);
    if let Some(new) = edited.header.as_deref().and_then(|payload| ContentHeader::parse(payload).ok()) {
        found.extend(difference::header(old, &new));
    }
    found.extend(edited.body.as_deref().and_then(|body| difference::body(&captured.body, body)));
    found
}

/// What every line is about.
struct Case<'a> {
    config: &'a Config,
    message: &'a Message<'a>,
    edited: &'a Edited,
}

impl Case<'_> {
    /// The line of whoever decides, and one more for whoever would if it were not for a dry run.
    fn lines(&self, aspect: Aspect, verdict: &Verdict<'_>, enforced: &Verdict<'_>) -> Vec<Line> {
        let mut lines = vec![self.line(aspect, verdict, verdict.because.of(aspect), Mode::Enforce)];
        let observed = verdict.observed.iter().find(|(a, _)| *a == aspect).map(|(_, by)| *by);
        if let Some(by) = observed.filter(|by| enforced.because.of(aspect) == Some(*by)) {
            lines.push(self.line(aspect, enforced, Some(by), Mode::Observe));
        }
        lines
    }

    fn line(&self, aspect: Aspect, verdict: &Verdict<'_>, by: Option<By>, mode: Mode) -> Line {
        let (before, after) = match aspect {
            Aspect::Admission => self.admission(verdict),
            Aspect::Expiry => self.expiry(verdict),
            Aspect::Route => self.route(verdict),
            Aspect::Priority => self.priority(verdict),
            Aspect::Compression => self.compression(verdict, mode),
            Aspect::Tier => self.tier(verdict),
        };
        Line {
            aspect: aspect.key(),
            by: by.map(|by| match by {
                By::Rule(index) => format!("rule {}: {}", index + 1, self.config.policy.name_of(by)),
                By::TaskRoute(index) => {
                    let task =
                        self.config.policy.task_routes().get(index).map(|entry| entry.task.text().to_owned());
                    format!("{}: {}", self.config.policy.name_of(by), task.unwrap_or_default())
                }
            }),
            dry_run: mode == Mode::Observe,
            before,
            after,
        }
    }

    fn admission(&self, verdict: &Verdict<'_>) -> (String, String) {
        let after = match &verdict.fate {
            Fate::Refused { how, reason } => format!("kept out ({reason}): {}", refusal_words(how)),
            _ if verdict.counted => "let in, counted".to_owned(),
            _ => "let in".to_owned(),
        };
        (after.clone(), after)
    }

    fn expiry(&self, verdict: &Verdict<'_>) -> (String, String) {
        let before = match self.message.task.map(|task| (task.expires(), task.expires_at())) {
            None | Some((Stated::Absent, _)) => "none".to_owned(),
            Some((_, Some(at))) => time::format(at),
            Some((Stated::Text(text), None)) => {
                format!("{:?}, which cannot be judged", String::from_utf8_lossy(text.bytes()))
            }
            Some((_, None)) => "something that is no moment, which cannot be judged".to_owned(),
        };
        let ttl = verdict.edits.ttl_ms.map(|ms| format!(", TTL {ms} ms")).unwrap_or_default();
        let after = match (&verdict.fate, verdict.edits.expires) {
            (Fate::Expired { action, .. }, _) => format!("expired: {}", expiry_words(action)),
            _ if verdict.passed_expired => "expired, and passes".to_owned(),
            (_, Some(at)) => time::format(at),
            (_, None) => before.clone(),
        };
        (before, after + &ttl)
    }

    fn route(&self, verdict: &Verdict<'_>) -> (String, String) {
        let before = spot((self.message.exchange, self.message.routing_key)).words();
        let after = verdict
            .edits
            .place(self.message.exchange)
            .map_or_else(|| before.clone(), |place| spot(place).words());
        let upstream = verdict.edits.upstream.and_then(|index| self.config.upstreams.get(index));
        let upstream = upstream.map(|u| format!(" on upstream {}", u.name)).unwrap_or_default();
        let respected = if verdict.respected { " (the producer's own choice, respected)" } else { "" };
        (before, format!("{after}{upstream}{respected}"))
    }

    fn priority(&self, verdict: &Verdict<'_>) -> (String, String) {
        let words = |priority: Option<u8>| priority.map_or_else(|| "none".to_owned(), |p| p.to_string());
        let asked = self.message.header.priority();
        (words(asked), words(verdict.edits.priority.or(asked)))
    }

    fn compression(&self, verdict: &Verdict<'_>, mode: Mode) -> (String, String) {
        let size = self.message.header.body_size;
        let named = self.message.task.and_then(|task| task.compression()).map(String::from_utf8_lossy);
        let before =
            named.map_or_else(|| format!("{size} bytes, plain"), |name| format!("{size} bytes, {name}"));
        let new = self.edited.body.as_ref().map_or(0, Vec::len);
        let after = match (mode, verdict.edits.compression.map(|rule| rule.packing), self.edited.packed) {
            (Mode::Observe, Some(Packing::Compress(codec)), _) => format!("compressed with {}", codec.name()),
            (Mode::Observe, Some(Packing::Decompress), _) => "decompressed".to_owned(),
            (Mode::Observe, _, _) | (_, _, Packed::Untouched) => before.clone(),
            (_, _, Packed::Compressed(codec)) => format!("{new} bytes, {}", codec.content_type()),
            (_, _, Packed::Decompressed(_)) => format!("{new} bytes, plain"),
            (_, _, Packed::Repaired) => format!("{size} bytes, plain: the header said otherwise"),
            (_, _, Packed::NotSmaller) => format!("{before}: it would not get smaller"),
            (_, _, Packed::NotUnderEncoding) => {
                format!("{before}: packed under its content encoding, a worker would take it for text")
            }
            (_, _, Packed::NotDecompressed) => format!("{before}: it does not decompress within bounds"),
        };
        (before, after)
    }

    fn tier(&self, verdict: &Verdict<'_>) -> (String, String) {
        let words = |tier: Tier| if tier == Tier::Durable { "durable" } else { "window" }.to_owned();
        let upstream = self.config.upstreams.get(verdict.edits.upstream.unwrap_or(0));
        let own = upstream.map_or(Tier::Window, |u| u.tier);
        (words(own), words(verdict.edits.tier.unwrap_or(own)))
    }
}
