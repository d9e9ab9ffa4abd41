//! Reading a TOML document so that nothing is lost on the way to certainty: every value knows its place and its key, every problem
//! is noted and reading goes on, and a key that nobody asked for is a problem.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use super::problem::{Place, Problem, Problems, did_you_mean};
use super::secret::Surroundings;
use super::value::Value;

/// One reading of one text: its problems so far, and the keys that were asked for.
pub struct Review<'a> {
    text: &'a str,
    pub(super) surroundings: &'a dyn Surroundings,
    problems: RefCell<Vec<(usize, Problem)>>,
    asked: RefCell<BTreeSet<String>>,
    /// The text is not TOML: keys may stand in odd places.
    broken: bool,
}

impl<'a> Review<'a> {
    /// A review of `text`, with nothing found yet.
    #[must_use]
    pub fn new(text: &'a str, surroundings: &'a dyn Surroundings) -> Self {
        let (problems, asked) = (RefCell::new(Vec::new()), RefCell::new(BTreeSet::new()));
        Self { text, surroundings, problems, asked, broken: false }
    }

    /// Notes that the text is not TOML at byte `offset`.
    pub fn not_toml(&mut self, offset: usize, why: &str) {
        self.broken = true;
        self.problem(offset, "", format!("not TOML: {why}"));
    }

    /// Notes a problem at byte `offset` of the text.
    pub fn problem(&self, offset: usize, key: &str, message: String) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        let problem = Problem { at: Place { line, column }, key: key.to_owned(), message };
        self.problems.borrow_mut().push((offset, problem));
    }

    /// The whole document as a section.
    #[must_use]
    pub fn root<'t>(&'t self, table: &'t Spanned<DeTable<'t>>) -> Section<'t> {
        Section::new(self, String::new(), table.span(), Some(table.get_ref()))
    }

    /// What was found, in the order of the text, what is not TOML before the rest; and every key that was asked for, list positions left out (`rules.name`).
    #[must_use]
    pub fn into_findings(self) -> (Problems, BTreeSet<String>) {
        let mut problems = self.problems.into_inner();
        // What is not TOML comes first: what else is wrong may be so only because of it.
        problems.sort_by_key(|(offset, p)| (!p.key.is_empty(), *offset));
        // A table that is read twice says the same twice.
        let mut seen = BTreeSet::new();
        problems.retain(|(offset, p)| seen.insert((*offset, p.key.clone(), p.message.clone())));
        (Problems(problems.into_iter().map(|(_, p)| p).collect()), self.asked.into_inner())
    }
}

/// A table of the document, or the absence of one: then everything in it has its default.
pub struct Section<'a> {
    review: &'a Review<'a>,
    path: String,
    span: Range<usize>,
    table: Option<&'a DeTable<'a>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The surroundings of this reading.
    #[must_use]
    pub(super) const fn surroundings(&self) -> &'a dyn Surroundings {
        self.review.surroundings
    }

    /// A table of the document under `path`, or the absence of one.
    pub(super) fn new(
        review: &'a Review<'a>,
        path: String,
        span: Range<usize>,
        table: Option<&'a DeTable<'a>>,
    ) -> Self {
        Self { review, path, span, table, asked: RefCell::default() }
    }

    /// Whether the table stands in the text.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The section's own name in its parent, e.g. `eu` for `[upstreams.eu]`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value under `key`, if there is one.
    #[must_use]
    pub fn value(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key);
        let path = join(&self.path, key);
        self.review.asked.borrow_mut().insert(without_positions(&path));
        let value = self.table?.get(key)?;
        Some(Value::new(self.review, path, value))
    }

    /// Whether `key` stands in the table. Does not count as asking for it.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// The table under `key`; an absent one if it is not there or not a table.
    #[must_use]
    pub fn section(&self, key: &'static str) -> Section<'a> {
        self.value(key).and_then(|v| v.section()).unwrap_or_else(|| self.absent(key))
    }

    /// The same; `example` is told to whoever wrote something else there.
    #[must_use]
    pub fn section_such_as(&self, key: &'static str, example: &str) -> Section<'a> {
        self.value(key).and_then(|v| v.table_such_as(example)).unwrap_or_else(|| self.absent(key))
    }

    fn absent(&self, key: &str) -> Section<'a> {
        Section::new(self.review, join(&self.path, key), self.span.clone(), None)
    }

    /// The tables of the array under `key` (`[[rules]]`).
    #[must_use]
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let items = self.value(key).map(|v| v.list()).unwrap_or_default();
        items.iter().filter_map(Value::section).collect()
    }

    /// Every key with its value, in the order of the text: for tables whose keys are the user's own.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, Value<'a>)> {
        let mut entries: Vec<_> = self
            .table
            .into_iter()
            .flat_map(DeTable::iter)
            .map(|(key, value)| {
                let path = join(&self.path, key.get_ref());
                let value = Value::new(self.review, path, value);
                (key.span().start, key.get_ref().to_string(), value)
            })
            .collect();
        entries.sort_by_key(|(at, ..)| *at);
        entries.into_iter().map(|(_, key, value)| (key, value)).collect()
    }

    /// Notes a problem with the table as a whole.
    pub fn problem(&self, message: impl Into<String>) {
        self.review.problem(self.span.start, &self.path, message.into());
    }

    /// Notes a problem with `key`, at its value if it stands in the text.
    pub fn problem_at(&self, key: &str, message: impl Into<String>) {
        let value = self.table.and_then(|t| t.get(key));
        let at = value.map_or(self.span.start, |v| v.span().start);
        self.review.problem(at, &join(&self.path, key), message.into());
    }

    /// Notes `key`, if it stands in the table, as one that may not.
    pub fn forbid(&self, key: &'static str, why: &str) {
        if self.has(key) {
            self.asked.borrow_mut().push(key);
            self.problem_at(key, why);
        }
    }

    /// Ends the reading of this table: whatever is left in it was not asked for.
    pub fn close(&self) {
        // Naming keys in odd places as unknown would only hide the mistake that put them there.
        if self.review.broken {
            return;
        }
        let asked = self.asked.borrow();
        for (key, _) in self.table.into_iter().flat_map(DeTable::iter) {
            let name = key.get_ref().as_ref();
            if asked.contains(&name) {
                continue;
            }
            let hint = match did_you_mean(name, asked.iter().copied()) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => {
                    let mut known = asked.clone();
                    known.sort_unstable();
                    known.dedup();
                    format!("unknown key; known here: {}", known.join(", "))
                }
            };
            self.review.problem(key.span().start, &join(&self.path, name), hint);
        }
    }

    /// The string under `key`, or nothing.
    #[must_use]
    pub fn string(&self, key: &'static str) -> Option<String> {
        self.value(key)?.string()
    }

    /// The string under `key` with `${NAME}` replaced, or nothing.
    #[must_use]
    pub fn expanded(&self, key: &'static str) -> Option<String> {
        self.value(key)?.expanded()
    }

    /// The boolean under `key`, or `default`.
    #[must_use]
    pub fn flag(&self, key: &'static str, default: bool) -> bool {
        self.value(key).and_then(|v| v.flag()).unwrap_or(default)
    }

    /// The integer under `key`, within `range`, or nothing.
    #[must_use]
    pub fn integer(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.value(key)?.integer(range)
    }

    /// The duration under `key`, or nothing.
    #[must_use]
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        self.value(key)?.duration()
    }

    /// The duration under `key`, which must be longer than nothing; or `default`.
    #[must_use]
    pub fn positive_duration(&self, key: &'static str, default: Duration) -> Duration {
        let Some(value) = self.value(key) else { return default };
        match value.duration() {
            Some(Duration::ZERO) => {
                value.problem("expected more than nothing");
                default
            }
            found => found.unwrap_or(default),
        }
    }

    /// The size in bytes under `key`, within `range`, or nothing.
    #[must_use]
    pub fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.value(key)?.size(range)
    }

    /// The word under `key`, one of `words`, or nothing.
    #[must_use]
    pub fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.value(key)?.choice(words)
    }
}

fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if plain { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn without_positions(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => out.push(c),
            _ => {}
        }
    }
    out
}
