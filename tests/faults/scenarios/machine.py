"""What the machine itself does: a disk that answers EIO (SPEC D4)."""

from kit.scenario import scenario
from kit.shim import READS, SYNCS, WRITES, Shim

from .spool import WINDOW, durable, refused_with_506, spooled

SPOOL = "spool"


def bad_disk(world):
    """A disk under the spool that fails when it is told to."""
    return Shim(world.place, below=world.place / SPOOL)


def well_again(world, door, timeout=20):
    world.wait(lambda: door.status()["spool"]["accepting"], timeout, "the spool to be well again")


def says_why(world, door):
    """What an operator sees: /status, and one clear line in the log."""
    spool = world.wait(lambda: (door.status()["spool"] or {}).get("last_error") and door.status()["spool"], 5, "/status to say so")
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
        shim.fail(*kinds)
        world.wait(lambda: shim.failed, 5, "the disk to have failed")
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
    world.wait(lambda: world.watches[door.name].most_spooled > 300, 10, "a filled spool")
    shim.fail(WRITES, SYNCS)
    world.wait(lambda: producer.returned(b"k") > 100, 20, "nacks")
    says_why(world, door)
    shim.fail(WRITES, SYNCS, READS)
    relay.heal()
    world.sleep(2)
    shim.fail()
    world.healed()
    well_again(world, door)
    before = producer.acked()
    world.wait(lambda: producer.acked() > before + 100, 10, "acks again")
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
    world.wait(lambda: world.watches[door.name].most_spooled > 300, 10, "a filled spool")
    shim.fail(WRITES, SYNCS)
    world.wait(lambda: producer.returned(b"e") > 0, 20, "the refusal")
    world.sleep(1)
    shim.fail()
    relay.heal()
    world.healed()
    well_again(world, door)
    refused_with_506(world, producer)
