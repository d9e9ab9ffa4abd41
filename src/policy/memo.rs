//! What is remembered of a task name: the few rules that can match it, and its entry of `[[task_routes]]`.
//!
//! So the cost of a message does not grow with the rules that do not match (F3). Names come from strangers: the memory holds two
//! generations of a bounded number, and forgets the older one when the younger is full.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::Policy;
use super::aspects::Bucket;
use super::rule::{Aspect, Mode};
use crate::celery::Task;

/// Names in one generation.
const NAMES_MAX: usize = 16_384;
/// A longer name is never remembered.
const NAME_BYTES_MAX: usize = 256;

/// The rules that may decide for one task name, aspect by aspect, in order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    candidates: [Box<[u32]>; 6],
    pub(super) task_route: Option<usize>,
    pub(super) idle: bool,
}

impl Plan {
    /// Those that may decide `aspect`.
    pub(super) fn of(&self, aspect: Aspect) -> &[u32] {
        let [admission, expiry, route, priority, compression, tier] = &self.candidates;
        match aspect {
            Aspect::Admission => admission,
            Aspect::Expiry => expiry,
            Aspect::Route => route,
            Aspect::Priority => priority,
            Aspect::Compression => compression,
            Aspect::Tier => tier,
        }
    }

    pub(super) fn new(policy: &Policy, task: &str) -> Self {
        let rules = policy.candidates(task);
        let candidates = Aspect::ALL.map(|aspect| {
            let mut list = Vec::new();
            for index in &rules {
                let Some(rule) = policy.rule_at(*index).filter(|r| r.speaks_of(aspect)) else { continue };
                list.push(*index);
                // Nothing below a rule that always decides is ever asked.
                if rule.matches.only_task() && rule.mode == Mode::Enforce {
                    break;
                }
            }
            list.into_boxed_slice()
        });
        let task_route = policy.task_routes().find(task);
        let idle = task_route.is_none() && candidates.iter().all(|list| list.is_empty());
        Self { candidates, task_route, idle }
    }
}

/// The memory of one thread for one [`Policy`]. A new policy needs a new one.
#[derive(Debug, Default)]
pub struct Memo {
    young: FxHashMap<Box<[u8]>, Rc<Plan>>,
    old: FxHashMap<Box<[u8]>, Rc<Plan>>,
    pub(super) buckets: FxHashMap<usize, Bucket>,
}

impl Memo {
    /// An empty memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many names are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn plan(&mut self, policy: &Policy, task: &Task<'_>) -> Rc<Plan> {
        let name = task.name_bytes();
        if let Some(plan) = self.young.get(name) {
            return Rc::clone(plan);
        }
        let plan = self.old.remove(name).unwrap_or_else(|| Rc::new(Plan::new(policy, task.name())));
        if name.len() <= NAME_BYTES_MAX {
            if self.young.len() >= NAMES_MAX {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(name.into(), Rc::clone(&plan));
        }
        plan
    }
}
