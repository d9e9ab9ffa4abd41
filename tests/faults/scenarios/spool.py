"""What waits on disk: outages beyond the window, kill -9, damage, full disks, bounds (SPEC D4, tier durable)."""

import subprocess
import time

from kit.scenario import scenario

WINDOW = 100  # of a producer with confirms
KILLS = 5


def spool(world, options=""):
    return f'[spool]\npath = "{world.place}/spool"\n{options}\n'


def spooled(world, upstream_options="window_messages = 400", options="", **more):
    """(an Umbel with a spool and a small window, the relay between it and the shared broker), with two queues."""
    relay = world.relay(world.node())
    world.queue("q", "r")
    return world.door(relay, spool(world, options), upstream_options, **more), relay


def durable(world, **more):
    return spooled(world, 'tier = "durable"', **more)


def again(world, umbel, ready=True):
    """The same Umbel in another life: port, configuration, spool."""
    umbel.start(ready=ready)


@scenario("broker away for 4 s, ten times what the window holds", rows=(4, 12), short=True)
def outage_beyond_the_window(world):
    """Producers notice nothing; what the window does not hold waits on disk, in order, and goes before what comes later."""
    door, relay = spooled(world)
    world.raw(door, channels=3, rate=800)
    world.raw(door, rate=200, confirms=True, window=2000)
    world.sleep(0.5)
    relay.cut()
    world.sleep(4)
    most = world.watches[door.name].most_spooled
    relay.heal()
    world.healed()
    world.sleep(1)
    world.note(f"{most} on disk at the most")
    world.check("the spool was used", most > 1000)


@scenario("broker away five times for a moment, with a small window", rows=(2, 12), short=True)
def many_short_outages(world):
    """In and out of the spool, again and again, under load: order holds at each turn."""
    door, relay = spooled(world, "window_messages = 200")
    world.raw(door, channels=2, rate=800)
    for _ in range(5):
        world.moment(0.2, 0.6)
        relay.cut()
        world.moment(0.3, 0.9)
        relay.heal()
    world.healed()
    world.sleep(0.5)


@scenario("memory alarm for 5 s, with a small window", rows=(10, 12), recovery=15.0)
def alarm_beyond_the_window(world):
    world.own_node()
    world.queue("q")
    door = world.door(world.broker, spool(world), "window_messages = 100")
    world.raw(door, channels=2, rate=600)
    world.sleep(0.5)
    world.broker.memory_alarm(True)
    world.sleep(5)
    world.broker.memory_alarm(False)
    world.healed()
    world.sleep(1)
    world.check("the spool was used", world.watches[door.name].most_spooled > 500)


@scenario("window and spool full in an outage: producers with confirms", rows=12, short=True, accepted=500, paused=5.0)
def every_bound_reached_with_confirms(world):
    """Nacks, and nothing else: what was acked before is on disk, the oldest too.

    (While what waits is as much as may, the flood is paused in slices of less than half a second.)"""
    door, relay = spooled(world, options='max_bytes = "1MiB"')
    producer = world.raw(door, rate=1500, confirms=True, window=5000, size=1000)
    world.sleep(0.5)
    relay.cut()
    world.wait(lambda: producer.returned(b"k") > 200, what="nacks")
    relay.heal()
    world.healed()
    nacked = producer.returned(b"k")
    world.sleep(1)
    world.note(f"{nacked} nacked")
    world.check("refusals are counted", world.umbels[0].metric("umbel_publishes_refused_total") >= nacked)


@scenario("broker away for 6 s, max_age 3 s", rows=(4, 50), lost=None)
def older_than_max_age(world):
    """What has waited longer than it may is left out, counted and told, neither more nor less; what is younger arrives, in order."""
    door, relay = spooled(world, options='max_age = "3s"')
    producer = world.raw(door, rate=400)
    world.sleep(0.5)
    relay.cut()
    world.sleep(6)
    relay.heal()
    world.healed()
    world.sleep(1)
    world.loads.stop()
    world.wait(lambda: door.metric("umbel_spool_messages") == 0, what="an empty spool")
    aged = door.metric("umbel_spool_exits_total", outcome="expired")
    arrived = sum(world.broker.depth(queue, world.vhost) for queue in world.queues)
    world.note(f"{aged:.0f} left out, of {producer.returned()}")
    # What was unconfirmed when the link died may have arrived before it was sent again.
    twice, resent = arrived + aged - producer.returned(), door.metric("umbel_publishes_resent_total")
    world.check(f"{producer.returned()} accepted = {arrived} arrived, {twice:.0f} of them twice, + {aged:.0f} left out", 0 <= twice <= resent)
    world.check("about 3 s' worth of them, at 400 a second", 600 < aged < 2000)
    world.check("the log says so", "waited longer than spool.max_age" in door.logged())


def refused_with_506(world, producer):
    """Of a producer that came once and was refused: what it had sent behind the refused publish is what its exception tells it of."""
    lines = producer.journal_file.read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("e"))
    world.check(f"it is a 506: {lines[first]}", "506" in lines[first])
    # What was on the wire when the refusal came is not accepted: it is behind the publish that was refused.
    text = [line for line in lines if line.startswith("r")]
    refused = int(world.umbels[0].metric("umbel_publishes_refused_total"))
    accepted = int(world.umbels[0].metric("umbel_publishes_accepted_total"))
    world.note(f"{len(text)} calls had returned, {accepted} accepted, {refused} refused")
    producer.journal_file.write_text("\n".join(text[:accepted - refused] + [line for line in lines if line.startswith("e")]) + "\n")


@scenario("window and spool full in an outage: producers without confirms", rows=(12, 14), accepted=500, exceptions=None)
def every_bound_reached_without_confirms(world):
    """connection.close 506 within a second. What the producer had sent behind the refused one is what its exception tells it of."""
    door, relay = spooled(world, options='max_bytes = "1MiB"')
    producer = world.raw(door, rate=1500, confirms=False, size=1000, reconnect=False)
    world.sleep(0.5)
    relay.cut()
    world.wait(lambda: producer.returned(b"e") > 0, what="the refusal")
    relay.heal()
    world.healed()
    world.sleep(0.5)
    refused_with_506(world, producer)


@scenario("kill -9 at random instants under load, tier durable, producers with confirms", rows=42, short=True, exceptions=None, slowest=None,
          duplicated=KILLS * (WINDOW + 300), ledger=False, reordered=0)
def killed_with_confirms(world):
    """What was acked is never lost; what was not yet known to be confirmed goes again, once for each kill."""
    door, _ = durable(world)
    world.raw(door, channels=2, rate=800, confirms=True, window=WINDOW)
    world.raw(door, rate=100, size=(0, 50_000), confirms=True, window=WINDOW)
    for _ in range(KILLS):
        world.moment(0.3, 0.9)
        door.kill()
        again(world, door)
    world.healed()
    world.sleep(0.5)


@scenario("kill -9 at random instants under load, tier durable, producers without confirms", rows=42, exceptions=None, slowest=None,
          duplicated=KILLS * 500, ledger=False, lost=KILLS * 200)
def killed_without_confirms(world):
    """Lost: what Umbel had not read, or not yet written, at each kill: what its machine kept it from
    doing at that moment (bound: 0.2 s' worth at 900 a second; the row says what it was)."""
    door, _ = durable(world)
    world.raw(door, channels=2, rate=800)
    world.raw(door, rate=100, size=(0, 50_000))
    for _ in range(KILLS):
        world.moment(0.3, 0.9)
        door.kill()
        again(world, door)
    world.healed()
    world.sleep(0.5)


@scenario("kill -9 at random instants while the broker is away and the spool fills", rows=(42, 43), short=True, exceptions=None, slowest=None,
          duplicated=KILLS * WINDOW, ledger=False, recovery=20.0)
def killed_in_an_outage(world):
    """Torn writes included: what the disk had acked is there in every life, and goes out in order. Logins are known again."""
    door, relay = durable(world)
    world.raw(door, channels=2, rate=600, confirms=True, window=2000)
    world.sleep(0.5)
    relay.cut()
    for _ in range(KILLS):
        world.moment(0.3, 0.9)
        door.kill()
        again(world, door, ready=False)
    world.moment(0.3, 0.9)
    relay.heal()
    world.healed()
    world.sleep(1)


def damaged(world, harm):
    """A spool of a killed Umbel is harmed; the next life sends what is sound. (records told as unsound, messages missing)"""
    door, relay = durable(world)
    producer = world.raw(door, rate=800, confirms=True, window=5000, size=(0, 3000))
    world.sleep(0.5)
    relay.cut()
    world.wait(lambda: world.watches[door.name].most_spooled > 1500, what="a filled spool")
    producer.stop()
    producer.join()
    door.kill()
    harm(world.place / "spool" / "spool.redb")
    again(world, door, ready=False)
    relay.heal()
    world.healed()
    world.wait(lambda: door.get("/readyz")[0] == 200)


@scenario("bits of the spool's file flip between two lives", rows=43, exceptions=None, slowest=None, lost=3, duplicated=1000, ledger=False,
          recovery=20.0, reordered=0)
def flipped_bits(world):
    """Three bits: at most three records, and those are told; their neighbours go out in order."""
    def flip(path):
        data = bytearray(path.read_bytes())
        used = [n for n in range(0, len(data), 512) if any(data[n:n + 512])]
        for _ in range(3):
            data[world.random.choice(used) + world.random.randrange(512)] ^= 1 << world.random.randrange(8)
        path.write_bytes(data)
    damaged(world, flip)


@scenario("the spool's file is cut short between two lives", rows=43, exceptions=None, slowest=None, lost=None, duplicated=None, ledger=False,
          recovery=20.0)
def a_cut_file(world):
    """Half of the file is gone, and what was in it: the other half is searched and goes out in order, the damaged file is set aside."""
    def cut(path):
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 2)
    damaged(world, cut)
    world.check("the file is set aside", any(".damaged-" in p.name for p in (world.place / "spool").iterdir()))
    world.check("the log says so", "set aside" in world.umbels[0].logged())


def small_disk(world, size="1m"):
    """A tmpfs where the spool will be; gone with the scenario."""
    path = world.place / "spool"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "umbel-faults", path], capture_output=True, text=True)
    assert done.returncode == 0, f"no tmpfs: {done.stderr}"

    class Mounted:
        def stop(self):
            subprocess.run(["umount", "-l", path], capture_output=True)
    world.end_with(Mounted())
    return path


@scenario("the spool's disk (tmpfs of 1 MB) is full while the broker is up", rows=44, short=True)
def full_disk_passes_through(world):
    """Tier durable, and no room at all: what passes goes on, acked when the broker has it; the log and /status say why."""
    path = small_disk(world)
    (path / "filler").write_bytes(b"x" * (1 << 20))
    door, _ = durable(world, ready=False)
    world.raw(door, channels=2, rate=500, confirms=True, window=WINDOW)
    world.sleep(2)
    spool_of = door.status()["spool"]
    world.check(f"/status says so: {spool_of}", not spool_of["accepting"] and spool_of["last_error"])
    (path / "filler").unlink()
    world.healed()
    world.wait(lambda: door.status()["spool"]["accepting"], what="the spool to be well again")
    world.sleep(0.5)


@scenario("the spool's disk (tmpfs of 1 MB) fills up in an outage", rows=44, short=True, accepted=300, paused=5.0)
def full_disk_in_an_outage(world):
    """Refused one by one (nacks), nothing that was acked is lost; once the broker is back there is room again.

    (While it takes what the disk had no room for, the flood is paused in slices of less than half a second.)"""
    small_disk(world)
    door, relay = spooled(world)
    producer = world.raw(door, rate=1500, confirms=True, window=5000, size=1000)
    world.sleep(0.5)
    relay.cut()
    world.wait(lambda: producer.returned(b"k") > 100, what="nacks")
    relay.heal()
    world.healed()
    before = producer.acked()
    world.wait(lambda: producer.acked() > before + 100, what="acks again")
    world.wait(lambda: door.status()["spool"]["accepting"], what="the spool to take again")


@scenario("the spool's disk turns read-only between two lives, and back", rows=44, exceptions=None, slowest=None, ledger=False, duplicated=500)
def read_only_disk(world):
    """Started on a disk that takes nothing: what passes goes on, /status says why, and once it takes again it is used."""
    path = small_disk(world, "64m")
    door, _ = durable(world)
    world.raw(door, channels=2, rate=500, confirms=True, window=WINDOW)
    world.sleep(0.5)
    door.kill()
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    again(world, door)
    world.sleep(2)
    spool_of = door.status()["spool"]
    world.check(f"/status says so: {spool_of}", not spool_of["accepting"] and "read-only" in str(spool_of["last_error"]).lower().replace("readonly", "read-only"))
    subprocess.run(["mount", "-o", "remount,rw", path], check=True)
    world.healed()
    world.wait(lambda: door.status()["spool"]["accepting"], what="the spool to be well again")
    world.sleep(0.5)


@scenario("SIGTERM while the broker is away: the next life sends the rest, in order", rows=(13, 41), short=True, exceptions=None, slowest=None,
          ledger=False, recovery=20.0, duplicated=100)
def told_to_stop_in_an_outage(world):
    """In memory and on disk: what was accepted first goes out first in the next life, too. It does not wait for a broker in vain."""
    door, relay = spooled(world)
    producer = world.raw(door, channels=3, rate=800, reconnect=False)
    world.sleep(0.5)
    world.wait(lambda: door.status()["counters"]["in_flight"] < 20)
    relay.cut()
    world.sleep(2)
    producer.stop()
    producer.join()
    began = time.monotonic()
    status = door.stop()
    world.check(f"exit status 0, not {status}", status == 0)
    world.check("nobody waited for a broker that is not there", time.monotonic() - began < 15)
    again(world, door, ready=False)
    relay.heal()
    world.healed()
    world.wait(lambda: door.get("/readyz")[0] == 200)
