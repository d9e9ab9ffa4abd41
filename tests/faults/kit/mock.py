"""A broker by script: AMQP 0-9-1 from the other side, raw, for what a real one will not do on demand.

A `Mock` answers as a decent broker does; a script is a subclass that overrides what it does about a publish, or about anything else.
Everything runs in one event loop in a thread; scripts are called there and must not block.
"""

import asyncio
import random
import struct
import threading

from harness import wire

from . import message

PROPERTIES = {"product": "RabbitMQ", "version": "3.10.8", "platform": "a mock", "cluster_name": "mock",
              "capabilities": {"publisher_confirms": True, "exchange_exchange_bindings": True, "basic.nack": True, "consumer_cancel_notify": True,
                               "connection.blocked": True, "consumer_priorities": True, "authentication_failure_close": True,
                               "per_consumer_qos": True, "direct_reply_to": True}}


class Peer:
    """One connection of Umbel's (or, directly, of a client's)."""

    def __init__(self, mock, reader, writer):
        self.mock, self.reader, self.writer = mock, reader, writer
        self.number = len(mock.peers)
        self.tags, self.confirming, self.assembling, self.open = {}, set(), {}, set()
        self.tuned = None
        self.deaf = False      # reads nothing more
        self.closing = False
        self.heard_at = self.said_at = 0.0

    # saying things

    def send(self, channel, name, **arguments):
        self.raw(wire.frame(wire.METHOD, channel, wire.method(name, **arguments)))

    def raw(self, data):
        if not self.writer.is_closing():
            self.writer.write(data)
            self.said_at = asyncio.get_running_loop().time()

    def ack(self, channel, tag, multiple=False):
        self.send(channel, "basic.ack", delivery_tag=tag, multiple=multiple)

    def nack(self, channel, tag, multiple=False):
        self.send(channel, "basic.nack", delivery_tag=tag, multiple=multiple)

    def give_back(self, channel, publish, code=312, text="NO_ROUTE"):
        """basic.return, whole."""
        self.send(channel, "basic.return", code=code, text=text, exchange=publish.exchange, routing_key=publish.routing_key)
        self.raw(wire.frame(wire.HEADER, channel, publish.header))
        if publish.body:
            self.raw(wire.frame(wire.BODY, channel, publish.body))

    def close(self, code, text, class_id=0, method_id=0, deaf=True):
        """connection.close; what is still in the socket is thrown away, as RabbitMQ does."""
        self.send(0, "connection.close", code=code, text=text, class_id=class_id, method_id=method_id)
        self.closing, self.deaf = True, deaf

    def hang_up(self):
        self.writer.close()

    def reset(self):
        self.writer.transport.abort()

    # hearing things

    async def live(self):
        if not await self._login():
            return
        self.beats = asyncio.ensure_future(self._beat())
        try:
            while True:
                self._heard(*await self._frame())
        finally:
            self.beats.cancel()

    async def _frame(self):
        kind, channel, size = struct.unpack(">BHI", await self.reader.readexactly(7))
        payload = await self.reader.readexactly(size)
        end = await self.reader.readexactly(1)
        if end[0] != wire.END:
            self.mock.violations.append(f"frame end {end[0]:#x}")
        if self.tuned and self.tuned["frame_max"] and size + 8 > self.tuned["frame_max"]:
            self.mock.violations.append(f"a frame of {size + 8} octets, {self.tuned['frame_max']} agreed")
        if self.tuned and self.tuned["channel_max"] and channel > self.tuned["channel_max"]:
            self.mock.violations.append(f"channel {channel}, {self.tuned['channel_max']} agreed")
        self.heard_at = asyncio.get_running_loop().time()
        return kind, channel, payload

    async def _login(self):
        assert await self.reader.readexactly(8) == wire.PROTOCOL
        if self.mock.greeting(self) is False:
            await asyncio.sleep(3600)
        self.send(0, "connection.start", minor=9, server_properties=self.mock.properties, mechanisms=b"PLAIN AMQPLAIN", locales=b"en_US")
        if (await self._method())[0] != "connection.start-ok":
            return False
        channel_max, frame_max, heartbeat = self.mock.tune
        self.send(0, "connection.tune", channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)
        name, self.tuned = await self._method()
        assert name == "connection.tune-ok", name
        if frame_max and not 0 < self.tuned["frame_max"] <= frame_max or channel_max and not 0 < self.tuned["channel_max"] <= channel_max:
            self.mock.violations.append(f"tune-ok {self.tuned} to {self.mock.tune}")
        assert (await self._method())[0] == "connection.open"
        self.send(0, "connection.open-ok")
        self.mock.logins += 1
        return True

    async def _method(self):
        while True:
            kind, _, payload = await self._frame()
            if kind == wire.METHOD:
                return wire.read_method(payload)

    async def _beat(self):
        """Heartbeats, and a close for a peer that has missed two of ours, as RabbitMQ does."""
        interval = self.tuned["heartbeat"]
        self.heard_at = asyncio.get_running_loop().time()
        while interval and not self.closing:
            await asyncio.sleep(interval / 2)
            if not self.mock.mute:
                self.raw(wire.frame(wire.HEARTBEAT, 0, b""))
            if asyncio.get_running_loop().time() - self.heard_at > 2 * interval:
                self.mock.violations.append(f"silent for two heartbeats of {interval} s")
                self.reset()
                return

    def _heard(self, kind, channel, payload):
        if self.deaf or kind == wire.HEARTBEAT:
            if kind == wire.METHOD and wire.read_method(payload)[0] == "connection.close-ok":
                self.hang_up()
            return
        if kind == wire.METHOD:
            name, arguments = wire.read_method(payload)
            if name == "basic.publish":
                self.assembling[channel] = Publish(self, channel, arguments)
            else:
                self.mock.method(self, channel, name, arguments)
            return
        publish = self.assembling.get(channel)
        if publish is None:
            self.mock.violations.append(f"content without a publish on channel {channel}")
        elif publish.take(kind, payload):
            del self.assembling[channel]
            if channel in self.confirming:
                self.tags[channel] += 1
                publish.tag = self.tags[channel]
            self.mock.received += 1
            self.mock.published(self, publish)


class Publish:
    """A whole one, and where it came from."""

    def __init__(self, peer, channel, arguments):
        self.peer, self.channel = peer, channel
        self.exchange, self.routing_key = arguments["exchange"], arguments["routing_key"]
        self.mandatory = arguments["mandatory"]
        self.header, self.body, self.size, self.tag = None, b"", None, 0

    def take(self, kind, payload):
        """Whether it is whole now."""
        if kind == wire.HEADER:
            self.header = payload
            self.size = wire.read_header(payload)[0]
        else:
            self.body += payload
        return self.size is not None and len(self.body) >= self.size

    @property
    def which(self):
        return message.read(self.body, wire.read_header(self.header)[1])

    def ack(self):
        if self.tag:
            self.peer.ack(self.channel, self.tag)

    def nack(self):
        self.peer.nack(self.channel, self.tag)


class Mock:
    """Listens from the beginning. `tune` is (channel_max, frame_max, heartbeat)."""

    tune = (2047, 131072, 60)
    properties = PROPERTIES

    def __init__(self, seed=0):
        self.random = random.Random(seed)
        self.peers, self.stored, self.violations, self.alive = [], [], [], set()
        self.received = self.logins = 0
        self.mute = False      # sends no heartbeat
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(5)

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    def url(self, user="guest", password="guest", vhost=""):
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{vhost}"

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)

        async def serve():
            server = await asyncio.start_server(self._one, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()

        self.loop.run_until_complete(serve())
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.close()

    async def _one(self, reader, writer):
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        self.alive.add(peer)
        try:
            await peer.live()
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        except Exception as error:
            self.violations.append(repr(error))
        finally:
            self.alive.discard(peer)
            self.lost(peer)
            writer.close()

    def do(self, what, *arguments):
        """From another thread: `what` in the loop."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (what(*arguments), done.set()))
        done.wait(5)

    def stop(self):
        if self.loop.is_running():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(5)

    def arrivals(self):
        return list(self.stored)

    # what a script overrides

    def greeting(self, peer):
        """False: this peer is never answered."""

    def published(self, peer, publish):
        self.store(publish)
        publish.ack()

    def store(self, publish):
        """It is in a queue now."""
        self.stored.append((f"{publish.exchange}>{publish.routing_key}", publish.which))

    def lost(self, peer):
        """A connection is gone."""

    def method(self, peer, channel, name, arguments):
        """Anything but a publish."""
        if name == "channel.open":
            if channel in peer.open:
                self.violations.append(f"channel {channel} opened twice")
            peer.open.add(channel)
            peer.send(channel, "channel.open-ok")
        elif name == "channel.close":
            self.forget(peer, channel)
            peer.send(channel, "channel.close-ok")
        elif name == "channel.close-ok":
            self.forget(peer, channel)
        elif name == "confirm.select":
            peer.confirming.add(channel)
            peer.tags.setdefault(channel, 0)
            peer.send(channel, "confirm.select-ok")
        elif name == "queue.declare":
            peer.send(channel, "queue.declare-ok", queue=arguments["queue"])
        elif name == "basic.consume":
            peer.send(channel, "basic.consume-ok", consumer_tag=arguments["consumer_tag"] or "mock.1")
        elif name == "connection.close":
            peer.send(0, "connection.close-ok")
            peer.hang_up()
        elif name in ("exchange.declare", "queue.bind", "exchange.bind", "basic.qos", "queue.purge", "queue.delete"):
            peer.send(channel, name + "-ok")

    @staticmethod
    def forget(peer, channel):
        peer.open.discard(channel)
        peer.confirming.discard(channel)
        peer.tags.pop(channel, None)
        peer.assembling.pop(channel, None)


class Batches(Mock):
    """Answers in batches: `settle(peer, channel, publishes)` is called every few milliseconds with what has come since."""

    EVERY = 0.02

    def __init__(self, seed=0):
        self.waiting = {}
        super().__init__(seed)

    def published(self, peer, publish):
        key = (peer, publish.channel)
        if key not in self.waiting:
            self.waiting[key] = []
            self.loop.call_later(self.EVERY, self._settle, key)
        self.waiting[key].append(publish)

    def _settle(self, key):
        publishes = self.waiting.pop(key, [])
        if key[0] in self.alive and publishes:
            self.settle(*key, publishes)

    def settle(self, peer, channel, publishes):
        for publish in publishes:
            self.store(publish)
            publish.ack()


def before(world, script, **options):
    """(door, mock): the mock is torn down with the world, and what it saw against the protocol is an expectation."""
    mock = script(world.seed)
    world.mocks.append(mock)
    return world.door(mock, **options), mock


def loaded(world, script, channels=2, rate=500):
    """The same, with a producer that waits for confirms on so many channels, and one that does not."""
    door, mock = before(world, script)
    world.raw(door, channels=channels, rate=rate, confirms=True, window=300)
    world.raw(door, rate=300)
    return mock


def lawful(world, mock):
    world.check(f"Umbel kept the protocol, but: {mock.violations[:3]}", not mock.violations)
