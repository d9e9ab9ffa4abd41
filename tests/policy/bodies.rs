//! Compression, its repair, and edits that say nothing (SPEC P5, T1).

use umbel::policy::Memo;
use umbel::policy::edit::{Means, Packed, edit};

use super::sent::{Sent, policy, rule};

#[test]
fn a_big_body_is_compressed_once_and_a_small_or_a_stubborn_one_never() {
    let toml = rule("match = { size_over = \"1KiB\" }\ncompression = { codec = \"zlib\" }");
    let big = || Sent { body: vec![b'a'; 4096], ..Sent::default() };
    let seen = big().through(&toml);
    assert_eq!(seen.compression.as_deref(), Some(&b"application/x-gzip"[..]));
    assert!(seen.body.len() < 100);
    let again =
        Sent { body: seen.body, compression: Some("application/x-gzip"), ..Sent::default() }.through(&toml);
    assert_eq!(again.packed, Packed::Untouched);
    assert_eq!(Sent::default().through(&toml).packed, Packed::Untouched);
    let noise: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let zipped = Sent { body: noise, ..Sent::default() }.through(&toml);
    assert!(zipped.packed == Packed::NotSmaller || zipped.body.len() < 4096);
}

#[test]
fn a_plain_body_under_a_compression_header_is_repaired() {
    let sent = || Sent { compression: Some("application/x-gzip"), ..Sent::default() };
    let seen = sent().through(&rule("compression = { repair = true }"));
    assert_eq!((seen.packed, seen.compression), (Packed::Repaired, None));
    let left = sent().through(&rule("compression = { codec = \"zlib\", repair = false }"));
    assert_eq!(left.packed, Packed::Untouched);
}

#[test]
fn a_body_is_decompressed_for_workers_that_lack_the_codec() {
    let packed = Sent { body: vec![b'a'; 4096], ..Sent::default() }
        .through(&rule("compression = { codec = \"zstd\" }"));
    let sent = Sent { body: packed.body, compression: Some("application/zstd"), ..Sent::default() };
    let seen = sent.through(&rule("compression = { codec = \"none\" }"));
    assert_eq!((seen.body, seen.compression), (vec![b'a'; 4096], None));
}

#[test]
fn an_edit_that_says_nothing_leaves_the_header_alone() {
    let sent = Sent::default();
    sent.judged(&policy(""), &mut Memo::new(), |verdict, message, payload, _| {
        let edited = edit(&verdict.edits, message, payload, &[&sent.body], &Means::default()).unwrap();
        assert_eq!((edited.header, edited.body), (None, None));
    });
}
