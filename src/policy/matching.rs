//! A rule's conditions: all that are given must hold; a list means any of.

use std::net::IpAddr;

use super::network::Network;
use super::pattern::Names;
use crate::celery::{Protocol, Task};
use crate::wire::{ContentHeader, Value};

/// Who publishes, and when.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The client's vhost.
    pub vhost: &'a [u8],
    /// The name that it logged in with.
    pub user: &'a str,
    /// Its address.
    pub client: IpAddr,
    /// Microseconds since the epoch.
    pub now: i64,
    /// Any number, a new one each time: for weights.
    pub random: u64,
}

/// One publish, as policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The exchange as the client named it.
    pub exchange: &'a [u8],
    /// The routing key as the client named it.
    pub routing_key: &'a [u8],
    /// The content header; its table must have been checked.
    pub header: &'a ContentHeader<'a>,
    /// What the task says of itself; none: not a task.
    pub task: Option<&'a Task<'a>>,
}

/// A bound or a list of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbers {
    /// Any of these.
    AnyOf(Vec<i64>),
    /// From and to, both included.
    Within(i64, i64),
}

impl Numbers {
    fn matches(&self, number: i64) -> bool {
        match self {
            Self::AnyOf(list) => list.contains(&number),
            Self::Within(low, high) => (*low..=*high).contains(&number),
        }
    }
}

/// A condition on one header.
#[derive(Debug, Clone)]
pub enum HeaderTest {
    /// A string, or a number or a boolean as Python prints it, that is one of these names.
    Is(Names),
    /// There, whatever it says, unless null; or not.
    Present(bool),
}

/// Which messages a rule is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Traffic {
    /// Tasks.
    #[default]
    Tasks,
    /// Everything but tasks. Only admission can speak of those (T4).
    Other,
    /// Both.
    Any,
}

/// The conditions.
#[derive(Debug, Clone, Default)]
pub struct Match {
    /// Task name.
    pub task: Option<Names>,
    /// The queue it is meant for.
    pub queue: Option<Names>,
    /// Exchange.
    pub exchange: Option<Names>,
    /// Routing key, without a delayed delivery's bits.
    pub routing_key: Option<Names>,
    /// Virtual host.
    pub vhost: Option<Names>,
    /// User name.
    pub user: Option<Names>,
    /// Client address.
    pub client: Option<Vec<Network>>,
    /// Headers, each of which must pass.
    pub headers: Vec<(String, HeaderTest)>,
    /// Content type.
    pub content_type: Option<Names>,
    /// Body longer than this.
    pub size_over: Option<u64>,
    /// Body shorter than this.
    pub size_under: Option<u64>,
    /// Priority; absent counts as 0.
    pub priority: Option<Numbers>,
    /// Retries; absent counts as 0.
    pub retries: Option<Numbers>,
    /// Whether it has an eta.
    pub eta: Option<bool>,
    /// Whether it has an expiry.
    pub expires: Option<bool>,
    /// Message protocol.
    pub protocol: Option<Protocol>,
    /// Whether the body goes compressed.
    pub compressed: Option<bool>,
    /// Tasks, or other messages.
    pub traffic: Traffic,
}

impl Match {
    /// Whether it holds for every task.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.only_task() && self.task.is_none() && !matches!(self.traffic, Traffic::Other)
    }

    /// Whether nothing but the task's name is asked.
    #[must_use]
    pub const fn only_task(&self) -> bool {
        self.queue.is_none()
            && self.exchange.is_none()
            && self.routing_key.is_none()
            && self.vhost.is_none()
            && self.user.is_none()
            && self.client.is_none()
            && self.headers.is_empty()
            && self.content_type.is_none()
            && self.size_over.is_none()
            && self.size_under.is_none()
            && self.priority.is_none()
            && self.retries.is_none()
            && self.eta.is_none()
            && self.expires.is_none()
            && self.protocol.is_none()
            && self.compressed.is_none()
    }

    /// Whether the conditions but the task's name hold. `queue` and `key` are where the message is meant to go, delay bits left out.
    #[must_use]
    pub fn holds(
        &self,
        context: &Context<'_>,
        message: &Message<'_>,
        queue: Option<&[u8]>,
        key: &[u8],
    ) -> bool {
        let named = |names: &Option<Names>, name: &[u8]| names.as_ref().is_none_or(|n| n.matches(name));
        let size = message.header.body_size;
        self.size_over.is_none_or(|n| size > n)
            && self.size_under.is_none_or(|n| size < n)
            && self.queue.as_ref().is_none_or(|n| queue.is_some_and(|q| n.matches(q)))
            && named(&self.exchange, message.exchange)
            && named(&self.routing_key, key)
            && named(&self.vhost, context.vhost)
            && named(&self.user, context.user.as_bytes())
            && self.client.as_ref().is_none_or(|list| list.iter().any(|n| n.contains(context.client)))
            && self
                .content_type
                .as_ref()
                .is_none_or(|n| message.header.content_type().is_some_and(|t| n.matches(t)))
            && self.priority.as_ref().is_none_or(|n| n.matches(message.header.priority().unwrap_or(0).into()))
            && self.task_holds(message.task)
            && self.headers.iter().all(|(name, test)| test.holds(message.header, name))
    }

    fn task_holds(&self, task: Option<&Task<'_>>) -> bool {
        let Some(task) = task else {
            return self.retries.is_none()
                && self.eta.is_none()
                && self.expires.is_none()
                && self.protocol.is_none();
        };
        self.retries.as_ref().is_none_or(|n| n.matches(task.retries().unwrap_or(0)))
            && self.eta.is_none_or(|wanted| task.eta().is_stated() == wanted)
            && self.expires.is_none_or(|wanted| task.expires().is_stated() == wanted)
            && self.protocol.is_none_or(|wanted| task.protocol() == wanted)
            && self.compressed.is_none_or(|wanted| task.compression().is_some() == wanted)
    }
}

impl HeaderTest {
    fn holds(&self, header: &ContentHeader<'_>, name: &str) -> bool {
        let value = header.headers().and_then(|table| table.get(name.as_bytes())).filter(|v| !v.is_void());
        match self {
            Self::Present(wanted) => value.is_some() == *wanted,
            Self::Is(names) => value.is_some_and(|v| match v {
                Value::Str(text) | Value::Bytes(text) => names.matches(text),
                Value::Bool(flag) => names.matches(if flag { b"true" } else { b"false" }),
                Value::F64(number) => names.matches(number.to_string().as_bytes()),
                other => other.int().is_some_and(|n| names.matches(n.to_string().as_bytes())),
            }),
        }
    }
}
