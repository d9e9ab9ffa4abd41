//! The `umbel` command: arguments and exit codes, nothing else.

use std::process::ExitCode;

/// Gives the memory of a burst back to the system: glibc's allocator keeps what lies below anything that is still in use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    umbel::cli::main()
}
