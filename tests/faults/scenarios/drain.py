"""SIGTERM under load: nothing lost, no exception in any producer, exit 0 (SPEC D7)."""

import signal
import time

from kit.scenario import scenario

SHARED = "reuse_port = true"


def successor(world, first, target, rules="", options="", ready=True):
    """A second Umbel on the first one's port (SO_REUSEPORT), as a rolling restart on one host has it."""
    second = world.umbel([target.url()], start=False, listen=SHARED, upstream_options=options)
    second.port = first.port
    second.write_config(rules)
    second.start(ready=ready)
    return second


def handed_over(world, venvs, rules="", **producer):
    """Producers of these ages through a drain, while another instance takes over the port."""
    node = world.node()
    first = world.door(node, rules, listen=SHARED)
    producers = [world.celery(first, venv=venv, queue=f"q{n}", **producer) for n, venv in enumerate(venvs)]
    world.sleep(1)
    second = successor(world, first, node)
    began = time.monotonic()
    status = first.stop()
    world.note(f"drained in {time.monotonic() - began:.1f} s")
    world.check(f"exit status 0, not {status}", status == 0)
    before = [p.returned() for p in producers]
    for n, p in enumerate(producers):
        world.wait(lambda: p.returned() > before[n] + 50, what=f"the producer of {venvs[n]} to go on")
    world.check("the second instance took over", second.metric("umbel_publishes_accepted_total") > 0)


@scenario("SIGTERM under Celery 5's load, a second instance on the same port", rows=41, short=True, slowest=5.0, ledger=False)
def drained_under_celery_5(world):
    handed_over(world, ["celery5", "celery5"])


@scenario("SIGTERM under Celery 4.4's load, a second instance on the same port", rows=41, slowest=5.0, ledger=False, needs="celery44")
def drained_under_celery_44(world):
    handed_over(world, ["celery44", "celery44"])


@scenario("SIGTERM under Celery 3.1's load, a second instance on the same port", rows=41, slowest=5.0, ledger=False, needs="celery31")
def drained_under_celery_31(world):
    """It never reads, and so never hears us: it is read until the deadline (4 s here), to its last octet, and then reset."""
    handed_over(world, ["celery31", "celery31"], rules='[limits]\ndrain_timeout = "4s"')


@scenario("SIGTERM under Celery's load with confirms, a second instance on the same port", rows=41, slowest=5.0, ledger=False, exceptions=None,
          duplicated=4)
def drained_under_celery_with_confirms(world):
    """`confirm_publish`: what was acked is there; a call that was waiting for its ack is made again by Celery itself (one each, and one spare)."""
    handed_over(world, ["celery5", "celery5"], confirms=True)


@scenario("SIGTERM while the broker takes nothing: the deadline, then the disk; the next life sends it", rows=41, exceptions=None, slowest=None,
          ledger=False, duplicated=None, recovery=20.0)
def drained_behind_a_stalled_broker(world):
    """Alive and silent: it is waited for until `drain_timeout`; what it took without saying so goes twice."""
    relay = world.relay(world.node())
    world.queue("q")
    rules = f'[spool]\npath = "{world.place}/spool"\n[limits]\ndrain_timeout = "2s"\n'
    door = world.door(relay, rules, 'heartbeat = "0s"\nconfirm_timeout = "60s"', eager=False)
    producer = world.raw(door, channels=2, rate=500, reconnect=False)
    world.sleep(0.5)
    relay.stall()
    world.sleep(1)
    producer.stop()
    producer.join()
    began = time.monotonic()
    status = door.stop()
    world.check(f"exit status 0, not {status}", status == 0)
    world.check(f"the deadline is kept: {time.monotonic() - began:.1f} s", 1.5 < time.monotonic() - began < 6)
    relay.reset()
    relay.heal()
    door.start()
    world.healed()


@scenario("a second SIGTERM does not wait", rows=41, exceptions=None, slowest=None, ledger=False, duplicated=None, recovery=20.0)
def told_twice(world):
    """The producer keeps its socket open and the broker takes nothing: the first signal waits, the second puts the rest on disk."""
    relay = world.relay(world.node())
    world.queue("q")
    rules = f'[spool]\npath = "{world.place}/spool"\n'
    door = world.door(relay, rules, 'heartbeat = "0s"\nconfirm_timeout = "60s"', eager=False)
    producer = world.raw(door, rate=500, reconnect=False)
    world.sleep(0.5)
    relay.stall()
    world.sleep(0.5)
    producer.stop()
    producer.join()
    door.process.signal(signal.SIGTERM)
    world.sleep(1)
    world.check("the first signal waits", door.process.alive())
    began = time.monotonic()
    status = door.stop()
    world.check(f"the second does not: {time.monotonic() - began:.1f} s", time.monotonic() - began < 3)
    world.check(f"exit status 0, not {status}", status == 0)
    relay.reset()
    relay.heal()
    door.start()
    world.healed()


@scenario("SIGTERM in an outage, a second instance on the same port and the same spool", rows=(13, 41), short=True, exceptions=None, slowest=None,
          ledger=False, duplicated=100, recovery=20.0)
def handed_over_with_its_spool(world):
    """The successor starts while the first owns the spool, takes it over when that has left it, and sends the rest."""
    relay = world.relay(world.node())
    world.queue("q")
    rules = f'[spool]\npath = "{world.place}/spool"\n'
    options = 'window_messages = 200\n'
    first = world.door(relay, rules, options, listen=SHARED)
    producer = world.raw(first, channels=2, rate=500, reconnect=False)
    world.sleep(0.5)
    second = successor(world, first, relay, rules, options)
    world.check("the successor waits for the spool", not second.status()["spool"]["accepting"])
    relay.cut()
    world.sleep(1.5)
    producer.stop()
    producer.join()
    status = first.stop()
    world.check(f"exit status 0, not {status}", status == 0)
    world.wait(lambda: second.status()["spool"]["accepting"], what="the successor to own the spool")
    world.note(f'{second.status()["spool"]["messages"]} messages taken over')
    relay.heal()
    world.wait(lambda: second.status()["spool"]["messages"] == 0, what="an empty spool")
