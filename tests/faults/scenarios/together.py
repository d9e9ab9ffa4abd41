"""Several faults at once: each of them holds alone elsewhere (SPEC D2, D3, D4, D7)."""

import time

from kit.scenario import scenario
from kit.world import own

from .drain import SHARED, successor
from .soak import faults
from .spool import WINDOW, again, refused_with_506, spool, spooled


@scenario("memory alarm of 6 s while the link is reset every 0.7 s, with a small window", rows=(2, 10), recovery=15.0, paused=3.0)
def alarm_and_resets(world):
    """What the blocked broker had not read of each link goes again, behind nothing that came later. (Each new link is not blocked yet: while the
    full window goes out on it, floods are paused in slices of less than half a second.)"""
    relay = world.relay(world.own_node())
    world.queue("q", "r")
    door = world.door(relay, spool(world), "window_messages = 300")
    world.raw(door, channels=2, rate=500)
    world.raw(door, rate=200, confirms=True, window=3_000)
    world.sleep(0.5)
    world.broker.memory_alarm(True)
    for _ in range(8):
        world.moment(0.5, 0.9)
        relay.reset()
    world.broker.memory_alarm(False)
    world.healed()
    world.sleep(1)


@scenario("broker killed (SIGKILL) in the middle of its own memory alarm, tier durable, Celery 5 beside", rows=(7, 10), recovery=20.0)
def killed_in_an_alarm(world):
    """What it never read and what it read and forgot: all of it is still ours."""
    node, door = own(world, raw=False, rules=spool(world), upstream_options='tier = "durable"')
    world.raw(door, rate=300, queues=["q"], confirms=True, window=5_000)
    world.raw(door, rate=200, queues=["q"])
    world.sleep(1)
    node.memory_alarm(True)
    world.sleep(3)
    node.kill()
    world.sleep(1)
    node.start()
    world.healed()
    world.sleep(2)


@scenario("spool full in a memory alarm; SIGTERM, another life in the same alarm, kill -9, a third; then the alarm ends", rows=(10, 12, 41, 42), accepted=500,
          exceptions=None, slowest=None, ledger=False, recovery=20.0, duplicated=None)
def lives_of_a_full_spool_in_an_alarm(world):
    """Nothing that was acked is lost, nor out of order, whoever carries it; each life refuses what it cannot keep (nacks)."""
    node = world.own_node()
    world.queue("q")
    door = world.door(node, spool(world, 'max_bytes = "1MiB"'), 'tier = "durable"\nwindow_messages = 200')
    producer = world.raw(door, rate=800, confirms=True, window=3_000, size=1_000)
    world.sleep(0.5)
    node.memory_alarm(True)
    refused = lambda: producer.returned(b"k")  # noqa: E731
    world.wait(lambda: refused() > 100, 20, "nacks")
    status = door.stop()
    world.check(f"exit status 0, not {status}", status == 0)
    for kill in (True, False):
        before = refused()
        again(world, door, ready=False)
        world.wait(lambda: refused() > before + 50, 20, "nacks in another life")
        if kill:
            door.kill()
    node.memory_alarm(False)
    world.healed()
    world.wait(lambda: door.status()["spool"]["messages"] == 0, 20, "an empty spool")
    before = producer.acked()
    world.wait(lambda: producer.acked() > before + 100, 10, "acks again")
    world.note(f"{refused()} nacked")


def taken_over_in_trouble(world, begin, end, venvs):
    """SIGTERM while the broker takes nothing, Celery producers calling on; the successor has the port and, then, the spool. Its window is to hold what
    comes until then."""
    rules, options = f'{spool(world)}[limits]\ndrain_timeout = "4s"\n', "window_messages = 5_000\n"
    relay = world.relay(world.broker)
    first = world.door(relay, rules, options, listen=SHARED)
    producers = [world.celery(first, venv=venv, queue=f"q{n}", pause=0.004) for n, venv in enumerate(venvs)]
    world.sleep(1)
    begin(relay)
    world.sleep(1.5)
    second = successor(world, first, relay, rules, options, ready=False)
    world.wait(lambda: second.get("/healthz")[0] == 200, 15, "the successor to live")
    began = time.monotonic()
    status = first.stop()
    world.note(f"drained in {time.monotonic() - began:.1f} s")
    world.check(f"exit status 0, not {status}", status == 0)
    world.wait(lambda: second.status()["spool"]["accepting"], 10, "the successor to own the spool")
    before = [p.returned() for p in producers]
    for n, p in enumerate(producers):
        world.wait(lambda: p.returned() > before[n] + 50, 30, f"the producer of {venvs[n]} to go on")
    world.note(f"{second.status()['spool']['messages']} on disk in the end")
    end(relay)
    world.wait(lambda: second.status()["spool"]["messages"] == 0, 20, "an empty spool")
    world.sleep(1)


@scenario("SIGTERM in a memory alarm under Celery 5's load, a second instance on the same port and spool", rows=(10, 41), slowest=5.0, ledger=False,
          duplicated=None, reordered=None)
def taken_over_in_an_alarm(world):
    """(What the alarmed broker had not read may be sent by both; a producer's next connection is another order.)"""
    world.own_node()
    taken_over_in_trouble(world, lambda _: world.broker.memory_alarm(True), lambda _: world.broker.memory_alarm(False), ["celery5", "celery5"])


@scenario("SIGTERM in an outage under Celery 5's and 3.1's load, a second instance on the same port and spool", rows=(13, 41), slowest=5.0, ledger=False,
          duplicated=None, reordered=None, needs="celery31")
def taken_over_in_an_outage(world):
    """Nobody can ask the broker: the successor lets them in by what it is left."""
    world.node()
    taken_over_in_trouble(world, lambda relay: relay.cut(), lambda relay: relay.heal(), ["celery5", "celery31"])


@scenario("the broker moves while it is away: its new url comes with a reload, the spool goes there", rows=(4, 45))
def moved_in_an_outage(world):
    """Producers notice nothing; what waited, in memory and on disk, goes to the new place, in order."""
    door, relay = spooled(world)
    elsewhere = world.relay(world.broker)
    world.raw(door, channels=2, rate=500)
    world.raw(door, rate=200, confirms=True, window=3_000)
    world.sleep(0.5)
    relay.cut()
    world.sleep(2)
    door.urls = [elsewhere.url()]
    door.write_config(spool(world))
    door.reload()
    world.healed()
    world.wait(lambda: elsewhere.accepted, 10, "the new url to be tried")
    world.sleep(1)
    world.check("nobody goes to the old one", relay.open_pairs == 0)


@scenario("one of two upstreams away for 4 s, then the other: each has its own rule", rows=(4, 46))
def one_of_two_upstreams(world):
    """What goes to the other one is not held up, and all arrives where it belongs."""
    node = world.node()
    near, far = world.relay(node), world.relay(node)
    rules = (f'{spool(world)}[upstreams.far]\nurls = ["{far.url()}"]\nwindow_messages = 200\n'
             '[[rules]]\nname = "far"\nmatch = { queue = "far" }\nroute = { upstream = "far", override = true }\n')
    door = world.door(near, rules, "window_messages = 200")
    here, there = world.celery(door, queue="near", pause=0.004), world.celery(door, queue="far", pause=0.004)
    for relay, other, queue in ((far, here, "near"), (near, there, "far")):
        world.sleep(1)
        relay.cut()
        world.sleep(0.5)
        before = node.depth(queue, world.vhost)
        world.sleep(3)
        went = node.depth(queue, world.vhost) - before
        world.check(f"{went} to {queue} while the other was away", went > 100)
        relay.heal()
        world.healed()
        world.sleep(1)
    world.check("both were used", near.accepted > 1 and far.accepted > 1)
    world.check(f"both go on: {here.returned()}, {there.returned()}", min(here.returned(), there.returned()) > 500)


@scenario("Celery 3.1, 4.4, 5.2 and 5 at once: link black, then reset, then the broker killed", rows=(2, 4, 7), needs=("celery31", "celery44", "celery52"),
          recovery=20.0, accepted=1_000)
def every_age(world):
    """No delay() of any of them raises, none is slow."""
    node = world.own_node()
    relay = world.relay(node)
    door = world.door(relay)
    for n, venv in enumerate(("celery31", "celery44", "celery52", "celery5")):
        world.celery(door, venv=venv, queue=f"q{n}", pause=0.01)
    world.sleep(1)
    relay.black_hole()
    world.sleep(6)
    relay.heal()
    for _ in range(3):
        world.moment(0.3, 0.8)
        relay.reset()
    node.kill()
    node.start()
    world.healed()
    world.sleep(2)


def window_full(world, **options):
    """No spool, an outage, and a window of a thousand."""
    relay = world.relay(world.node())
    world.queue("q")
    door = world.door(relay, "", "window_messages = 1_000")
    producer = world.raw(door, rate=800, size=200, queues=["q"], **options)
    world.sleep(0.5)
    relay.cut()
    return producer, relay


@scenario("an outage without a spool, the window full: producers with confirms", rows=14, accepted=1_000, paused=3.0)
def window_full_with_confirms(world):
    """Nacks for what comes then; what was taken arrives. (Afterwards the full window pauses the flood in slices of less than half a second.)"""
    producer, relay = window_full(world, confirms=True, window=5_000)
    world.wait(lambda: producer.returned(b"k") > 100, 10, "nacks")
    world.sleep(1)
    relay.heal()
    world.healed()
    world.sleep(1)
    world.note(f"{producer.returned(b'k')} nacked")


@scenario("an outage without a spool, the window full: producers without confirms", rows=14, accepted=500, exceptions=None)
def window_full_without_confirms(world):
    """connection.close 506 within a second of the first that finds no room."""
    producer, relay = window_full(world, reconnect=False)
    world.wait(lambda: producer.returned(b"e") > 0, 10, "the refusal")
    relay.heal()
    world.healed()
    world.sleep(0.5)
    refused_with_506(world, producer)


@scenario("a minute of random faults, kill -9 of Umbel among them, tier durable, producers with confirms", rows=(42, 59), exceptions=None, slowest=None,
          duplicated=None, ledger=False, recovery=25.0, accepted=5_000, reordered=None)
def a_minute_with_deaths(world):
    """What was acked arrives, whoever died meanwhile, and however many of them at once. (Order is a promise within one life of a connection.)"""
    node = world.own_node()
    world.queue("q", "r")
    relay = world.relay(node)
    door = world.door(relay, spool(world), 'tier = "durable"\nwindow_messages = 500')
    for _ in range(2):
        world.raw(door, channels=2, rate=300, confirms=True, window=WINDOW)
    world.raw(door, rate=100, size=(0, 30_000), confirms=True, window=WINDOW)
    end, done = time.monotonic() + 60, []
    while time.monotonic() < end:
        menu = faults(relay, node, world.random)
        name = world.random.choice(sorted(menu))
        begin, heal = menu[name]
        begin()
        world.moment(0.1, 2.0)
        if world.random.random() < 0.5:
            door.kill()
            again(world, door, ready=False)
            name += " and kill -9"
        world.moment(0.1, 2.0)
        if heal:
            heal()
        relay.heal()
        done.append(name)
        world.moment(0.2, 1.0)
    node.resume()
    relay.heal()
    world.healed()
    world.sleep(2)
    world.note(f"{len(done)} faults: " + ", ".join(f"{done.count(name)} {name}" for name in sorted(set(done))))
