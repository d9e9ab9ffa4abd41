//! A configuration file, read with its surroundings: environment, secret files, TLS material.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tls::{Outgoing, incoming};
use crate::config::{ClientTls, Config, Problems, ServerTls, Surroundings};

/// A configuration that can be put to use.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Arc<Config>,
    /// Where it came from; none: all defaults.
    pub path: Option<PathBuf>,
    /// Of the file's bytes, so that two instances can be compared.
    pub hash: String,
    /// When it was read, in Unix seconds.
    pub at_unix_seconds: u64,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Unreadable(String),
    /// Everything that is wrong with it.
    Problems(Problems),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(why) => f.write_str(why),
            Self::Problems(problems) => write!(f, "{} problem(s)", problems.0.len()),
        }
    }
}

impl std::error::Error for LoadError {}

/// The real world: the process's environment and the file system.
pub struct World;

/// Bytes of a secret file at most.
const SECRET_BYTES_MAX: u64 = 1 << 20;

impl Surroundings for World {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
        if size > SECRET_BYTES_MAX {
            return Err(format!("{size} bytes, more than {SECRET_BYTES_MAX}"));
        }
        std::fs::read_to_string(path).map_err(|e| e.to_string())
    }

    fn server_tls(&self, tls: &ServerTls) -> Result<(), String> {
        incoming(tls).map(drop)
    }

    fn client_tls(&self, tls: &ClientTls) -> Result<(), String> {
        Outgoing::new(tls).map(drop)
    }
}

/// Reads `path`, or takes every default where there is none.
///
/// # Errors
/// The file cannot be read, or every problem in it with its place.
pub fn load(path: Option<&Path>) -> Result<Loaded, LoadError> {
    let text = match path {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|e| LoadError::Unreadable(format!("{}: {e}", path.display())))?,
    };
    let config = Config::parse(&text, &World).map_err(LoadError::Problems)?;
    Ok(Loaded {
        config: Arc::new(config),
        path: path.map(Path::to_path_buf),
        hash: hash(text.as_bytes()),
        at_unix_seconds: u64::try_from(super::clock::wall_us() / 1_000_000).unwrap_or(0),
    })
}

/// The first 16 hex digits of SHA-256.
fn hash(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect()
}
