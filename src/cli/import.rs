//! `umbel import`: a Celery application's `task_routes` and `task_queues` as our TOML, told by its own interpreter.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::translate::translate;
use crate::config::{Config, Nothing};

/// Asks the application; under its own interpreter, so that its settings are what its producers see.
const SCRIPT: &str = include_str!("import.py");
/// What is read of an application's answer.
const JSON_BYTES_MAX: u64 = 64 << 20;

/// What is to be imported.
#[derive(Debug, Args)]
pub struct Import {
    /// The application, as `celery -A` has it: proj.celery:app
    #[arg(long, short = 'A', value_name = "MODULE:APP", required_unless_present = "json")]
    app: Option<String>,
    /// The interpreter that has Celery and the application
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Where the application lies
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Read what an earlier run printed with --print-json, instead of asking; `-`: stdin
    #[arg(long, value_name = "FILE", conflicts_with = "app")]
    json: Option<PathBuf>,
    /// Print what the application said, untranslated
    #[arg(long)]
    print_json: bool,
}

/// Imports, and prints TOML.
#[must_use]
pub fn import(arguments: &Import) -> ExitCode {
    match arguments.json().and_then(|json| if arguments.print_json { Ok(json) } else { toml(&json) }) {
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("umbel import: {why}");
            ExitCode::FAILURE
        }
    }
}

impl Import {
    fn json(&self) -> Result<String, String> {
        let mut text = String::new();
        match (&self.json, &self.app) {
            (Some(path), _) if path.as_os_str() == "-" => {
                std::io::stdin().take(JSON_BYTES_MAX).read_to_string(&mut text).map_err(|e| e.to_string())?;
            }
            (Some(path), _) => {
                let failed = |e: std::io::Error| format!("{}: {e}", path.display());
                let file = std::fs::File::open(path).map_err(failed)?;
                file.take(JSON_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
            }
            (None, Some(app)) => return self.ask(app),
            (None, None) => return Err("expected --app or --json".to_owned()),
        }
        Ok(text)
    }

    fn ask(&self, app: &str) -> Result<String, String> {
        let python = self.python.display();
        let mut child = Command::new(&self.python)
            .args(["-", app])
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{python}: {e}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(SCRIPT.as_bytes()).map_err(|e| format!("{python}: {e}"))?;
        }
        let output = child.wait_with_output().map_err(|e| format!("{python}: {e}"))?;
        if !output.status.success() {
            return Err(format!(
                "{python} could not load {app} (its own words are above); is it the interpreter that has Celery?"
            ));
        }
        // An application may print when it is imported: ours is the last line.
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().last().map(str::to_owned).ok_or_else(|| format!("{app} said nothing"))
    }
}

/// TOML that is known to load, with what it leaves out said on stderr too.
fn toml(json: &str) -> Result<String, String> {
    let translated = translate(json)?;
    for what in &translated.left_out {
        eprintln!("not translated: {what}");
    }
    if let Err(problems) = Config::parse(&translated.toml, &Nothing) {
        eprintln!("what the application says has problems of its own (lines of the output):\n{problems}");
    }
    Ok(translated.toml)
}
