//! A small AMQP client that publishes with confirms and says what became of each message. For tools: one connection, one channel,
//! one batch at a time; the proxy's own way is the Hub.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::batch::{Batch, CHANNEL, Fate, Message};
use super::destination::Destination;
use super::spool::Record;
use super::tls::Transport;
use crate::session::spool::{HAS_NEEDS, Needs};
use crate::session::{Authored, Credentials};
use crate::wire::Reader;
use crate::wire::frame::{ChannelId, FrameKind, parse_frame, write_frame};
use crate::wire::method::{self, MethodId, MethodWriter, Tune};

/// From connect to TLS.
const DIAL_MS: u64 = 10_000;
/// Longest silence of a broker that owes an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The frame_max asked for.
const FRAME_MAX: u32 = 131_072;

/// Why a batch did not get all its answers.
enum Stop {
    /// The channel was closed, and is open again.
    Channel(String),
    /// The connection is of no use any more.
    Connection(String),
}

/// See the module.
pub struct Publisher {
    io: Transport,
    inbox: Vec<u8>,
    frame_max: u32,
    next_tag: u64,
    /// Exchanges that were asked for: why one takes nothing.
    exchanges: HashMap<Vec<u8>, Option<String>>,
}

impl Publisher {
    /// Logs in, to the destination's vhost or else this one.
    pub async fn connect(to: &Destination, vhost: &str) -> Result<Self, String> {
        let mut last = "no address".to_owned();
        for url in &to.urls {
            match super::dial::dial(url, to.tls.as_ref(), DIAL_MS).await {
                Ok(io) => {
                    let mut publisher = Self {
                        io,
                        inbox: Vec::new(),
                        frame_max: FRAME_MAX,
                        next_tag: 1,
                        exchanges: HashMap::new(),
                    };
                    let vhost = to.vhost.as_deref().unwrap_or(vhost);
                    publisher.log_in(&to.credentials, vhost).await.map_err(|why| format!("{url}: {why}"))?;
                    return Ok(publisher);
                }
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn log_in(&mut self, credentials: &Credentials, vhost: &str) -> Result<(), String> {
        self.write(b"AMQP\x00\x00\x09\x01").await?;
        self.expect(MethodId::CONNECTION_START).await?;
        let properties = super::settings::our_properties(&super::serve::hostname());
        self.say(
            ChannelId::CONNECTION,
            MethodWriter::new(MethodId::CONNECTION_START_OK)
                .longstr(&properties)
                .shortstr(&credentials.mechanism)
                .longstr(&credentials.response.0)
                .shortstr(b"en_US"),
        )
        .await?;
        let payload = self.expect(MethodId::CONNECTION_TUNE).await?;
        let theirs = method::tune(args(&payload)).map_err(|_| "connection.tune ends early")?;
        if theirs.frame_max > 0 {
            self.frame_max = FRAME_MAX.min(theirs.frame_max);
        }
        let tune = Tune { frame_max: self.frame_max, heartbeat: 0, ..theirs };
        let mut out = Vec::new();
        let frame = method::write_tune(MethodId::CONNECTION_TUNE_OK, tune);
        write_frame(&mut out, FrameKind::Method, ChannelId::CONNECTION, &frame);
        self.write(&out).await?;
        let open = MethodWriter::new(MethodId::CONNECTION_OPEN);
        self.say(ChannelId::CONNECTION, open.shortstr(vhost.as_bytes()).shortstr(b"").octet(0)).await?;
        self.expect(MethodId::CONNECTION_OPEN_OK).await?;
        self.open().await
    }

    async fn open(&mut self) -> Result<(), String> {
        self.next_tag = 1;
        self.say(CHANNEL, MethodWriter::new(MethodId::CHANNEL_OPEN).shortstr(b"")).await?;
        self.expect(MethodId::CHANNEL_OPEN_OK).await?;
        self.say(CHANNEL, MethodWriter::new(MethodId::CONFIRM_SELECT).octet(0)).await?;
        self.expect(MethodId::CONFIRM_SELECT_OK).await.map(drop)
    }

    /// Publishes a batch in order. What became of each, as far as the broker said; and why it said no more.
    pub async fn publish(&mut self, batch: &Batch<'_>) -> (Vec<Option<Fate>>, Result<(), String>) {
        let mut fates = vec![None; batch.0.len()];
        let mut all = Vec::new();
        for (n, message) in batch.0.iter().enumerate() {
            // Asked for first: a publish to one that is missing closes the channel, and with it go the answers to others.
            match self.exchange(message.place().unwrap_or_default().0).await {
                Ok(None) => all.push(n),
                Ok(Some(why)) => {
                    if let Some(fate) = fates.get_mut(n) {
                        *fate = Some(Fate::Kept(why));
                    }
                }
                Err(why) => return (fates, Err(why)),
            }
        }
        let mut result = self.some(batch, &all, &mut fates).await;
        // One of them closes channels. Alone, each costs no other.
        if matches!(result, Err(Stop::Channel(_))) {
            for n in all {
                if fates.get(n).is_some_and(Option::is_some) {
                    continue;
                }
                result = self.some(batch, &[n], &mut fates).await;
                match &result {
                    Err(Stop::Channel(why)) => {
                        if let Some(fate) = fates.get_mut(n) {
                            *fate = Some(Fate::Kept(why.clone()));
                        }
                        result = Ok(());
                    }
                    Err(Stop::Connection(_)) => break,
                    Ok(()) => {}
                }
            }
        }
        let result = result.map_err(|stop| match stop {
            Stop::Channel(why) | Stop::Connection(why) => why,
        });
        (fates, result)
    }

    async fn some(
        &mut self,
        batch: &Batch<'_>,
        which: &[usize],
        fates: &mut [Option<Fate>],
    ) -> Result<(), Stop> {
        let mut out = Vec::new();
        let mut open = BTreeMap::new();
        for n in which {
            let Some(message) = batch.0.get(*n) else { continue };
            message.write(&mut out, self.frame_max);
            open.insert(self.next_tag, (*n, false));
            self.next_tag += 1;
        }
        self.write(&out).await.map_err(Stop::Connection)?;
        while !open.is_empty() {
            let (id, payload) = self.method().await.map_err(Stop::Connection)?;
            match id {
                MethodId::BASIC_ACK | MethodId::BASIC_NACK => {
                    let Ok((tag, multiple)) = method::ack(args(&payload)) else { continue };
                    let later = open.split_off(&(tag + 1));
                    let mut settled = std::mem::replace(&mut open, later);
                    if !multiple && let Some(one) = settled.remove(&tag) {
                        open.append(&mut settled);
                        settled = BTreeMap::from([(tag, one)]);
                    }
                    for (n, returned) in settled.into_values() {
                        let fate = match (id == MethodId::BASIC_ACK, returned) {
                            (true, false) => Fate::Confirmed,
                            (true, true) => {
                                Fate::Kept(batch.0.get(n).map_or_else(String::new, Message::unroutable))
                            }
                            (false, _) => Fate::Kept("the broker refused it (basic.nack)".to_owned()),
                        };
                        if let Some(slot) = fates.get_mut(n) {
                            *slot = Some(fate);
                        }
                    }
                }
                // It carries no tag, and comes before its ack.
                MethodId::BASIC_RETURN => {
                    let place = returned(&payload);
                    let of = |n: usize| batch.0.get(n).and_then(Message::place);
                    if let Some((_, back)) =
                        open.values_mut().find(|(n, back)| !back && place.is_some() && of(*n) == place)
                    {
                        *back = true;
                    }
                }
                MethodId::CHANNEL_CLOSE => {
                    let words = self.reopen(&payload).await.map_err(Stop::Connection)?;
                    return Err(Stop::Channel(words));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Why nothing can be published to this exchange, if so.
    async fn exchange(&mut self, name: &[u8]) -> Result<Option<String>, String> {
        if name.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.exchanges.get(name) {
            return Ok(known.clone());
        }
        const PASSIVE: u8 = 1;
        let declare = MethodWriter::new(MethodId::EXCHANGE_DECLARE).short(0).shortstr(name);
        self.say(CHANNEL, declare.shortstr(b"direct").octet(PASSIVE).longstr(b"")).await?;
        let (id, answer) = self.method().await?;
        let why = if id == MethodId::CHANNEL_CLOSE { Some(self.reopen(&answer).await?) } else { None };
        self.exchanges.insert(name.to_vec(), why.clone());
        Ok(why)
    }

    /// The channel was closed: it is opened again. The broker's words.
    async fn reopen(&mut self, close: &[u8]) -> Result<String, String> {
        self.say(CHANNEL, MethodWriter::new(MethodId::CHANNEL_CLOSE_OK)).await?;
        self.open().await?;
        Ok(words(close))
    }

    /// Publishes what a policy wrote, its places declared first. Kept: the first that was not confirmed.
    pub async fn author(&mut self, authored: &[Authored]) -> Result<Fate, String> {
        for a in authored {
            let there = match &a.target {
                Some(target) => {
                    let methods: Vec<&[u8]> = target.methods.iter().map(Vec::as_slice).collect();
                    self.declare(&methods).await?
                }
                None => true,
            };
            if !there {
                continue;
            }
            let method = method::write_publish(&a.exchange, &a.routing_key, false);
            let mut batch = Batch::default();
            batch.push(&method, &a.header, &a.body);
            let (mut fates, result) = self.publish(&batch).await;
            result?;
            if let Some(Some(Fate::Kept(why))) = fates.pop() {
                return Ok(Fate::Kept(why));
            }
        }
        Ok(Fate::Confirmed)
    }

    /// The publish method of a record, once what must be there first is; where that cannot be, as it was before the policy spoke.
    pub async fn way<'a>(&mut self, record: &'a Record, publish: &'a [u8]) -> Result<&'a [u8], String> {
        if record.flags & HAS_NEEDS == 0 {
            return Ok(publish);
        }
        let Some((needs, declarations)) = Needs::unpack(record.method()) else { return Ok(publish) };
        let there = self.declare(&declarations).await?;
        Ok(if there || needs.otherwise.is_empty() { publish } else { needs.otherwise })
    }

    /// Whether all that was declared is there. What is there with other arguments is there (406).
    pub async fn declare(&mut self, methods: &[&[u8]]) -> Result<bool, String> {
        for payload in methods {
            let mut out = Vec::new();
            write_frame(&mut out, FrameKind::Method, CHANNEL, payload);
            self.write(&out).await?;
            let (id, answer) = self.method().await?;
            if id == MethodId::CHANNEL_CLOSE {
                self.reopen(&answer).await?;
                if method::close(args(&answer)).map_or(0, |c| c.code) != 406 {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let close = method::write_close(MethodId::CONNECTION_CLOSE, 200, "done", MethodId::NONE);
        let mut out = Vec::new();
        write_frame(&mut out, FrameKind::Method, ChannelId::CONNECTION, &close);
        let goodbye = async {
            self.write(&out).await?;
            self.expect(MethodId::CONNECTION_CLOSE_OK).await
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
    }

    async fn say(&mut self, channel: ChannelId, method: MethodWriter) -> Result<(), String> {
        let mut out = Vec::new();
        write_frame(&mut out, FrameKind::Method, channel, &method.done());
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let all = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        match tokio::time::timeout(PATIENCE, all).await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(_) => Err(format!("the broker takes nothing for {} s", PATIENCE.as_secs())),
        }
    }

    async fn expect(&mut self, wanted: MethodId) -> Result<Vec<u8>, String> {
        let (id, payload) = self.method().await?;
        if id == wanted {
            return Ok(payload);
        }
        let said = if id == MethodId::CHANNEL_CLOSE { words(&payload) } else { id.name().to_owned() };
        Err(format!("expected {} and got {said}", wanted.name()))
    }

    /// The next method; contents, heartbeats and what only informs are passed over.
    async fn method(&mut self) -> Result<(MethodId, Vec<u8>), String> {
        loop {
            if let Some(frame) = parse_frame(&self.inbox, self.frame_max).map_err(|e| e.to_string())? {
                let (kind, len, payload) = (frame.kind, frame.wire_len(), frame.payload.to_vec());
                self.inbox.drain(..len);
                if kind != FrameKind::Method {
                    continue;
                }
                let (id, _) = method::split(&payload).map_err(|e| e.to_string())?;
                match id {
                    MethodId::CONNECTION_CLOSE => {
                        self.say(ChannelId::CONNECTION, MethodWriter::new(MethodId::CONNECTION_CLOSE_OK))
                            .await?;
                        return Err(words(&payload));
                    }
                    MethodId::CONNECTION_BLOCKED | MethodId::CONNECTION_UNBLOCKED => continue,
                    _ => return Ok((id, payload)),
                }
            }
            let read = tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.inbox)).await;
            match read {
                Ok(Ok(0)) => return Err("the broker hung up".to_owned()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
            }
        }
    }
}

fn args(payload: &[u8]) -> Reader<'_> {
    method::split(payload).map_or(Reader::new(&[]), |(_, reader)| reader)
}

fn words(payload: &[u8]) -> String {
    method::close(args(payload))
        .map_or_else(|_| "closed".to_owned(), |c| format!("{} {}", c.code, String::from_utf8_lossy(c.text)))
}

/// Exchange and routing key of a basic.return.
fn returned(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = args(payload);
    reader.u16().ok()?;
    reader.shortstr().ok()?;
    Some((reader.shortstr().ok()?, reader.shortstr().ok()?))
}
