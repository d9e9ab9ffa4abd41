//! A route as it is written, and the destination that Celery would have made of it (celery/app/routes.py `expand_destination`,
//! celery/app/amqp.py `send_task_message`).

use std::sync::Arc;

use super::queue::{Declare, Plain, Queues};
use crate::celery::compression::Codec;

/// What a route says. Everything is optional; nothing at all means "leave it".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Route {
    /// A queue's name.
    pub queue: Option<String>,
    /// An exchange. For a direct one it counts only together with a routing key.
    pub exchange: Option<String>,
    /// Its type, where no queue says.
    pub exchange_type: Option<String>,
    /// A routing key. For a direct queue it counts only together with an exchange.
    pub routing_key: Option<String>,
    /// An index into the configured upstreams.
    pub upstream: Option<usize>,
    /// Counts where no rule sets a priority, and the producer asked for none.
    pub priority: Option<u8>,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// A TTL in milliseconds, where the message has none.
    pub expiration_ms: Option<u64>,
    /// Headers to add where they are missing.
    pub headers: Vec<(String, Plain)>,
    /// Published mandatory.
    pub mandatory: bool,
    /// A codec, where no rule speaks of compression.
    pub compression: Option<Codec>,
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The exchange; empty: the anonymous one.
    pub exchange: String,
    /// The routing key; behind a delayed delivery's bits where the message carries them.
    pub routing_key: String,
    /// The queue, where the route named one: for people and metrics.
    pub queue: Option<String>,
    /// What must be there first.
    pub declare: Option<Arc<Declare>>,
}

/// A route made certain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// Where to; none: where it was going.
    pub destination: Option<Destination>,
    /// Everything else that the route says.
    pub route: Route,
}

impl Target {
    /// What Celery would make of `route`.
    ///
    /// # Errors
    /// A route with which Celery would lose the task or refuse to send it.
    pub fn resolve(route: Route, queues: &Queues) -> Result<Self, String> {
        let silent = route.queue.is_none() && route.exchange.is_none() && route.routing_key.is_none();
        if silent {
            return Ok(Self { destination: None, route });
        }
        Ok(Self { destination: Some(Destination::of(&route, queues)?), route })
    }
}

impl Destination {
    fn of(route: &Route, queues: &Queues) -> Result<Self, String> {
        // A queue and no exchange: the route names a queue, or means the default one.
        let default = (route.queue.is_none() && route.exchange.is_none())
            .then(|| queues.settings().default_queue.clone());
        let name = route.queue.clone().or(default);
        let queue = name.as_ref().map(|name| queues.queue(name));
        let kind = route
            .exchange_type
            .as_deref()
            .or(queue.as_ref().map(|q| q.exchange_type.as_str()))
            .unwrap_or("direct");
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let (exchange, key) = (given(&route.exchange), given(&route.routing_key));
        let (exchange, routing_key) = if (exchange.is_none() || key.is_none()) && kind == "direct" {
            let name = name.clone().ok_or(
                "a direct exchange needs a routing key: with the exchange alone Celery publishes to nowhere",
            )?;
            (String::new(), name)
        } else if let Some(exchange) = exchange {
            (exchange, key.unwrap_or_default())
        } else {
            let (own, bound) =
                queue.as_ref().map(|q| (q.exchange.clone(), q.routing_key.clone())).unwrap_or_default();
            let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
            let key = key.unwrap_or_else(|| or(bound, queues.default_routing_key()));
            (or(own, queues.default_exchange()), key)
        };
        if exchange.len() > 255 || routing_key.len() > 255 - crate::celery::delayed::PREFIX_LEN {
            return Err(
                "names on the wire are at most 255 bytes, 56 of them kept for delayed delivery".to_owned()
            );
        }
        let declare = queue.and_then(|q| queues.declaration(&q)).map(Arc::new);
        Ok(Self { exchange, routing_key, queue: name, declare })
    }
}

/// A rule's route: one target, or several by weight.
#[derive(Debug, Clone)]
pub struct RuleRoute {
    /// Weight and target; one of weight 1 where nothing is split.
    pub choices: Vec<(u32, Target)>,
    /// Whether it moves even what the producer sent to a place of its own choosing.
    pub force: Force,
}

/// Whether a producer's own destination is respected (P2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// As Celery does.
    Respect,
    /// `override = true`.
    Override,
}

impl RuleRoute {
    /// Whether any choice says where to.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.choices.iter().any(|(_, target)| target.destination.is_some() || target.route.upstream.is_some())
    }

    /// The choice that a random number falls on.
    #[must_use]
    pub fn choose(&self, random: u64) -> Option<&Target> {
        let total: u64 = self.choices.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut left = random.checked_rem(total)?;
        for (weight, target) in &self.choices {
            match left.checked_sub(u64::from(*weight)) {
                None => return Some(target),
                Some(rest) => left = rest,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::queue::{Queue, QueueSettings};

    fn resolve(route: Route) -> Result<(String, String), String> {
        let mut topic = Queue::named("tq");
        (topic.exchange, topic.exchange_type, topic.routing_key) =
            ("media".into(), "topic".into(), "media.#".into());
        let mut own = Queue::named("cq");
        (own.exchange, own.routing_key) = ("cx".into(), "crk".into());
        let queues = Queues::new(QueueSettings::default(), vec![topic, own]);
        Target::resolve(route, &queues)
            .map(|t| t.destination.map(|d| (d.exchange, d.routing_key)).unwrap_or_default())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_direct_queue_is_reached_by_the_anonymous_exchange_and_its_name_alone() {
        let queue = || Route { queue: some("a"), ..Route::default() };
        let to_a = Ok((String::new(), "a".to_owned()));
        assert_eq!(resolve(queue()), to_a);
        assert_eq!(resolve(Route { routing_key: some("rk"), ..queue() }), to_a);
        assert_eq!(resolve(Route { exchange: some("x"), ..queue() }), to_a);
        let both = Route { exchange: some("x"), routing_key: some("rk"), ..queue() };
        assert_eq!(resolve(both), Ok(("x".to_owned(), "rk".to_owned())));
        assert_eq!(
            resolve(Route { queue: some("cq"), ..Route::default() }),
            Ok((String::new(), "cq".to_owned()))
        );
    }

    #[test]
    fn a_topic_queue_is_reached_by_its_exchange_and_by_its_binding_key_where_none_is_given() {
        let queue = || Route { queue: some("tq"), ..Route::default() };
        assert_eq!(resolve(queue()), Ok(("media".to_owned(), "media.#".to_owned())));
        let keyed = Route { routing_key: some("media.video"), ..queue() };
        assert_eq!(resolve(keyed), Ok(("media".to_owned(), "media.video".to_owned())));
    }

    #[test]
    fn a_routing_key_alone_means_the_default_queue_and_an_exchange_alone_means_nowhere() {
        let key = Route { routing_key: some("only.rk"), ..Route::default() };
        assert_eq!(resolve(key), Ok((String::new(), "celery".to_owned())));
        assert!(resolve(Route { exchange: some("amq.direct"), ..Route::default() }).is_err());
        let topic = Route { exchange: some("amq.topic"), exchange_type: some("topic"), ..Route::default() };
        assert_eq!(resolve(topic), Ok(("amq.topic".to_owned(), String::new())));
    }

    #[test]
    fn weights_are_kept() {
        let target = |queue: &str| Target {
            route: Route { queue: some(queue), ..Route::default() },
            destination: None,
        };
        let route = RuleRoute { choices: vec![(90, target("a")), (10, target("b"))], force: Force::Respect };
        let to_b =
            (0..1000).filter(|n| route.choose(*n).unwrap().route.queue.as_deref() == Some("b")).count();
        assert_eq!(to_b, 100);
    }
}
