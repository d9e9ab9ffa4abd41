//! What a configuration is told: its problems, and how a test expects one.

use umbel::config::{Config, Nothing, Surroundings};

/// The problems of `text`, as `line:column: key: message`.
pub fn problems(text: &str) -> Vec<String> {
    match Config::parse(text, &Nothing) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

/// Asserts that `text` has exactly one problem, that it begins with `place` and says `words`.
#[track_caller]
pub fn one(text: &str, place: &str, words: &str) {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(place) && found[0].contains(words), "{found:#?}");
}

pub struct World;

impl Surroundings for World {
    fn env(&self, name: &str) -> Option<String> {
        (name == "PASSWORD").then(|| "hunter2".to_owned())
    }
    fn file(&self, path: &str) -> Result<String, String> {
        if path == "/run/secrets/rabbit" {
            Ok("hunter2\n".to_owned())
        } else {
            Err("no such file".to_owned())
        }
    }
}

/// A rule with this body, after five lines: the body stands on line 6.
pub fn ruled(body: &str) -> String {
    format!("[upstreams.default]\n\n\n[[rules]]\nname = \"r\"\n{body}\n")
}
