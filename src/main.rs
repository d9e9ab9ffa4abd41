//! The `umbel` command: arguments and exit codes, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    umbel::cli::main()
}
