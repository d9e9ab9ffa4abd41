//! Every captured message through the pure code: what real Celery read from it, we read; unedited, its bytes stay as they are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    reason = "a test fails by panicking, and its input is ours"
)]

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use umbel::celery::{self, BodyLimits, Protocol, Publish, Reading, Stated, Text, body};
use umbel::wire::{
    ContentHeader, Frame, FrameKind, HeaderPatch, Reader, TableLimits, check_table, frame::parse_frame,
    frame::write_frame,
};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vectors");

/// A vector, and its bytes as they were captured.
struct Vector {
    name: String,
    json: Value,
    bytes: Vec<u8>,
}

/// The captured vectors, and ours: publishes of the Celery versions between theirs, of celery-node, and of nobody (`origin` says whose).
fn vectors() -> Vec<Vector> {
    let index = std::fs::read(Path::new(VECTORS).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let mut vectors: Vec<Vector> = index
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let file = format!("{}.json", entry["name"].as_str().unwrap());
            vector(serde_json::from_slice(&std::fs::read(Path::new(VECTORS).join(file)).unwrap()).unwrap())
        })
        .collect();
    assert!(vectors.len() >= 95, "only {} vectors", vectors.len());
    let more: Vec<Value> = serde_json::from_str(include_str!("data/more_vectors.json")).unwrap();
    assert!(more.len() >= 90, "only {} more vectors", more.len());
    vectors.extend(more.into_iter().map(vector));
    vectors
}

fn vector(json: Value) -> Vector {
    let bytes =
        json["frames_hex"].as_array().unwrap().iter().flat_map(|hex| unhex(hex.as_str().unwrap())).collect();
    Vector { name: json["name"].as_str().unwrap().to_owned(), json, bytes }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

impl Vector {
    fn frames(&self) -> Vec<Frame<'_>> {
        let mut rest = &self.bytes[..];
        let mut frames = Vec::new();
        while let Some(frame) = parse_frame(rest, 0).unwrap() {
            frames.push(frame);
            rest = &rest[frame.wire_len()..];
        }
        assert!(rest.is_empty(), "{}: bytes after the last frame", self.name);
        frames
    }

    /// What `read` makes of the publish, the body in its frames' pieces.
    fn read<T>(&self, read: impl FnOnce(&Publish<'_>) -> T) -> T {
        let frames = self.frames();
        let (exchange, routing_key) = destination(&frames[0]);
        assert_eq!(exchange, self.json["publish"]["exchange"].as_str().unwrap().as_bytes());
        assert_eq!(frames[1].kind, FrameKind::Header);
        let header = ContentHeader::parse(frames[1].payload).unwrap();
        let pieces: Vec<&[u8]> = frames[2..].iter().map(|frame| frame.payload).collect();
        assert_eq!(
            header.body_size,
            pieces.iter().map(|piece| piece.len() as u64).sum::<u64>(),
            "{}",
            self.name
        );
        read(&Publish { exchange, routing_key, header: &header, body: &pieces })
    }

    fn must_pass_untouched(&self) -> bool {
        self.json["must_pass_untouched"].as_bool().unwrap_or(false)
    }

    /// Whether the real worker took it for a task.
    fn is_task(&self) -> bool {
        !self.must_pass_untouched() && self.json["expect"]["protocol"].is_u64()
    }
}

/// basic.publish: class and method, a ticket, exchange, routing key, bits.
fn destination<'a>(method: &Frame<'a>) -> (&'a [u8], &'a [u8]) {
    let mut reader = Reader::new(method.payload);
    assert_eq!((reader.u16(), reader.u16(), reader.u16()), (Ok(60), Ok(40), Ok(0)));
    (reader.shortstr().unwrap(), reader.shortstr().unwrap())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn of(text: Option<&Text<'_>>) -> Option<String> {
    text.map(|text| text.as_str().unwrap().to_owned())
}

fn moment(stated: &Stated<'_>) -> Option<String> {
    assert_ne!(*stated, Stated::Other);
    stated.as_str().map(str::to_owned)
}

/// Microseconds of a float of seconds.
fn micros(value: &Value) -> Option<i64> {
    value.as_f64().map(|seconds| (seconds * 1e6).round() as i64)
}

#[test]
fn every_task_is_read_as_the_real_stack_reads_it() {
    for vector in vectors().iter().filter(|vector| vector.is_task()) {
        let name = &vector.name;
        let expect = &vector.json["expect"];
        vector.read(|publish| {
            let limits = BodyLimits::default();
            let Reading::Task(task) = celery::read(publish, &limits) else {
                panic!("{name}: not read as a task: {:?}", celery::read(publish, &limits));
            };
            let protocol = if task.protocol() == Protocol::V1 { 1 } else { 2 };
            assert_eq!(Some(protocol), expect["protocol"].as_u64(), "{name}: protocol");
            assert_eq!(Some(task.name()), expect["task"].as_str(), "{name}: task");
            assert_eq!(of(task.id().as_ref()), text(&expect["id"]), "{name}: id");
            assert_eq!(of(task.lang().as_ref()), text(&expect["lang"]), "{name}: lang");
            assert_eq!(of(task.group().as_ref()), text(&expect["group"]), "{name}: group");
            assert_eq!(of(task.root_id().as_ref()), text(&expect["root_id"]), "{name}: root_id");
            assert_eq!(of(task.parent_id().as_ref()), text(&expect["parent_id"]), "{name}: parent_id");
            assert_eq!(of(task.shadow().as_ref()), text(&expect["shadow"]), "{name}: shadow");
            assert_eq!(task.retries(), expect["retries"].as_i64(), "{name}: retries");
            assert_eq!(moment(&task.eta()), text(&expect["eta"]), "{name}: eta");
            assert_eq!(task.eta_at(), micros(&expect["eta_unix"]), "{name}: eta_unix");
            assert_eq!(moment(&task.expires()), text(&expect["expires"]), "{name}: expires");
            assert_eq!(task.expires_at(), micros(&expect["expires_unix_or_null"]), "{name}: expires_unix");
            assert_eq!(task.utc(), expect["body_has_utc_flag"].as_bool(), "{name}: utc");
            let limit = task.time_limit().map(|limit| [limit.hard, limit.soft]);
            let wanted = expect["timelimit"].as_array().map(|limit| [limit[0].as_f64(), limit[1].as_f64()]);
            assert_eq!(limit, wanted, "{name}: timelimit");
        });
    }
}

#[test]
fn what_is_no_task_is_recognised_as_none() {
    for vector in vectors().iter().filter(|vector| !vector.is_task()) {
        let reading = vector.read(|publish| match celery::read(publish, &BodyLimits::default()) {
            Reading::NotTask(kind) => kind.label(),
            Reading::Unreadable(_) => "unreadable",
            other => panic!("{}: {other:?}", vector.name),
        });
        let kind = match vector.json["kind"].as_str().unwrap() {
            "pidbox" => "control",
            // Python 2's msgpack keys are bytes, which no worker of today takes for a task.
            "task" => "other",
            kind => kind,
        };
        assert_eq!(reading, kind, "{}", vector.name);
    }
}

#[test]
fn every_body_unpacks_to_what_the_real_stack_unpacked() {
    for vector in vectors() {
        let name = &vector.name;
        let compression = vector.json["headers_decoded"]["compression"].as_str();
        // A retry of Celery 5.3.0 to 5.3.5 is plain under a compression header.
        let Some(sha) = vector.json["expect"]["body_decompressed_sha256"].as_str() else { continue };
        vector.read(|publish| {
            let plain =
                body::unpack(compression.map(str::as_bytes), publish.body, &BodyLimits::default()).unwrap();
            assert_eq!(
                Some(plain.len() as u64),
                vector.json["expect"]["body_decompressed_len"].as_u64(),
                "{name}"
            );
            let digest = Sha256::digest(&plain);
            let hex = digest.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            assert_eq!(hex, sha, "{name}");
        });
    }
}

#[test]
fn framed_again_with_a_patch_that_says_nothing_the_bytes_are_the_same() {
    for vector in vectors() {
        let mut out = Vec::new();
        for frame in vector.frames() {
            let mut payload = Vec::new();
            if frame.kind == FrameKind::Header {
                let header = ContentHeader::parse(frame.payload).unwrap();
                if let Some(table) = header.headers() {
                    check_table(table.bytes(), &TableLimits::default()).unwrap();
                }
                HeaderPatch::new().apply(frame.payload, &mut payload).unwrap();
                // A patch that is not empty goes the long way round, and still changes nothing else.
                let mut same_size = HeaderPatch::new();
                same_size.set_body_size(header.body_size).remove_header(b"no such header");
                let mut long_way = Vec::new();
                same_size.apply(frame.payload, &mut long_way).unwrap();
                assert_eq!(long_way, payload, "{}", vector.name);
            } else {
                payload.extend_from_slice(frame.payload);
            }
            write_frame(&mut out, frame.kind, frame.channel, &payload);
        }
        assert_eq!(out, vector.bytes, "{}", vector.name);
    }
}
