"""All that one run of a scenario consists of: brokers, relays, Umbels, producers, and what is known of them in the end."""

import random
import shutil
import time
import traceback
from contextlib import contextmanager

from harness.process import PATIENCE, wait_for
from harness.relay import Relay
from harness.umbel import Umbel

from . import drain as draining
from . import message
from .load import Loads, Raw, Tasks
from .watch import Watch, in_flight

# Quick to notice a silent broker, quick to come back.
EAGER = ('heartbeat = "2s"\nconfirm_timeout = "15s"\nconnect_timeout = "2s"\n'
         '[upstreams.default.retry]\ninterval_start = "0s"\ninterval_step = "100ms"\ninterval_max = "500ms"\n')


class World:
    """`direct`: the scenario runs without Umbel; `door` then gives back what stands behind it."""

    def __init__(self, stage, place, direct, seed):
        self.stage, self.place, self.direct, self.seed = stage, place, direct, seed
        self.random = random.Random(seed)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self.loads = Loads()
        self.umbels, self.watches, self.relays, self.nodes, self.mocks, self.others = [], {}, [], [], [], []
        self.vhost, self.broker, self.queues = "/", None, []
        self.checks, self.notes = [], []
        self.healed_at = None
        self.survived, self.depths, self.away = [], {}, []
        self.exits, self.early = [], []

    # what there is

    def node(self):
        """The shared broker, with a vhost for this run alone: for faults that leave the broker alone."""
        node = self.stage.node()
        self.vhost = f"f{self.seed}-{self.place.name}"[:100]
        node.add_vhost(self.vhost)
        self.broker = node
        return node

    def own_node(self, config=""):
        """A broker that the scenario may hurt."""
        node = self.stage.new_node(self.place / f"rabbit{len(self.nodes)}", config)
        self.nodes.append(node)
        self.broker = self.broker or node.start()
        if node.process is None:
            node.start()
        return node

    def queue(self, *names, **options):
        """Declared at the broker by ourselves, and drained in the end."""
        with self.broker.client(vhost=self.vhost) as client:
            for name in names or ("q",):
                client.declare(name, **options)
                if name not in self.queues:
                    self.queues.append(name)
        self._declarations_last()

    def _declarations_last(self):
        if self.broker in self.nodes:
            self.broker.keep_declarations()

    def stock(self, name, count):
        """A queue with messages that are nobody's: their bodies are their numbers, and it is not drained in the end. They are confirmed: when a
        client closes its socket, RabbitMQ forgets what it has read from it and not dealt with yet."""
        with self.broker.client(vhost=self.vhost) as client:
            client.declare(name)
            client.select_confirms()
            for n in range(count):
                client.publish(name, b"%d" % n)
            client.confirmed(count)

    def relay(self, target, at=("127.0.0.1", 0)):
        """A relay of ours in front of something with an `address`."""
        self.relays.append(Relay(target.address if hasattr(target, "address") else target, at))
        return self.relays[-1]

    def door(self, target, rules="", upstream_options="", eager=True, **options):
        """An Umbel in front of `target` (or of several): where producers connect. Directly, it is the target itself."""
        first, urls = (target[0], [t.url() for t in target]) if isinstance(target, (list, tuple)) else (target, target.url())
        if self.direct:
            return first
        return self.umbel(urls, rules, upstream_options + ("\n" + EAGER if eager else ""), **options)

    def umbel(self, urls, rules="", upstream_options="", start=True, ready=True, **options):
        umbel = Umbel(self.place, urls, rules, upstream_options=upstream_options, name=options.pop("name", f"umbel{len(self.umbels)}"), **options)
        self.umbels.append(umbel)
        if start:
            umbel.start(ready=ready)
        self.watches[umbel.name] = Watch(umbel)
        return umbel

    def raw(self, door, name=None, ready=True, **options):
        """A raw producer that publishes until the scenario ends (kit/raw.py)."""
        name = name or f"p{len(self.loads.all)}"
        options.setdefault("vhost", self.vhost)
        options.setdefault("queues", self.queues or ["q"])
        producer = self.loads.add(Raw(self.place, door.address, name, seed=self.seed + len(self.loads.all), **options))
        return producer.wait_ready() if ready else producer

    def celery(self, door, name=None, venv="celery5", queue="q", ready=True, **options):
        """A Celery producer calling delay() until the scenario ends. Its queue is one of Celery's: an exchange of its name, bound."""
        name = name or f"c{len(self.loads.all)}"
        if queue not in self.queues:
            self.queues.append(queue)
            with self.broker.client(vhost=self.vhost) as client:
                client.call(1, "exchange.declare", exchange=queue, type="direct", durable=True)
                client.declare(queue)
                client.call(1, "queue.bind", queue=queue, exchange=queue, routing_key=queue)
            self._declarations_last()
        producer = self.loads.add(Tasks(self.place, door.url(vhost=self.vhost), name, queue=queue, venv=venv, **options))
        return producer.wait_ready() if ready else producer

    def end_with(self, thing):
        """Something with `stop()` that is to be gone in the end."""
        self.others.append(thing)
        return thing

    # what happens

    def sleep(self, seconds):
        time.sleep(seconds)

    def moment(self, low, high):
        """A seeded random wait."""
        time.sleep(self.random.uniform(low, high))

    def healed(self):
        """The fault is over: from here recovery is timed."""
        self.healed_at = time.monotonic()
        for watch in self.watches.values():
            watch.heal()

    def looks_what_survived(self):
        """What a broker that was killed has kept, looked at before anybody can reach it again, and left where it is."""
        with self.broker.client(vhost=self.vhost, timeout=30) as client:
            for queue in self.queues:
                count = client.depth(queue)
                if count is None:
                    self.check(f"before anybody could reach it the broker was back without its queue {queue}, as tests/faults/forgets_queues shows it", False)
                elif count:
                    client.consume(queue, no_ack=False)
                    taken = [client.delivery() for _ in range(count)]
                    self.survived += [(queue, message.read(m.body, m.properties)) for m in taken]
            client.bye()  # unacknowledged, they go back to their places

    @contextmanager
    def fault(self):
        yield
        self.healed()

    def wait(self, condition, timeout=PATIENCE, what=None):
        return wait_for(condition, timeout, 0.05, what)

    def check(self, what, holds):
        """Another expectation; what it says is printed where it does not hold."""
        self.checks.append((what, bool(holds)))

    def note(self, text):
        """A measured figure for the last column."""
        self.notes.append(text)

    # the end

    def settle(self, timeout=60):
        """The producers say goodbye; then until Umbel owes nobody anything and the queues are still."""
        self.loads.stop()
        for thing in self.others:
            thing.stop()
        for umbel in self.umbels:
            if umbel.process is not None and umbel.process.alive():
                self._settle_one(umbel, timeout)
        if self.broker is not None and self.queues:
            self.depths = draining.wait_still(self.broker, self.vhost, self.queues)

    @staticmethod
    def _settle_one(umbel, timeout):
        """What is still in flight after `timeout` shows in the ledger, which is a check of its own."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            metrics = umbel.metrics()
            if metrics and in_flight(metrics) == 0 and metrics.get("umbel_spool_messages", 0) == 0:
                return
            time.sleep(0.1)

    def taken(self, queue, messages):
        """Messages that the scenario itself has taken out of a queue: they have arrived."""
        self.early += [(queue, message.read(m.body, m.properties)) for m in messages]

    def arrivals(self):
        out = list(self.early)
        if self.broker is not None and self.queues:
            drained, self.away = draining.drain(self.broker, self.vhost, self.queues)
            out += drained
        for mock in self.mocks:
            out += mock.arrivals()
        return out

    def keep_evidence(self):
        """Of a broker whose messages are missing, while it is still there."""
        if self.broker is not None:
            draining.keep_evidence(self.broker, self.vhost, self.place, self.depths)

    def stop_umbels(self):
        """Their last metrics, then SIGTERM; every exit status must be 0."""
        for umbel in self.umbels:
            watch = self.watches[umbel.name]
            metrics = umbel.metrics() if umbel.process is not None and umbel.process.alive() else {}
            watch.end(metrics)
            if umbel.process is not None and umbel.process.alive():
                self.exits.append(umbel.stop())

    def close(self):
        """Everything is gone, whatever has happened."""
        ends = [self.loads.kill, *(w.end for w in self.watches.values()), *(u.process.kill for u in self.umbels if u.process),
                *(thing.stop for thing in (*self.others, *self.relays, *self.mocks)), *(node.remove for node in self.nodes)]
        if self.broker is not None and self.broker not in self.nodes:
            ends.append(lambda: self.broker.delete_vhost(self.vhost))
        for end in ends:
            try:
                end()
            except Exception:
                traceback.print_exc()


def own(world, celery=("celery5",), raw=True, config="", **options):
    """(node, door): a broker of the scenario's own, Celery producers of these ages, and raw ones."""
    node = world.own_node(config)
    world.queue("q")
    door = world.door(node, **options)
    for age in celery:
        world.celery(door, venv=age, queue="tasks", pause=0.004)
    if raw:
        world.raw(door, rate=200, queues=["q"])
    return node, door


def unacknowledged(node, queue, vhost="/"):
    return int(node.eval(
        f'[Q] = [Q || Q <- rabbit_amqqueue:list(<<"{vhost}">>), element(4, element(2, Q)) =:= <<"{queue}">>], '
        "proplists:get_value(messages_unacknowledged, rabbit_amqqueue:info(Q, [messages_unacknowledged]))"))
