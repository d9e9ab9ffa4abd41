//! `umbel spool` as a person runs it, on a spool that an Umbel left behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value as Json, json};
use umbel::net::spool::{Completion, Publish, QueueKey, Spool, SpoolSettings};
use umbel::wire::NewHeader;
use umbel::wire::method::write_publish;
use umbel::wire::table::{TableWriter, Value};

/// Microseconds of Unix time: long ago.
const LONG_AGO: u64 = 1_000_000_000_000_000;

/// A directory of this test's own, emptied.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli_spool").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn umbel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_umbel")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complained(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn open(path: &Path) -> Spool {
    Spool::open(path, SpoolSettings::default(), Box::new(|| {})).unwrap().0
}

/// Three tasks of one user on the default upstream, one of them old; one message that is no task for another upstream.
fn left_behind(path: &Path) {
    let mut spool = open(path);
    let key = |upstream: &str, user: &str| QueueKey {
        upstream: upstream.into(),
        vhost: "/".into(),
        user: user.into(),
        identity: [7; 32],
        ahead: false,
    };
    let (shop, audit) = (spool.queue(&key("default", "shop")), spool.queue(&key("eu", "audit")));
    let now = umbel::net::now_us();
    let task = |name: &str| {
        TableWriter::new()
            .str("task", name.as_bytes())
            .str("id", b"i-1")
            .with("retries", Value::I32(0))
            .into_bytes()
    };
    for (queue, routing_key, headers, at_us) in [
        (shop, "celery", task("shop.pay"), LONG_AGO),
        (shop, "celery", task("shop.mail"), now),
        (shop, "media", task("video.cut"), now),
        (audit, "log", Vec::new(), now),
    ] {
        let mut header = Vec::new();
        let table = umbel::wire::Table::new(&headers);
        NewHeader {
            body_size: 12,
            content_type: Some(b"application/json"),
            headers: Some(table),
            delivery_mode: Some(2),
            priority: Some(3),
            ..NewHeader::default()
        }
        .write(&mut header);
        let method = write_publish(b"", routing_key.as_bytes(), false);
        let publish =
            Publish { lane: 1, at_us, flags: 0, method: &method, header: &header, body: b"[[], {}, {}]" };
        let seq = spool.append(queue, &publish).unwrap();
        if routing_key == "media" {
            spool.refused(queue, seq, "404 NOT_FOUND - no exchange");
        }
    }
    let rest = spool.close();
    assert!(rest.iter().all(|c| matches!(c, Completion::Appended { .. })), "{rest:?}");
}

fn exported(path: &Path, filters: &[&str]) -> Vec<Json> {
    let output = umbel(&[&["spool", "--path", path.to_str().unwrap(), "export"], filters].concat());
    assert!(output.status.success(), "{}", complained(&output));
    said(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn ls_lists_queues_with_their_owners_for_people_and_as_json() {
    let dir = directory("ls");
    left_behind(&dir);
    let path = dir.to_str().unwrap();
    let text = said(&umbel(&["spool", "ls", "--path", path]));
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["UPSTREAM", "VHOST", "USER", "MESSAGES", "BYTES", "OLDEST", "REFUSED", "WHY"]);
    assert_eq!(rows[1][..4], ["default", "/", "shop", "3"]);
    assert_eq!(rows[2][..4], ["eu", "/", "audit", "1"]);
    assert!(text.contains("4 messages"), "{text}");
    let json: Json = serde_json::from_str(&said(&umbel(&["spool", "ls", "--json", "--path", path]))).unwrap();
    assert_eq!((&json["messages"], &json["queues"][0]["user"]), (&json!(4), &json!("shop")));
    assert_eq!(json["queues"][0]["oldest_us"], json!(LONG_AGO));
    // What a broker has refused is told apart, with its words.
    assert!(rows[1].join(" ").ends_with(" 1 404 NOT_FOUND - no exchange"), "{text}");
    assert_eq!(json["queues"][0]["refusals"], json!({"404 NOT_FOUND - no exchange": 1}));
    assert_eq!((&json["queues"][0]["refused"], &json["queues"][1]["refused"]), (&json!(1), &json!(0)));
}

#[test]
fn export_says_all_that_it_takes_to_publish_a_message_by_hand() {
    let dir = directory("export");
    left_behind(&dir);
    let lines = exported(&dir, &[]);
    assert_eq!(lines.len(), 4);
    let first = &lines[0];
    assert_eq!((&first["exchange"], &first["routing_key"]), (&json!(""), &json!("celery")));
    assert_eq!((&first["task"], &first["id"]), (&json!("shop.pay"), &json!("i-1")));
    assert_eq!(
        first["properties"],
        json!({"content_type": "application/json", "delivery_mode": 2, "priority": 3})
    );
    assert_eq!(first["headers"], json!({"task": "shop.pay", "id": "i-1", "retries": 0}));
    assert_eq!(first["body_b64"], json!("W1tdLCB7fSwge31d"));
    let refused: Vec<&Json> = lines.iter().map(|line| &line["refused"]).collect();
    assert_eq!(refused, [&Json::Null, &Json::Null, &json!("404 NOT_FOUND - no exchange"), &Json::Null]);
    assert_eq!(exported(&dir, &[]).len(), 4, "an export removes nothing");
    // One line is what `explain` reads.
    let line = dir.join("line.json");
    std::fs::write(&line, first.to_string()).unwrap();
    let text = said(&umbel(&["explain", "--message", line.to_str().unwrap()]));
    assert!(text.contains("shop.pay") && text.contains("queue celery"), "{text}");
}

#[test]
fn filters_by_upstream_user_task_and_age_must_all_hold() {
    let dir = directory("filters");
    left_behind(&dir);
    for (filters, count) in [
        (&["--upstream", "eu"][..], 1),
        (&["--user", "shop"], 3),
        (&["--vhost", "other"], 0),
        (&["--task", "shop.*"], 2),
        (&["--task", "video.cut"], 1),
        (&["--older-than", "1d"], 1),
        (&["--older-than", "1d", "--task", "shop.mail"], 0),
    ] {
        assert_eq!(exported(&dir, filters).len(), count, "{filters:?}");
    }
    let bad = umbel(&["spool", "--path", dir.to_str().unwrap(), "export", "--older-than", "soon"]);
    assert!(!bad.status.success() && complained(&bad).contains("90s, 12h or 7d"));
}

#[test]
fn an_export_to_a_file_is_read_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory("file");
    left_behind(&dir);
    let file = dir.join("out.jsonl");
    let output = umbel(&["spool", "--path", dir.to_str().unwrap(), "export", file.to_str().unwrap()]);
    assert!(output.status.success() && complained(&output).contains("4 messages exported"));
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 4);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn purge_removes_what_was_meant_and_only_once_it_was_said_twice() {
    let dir = directory("purge");
    left_behind(&dir);
    let path = dir.to_str().unwrap();
    let asked = umbel(&["spool", "--path", path, "purge", "--task", "shop.*"]);
    assert_eq!(asked.status.code(), Some(64));
    assert!(complained(&asked).contains("2 messages would be lost; --yes"), "{}", complained(&asked));
    assert_eq!(exported(&dir, &[]).len(), 4);
    let done = umbel(&["spool", "--path", path, "purge", "--task", "shop.*", "--yes"]);
    assert_eq!((done.status.code(), said(&done).as_str()), (Some(0), "2 messages removed\n"));
    let left: Vec<Json> = exported(&dir, &[]).iter().map(|line| line["task"].clone()).collect();
    assert_eq!(left, [json!("video.cut"), Json::Null]);
    assert!(umbel(&["spool", "--path", path, "purge", "--yes"]).status.success());
    assert!(said(&umbel(&["spool", "--path", path, "ls"])).contains("nothing waits"));
}

#[test]
fn a_spool_in_use_is_left_alone_and_its_owner_is_named() {
    let dir = directory("in_use");
    left_behind(&dir);
    let _owner = open(&dir);
    let pid = std::process::id().to_string();
    for action in [&["ls"][..], &["export"], &["purge", "--yes"], &["replay", "--to", "amqp://127.0.0.1:1"]] {
        let output = umbel(&[&["spool", "--path", dir.to_str().unwrap()], action].concat());
        assert_eq!(output.status.code(), Some(75), "{action:?}: {}", complained(&output));
        assert!(complained(&output).contains("in use by process"), "{}", complained(&output));
        assert!(complained(&output).contains(&pid));
    }
}

#[test]
fn what_is_missing_is_said() {
    let dir = directory("missing");
    let path = dir.to_str().unwrap();
    let output = umbel(&["spool", "--path", path, "ls"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complained(&output).contains("there is no spool"));
    assert!(std::fs::read_dir(&dir).unwrap().next().is_none(), "looking makes nothing");
    assert_eq!(umbel(&["spool", "ls"]).status.code(), Some(64));
    let config = dir.join("umbel.toml");
    std::fs::write(&config, "").unwrap();
    let output = umbel(&["spool", "ls", "--config", config.to_str().unwrap()]);
    assert!(complained(&output).contains("no [spool]"));
}

#[test]
fn a_replay_that_reaches_no_broker_leaves_everything_where_it_is() {
    let dir = directory("nowhere");
    left_behind(&dir);
    let path = dir.to_str().unwrap();
    let output = umbel(&["spool", "--path", path, "replay", "--to", "amqp://u:hunter2@127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let why = complained(&output);
    assert!(why.contains("127.0.0.1:1") && why.contains("stays in the spool"), "{why}");
    assert!(!why.contains("hunter2"));
    assert_eq!(exported(&dir, &[]).len(), 4);
    let output = umbel(&["spool", "--path", path, "replay"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(complained(&output).contains("--to URL, or --config FILE"));
}
