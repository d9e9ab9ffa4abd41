//! A judge under a policy, captured messages to bring before it, and its numbers.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use umbel::celery::{self, BodyLimits, Reading};
use umbel::config::{Config, Nothing};
use umbel::metrics::Metrics;
use umbel::net::judge::{PolicyJudge, Snapshot};
use umbel::session::{Decision, Edited, Judge, Now, PublishView, SessionFacts, Settled};
use umbel::wire::frame::parse_frame;
use umbel::wire::method;
use umbel::wire::{ContentHeader, HeaderPatch, TableLimits};

pub const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vectors");

/// 2026-11-22T07:00:00Z: the captures' own day.
pub const CAPTURED_US: i64 = 1_795_330_800_000_000;

/// 2050-01-01T00:00:00Z: everything that can expire has.
pub const LATER_US: i64 = 2_524_608_000_000_000;

/// A captured publish.
#[derive(Clone)]
pub struct Message {
    pub name: String,
    pub exchange: Vec<u8>,
    pub routing_key: Vec<u8>,
    pub header: Vec<u8>,
    pub body: Vec<Vec<u8>>,
}

pub fn message(name: &str) -> Message {
    let text = std::fs::read(Path::new(VECTORS).join(format!("{name}.json"))).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    let unhex = |hex: &Value| -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let bytes: Vec<u8> = json["frames_hex"].as_array().unwrap().iter().flat_map(unhex).collect();
    let mut payloads = Vec::new();
    let mut rest = &bytes[..];
    while let Some(frame) = parse_frame(rest, 0).unwrap() {
        payloads.push(frame.payload.to_vec());
        rest = &rest[frame.wire_len()..];
    }
    let (_, arguments) = method::split(&payloads[0]).unwrap();
    let publish = method::publish(arguments).unwrap();
    Message {
        name: name.to_owned(),
        exchange: publish.exchange.to_vec(),
        routing_key: publish.routing_key.to_vec(),
        header: payloads[1].clone(),
        body: payloads[2..].to_vec(),
    }
}

pub fn every_message() -> Vec<Message> {
    let index = std::fs::read(Path::new(VECTORS).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    index.as_array().unwrap().iter().map(|entry| message(entry["name"].as_str().unwrap())).collect()
}

impl Message {
    pub fn patched(mut self, patch: &HeaderPatch) -> Self {
        let before = std::mem::take(&mut self.header);
        patch.apply(&before, &mut self.header).unwrap();
        self
    }

    pub fn whole_body(&self) -> Vec<u8> {
        self.body.concat()
    }

    pub fn is_task(&self) -> bool {
        let header = ContentHeader::parse(&self.header).unwrap();
        let body: Vec<&[u8]> = self.body.iter().map(Vec::as_slice).collect();
        let publish = celery::Publish {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            header: &header,
            body: &body,
        };
        matches!(celery::read(&publish, &BodyLimits::default()), Reading::Task(_))
    }
}

/// A judge under a policy, and its numbers.
pub struct Court {
    pub judge: PolicyJudge,
    pub metrics: Arc<Metrics>,
    pub confirms: bool,
    pub wall_us: i64,
}

pub fn court(policy: &str) -> Court {
    let metrics = Arc::new(Metrics::new(100));
    Court {
        judge: PolicyJudge::new(snapshot(policy), Arc::clone(&metrics), 7),
        metrics,
        confirms: true,
        wall_us: CAPTURED_US,
    }
}

pub fn snapshot(policy: &str) -> Arc<Snapshot> {
    let config = Config::parse(policy, &Nothing).unwrap_or_else(|problems| panic!("{problems:?}"));
    Arc::new(Snapshot::new(Arc::new(config)))
}

impl Court {
    pub fn at(mut self, wall_us: i64) -> Self {
        self.wall_us = wall_us;
        self
    }

    pub fn without_confirms(mut self) -> Self {
        self.confirms = false;
        self
    }

    pub fn view<T>(
        &mut self,
        message: &Message,
        ask: impl FnOnce(&mut PolicyJudge, Now, &PublishView<'_>) -> T,
    ) -> T {
        let header = ContentHeader::parse(&message.header).unwrap();
        let body: Vec<&[u8]> = message.body.iter().map(Vec::as_slice).collect();
        let view = PublishView {
            session: SessionFacts {
                vhost: b"/",
                user: "shop",
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                confirms: self.confirms,
                frame_max: 8192,
            },
            exchange: &message.exchange,
            routing_key: &message.routing_key,
            mandatory: false,
            header: &header,
            header_payload: &message.header,
            body: &body,
        };
        ask(&mut self.judge, Now { ms: 0, wall_us: self.wall_us }, &view)
    }

    pub fn judge(&mut self, message: &Message) -> Decision {
        self.view(message, |judge, now, view| {
            let decision = judge.judge(now, view);
            judge.rest(now);
            decision
        })
    }

    pub fn edited(&mut self, message: &Message) -> Edited {
        match self.judge(message) {
            Decision::Edit(edited) => std::rc::Rc::unwrap_or_clone(edited),
            other => panic!("{}: {other:?}", message.name),
        }
    }

    pub fn settled(&mut self, message: &Message) -> Settled {
        match self.judge(message) {
            Decision::Settle(settled) => *settled,
            other => panic!("{}: {other:?}", message.name),
        }
    }

    pub fn passes(&mut self, message: &Message) -> bool {
        matches!(self.judge(message), Decision::Pass)
    }

    /// All series of a family added up.
    pub fn sum(&self, family: &str) -> usize {
        let rendered = self.metrics.render();
        let of_family = rendered.lines().filter(|line| line.starts_with(&format!("{family}{{")));
        of_family.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum()
    }

    pub fn counts(&self, series: &str) -> bool {
        let rendered = self.metrics.render();
        rendered.lines().any(|line| line == series)
    }
}

/// A rule of one line for every task, wherever the producer sent it.
pub fn rule(says: &str) -> String {
    format!("[[rules]]\nname = \"r\"\n{says}\n")
}

pub fn names(methods: &[Vec<u8>]) -> Vec<&'static str> {
    methods.iter().map(|m| method::check(m, &TableLimits::default()).unwrap().name).collect()
}
