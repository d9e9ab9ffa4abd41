//! Names and patterns of names: exact, glob as Python's `fnmatch` reads it, or regex as Python's `re.match` anchors it.

use regex::bytes::Regex;
use rustc_hash::FxHashSet;

/// A compiled pattern, with the text that it came from.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// A glob: `*`, `?`, `[seq]` and `[!seq]` over the whole name, case and all, newlines included (Python's `fnmatch.translate`).
    ///
    /// # Errors
    /// What the regex engine says; a glob can only be too long.
    pub fn glob(text: &str) -> Result<Self, String> {
        Self::compile(text, &format!("(?s)\\A(?:{})\\z", translate(text)))
    }

    /// A regex, anchored at its start only, as `re.match` does. Linear in time whatever it is.
    ///
    /// # Errors
    /// What the regex engine says of the text.
    pub fn regex(text: &str) -> Result<Self, String> {
        // Compiled bare first, so that an error speaks of the user's text.
        Regex::new(text).map_err(|e| tidy(&e))?;
        Self::compile(text, &format!("\\A(?:{text})"))
    }

    fn compile(text: &str, regex: &str) -> Result<Self, String> {
        let regex = Regex::new(regex).map_err(|e| tidy(&e))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Whether the pattern matches.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        self.regex.is_match(name)
    }

    /// What it compiles to: `.*` is another pattern as a glob than as a regex.
    #[must_use]
    pub fn compiled(&self) -> &str {
        self.regex.as_str()
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn tidy(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// One name as a rule writes it.
#[derive(Debug, Clone)]
pub enum Name {
    /// The name itself.
    Exact(String),
    /// A glob or a regex.
    Pattern(Pattern),
}

impl Name {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(name) => name,
            Self::Pattern(pattern) => pattern.text(),
        }
    }
}

/// A set of names: any of them will do.
#[derive(Debug, Clone, Default)]
pub struct Names {
    exact: FxHashSet<Vec<u8>>,
    patterns: Vec<Pattern>,
}

impl Names {
    /// Whether any of them matches.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        self.exact.contains(name) || self.patterns.iter().any(|p| p.matches(name))
    }

    /// The exact names, if there are no patterns beside them.
    #[must_use]
    pub fn only_exact(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.patterns.is_empty().then(|| self.exact.iter().map(Vec::as_slice))
    }

    /// Whether whatever `other` matches is sure to match this too. May say no where it is so; never yes where it is not.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let same =
            |p: &Pattern| self.patterns.iter().any(|own| own.compiled() == p.compiled() || own.text == "*");
        other.exact.iter().all(|name| self.matches(name)) && other.patterns.iter().all(same)
    }
}

impl FromIterator<Name> for Names {
    fn from_iter<T: IntoIterator<Item = Name>>(names: T) -> Self {
        let mut set = Self::default();
        for name in names {
            match name {
                Name::Exact(name) => drop(set.exact.insert(name.into_bytes())),
                Name::Pattern(pattern) => set.patterns.push(pattern),
            }
        }
        set
    }
}

/// A glob as a regex, one character at a time.
fn translate(glob: &str) -> String {
    let mut out = String::new();
    let mut rest = glob.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => match class(rest.as_str()) {
                Some((regex, tail)) => {
                    out.push_str(&regex);
                    rest = tail.chars();
                }
                // fnmatch: a bracket that is never closed is itself.
                None => out.push_str("\\["),
            },
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

/// What `text`, which follows a `[`, says as a character class; and what follows the class.
fn class(text: &str) -> Option<(String, &str)> {
    let (negated, inner) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    // A bracket that closes at once is one of the characters.
    let search_from = usize::from(inner.starts_with(']'));
    let end = inner.get(search_from..)?.find(']')? + search_from;
    let (body, tail) = (inner.get(..end)?, inner.get(end + 1..)?);
    let chars: Vec<char> = body.chars().collect();
    let mut set = String::new();
    let mut i = 0;
    while let Some(&low) = chars.get(i) {
        match (chars.get(i + 1), chars.get(i + 2)) {
            (Some('-'), Some(&high)) => {
                // A range that runs backwards holds nothing (fnmatch drops it).
                if low <= high {
                    set.push_str(&format!("{}-{}", escaped(low), escaped(high)));
                }
                i += 3;
            }
            _ => {
                set.push_str(&escaped(low));
                i += 1;
            }
        }
    }
    let regex = match (set.is_empty(), negated) {
        (true, true) => ".".to_owned(),
        (true, false) => "[^\\x00-\\x{10FFFF}]".to_owned(),
        (false, true) => format!("[^{set}]"),
        (false, false) => format!("[{set}]"),
    };
    Some((regex, tail))
}

fn escaped(c: char) -> String {
    format!("\\x{{{:X}}}", u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(pattern: &str, name: &str) -> bool {
        Pattern::glob(pattern).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn a_glob_reads_as_fnmatch_does() {
        for (pattern, name, want) in [
            ("proj.*", "proj.a.b\nc", true),
            ("proj.*", "xproj.a", false),
            ("*.ad", "proj.add", false),
            ("proj.ad?", "proj.add", true),
            ("proj.[ax]*", "proj.xyz", true),
            ("proj.[!ax]*", "proj.xyz", false),
            ("[]]x", "]x", true),
            ("[!]]x", "]x", false),
            ("[a-c]", "b", true),
            ("[c-a]", "b", false),
            ("[!c-a]", "b", true),
            ("[a", "[a", true),
            ("[a-]", "-", true),
            ("a+b(c)", "a+b(c)", true),
            ("[^a]", "^", true),
            ("PROJ", "proj", false),
            ("ü?", "üé", true),
        ] {
            assert_eq!(glob(pattern, name), want, "{pattern} on {name:?}");
        }
    }

    #[test]
    fn a_regex_is_anchored_at_its_start_only() {
        let p = Pattern::regex(r"proj\.(ad|mu)").unwrap();
        assert!(p.matches(b"proj.add") && !p.matches(b"xproj.add"));
        assert!(Pattern::regex("a|b").unwrap().matches(b"bx"));
        assert!(!Pattern::regex("a|b").unwrap().matches(b"xb"));
        assert!(Pattern::regex("(").is_err());
    }

    #[test]
    fn a_set_of_names_covers_what_it_surely_matches() {
        let set = |names: &[&str]| -> Names {
            let name = |n: &&str| {
                if n.contains('*') {
                    Name::Pattern(Pattern::glob(n).unwrap())
                } else {
                    Name::Exact((*n).to_owned())
                }
            };
            names.iter().map(name).collect()
        };
        assert!(set(&["a.*", "b"]).covers(&set(&["a.x", "b"])));
        assert!(set(&["*"]).covers(&set(&["a.*"])));
        assert!(!set(&["a.*"]).covers(&set(&["*"])));
        let regex: Names = [Name::Pattern(Pattern::regex("a.*").unwrap())].into_iter().collect();
        assert!(!set(&["a.*"]).covers(&regex), "the same text, and another pattern");
    }
}
