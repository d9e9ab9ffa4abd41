//! Reading a TOML document so that nothing is lost on the way to certainty: every value knows its place and its key, every problem
//! is noted and reading goes on, and a key that nobody asked for is a problem.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, Problems, did_you_mean};
use super::secret::{Surroundings, expand};
use super::units;

/// One reading of one text: its problems so far, and the keys that were asked for.
pub struct Review<'a> {
    text: &'a str,
    surroundings: &'a dyn Surroundings,
    problems: RefCell<Vec<(usize, Problem)>>,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Review<'a> {
    /// A review of `text`, with nothing found yet.
    #[must_use]
    pub fn new(text: &'a str, surroundings: &'a dyn Surroundings) -> Self {
        let (problems, asked) = (RefCell::new(Vec::new()), RefCell::new(BTreeSet::new()));
        Self { text, surroundings, problems, asked }
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
        let (path, asked) = (String::new(), RefCell::default());
        Section { review: self, path, span: table.span(), table: Some(table.get_ref()), asked }
    }

    /// What was found, in the order of the text; and every key that was asked for, list positions left out (`rules.name`).
    #[must_use]
    pub fn into_findings(self) -> (Problems, BTreeSet<String>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(offset, _)| *offset);
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
        Some(Value { review: self.review, path, span: value.span(), value: value.get_ref() })
    }

    /// Whether `key` stands in the table. Does not count as asking for it.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// The table under `key`; an absent one if it is not there or not a table.
    #[must_use]
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let absent = || Section {
            review: self.review,
            path: join(&self.path, key),
            span: self.span.clone(),
            table: None,
            asked: RefCell::default(),
        };
        self.value(key).and_then(|v| v.section()).unwrap_or_else(absent)
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
                let value = Value { review: self.review, path, span: value.span(), value: value.get_ref() };
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

/// One value of the document, with its place and its key's path.
pub struct Value<'a> {
    review: &'a Review<'a>,
    path: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// Notes a problem with this value.
    pub fn problem(&self, message: impl Into<String>) {
        self.review.problem(self.span.start, &self.path, message.into());
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.problem(format!("expected {what}, found {}", kind(self.value)));
        None
    }

    /// The raw value.
    #[must_use]
    pub const fn raw(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// Whether it is a table.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The surroundings of this reading.
    #[must_use]
    pub const fn surroundings(&self) -> &'a dyn Surroundings {
        self.review.surroundings
    }

    /// A table.
    #[must_use]
    pub fn section(&self) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else { return self.expected("a table") };
        let (path, asked) = (self.path.clone(), RefCell::default());
        Some(Section { review: self.review, path, span: self.span.clone(), table: Some(table), asked })
    }

    /// The items of a list.
    #[must_use]
    pub fn list(&self) -> Vec<Value<'a>> {
        let Some(array) = self.value.as_array() else {
            self.expected::<()>("a list");
            return Vec::new();
        };
        let item = |(i, v): (usize, &'a Spanned<DeValue<'a>>)| {
            let path = format!("{}[{}]", self.path, i + 1);
            Value { review: self.review, path, span: v.span(), value: v.get_ref() }
        };
        array.iter().enumerate().map(item).collect()
    }

    /// The items of a list, or the one value that stands in its place. An empty list is a problem: it would match nothing.
    #[must_use]
    pub fn one_or_many(self) -> Vec<Value<'a>> {
        if !self.value.is_array() {
            return vec![self];
        }
        let items = self.list();
        if items.is_empty() {
            self.problem("expected at least one item");
        }
        items
    }

    /// A string.
    #[must_use]
    pub fn string(&self) -> Option<String> {
        self.value.as_str().map(str::to_owned).or_else(|| self.expected("a string"))
    }

    /// A string with `${NAME}` replaced from the environment.
    #[must_use]
    pub fn expanded(&self) -> Option<String> {
        expand(&self.string()?, self.review.surroundings).map_err(|why| self.problem(why)).ok()
    }

    /// A boolean.
    #[must_use]
    pub fn flag(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.expected("true or false"))
    }

    /// A whole number within `range`.
    #[must_use]
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(n) = self.value.as_integer() else { return self.expected("a whole number") };
        match u64::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) if range.contains(&n) => Some(n),
            _ => {
                let (low, high) = range.into_inner();
                let bound =
                    if high == u64::MAX { format!("{low} or more") } else { format!("{low} to {high}") };
                self.problem(format!("expected {bound}, found {}", n.as_str()));
                None
            }
        }
    }

    /// Any number.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        let text = match self.value {
            DeValue::Integer(n) if n.radix() == 10 => n.as_str(),
            DeValue::Float(n) => n.as_str(),
            _ => return self.expected("a number"),
        };
        text.parse().ok().filter(|n: &f64| n.is_finite()).or_else(|| self.expected("a finite number"))
    }

    /// A duration such as `"5s"`.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        let Some(text) = self.value.as_str() else { return self.expected("a duration such as \"5s\"") };
        units::duration(text).or_else(|| {
            self.problem(format!(
                "expected a duration such as \"250ms\", \"5s\" or \"1h30m\", found \"{text}\""
            ));
            None
        })
    }

    /// A size such as `"8KiB"`, or a plain number of bytes, within `range`.
    #[must_use]
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(text) = self.value.as_str() else {
            if self.value.is_integer() {
                return self.integer(range);
            }
            return self.expected("a size such as \"8KiB\"");
        };
        match units::size(text) {
            Some(n) if range.contains(&n) => Some(n),
            Some(n) => {
                self.problem(format!("expected {} to {} bytes, found {n}", range.start(), range.end()));
                None
            }
            None => {
                self.problem(format!("expected a size such as \"8KiB\" or \"1GiB\", found \"{text}\""));
                None
            }
        }
    }

    /// One of `words`.
    #[must_use]
    pub fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let all: Vec<String> = words.iter().map(|(w, _)| format!("\"{w}\"")).collect();
        let near = did_you_mean(&text, words.iter().map(|(w, _)| *w));
        let hint = near.map(|w| format!("; did you mean \"{w}\"?")).unwrap_or_default();
        self.problem(format!("expected {}, found \"{text}\"{hint}", all.join(" or ")));
        None
    }
}

fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(n) => format!("the number {}", n.as_str()),
        DeValue::Float(n) => format!("the number {}", n.as_str()),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
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
