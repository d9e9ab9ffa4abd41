//! One value of the document, read as what it should be; what it is instead is a problem with its place.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::problem::did_you_mean;
use super::reader::{Review, Section};
use super::secret::{Surroundings, expand};
use super::units;

/// One value of the document, with its place and its key's path.
pub struct Value<'a> {
    review: &'a Review<'a>,
    path: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    pub(super) fn new(review: &'a Review<'a>, path: String, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { review, path, span: value.span(), value: value.get_ref() }
    }

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
        self.table("a table")
    }

    /// A table, of which `example` is one: what a person wrote instead is likely the right word in the wrong form.
    #[must_use]
    pub fn table_such_as(&self, example: &str) -> Option<Section<'a>> {
        self.table(&format!("a table such as {example}"))
    }

    fn table(&self, what: &str) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else { return self.expected(what) };
        Some(Section::new(self.review, self.path.clone(), self.span.clone(), Some(table)))
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
            Value::new(self.review, path, v)
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
