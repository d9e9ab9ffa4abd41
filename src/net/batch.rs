//! Messages that a tool publishes together, and what became of each.

use crate::wire::frame::{ChannelId, FrameKind, write_body, write_frame};
use crate::wire::method;

/// The publisher's only channel.
pub(super) const CHANNEL: ChannelId = ChannelId(1);

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The broker has it.
    Confirmed,
    /// It does not: why.
    Kept(String),
}

/// Messages to be published together.
#[derive(Debug, Default)]
pub struct Batch<'a>(pub(super) Vec<Message<'a>>);

/// One of a batch.
#[derive(Debug)]
pub(super) struct Message<'a> {
    method: &'a [u8],
    header: &'a [u8],
    body: &'a [u8],
}

impl<'a> Batch<'a> {
    /// A basic.publish payload, a content header payload, a body.
    pub fn push(&mut self, method: &'a [u8], header: &'a [u8], body: &'a [u8]) {
        self.0.push(Message { method, header, body });
    }
}

impl Message<'_> {
    /// Exchange and routing key.
    pub(super) fn place(&self) -> Option<(&[u8], &[u8])> {
        let (_, args) = method::split(self.method).ok()?;
        method::publish(args).ok().map(|p| (p.exchange, p.routing_key))
    }

    /// Mandatory, so that the broker says where no queue takes it.
    pub(super) fn write(&self, out: &mut Vec<u8>, frame_max: u32) {
        let (exchange, key) = self.place().unwrap_or_default();
        write_frame(out, FrameKind::Method, CHANNEL, &method::write_publish(exchange, key, true));
        write_frame(out, FrameKind::Header, CHANNEL, self.header);
        write_body(out, CHANNEL, self.body, frame_max);
    }
    pub(super) fn unroutable(&self) -> String {
        let (exchange, key) = self.place().unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("no queue takes it (exchange '{}', routing key '{}')", text(exchange), text(key))
    }
}
