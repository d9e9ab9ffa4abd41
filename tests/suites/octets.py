"""AMQP 0-9-1 as octets, deliberately naive: nothing here checks what is sent, so that hostile input can be written as easily as good input.

Another writer than tests/real/harness/codec on purpose: what was recorded of RabbitMQ (hostile_rabbitmq_3_10.json, transcripts) has the
specification's own names of arguments, and a frame, a table or a header may be cut, lengthened or lied about at any place.
"""
import struct

HEADER = b"AMQP\0\0\x09\x01"
METHOD, HEAD, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"

# name: (class, method, "argument:type ...")
_SPEC = """
10 10 connection.start version_major:o version_minor:o server_properties:T mechanisms:L locales:L
10 11 connection.start-ok client_properties:T mechanism:S response:L locale:S
10 20 connection.secure challenge:L
10 21 connection.secure-ok response:L
10 30 connection.tune channel_max:s frame_max:l heartbeat:s
10 31 connection.tune-ok channel_max:s frame_max:l heartbeat:s
10 40 connection.open virtual_host:S reserved_1:S reserved_2:b
10 41 connection.open-ok reserved_1:S
10 50 connection.close reply_code:s reply_text:S class_id:s method_id:s
10 51 connection.close-ok
10 60 connection.blocked reason:S
10 61 connection.unblocked
10 70 connection.update-secret new_secret:L reason:S
10 71 connection.update-secret-ok
20 10 channel.open reserved_1:S
20 11 channel.open-ok reserved_1:L
20 20 channel.flow active:b
20 21 channel.flow-ok active:b
20 40 channel.close reply_code:s reply_text:S class_id:s method_id:s
20 41 channel.close-ok
30 10 access.request realm:S exclusive:b passive:b active:b write:b read:b
30 11 access.request-ok ticket:s
40 10 exchange.declare ticket:s exchange:S type:S passive:b durable:b auto_delete:b internal:b nowait:b arguments:T
40 11 exchange.declare-ok
40 20 exchange.delete ticket:s exchange:S if_unused:b nowait:b
40 21 exchange.delete-ok
40 30 exchange.bind ticket:s destination:S source:S routing_key:S nowait:b arguments:T
40 31 exchange.bind-ok
40 40 exchange.unbind ticket:s destination:S source:S routing_key:S nowait:b arguments:T
40 51 exchange.unbind-ok
50 10 queue.declare ticket:s queue:S passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:T
50 11 queue.declare-ok queue:S message_count:l consumer_count:l
50 20 queue.bind ticket:s queue:S exchange:S routing_key:S nowait:b arguments:T
50 21 queue.bind-ok
50 30 queue.purge ticket:s queue:S nowait:b
50 31 queue.purge-ok message_count:l
50 40 queue.delete ticket:s queue:S if_unused:b if_empty:b nowait:b
50 41 queue.delete-ok message_count:l
50 50 queue.unbind ticket:s queue:S exchange:S routing_key:S arguments:T
50 51 queue.unbind-ok
60 10 basic.qos prefetch_size:l prefetch_count:s global:b
60 11 basic.qos-ok
60 20 basic.consume ticket:s queue:S consumer_tag:S no_local:b no_ack:b exclusive:b nowait:b arguments:T
60 21 basic.consume-ok consumer_tag:S
60 30 basic.cancel consumer_tag:S nowait:b
60 31 basic.cancel-ok consumer_tag:S
60 40 basic.publish ticket:s exchange:S routing_key:S mandatory:b immediate:b
60 50 basic.return reply_code:s reply_text:S exchange:S routing_key:S
60 60 basic.deliver consumer_tag:S delivery_tag:q redelivered:b exchange:S routing_key:S
60 70 basic.get ticket:s queue:S no_ack:b
60 71 basic.get-ok delivery_tag:q redelivered:b exchange:S routing_key:S message_count:l
60 72 basic.get-empty reserved_1:S
60 80 basic.ack delivery_tag:q multiple:b
60 90 basic.reject delivery_tag:q requeue:b
60 100 basic.recover-async requeue:b
60 110 basic.recover requeue:b
60 111 basic.recover-ok
60 120 basic.nack delivery_tag:q multiple:b requeue:b
85 10 confirm.select nowait:b
85 11 confirm.select-ok
90 10 tx.select
90 11 tx.select-ok
90 20 tx.commit
90 21 tx.commit-ok
90 30 tx.rollback
90 31 tx.rollback-ok
"""
SPEC, BY_ID = {}, {}
for _line in _SPEC.split("\n"):
    if _line:
        _c, _m, _n, *_a = _line.split()
        SPEC[_n] = (int(_c), int(_m), [tuple(a.split(":")) for a in _a])
        BY_ID[int(_c), int(_m)] = _n


def _b(text):
    return text if isinstance(text, bytes) else text.encode()


def shortstr(text):
    return struct.pack(">B", len(_b(text))) + _b(text)


def longstr(text):
    return struct.pack(">I", len(_b(text))) + _b(text)


def field(value):
    """One table value. A (tag, bytes) pair is written as it is."""
    if isinstance(value, tuple):
        return value[0] + value[1]
    if isinstance(value, bool):
        return b"t" + (b"\1" if value else b"\0")
    if isinstance(value, int):
        return b"I" + struct.pack(">i", value) if -2**31 <= value < 2**31 else b"l" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if value is None:
        return b"V"
    if isinstance(value, dict):
        return b"F" + table(value)
    if isinstance(value, list):
        inner = b"".join(map(field, value))
        return b"A" + struct.pack(">I", len(inner)) + inner
    return b"S" + longstr(value)


def table(values):
    """A whole table with its length. Bytes are taken to be one already."""
    if isinstance(values, bytes):
        return values
    inner = b"".join(shortstr(k) + field(v) for k, v in (values or {}).items())
    return struct.pack(">I", len(inner)) + inner


def raw_table(inner):
    return struct.pack(">I", len(inner)) + inner


def nested_table(depth):
    inner = b""
    for _ in range(depth):
        inner = b"\1aF" + struct.pack(">I", len(inner)) + inner
    return struct.pack(">I", len(inner)) + inner


def nested_array(depth):
    inner = b""
    for _ in range(depth):
        inner = b"A" + struct.pack(">I", len(inner)) + inner
    inner = b"\1a" + inner
    return struct.pack(">I", len(inner)) + inner


def frame(kind, channel, payload, end=END, size=None):
    return struct.pack(">BHI", kind, channel, len(payload) if size is None else size) + payload + end


def arguments(name, **given):
    """The argument bytes of a method; what is not given is zero or empty."""
    out, bits, nbits = b"", 0, 0
    for arg, kind in SPEC[name][2]:
        value = given.pop(arg, None)
        if kind == "b":
            bits |= bool(value) << nbits
            nbits += 1
            continue
        if nbits:
            out, bits, nbits = out + struct.pack(">B", bits), 0, 0
        if kind in "oslq":
            out += struct.pack({"o": ">B", "s": ">H", "l": ">I", "q": ">Q"}[kind], value or 0)
        elif kind == "S":
            out += shortstr(value or "")
        elif kind == "L":
            out += longstr(value or "")
        elif kind == "T":
            out += table(value)
    if nbits:
        out += struct.pack(">B", bits)
    assert not given, given
    return out


def payload(name, **given):
    return struct.pack(">HH", *SPEC[name][:2]) + arguments(name, **given)


def method(channel, name, **given):
    return frame(METHOD, channel, payload(name, **given))


PROPERTIES = [("content_type", "S"), ("content_encoding", "S"), ("headers", "T"), ("delivery_mode", "o"),
              ("priority", "o"), ("correlation_id", "S"), ("reply_to", "S"), ("expiration", "S"), ("message_id", "S"),
              ("timestamp", "q"), ("type", "S"), ("user_id", "S"), ("app_id", "S"), ("cluster_id", "S")]


def properties(**given):
    flags, out = 0, b""
    for i, (name, kind) in enumerate(PROPERTIES):
        if name in given:
            flags |= 1 << (15 - i)
            v = given[name]
            out += {"S": shortstr, "T": table, "o": lambda x: struct.pack(">B", x),
                    "q": lambda x: struct.pack(">Q", x)}[kind](v)
    return struct.pack(">H", flags) + out


def head(channel, size, props=b"\0\0", klass=60, weight=0):
    return frame(HEAD, channel, struct.pack(">HHQ", klass, weight, size) + props)


def body(channel, data):
    return frame(BODY, channel, data)


def message(channel, data=b"", exchange="", routing_key="", mandatory=False, immediate=False, frame_max=131072, **props):
    out = method(channel, "basic.publish", exchange=exchange, routing_key=routing_key, mandatory=mandatory,
                 immediate=immediate) + head(channel, len(data), properties(**props))
    step = frame_max - 8
    return out + b"".join(body(channel, data[i:i + step]) for i in range(0, len(data), step))


class Reader:
    """Takes argument bytes apart."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise ValueError("short")
        self.at += n
        return self.data[self.at - n:self.at]

    def num(self, fmt):
        return struct.unpack(fmt, self.take(struct.calcsize(fmt)))[0]

    def shortstr(self):
        return self.take(self.num(">B")).decode("utf-8", "replace")

    def longstr(self):
        return self.take(self.num(">I"))

    def table(self):
        inner, out = Reader(self.longstr()), {}
        while inner.at < len(inner.data):
            key = inner.shortstr()
            out[key] = inner.field()
        return out

    def field(self):
        tag = self.take(1)
        if tag == b"S":
            return self.longstr().decode("utf-8", "replace")
        if tag == b"F":
            return self.table()
        if tag == b"A":
            inner, out = Reader(self.longstr()), []
            while inner.at < len(inner.data):
                out.append(inner.field())
            return out
        if tag == b"V":
            return None
        if tag == b"t":
            return self.take(1) != b"\0"
        if tag == b"x":
            return self.longstr()
        if tag == b"D":
            return ("D", self.take(5))
        fmt = {b"b": ">b", b"B": ">B", b"s": ">h", b"u": ">H", b"I": ">i", b"i": ">I", b"l": ">q", b"f": ">f",
               b"d": ">d", b"T": ">Q"}[tag]
        return self.num(fmt)


def parse(payload_bytes):
    """(name, arguments) of a method's payload."""
    r = Reader(payload_bytes)
    name = BY_ID[r.num(">H"), r.num(">H")]
    out, bits, nbits = {}, 0, 8
    for arg, kind in SPEC[name][2]:
        if kind == "b":
            if nbits == 8:
                bits, nbits = r.num(">B"), 0
            out[arg] = bool(bits >> nbits & 1)
            nbits += 1
            continue
        nbits = 8
        if kind in "oslq":
            out[arg] = r.num({"o": ">B", "s": ">H", "l": ">I", "q": ">Q"}[kind])
        else:
            out[arg] = {"S": r.shortstr, "L": r.longstr, "T": r.table}[kind]()
    return name, out


def parse_properties(data):
    r = Reader(data)
    flags, out = r.num(">H"), {}
    for i, (name, kind) in enumerate(PROPERTIES):
        if flags >> (15 - i) & 1:
            out[name] = {"S": r.shortstr, "T": r.table, "o": lambda: r.num(">B"), "q": lambda: r.num(">Q")}[kind]()
    return out
