"""Umbel itself: frozen, killed at random instants, reconfigured under load. (What the spool saves of a killed one is in spool.py.)"""

import json
import threading
import time

from kit.scenario import scenario
from kit.world import EAGER


@scenario("Umbel killed (kill -9) five times at random instants, window tier, producers with confirms", rows=42, short=True, exceptions=None, reordered=None,
          duplicated=5 * 2 * 100, ledger=False, recovery=None)
def killed_at_random(world):
    """What was acked was confirmed by the broker: none of it is lost. Producers see their connection die, and come back on another: order
    is a promise within one."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    for _ in range(2):
        world.raw(door, rate=600, confirms=True, window=100, queues=["q"], channels=2)
    for _ in range(5):
        world.moment(0.2, 1.0)
        door.kill()
        door.start()
    world.sleep(1)


@scenario("the same without confirms: what dies with the process", rows=42, exceptions=None, reordered=None, lost=None, ledger=False, recovery=None, slowest=3.0)
def killed_with_what_it_held(world):
    """Tier window keeps nothing on disk: what Umbel had read and the broker had not confirmed is lost, and no more than that."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    producer = world.raw(door, rate=600, queues=["q"])
    kills, at_once = 5, []
    for _ in range(kills):
        world.moment(0.2, 1.0)
        at_once.append(world.watches[door.name].last)
        door.kill()
        door.start()
    world.sleep(1)
    world.loads.stop()
    sent = producer.returned()
    world.wait(lambda: node.depth("q", world.vhost) > 0)
    world.sleep(0.5)
    lost = sent - node.depth("q", world.vhost)
    world.note(f"{lost} of {sent} lost by {kills} kills")
    world.check(f"{lost} lost by {kills} kills, at 600 a second", lost <= kills * 60)


@scenario("Umbel frozen (SIGSTOP) for 0.8 s, six times", rows=41, direct=False, accepted=500, exceptions=0, recovery=None, slowest=1.0)
def frozen_itself(world):
    """Shorter than py-amqp's patience: nobody notices."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    world.celery(door, queue="tasks", pause=0.003)
    world.raw(door, rate=300, queues=["q"], confirms=True)
    for _ in range(6):
        world.moment(0.3, 0.8)
        door.process.pause()
        world.sleep(0.8)
        door.process.resume()


@scenario("Umbel frozen for 8 s: longer than the heartbeats on both sides", rows=41, exceptions=None, reordered=None, lost=None, recovery=None, slowest=None)
def frozen_long(world):
    """The kernel of producers with py-amqp's TCP_USER_TIMEOUT may give up, as with a frozen broker. Acked stays acked."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    world.raw(door, rate=300, queues=["q"], confirms=True, window=5_000)
    world.sleep(1)
    door.process.pause()
    world.sleep(8)
    door.process.resume()
    world.sleep(3)
    world.loads.stop()
    acked = {("p0/1", n) for n in world.loads.all[0].journal().acked["p0/1"]}
    world.wait(lambda: node.depth("q", world.vhost) >= len(acked), what="what was acked to be there")


def route(queue, priority):
    return f'[[rules]]\nname = "r"\nmatch = {{ task = "*" }}\nroute = {{ queue = "{queue}", override = true }}\npriority = {{ set = {priority} }}\n'


class Tasks(threading.Thread):
    """Celery-shaped publishes with confirms; `sent` counts them."""

    def __init__(self, client, pause=0.0005):
        super().__init__(daemon=True)
        self.client, self.pause, self.sent, self.over, self.wrong = client, pause, 0, threading.Event(), None

    def run(self):
        try:
            while not self.over.is_set():
                body = json.dumps([[self.sent], {}, {}]).encode()
                self.client.publish("celery", body, headers={"task": "t", "id": str(self.sent)}, content_type="application/json",
                                    content_encoding="utf-8", correlation_id=str(self.sent), delivery_mode=2)
                self.sent += 1
                time.sleep(self.pause)
        except OSError as error:
            self.wrong = error


@scenario("SIGHUP a hundred times under load: good, bad and half-written files, symlink swaps", rows=(45, 46), recovery=None, accepted=0, exceptions=None)
def reloads(world):
    """Each snapshot sends to a queue of its own with a priority of its own: no message has one of one and one of another. Order is kept in each."""
    node = world.node()
    with node.client(vhost=world.vhost) as direct:
        for n in (1, 2):
            direct.declare(f"to{n}")
    umbel = world.umbel(node.url(), rules=route("to1", 1), upstream_options=EAGER)
    with umbel.client(vhost=world.vhost) as client:
        client.declare("celery")
        client.select_confirms()
        tasks = Tasks(client)
        tasks.start()
        for turn in range(100):
            kind = world.random.choice(["good", "good", "bad", "half"])
            if kind == "good":
                n = 1 + turn % 2
                umbel.write_config(route(f"to{n}", n))
            elif kind == "bad":
                umbel.write_config('[[rules]]\nname = "bad"\nmatch = { tsk = "x" }\n')
            else:
                umbel.config.write_text(umbel.toml(route("to1", 1))[:world.random.randrange(20, 200)])
            umbel.reload()
            world.moment(0.01, 0.05)
        tasks.over.set()
        tasks.join(10)
        nacked = client.confirmed(tasks.sent, timeout=20)
    world.check(f"no exception: {tasks.wrong}", tasks.wrong is None)
    world.check(f"{len(nacked)} nacked", not nacked)
    with node.client(vhost=world.vhost) as direct:
        got = {n: direct.drain(f"to{n}") for n in (1, 2)}
        left = direct.drain("celery")
    numbers = {n: [int(m.properties["correlation_id"]) for m in messages] for n, messages in got.items()}
    world.note(f"{tasks.sent} tasks under 100 reloads: {len(got[1])} and {len(got[2])} by the two snapshots")
    world.check(f"all {tasks.sent} are there", sorted(numbers[1] + numbers[2] + [int(m.properties["correlation_id"]) for m in left]) == list(range(tasks.sent)))
    world.check("in order in each queue", all(ns == sorted(ns) for ns in numbers.values()))
    world.check("no message of two snapshots", all({m.properties.get("priority") for m in messages} <= {n} for n, messages in got.items()))
    world.check("both snapshots took effect", all(got.values()))
