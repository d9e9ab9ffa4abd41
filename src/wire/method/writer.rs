//! Methods that we say ourselves, argument by argument.

use super::{MethodId, Tune};
use crate::wire::num::u32_clamped;

/// Writes methods' payloads field by field.
#[derive(Debug, Clone, Default)]
pub struct MethodWriter(Vec<u8>);

impl MethodWriter {
    /// Starts with the method's number.
    #[must_use]
    pub fn new(id: MethodId) -> Self {
        // Room for an ack, and for most publishes: one allocation.
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(&id.0.to_be_bytes());
        Self(bytes)
    }

    /// One octet, or packed bits.
    #[must_use]
    pub fn octet(mut self, v: u8) -> Self {
        self.0.push(v);
        self
    }

    /// 16 bits.
    #[must_use]
    pub fn short(mut self, v: u16) -> Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// 32 bits.
    #[must_use]
    pub fn long(mut self, v: u32) -> Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// 64 bits.
    #[must_use]
    pub fn longlong(mut self, v: u64) -> Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// A short string, cut at 255 bytes.
    #[must_use]
    pub fn shortstr(mut self, v: &[u8]) -> Self {
        let v = v.get(..255).unwrap_or(v);
        self.0.push(u8::try_from(v.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(v);
        self
    }

    /// A long string, or a table's bytes.
    #[must_use]
    pub fn longstr(mut self, v: &[u8]) -> Self {
        self.0.extend_from_slice(&u32_clamped(v.len()).to_be_bytes());
        self.0.extend_from_slice(v);
        self
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, v: &[u8]) -> Self {
        self.0.extend_from_slice(v);
        self
    }

    /// The payload.
    #[must_use]
    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// A `basic.publish` payload.
#[must_use]
pub fn write_publish(exchange: &[u8], routing_key: &[u8], mandatory: bool) -> Vec<u8> {
    MethodWriter::new(MethodId::BASIC_PUBLISH)
        .short(0)
        .shortstr(exchange)
        .shortstr(routing_key)
        .octet(u8::from(mandatory))
        .done()
}

/// A `connection.close` or `channel.close` payload; a text over 255 bytes is cut between characters.
#[must_use]
pub fn write_close(id: MethodId, code: u16, text: &str, cause: MethodId) -> Vec<u8> {
    let end = (0..=text.len().min(255)).rev().find(|&n| text.is_char_boundary(n)).unwrap_or(0);
    let text = text.get(..end).unwrap_or(text);
    MethodWriter::new(id).short(code).shortstr(text.as_bytes()).long(cause.0).done()
}

/// A `connection.tune` or `connection.tune-ok` payload.
#[must_use]
pub fn write_tune(id: MethodId, tune: Tune) -> Vec<u8> {
    MethodWriter::new(id).short(tune.channel_max).long(tune.frame_max).short(tune.heartbeat).done()
}
