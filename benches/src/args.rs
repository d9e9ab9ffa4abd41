//! `--name value` arguments; `--name` alone is "1". What is not known ends the program: a typo must not become a figure.

use std::collections::HashMap;
use std::str::FromStr;

pub struct Args(HashMap<String, String>);

impl Args {
    /// The program's own, of which only `known` may be given.
    pub fn from_env(known: &[&str]) -> Self {
        let mut all = HashMap::new();
        let mut words = std::env::args().skip(1).peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--").filter(|n| known.contains(n)) else {
                eprintln!("unknown argument {word}; known: {}", known.join(" "));
                std::process::exit(64);
            };
            let value = words.next_if(|w| !w.starts_with("--")).unwrap_or_else(|| "1".to_owned());
            all.insert(name.to_owned(), value);
        }
        Self(all)
    }

    pub fn text(&self, name: &str, default: &str) -> String {
        self.0.get(name).cloned().unwrap_or_else(|| default.to_owned())
    }

    pub fn number<T: FromStr>(&self, name: &str, default: T) -> T {
        match self.0.get(name) {
            None => default,
            Some(text) => text.parse().unwrap_or_else(|_| {
                eprintln!("--{name} {text}: not a number");
                std::process::exit(64);
            }),
        }
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|v| v != "0")
    }
}
