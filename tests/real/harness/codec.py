"""AMQP 0-9-1 by hand: methods, headers and tables to bytes and back. Nothing here is shared with Umbel or Celery."""

import datetime
import struct

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
