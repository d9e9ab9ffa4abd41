"""Memory and disk alarms of real brokers: publishers are not read any more, consumers are."""

import threading

from harness import wire
from kit.scenario import scenario
from kit.world import own, unacknowledged


def disk_alarm(node, on):
    node.eval("rabbit_disk_monitor:set_disk_free_limit(%s)" % ("999999999999999" if on else "10000000"))


def twelve_seconds_of_alarm(world, producer):
    node, _ = own(world, celery=[producer], raw=False)
    world.sleep(1)
    node.memory_alarm(True)
    world.sleep(12)
    node.memory_alarm(False)
    world.healed()
    world.sleep(2)


@scenario("memory alarm of 12 s, Celery 5 with its defaults", rows=10, direct=True, accepted=1_000)
def memory_alarm(world):
    """The broker stops reading whoever publishes. Directly, py-amqp's kernel gives up after a second and what delay() returned from is gone."""
    twelve_seconds_of_alarm(world, "celery5")


@scenario("memory alarm of 12 s, Celery 4.4", rows=10, direct=True, needs="celery44", accepted=1_000)
def memory_alarm_celery44(world):
    twelve_seconds_of_alarm(world, "celery44")


@scenario("memory alarm of 12 s, Celery 3.1", rows=10, direct=True, needs="celery31", accepted=1_000)
def memory_alarm_celery31(world):
    twelve_seconds_of_alarm(world, "celery31")


@scenario("memory alarm of 60 s under load, three producers", rows=10, accepted=10_000, memory=260.0, recovery=15.0)
def memory_alarm_of_a_minute(world):
    node, _ = own(world)
    world.raw(world.umbels[0] if world.umbels else node, rate=200, queues=["q"])
    world.sleep(1)
    node.memory_alarm(True)
    world.sleep(60)
    node.memory_alarm(False)
    world.healed()
    world.sleep(2)


@scenario("memory alarms, off and on every second", rows=10, direct=True, accepted=500)
def memory_alarm_on_and_off(world):
    node, _ = own(world)
    for _ in range(6):
        world.moment(0.5, 1.2)
        node.memory_alarm(True)
        world.moment(0.5, 1.2)
        node.memory_alarm(False)
    world.healed()
    world.sleep(1)


# those who consume meanwhile

@scenario("disk alarm of 8 s, a consumer acknowledging meanwhile", rows=(11, 38), direct=True, lost=None, accepted=500)
def disk_alarm_with_consumer(world):
    """Deliveries and acknowledgements have links of their own: they go on. (What is consumed is not in a queue: lost is asked by hand.)"""
    node, door = own(world, raw=False)
    world.stock("work", 200)
    world.sleep(1)
    disk_alarm(node, True)
    world.sleep(1)
    consumer = Consumer(door, "work")
    consumer.takes_all(world, 200)
    world.wait(lambda: unacknowledged(node, "work") == 0, what="the acknowledgements to arrive")
    world.sleep(6)
    disk_alarm(node, False)
    world.healed()
    world.sleep(1)
    world.loads.stop()
    world.wait(lambda: node.depth("tasks") >= len(world.loads.all[0].journal().returned["c0/1"]) or world.direct, what="every task in its queue")


@scenario("memory alarm of 4 s around a consumer that was there before, publishers beside it", rows=(10, 38), direct=True, lost=None, accepted=500)
def memory_alarm_around_a_consumer(world):
    """What it was given before the alarm it acknowledges in it, and it is given the rest."""
    node, door = own(world, celery=())
    world.stock("work", 200)
    consumer = Consumer(door, "work", holds=10)
    world.wait(lambda: len(consumer.held) == 10, what="as many deliveries as it may hold")
    node.memory_alarm(True)
    world.sleep(1)
    consumer.goes_on()
    consumer.takes_all(world, 200)
    world.wait(lambda: unacknowledged(node, "work") == 0, what="the acknowledgements to arrive")
    world.sleep(1)
    node.memory_alarm(False)
    world.healed()
    world.sleep(1)


@scenario("disk alarm around a client that publishes and consumes on one channel", rows=(11, 38), direct=True, lost=None, accepted=0)
def disk_alarm_on_one_connection(world):
    """A result for each delivery, then its acknowledgement. Directly the broker stops reading with the first result, and the rest of what was
    said lies in the socket; through Umbel publishes go elsewhere, and the acknowledgements arrive."""
    node, door = own(world, celery=(), raw=False)
    world.stock("work", 200)
    world.stock("results", 0)
    consumer = Consumer(door, "work", answers="results")
    disk_alarm(node, True)
    world.sleep(1)
    node_sees = lambda: unacknowledged(node, "work") + node.depth("work")  # noqa: E731
    consumer.goes_on()
    try:
        world.wait(lambda: node_sees() == 0, what=lambda: f"200 acknowledgements to arrive, {200 - node_sees()} have")
    except AssertionError:
        if not world.direct:
            raise
    world.note(f"{200 - node_sees()} of 200 acknowledgements arrived in the alarm, {node.depth('results')} of their results")
    disk_alarm(node, False)
    world.healed()
    world.wait(lambda: node.depth("results") == 200, what=lambda: f"200 results, {node.depth('results')} came")
    with node.client() as direct:
        order = [int(message.body) for message in direct.drain("results")]
    world.check("results in order, each once", order == list(range(200)))


class Consumer:
    """A client of its own thread: prefetch 10, every delivery acknowledged. `holds`: so many are taken and kept until it is told to go on.
    `answers`: a queue that gets each body again, on the same channel, before the acknowledgement; it waits to be told, too."""

    def __init__(self, door, queue, holds=0, answers=None, vhost="/"):
        self.door, self.queue, self.holds, self.answers, self.vhost = door, queue, holds, answers, vhost
        self.held, self.done = [], []
        self._go, self._enough = threading.Event(), threading.Event()
        if not holds and not answers:
            self._go.set()
        threading.Thread(target=self._run, daemon=True).start()

    def goes_on(self):
        self._go.set()

    def takes_all(self, world, count, timeout=20):
        world.wait(lambda: len(self.done) == count, timeout, lambda: f"{count} deliveries acknowledged in an alarm, {len(self.done)} are")

    def _run(self):
        with self.door.client(vhost=self.vhost, timeout=60) as client:
            client.call(1, "basic.qos", prefetch_count=10)
            client.consume(self.queue, no_ack=False)
            try:
                while len(self.held) < self.holds:
                    self.held.append(client.delivery())
                self._go.wait(60)
                for message in self.held:
                    self._settle(client, message)
                while True:
                    _, name, what = client.next()
                    if name == "basic.deliver":  # connection.blocked and unblocked say nothing to somebody who waits for no confirms
                        self._settle(client, what)
            except (OSError, EOFError, wire.Refused):
                pass  # the world has ended

    def _settle(self, client, message):
        if self.answers:
            client.publish(self.answers, message.body)
        client.send(1, "basic.ack", delivery_tag=message.delivery_tag)
        self.done.append(message.body)
