//! The house holds: imports point down, the pure floors touch no world, and every file says what it is in its first line.
//!
//! Reads the sources as text: comments and strings are blanked, then every path that starts at the crate's root is looked at.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Every floor's modules, and what of its own floor a module may import. Lower floors are always allowed.
const HOUSE: [(&str, u8, &[&str]); 11] = [
    ("wire", 0, &[]),
    ("metrics", 0, &["wire"]),
    ("celery", 1, &[]),
    ("policy", 1, &["celery"]),
    ("session", 1, &[]),
    ("config", 2, &[]),
    ("net", 3, &[]),
    ("cli", 4, &["admin"]),
    ("admin", 4, &[]),
    ("main", 5, &[]),
    ("lib", 5, &[]),
];

/// Floors up to this one are sans-IO: bytes and `now` in, bytes and decisions out.
const PURE_UP_TO: u8 = 2;

/// Words that a pure floor has no use for. A path is matched by its segments, so `IpAddr` is fine where `TcpStream` is not.
const WORLD: [&str; 19] = [
    "tokio",
    "std::fs",
    "fs::read",
    "fs::File",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
    "Instant::now",
    "SystemTime::now",
    "Zoned::now",
    "Timestamp::now",
    "Mutex",
    "RwLock",
    "rand",
    "RandomState",
    "std::thread",
];

struct Source {
    path: PathBuf,
    /// The top-level module that it belongs to.
    module: String,
    /// Modules above it, itself included: `metrics::tasks` is 2 deep.
    depth: usize,
    raw: String,
    /// Without comments and the insides of strings.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut waiting = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let parts: Vec<String> = path
                    .strip_prefix(&root)
                    .unwrap()
                    .with_extension("")
                    .iter()
                    .map(|part| part.to_str().unwrap().to_owned())
                    .filter(|part| part != "mod")
                    .collect();
                let raw = fs::read_to_string(&path).unwrap();
                found.push(Source {
                    module: parts[0].clone(),
                    depth: parts.len(),
                    code: blanked(&raw),
                    raw,
                    path,
                });
            }
        }
    }
    assert!(found.len() > 10, "only {} sources found", found.len());
    found
}

fn floor(module: &str) -> Option<(u8, &'static [&'static str])> {
    HOUSE.iter().find(|(name, ..)| *name == module).map(|(_, floor, beside)| (*floor, *beside))
}

/// Replaces comments, strings and character literals by blanks; newlines stay, so lines keep their numbers.
fn blanked(raw: &str) -> String {
    let chars: Vec<char> = raw.chars().collect();
    let mut out = String::with_capacity(raw.len());
    let mut at = 0;
    let blank = |out: &mut String, from: usize, to: usize| {
        out.extend(chars[from..to.min(chars.len())].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    };
    while at < chars.len() {
        let rest = &chars[at..];
        let end = match rest {
            ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => {
                let close = rest[2..].windows(2).position(|two| two == ['*', '/']);
                at + close.map_or(rest.len(), |n| n + 4)
            }
            ['r', '"' | '#', ..] if !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
                if rest.get(1 + hashes) == Some(&'"') {
                    let close: Vec<char> =
                        std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                    let body = &rest[2 + hashes..];
                    let length = body.windows(close.len()).position(|window| window == close).unwrap();
                    at + 2 + hashes + length + close.len()
                } else {
                    out.push('r');
                    at += 1;
                    continue;
                }
            }
            ['"', ..] => at + string_end(rest),
            ['\'', '\\', _, ..] => at + 3 + rest[3..].iter().position(|c| *c == '\'').unwrap() + 1,
            ['\'', _, '\'', ..] => at + 3,
            [other, ..] => {
                out.push(*other);
                at += 1;
                continue;
            }
            [] => break,
        };
        blank(&mut out, at, end);
        at = end;
    }
    out
}

fn string_end(text: &[char]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands in `code` as whole path segments.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !code[..*at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

/// The first segments after a path's root: one, or those of a group: `crate::{wire::num, metrics}` gives two.
fn heads(after: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(group) = after.trim_start().strip_prefix('{') else { return vec![name(after)] };
    let mut found = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|head| !head.is_empty());
    found
}

/// Modules of the crate that a source names: by `crate::`, by `umbel::`, or by enough `super::`.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found = Vec::new();
    for root in ["crate", "umbel"] {
        for at in places(code, root) {
            if let Some(after) = code[at + root.len()..].strip_prefix("::") {
                found.extend(heads(after).into_iter().map(|head| (at, head)));
            }
        }
    }
    for at in places(code, "super").filter(|at| !code[..*at].ends_with("super::")) {
        let ups = code[at..].times_at_front("super::");
        if ups >= source.depth {
            let after = &code[at + ups * "super::".len()..];
            found
                .extend(heads(after).into_iter().filter(|head| floor(head).is_some()).map(|head| (at, head)));
        }
    }
    found
}

trait Run {
    /// How many times `unit` stands one after another at the front.
    fn times_at_front(&self, unit: &str) -> usize;
}

impl Run for str {
    fn times_at_front(&self, unit: &str) -> usize {
        let mut rest = self;
        let mut times = 0;
        while let Some(after) = rest.strip_prefix(unit) {
            (rest, times) = (after, times + 1);
        }
        times
    }
}

fn line(source: &Source, at: usize) -> String {
    format!("{}:{}", source.path.display(), source.code[..at].lines().count().max(1))
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((own, beside)) = floor(&source.module) else {
            panic!("{}: the module `{}` stands on no floor", source.path.display(), source.module)
        };
        for (at, head) in imports(&source) {
            let Some((other, _)) = floor(&head) else { continue };
            let allowed = head == source.module || other < own || beside.contains(&head.as_str());
            if !allowed {
                wrong.push(format!("{}: `{}` may not import `{head}`", line(&source, at), source.module));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not point down:\n{}", wrong.join("\n"));
}

#[test]
fn the_pure_floors_touch_no_world() {
    let mut wrong = Vec::new();
    for source in
        sources().iter().filter(|source| floor(&source.module).is_some_and(|(own, _)| own <= PURE_UP_TO))
    {
        // Tests of a pure floor may read their data and start threads; the floor itself may not.
        if source.path.file_stem().is_some_and(|stem| stem == "tests")
            || source.path.iter().any(|part| part == "tests")
        {
            continue;
        }
        let code = source.code.split("#[cfg(test)]\nmod ").next().unwrap();
        for word in WORLD {
            wrong.extend(places(code, word).map(|at| format!("{}: `{word}`", line(source, at))));
        }
    }
    assert!(wrong.is_empty(), "the world on a pure floor:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_in_its_first_line() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|source| !source.raw.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    assert!(silent.is_empty(), "no `//!` in the first line of {silent:?}");
}

#[test]
fn this_reader_sees_what_it_looks_for() {
    let sample = |module: &str, raw: &str| Source {
        path: PathBuf::from("sample.rs"),
        module: module.into(),
        depth: 2,
        raw: raw.into(),
        code: blanked(raw),
    };
    let seen =
        |raw: &str| imports(&sample("wire", raw)).into_iter().map(|(_, head)| head).collect::<Vec<_>>();
    assert_eq!(seen("use crate::net::x;"), ["net"]);
    assert_eq!(seen("use crate::{wire::{a, b}, policy};"), ["wire", "policy"]);
    assert_eq!(seen("fn f() { crate::cli::run() } // crate::admin"), ["cli"]);
    assert_eq!(seen("use super::super::config::Config;"), ["config"]);
    assert_eq!(
        seen("const A: &str = \"crate::net\"; const B: &str = r#\"crate::\"net\"#; /* crate::net */"),
        [""; 0]
    );
    assert_eq!(seen("const Q: char = '\"'; use crate::net; const R: char = '\\'';"), ["net"]);
    assert_eq!(places("use std::net::{IpAddr, TcpStream};", "TcpStream").count(), 1);
    assert_eq!(places("let operand = brand::new();", "rand").count(), 0);
}
