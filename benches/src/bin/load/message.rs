//! Encoded publishes, one after the other, repeated to fill large writes.

use std::io;

use umbel_bench::args::Args;

use crate::WRITE_BYTES;

/// See the module.
pub struct Message {
    pub bytes: Vec<u8>,
    /// Of one publish.
    pub len: usize,
}

impl Message {
    pub fn read(args: &Args) -> io::Result<Self> {
        let one = std::fs::read(args.text("message", "message.bin"))?;
        let len = args.number("size", one.len());
        assert!(len > 0 && one.len() % len == 0, "publishes of one length");
        let mut bytes = one.clone();
        while bytes.len() < WRITE_BYTES {
            bytes.extend_from_slice(&one);
        }
        Ok(Self { bytes, len })
    }
}
