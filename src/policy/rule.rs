//! A rule: conditions, and what it says of each aspect of a task.

use super::aspects::{AdmissionRule, CompressionRule, ExpiryRule, PriorityRule, Tier};
use super::matching::{Match, Traffic};
use super::route::RuleRoute;

/// What a rule can speak of. For each, the first rule that matches and speaks of it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aspect {
    /// Whether it is let in.
    Admission,
    /// When it expires, and what becomes of it then.
    Expiry,
    /// Where it goes.
    Route,
    /// Its priority.
    Priority,
    /// How its body travels.
    Compression,
    /// What it takes to count as accepted.
    Tier,
}

impl Aspect {
    /// Every aspect, in the order in which they are decided.
    pub const ALL: [Self; 6] =
        [Self::Admission, Self::Expiry, Self::Route, Self::Priority, Self::Compression, Self::Tier];

    /// The key of a rule's table in the config.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Expiry => "expiry",
            Self::Route => "route",
            Self::Priority => "priority",
            Self::Compression => "compression",
            Self::Tier => "tier",
        }
    }
}

/// Whether a rule acts, or only says what it would have done (P8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It acts.
    #[default]
    Enforce,
    /// `dry_run = true`.
    Observe,
}

/// One rule.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// For people, metrics and logs.
    pub name: String,
    /// Which tasks.
    pub matches: Match,
    /// Acts or observes.
    pub mode: Mode,
    /// What it says of admission.
    pub admission: Option<AdmissionRule>,
    /// What it says of expiry.
    pub expiry: Option<ExpiryRule>,
    /// What it says of the route.
    pub route: Option<RuleRoute>,
    /// What it says of priority.
    pub priority: Option<PriorityRule>,
    /// What it says of compression.
    pub compression: Option<CompressionRule>,
    /// What it says of the tier.
    pub tier: Option<Tier>,
}

impl Rule {
    /// Whether it speaks of this aspect.
    #[must_use]
    pub const fn speaks_of(&self, aspect: Aspect) -> bool {
        match aspect {
            Aspect::Admission => self.admission.is_some(),
            Aspect::Expiry => self.expiry.is_some(),
            Aspect::Route => self.route.is_some(),
            Aspect::Priority => self.priority.is_some(),
            Aspect::Compression => self.compression.is_some(),
            Aspect::Tier => self.tier.is_some(),
        }
    }

    /// Whether everything that `later` matches is sure to match this rule, and this rule acts.
    fn shadows(&self, later: &Self) -> bool {
        let traffic = self.matches.traffic == later.matches.traffic || self.matches.traffic == Traffic::Any;
        let task = match (&self.matches.task, &later.matches.task) {
            (None, _) => true,
            (Some(own), Some(other)) => own.covers(other),
            (Some(_), None) => false,
        };
        self.mode == Mode::Enforce && self.matches.only_task() && traffic && task
    }
}

/// Every pair of rules (later, aspect, earlier) where the later one is never asked about an aspect that it speaks of.
#[must_use]
pub fn unreachable(rules: &[Rule]) -> Vec<(usize, Aspect, usize)> {
    let mut found = Vec::new();
    for aspect in Aspect::ALL {
        // Only rules that ask for nothing but a name can shadow: few in any real policy.
        let mut shadowing: Vec<(usize, &Rule)> = Vec::new();
        for (index, rule) in rules.iter().enumerate().filter(|(_, r)| r.speaks_of(aspect)) {
            if let Some((earlier, _)) = shadowing.iter().find(|(_, earlier)| earlier.shadows(rule)) {
                found.push((index, aspect, *earlier));
            } else if rule.matches.only_task() && rule.mode == Mode::Enforce && shadowing.len() < 256 {
                shadowing.push((index, rule));
            }
        }
    }
    found
}
