"""AMQP 0-9-1 by hand: a codec of two hundred lines and a client that can also be rude. Nothing here is shared with Umbel or Celery."""

import datetime
import socket
import struct
import time

METHOD, HEADER, BODY, HEARTBEAT, END = 1, 2, 3, 8, 0xCE
PROTOCOL = b"AMQP\x00\x00\x09\x01"
PROTOCOL_OF_OLD = b"AMQP\x01\x01\x00\x09"

# o octet, h short, l long, q longlong, b bit, s short string, S long string, t table
_SPEC = """
connection.start 10 10 major:o minor:o server_properties:t mechanisms:S locales:S
connection.start-ok 10 11 client_properties:t mechanism:s response:S locale:s
connection.secure 10 20 challenge:S
connection.secure-ok 10 21 response:S
connection.tune 10 30 channel_max:h frame_max:l heartbeat:h
connection.tune-ok 10 31 channel_max:h frame_max:l heartbeat:h
connection.open 10 40 vhost:s reserved_1:s reserved_2:b
connection.open-ok 10 41 reserved_1:s
connection.close 10 50 code:h text:s class_id:h method_id:h
connection.close-ok 10 51
connection.blocked 10 60 reason:s
connection.unblocked 10 61
connection.update-secret 10 70 secret:S reason:s
connection.update-secret-ok 10 71
channel.open 20 10 reserved:s
channel.open-ok 20 11 reserved:S
channel.flow 20 20 active:b
channel.flow-ok 20 21 active:b
channel.close 20 40 code:h text:s class_id:h method_id:h
channel.close-ok 20 41
exchange.declare 40 10 ticket:h exchange:s type:s passive:b durable:b auto_delete:b internal:b no_wait:b arguments:t
exchange.declare-ok 40 11
exchange.delete 40 20 ticket:h exchange:s if_unused:b no_wait:b
exchange.delete-ok 40 21
exchange.bind 40 30 ticket:h destination:s source:s routing_key:s no_wait:b arguments:t
exchange.bind-ok 40 31
exchange.unbind 40 40 ticket:h destination:s source:s routing_key:s no_wait:b arguments:t
exchange.unbind-ok 40 51
queue.declare 50 10 ticket:h queue:s passive:b durable:b exclusive:b auto_delete:b no_wait:b arguments:t
queue.declare-ok 50 11 queue:s messages:l consumers:l
queue.bind 50 20 ticket:h queue:s exchange:s routing_key:s no_wait:b arguments:t
queue.bind-ok 50 21
queue.purge 50 30 ticket:h queue:s no_wait:b
queue.purge-ok 50 31 messages:l
queue.delete 50 40 ticket:h queue:s if_unused:b if_empty:b no_wait:b
queue.delete-ok 50 41 messages:l
queue.unbind 50 50 ticket:h queue:s exchange:s routing_key:s arguments:t
queue.unbind-ok 50 51
basic.qos 60 10 prefetch_size:l prefetch_count:h global:b
basic.qos-ok 60 11
basic.consume 60 20 ticket:h queue:s consumer_tag:s no_local:b no_ack:b exclusive:b no_wait:b arguments:t
basic.consume-ok 60 21 consumer_tag:s
basic.cancel 60 30 consumer_tag:s no_wait:b
basic.cancel-ok 60 31 consumer_tag:s
basic.publish 60 40 ticket:h exchange:s routing_key:s mandatory:b immediate:b
basic.return 60 50 code:h text:s exchange:s routing_key:s
basic.deliver 60 60 consumer_tag:s delivery_tag:q redelivered:b exchange:s routing_key:s
basic.get 60 70 ticket:h queue:s no_ack:b
basic.get-ok 60 71 delivery_tag:q redelivered:b exchange:s routing_key:s messages:l
basic.get-empty 60 72 reserved:s
basic.ack 60 80 delivery_tag:q multiple:b
basic.reject 60 90 delivery_tag:q requeue:b
basic.recover-async 60 100 requeue:b
basic.recover 60 110 requeue:b
basic.recover-ok 60 111
basic.nack 60 120 delivery_tag:q multiple:b requeue:b
confirm.select 85 10 no_wait:b
confirm.select-ok 85 11
tx.select 90 10
tx.select-ok 90 11
tx.commit 90 20
tx.commit-ok 90 21
tx.rollback 90 30
tx.rollback-ok 90 31
"""
BY_NAME, BY_ID = {}, {}
for _line in _SPEC.split("\n"):
    if _line:
        _name, _class, _method, *_args = _line.split()
        BY_NAME[_name] = (int(_class), int(_method), [tuple(a.split(":")) for a in _args])
        BY_ID[int(_class), int(_method)] = _name

PROPERTIES = [
    ("content_type", "s"), ("content_encoding", "s"), ("headers", "t"), ("delivery_mode", "o"), ("priority", "o"),
    ("correlation_id", "s"), ("reply_to", "s"), ("expiration", "s"), ("message_id", "s"), ("timestamp", "q"),
    ("type", "s"), ("user_id", "s"), ("app_id", "s"), ("cluster_id", "s"),
]


class Refused(Exception):
    """The peer closed a channel or the connection: `code`, `text`, `scope`."""

    def __init__(self, scope, code, text, class_id=0, method_id=0):
        super().__init__(f"{scope}.close {code} {text}")
        self.scope, self.code, self.text, self.about = scope, code, text, (class_id, method_id)


class Unexpected(AssertionError):
    """Another frame than the one waited for."""


# encoding

def short_string(value):
    data = value if isinstance(value, bytes) else value.encode()
    return bytes([len(data)]) + data


def long_string(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">I", len(data)) + data


def table(entries):
    """`bytes` is taken as an encoded table without its length."""
    if isinstance(entries, bytes):
        return long_string(entries)
    return long_string(b"".join(short_string(k) + field(v) for k, v in (entries or {}).items()))


def field(value):
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t" + bytes([value])
    if isinstance(value, int):
        return b"I" + struct.pack(">i", value) if -2**31 <= value < 2**31 else b"l" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, (list, tuple)):
        return b"A" + long_string(b"".join(map(field, value)))
    if isinstance(value, dict):
        return b"F" + table(value)
    if isinstance(value, datetime.datetime):
        return b"T" + struct.pack(">Q", int(value.timestamp()))
    return b"S" + long_string(value)


_ENCODE = {
    "o": lambda v: struct.pack(">B", v), "h": lambda v: struct.pack(">H", v), "l": lambda v: struct.pack(">I", v),
    "q": lambda v: struct.pack(">Q", v), "s": short_string, "S": long_string, "t": table,
}


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([END])


def method(name, **given):
    """A method frame's payload; what is not given is zero or empty."""
    class_id, method_id, arguments = BY_NAME[name]
    out, bits, count = [struct.pack(">HH", class_id, method_id)], 0, 0
    for argument, kind in arguments:
        value = given.pop(argument, None)
        if kind == "b":
            bits |= bool(value) << count
            count += 1
            continue
        if count:
            out.append(bytes([bits]))
            bits = count = 0
        if value is None:
            value = {} if kind == "t" else "" if kind in "sS" else 0
        out.append(_ENCODE[kind](value))
    if count:
        out.append(bytes([bits]))
    assert not given, f"{name} has no {sorted(given)}"
    return b"".join(out)


def header(body_size, **properties):
    """A content header frame's payload."""
    flags, out = 0, []
    for bit, (name, kind) in enumerate(PROPERTIES):
        if properties.get(name) is not None:
            flags |= 1 << (15 - bit)
            out.append(_ENCODE[kind](properties[name]))
    return struct.pack(">HHQH", 60, 0, body_size, flags) + b"".join(out)


# decoding

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        piece = self.data[self.at:self.at + n]
        if len(piece) != n:
            raise ValueError(f"{n} bytes wanted at {self.at} of {len(self.data)}")
        self.at += n
        return piece

    def number(self, code):
        return struct.unpack(">" + code, self.take(struct.calcsize(">" + code)))[0]

    def value(self, kind):
        if kind == "s":
            return self.take(self.number("B")).decode("utf-8", "surrogateescape")
        if kind == "S":
            return self.take(self.number("I"))
        if kind == "t":
            return self.table()
        return self.number({"o": "B", "h": "H", "l": "I", "q": "Q"}[kind])

    def table(self):
        inner, out = Reader(self.take(self.number("I"))), {}
        while inner.at < len(inner.data):
            key = inner.value("s")
            out[key] = inner.field()
        return out

    def field(self):
        tag = self.take(1).decode("latin-1")
        if tag == "S":
            return self.take(self.number("I")).decode("utf-8", "surrogateescape")
        if tag == "x":
            return self.take(self.number("I"))
        if tag == "A":
            inner, out = Reader(self.take(self.number("I"))), []
            while inner.at < len(inner.data):
                out.append(inner.field())
            return out
        if tag == "F":
            return self.table()
        if tag == "V":
            return None
        if tag == "t":
            return bool(self.number("B"))
        if tag == "D":
            return self.number("B"), self.number("i")
        return self.number({"b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q", "f": "f", "d": "d", "T": "Q"}[tag])


def read_method(payload):
    r = Reader(payload)
    name = BY_ID[r.number("H"), r.number("H")]
    out, bits, left = {}, 0, 0
    for argument, kind in BY_NAME[name][2]:
        if kind == "b":
            if not left:
                bits, left = r.number("B"), 8
            out[argument] = bool(bits & 1)
            bits, left = bits >> 1, left - 1
        else:
            left = 0
            out[argument] = r.value(kind)
    return name, out


def read_header(payload):
    """(body size, properties)"""
    r = Reader(payload)
    r.take(4)
    size, flags, out = r.number("Q"), r.number("H"), {}
    for bit, (name, kind) in enumerate(PROPERTIES):
        if flags & 1 << (15 - bit):
            out[name] = r.value(kind)
    return size, out


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

    def __init__(self, address, timeout=10.0, tls=None):
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
             mechanism="PLAIN", protocol=PROTOCOL, properties=None, timeout=10.0, channel=True, tls=None):
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
