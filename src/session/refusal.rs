//! Refusals in the broker's words: code, text and scope. The scope is in the type, so one `match` decides what dies.

use std::borrow::Cow;

use crate::wire::method::MethodId;

/// What a refusal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// channel.close
    Channel,
    /// connection.close
    Connection,
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it ends.
    pub scope: Scope,
    /// Reply code (AMQP 0-9-1 §1.8).
    pub code: u16,
    /// Reply text without the code's name, as RabbitMQ words it.
    pub text: Cow<'static, str>,
    /// The method at fault.
    pub cause: MethodId,
}

impl Refusal {
    /// Of the whole connection.
    #[must_use]
    pub fn connection(code: u16, text: impl Into<Cow<'static, str>>, cause: MethodId) -> Self {
        Self { scope: Scope::Connection, code, text: text.into(), cause }
    }

    /// Of one channel.
    #[must_use]
    pub fn channel(code: u16, text: impl Into<Cow<'static, str>>, cause: MethodId) -> Self {
        Self { scope: Scope::Channel, code, text: text.into(), cause }
    }

    /// A content frame where only a method may stand.
    #[must_use]
    pub fn no_method() -> Self {
        Self::connection(505, "expected method frame, got non method frame instead", MethodId::NONE)
    }

    /// `NOT_FOUND - no exchange …`, as it goes on the wire.
    #[must_use]
    pub fn reply_text(&self) -> String {
        if self.text.is_empty() {
            reply_name(self.code).to_owned()
        } else {
            format!("{} - {}", reply_name(self.code), self.text)
        }
    }
}

/// The name of a reply code, as RabbitMQ spells it.
#[must_use]
pub const fn reply_name(code: u16) -> &'static str {
    match code {
        200 => "OK",
        311 => "CONTENT_TOO_LARGE",
        312 => "NO_ROUTE",
        313 => "NO_CONSUMERS",
        320 => "CONNECTION_FORCED",
        402 => "INVALID_PATH",
        403 => "ACCESS_REFUSED",
        404 => "NOT_FOUND",
        405 => "RESOURCE_LOCKED",
        406 => "PRECONDITION_FAILED",
        501 => "FRAME_ERROR",
        502 => "SYNTAX_ERROR",
        503 => "COMMAND_INVALID",
        504 => "CHANNEL_ERROR",
        505 => "UNEXPECTED_FRAME",
        506 => "RESOURCE_ERROR",
        530 => "NOT_ALLOWED",
        540 => "NOT_IMPLEMENTED",
        _ => "INTERNAL_ERROR",
    }
}
