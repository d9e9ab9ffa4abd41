"""A TCP relay with a will of its own: delays, cuts, resets, swallows, stalls, slices, slows or bends what passes, changed while it runs."""

import asyncio
import socket
import struct
import threading

PIECE = 65536
TURN = 0.01  # how often a stalled direction looks whether it may go on


class Way:
    """One direction. Every attribute may be changed at any time, from any thread."""

    def __init__(self):
        self.heal()
        self.passed = 0

    def heal(self):
        self.delay = 0.0         # seconds added to every piece
        self.rate = None         # bytes a second
        self.slice = None        # the largest piece written at once
        self.stalled = False     # nothing is read: the sender feels it
        self.black_hole = False  # everything is read and forgotten
        self.cut_after = None    # so many bytes from now on, then a reset
        self.flip_after = None   # so many bytes from now on, then one bit is turned


class Relay:
    """Between `clients` (who connect to `address`) and `target`. `to_target` and `to_client` are its two ways."""

    def __init__(self, target, at=("127.0.0.1", 0)):
        self.target = target
        self.to_target, self.to_client = Way(), Way()
        self.refusing = False
        self.accepted = 0
        self._pairs = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(at)
        self._listener.listen(512)
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()
        self.port = self.address[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"relay-{self.port}")
        self._thread.start()

    @property
    def ways(self):
        return self.to_target, self.to_client

    @property
    def open_pairs(self):
        return len(self._pairs)

    def url(self, user="guest", password="guest", vhost=""):
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{vhost}"

    # what can be done to those who pass

    def heal(self):
        """A hole that ends would leave a stream with a piece missing, which TCP never delivers: who was in it is reset."""
        self.refusing = False
        if any(way.black_hole for way in self.ways):
            self.reset()
        for way in self.ways:
            way.heal()

    def black_hole(self, on=True):
        for way in self.ways:
            way.black_hole = on

    def stall(self, on=True):
        for way in self.ways:
            way.stalled = on

    def reset(self):
        """RST to both ends of every connection."""
        self._each(lambda pair: pair.reset())

    def close(self):
        """FIN to both ends of every connection."""
        self._each(lambda pair: [_shut(s, socket.SHUT_RDWR) for s in (pair.client, pair.target)])

    def half_close_target(self):
        """The client's end of stream, without the client having ended."""
        self._each(lambda pair: _shut(pair.target, socket.SHUT_WR))

    def half_close_client(self):
        self._each(lambda pair: _shut(pair.client, socket.SHUT_WR))

    def cut(self):
        """No connection lives and none comes up, until `heal`."""
        self.refusing = True
        self.reset()

    def stop(self):
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)

    __enter__ = lambda self: self

    def __exit__(self, *_):
        self.stop()

    # the machine

    def _each(self, what):
        done = threading.Event()

        def do():
            for pair in list(self._pairs):
                what(pair)
            done.set()

        self._loop.call_soon_threadsafe(do)
        done.wait(5)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.create_task(self._accept())
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0.01))
            self._listener.close()
            self._loop.close()

    async def _accept(self):
        tasks = set()
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            self.accepted += 1
            task = self._loop.create_task(self._carry(client))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _carry(self, client):
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.refusing:
            _reset(client)
            return
        upstream = socket.socket()
        upstream.setblocking(False)
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._loop.sock_connect(upstream, self.target)
        except OSError:
            _reset(client)
            upstream.close()
            return
        pair = _Pair(client, upstream)
        self._pairs.add(pair)
        pair.pumps = [self._loop.create_task(self._pump(client, upstream, self.to_target, pair)),
                      self._loop.create_task(self._pump(upstream, client, self.to_client, pair))]
        try:
            await asyncio.wait(pair.pumps)
        finally:
            self._pairs.discard(pair)
            client.close()
            upstream.close()

    async def _pump(self, source, sink, way, pair):
        try:
            while True:
                while way.stalled:
                    await asyncio.sleep(TURN)
                piece = await self._loop.sock_recv(source, PIECE)
                while way.stalled or (way.black_hole and not piece):
                    await asyncio.sleep(TURN)
                if not piece:
                    _shut(sink, socket.SHUT_WR)
                    return
                if way.black_hole:
                    continue
                piece = self._bend(way, piece)
                if way.delay:
                    await asyncio.sleep(way.delay)
                if way.cut_after is not None and way.cut_after < len(piece):
                    await self._loop.sock_sendall(sink, piece[:way.cut_after])
                    way.cut_after = None
                    pair.reset()
                    return
                if way.cut_after is not None:
                    way.cut_after -= len(piece)
                step = way.slice or len(piece)
                for at in range(0, len(piece), step):
                    await self._loop.sock_sendall(sink, piece[at:at + step])
                    if way.slice:
                        await asyncio.sleep(0)
                way.passed += len(piece)
                if way.rate:
                    await asyncio.sleep(len(piece) / way.rate)
        except OSError:
            pair.reset()

    @staticmethod
    def _bend(way, piece):
        if way.flip_after is None:
            return piece
        if way.flip_after >= len(piece):
            way.flip_after -= len(piece)
            return piece
        bent = bytearray(piece)
        bent[way.flip_after] ^= 1
        way.flip_after = None
        return bytes(bent)


class _Pair:
    """A connection through the relay."""

    def __init__(self, client, target):
        self.client, self.target, self.pumps = client, target, []

    def reset(self):
        for s in (self.client, self.target):
            _linger_zero(s)
        # The sockets are closed (and so reset) where the pumps are awaited: a pump never waits on a closed descriptor.
        for pump in self.pumps:
            pump.cancel()


def _shut(s, how):
    try:
        s.shutdown(how)
    except OSError:
        pass


def _linger_zero(s):
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass


def _reset(s):
    _linger_zero(s)
    s.close()
