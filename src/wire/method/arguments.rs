//! Readers for the arguments of the methods that a proxy looks into.

use super::MethodId;
use crate::wire::reader::{Reader, Short};

/// `connection.start-ok`
#[derive(Debug, Clone, Copy)]
pub struct StartOk<'a> {
    /// The table's bytes, without its length.
    pub client_properties: &'a [u8],
    /// SASL mechanism.
    pub mechanism: &'a [u8],
    /// SASL response: a secret.
    pub response: &'a [u8],
    /// Message locale.
    pub locale: &'a [u8],
}

/// `connection.tune` and `connection.tune-ok`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tune {
    /// Highest channel number, 0: no limit.
    pub channel_max: u16,
    /// Largest frame in octets, 0: no limit.
    pub frame_max: u32,
    /// Seconds, 0: none.
    pub heartbeat: u16,
}

/// `connection.close` and `channel.close`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'a> {
    /// Reply code (AMQP 0-9-1 §1.8).
    pub code: u16,
    /// Reply text.
    pub text: &'a [u8],
    /// The method at fault, or `NONE`.
    pub cause: MethodId,
}

/// `basic.publish`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Empty: the default exchange.
    pub exchange: &'a [u8],
    /// Routing key.
    pub routing_key: &'a [u8],
    /// Return what cannot be routed.
    pub mandatory: bool,
    /// Refused by every RabbitMQ since 3.0.
    pub immediate: bool,
}

/// The first arguments of `queue.declare`, `queue.bind`, … : a reserved short, then the queue's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueNamed<'a> {
    /// The queue's name; empty: the last one declared on the channel.
    pub queue: &'a [u8],
    /// What follows the name, verbatim.
    pub rest: &'a [u8],
}

/// `connection.start`, as a client reads it.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The table's bytes, without its length.
    pub server_properties: &'a [u8],
    /// SASL mechanisms, separated by spaces.
    pub mechanisms: &'a [u8],
    /// Message locales, separated by spaces.
    pub locales: &'a [u8],
}

/// Reads a `connection.start`'s arguments.
pub fn start<'a>(mut r: Reader<'a>) -> Result<Start<'a>, Short> {
    r.u16()?;
    Ok(Start { server_properties: r.longstr()?, mechanisms: r.longstr()?, locales: r.longstr()? })
}

/// Reads a `connection.start-ok`'s arguments.
pub fn start_ok<'a>(mut r: Reader<'a>) -> Result<StartOk<'a>, Short> {
    Ok(StartOk {
        client_properties: r.longstr()?,
        mechanism: r.shortstr()?,
        response: r.longstr()?,
        locale: r.shortstr()?,
    })
}

/// Reads the arguments of `connection.tune` and `connection.tune-ok`.
pub fn tune(mut r: Reader<'_>) -> Result<Tune, Short> {
    Ok(Tune { channel_max: r.u16()?, frame_max: r.u32()?, heartbeat: r.u16()? })
}

/// Reads the arguments of `connection.close` and `channel.close`.
pub fn close<'a>(mut r: Reader<'a>) -> Result<Close<'a>, Short> {
    Ok(Close { code: r.u16()?, text: r.shortstr()?, cause: MethodId(r.u32()?) })
}

/// Reads a `basic.publish`'s arguments.
#[inline]
pub fn publish<'a>(mut r: Reader<'a>) -> Result<Publish<'a>, Short> {
    r.u16()?;
    let (exchange, routing_key, bits) = (r.shortstr()?, r.shortstr()?, r.u8()?);
    Ok(Publish { exchange, routing_key, mandatory: bits & 1 != 0, immediate: bits & 2 != 0 })
}

/// Reads the delivery tag and the bits of `basic.ack` and `basic.nack`.
#[inline]
pub fn ack(mut r: Reader<'_>) -> Result<(u64, bool), Short> {
    let (tag, bits) = (r.u64()?, r.u8()?);
    Ok((tag, bits & 1 != 0))
}

/// Reads a reserved short and a queue's name.
pub fn queue_named<'a>(mut r: Reader<'a>) -> Result<QueueNamed<'a>, Short> {
    r.u16()?;
    let queue = r.shortstr()?;
    Ok(QueueNamed { queue, rest: r.rest() })
}
