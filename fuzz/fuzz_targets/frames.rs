//! Frames in any chunking decode alike, and what was decoded is written as it came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel::wire::frame::{parse_frame, write_frame};

const FRAME_MAX: u32 = 4096;

/// Every frame of `stream`, framed again, and how the stream ended.
fn decode(stream: &[u8], piece: usize) -> (Vec<u8>, bool) {
    let mut buffer = Vec::new();
    let mut out = Vec::new();
    for part in stream.chunks(piece) {
        buffer.extend_from_slice(part);
        loop {
            let used = match parse_frame(&buffer, FRAME_MAX) {
                Ok(None) => break,
                Err(_) => return (out, true),
                Ok(Some(frame)) => {
                    write_frame(&mut out, frame.kind, frame.channel, frame.payload);
                    frame.wire_len()
                }
            };
            buffer.drain(..used);
        }
    }
    (out, false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, stream) = input;
    let (whole, failed) = decode(stream, stream.len().max(1));
    assert_eq!(decode(stream, usize::from(piece).max(1)), (whole.clone(), failed));
    assert!(stream.starts_with(&whole));
});
