//! Celery's `task_queues`: which queue has which exchange, routing key and arguments, and what is made for one that nobody
//! defined (celery/app/amqp.py `Queues`).

use rustc_hash::FxHashMap;

use crate::wire::table::{Value, write_entry};

/// An argument of a queue or a value of a header, as the config writes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Plain {
    /// A string.
    Str(String),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A boolean.
    Bool(bool),
}

impl Plain {
    /// As a field value, with the tags that py-amqp would write.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Str(s) => Value::Str(s.as_bytes()),
            Self::Int(n) => i32::try_from(*n).map_or(Value::LongLong(*n), Value::I32),
            Self::Float(f) => Value::F64(*f),
            Self::Bool(b) => Value::Bool(*b),
        }
    }
}

/// A queue, as `task_queues` or `[[task_queues]]` defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its name; of a broadcast queue the name of its exchange.
    pub name: String,
    /// The exchange it is bound to; empty: the default exchange of the settings.
    pub exchange: String,
    /// `direct`, `topic`, `fanout`, `headers` or a plugin's.
    pub exchange_type: String,
    /// The key it is bound with, which is also the one published with; empty: the default key of the settings.
    pub routing_key: String,
    /// Queue arguments in their order.
    pub arguments: Vec<(String, Plain)>,
    /// Survives the broker's restart.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Never declared by us.
    pub no_declare: bool,
    /// A fanout to queues that workers make for themselves.
    pub broadcast: bool,
}

impl Queue {
    /// A durable queue that is bound to the settings' default exchange.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            exchange: String::new(),
            exchange_type: "direct".to_owned(),
            routing_key: String::new(),
            arguments: Vec::new(),
            durable: true,
            auto_delete: false,
            no_declare: false,
            broadcast: false,
        }
    }
}

/// The Celery settings around queues, under their names without `task_`.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSettings {
    /// Where producers publish what nobody routed.
    pub default_queue: String,
    /// `quorum` or `classic`.
    pub default_queue_type: Option<String>,
    /// None: the default queue's name.
    pub default_exchange: Option<String>,
    /// `direct` unless said otherwise.
    pub default_exchange_type: String,
    /// None: the default queue's name.
    pub default_routing_key: Option<String>,
    /// Whether a queue that nobody defined is made.
    pub create_missing_queues: bool,
    /// Its type.
    pub create_missing_queue_type: Option<String>,
    /// Its exchange's type.
    pub create_missing_queue_exchange_type: Option<String>,
    /// `x-max-priority` of queues that do not say.
    pub queue_max_priority: Option<u8>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            default_queue: "celery".to_owned(),
            default_queue_type: None,
            default_exchange: None,
            default_exchange_type: "direct".to_owned(),
            default_routing_key: None,
            create_missing_queues: true,
            create_missing_queue_type: None,
            create_missing_queue_exchange_type: None,
            queue_max_priority: None,
        }
    }
}

/// What must be there before something is published to a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Declare {
    /// Declared first, durable; none: the broker's own exchange, or none at all.
    pub exchange: Option<DeclareExchange>,
    /// The queue.
    pub queue: String,
    /// Survives the broker's restart.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The arguments as a field table's bytes, without its length.
    pub arguments: Vec<u8>,
    /// Exchange and key of each binding.
    pub binds: Vec<(String, String)>,
    /// Whether it may be made, or only looked for.
    pub permission: Permission,
}

/// An exchange to declare.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeclareExchange {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
}

/// Whether something may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Made if it is missing.
    Create,
    /// A passive declare: where it is missing, the task goes where it was going (P9).
    Check,
}

/// Every queue that is known, and how an unknown one is made.
#[derive(Debug, Clone)]
pub struct Queues {
    settings: QueueSettings,
    known: FxHashMap<String, Queue>,
}

impl Queues {
    /// The queues of `[[task_queues]]` under these settings. Without any, the default queue is known, as in Celery.
    #[must_use]
    pub fn new(settings: QueueSettings, queues: Vec<Queue>) -> Self {
        let mut this = Self { settings, known: FxHashMap::default() };
        if queues.is_empty() {
            let mut queue = Queue::named(&this.settings.default_queue);
            queue.exchange_type.clone_from(&this.settings.default_exchange_type);
            if this.settings.default_queue_type.as_deref() == Some("quorum") {
                queue.arguments.push(("x-queue-type".to_owned(), Plain::Str("quorum".to_owned())));
            }
            this.add(queue);
        }
        queues.into_iter().for_each(|queue| this.add(queue));
        this
    }

    /// Celery's `Queues._add`: what the queue leaves open comes from the defaults.
    fn add(&mut self, mut queue: Queue) {
        if queue.exchange.is_empty() && !queue.broadcast {
            queue.exchange = self.default_exchange().to_owned();
            queue.exchange_type.clone_from(&self.settings.default_exchange_type);
        }
        if queue.routing_key.is_empty() && !queue.broadcast {
            queue.routing_key = self.default_routing_key().to_owned();
        }
        self.limit_priority(&mut queue);
        self.known.insert(queue.name.clone(), queue);
    }

    fn limit_priority(&self, queue: &mut Queue) {
        let Some(max) = self.settings.queue_max_priority else { return };
        if !queue.arguments.iter().any(|(name, _)| name == "x-max-priority") {
            queue.arguments.push(("x-max-priority".to_owned(), Plain::Int(max.into())));
        }
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    /// `task_default_exchange`, which is the default queue's name unless it is set.
    #[must_use]
    pub fn default_exchange(&self) -> &str {
        self.settings.default_exchange.as_deref().unwrap_or(&self.settings.default_queue)
    }

    /// `task_default_routing_key`, likewise.
    #[must_use]
    pub fn default_routing_key(&self) -> &str {
        self.settings.default_routing_key.as_deref().unwrap_or(&self.settings.default_queue)
    }

    /// Whether `name` stands in `[[task_queues]]`, or is the default queue where there are none.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    /// The queue of this name: a known one, or the one that Celery would make.
    #[must_use]
    pub fn queue(&self, name: &str) -> Queue {
        if let Some(queue) = self.known.get(name) {
            return queue.clone();
        }
        let mut queue = Queue::named(name);
        name.clone_into(&mut queue.exchange);
        name.clone_into(&mut queue.routing_key);
        if let Some(kind) = self.settings.create_missing_queue_exchange_type.as_deref() {
            kind.clone_into(&mut queue.exchange_type);
        }
        if let Some(kind) = self.settings.create_missing_queue_type.as_deref().filter(|k| *k != "classic") {
            queue.arguments.push(("x-queue-type".to_owned(), Plain::Str(kind.to_owned())));
        }
        self.limit_priority(&mut queue);
        queue
    }

    /// The declaration that Celery would send before the first publish to this queue; none for what it never declares.
    #[must_use]
    pub fn declaration(&self, queue: &Queue) -> Option<Declare> {
        if queue.broadcast || queue.no_declare {
            return None;
        }
        let mut arguments = Vec::new();
        for (name, value) in &queue.arguments {
            write_entry(&mut arguments, name.as_bytes(), &value.value());
        }
        // The broker's own exchanges cannot be declared (kombu/entity.py `_can_declare`).
        let own = !queue.exchange.is_empty() && !queue.exchange.starts_with("amq.");
        let kind = queue.exchange_type.clone();
        let permission = if self.settings.create_missing_queues || self.knows(&queue.name) {
            Permission::Create
        } else {
            Permission::Check
        };
        Some(Declare {
            exchange: own.then(|| DeclareExchange { name: queue.exchange.clone(), kind }),
            queue: queue.name.clone(),
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            arguments,
            binds: if queue.exchange.is_empty() {
                Vec::new()
            } else {
                vec![(queue.exchange.clone(), queue.routing_key.clone())]
            },
            permission,
        })
    }

    /// Whether this is where producers publish what nobody routed: by the anonymous exchange, or (Celery 3.1, or another than a
    /// direct one) by the default queue's own.
    #[must_use]
    pub fn is_default(&self, exchange: &[u8], routing_key: &[u8]) -> bool {
        if exchange.is_empty() {
            return routing_key == self.settings.default_queue.as_bytes();
        }
        let name = self.settings.default_queue.as_str();
        let default = self.known.get(name);
        // One that `task_queues` lacks is made with an exchange and a key of its own name.
        let (own, key) = default.map_or((name, name), |q| (q.exchange.as_str(), q.routing_key.as_str()));
        exchange == own.as_bytes() && routing_key == key.as_bytes()
    }

    /// The queue that a publish is meant for, where that can be told: by the anonymous exchange, or as a known queue's binding.
    #[must_use]
    pub fn meant<'a>(&'a self, exchange: &[u8], routing_key: &'a [u8]) -> Option<&'a [u8]> {
        if exchange.is_empty() || exchange == routing_key {
            return Some(routing_key);
        }
        let bound = |q: &&Queue| q.exchange.as_bytes() == exchange && q.routing_key.as_bytes() == routing_key;
        self.known.values().find(bound).map(|q| q.name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_defined_has_an_exchange_and_a_key_of_its_own_name() {
        let settings = QueueSettings {
            create_missing_queue_type: Some("quorum".to_owned()),
            ..QueueSettings::default()
        };
        let queues = Queues::new(settings, Vec::new());
        let made = queues.queue("newq");
        assert_eq!((made.exchange.as_str(), made.routing_key.as_str()), ("newq", "newq"));
        assert_eq!(made.arguments, [("x-queue-type".to_owned(), Plain::Str("quorum".to_owned()))]);
    }

    #[test]
    fn a_queue_without_an_exchange_is_bound_to_the_default_one_by_the_default_key() {
        let queues = Queues::new(QueueSettings::default(), vec![Queue::named("bare")]);
        let declare = queues.declaration(&queues.queue("bare")).unwrap();
        assert_eq!(declare.binds, [("celery".to_owned(), "celery".to_owned())]);
    }

    #[test]
    fn both_ways_to_the_default_queue_are_the_default_destination() {
        let queues = Queues::new(QueueSettings::default(), Vec::new());
        assert!(queues.is_default(b"", b"celery") && queues.is_default(b"celery", b"celery"));
        assert!(!queues.is_default(b"", b"other") && !queues.is_default(b"other", b"celery"));
        let elsewhere = QueueSettings { default_exchange: Some("dx".to_owned()), ..QueueSettings::default() };
        let made = Queues::new(elsewhere, vec![Queue::named("other")]);
        assert!(made.is_default(b"celery", b"celery") && !made.is_default(b"dx", b"celery"));
    }

    #[test]
    fn the_brokers_own_exchanges_are_bound_to_but_never_declared() {
        let mut queue = Queue::named("q");
        (queue.exchange, queue.routing_key) = ("amq.topic".to_owned(), "a.#".to_owned());
        let queues = Queues::new(QueueSettings::default(), vec![queue]);
        let declare = queues.declaration(&queues.queue("q")).unwrap();
        assert_eq!((declare.exchange, declare.binds.len()), (None, 1));
    }
}
