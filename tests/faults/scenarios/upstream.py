"""Between Umbel and its broker: links that are reset, cut, swallowed, slowed, sliced and bent (relay on the upstream's side)."""

from kit.scenario import scenario


@scenario("upstream link reset while idle", rows=1, short=True, accepted=2, recovery=1.0)
def reset_while_idle(world):
    """The client sees nothing; its next publish goes out on a new link."""
    relay = world.relay(world.node())
    world.queue("q")
    door = world.door(relay)
    producer = world.raw(door, rate=0.5, confirms=True)
    for n in range(1, 4):
        world.wait(lambda: producer.acked() >= n, 5, f"ack {n}")
        relay.reset()
    world.healed()


@scenario("upstream link reset every 0.5 s under load", rows=2, short=True, direct=True)
def reset_every_half_second(world):
    """No producer notices; what was unconfirmed at each reset is sent again, in order."""
    relay = world.relay(world.node())
    world.queue("q", "r")
    door = world.door(relay)
    world.raw(door, channels=3, rate=800)
    world.raw(door, rate=400, size=(0, 20000))
    for _ in range(10):
        world.moment(0.4, 0.6)
        relay.reset()
    world.healed()
    world.sleep(0.5)
