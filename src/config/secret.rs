//! Secrets: values that may be used and never shown, and where values may come from besides the file.

use std::fmt;

use super::listen::ServerTls;
use super::upstream::ClientTls;

/// A password or the like. Neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    #[must_use]
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a configuration may read besides its own text. The caller touches the world, so that `config` does not.
pub trait Surroundings {
    /// An environment variable's value, if it is set.
    fn env(&self, name: &str) -> Option<String>;
    /// A file's text, or why it cannot be read.
    fn file(&self, path: &str) -> Result<String, String>;
    /// Why the files that `[listen.tls]` names cannot be put to use. Where no file can be read nothing is said of them.
    fn server_tls(&self, _: &ServerTls) -> Result<(), String> {
        Ok(())
    }
    /// The same for an upstream's.
    fn client_tls(&self, _: &ClientTls) -> Result<(), String> {
        Ok(())
    }
}

/// Surroundings in which nothing is set and no file exists.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Surroundings for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        None
    }
    fn file(&self, _: &str) -> Result<String, String> {
        Err("no such file".to_owned())
    }
}

/// `text` with every `${NAME}` replaced by the environment's value, and `$$` by `$`.
///
/// # Errors
/// What is wrong: a name that is not set, or a brace that is not closed.
pub fn expand(text: &str, surroundings: &dyn Surroundings) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let (name, tail) = tail.split_once('}').ok_or("`${` without a closing `}`")?;
            let value = surroundings
                .env(name)
                .ok_or_else(|| format!("the environment variable {name} is not set"))?;
            out.push_str(&value);
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;
    impl Surroundings for One {
        fn env(&self, name: &str) -> Option<String> {
            (name == "PW").then(|| "s3cret".to_owned())
        }
        fn file(&self, _: &str) -> Result<String, String> {
            Err(String::new())
        }
    }

    #[test]
    fn variables_are_replaced_and_a_doubled_dollar_is_a_dollar() {
        assert_eq!(expand("a:${PW}@b", &One).unwrap(), "a:s3cret@b");
        assert_eq!(expand("5$ and $${PW}", &One).unwrap(), "5$ and ${PW}");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_and_an_open_brace_is_refused() {
        assert!(expand("${NOPE}", &One).unwrap_err().contains("NOPE"));
        assert!(expand("${PW", &One).is_err());
    }

    #[test]
    fn a_secret_is_never_shown() {
        let s = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{s} {s:?}"), "*** ***");
    }
}
