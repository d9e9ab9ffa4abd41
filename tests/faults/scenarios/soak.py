"""Everything at once: faults drawn by the seed, one after the other, under load that never stops."""

import time

from kit.scenario import scenario


def faults(relay, node, random):
    """(name, begin, end) of what can be done to a broker and the line to it."""
    ways = relay.ways
    return {
        "reset": (relay.reset, None),
        "close": (relay.close, None),
        "half-close": (random.choice([relay.half_close_client, relay.half_close_target]), None),
        "cut inside a frame": (lambda: setattr(relay.to_target, "cut_after", random.randrange(50_000)), relay.heal),
        "answers cut inside a frame": (lambda: setattr(relay.to_client, "cut_after", random.randrange(500)), relay.heal),
        "black hole": (relay.black_hole, relay.heal),
        "answers swallowed": (lambda: setattr(relay.to_client, "black_hole", True), relay.heal),
        "stall": (lambda: relay.stall(True), relay.heal),
        "latency": (lambda: [setattr(w, "delay", random.uniform(0.02, 0.3)) for w in ways], relay.heal),
        "narrow": (lambda: setattr(relay.to_target, "rate", random.randrange(20_000, 200_000)), relay.heal),
        "octet by octet": (lambda: [setattr(w, "slice", random.choice([1, 3, 100])) for w in ways], relay.heal),
        "refused": (relay.cut, relay.heal),
        "frozen": (node.pause, node.resume),
        "memory alarm": (lambda: node.memory_alarm(True), lambda: node.memory_alarm(False)),
        "killed": (node.kill, node.start),
        "operator's close": (lambda: node.close_connections("soak"), None),
    }


SECONDS, LONGEST_FAULT = 120, 5.0


@scenario("two minutes of random faults, one after the other", rows=59, recovery=25.0, memory=260.0, accepted=10_000)
def two_minutes_of_faults(world):
    """For longer: --rounds, with seeds of their own."""
    node = world.own_node()
    world.queue("q", "r", "s")
    relay = world.relay(node)
    door = world.door(relay)
    world.raw(door, rate=300, channels=3)
    world.raw(door, rate=150, size=(0, 30_000))
    world.raw(door, rate=300, channels=2, confirms=True, window=3_000)
    world.celery(door, queue="tasks", pause=0.005)
    end, done = time.monotonic() + SECONDS, []
    while time.monotonic() < end:
        menu = faults(relay, node, world.random)
        name = world.random.choice(sorted(menu))
        begin, heal = menu[name]
        begin()
        world.moment(0.2, LONGEST_FAULT)
        if heal:
            heal()
        relay.heal()
        done.append(name)
        world.moment(0.2, 1.5)
    node.resume()
    relay.heal()
    world.healed()
    world.sleep(2)
    world.note(f"{len(done)} faults: " + ", ".join(f"{done.count(name)} {name}" for name in sorted(set(done))))
