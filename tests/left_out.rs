//! Says, in the output of a plain `cargo test`, what needs a broker and is therefore somewhere else.

use std::io::Write;
use std::path::Path;

const NOTE: &str = "
note: left out here, because they need RabbitMQ, Celery and Python environments: the tests in tests/real
      (every vector through a running Umbel, Celery 3.1 to 5, policy, faults, reloads, hostile clients).
      tests/run installs what they need and passes them.
";

#[test]
fn what_needs_a_broker_is_left_to_tests_run() {
    // Written past the test harness, which keeps a passing test's println! to itself.
    let _ = std::io::stderr().lock().write_all(NOTE.as_bytes());
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run").exists());
}
