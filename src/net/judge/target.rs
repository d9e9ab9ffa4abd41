//! Places that a policy sends to, as the methods that see to it that they are there (P2, P9).
//!
//! What may be made is declared as Celery's producers would; what may not is looked for (passive), so that a route to nowhere is
//! noticed before a task goes there.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Case;
use crate::policy::{Declare, Destination, Permission};
use crate::session::{Edited, Target, UpstreamId};
use crate::wire::method::{MethodId, MethodWriter};

/// Where a delayed delivery comes out after its last level, and which queues must be bound to.
const DELAYED_OUT: &str = "celery_delayed_delivery";
/// Queues of upstreams that a client never declared anything at; their names come from traffic.
const MEANT_MAX: usize = 4_096;

const PASSIVE: u8 = 1;
const DURABLE: u8 = 2;
const AUTO_DELETE_QUEUE: u8 = 8;

/// The targets of one policy, each made once: equal ones are the same `Rc`.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// By the destination's place in the policy, which does not move, and whether it is reached by a delayed delivery.
    by_destination: FxHashMap<(*const Destination, bool), Option<Rc<Target>>>,
    by_queue: FxHashMap<Box<[u8]>, Option<Rc<Target>>>,
    all: FxHashSet<Rc<Target>>,
    stills: FxHashMap<Still, Rc<Edited>>,
    events: Option<Rc<Target>>,
}

/// Edits that change where a message goes and none of its bytes: one for all messages that go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Still {
    /// Its place in the policy, which does not move.
    pub destination: *const Destination,
    pub upstream: Option<UpstreamId>,
    pub durable: Option<bool>,
    pub watch_return: bool,
}

impl Targets {
    /// Edits that were made before.
    pub fn still(&self, key: &Still) -> Option<Rc<Edited>> {
        self.stills.get(key).cloned()
    }

    /// Edits that will be asked for again. There are no more than the policy has destinations.
    pub fn keep_still(&mut self, key: Still, edited: Rc<Edited>) {
        self.stills.insert(key, edited);
    }

    /// What a destination needs; `destination` lies in the policy in force. `delayed`: it is reached through Celery's delayed delivery.
    pub fn of(&mut self, destination: &Destination, delayed: bool) -> Option<Rc<Target>> {
        let key = (std::ptr::from_ref(destination), delayed);
        if let Some(known) = self.by_destination.get(&key) {
            return known.clone();
        }
        let target = target(destination, delayed).map(|target| self.same(target));
        self.by_destination.insert(key, target.clone());
        target
    }

    /// What a message needs that goes to another upstream under its own name: its client has declared nothing there.
    pub fn of_meant(&mut self, case: &Case<'_>) -> Option<Rc<Target>> {
        let (exchange, key) = (case.publish.exchange, case.publish.routing_key);
        if !exchange.is_empty() {
            return Some(self.same(Target {
                name: format!("exchange {}", String::from_utf8_lossy(exchange)),
                methods: vec![exchange_declare(exchange, b"", PASSIVE)],
            }));
        }
        self.of_queue(case, key)
    }

    /// The queue that a message was meant for which no queue takes, as `task_create_missing_queues` would make it; `None`: nobody can
    /// tell which.
    pub fn of_missing(&mut self, case: &Case<'_>) -> Option<Rc<Target>> {
        let queues = case.policy().queues();
        let queue = queues.meant(case.publish.exchange, case.publish.routing_key)?;
        self.of_queue(case, queue)
    }

    fn of_queue(&mut self, case: &Case<'_>, name: &[u8]) -> Option<Rc<Target>> {
        if let Some(known) = self.by_queue.get(name) {
            return known.clone();
        }
        let queues = case.policy().queues();
        let declare = std::str::from_utf8(name).ok().and_then(|name| queues.declaration(&queues.queue(name)));
        let target = declare.map(|declare| {
            let mut methods = Vec::new();
            declared(&declare, &mut methods);
            self.same(Target { name: format!("queue {}", declare.queue), methods })
        });
        if self.by_queue.len() >= MEANT_MAX {
            self.by_queue.clear();
        }
        self.by_queue.insert(name.into(), target.clone());
        target
    }

    /// Celery's event exchange.
    pub fn events(&mut self) -> Rc<Target> {
        Rc::clone(self.events.get_or_insert_with(|| {
            Rc::new(Target {
                name: "exchange celeryev".to_owned(),
                methods: vec![exchange_declare(b"celeryev", b"topic", DURABLE)],
            })
        }))
    }

    fn same(&mut self, target: Target) -> Rc<Target> {
        if let Some(known) = self.all.get(&target) {
            return Rc::clone(known);
        }
        let target = Rc::new(target);
        if self.all.len() >= 2 * MEANT_MAX {
            self.all.clear();
        }
        self.all.insert(Rc::clone(&target));
        target
    }
}

fn target(destination: &Destination, delayed: bool) -> Option<Target> {
    let mut methods = Vec::new();
    let declare = destination.declare.as_deref();
    if let Some(declare) = declare {
        declared(declare, &mut methods);
        if delayed && declare.permission == Permission::Create {
            // Workers bind their queues by the key they are bound with; we go by the key that we publish with.
            let key = format!("#.{}", destination.routing_key);
            methods.push(queue_bind(&declare.queue, DELAYED_OUT, &key));
        }
    }
    let exchange = destination.exchange.as_str();
    let own = exchange.is_empty() || exchange.starts_with("amq.");
    let making = declare.filter(|declare| declare.permission == Permission::Create);
    let made = making.and_then(|d| d.exchange.as_ref()).is_some_and(|made| made.name == exchange);
    if !own && !made && !delayed {
        methods.push(exchange_declare(exchange.as_bytes(), b"", PASSIVE));
    }
    if exchange.is_empty() && declare.is_none() {
        methods.push(queue_declare(&destination.routing_key, PASSIVE, &[]));
    }
    let name = match (&destination.queue, exchange) {
        (Some(queue), _) => format!("queue {queue}"),
        (None, exchange) => format!("exchange {exchange}"),
    };
    (!methods.is_empty()).then_some(Target { name, methods })
}

fn declared(declare: &Declare, methods: &mut Vec<Vec<u8>>) {
    if declare.permission == Permission::Check {
        methods.push(queue_declare(&declare.queue, PASSIVE, &[]));
        return;
    }
    if let Some(exchange) = &declare.exchange {
        methods.push(exchange_declare(exchange.name.as_bytes(), exchange.kind.as_bytes(), DURABLE));
    }
    let durable = if declare.durable { DURABLE } else { 0 };
    let auto_delete = if declare.auto_delete { AUTO_DELETE_QUEUE } else { 0 };
    methods.push(queue_declare(&declare.queue, durable | auto_delete, &declare.arguments));
    for (exchange, key) in &declare.binds {
        methods.push(queue_bind(&declare.queue, exchange, key));
    }
}

fn exchange_declare(name: &[u8], kind: &[u8], bits: u8) -> Vec<u8> {
    // A passive declare is answered whatever type it names; but it must name one.
    let kind = if kind.is_empty() { b"direct" } else { kind };
    MethodWriter::new(MethodId::EXCHANGE_DECLARE)
        .short(0)
        .shortstr(name)
        .shortstr(kind)
        .octet(bits)
        .longstr(&[])
        .done()
}

fn queue_declare(name: &str, bits: u8, arguments: &[u8]) -> Vec<u8> {
    MethodWriter::new(MethodId::QUEUE_DECLARE)
        .short(0)
        .shortstr(name.as_bytes())
        .octet(bits)
        .longstr(arguments)
        .done()
}

fn queue_bind(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    MethodWriter::new(MethodId::QUEUE_BIND)
        .short(0)
        .shortstr(queue.as_bytes())
        .shortstr(exchange.as_bytes())
        .shortstr(key.as_bytes())
        .octet(0)
        .longstr(&[])
        .done()
}
