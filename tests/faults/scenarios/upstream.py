"""Between Umbel and its broker: links that are reset, cut, swallowed, slowed, sliced and bent (relay on the upstream's side)."""

from kit.scenario import scenario

WINDOW = 100  # of a producer with confirms: the most that can be unconfirmed at a cut


def busy(world, door, confirms=False):
    """Four streams of small messages and one of larger ones, over two queues."""
    world.raw(door, channels=3, rate=600, confirms=confirms, window=WINDOW)
    world.raw(door, rate=250, size=(0, 20_000), confirms=confirms, window=WINDOW)


def linked(world, **options):
    """(door, relay between it and the shared broker), with two queues."""
    relay = world.relay(world.node())
    world.queue("q", "r")
    return world.door(relay, **options), relay


@scenario("link reset while idle", rows=1, short=True, accepted=3, recovery=1.0)
def reset_while_idle(world):
    """The client sees nothing; its next publish goes out on a new link."""
    door, relay = linked(world)
    producer = world.raw(door, rate=1, confirms=True)
    for n in range(1, 4):
        world.wait(lambda: producer.acked() >= n, what=f"ack {n}")
        relay.reset()
    world.healed()


@scenario("link reset every 0.5 s under load", rows=2, short=True, direct=True)
def reset_every_half_second(world):
    """No producer notices; what was unconfirmed at each reset is sent again, in order."""
    door, relay = linked(world)
    busy(world, door)
    for _ in range(10):
        world.moment(0.4, 0.6)
        relay.reset()
    world.healed()
    world.sleep(0.5)


@scenario("the same, producers with confirms: at most their windows are sent twice", rows=(2, 33), short=True, duplicated=10 * 2 * WINDOW)
def reset_under_confirms(world):
    """A bound that does not come from Umbel: a producer with a window of 100 has no more than 100 unconfirmed at a cut."""
    door, relay = linked(world)
    busy(world, door, confirms=True)
    for _ in range(10):
        world.moment(0.2, 0.5)
        relay.reset()
    world.healed()
    world.sleep(0.5)


@scenario("link closed politely (FIN) every 0.5 s under load", rows=3, direct=True)
def closed_every_half_second(world):
    door, relay = linked(world)
    busy(world, door)
    for _ in range(8):
        world.moment(0.4, 0.6)
        relay.close()
    world.healed()
    world.sleep(0.5)


@scenario("link cut inside a message, at a random octet", rows=3, short=True, direct=True)
def cut_inside_a_message(world):
    """The whole message is sent again, no part of one arrives."""
    door, relay = linked(world)
    world.raw(door, rate=200, size=(1_000, 60_000))
    for _ in range(8):
        relay.to_target.cut_after = world.random.randrange(1, 400_000)
        world.moment(0.3, 0.6)
    relay.heal()
    world.healed()
    world.sleep(0.5)


def half_closed(world, close):
    door, relay = linked(world)
    busy(world, door)
    for _ in range(5):
        world.moment(0.4, 0.6)
        close(relay)
    world.healed()
    world.sleep(0.5)


@scenario("half of a link closed: the broker's end of stream alone", rows=3)
def half_closed_by_the_broker(world):
    half_closed(world, lambda relay: relay.half_close_client())


@scenario("half of a link closed: our end of stream reaches the broker", rows=3)
def half_closed_towards_the_broker(world):
    half_closed(world, lambda relay: relay.half_close_target())


@scenario("black hole for 12 s, both ways", rows=4, direct=True)
def black_hole(world):
    """Noticed within two heartbeats (of 2 s here); the broker is still there, behind the hole, with half a message."""
    door, relay = linked(world)
    busy(world, door)
    world.sleep(1)
    relay.black_hole()
    world.sleep(12)
    relay.heal()
    world.healed()
    world.sleep(1)


@scenario("black hole for the broker's answers alone, 8 s", rows=4, short=False)
def black_hole_for_answers(world):
    """Publishes arrive, confirms do not: all of it is sent again."""
    door, relay = linked(world)
    busy(world, door)
    world.sleep(1)
    relay.to_client.black_hole = True
    world.sleep(8)
    relay.heal()
    world.healed()
    world.sleep(1)


@scenario("black hole for publishes alone, 8 s", rows=4)
def black_hole_for_publishes(world):
    door, relay = linked(world)
    busy(world, door)
    world.sleep(1)
    relay.to_target.black_hole = True
    world.sleep(8)
    relay.heal()
    world.healed()
    world.sleep(1)


@scenario("black hole for good, a second url to the same broker", rows=5, short=True)
def black_hole_with_another_way(world):
    node = world.node()
    world.queue("q", "r")
    first, second = world.relay(node), world.relay(node)
    door = world.door([first, second])
    busy(world, door)
    world.sleep(1)
    first.black_hole()
    world.sleep(1)
    world.healed()
    world.wait(lambda: second.accepted > 0 or world.direct, what="the second url to be tried")
    world.sleep(3)


@scenario("broker killed behind a black hole (nobody says so), restarted 3 s later", rows=6, memory=400.0, recovery=15.0)
def half_open(world):
    """A broker that dies may have kept some of what it had not confirmed, and not what came before it (RabbitMQ keeps large bodies elsewhere
    than small ones): just that much may be out of order, and is counted. (How much waits is how long the node takes to start; at most the window's
    256 MiB do.)"""
    node = world.own_node()
    world.queue("q", "r")
    relay = world.relay(node)
    door = world.door(relay)
    busy(world, door)
    world.sleep(1)
    relay.black_hole()
    node.kill()
    world.sleep(3)
    node.start()
    world.looks_what_survived()
    relay.heal()
    world.healed()
    world.sleep(1)


@scenario("nobody listens upstream for 6 s", rows=(4, 13), short=True, direct=True)
def refused_for_a_while(world):
    door, relay = linked(world)
    busy(world, door)
    world.sleep(0.5)
    relay.cut()
    world.sleep(6)
    relay.heal()
    world.healed()
    world.sleep(1)


@scenario("the upstream stops reading for 15 s (its window closes), heartbeats still come", rows=(4, 9), direct=True)
def stalled(world):
    """A socket that nobody reads must not leave a producer's unread."""
    door, relay = linked(world)
    busy(world, door)
    world.sleep(0.5)
    relay.to_target.stalled = True
    world.sleep(15)
    relay.heal()
    world.healed()
    world.sleep(1)


@scenario("slow upstream: 50 kB/s for 10 s, offered 150 kB/s", rows=15, recovery=15.0, direct=True)
def slow(world):
    """What does not fit through waits, bounded; each producer gets its share."""
    door, relay = linked(world)
    relay.to_target.rate = 50_000
    small = world.raw(door, rate=300, size=100)
    large = world.raw(door, rate=40, size=2_000)
    world.sleep(10)
    relay.heal()
    world.healed()
    world.sleep(1)
    world.check("both producers went on", small.returned() > 2_000 and large.returned() > 250)


@scenario("200 ms of latency each way, with jitter", rows=16, accepted=4_000, recovery=None, short=False)
def latency(world):
    """Confirms are pipelined: throughput is not one message a round trip (which would be 25 in 10 s)."""
    door, relay = linked(world)
    world.raw(door, rate=1_000, confirms=True, window=2_000)
    for _ in range(20):
        relay.to_target.delay = relay.to_client.delay = world.random.uniform(0.15, 0.25)
        world.sleep(0.5)
    relay.heal()


@scenario("octet by octet on both sides", rows=17, short=True, accepted=100, recovery=None)
def one_octet_at_a_time(world):
    behind = world.relay(world.node())
    world.queue("q", "r")
    door = world.door(behind)
    before = world.relay(door)
    for way in (*behind.ways, *before.ways):
        way.slice = 1
    world.raw(before, rate=40, confirms=True, size=(0, 300), count=150)
    world.loads.all[0].join(90)
    for way in (*behind.ways, *before.ways):
        way.slice = None


@scenario("a bit turned on the way to us, ten times", rows=18, short=True)
def bit_flips_towards_us(world):
    """In a frame's envelope, where it can be seen: the link is given up. (AMQP has no checksum: in a tag it cannot be.)"""
    door, relay = linked(world)
    busy(world, door)
    for _ in range(10):
        # The frame-end octet of a single ack (21 octets), or the type of the next.
        relay.to_client.flip_after = world.random.choice([0, 20])
        world.moment(0.2, 0.4)
    relay.heal()
    world.healed()
    world.sleep(0.5)
