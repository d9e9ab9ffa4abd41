//! The commands as a person runs them: what they print, and what they come back with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn umbel(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_umbel"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn explained(arguments: &[&str]) -> String {
    let output = umbel(
        &[&["explain", "--config", "config.toml", "--now", "2026-11-22T00:00:00Z"], arguments].concat(),
        "",
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    said(&output)
}

fn file(name: &str, text: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_says_what_a_good_file_says_and_comes_back_with_0() {
    let output = umbel(&["check", "config.toml"], "");
    assert_eq!(output.status.code(), Some(0));
    assert!(said(&output).contains("config.toml: OK"));
}

#[test]
fn check_lists_every_problem_with_its_place_and_comes_back_with_64() {
    let bad = file("bad.toml", "[listen]\namqp = 5\n\n[limits]\nchanel_max = 9\n");
    let output = umbel(&["check", &bad], "");
    assert_eq!(output.status.code(), Some(64));
    let problems = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(problems.contains(&format!("{bad}:2:8: listen.amqp: expected a string")), "{problems}");
    assert!(
        problems.contains(&format!("{bad}:5:1: limits.chanel_max: unknown key; did you mean")),
        "{problems}"
    );
    assert_eq!(umbel(&["check", "no/such/file.toml"], "").status.code(), Some(64));
}

#[test]
fn explain_names_the_rule_behind_each_part_and_the_exact_bytes() {
    let text = explained(&["--task", "feeds.pull", "--size", "12KiB"]);
    for part in [
        "queue celery → queue feeds",
        "by rule 1: feeds have their own queue",
        "by rule 4: big bodies travel compressed",
        "- 06 63 65 6c 65 72 79  |.celery|",
        "+ 05 66 65 65 64 73  |.feeds|",
        "binding feeds → feeds by \"feeds\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = explained(&["--task", "reports.daily", "--priority", "9"]);
    assert!(text.contains("9 → 3") && text.contains("reports never outrank checkouts"), "{text}");
    let text = explained(&["--task", "video.encode"]);
    assert!(
        text.contains("queue celery → queue media") && text.contains("task_routes[1]: video.*"),
        "{text}"
    );
}

#[test]
fn explain_says_what_becomes_of_an_expired_task_and_that_no_byte_of_another_changes() {
    let text = explained(&["--task", "a.b", "--expires", "-5s"]);
    assert!(text.contains("has expired (at 2026-11-21T23:59:55.000000+00:00): revoked"), "{text}");
    assert!(explained(&["--task", "a.b", "--expires", "+5s"]).contains("no byte changes"));
    assert!(
        explained(&["--task", "feeds.pull", "--queue", "mine"])
            .contains("the producer's own choice, respected")
    );
}

#[test]
fn explain_says_what_a_dry_run_would_have_done() {
    let config = file("dry.toml", "[[rules]]\nname = \"new\"\ndry_run = true\npriority = 9\n");
    let output = umbel(&["explain", "--config", &config, "--task", "a.b"], "");
    let text = said(&output);
    assert!(
        text.contains("0 → 9")
            && text.contains("rule 1: new, in dry run")
            && text.contains("no byte changes"),
        "{text}"
    );
}

#[test]
fn explain_reads_every_captured_vector() {
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors");
    for entry in std::fs::read_dir(vectors).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "index.json" {
            let output = umbel(&["explain", "--json", "--message", path.to_str().unwrap()], "");
            assert!(
                output.status.success(),
                "{}: {}",
                path.display(),
                String::from_utf8_lossy(&output.stderr)
            );
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(
                json["changes"],
                serde_json::json!([]),
                "without rules nothing changes: {}",
                path.display()
            );
        }
    }
}

#[test]
fn explain_reads_our_own_form_from_stdin_and_says_what_is_wrong_with_it() {
    let message =
        r#"{"routing_key": "celery", "headers": {"task": "feeds.x", "id": "1"}, "body": "[[],{},{}]"}"#;
    let output = umbel(&["explain", "--config", "config.toml", "--message", "-"], message);
    assert!(said(&output).contains("queue celery → queue feeds"));
    let output = umbel(&["explain", "--message", "-"], "{\"colour\": 1}");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown key `colour`"));
}

#[test]
fn import_translates_what_an_application_said_and_says_what_it_could_not() {
    let json = r#"{"app": "shop:app", "task_default_queue": "celery", "task_create_missing_queues": true, "task_queues": [],
                   "task_routes": [[["glob", "feeds.*", {"queue": "feeds"}]], {"$function": "shop.route"}]}"#;
    let output = umbel(&["import", "--json", "-"], json);
    assert!(output.status.success());
    assert!(
        said(&output).contains("[[task_routes]]\ntask = \"feeds.*\"\nqueue = \"feeds\""),
        "{}",
        said(&output)
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("function shop.route"));
    let toml = file("imported.toml", &said(&output));
    assert_eq!(umbel(&["check", &toml], "").status.code(), Some(0));
}

#[test]
fn an_interpreter_that_is_not_there_is_named() {
    let output = umbel(&["import", "--app", "shop:app", "--python", "/no/such/python"], "");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/python"));
}
