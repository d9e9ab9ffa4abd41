//! Messages of every shape, alone and many alike in a row.

use proptest::prelude::*;
use umbel::wire::frame::{ChannelId, FrameKind, write_frame};
use umbel::wire::method::{MethodId, MethodWriter};
use umbel::wire::{NewHeader, TableWriter};

#[derive(Debug, Clone)]
pub struct Message {
    pub key: &'static str,
    pub exchange: &'static str,
    pub ticket: u16,
    pub bits: u8,
    /// Octets of each body frame.
    pub body: Vec<usize>,
    pub headers: u8,
    /// So many of it, one behind the other, with other words of the same length in them; every so many-th with longer ones.
    pub times: usize,
    pub longer: usize,
}

impl Default for Message {
    fn default() -> Self {
        Self { key: "pass", exchange: "", ticket: 0, bits: 0, body: vec![5], headers: 0, times: 1, longer: 9 }
    }
}

pub fn publish(out: &mut Vec<u8>, channel: u16, m: &Message) {
    (0..m.times).for_each(|n| publish_one(out, channel, m, n));
}

fn publish_one(out: &mut Vec<u8>, channel: u16, m: &Message, n: usize) {
    let method = MethodWriter::new(MethodId::BASIC_PUBLISH).short(m.ticket).shortstr(m.exchange.as_bytes());
    let method = method.shortstr(m.key.as_bytes()).octet(m.bits).done();
    write_frame(out, FrameKind::Method, ChannelId(channel), &method);
    let words = format!("{:03}{}", n % 1000, if n % m.longer == m.longer - 1 { "longer" } else { "" });
    let word = |h: u8| if usize::from(h) == n % 7 || h > 30 { b"\xff\xfe\xfd" } else { words.as_bytes() };
    let table = (0..m.headers).fold(TableWriter::new(), |t, h| t.str(&format!("h{h}"), word(h)));
    let mut header = Vec::new();
    let body_size = m.body.iter().sum::<usize>() as u64;
    let headers = (m.headers > 0).then(|| table.table());
    let correlation_id = (m.headers % 2 == 1).then_some(words.as_bytes());
    NewHeader { body_size, headers, correlation_id, delivery_mode: Some(2), ..NewHeader::default() }
        .write(&mut header);
    write_frame(out, FrameKind::Header, ChannelId(channel), &header);
    for &size in &m.body {
        write_frame(out, FrameKind::Body, ChannelId(channel), &vec![n.to_le_bytes()[0]; size]);
    }
}

pub fn message() -> impl Strategy<Value = Message> {
    let key = prop::sample::select(vec![
        "pass", "pass", "pass", "moved", "moved", "awaited", "watched", "shorter", "kept", "loose", "nacked",
        "dropped", "refused",
    ]);
    // The rare ones end the channel or the connection: most worlds have few of them.
    let key = prop_oneof![9 => key.prop_filter("rare", |k| *k != "refused"), 1 => Just("refused")];
    let bits = prop_oneof![20 => Just(0_u8), 4 => Just(1), 1 => Just(2)];
    let body = prop_oneof![
        prop::collection::vec(1_usize..3000, 0..10),
        prop::collection::vec(1_usize..40, 0..2),
        Just(vec![1000]),
    ];
    let exchange = prop::sample::select(vec!["", "", "known", "other"]);
    let times = prop_oneof![3 => Just(1_usize), 1 => 2_usize..200];
    (key, exchange, prop::sample::select(vec![0_u16, 0, 7]), bits, body, 0_u8..40, times, 1_usize..50)
        .prop_map(|(key, exchange, ticket, bits, body, headers, times, longer)| Message {
            key,
            exchange,
            ticket,
            bits,
            body,
            headers,
            times,
            longer,
        })
}
