"""Field tables that lie."""
import struct

import wire
from wire import METHOD, frame, head, method, nested_array, nested_table, payload, raw_table

from .case import CHANNEL, case, declare, publish, with_table

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

# ---------------------------------------------------------------------------------------- tables, more
case("tables: an array's length lies", CHANNEL, with_table(raw_table(b"\1aA" + struct.pack(">I", 99) + b"V")))
case("tables: an array's length is short of its last", CHANNEL, with_table(raw_table(b"\1aA" + struct.pack(">I", 3) + b"I\0\0\0\1")))
case("tables: an array of an unknown tag", CHANNEL, with_table(raw_table(b"\1aA" + struct.pack(">I", 2) + b"VZ")))
case("tables: an array of 4 GiB", CHANNEL, with_table(raw_table(b"\1aA\xff\xff\xff\xff")))
case("tables: an inner table of 4 GiB", CHANNEL, with_table(raw_table(b"\1aF\xff\xff\xff\xff")))
case("tables: a long string of -1", CHANNEL, with_table(raw_table(b"\1aS\xff\xff\xff\xff")))
case("tables: octets of -1", CHANNEL, with_table(raw_table(b"\1ax\xff\xff\xff\xff")))
case("tables: a long string of -2^31", CHANNEL, with_table(raw_table(b"\1aS\x80\0\0\0")))
case("tables: length of -1", CHANNEL, with_table(b"\xff\xff\xff\xff"))
case("tables: length one too few", CHANNEL, with_table(struct.pack(">I", 5) + b"\1aI\0\0\0\1"))
case("tables: length one too many", CHANNEL, with_table(struct.pack(">I", 8) + b"\1aI\0\0\0\1"))
case("tables: an inner table's length is short of its last", CHANNEL, with_table(raw_table(b"\1aF" + struct.pack(">I", 3) + b"\1bI\0\0\0\1")))
case("tables: an inner table ends in the middle of a name", CHANNEL, with_table(raw_table(b"\1aF" + struct.pack(">I", 2) + b"\5b")))
case("tables: timestamp cut off", CHANNEL, with_table(raw_table(b"\1aT\0\0\0")))
case("tables: integer cut off", CHANNEL, with_table(raw_table(b"\1aI\0\0")))
case("tables: double cut off", CHANNEL, with_table(raw_table(b"\1ad\0\0")))
case("tables: boolean cut off", CHANNEL, with_table(raw_table(b"\1at")))
case("tables: a name of 255 bytes", CHANNEL, with_table(raw_table(b"\xff" + b"n" * 255 + b"V")))
case("tables: a name that begins with a digit and has spaces", CHANNEL, with_table(raw_table(b"\x051 \0\r\nV")))
case("tables: twenty thousand empty names", CHANNEL, with_table(raw_table(b"\0V" * 20000)))
case("tables: an array of a hundred thousand", CHANNEL, with_table(raw_table(b"\1aA" + struct.pack(">I", 100000) + b"V" * 100000)))
case("tables: ten levels of ten tables", CHANNEL, with_table(wire.table({"l": [{"k%d" % i: [{"x": None}] * 10 for i in range(10)}] * 10})))
for _tag in sorted(set(range(256)) - set(b"bBsuIilLfdDSAxTFVtU")):
    if _tag in (0, 1, 0x20, 0x41 + 2, 0x7f, 0x80, 0xff) or chr(_tag) in "CcEegGhHJjKkMmNnPpQqRrWwXYyz":
        case("tables: tag 0x%02x" % _tag, CHANNEL, with_table(raw_table(b"\1a" + bytes([_tag]) + b"\0\0\0\0\0\0\0\0")))
_LYING = raw_table(b"\1aS" + struct.pack(">I", 99) + b"x")
_UNKNOWN = raw_table(b"\1aZ\0\0\0\0")
for _name, _given in (("exchange.declare", {"exchange": "h.x", "type": "direct"}), ("exchange.bind", {"destination": "h.direct", "source": "h.direct"}),
                      ("exchange.unbind", {"destination": "h.direct", "source": "h.direct"}), ("queue.bind", {"queue": "h.q", "exchange": "h.direct"}),
                      ("queue.unbind", {"queue": "h.q", "exchange": "h.direct"}), ("basic.consume", {"queue": "h.c"}), ("queue.declare", {"queue": "h.q"})):
    case("tables: a lie in %s" % _name, CHANNEL, method(1, _name, arguments=_LYING, **_given))
    if _name != "queue.declare":
        case("tables: an unknown tag in %s" % _name, CHANNEL, method(1, _name, arguments=_UNKNOWN, **_given))
        case("tables: nested 2,000 deep in %s" % _name, CHANNEL, method(1, _name, arguments=nested_table(2000), **_given))
case("tables: an octet behind that of queue.declare", CHANNEL, frame(METHOD, 1, payload("queue.declare", queue="h.q", passive=True, arguments={"a": 1}) + b"\0"))
case("tables: an argument twice in queue.declare", CHANNEL,
     declare("h.tmp", arguments=raw_table(b"\x0cx-max-lengthI\0\0\0\1\x0cx-max-lengthI\0\0\0\2")))
case("tables: an argument without a name in queue.declare", CHANNEL, declare("h.tmp", arguments=raw_table(b"\0I\0\0\0\1")))
case("tables: an argument of a name that is no UTF-8 in queue.declare", CHANNEL, declare("h.tmp", arguments=raw_table(b"\1\xffI\0\0\0\1")))
case("tables: unknown arguments of every type in queue.declare", CHANNEL, declare("h.tmp", arguments={
    "a": 1, "b": [1, {"c": None}], "d": {"e": True}, "f": 1.5, "g": 1 << 40, "h": (b"x", b"\0\0\0\1\xff"), "i": (b"D", b"\2\0\0\0\1"), "j": (b"T", b"\0" * 8)}))
