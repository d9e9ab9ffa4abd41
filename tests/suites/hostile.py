"""Malformed and hostile inputs, as data: a name, how far the connection is when they start, and the bytes.

A case ends with a probe (a channel.open on a far channel) where the connection was open, so "the connection lives" is an
answer like any other. What RabbitMQ 3.10 answers is in `hostile_rabbitmq_3_10.json`, written by `record.py`.
"""
import struct
from dataclasses import dataclass, field as datafield

import wire
from wire import (BODY, END, HEAD, HEADER, HEARTBEAT, METHOD, body, frame, head, longstr, message, method, nested_array,
                  nested_table, payload, properties, raw_table, shortstr)

PLAIN = b"\0guest\0guest"
PROBE = 1999

# How far the connection is before the first step.
RAW, STARTED, TUNE, TUNED, OPEN, CHANNEL = "raw", "started", "tune", "tuned", "open", "channel"


@dataclass
class Case:
    """One hostile input. A step is bytes, or a number (seconds to wait), or a callable that yields bytes."""
    name: str
    stage: str
    steps: list
    client: dict = None      # other client properties than the usual
    probe: bool = True       # False where the connection may not take another method
    quiet: float = 5.0       # how long silence must last to be the answer
    strict: str = ""         # why Umbel may answer otherwise (stricter), if it may


CASES = []


def case(name, stage, *steps, **more):
    CASES.append(Case(name, stage, list(steps), **more))


def start_ok(client=None, mechanism="PLAIN", response=PLAIN, locale="en_US"):
    return method(0, "connection.start-ok", client_properties=wire.CLIENT if client is None else client,
                  mechanism=mechanism, response=response, locale=locale)


def opened(vhost="/"):
    return method(0, "connection.open", virtual_host=vhost)


def tune_ok(channel_max=2047, frame_max=131072, heartbeat=0):
    return method(0, "connection.tune-ok", channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)


def ids(klass, number, rest=b""):
    return struct.pack(">HH", klass, number) + rest


def publish(channel=1, exchange="", key="h.nowhere", **more):
    return method(channel, "basic.publish", exchange=exchange, routing_key=key, **more)


def declare(queue="h.tmp", channel=1, **more):
    return method(channel, "queue.declare", queue=queue, **more)


def with_table(inner):
    """A message on channel 1 whose headers are these table bytes (length included)."""
    return publish() + head(1, 1, struct.pack(">H", 1 << 13) + inner) + body(1, b"x")


# ---------------------------------------------------------------------------------------- before the protocol header
case("protocol header: garbage of eight bytes", RAW, b"GARBAGE!")
case("protocol header: HTTP request", RAW, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
case("protocol header: TLS hello on the plain port", RAW,
     bytes.fromhex("16030100c8010000c40303") + bytes(range(32)) + b"\0" * 157)
case("protocol header: half of it, then silence", RAW, b"AMQP", quiet=13)
case("protocol header: nothing at all", RAW, quiet=13)
case("protocol header: half of it, then end of file", RAW, b"AMQP", "half-close")
case("protocol header: AMQP 1.0", RAW, b"AMQP\0\1\0\0")
case("protocol header: AMQP 1.0 with SASL", RAW, b"AMQP\3\1\0\0")
case("protocol header: AMQP 0 0 9 1", RAW, HEADER)
case("protocol header: AMQP 1 1 0 9, of old clients", RAW, b"AMQP\1\1\0\x09")
case("protocol header: AMQP 1 1 8 0 (0-8)", RAW, b"AMQP\1\1\x08\0")
case("protocol header: AMQP 1 1 9 1", RAW, b"AMQP\1\1\x09\1")
case("protocol header: AMQP 0 0 9 2", RAW, b"AMQP\0\0\x09\2")
case("protocol header: AMQP 0 0 9 0", RAW, b"AMQP\0\0\x09\0")
case("protocol header: AMQP 9 9 9 9", RAW, b"AMQP\x09\x09\x09\x09")
case("protocol header: lower case", RAW, b"amqp\0\0\x09\1")
case("protocol header: a megabyte of A", RAW, b"A" * 1000000)
case("protocol header: one byte at a time", RAW, *[x for i in range(8) for x in (HEADER[i:i + 1], 0.05)])
case("protocol header: sent twice", RAW, HEADER + HEADER)

# ---------------------------------------------------------------------------------------- before login
case("start-ok: unknown mechanism", STARTED, start_ok(mechanism="NTLM"))
case("start-ok: empty mechanism", STARTED, start_ok(mechanism=""))
case("start-ok: EXTERNAL on a plain port", STARTED, start_ok(mechanism="EXTERNAL", response=b""))
case("start-ok: lower-case plain", STARTED, start_ok(mechanism="plain"))
case("start-ok: PLAIN response without NULs", STARTED, start_ok(response=b"guestguest"))
case("start-ok: PLAIN response with one NUL", STARTED, start_ok(response=b"guest\0guest"))
case("start-ok: PLAIN response with an authzid", STARTED, start_ok(response=b"me\0guest\0guest"))
case("start-ok: PLAIN response with a third NUL", STARTED, start_ok(response=b"\0guest\0guest\0"))
case("start-ok: empty PLAIN response", STARTED, start_ok(response=b""))
case("start-ok: AMQPLAIN good", STARTED,
     start_ok(mechanism="AMQPLAIN", response=wire.table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]))
case("start-ok: AMQPLAIN with its table's length", STARTED,
     start_ok(mechanism="AMQPLAIN", response=wire.table({"LOGIN": "guest", "PASSWORD": "guest"})))
case("start-ok: AMQPLAIN without a password", STARTED,
     start_ok(mechanism="AMQPLAIN", response=wire.table({"LOGIN": "guest"})[4:]))
case("start-ok: AMQPLAIN garbage", STARTED, start_ok(mechanism="AMQPLAIN", response=b"\xff" * 20))
case("start-ok: AMQPLAIN empty", STARTED, start_ok(mechanism="AMQPLAIN", response=b""))
case("start-ok: AMQPLAIN with numbers", STARTED,
     start_ok(mechanism="AMQPLAIN", response=wire.table({"LOGIN": 1, "PASSWORD": 2})[4:]))
case("start-ok: AMQPLAIN with a wrong password", STARTED,
     start_ok(mechanism="AMQPLAIN", response=wire.table({"LOGIN": "guest", "PASSWORD": "x"})[4:]))
case("start-ok: RABBIT-CR-DEMO", STARTED, start_ok(mechanism="RABBIT-CR-DEMO", response=b"guest"))
case("start-ok: wrong password, with authentication_failure_close", STARTED, start_ok(response=b"\0guest\0wrong"))
case("start-ok: wrong password, without the capability", STARTED,
     start_ok(client={"product": "old"}, response=b"\0guest\0wrong"))
case("start-ok: unknown user", STARTED, start_ok(response=b"\0nobody\0x"))
case("start-ok: empty user", STARTED, start_ok(response=b"\0\0"))
case("start-ok: a user of 300 bytes", STARTED, start_ok(response=b"\0" + b"u" * 300 + b"\0x"))
case("start-ok: non-UTF-8 user", STARTED, start_ok(response=b"\0\xff\xfe\0x"))
case("start-ok: client properties nested 500 deep", STARTED, start_ok(client=nested_table(500)))
case("start-ok: client properties nested 2,000 deep", STARTED, start_ok(client=nested_table(2000)))
case("start-ok: client properties of 5,000 bytes", STARTED, start_ok(client={"p": "x" * 5000}))
case("start-ok: client properties of 3,900 bytes", STARTED, start_ok(client={"p": "x" * 3900}))
case("start-ok: client properties' length lies", STARTED,
     frame(METHOD, 0, ids(10, 11, struct.pack(">I", 1 << 30) + b"abc")))
case("start-ok: unknown field tag in client properties", STARTED, start_ok(client=raw_table(b"\1aZ\0\0")))
case("start-ok: capabilities that are no table", STARTED, start_ok(client={"capabilities": 1}))
case("start-ok: capabilities that are no booleans", STARTED, start_ok(client={"capabilities": {"basic.nack": "yes"}}))
case("start-ok: the same property twice", STARTED, start_ok(client=raw_table(b"\1aI\0\0\0\1" * 2)))
case("start-ok: empty client properties", STARTED, start_ok(client=b"\0\0\0\0"))
case("start-ok: unknown locale", STARTED, start_ok(locale="xx_YY"))
case("start-ok: cut off inside its arguments", STARTED, frame(METHOD, 0, payload("connection.start-ok")[:6]))
case("start-ok: trailing bytes", STARTED, frame(METHOD, 0, start_ok()[7:-1] + b"trailing"))
case("start-ok: on channel 1", STARTED, start_ok().replace(b"\1\0\0", b"\1\0\1", 1))
case("start-ok: twice", STARTED, start_ok() + start_ok())
case("start-ok: everything pipelined", STARTED, start_ok() + tune_ok() + opened())
case("before login: a frame of 2 GiB announced", STARTED, struct.pack(">BHI", 1, 0, 0x7fffffff))
case("before login: a frame of 4 GiB announced", STARTED, struct.pack(">BHI", 1, 0, 0xffffffff))
case("before login: a frame of 4,097 bytes", STARTED, frame(METHOD, 0, b"x" * 4089))
case("before login: a frame of 4,096 bytes", STARTED, frame(METHOD, 0, b"x" * 4088))
case("before login: unknown frame type", STARTED, frame(7, 0, b"x"))
case("before login: frame end wrong", STARTED, start_ok()[:-1] + b"\0")
case("before login: heartbeat", STARTED, frame(HEARTBEAT, 0, b""))
case("before login: header frame", STARTED, head(0, 1))
case("before login: body frame", STARTED, body(0, b"x"))
case("before login: tune-ok", STARTED, tune_ok())
case("before login: connection.open", STARTED, opened())
case("before login: channel.open", STARTED, method(1, "channel.open"))
case("before login: basic.publish", STARTED, message(1, b"x"))
case("before login: secure-ok", STARTED, method(0, "connection.secure-ok", response="x"))
case("before login: connection.close", STARTED, method(0, "connection.close", reply_code=200, reply_text="bye"))
case("before login: close-ok", STARTED, method(0, "connection.close-ok"))
case("before login: connection.start from a client", STARTED, method(0, "connection.start"))
case("before login: silence after start", STARTED, quiet=13)
case("before login: end of file after start", STARTED, "half-close")

# ---------------------------------------------------------------------------------------- tune
case("tune-ok: channel_max bigger than offered", TUNE, tune_ok(channel_max=65535) + opened())
case("tune-ok: frame_max bigger than offered", TUNE, tune_ok(frame_max=1 << 20) + opened())
case("tune-ok: channel_max 0", TUNE, tune_ok(channel_max=0) + opened())
case("tune-ok: frame_max 0", TUNE, tune_ok(frame_max=0) + opened())
case("tune-ok: frame_max 100", TUNE, tune_ok(frame_max=100) + opened())
case("tune-ok: frame_max 4095", TUNE, tune_ok(frame_max=4095) + opened())
case("tune-ok: frame_max 4096", TUNE, tune_ok(frame_max=4096) + opened())
case("tune-ok: channel_max 1 and a channel 2", TUNE, tune_ok(channel_max=1) + opened(), 0.3,
     method(1, "channel.open"), method(2, "channel.open"))
case("tune-ok: heartbeat 65535", TUNE, tune_ok(heartbeat=65535) + opened())
case("tune-ok: heartbeat 1, then mute", TUNE, tune_ok(heartbeat=1) + opened(), quiet=8)
case("tune-ok: short", TUNE, frame(METHOD, 0, ids(10, 31, b"\0\1")))
case("tune-ok: trailing bytes", TUNE, frame(METHOD, 0, tune_ok()[7:-1] + b"\0\0") + opened())
case("tune-ok: twice", TUNE, tune_ok() + tune_ok() + opened())
case("tune: start-ok again", TUNE, start_ok())
case("tune: connection.open without tune-ok", TUNE, opened())
case("tune: secure-ok out of order", TUNE, method(0, "connection.secure-ok", response="x"))
case("tune: close", TUNE, method(0, "connection.close", reply_code=200, reply_text="bye"))
case("tuned: channel.open before connection.open", TUNED, method(1, "channel.open"))
case("tuned: channel.open pipelined behind connection.open", TUNED, opened() + method(1, "channel.open"))
case("tuned: open an unknown vhost", TUNED, opened("h.unknown"))
case("tuned: open an empty vhost", TUNED, opened(""))
case("tuned: open a vhost of 255 bytes", TUNED, opened("v" * 255))
case("tuned: open a vhost of strange bytes", TUNED,
     frame(METHOD, 0, ids(10, 40, shortstr(b"\xff\xfe") + b"\0\0")))
case("tuned: open with reserved fields set", TUNED,
     method(0, "connection.open", virtual_host="/", reserved_1="x", reserved_2=True))
case("tuned: open cut off", TUNED, frame(METHOD, 0, ids(10, 40, b"\x09/")))
case("tuned: update-secret before open", TUNED, method(0, "connection.update-secret", new_secret="x", reason="y"))
case("tuned: body before open", TUNED, body(1, b"x"))

# ---------------------------------------------------------------------------------------- the open connection
case("connection: open a second time", OPEN, opened())
case("connection: tune-ok a second time", OPEN, tune_ok())
case("connection: start-ok a second time", OPEN, start_ok())
case("connection: secure-ok out of order", OPEN, method(0, "connection.secure-ok", response="x"))
case("connection: close with code 200", OPEN, method(0, "connection.close", reply_code=200, reply_text="bye"))
case("connection: close with code 0", OPEN, method(0, "connection.close"))
case("connection: close with code 65535 and ids", OPEN,
     method(0, "connection.close", reply_code=65535, reply_text="x" * 255, class_id=65535, method_id=65535))
case("connection: close cut off", OPEN, frame(METHOD, 0, ids(10, 50, b"\0")))
case("connection: close, then more methods", OPEN,
     method(0, "connection.close", reply_code=200) + method(1, "channel.open") + b"garbage after close")
case("connection: close while channels are open and content pends", CHANNEL,
     publish() + head(1, 100) + body(1, b"half") + method(0, "connection.close", reply_code=200))
case("connection: close-ok unasked", OPEN, method(0, "connection.close-ok"))
case("connection: blocked from a client", OPEN, method(0, "connection.blocked", reason="x"))
case("connection: unblocked from a client", OPEN, method(0, "connection.unblocked"))
case("connection: update-secret", OPEN, method(0, "connection.update-secret", new_secret="guest", reason="r"))
case("connection: update-secret with a wrong secret", OPEN,
     method(0, "connection.update-secret", new_secret="wrong", reason="r"))
case("connection: update-secret on channel 1", CHANNEL,
     method(1, "connection.update-secret", new_secret="guest", reason="r"))
case("connection: a connection method on channel 1", CHANNEL, method(1, "connection.close", reply_code=200))
case("connection: unknown method id in its class", OPEN, frame(METHOD, 0, ids(10, 99)))
case("connection: open-ok from a client", OPEN, method(0, "connection.open-ok"))
case("connection: heartbeat unasked", OPEN, frame(HEARTBEAT, 0, b""))
case("connection: heartbeat on channel 1", CHANNEL, frame(HEARTBEAT, 1, b""))
case("connection: heartbeat on an unopened channel", OPEN, frame(HEARTBEAT, 5, b""))
case("connection: heartbeat with a payload", OPEN, frame(HEARTBEAT, 0, b"payload"))
case("connection: protocol header in the middle", OPEN, HEADER)
case("connection: HTTP in the middle", OPEN, b"GET / HTTP/1.1\r\n\r\n")
case("connection: end of file", OPEN, "half-close", probe=False)
case("connection: end of file inside a frame", CHANNEL, publish()[:9], "half-close", probe=False)
case("connection: end of file inside a message", CHANNEL, publish() + head(1, 100) + body(1, b"half"), "half-close",
     probe=False)

# ---------------------------------------------------------------------------------------- frames
for kind in (0, 4, 5, 6, 7, 9, 255):
    case("frames: unknown type %d" % kind, OPEN, frame(kind, 0, b"x"))
case("frames: unknown type on an open channel", CHANNEL, frame(42, 1, b"x"))
case("frames: frame end wrong", OPEN, method(1, "channel.open")[:-1] + b"\xcd")
case("frames: frame end wrong in a body", CHANNEL, publish() + head(1, 1) + frame(BODY, 1, b"x", end=b"\0"))
case("frames: size too small for what follows", CHANNEL, frame(METHOD, 1, payload("tx.select") + b"abcdef", size=4))
case("frames: one byte over frame_max", CHANNEL, publish() + head(1, 131065) + frame(BODY, 1, b"x" * 131065))
case("frames: nine bytes over frame_max", CHANNEL, publish() + head(1, 131073) + frame(BODY, 1, b"x" * 131073))
case("frames: eight bytes over frame_max", CHANNEL, publish() + head(1, 131072) + frame(BODY, 1, b"x" * 131072))
case("frames: exactly frame_max", CHANNEL, publish() + head(1, 131064) + frame(BODY, 1, b"x" * 131064))
case("frames: 2 GiB announced", CHANNEL, struct.pack(">BHI", BODY, 1, 0x80000000))
case("frames: 4 GiB announced", OPEN, struct.pack(">BHI", METHOD, 0, 0xffffffff))
case("frames: empty method frame", CHANNEL, frame(METHOD, 1, b""))
case("frames: empty method frame on channel 0", OPEN, frame(METHOD, 0, b""))
case("frames: method frame of three bytes", CHANNEL, frame(METHOD, 1, b"\0\x3c\0"))
case("frames: empty header frame", CHANNEL, publish() + frame(HEAD, 1, b""))
case("frames: ten thousand empty heartbeats", OPEN, frame(HEARTBEAT, 0, b"") * 10000)
case("frames: one byte at a time", CHANNEL,
     *[x for b in range(len(message(1, b"x"))) for x in (message(1, b"x")[b:b + 1], 0.002)])

# ---------------------------------------------------------------------------------------- channels
case("channels: a channel method on channel 0", OPEN, method(0, "channel.open"))
case("channels: basic.publish on channel 0", OPEN, publish(0))
case("channels: header on channel 0", OPEN, head(0, 1))
case("channels: body on channel 0", OPEN, body(0, b"x"))
case("channels: queue.declare on channel 0", OPEN, declare(channel=0))
case("channels: publish on an unopened one", OPEN, message(5, b"x"))
case("channels: declare on an unopened one", OPEN, declare(channel=5))
case("channels: header on an unopened one", OPEN, head(5, 1))
case("channels: body on an unopened one", OPEN, body(5, b"x"))
case("channels: close an unopened one", OPEN, method(5, "channel.close", reply_code=200))
case("channels: close-ok on an unopened one", OPEN, method(5, "channel.close-ok"))
case("channels: unknown method on an unopened one", OPEN, frame(METHOD, 5, ids(99, 99)))
case("channels: open twice", CHANNEL, method(1, "channel.open"))
case("channels: number 2047, the last", OPEN, method(2047, "channel.open"))
case("channels: number 2048, over the maximum", OPEN, method(2048, "channel.open"))
case("channels: number 65535", OPEN, method(65535, "channel.open"))
case("channels: open with its reserved string set", OPEN, method(3, "channel.open", reserved_1="out of band"))
case("channels: open cut off", OPEN, frame(METHOD, 3, ids(20, 10)))
case("channels: open with trailing bytes", OPEN, frame(METHOD, 3, ids(20, 10, b"\0trail")))
case("channels: open-ok from a client", CHANNEL, method(1, "channel.open-ok"))
case("channels: close-ok unasked", CHANNEL, method(1, "channel.close-ok") + declare("h.q", passive=True))
case("channels: close twice", CHANNEL, method(1, "channel.close", reply_code=200) * 2)
case("channels: close with odd code", CHANNEL,
     method(1, "channel.close", reply_code=65535, reply_text="odd", class_id=60, method_id=40))
case("channels: close, open again, use", CHANNEL,
     method(1, "channel.close", reply_code=200) + method(1, "channel.open") + declare("h.q", passive=True))
case("channels: close while content pends", CHANNEL,
     publish() + head(1, 10) + body(1, b"half") + method(1, "channel.close", reply_code=200))
case("channels: flow off", CHANNEL, method(1, "channel.flow", active=False))
case("channels: flow on", CHANNEL, method(1, "channel.flow", active=True))
case("channels: flow-ok unasked", CHANNEL, method(1, "channel.flow-ok", active=True))
case("channels: all 2,047 of them", OPEN, b"".join(method(n, "channel.open") for n in range(1, 2048) if n != PROBE))
case("channels: methods on a closing one are ignored until close-ok", CHANNEL,
     declare("h.missing", passive=True) + declare("h.q", passive=True) + message(1, b"x", exchange="h.none"))
case("channels: open on a closing one", CHANNEL, declare("h.missing", passive=True) + method(1, "channel.open"))
case("channels: close on a closing one", CHANNEL,
     declare("h.missing", passive=True) + method(1, "channel.close", reply_code=200))
case("channels: body on a closing one, out of order", CHANNEL, declare("h.missing", passive=True) + body(1, b"x"))
case("channels: unknown method on a closing one", CHANNEL, declare("h.missing", passive=True) + frame(METHOD, 1, ids(60, 99)))

# ---------------------------------------------------------------------------------------- methods
case("methods: unknown class", CHANNEL, frame(METHOD, 1, ids(99, 10)))
case("methods: unknown class on channel 0", OPEN, frame(METHOD, 0, ids(99, 10)))
case("methods: unknown method of basic", CHANNEL, frame(METHOD, 1, ids(60, 99)))
case("methods: class 0 method 0", CHANNEL, frame(METHOD, 1, ids(0, 0)))
case("methods: the file class of 0-8", CHANNEL, frame(METHOD, 1, ids(70, 10)))
case("methods: queue.declare cut off", CHANNEL, frame(METHOD, 1, payload("queue.declare", queue="h.tmp")[:-6]))
case("methods: queue.declare with trailing bytes", CHANNEL, frame(METHOD, 1, payload("queue.declare", queue="h.q", passive=True) + b"x"))
case("methods: tx.select with trailing bytes", CHANNEL, frame(METHOD, 1, payload("tx.select") + b"x"))
case("methods: basic.publish cut off", CHANNEL, frame(METHOD, 1, payload("basic.publish")[:-1]))
case("methods: basic.ack cut off", CHANNEL, frame(METHOD, 1, payload("basic.ack")[:-3]))
case("methods: a shortstr runs over the end", CHANNEL, frame(METHOD, 1, ids(50, 10, b"\0\0\xffabc")))
case("methods: publish with a shortstr over the end", CHANNEL, frame(METHOD, 1, ids(60, 40, b"\0\0\x05ab")))
case("methods: publish with reserved ticket", CHANNEL, method(1, "basic.publish", ticket=7, routing_key="h.q2") + head(1, 0))
case("methods: publish with unused bits set", CHANNEL,
     frame(METHOD, 1, ids(60, 40, b"\0\0" + shortstr("") + shortstr("h.nowhere") + b"\xfc")) + head(1, 0))
case("methods: basic.deliver from a client", CHANNEL, method(1, "basic.deliver"))
case("methods: basic.return from a client", CHANNEL, method(1, "basic.return") + head(1, 0))
case("methods: basic.get-ok from a client", CHANNEL, method(1, "basic.get-ok"))
case("methods: basic.get-empty from a client", CHANNEL, method(1, "basic.get-empty"))
case("methods: basic.cancel-ok from a client", CHANNEL, method(1, "basic.cancel-ok", consumer_tag="x"))
case("methods: basic.consume-ok from a client", CHANNEL, method(1, "basic.consume-ok", consumer_tag="x"))
case("methods: queue.declare-ok from a client", CHANNEL, method(1, "queue.declare-ok", queue="x"))
case("methods: confirm.select-ok from a client", CHANNEL, method(1, "confirm.select-ok"))
case("methods: basic.recover-ok from a client", CHANNEL, method(1, "basic.recover-ok"))
case("methods: access.request", CHANNEL, method(1, "access.request", realm="/data", read=True))
case("methods: access.request-ok from a client", CHANNEL, method(1, "access.request-ok"))

# ---------------------------------------------------------------------------------------- content
case("content: header without a publish", CHANNEL, head(1, 1))
case("content: body without a header", CHANNEL, body(1, b"x"))
case("content: body straight after publish", CHANNEL, publish() + body(1, b"x"))
case("content: two headers", CHANNEL, publish() + head(1, 1) + head(1, 1))
case("content: header after a method that takes none", CHANNEL, declare("h.q", passive=True) + head(1, 1))
case("content: header with another class id", CHANNEL, publish() + head(1, 1, klass=50) + body(1, b"x"))
case("content: header with class id 0", CHANNEL, publish() + head(1, 1, klass=0) + body(1, b"x"))
case("content: weight not zero", CHANNEL, publish() + head(1, 1, weight=1) + body(1, b"x"))
case("content: undefined property flags", CHANNEL, publish() + head(1, 0, b"\0\2"))
case("content: property flags continued", CHANNEL, publish() + head(1, 0, b"\0\1\0\0"))
case("content: property flags continued forever", CHANNEL, publish() + head(1, 0, b"\0\1" * 50))
case("content: properties cut off", CHANNEL, publish() + head(1, 0, b"\x80\0\x05ab"))
case("content: properties trail", CHANNEL, publish() + head(1, 0, b"\0\0trailing"))
case("content: all property flags, no properties", CHANNEL, publish() + head(1, 0, b"\xff\xfc"))
case("content: header of eleven bytes", CHANNEL, publish() + frame(HEAD, 1, b"\0\x3c" + b"\0" * 9))
case("content: longer than declared", CHANNEL, publish() + head(1, 3) + body(1, b"four"))
case("content: longer than declared, in the second frame", CHANNEL, publish() + head(1, 5) + body(1, b"four") + body(1, b"four"))
case("content: one frame more than declared", CHANNEL, publish() + head(1, 4) + body(1, b"four") + body(1, b"four"))
case("content: a body for an empty message", CHANNEL, publish() + head(1, 0) + body(1, b"x"))
case("content: an empty body frame for an empty message", CHANNEL, publish() + head(1, 0) + body(1, b""))
case("content: empty body frames in between", CHANNEL,
     publish(key="h.nowhere", mandatory=True) + head(1, 2) + body(1, b"") + body(1, b"x") + body(1, b"") + body(1, b"y"))
case("content: ten thousand empty body frames", CHANNEL, publish() + head(1, 1) + body(1, b"") * 10000 + body(1, b"x"))
case("content: shorter than declared, then silence", CHANNEL, publish() + head(1, 10) + body(1, b"four"))
case("content: shorter than declared, then a method", CHANNEL, publish() + head(1, 10) + body(1, b"four") + declare())
case("content: a method between publish and header", CHANNEL, publish() + declare())
case("content: a publish inside a publish", CHANNEL, publish() + publish() + head(1, 0))
case("content: a heartbeat in the middle is fine", CHANNEL,
     publish() + frame(HEARTBEAT, 0, b"") + head(1, 4) + frame(HEARTBEAT, 0, b"") + body(1, b"four"))
case("content: two channels interleaved", CHANNEL,
     method(2, "channel.open") + publish(1, mandatory=True) + publish(2, mandatory=True) + head(1, 2) + head(2, 2) +
     body(2, b"22") + body(1, b"11"))
case("content: size 2^63", CHANNEL, publish() + head(1, 1 << 63) + body(1, b"x"))
case("content: size 2^64-1", CHANNEL, publish() + head(1, (1 << 64) - 1) + body(1, b"x"))
case("content: size 2^40", CHANNEL, publish() + head(1, 1 << 40) + body(1, b"x"))
case("content: size over the maximum of 128 MiB, announced only", CHANNEL, publish() + head(1, 134217729))
case("content: longer than declared, mandatory", CHANNEL, publish(mandatory=True) + head(1, 3) + body(1, b"four"))
case("content: size over the maximum of 128 MiB, sent", CHANNEL,
     lambda: iter([publish() + head(1, 134217729)] + [body(1, b"x" * 131064)] * 1024 + [body(1, b"x" * 8193)]),
     quiet=20, strict="refused when the header announces it, before the memory is taken")

# ---------------------------------------------------------------------------------------- tables
case("tables: nested 2,000 deep in headers", CHANNEL, with_table(nested_table(2000)))
case("tables: nested 15,000 deep in headers", CHANNEL, with_table(nested_table(15000)))
case("tables: arrays nested 2,000 deep in headers", CHANNEL, with_table(nested_array(2000)))
case("tables: nested 100 deep in headers", CHANNEL, with_table(nested_table(100)))
case("tables: nested 2,000 deep in queue.declare", CHANNEL, declare(arguments=nested_table(2000)))
case("tables: headers' length beyond the frame", CHANNEL, with_table(struct.pack(">I", 1000) + b"\1aV"))
case("tables: headers' length of 4 GiB", CHANNEL, with_table(struct.pack(">I", 0xffffffff) + b"\1aV"))
case("tables: inner table's length lies", CHANNEL, with_table(raw_table(b"\1aF" + struct.pack(">I", 99) + b"\1bV")))
case("tables: a long string's length lies", CHANNEL, with_table(raw_table(b"\1aS" + struct.pack(">I", 99) + b"x")))
case("tables: a field name runs over the end", CHANNEL, with_table(raw_table(b"\xffab")))
case("tables: a field without a value", CHANNEL, with_table(raw_table(b"\1a")))
case("tables: a field name without a tag", CHANNEL, with_table(raw_table(b"\1aI\0\0\0\1\1b")))
case("tables: unknown field tag", CHANNEL, with_table(raw_table(b"\1aZ\0\0\0\0")))
case("tables: unknown field tag, mandatory", CHANNEL,
     publish(mandatory=True) + head(1, 0, struct.pack(">H", 1 << 13) + raw_table(b"\1a\0\0\0\0\0")))
case("tables: unknown field tag in queue.declare", CHANNEL, declare(arguments=raw_table(b"\1aZ\0\0\0\0")))
case("tables: queue.declare's table length lies", CHANNEL,
     frame(METHOD, 1, payload("queue.declare", queue="h.tmp")[:-4] + struct.pack(">I", 500)))
case("tables: decimal", CHANNEL, with_table(raw_table(b"\1aD\2\0\0\0\1")))
case("tables: decimal with a scale of 255", CHANNEL, with_table(raw_table(b"\1aD\xff\xff\xff\xff\xff")))
case("tables: decimal cut off", CHANNEL, with_table(raw_table(b"\1aD\2\0")))
case("tables: timestamp of 2^64-1", CHANNEL, with_table(raw_table(b"\1aT" + b"\xff" * 8)))
case("tables: boolean that is neither", CHANNEL, with_table(raw_table(b"\1at\x07")))
case("tables: NaN and infinity", CHANNEL,
     with_table(raw_table(b"\1ad\x7f\xf8\0\0\0\0\0\0" + b"\1bf\x7f\x80\0\0")))
case("tables: every known tag", CHANNEL, with_table(raw_table(
    b"\1ab\xff\1bB\xff\1cs\0\1\1du\0\1\1eI\0\0\0\1\1fi\0\0\0\1\1gl" + b"\0" * 8 + b"\1hf" + b"\0" * 4 + b"\1id" + b"\0" * 8 +
    b"\1jD\0\0\0\0\1\1kS\0\0\0\1x\1lA\0\0\0\1V\1mT" + b"\0" * 8 + b"\1nF\0\0\0\0\1oV\1px\0\0\0\1x\1qt\1")))
case("tables: tags L and U of other brokers", CHANNEL, with_table(raw_table(b"\1aL" + b"\0" * 8 + b"\1bU\0\0")))
case("tables: the same name twice", CHANNEL, with_table(raw_table(b"\1aI\0\0\0\1\1aI\0\0\0\2")))
case("tables: an empty name", CHANNEL, with_table(raw_table(b"\0I\0\0\0\1")))
case("tables: a name that is no UTF-8", CHANNEL, with_table(raw_table(b"\2\xff\xfeI\0\0\0\1")))
case("tables: ten thousand fields", CHANNEL, with_table(raw_table(b"".join(b"\5%05dV" % i for i in range(10000)))))

# ---------------------------------------------------------------------------------------- publishing
case("publish: immediate", CHANNEL, message(1, b"x", routing_key="h.q", immediate=True))
case("publish: immediate and mandatory", CHANNEL, message(1, b"x", routing_key="h.q", immediate=True, mandatory=True))
case("publish: immediate, unroutable", CHANNEL, message(1, b"x", routing_key="h.none", immediate=True))
case("publish: to a missing exchange", CHANNEL, message(1, b"x", exchange="h.none"))
case("publish: to a missing exchange, and to it again", CHANNEL, message(1, b"x", exchange="h.none") * 3)
case("publish: to a missing exchange, after confirm.select", CHANNEL,
     method(1, "confirm.select") + message(1, b"x", exchange="h.none"))
case("publish: to an internal exchange", CHANNEL, message(1, b"x", exchange="h.internal"))
case("publish: mandatory, unroutable", CHANNEL, message(1, b"abc", routing_key="h.none", mandatory=True))
case("publish: mandatory, unroutable, empty", CHANNEL, message(1, b"", routing_key="h.none", mandatory=True))
case("publish: mandatory, unroutable, confirmed", CHANNEL,
     method(1, "confirm.select") + message(1, b"abc", routing_key="h.none", mandatory=True), 0.3)
case("publish: unroutable, confirmed", CHANNEL,
     method(1, "confirm.select") + message(1, b"abc", routing_key="h.none"), 0.3)
case("publish: with another's user_id", CHANNEL, message(1, b"x", user_id="someone"))
case("publish: with one's own user_id", CHANNEL, message(1, b"x", user_id="guest"))
case("publish: expiration that is no number", CHANNEL, message(1, b"x", expiration="soon"))
case("publish: expiration negative", CHANNEL, message(1, b"x", expiration="-1"))
case("publish: expiration 2^32 and more", CHANNEL, message(1, b"x", expiration="99999999999"))
case("publish: priority 255", CHANNEL, message(1, b"x", priority=255))
case("publish: delivery mode 77", CHANNEL, message(1, b"x", delivery_mode=77))
case("publish: CC that is no list", CHANNEL, message(1, b"x", headers={"CC": "h.q"}))
case("publish: CC of a number", CHANNEL, message(1, b"x", headers={"CC": [5]}))
case("publish: BCC that is no list", CHANNEL, message(1, b"x", headers={"BCC": 5}))
case("publish: to an exchange name of strange bytes", CHANNEL,
     frame(METHOD, 1, ids(60, 40, b"\0\0\2\xff\xfe\0\0")) + head(1, 0))
case("publish: reply-to direct without a consumer", CHANNEL, message(1, b"x", reply_to="amq.rabbitmq.reply-to"))
case("publish: to a forged direct reply queue", CHANNEL,
     message(1, b"x", routing_key="amq.rabbitmq.reply-to.forged", mandatory=True))
case("publish: content type of strange bytes", CHANNEL, message(1, b"x", content_type=b"\xff\xfe"))

# ---------------------------------------------------------------------------------------- exchanges
case("exchange.declare: unknown type", CHANNEL, method(1, "exchange.declare", exchange="h.x", type="nonsense"))
case("exchange.declare: empty type", CHANNEL, method(1, "exchange.declare", exchange="h.x", type=""))
case("exchange.declare: unknown type, passive", CHANNEL,
     method(1, "exchange.declare", exchange="h.direct", type="nonsense", passive=True))
case("exchange.declare: reserved name", CHANNEL, method(1, "exchange.declare", exchange="amq.mine", type="direct"))
case("exchange.declare: the default exchange", CHANNEL, method(1, "exchange.declare", exchange="", type="direct"))
case("exchange.declare: the default exchange, passive", CHANNEL,
     method(1, "exchange.declare", exchange="", type="direct", passive=True))
case("exchange.declare: passive, missing", CHANNEL,
     method(1, "exchange.declare", exchange="h.none", type="direct", passive=True))
case("exchange.declare: inequivalent type", CHANNEL, method(1, "exchange.declare", exchange="h.direct", type="topic"))
case("exchange.declare: inequivalent durable", CHANNEL,
     method(1, "exchange.declare", exchange="h.direct", type="direct", durable=True))
case("exchange.declare: name with control characters", CHANNEL,
     method(1, "exchange.declare", exchange="h.\r\nx", type="direct", auto_delete=True))
case("exchange.declare: alternate-exchange of a wrong type", CHANNEL,
     method(1, "exchange.declare", exchange="h.x", type="direct", arguments={"alternate-exchange": 5}))
case("exchange.delete: missing", CHANNEL, method(1, "exchange.delete", exchange="h.none"))
case("exchange.delete: reserved", CHANNEL, method(1, "exchange.delete", exchange="amq.direct"))
case("exchange.delete: the default exchange", CHANNEL, method(1, "exchange.delete", exchange=""))
case("exchange.delete: in use", CHANNEL, method(1, "exchange.delete", exchange="h.direct", if_unused=True))
case("exchange.bind: missing source", CHANNEL, method(1, "exchange.bind", destination="h.direct", source="h.none"))
case("exchange.bind: to the default exchange", CHANNEL, method(1, "exchange.bind", destination="", source="h.direct"))
case("exchange.unbind: missing", CHANNEL, method(1, "exchange.unbind", destination="h.direct", source="h.none"))

# ---------------------------------------------------------------------------------------- queues
case("queue.declare: reserved name", CHANNEL, declare("amq.mine"))
case("queue.declare: reserved name, passive", CHANNEL, declare("amq.mine", passive=True))
case("queue.declare: passive, missing", CHANNEL, declare("h.none", passive=True))
case("queue.declare: passive, last declared of none", CHANNEL, declare("", passive=True))
case("queue.declare: x-message-ttl of a wrong type", CHANNEL, declare(arguments={"x-message-ttl": "soon"}))
case("queue.declare: x-message-ttl negative", CHANNEL, declare(arguments={"x-message-ttl": -1}))
case("queue.declare: x-expires 0", CHANNEL, declare(arguments={"x-expires": 0}))
case("queue.declare: x-max-priority 256", CHANNEL, declare(arguments={"x-max-priority": 256}))
case("queue.declare: x-max-length of a wrong type", CHANNEL, declare(arguments={"x-max-length": "many"}))
case("queue.declare: x-overflow unknown", CHANNEL, declare(arguments={"x-overflow": "nonsense"}))
case("queue.declare: x-queue-type unknown", CHANNEL, declare(arguments={"x-queue-type": "nonsense"}))
case("queue.declare: dead letter key without an exchange", CHANNEL, declare(arguments={"x-dead-letter-routing-key": "k"}))
case("queue.declare: quorum and not durable", CHANNEL, declare("h.quorum", arguments={"x-queue-type": "quorum"}))
case("queue.declare: quorum and exclusive", CHANNEL,
     declare("h.quorum", durable=True, exclusive=True, arguments={"x-queue-type": "quorum"}))
case("queue.declare: inequivalent durable", CHANNEL, declare("h.q", durable=False))
case("queue.declare: inequivalent argument", CHANNEL, declare("h.args", durable=True, arguments={"x-max-length": 6}))
case("queue.declare: missing argument", CHANNEL, declare("h.args", durable=True))
case("queue.declare: inequivalent exclusive", CHANNEL, declare("h.q", durable=True, exclusive=True))
case("queue.declare: exclusive of another connection", CHANNEL, declare("h.exclusive", exclusive=True))
case("queue.declare: exclusive of another connection, passive", CHANNEL, declare("h.exclusive", passive=True))
case("queue.bind: exclusive of another connection", CHANNEL,
     method(1, "queue.bind", queue="h.exclusive", exchange="amq.direct", routing_key="k"))
case("queue.purge: exclusive of another connection", CHANNEL, method(1, "queue.purge", queue="h.exclusive"))
case("queue.delete: exclusive of another connection", CHANNEL, method(1, "queue.delete", queue="h.exclusive"))
case("queue.bind: missing queue", CHANNEL, method(1, "queue.bind", queue="h.none", exchange="amq.direct"))
case("queue.bind: missing exchange", CHANNEL, method(1, "queue.bind", queue="h.q", exchange="h.none"))
case("queue.bind: to the default exchange", CHANNEL, method(1, "queue.bind", queue="h.q", exchange="", routing_key="k"))
case("queue.bind: last declared of none", CHANNEL, method(1, "queue.bind", queue="", exchange="amq.direct"))
case("queue.bind: x-match unknown", CHANNEL,
     method(1, "queue.bind", queue="h.q", exchange="amq.headers", arguments={"x-match": "some"}))
case("queue.unbind: missing queue", CHANNEL, method(1, "queue.unbind", queue="h.none", exchange="amq.direct"))
case("queue.unbind: missing binding", CHANNEL, method(1, "queue.unbind", queue="h.q", exchange="amq.direct", routing_key="no"))
case("queue.purge: missing", CHANNEL, method(1, "queue.purge", queue="h.none"))
case("queue.delete: missing", CHANNEL, method(1, "queue.delete", queue="h.none"))
case("queue.delete: not empty", CHANNEL, method(1, "queue.delete", queue="h.full", if_empty=True))
case("queue.delete: in use", CHANNEL, method(1, "queue.delete", queue="h.used", if_unused=True))

# ---------------------------------------------------------------------------------------- consuming
case("basic.consume: missing queue", CHANNEL, method(1, "basic.consume", queue="h.none"))
case("basic.consume: exclusive of another connection", CHANNEL, method(1, "basic.consume", queue="h.exclusive"))
case("basic.consume: exclusive consumer on a used queue", CHANNEL, method(1, "basic.consume", queue="h.used", exclusive=True))
case("basic.consume: duplicate tag", CHANNEL, method(1, "basic.consume", queue="h.q", consumer_tag="t") * 2)
case("basic.consume: last declared of none", CHANNEL, method(1, "basic.consume", queue=""))
case("basic.consume: priority of a wrong type", CHANNEL,
     method(1, "basic.consume", queue="h.q", arguments={"x-priority": "high"}))
case("basic.consume: direct reply-to without no_ack", CHANNEL, method(1, "basic.consume", queue="amq.rabbitmq.reply-to"))
case("basic.consume: direct reply-to twice", CHANNEL,
     method(1, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True, consumer_tag="a") +
     method(1, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True, consumer_tag="b"))
case("basic.cancel: unknown tag", CHANNEL, method(1, "basic.cancel", consumer_tag="unknown"))
case("basic.get: missing queue", CHANNEL, method(1, "basic.get", queue="h.none"))
case("basic.get: empty queue", CHANNEL, method(1, "basic.get", queue="h.q"))
case("basic.get: exclusive of another connection", CHANNEL, method(1, "basic.get", queue="h.exclusive"))
case("basic.get: last declared of none", CHANNEL, method(1, "basic.get", queue=""))
case("basic.ack: unknown tag", CHANNEL, method(1, "basic.ack", delivery_tag=99))
case("basic.ack: tag 0, single", CHANNEL, method(1, "basic.ack", delivery_tag=0))
case("basic.ack: tag 0, multiple, nothing outstanding", CHANNEL, method(1, "basic.ack", delivery_tag=0, multiple=True))
case("basic.ack: tag 2^64-1, multiple", CHANNEL, method(1, "basic.ack", delivery_tag=(1 << 64) - 1, multiple=True))
case("basic.ack: the same tag twice", CHANNEL, method(1, "basic.get", queue="h.full"), 0.3,
     method(1, "basic.nack", delivery_tag=1, requeue=True) + method(1, "basic.ack", delivery_tag=1))
case("basic.nack: unknown tag", CHANNEL, method(1, "basic.nack", delivery_tag=99, requeue=True))
case("basic.nack: tag 0, multiple, nothing outstanding", CHANNEL, method(1, "basic.nack", multiple=True))
case("basic.reject: unknown tag", CHANNEL, method(1, "basic.reject", delivery_tag=99))
case("basic.reject: tag 0", CHANNEL, method(1, "basic.reject", delivery_tag=0))
case("basic.recover: requeue", CHANNEL, method(1, "basic.recover", requeue=True))
case("basic.recover: without requeue", CHANNEL, method(1, "basic.recover", requeue=False))
case("basic.recover-async: requeue", CHANNEL, method(1, "basic.recover-async", requeue=True))
case("basic.recover-async: without requeue", CHANNEL, method(1, "basic.recover-async", requeue=False))
case("basic.qos: prefetch_size", CHANNEL, method(1, "basic.qos", prefetch_size=1))
case("basic.qos: prefetch 65535, global", CHANNEL, method(1, "basic.qos", prefetch_count=65535, **{"global": True}))
case("tx: select after confirm", CHANNEL, method(1, "confirm.select") + method(1, "tx.select"))
case("confirm: select after tx", CHANNEL, method(1, "tx.select") + method(1, "confirm.select"))
case("confirm: select twice", CHANNEL, method(1, "confirm.select") * 2)
case("confirm: select without wait", CHANNEL, method(1, "confirm.select", nowait=True) + message(1, b"x"), 0.3)
case("tx: commit without select", CHANNEL, method(1, "tx.commit"))
case("tx: rollback without select", CHANNEL, method(1, "tx.rollback"))
case("tx: select twice", CHANNEL, method(1, "tx.select") * 2)
case("tx: publish to a missing exchange, then commit", CHANNEL,
     method(1, "tx.select") + message(1, b"x", exchange="h.none") + method(1, "tx.commit"))

NAMES = [c.name for c in CASES]
assert len(NAMES) == len(set(NAMES)), [n for n in NAMES if NAMES.count(n) > 1]
