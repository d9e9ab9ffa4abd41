"""What a real broker will not do on demand, by a scripted one: odd tunes, odd ends, odd frames. Odd confirms are in `confirms`."""

from harness import wire
from kit.mock import Mock, before, lawful, loaded
from kit.scenario import scenario


def tuned(channel_max=2047, frame_max=131072, heartbeat=60):
    return type("Tuned", (Mock,), {"tune": (channel_max, frame_max, heartbeat)})


@scenario("a broker that takes frames of 4,096 octets", rows=32, short=True, duplicated=0)
def frames_of_4096(world):
    """Bodies are split anew, whatever the client sends; nothing is larger than agreed."""
    door, mock = before(world, tuned(frame_max=4096))
    world.raw(door, rate=100, size=(0, 50_000), confirms=True)
    world.raw(door, rate=100, size=(4_000, 4_200))
    world.sleep(2)
    world.loads.stop()
    lawful(world, mock)


@scenario("a broker that takes frames of 8,192 octets, a client that takes 4,096", rows=32, duplicated=0)
def frames_of_8192(world):
    door, mock = before(world, tuned(frame_max=8192))
    world.raw(door, rate=100, size=(0, 50_000), confirms=True, frame_max=4096)
    world.raw(door, rate=100, size=(8_100, 8_300))
    world.sleep(2)
    world.loads.stop()
    lawful(world, mock)


@scenario("a broker that allows 10 channels, 40 producers", rows=(31, 32), short=True, duplicated=0, recovery=None, slowest=1.0)
def ten_channels(world):
    """Links are the configured two: a lease goes round; nobody waits for ever and no channel number is beyond what was agreed."""
    door, mock = before(world, tuned(channel_max=10), upstream_options='lease_idle = "100ms"')
    for _ in range(8):
        world.raw(door, channels=5, rate=25, confirms=True)
    world.sleep(5)
    world.loads.stop()
    lawful(world, mock)


@scenario("a broker with heartbeats of 1 s, an idle producer and a busy one", rows=32, duplicated=0, accepted=100)
def heartbeats_of_one_second(world):
    """We beat on our own clock, busy or not: the broker never misses two."""
    door, mock = before(world, tuned(heartbeat=1))
    world.raw(door, rate=0.2)
    world.raw(door, rate=100)
    world.sleep(7)
    world.loads.stop()
    lawful(world, mock)
    world.check(f"one login was enough, {mock.logins} were made", mock.logins <= 3)


class Closing(Mock):
    """Every hundredth publish it says connection.close and reads nothing more: what is in the socket is unread."""

    words = (320, "CONNECTION_FORCED - the operator says so")

    def __init__(self, seed=0):
        self.closes = 0
        super().__init__(seed)

    def published(self, peer, publish):
        if self.received % 100 == 0 and self.closes < 12:
            self.closes += 1
            peer.close(*self.words)
            return
        self.store(publish)
        publish.ack()


def closed_twelve_times(world, script):
    mock = loaded(world, script, rate=600)
    world.wait(lambda: mock.closes == 12, what="twelve closes")
    world.healed()
    world.loads.stop()
    lawful(world, mock)


@scenario("connection.close 320 in mid-stream, the rest unread", rows=33, short=True)
def closed_in_mid_stream(world):
    """Only what was not confirmed is sent again."""
    closed_twelve_times(world, Closing)


class Internal(Closing):
    words = (541, "INTERNAL_ERROR")


@scenario("connection.close 541 in mid-stream, the rest unread", rows=57, short=True)
def internal_errors(world):
    """541 is the broker's own failure: it ends a link and nobody's publish is blamed for it."""
    closed_twelve_times(world, Internal)


class Picky(Mock):
    """Answers one client's declaration with connection.close 541, as RabbitMQ 4.3 does for a transient queue."""

    def __init__(self, seed=0):
        self.angry = 0
        super().__init__(seed)

    def method(self, peer, channel, name, arguments):
        if name == "queue.declare" and not arguments["durable"]:
            self.angry += 1
            peer.close(541, "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.", 50, 10)
            return
        super().method(peer, channel, name, arguments)


@scenario("541 for one client's transient queue, others beside it", rows=57, short=True)
def a_declaration_that_ends_connections(world):
    """It is told the broker's words; those who share its credentials go on."""
    door, mock = before(world, Picky)
    world.raw(door, rate=400, confirms=True)
    world.raw(door, rate=200)
    told = []
    for _ in range(4):
        world.sleep(0.5)
        with door.client() as culprit:
            try:
                culprit.declare("celery.pidbox.reply", durable=False)
            except (wire.Refused, EOFError, OSError) as refused:
                told.append(refused)
    world.healed()
    world.sleep(1)
    world.loads.stop()
    world.check(f"the culprit was told: {told}", len(told) == 4 and all(isinstance(t, wire.Refused) for t in told))
    lawful(world, mock)


GARBAGE = {
    "a wrong frame end": wire.frame(wire.METHOD, 1, wire.method("basic.ack", delivery_tag=1))[:-1] + b"\0",
    "a frame of 4 GiB": b"\x01\x00\x01\xff\xff\xff\xff",
    "a frame type of 77": wire.frame(77, 1, b"x"),
    "a method that ends early": wire.frame(wire.METHOD, 1, b"\0\x3c"),
    "a method of no class": wire.frame(wire.METHOD, 1, b"\x7f\xff\x7f\xff"),
    "an ack that ends early": wire.frame(wire.METHOD, 1, b"\0\x3c\0\x50\0\0"),
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "content on channel 0": wire.frame(wire.BODY, 0, b"xyz"),
    "a return that ends early": wire.frame(wire.METHOD, 1, b"\0\x3c\0\x32\x01\x38\xff"),
    "a close of a channel that was never opened": wire.frame(wire.METHOD, 999, wire.method("channel.close", code=500, text="?")),
}


class Hostile(Mock):
    """Says something that no broker says, now and then."""

    def __init__(self, seed=0):
        self.said = []
        super().__init__(seed)

    def published(self, peer, publish):
        self.store(publish)
        publish.ack()
        if self.received % 60 == 0 and len(self.said) < 2 * len(GARBAGE):
            what = list(GARBAGE)[len(self.said) % len(GARBAGE)]
            self.said.append(what)
            peer.raw(GARBAGE[what])


@scenario("a broker that sends malformed frames, ten kinds, twice", rows=58, short=True)
def malformed_frames(world):
    """A link that talks nonsense is dropped, no session is, and nothing is lost."""
    mock = loaded(world, Hostile)
    world.wait(lambda: len(mock.said) == 2 * len(GARBAGE), 40, "everything to be said")
    world.healed()
    world.sleep(1)
    world.loads.stop()


class Flowing(Mock):
    """channel.flow off and on, connection.blocked and unblocked, all the time."""

    def published(self, peer, publish):
        self.store(publish)
        publish.ack()
        if self.received % 50 == 0:
            active = self.received % 100 == 0
            peer.send(publish.channel, "channel.flow", active=active)
            peer.send(0, "connection.unblocked") if active else peer.send(0, "connection.blocked", reason="low on memory")


@scenario("channel.flow and connection.blocked, off and on", rows=10, duplicated=0)
def flow_and_blocked(world):
    mock = loaded(world, Flowing)
    world.sleep(3)
    world.loads.stop()
    lawful(world, mock)


class Cancelling(Mock):
    """Delivers three messages to a consumer, then cancels it."""

    def method(self, peer, channel, name, arguments):
        super().method(peer, channel, name, arguments)
        if name == "basic.consume":
            for tag in (1, 2, 3):
                peer.send(channel, "basic.deliver", consumer_tag=arguments["consumer_tag"], delivery_tag=tag, exchange="", routing_key="q")
                peer.raw(wire.frame(wire.HEADER, channel, wire.header(2)) + wire.frame(wire.BODY, channel, b"%2d" % tag))
            peer.send(channel, "basic.cancel", consumer_tag=arguments["consumer_tag"], no_wait=True)


@scenario("a consumer cancelled by the broker", rows=39, short=True, duplicated=0)
def cancelled_consumer(world):
    """The consumer gets what came before, then the cancel; producers beside it notice nothing."""
    door, mock = before(world, Cancelling)
    world.raw(door, rate=300, confirms=True)
    seen = []
    with door.client() as consumer:
        consumer.consume("q", tag="mine", no_ack=False)
        seen = [consumer.delivery().body for _ in range(3)]
        cancel = consumer.expect("basic.cancel")
    world.check(f"deliveries {seen} and a cancel of {cancel}", seen == [b" 1", b" 2", b" 3"] and cancel["consumer_tag"] == "mine")
    world.sleep(1)
    world.loads.stop()
    lawful(world, mock)


class Fickle(Mock):
    """Its first logins end halfway, each in another place; one is never answered at all."""

    steps = 6

    def greeting(self, peer):
        if peer.number < self.steps:
            peer.raw(b"" if peer.number % 3 else b"\x01\x00")
            if peer.number % 3 == 2:
                peer.reset()
            else:
                peer.hang_up()


@scenario("logins upstream that end halfway, then a sound one", rows=58, recovery=None)
def logins_that_end_halfway(world):
    """A broker that is not itself yet: its port is open and its login is not. Umbel keeps trying and says so."""
    mock = Fickle(world.seed)
    world.mocks.append(mock)
    door = world.door(mock)
    world.raw(door, rate=300, confirms=True)
    world.sleep(1)
    world.loads.stop()
    world.check(f"it kept trying, {len(mock.peers)} times", len(mock.peers) > mock.steps)


class MuteForNewcomers(Mock):
    """From a moment on it accepts connections and never says a word on them; those it has are reset."""

    quiet = False

    def greeting(self, peer):
        return not self.quiet


@scenario("a broker that accepts connections and says nothing for 6 s", rows=(4, 13), short=False)
def accepts_and_says_nothing(world):
    """Each try is given up after connect_timeout (2 s here); nobody waits for it."""
    door, mock = before(world, MuteForNewcomers)
    world.raw(door, channels=2, rate=300, confirms=True, window=20_000)
    world.raw(door, rate=300)
    world.sleep(0.5)
    mock.quiet = True
    mock.do(lambda: [peer.reset() for peer in list(mock.alive)])
    world.sleep(6)
    mock.quiet = False
    world.healed()
    world.sleep(4)
    world.loads.stop()
    lawful(world, mock)
