"""What the machine itself does: a disk that answers EIO, a wall clock that jumps, a name that moves (SPEC D3, D4, P4)."""

import datetime
import socket
import time

from harness.wire import Client
from kit.scenario import scenario
from kit.shim import READS, SYNCS, WRITES, Shim
from kit.world import EAGER

from .spool import WINDOW, durable, refused_with_506, spooled

SPOOL = "spool"


def bad_disk(world):
    """A disk under the spool that fails when it is told to."""
    return Shim(world.place, below=world.place / SPOOL)


def well_again(world, door):
    world.wait(lambda: door.status()["spool"]["accepting"], what="the spool to be well again")


def says_why(world, door):
    """What an operator sees: /status, and one clear line in the log."""
    spool = world.wait(lambda: (door.status()["spool"] or {}).get("last_error") and door.status()["spool"], what="/status to say so")
    world.check(f"/status says so: {spool}", not spool["accepting"] and "os error 5" in spool["last_error"])
    world.check("the log says so", "the spool takes nothing" in door.logged())


def fails_under_load(world, *kinds):
    """Tier durable: while the disk fails, what passes goes on, acked when the broker has it. Afterwards the disk is used as before."""
    shim = bad_disk(world)
    door, _ = durable(world, env=shim.env)
    world.raw(door, channels=2, rate=500, confirms=True, window=WINDOW)
    world.raw(door, rate=200)
    for _ in range(3):
        world.moment(0.4, 0.8)
        before = shim.failed
        shim.fail(*kinds)
        world.wait(lambda: shim.failed > before, what="the disk to have failed")
        says_why(world, door)
        world.moment(0.4, 0.8)
        shim.fail()
        well_again(world, door)
    world.healed()
    world.sleep(0.5)
    world.check("after a failed sync the store is written anew", ("written anew" in door.logged()) == (SYNCS in kinds))
    world.note(f"{shim.failed} calls answered EIO")


@scenario("the spool's disk answers EIO to writes under load, three times, tier durable", rows=44, short=True)
def disk_that_does_not_write(world):
    """Nobody notices but the operator."""
    fails_under_load(world, WRITES)


@scenario("the spool's disk answers EIO to fsync under load, three times, tier durable", rows=44)
def disk_that_does_not_sync(world):
    """What a failed fsync was for is not acked by the disk: the broker's confirm does that."""
    fails_under_load(world, SYNCS)


@scenario("the spool's disk answers EIO in an outage, and to reads after it: producers with confirms", rows=44, short=True, accepted=300, paused=5.0, recovery=20.0)
def disk_that_fails_in_an_outage(world):
    """Nacks for what nobody can keep, and nothing that was acked is lost: it is sent once it can be read."""
    shim = bad_disk(world)
    door, relay = spooled(world, env=shim.env)
    producer = world.raw(door, rate=800, confirms=True, window=5000, size=1000)
    world.sleep(0.5)
    relay.cut()
    world.wait(lambda: world.watches[door.name].most_spooled > 300, what="a filled spool")
    shim.fail(WRITES, SYNCS)
    world.wait(lambda: producer.returned(b"k") > 100, what="nacks")
    says_why(world, door)
    shim.fail(WRITES, SYNCS, READS)
    relay.heal()
    world.sleep(2)
    shim.fail()
    world.healed()
    well_again(world, door)
    before = producer.acked()
    world.wait(lambda: producer.acked() > before + 100, what="acks again")
    world.note(f"{producer.returned(b'k')} nacked, {shim.failed} calls answered EIO")
    world.check("the log says it once", door.logged().count("the spool cannot be read") == 1)


@scenario("the spool's disk answers EIO in an outage: producers without confirms", rows=44, accepted=300, exceptions=None, recovery=20.0)
def disk_that_fails_in_an_outage_without_confirms(world):
    """connection.close 506 within a second; what was accepted before arrives."""
    shim = bad_disk(world)
    door, relay = spooled(world, env=shim.env)
    producer = world.raw(door, rate=800, size=1000, reconnect=False)
    world.sleep(0.5)
    relay.cut()
    world.wait(lambda: world.watches[door.name].most_spooled > 300, what="a filled spool")
    shim.fail(WRITES, SYNCS)
    world.wait(lambda: producer.returned(b"e") > 0, what="the refusal")
    world.sleep(1)
    shim.fail()
    relay.heal()
    world.healed()
    well_again(world, door)
    refused_with_506(world, producer)


def expiring(world, door, expires):
    """One task for each moment (seconds of the real clock), confirmed; they go to a queue of their own."""
    with Client.open(door.address, vhost=world.vhost) as client:
        client.select_confirms()
        for moment in expires:
            text = datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).isoformat()
            client.publish("tasks", b"[[], {}, {}]", headers={"task": "t", "id": "1", "expires": text}, content_type="application/json",
                           content_encoding="utf-8", correlation_id="1")
        client.confirmed(len(expires))


def exits(door):
    """Messages that have left the spool, whatever became of them."""
    return door.metric("umbel_spool_exits_total")


@scenario("the wall clock jumps an hour ahead, and two hours back, under load and in an outage; max_age 30 minutes", rows=49, short=True)
def clock_that_jumps(world):
    """Connections, heartbeats and confirms do not notice; what waits on disk does not age by it; `expires` is judged by the clock as it is."""
    shim = Shim(world.place)
    revoke = '[[rules]]\nname = "expired"\nexpiry = { action = "revoke" }\n'
    door, relay = spooled(world, options=f'max_age = "30m"\n{revoke}', env=shim.env)
    node = world.broker
    with node.client(vhost=world.vhost) as direct:
        direct.declare("tasks")
    world.raw(door, channels=2, rate=400, heartbeat=2)
    world.raw(door, rate=200, confirms=True, window=5000, heartbeat=2)
    arrived = 0
    for hours in (1, -1, 0):
        shim.jump(hours * 3600)
        world.sleep(0.5)
        now = time.time() + hours * 3600
        before = door.metric("umbel_publishes_expired_total")
        expiring(world, door, [now + 60, now - 60, now + 600])
        arrived += 2
        world.wait(lambda: node.depth("tasks", world.vhost) == arrived, what=f"{arrived} tasks that have not expired")
        world.check(f"one of three had expired, {hours} h away", door.metric("umbel_publishes_expired_total") - before == 1)
    for hours in (1, -1):
        relay.cut()
        world.wait(lambda: world.watches[door.name].last.get("umbel_spool_messages", 0) > 200, what="a filled spool")
        shim.jump(hours * 3600)
        world.sleep(0.5)
        oldest = door.status()["spool"]["oldest_seconds"]
        world.check(f"the oldest on disk is {oldest} s old", oldest < 60)
        # The producers go on: what waits by now is to leave, not what comes behind it.
        due = exits(door) + door.metric("umbel_spool_messages")
        relay.heal()
        world.healed()
        world.wait(lambda: exits(door) >= due, 60, lambda: f"{due:.0f} messages to leave the spool, {exits(door):.0f} have")
        shim.jump(0)
    world.check("nothing has aged", door.metric("umbel_spool_exits_total", outcome="expired") == 0)


class Names:
    """An /etc/hosts of its own, for whoever runs behind `prefix`: a mount that only its own namespace has."""

    def __init__(self, world, **addresses):
        self.file = world.place / "hosts"
        self.say(**addresses)
        self.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', self.file]

    def say(self, **addresses):
        """In place: the mount is of this file, not of its name."""
        self.file.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in addresses.items()))


@scenario("the upstream's name moves to another address, to none, and back, tier window", rows=55, short=True)
def name_that_moves(world):
    """Each dial asks anew; a connection that lives is not disturbed by what its name says by now."""
    node = world.node()
    world.queue("q")
    first = world.relay(node)
    second = world.relay(node, at=("127.0.0.2", first.port))
    names = Names(world, broker=first.address[0])
    umbel = world.umbel(f"amqp://broker:{first.port}", upstream_options=EAGER, under=names.prefix)
    world.raw(umbel, rate=300)
    world.sleep(0.5)
    names.say(broker="127.0.0.2")
    world.sleep(0.5)
    world.check("a connection that lives stays where it is", second.accepted == 0)
    first.cut()
    world.wait(lambda: second.accepted, what="a dial of the new address")
    world.wait(lambda: umbel.status()["upstreams"][0]["state"] == "up", what="the upstream there")
    names.say()
    second.reset()
    world.wait(lambda: umbel.status()["upstreams"][0]["state"] != "up", what="the outage to be seen")
    world.sleep(0.5)
    world.check("the log names the name", f"broker:{first.port}" in umbel.logged())
    dials = first.accepted
    first.heal()
    names.say(broker="127.0.0.1")
    world.healed()
    world.wait(lambda: first.accepted > dials, what="a dial of the first address")
    world.sleep(0.5)


class Silent:
    """An address where nobody answers: its queue of connections is full, so the kernel drops who comes."""

    def __init__(self, at):
        self.listener = socket.socket()
        self.listener.bind(at)
        self.listener.listen(0)
        self.inside = []
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(at)
            self.inside.append(client)

    def stop(self):
        for each in (self.listener, *self.inside):
            each.close()


@scenario("the upstream's name has two addresses, the first of them silent", rows=(5, 55))
def name_with_a_silent_address(world):
    """No outage: the silent one takes its share of the time for a dial, and the other is tried."""
    node = world.node()
    world.queue("q")
    relay = world.relay(node, at=("127.0.0.2", 0))
    world.end_with(Silent(("127.0.0.1", relay.port)))
    names = Names(world)
    names.file.write_text("127.0.0.1 localhost\n127.0.0.1 broker\n127.0.0.2 broker\n")
    umbel = world.umbel(f"amqp://broker:{relay.port}", upstream_options=EAGER, under=names.prefix)
    world.raw(umbel, rate=300)
    for _ in range(2):
        world.sleep(0.5)
        relay.reset()
    world.healed()
    world.sleep(1.5)
