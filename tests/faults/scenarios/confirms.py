"""Odd confirms, by a scripted broker: nacks, acks out of order, acks late, never, twice or for nothing, returns between them."""

from kit.mock import Batches, Mock, before, lawful, loaded
from kit.scenario import scenario


class Subset(Batches):
    """Refuses one in ten, the first time it sees it, and takes the rest."""

    def __init__(self, seed=0):
        self.refused = set()
        super().__init__(seed)

    def settle(self, peer, channel, publishes):
        for publish in publishes:
            if self.random.random() < 0.1 and publish.which not in self.refused:
                self.refused.add(publish.which)
                publish.nack()
            else:
                self.store(publish)
                publish.ack()


@scenario("nacks for one in ten, producers with confirms", rows=36, short=True, reordered=None, duplicated=0)
def nacks_told(world):
    """Exactly those that the broker refused are nacked, each number once. (A refused one is the client's again; none is sent twice.)"""
    door, mock = before(world, Subset)
    producers = [world.raw(door, channels=2, rate=500, confirms=True, window=200) for _ in range(2)]
    world.sleep(3)
    world.loads.stop()
    told = {(stream, n) for p in producers for stream, numbers in p.journal().nacked.items() for n in numbers}
    world.check(f"nacked {len(told)} of the {len(mock.refused)} that the broker refused", told == mock.refused)
    lawful(world, mock)


@scenario("nacks for one in ten, producers without confirms", rows=26, short=True, reordered=None, duplicated=0)
def nacks_untold(world):
    """Nobody could hear of it, so a refused one is tried again until it is taken. It comes later than its neighbours: no order then."""
    door, mock = before(world, Subset)
    world.raw(door, rate=300)
    world.raw(door, rate=300)
    world.sleep(3)
    world.loads.stop()
    world.wait(lambda: len({which for _, which in mock.stored} & mock.refused) == len(mock.refused), what="what was refused to be taken")
    world.check("something was refused", len(mock.refused) > 50)
    lawful(world, mock)


class Shuffled(Batches):
    """Confirms in any order, singly and in runs."""

    def settle(self, peer, channel, publishes):
        for publish in publishes:
            self.store(publish)
        open_tags = [p.tag for p in publishes]
        while open_tags:
            if self.random.random() < 0.3:
                upto = self.random.choice(open_tags)
                peer.ack(channel, upto, multiple=True)
                open_tags = [t for t in open_tags if t > upto]
            else:
                tag = open_tags.pop(self.random.randrange(len(open_tags)))
                peer.ack(channel, tag)


@scenario("confirms out of order, single and multiple", rows=34, short=True, duplicated=0)
def confirms_out_of_order(world):
    mock = loaded(world, Shuffled, channels=3, rate=900)
    world.sleep(3)
    world.loads.stop()
    lawful(world, mock)


class Returning(Batches):
    """One in five of the mandatory ones comes back, with others' acks between; then it is acked."""

    def __init__(self, seed=0):
        self.given_back = set()
        super().__init__(seed)

    def settle(self, peer, channel, publishes):
        later = []
        for publish in publishes:
            if publish.mandatory and self.random.random() < 0.2:
                self.given_back.add(publish.which)
                peer.give_back(channel, publish)
                later.append(publish)
            else:
                self.store(publish)
                publish.ack()
        for publish in later:
            publish.ack()


@scenario("returns, interleaved with acks", rows=35, short=True, lost=None, duplicated=0)
def returns_interleaved(world):
    """The client gets back exactly what the broker returned, and an ack for it after that. (A returned one is acked and in no queue.)"""
    door, mock = before(world, Returning)
    producers = [world.raw(door, rate=400, confirms=True, mandatory=True, window=200) for _ in range(2)]
    world.raw(door, rate=200)
    world.sleep(3)
    world.loads.stop()
    journals = [p.journal() for p in producers]
    came_back = {(stream, n) for j in journals for stream, numbers in j.came_back.items() for n in numbers}
    world.check(f"{len(came_back)} came back, the broker returned {len(mock.given_back)}", came_back == mock.given_back)
    stored = {which for _, which in mock.stored}
    gone = {(s, n) for j in journals for s, numbers in j.acked.items() for n in numbers} - stored - mock.given_back
    world.check(f"{len(gone)} acked that are neither in a queue nor returned", not gone)
    lawful(world, mock)


class NeverOnTheFirst(Mock):
    """Its first connections take publishes and confirm none, but send heartbeats."""

    silent = 1

    def published(self, peer, publish):
        self.store(publish)
        if peer.number >= self.silent:
            publish.ack()


@scenario("a broker that takes publishes and confirms none, heartbeats going on", rows=4, short=True, duplicated="resent", recovery=12.0)
def confirms_never(world):
    """After confirm_timeout (4 s here) the connection is given up and what was on it goes over another."""
    door, mock = before(world, NeverOnTheFirst, eager=False, upstream_options='confirm_timeout = "4s"')
    mock.silent = len(mock.peers) + 1
    world.raw(door, rate=300, confirms=True, window=5_000)
    world.sleep(2)
    world.healed()
    world.sleep(6)
    world.check("it went to another connection", mock.logins > 1)
    lawful(world, mock)


class Inventive(Batches):
    """Confirms what was never published, and everything that was a second time."""

    def settle(self, peer, channel, publishes):
        peer.ack(channel, publishes[-1].tag + 1_000)
        peer.nack(channel, publishes[-1].tag + 2_000)
        peer.ack(publishes[-1].channel + 500, 1)
        for publish in publishes:
            self.store(publish)
            publish.ack()
        for publish in publishes:
            publish.ack()
            publish.nack()


@scenario("acks for what was never published, and each ack twice", rows=(34, 58), short=True, duplicated="resent")
def invented_confirms(world):
    """An ack the broker never gave for a publish is never told to its client; a second one for the same is nothing."""
    mock = loaded(world, Inventive)
    world.sleep(3)
    world.loads.stop()
