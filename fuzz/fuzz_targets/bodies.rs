//! The readers of protocol 1's four serializers: no panic, bounded, and an expiry that is set is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel::celery::rewrite::set_expires_plain;
use umbel::celery::{BodyLimits, Publish, Reading, Serializer, read};
use umbel::wire::{ContentHeader, NewHeader};

const AT: i64 = 2_209_086_245_123_456;

fuzz_target!(|input: (u8, &[u8])| {
    let (which, body) = input;
    let (serializer, content_type) = match which % 4 {
        0 => (Serializer::Json, "application/json"),
        1 => (Serializer::Msgpack, "application/x-msgpack"),
        2 => (Serializer::Yaml, "application/x-yaml"),
        _ => (Serializer::Pickle, "application/x-python-serialize"),
    };
    let limits = BodyLimits { pickle_items: 1 << 12, ..BodyLimits::default() };
    let mut payload = Vec::new();
    NewHeader { content_type: Some(content_type.as_bytes()), ..NewHeader::default() }.write(&mut payload);
    let header = ContentHeader::parse(&payload).expect("a header of our own");
    let whole = [body];
    let publish = Publish { exchange: b"", routing_key: b"", header: &header, body: &whole };
    let before = read(&publish, &limits);
    let Ok(patched) = set_expires_plain(serializer, body, AT, &limits) else { return };
    let pieces = [&patched[..]];
    let after = read(&Publish { body: &pieces, ..publish }, &limits);
    if let (Reading::Task(before), Reading::Task(after)) = (&before, &after) {
        assert_eq!((before.name(), before.id()), (after.name(), after.id()));
        assert!(after.expires_at() == Some(AT));
    }
});
