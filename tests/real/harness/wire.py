"""A client of AMQP 0-9-1 by hand, which can also be rude."""

import socket
import struct
import time

# Tests say wire.frame, wire.method and so on.
from .codec import (  # noqa: F401
    BODY, END, HEADER, HEARTBEAT, METHOD, PROTOCOL, PROTOCOL_OF_OLD, field, frame, header, method, read_header, read_method, short_string, table,
)
from .process import PATIENCE


class Refused(Exception):
    """The peer closed a channel or the connection: `code`, `text`, `scope`."""

    def __init__(self, scope, code, text, class_id=0, method_id=0):
        super().__init__(f"{scope}.close {code} {text}")
        self.scope, self.code, self.text, self.about = scope, code, text, (class_id, method_id)


class Unexpected(AssertionError):
    """Another frame than the one waited for."""


class Message:
    """What a deliver, a get-ok or a return carried; `header` is the frame's payload as it came."""

    def __init__(self, name, arguments, header_payload, body):
        self.method, self.arguments, self.header, self.body = name, arguments, header_payload, body

    @property
    def properties(self):
        return read_header(self.header)[1]

    @property
    def headers(self):
        return self.properties.get("headers") or {}

    def __getattr__(self, name):
        try:
            return self.__dict__["arguments"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self):
        return f"<{self.method} {self.arguments} {self.properties} {self.body[:200]!r}>"


class Wire:
    """A socket that speaks frames and nothing more."""

    def __init__(self, address, timeout=PATIENCE, tls=None):
        """`tls`: an ssl.SSLContext."""
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""
        self.timeout = timeout

    def write(self, data):
        self.socket.sendall(data)

    def read_some(self, timeout=None):
        """Whatever has come; b"" at the end of the stream."""
        self.socket.settimeout(self.timeout if timeout is None else timeout)
        return self.socket.recv(1 << 16)

    def read_exactly(self, n, deadline):
        while len(self.buffer) < n:
            left = deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout("no frame in time")
            piece = self.read_some(left)
            if not piece:
                raise EOFError("the peer closed the socket")
            self.buffer += piece
        piece, self.buffer = self.buffer[:n], self.buffer[n:]
        return piece

    def read_frame(self, timeout=None):
        """(type, channel, payload)"""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while len(self.buffer) < 7:
            piece = self.read_exactly(len(self.buffer) + 1, deadline)
            self.buffer = piece + self.buffer
        kind, channel, size = struct.unpack(">BHI", self.buffer[:7])
        if kind == ord("A"):
            raise Unexpected(f"a protocol header: {self.buffer[:8]!r}")
        whole = self.read_exactly(size + 8, deadline)
        assert whole[-1] == END, f"frame end is {whole[-1]:#x}"
        return kind, channel, whole[7:-1]

    def abort(self):
        """A reset instead of a farewell."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Client(Wire):
    """A connection that is logged in. Methods are called by name: `client.call(1, "queue.declare", queue="q")`."""

    @classmethod
    def open(cls, address, user="guest", password="guest", vhost="/", heartbeat=0, frame_max=131072, channel_max=2047,
             mechanism="PLAIN", protocol=PROTOCOL, properties=None, timeout=PATIENCE, channel=True, tls=None):
        self = cls(address, timeout, tls)
        try:
            self.deliveries, self.confirms, self.returns = [], [], []
            self.write(protocol)
            self.start = self.expect("connection.start")
            response = f"\0{user}\0{password}".encode()
            if mechanism == "AMQPLAIN":
                response = table({"LOGIN": user, "PASSWORD": password})[4:]
            elif mechanism == "EXTERNAL":
                response = b""
            if properties is None:
                properties = {"product": "umbel tests", "capabilities": {"consumer_cancel_notify": True, "connection.blocked": True,
                              "authentication_failure_close": True, "publisher_confirms": True, "basic.nack": True}}
            self.send(0, "connection.start-ok", client_properties=properties, mechanism=mechanism, response=response, locale="en_US")
            self.tune = self.expect("connection.tune")
            self.frame_max = min(frame_max, self.tune["frame_max"]) if self.tune["frame_max"] else frame_max
            self.send(0, "connection.tune-ok", channel_max=min(channel_max, self.tune["channel_max"] or 65535), frame_max=self.frame_max, heartbeat=heartbeat)
            self.send(0, "connection.open", vhost=vhost)
            self.expect("connection.open-ok")
            if channel:
                self.call(1, "channel.open")
        except BaseException:
            self.close()
            raise
        return self

    def send(self, channel, name, **arguments):
        self.write(frame(METHOD, channel, method(name, **arguments)))

    def beat(self):
        self.write(frame(HEARTBEAT, 0, b""))

    def next(self, timeout=None):
        """(channel, method, arguments or Message) of the next thing that is not a heartbeat. A close is answered and raised."""
        while True:
            kind, channel, payload = self.read_frame(timeout)
            if kind == HEARTBEAT:
                continue
            assert kind == METHOD, f"a frame of type {kind} without a method"
            name, arguments = read_method(payload)
            if name in ("basic.deliver", "basic.get-ok", "basic.return"):
                kind, _, header_payload = self.read_frame(timeout)
                assert kind == HEADER, kind
                size, body = read_header(header_payload)[0], b""
                while len(body) < size:
                    kind, _, piece = self.read_frame(timeout)
                    assert kind == BODY, kind
                    body += piece
                return channel, name, Message(name, arguments, header_payload, body)
            if name in ("connection.close", "channel.close"):
                scope = name.split(".")[0]
                try:
                    self.send(channel, scope + ".close-ok")
                except OSError:
                    pass
                raise Refused(scope, arguments["code"], arguments["text"], arguments["class_id"], arguments["method_id"])
            return channel, name, arguments

    def expect(self, name, channel=None, timeout=None):
        """The arguments of the method that must come now; deliveries, returns and confirms are put aside meanwhile."""
        while True:
            got_channel, got, what = self.next(timeout)
            if got == name and channel in (None, got_channel):
                return what
            if got == "basic.deliver":
                self.deliveries.append(what)
            elif got == "basic.return":
                self.returns.append(what)
            elif got in ("basic.ack", "basic.nack"):
                self.confirms.append((got, what))
            else:
                raise Unexpected(f"{name} wanted, {got} {what} came on channel {got_channel}")

    def call(self, channel, name, **arguments):
        self.send(channel, name, **arguments)
        return self.expect(name + "-ok", channel)

    def declare(self, queue="", channel=1, durable=True, **options):
        return self.call(channel, "queue.declare", queue=queue, durable=durable, **options)["queue"]

    def publish(self, routing_key, body=b"", exchange="", channel=1, mandatory=False, immediate=False, header_payload=None, **properties):
        """One publish in one write, its body cut to frame_max."""
        if header_payload is None:
            header_payload = header(len(body), **properties)
        step = self.frame_max - 8
        out = [frame(METHOD, channel, method("basic.publish", exchange=exchange, routing_key=routing_key, mandatory=mandatory, immediate=immediate)),
               frame(HEADER, channel, header_payload)]
        out += [frame(BODY, channel, body[i:i + step]) for i in range(0, len(body), step)]
        self.write(b"".join(out))

    def get(self, queue, channel=1, no_ack=True):
        """A Message, or None where the queue is empty."""
        self.send(channel, "basic.get", queue=queue, no_ack=no_ack)
        while True:
            _, name, what = self.next()
            if name == "basic.get-ok":
                return what
            if name == "basic.get-empty":
                return None

    def drain(self, queue, channel=1):
        """All messages of a queue, in order."""
        out = []
        while (message := self.get(queue, channel)) is not None:
            out.append(message)
        return out

    def consume(self, queue, channel=1, no_ack=True, tag=""):
        return self.call(channel, "basic.consume", queue=queue, no_ack=no_ack, consumer_tag=tag)["consumer_tag"]

    def delivery(self, timeout=None):
        if self.deliveries:
            return self.deliveries.pop(0)
        return self.expect("basic.deliver", timeout=timeout)

    def select_confirms(self, channel=1):
        self.call(channel, "confirm.select")

    def confirmed(self, count, channel=1, timeout=None):
        """Waits until tags 1..count are settled; the set of those that were nacked."""
        settled, nacked, highest = set(), set(), 0
        events = self.confirms
        self.confirms = []
        while True:
            for name, what in events:
                tag = what["delivery_tag"]
                tags = {t for t in range(1, tag + 1) if t not in settled} if what["multiple"] else {tag}
                assert not tags & settled, f"{sorted(tags & settled)} settled twice"
                settled |= tags
                if name == "basic.nack":
                    nacked |= tags
            if settled >= set(range(1, count + 1)):
                return nacked
            _, name, what = self.next(timeout)
            if name == "basic.return":
                self.returns.append(what)
                events = []
            else:
                assert name in ("basic.ack", "basic.nack"), name
                events = [(name, what)]

    def depth(self, queue, channel=1):
        """Messages ready in a queue, or None where there is none (the channel is opened again)."""
        try:
            return self.call(channel, "queue.declare", queue=queue, passive=True)["messages"]
        except Refused as refused:
            if refused.code != 404:
                raise
            self.call(channel, "channel.open")
            return None

    def bye(self):
        """The polite way."""
        self.call(0, "connection.close", code=200)
        self.close()
