//! Any publish is read as something, whatever its header and body are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel::celery::{BodyLimits, Publish, Reading, delayed, read};
use umbel::wire::ContentHeader;

fuzz_target!(|input: (&[u8], &[u8], &[u8], u8)| {
    let (routing_key, payload, body, cut) = input;
    let (prefix, suffix) = delayed::split(routing_key);
    assert_eq!([prefix, suffix].concat(), routing_key);
    let Ok(header) = ContentHeader::parse(payload) else { return };
    let pieces = body.split_at(usize::from(cut).min(body.len()));
    let publish = Publish { exchange: b"", routing_key, header: &header, body: &[pieces.0, pieces.1] };
    let limits = BodyLimits { decompressed_bytes: 1 << 20, ..BodyLimits::default() };
    let in_pieces = read(&publish, &limits);
    if let Reading::Task(task) = &in_pieces {
        let _ = (task.name(), task.expires_at(), task.eta_at(), task.codec());
    }
    assert_eq!(in_pieces, read(&Publish { body: &[body], ..publish }, &limits));
});
