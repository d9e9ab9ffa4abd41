//! `[[task_routes]]`: Celery's own table with Celery's own semantics (celery/app/routes.py `MapRoute`, `Router`).
//!
//! Routers are asked in order, and the first that has an answer decides. Within one, an exact name wins over every pattern wherever
//! it stands; then the first pattern that matches. So the cost of a lookup is one hash a router, and what its patterns cost; and the
//! answer is remembered per task name by whoever asks (F3).

use rustc_hash::FxHashMap;

use super::pattern::{Name, Pattern};
use super::route::{Force, Target};

/// One entry.
#[derive(Debug, Clone)]
pub struct TaskRoute {
    /// Which tasks.
    pub task: Name,
    /// Which router of the list this entry belongs to; lower ones are asked first.
    pub router: u64,
    /// Where to. A target that says nothing ends the search: the task goes where it was going, as Celery's `{}` does.
    pub target: Target,
    /// Whether it moves even what the producer sent to a place of its own choosing.
    pub force: Force,
}

#[derive(Debug, Default)]
struct Router {
    exact: FxHashMap<String, usize>,
    patterns: Vec<(Pattern, usize)>,
}

/// The table.
#[derive(Debug, Default)]
pub struct TaskRoutes {
    entries: Vec<TaskRoute>,
    routers: Vec<Router>,
}

impl TaskRoutes {
    /// Compiles the entries. Of two for one exact name in one router the first counts.
    #[must_use]
    pub fn new(entries: Vec<TaskRoute>) -> Self {
        let mut numbers: Vec<u64> = entries.iter().map(|e| e.router).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut routers: Vec<Router> = numbers.iter().map(|_| Router::default()).collect();
        for (index, entry) in entries.iter().enumerate() {
            let Some(router) = numbers.binary_search(&entry.router).ok().and_then(|at| routers.get_mut(at))
            else {
                continue;
            };
            match &entry.task {
                Name::Exact(name) => drop(router.exact.entry(name.clone()).or_insert(index)),
                Name::Pattern(pattern) => router.patterns.push((pattern.clone(), index)),
            }
        }
        Self { entries, routers }
    }

    /// The index of the entry that decides for a task of this name.
    #[must_use]
    pub fn find(&self, task: &str) -> Option<usize> {
        let ask = |router: &Router| {
            let pattern =
                || router.patterns.iter().find(|(p, _)| p.matches(task.as_bytes())).map(|(_, i)| *i);
            router.exact.get(task).copied().or_else(pattern)
        };
        self.routers.iter().find_map(ask)
    }

    /// Entries that are never asked (a `*` stands before them), each with the one that hides it. Celery loads such a table, too.
    #[must_use]
    pub fn hidden(&self) -> Vec<(usize, usize)> {
        let hides = |earlier: &TaskRoute, index: usize, at: usize, entry: &TaskRoute| {
            let first = earlier.router < entry.router || (earlier.router == entry.router && at < index);
            // An exact name is asked before every pattern of its router, wherever it stands.
            let asked = earlier.router < entry.router || matches!(entry.task, Name::Pattern(_));
            first && asked
        };
        let everything: Vec<(usize, &TaskRoute)> = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, e)| matches!(&e.task, Name::Pattern(p) if p.text() == "*"))
            .collect();
        let find = |index: usize, entry: &TaskRoute| {
            everything.iter().find(|(at, earlier)| hides(earlier, index, *at, entry)).map(|(at, _)| *at)
        };
        self.entries.iter().enumerate().filter_map(|(i, e)| Some((i, find(i, e)?))).collect()
    }

    /// An entry.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&TaskRoute> {
        self.entries.get(index)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
