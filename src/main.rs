//! The `umbel` command: arguments and exit codes, nothing else.

fn main() {}
