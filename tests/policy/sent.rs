//! One task on the wire, and what a policy made of it.

use std::net::IpAddr;

use umbel::celery::{BodyLimits, Publish, Reading, read, time};
use umbel::config::{Config, Nothing};
use umbel::policy::edit::{Means, Packed, edit};
use umbel::policy::{Context, Memo, Message, Verdict};
use umbel::wire::ContentHeader;
use umbel::wire::props::NewHeader;
use umbel::wire::table::{TableWriter, Value};

/// 2026-11-22T00:00:00Z.
pub const NOW: i64 = 1_795_305_600_000_000;

pub const SECOND: i64 = 1_000_000;

/// One task on the wire, changed as a test needs it.
pub struct Sent {
    pub exchange: &'static str,
    pub routing_key: &'static str,
    pub task: &'static str,
    pub priority: Option<u8>,
    pub eta: Option<i64>,
    pub expires: Option<i64>,
    pub expiration: Option<&'static str>,
    pub compression: Option<&'static str>,
    pub body: Vec<u8>,
    pub user: &'static str,
    pub client: &'static str,
    pub random: u64,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            exchange: "",
            routing_key: "celery",
            task: "shop.checkout",
            priority: Some(0),
            eta: None,
            expires: None,
            expiration: None,
            compression: None,
            body: b"[[], {}, {}]".to_vec(),
            user: "guest",
            client: "127.0.0.1",
            random: 0,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Seen {
    pub exchange: String,
    pub routing_key: String,
    pub priority: Option<u8>,
    pub expires: Option<i64>,
    pub ttl_ms: Option<u64>,
    pub route: Option<String>,
    pub verdict: String,
    pub packed: Packed,
    pub body: Vec<u8>,
    pub compression: Option<Vec<u8>>,
}

pub fn policy(toml: &str) -> Config {
    Config::parse(toml, &Nothing).unwrap_or_else(|p| panic!("{}", p.in_file("test")))
}

impl Sent {
    pub fn header(&self) -> Vec<u8> {
        let mut table =
            TableWriter::new().str("lang", b"py").str("task", self.task.as_bytes()).str("id", b"an-id");
        let moment = |at: Option<i64>| at.map(time::format);
        let (eta, expires) = (moment(self.eta), moment(self.expires));
        table = table.with("eta", eta.as_ref().map_or(Value::Void, |t| Value::Str(t.as_bytes())));
        table = table.with("expires", expires.as_ref().map_or(Value::Void, |t| Value::Str(t.as_bytes())));
        table = table.with("retries", Value::I32(0)).str("tenant", b"acme");
        if let Some(compression) = self.compression {
            table = table.str("compression", compression.as_bytes());
        }
        let mut payload = Vec::new();
        NewHeader {
            body_size: self.body.len() as u64,
            content_type: Some(b"application/json"),
            headers: Some(table.table()),
            delivery_mode: Some(2),
            priority: self.priority,
            expiration: self.expiration.map(str::as_bytes),
            ..NewHeader::default()
        }
        .write(&mut payload);
        payload
    }

    pub fn judged<T>(
        &self,
        config: &Config,
        memo: &mut Memo,
        then: impl FnOnce(&Verdict<'_>, &Message<'_>, &[u8], &Context<'_>) -> T,
    ) -> T {
        let payload = self.header();
        let header = ContentHeader::parse(&payload).unwrap();
        let (exchange, routing_key) = (self.exchange.as_bytes(), self.routing_key.as_bytes());
        let body = [self.body.as_slice()];
        let publish = Publish { exchange, routing_key, header: &header, body: &body };
        let limits = BodyLimits::default();
        let Reading::Task(task) = read(&publish, &limits) else { panic!("not a task") };
        let message = Message { exchange, routing_key, header: &header, task: Some(&task) };
        let client: IpAddr = self.client.parse().unwrap();
        let context = Context { vhost: b"/", user: self.user, client, now: NOW, random: self.random };
        let verdict = config.policy.judge(memo, &context, &message);
        then(&verdict, &message, &payload, &context)
    }

    pub fn through(&self, toml: &str) -> Seen {
        let config = policy(toml);
        self.judged(&config, &mut Memo::new(), |verdict, message, payload, _| {
            let place =
                verdict.edits.place(message.exchange).unwrap_or((message.exchange, message.routing_key));
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let edited = edit(&verdict.edits, message, payload, &[&self.body], &Means::default()).unwrap();
            let header_bytes = edited.header.as_deref().unwrap_or(payload);
            let header = ContentHeader::parse(header_bytes).unwrap();
            let body = edited.body.unwrap_or_else(|| self.body.clone());
            assert_eq!(header.body_size, body.len() as u64);
            Seen {
                exchange: text(place.0),
                routing_key: text(place.1),
                priority: header.priority(),
                expires: verdict.edits.expires,
                ttl_ms: verdict.edits.ttl_ms,
                route: verdict.because.route.map(|by| config.policy.name_of(by)),
                verdict: format!("{:?}", verdict.fate),
                packed: edited.packed,
                compression: header
                    .headers()
                    .and_then(|t| t.get(b"compression"))
                    .and_then(|v| v.str_bytes())
                    .map(<[u8]>::to_vec),
                body,
            }
        })
    }
}

pub fn rule(body: &str) -> String {
    format!("[[rules]]\nname = \"r\"\n{body}\n")
}
