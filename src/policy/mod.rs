//! What to do with a task: one verdict a message, from rules that compose and a route table that reads as Celery's.
//!
//! Pure and compiled: time, chance and who publishes come in, a [`Verdict`] goes out. Knows nothing of sessions, of TOML or of
//! sockets; [`edit`] is the only place that touches bytes, and it changes what the verdict says and nothing else.

mod aspects;
mod case;
pub mod edit;
mod judge;
mod matching;
mod memo;
mod moments;
mod network;
mod pattern;
mod queue;
mod route;
mod rule;
mod table;
mod verdict;

use rustc_hash::FxHashMap;

pub use aspects::{
    AdmissionAction, AdmissionRule, CompressionRule, DeadLetter, ExpiryAction, ExpiryRule, Packing,
    PriorityRule, Rate, Tier,
};
pub use judge::Expired;
pub use matching::{Context, HeaderTest, Match, Message, Numbers, Traffic};
pub use memo::Memo;
pub use network::Network;
pub use pattern::{Name, Names, Pattern};
pub use queue::{Declare, DeclareExchange, Permission, Plain, Queue, QueueSettings, Queues};
pub use route::{Destination, Force, Route, RuleRoute, Target};
pub use rule::{Aspect, Mode, Rule, unreachable};
pub use table::{TaskRoute, TaskRoutes};
pub use verdict::{Because, By, Edits, Fate, Refusal, Verdict};

/// A compiled policy.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    /// Rules by the exact task names that they ask for, where they ask for nothing but exact ones.
    by_name: FxHashMap<Vec<u8>, Vec<u32>>,
    /// All other rules: patterns, or no task at all.
    by_pattern: Vec<u32>,
    /// Rules of admission that speak of what is no task.
    of_others: Vec<u32>,
    task_routes: TaskRoutes,
    queues: Queues,
    mode: Mode,
}

impl Policy {
    /// Compiles a policy. `mode` is for all of it: observed, it changes nothing.
    #[must_use]
    pub fn new(rules: Vec<Rule>, task_routes: Vec<TaskRoute>, queues: Queues, mode: Mode) -> Self {
        let mut by_name: FxHashMap<Vec<u8>, Vec<u32>> = FxHashMap::default();
        let (mut by_pattern, mut of_others) = (Vec::new(), Vec::new());
        for (index, rule) in (0u32..).zip(&rules) {
            if rule.matches.traffic != Traffic::Tasks && rule.admission.is_some() {
                of_others.push(index);
            }
            if rule.matches.traffic == Traffic::Other {
                continue;
            }
            match rule.matches.task.as_ref().map(Names::only_exact) {
                Some(Some(names)) => {
                    names.for_each(|name| by_name.entry(name.to_vec()).or_default().push(index))
                }
                _ => by_pattern.push(index),
            }
        }
        Self {
            rules,
            by_name,
            by_pattern,
            of_others,
            task_routes: TaskRoutes::new(task_routes),
            queues,
            mode,
        }
    }

    /// The rules, in the order of the file.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The route table.
    #[must_use]
    pub const fn task_routes(&self) -> &TaskRoutes {
        &self.task_routes
    }

    /// The queues that are known.
    #[must_use]
    pub const fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Whether all of it acts, or only observes.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether no message can ever be changed: nothing needs to be looked at but for counting.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.rules.is_empty() && self.task_routes.is_empty()
    }

    /// Whether any rule speaks of what is no task.
    #[must_use]
    pub fn speaks_of_others(&self) -> bool {
        !self.of_others.is_empty()
    }

    /// Whether any rule checks tasks on their way out to workers.
    #[must_use]
    pub fn watches_deliveries(&self) -> bool {
        self.rules.iter().any(|rule| rule.expiry.as_ref().is_some_and(|e| e.on_delivery))
    }

    /// The name of whoever decided, for people and metrics: a rule's own, or `task_routes[3]`.
    #[must_use]
    pub fn name_of(&self, by: By) -> String {
        match by {
            By::Rule(index) => self.rules.get(index).map_or_else(String::new, |rule| rule.name.clone()),
            By::TaskRoute(index) => format!("task_routes[{}]", index + 1),
        }
    }

    fn rule_at(&self, index: u32) -> Option<&Rule> {
        self.rules.get(crate::wire::num::usize_of(index))
    }

    /// The rules whose condition on the task's name holds, in order.
    fn candidates(&self, task: &str) -> Vec<u32> {
        let holds = |index: &&u32| {
            let rule = self.rule_at(**index);
            rule.is_some_and(|r| r.matches.task.as_ref().is_none_or(|names| names.matches(task.as_bytes())))
        };
        let named = self.by_name.get(task.as_bytes()).into_iter().flatten();
        let mut found: Vec<u32> = named.chain(self.by_pattern.iter().filter(holds)).copied().collect();
        found.sort_unstable();
        found
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(Vec::new(), Vec::new(), Queues::new(QueueSettings::default(), Vec::new()), Mode::Enforce)
    }
}
