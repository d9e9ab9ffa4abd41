//! Decompression of anything ends, within its bounds; what was compressed comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel::celery::BodyLimits;
use umbel::celery::compression::{Codec, Effort, compress, decompress, is_plain};

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    let codec = Codec::ALL[usize::from(which) % Codec::ALL.len()];
    let limits = BodyLimits { decompressed_bytes: 1 << 20, ..BodyLimits::default() };
    if let Ok(out) = decompress(codec, &[bytes], &limits) {
        assert!(out.len() <= limits.decompressed_bytes);
    }
    let mut packed = Vec::new();
    let effort = Effort { brotli_quality: 1, zstd_level: 1 };
    compress(codec, effort, &[bytes], &mut packed).expect("anything can be compressed");
    assert!(!is_plain(codec, &[&packed], &limits));
    assert_eq!(decompress(codec, &[&packed], &limits).as_deref(), Ok(bytes));
});
