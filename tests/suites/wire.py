"""A raw connection, and what came over it as one-line sentences: what the suites write down and compare."""
import socket
import struct
import time

# Suites say wire.frame, wire.method and so on.
from octets import (  # noqa: F401
    BODY, HEAD, HEADER, HEARTBEAT, METHOD, PROPERTIES, SPEC, arguments, body, field, frame, head, longstr, message, method, nested_array,
    nested_table, parse, parse_properties, payload, properties, raw_table, shortstr, table,
)


class Gone(Exception):
    """The peer ended the connection; `how` is EOF or RST."""


CAPABILITIES = {"publisher_confirms": True, "exchange_exchange_bindings": True, "basic.nack": True,
                "consumer_cancel_notify": True, "connection.blocked": True, "authentication_failure_close": True}
CLIENT = {"product": "suites", "capabilities": CAPABILITIES}


class Wire:
    """One raw connection. `login()` goes as far as open-ok; without it, it is a bare socket."""

    def __init__(self, port, host="127.0.0.1", timeout=30.0):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.pending = bytearray()
        self.tune = None
        self.server_properties = None
        self.mechanisms = None

    def send(self, data):
        self.sock.settimeout(self.timeout)
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # What the peer said before is still to be read.

    def _fill(self, n, deadline):
        while len(self.pending) < n:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            try:
                got = self.sock.recv(1 << 20)
            except (ConnectionResetError, BrokenPipeError):
                raise Gone("RST") from None
            except socket.timeout:
                raise TimeoutError from None
            if not got:
                raise Gone("EOF")
            self.pending += got

    def frame(self, timeout=None):
        """(kind, channel, payload); a protocol header comes as ("AMQP", 0, bytes)."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        self._fill(7, deadline)
        if self.pending[:4] == b"AMQP":
            self._fill(8, deadline)
            data = bytes(self.pending[:8])
            del self.pending[:8]
            return "AMQP", 0, data
        kind, channel, size = struct.unpack(">BHI", self.pending[:7])
        self._fill(8 + size, deadline)
        data = bytes(self.pending[7:7 + size])
        assert self.pending[7 + size] == 0xce, "frame end"
        del self.pending[:8 + size]
        return kind, channel, data

    def expect(self, name, timeout=None):
        """The arguments of the next method, which must be `name`; heartbeats are skipped."""
        while True:
            kind, channel, data = self.frame(timeout)
            if kind == HEARTBEAT:
                continue
            got = parse(data) if kind == METHOD else (kind, data)
            if got[0] != name:
                raise AssertionError("wanted %s, got %s on %s" % (name, got, channel))
            return got[1]

    def content(self, timeout=None):
        """(properties bytes, body) of a message whose method was just read."""
        kind, _, data = self.frame(timeout)
        assert kind == HEAD, kind
        size = struct.unpack(">Q", data[4:12])[0]
        out = bytearray()
        while len(out) < size:
            kind, _, part = self.frame(timeout)
            assert kind == BODY, kind
            out += part
        return data[12:], bytes(out)

    def call(self, channel, name, **given):
        self.send(method(channel, name, **given))
        reply = {"basic.recover": "basic.recover-ok"}.get(name, name + "-ok")
        return self.expect(reply)

    def start(self):
        self.send(HEADER)
        args = self.expect("connection.start")
        self.server_properties, self.mechanisms = args["server_properties"], args["mechanisms"]
        return args

    def login(self, user="guest", password="guest", vhost="/", client=CLIENT, channel_max=None, frame_max=None,
              heartbeat=0):
        self.start()
        self.send(method(0, "connection.start-ok", client_properties=client, mechanism="PLAIN",
                         response="\0%s\0%s" % (user, password), locale="en_US"))
        self.tune = self.expect("connection.tune")
        self.send(method(0, "connection.tune-ok",
                         channel_max=self.tune["channel_max"] if channel_max is None else channel_max,
                         frame_max=self.tune["frame_max"] if frame_max is None else frame_max, heartbeat=heartbeat))
        self.send(method(0, "connection.open", virtual_host=vhost))
        self.expect("connection.open-ok")
        return self

    def channel(self, number=1):
        self.call(number, "channel.open")
        return number

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def sentence(kind, channel, data):
    """One received frame as one line, without what differs from run to run."""
    if kind == "AMQP":
        return "AMQP %d %d %d %d" % tuple(data[4:8])
    if kind == HEARTBEAT:
        return "ch%d heartbeat" % channel
    if kind == HEAD:
        return "ch%d header size=%d %s" % (channel, struct.unpack(">Q", data[4:12])[0], data[12:].hex())
    if kind == BODY:
        return "ch%d body %d bytes" % (channel, len(data))
    name, args = parse(data)
    if name == "connection.start":
        return "ch0 connection.start %d-%d %s" % (args["version_major"], args["version_minor"],
                                                  sorted(args["mechanisms"].decode().split()))
    shown = []
    for key, value in args.items():
        if key in ("reserved_1", "ticket"):
            continue
        if isinstance(value, str) and value.startswith("amq.gen-"):
            value = "amq.gen-*"
        if isinstance(value, str) and value.startswith("amq.ctag-"):
            value = "amq.ctag-*"
        if key in ("reply_code",):
            shown.append(str(value))
        elif key in ("reply_text",):
            shown.append(repr(value))
        elif key in ("class_id",):
            shown.append("for %d," % value)
        elif key in ("method_id",):
            shown.append(str(value))
        else:
            shown.append("%s=%s" % (key, value if not isinstance(value, (bytes, str)) else repr(value)))
    return " ".join(["ch%d %s" % (channel, name)] + shown)
