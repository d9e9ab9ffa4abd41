"""Clients that do more than publish, beside those that do, under the same faults: transactions, and consumers that acknowledge (SPEC T6, D5)."""

import threading
import time

from harness import wire
from kit import message
from kit.oracle import Journal
from kit.scenario import scenario

from .spool import spool

PATIENCE = 0.1  # seconds before a client that has lost its connection comes back


class Client:
    """A client in a thread of its own that comes back whenever its connection is gone."""

    def __init__(self, door, vhost):
        self.door, self.vhost = door, vhost
        self.losses, self.over = [], threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.over.is_set():
            try:
                with self.door.client(vhost=self.vhost, timeout=20) as client:
                    self.one_connection(client)
            except (OSError, EOFError, wire.Refused, AssertionError) as error:
                self.losses.append(error)
                time.sleep(PATIENCE)

    def stop(self):
        self.over.set()

    def join(self, timeout=20):
        self.thread.join(timeout)

    kill = stop


class Transactions(Client):
    """Five publishes and a commit, again and again; only what was told to be committed counts as accepted."""

    def __init__(self, door, vhost, queue, name="tx"):
        self.name, self.queue, self.next, self.committed = name, queue, 0, []
        super().__init__(door, vhost)

    def one_connection(self, client):
        client.call(1, "tx.select")
        while not self.over.is_set():
            batch = range(self.next, self.next + 5)
            self.next = batch.stop
            for n in batch:
                client.publish(self.queue, message.body(f"{self.name}/1".encode(), n), **message.properties(f"{self.name}/1".encode(), n))
            client.call(1, "tx.commit")
            self.committed.append(batch)
            time.sleep(0.005)

    def journal(self):
        lines = [f"a 1 {n}" for batch in self.committed for n in batch]
        return Journal.read(self.name, True, lines)


class Consumer(Client):
    """Prefetch 20, every delivery acknowledged when it is written down."""

    def __init__(self, door, vhost, queue):
        self.queue, self.got = queue, []
        super().__init__(door, vhost)

    def one_connection(self, client):
        client.call(1, "basic.qos", prefetch_count=20)
        client.consume(self.queue, no_ack=False)
        while not self.over.is_set():
            delivery = client.delivery(timeout=20)
            self.got.append(delivery)
            client.send(1, "basic.ack", delivery_tag=delivery.delivery_tag)


def hurt(world, relay, node):
    """Each kind of loss a link can have, one after the other."""
    for harm in (relay.reset, relay.close, relay.half_close_client, node.close_connections, relay.reset):
        world.moment(0.5, 1.0)
        harm()
    world.moment(0.5, 1.0)
    node.kill()
    node.start()
    world.healed()
    world.sleep(2)


@scenario("transactions while links die in five ways and the broker is killed, publishers beside", rows=(2, 7), accepted=500, recovery=20.0, reordered=None)
def transactions(world):
    """A commit that was answered holds, a transaction that was not has all of its messages or none; and it is told of each loss at once."""
    node = world.own_node()
    world.queue("q")
    relay = world.relay(node)
    door = world.door(relay)
    with node.client() as direct:
        direct.declare("tx")
    world.raw(door, rate=300, queues=["q"])
    client = world.loads.add(Transactions(door, world.vhost, "tx"))
    hurt(world, relay, node)
    world.loads.stop()
    with node.client() as direct:
        arrived = direct.drain("tx")
    world.taken("tx", arrived)
    numbers = [message.read(m.body, m.properties)[1] for m in arrived]
    halves = [n for n in set(number // 5 for number in numbers) if sum(number // 5 == n for number in numbers) != 5]
    world.check(f"transactions with a part missing: {halves}", not halves)
    world.check(f"{len(client.losses)} losses were told", len(client.losses) >= 5)
    world.note(f"{len(client.committed)} transactions, {len(client.losses)} connections lost")


@scenario("producers and consumers of one queue through one Umbel, links dying in five ways, the broker killed, tier durable", rows=(2, 7, 37), accepted=1_000,
          recovery=20.0, duplicated=None, reordered=None)
def through_and_through(world):
    """Everything that a call returned for is consumed; what was not acknowledged when a link died comes again."""
    node = world.own_node()
    relay = world.relay(node)
    door = world.door(relay, spool(world), 'tier = "durable"\nwindow_messages = 300')
    with node.client() as direct:
        direct.declare("work")
    consumers = [world.end_with(Consumer(door, world.vhost, "work")) for _ in range(2)]
    producers = [world.raw(door, rate=100, queues=["work"]), world.raw(door, rate=100, queues=["work"], confirms=True, window=2_000)]
    hurt(world, relay, node)
    world.loads.stop()
    got = lambda: {message.read(d.body, d.properties) for c in consumers for d in c.got}  # noqa: E731
    sent = {(f"{p.name}/1", n) for p in producers for n in p.journal().accepted[f"{p.name}/1"]}
    world.wait(lambda: sent <= got(), 60, lambda: f"{len(sent)} to be consumed, {len(sent - got())} are not")
    for consumer in consumers:
        world.taken("work", consumer.got)
    world.note(f"{sum(len(c.got) for c in consumers)} deliveries of {len(got())} messages, {sum(len(c.losses) for c in consumers)} connections of consumers lost")
