"""Where Umbel's answer is meant to differ from RabbitMQ 3.10's: {input: (why, its answers as patterns of fnmatch, how it ends)}."""
from fnmatch import fnmatchcase

# Malformed bytes are refused with RabbitMQ's scope and code and in our own words: its words are Erlang terms of its parser.
OWN_WORDS = ("501", "502", "505", "541")

_READ = ("said before closing; RabbitMQ's reader crashes on a table that it cannot read", ["ch0 connection.close 501 *"], "closed")
_MANY = ("how many entries a table may have is bounded", ["ch0 connection.close 502 *too many entries*"], "closed")
_UNKNOWN = ("said before closing; RabbitMQ's reader crashes on an unknown method and closes without a word",
            ["ch0 connection.close 540 *"], "closed")
_DEEP = ("nesting is bounded, so that no table can exhaust a stack (RabbitMQ has no bound)",
         ["ch0 connection.close 502 *nested too deep*"], "closed")
_SIZE = ("refused when the header announces it, before any memory is taken; RabbitMQ waits for all of it",
         ["ch1 channel.close 406 'PRECONDITION_FAILED - message size * is larger than configured max size 134217728' for 60, 40"], "alive")
_LONGER = ("refused; RabbitMQ swallows the message and the channel waits for ever", ["ch0 connection.close 501 *"], "closed")
_START = ("the protocol is 0-9-1 whatever the old header; RabbitMQ announces 8-0 to 0-8's",
          ["ch0 connection.start 0-9 *"], "silent")
_SERVER = ("refused as what only a server sends; RabbitMQ waits for a content that nobody sends", ["ch0 connection.close 503 *"], "closed")

STRICTER = {
    "protocol header: AMQP 1 1 8 0 (0-8)": _START,
    "protocol header: AMQP 1 1 9 1": _START,
    "start-ok: client properties nested 500 deep": ("nesting is bounded", [], "closed"),
    "start-ok: client properties of 5,000 bytes": ("frames of 8,192 octets are taken before the login, as RabbitMQ does from 4.1 on (initial_frame_max); 3.10 takes 4,096",
                                                  ["ch0 connection.tune *"], "silent"),
    "basic.consume: duplicate tag": ("the first consume's answer may come too; in RabbitMQ the error overtakes it",
                                     ["ch1 basic.consume-ok *", "ch0 connection.close 530 *"], "closed"),
    "channels: unknown method on an unopened one": ("said before closing", ["ch0 connection.close 504 *"], "closed"),
    "channels: close, open again, use": ("works; RabbitMQ may still be closing the channel and then ends the connection",
                                         ["ch1 channel.close-ok", "ch1 channel.open-ok", "ch1 queue.declare-ok *"], "alive"),
    "protocol header: twelve octets, the last four garbage": (
        "what is no frame is refused at its first octet", ["ch0 connection.start *"], "closed"),
    "connection: end of file behind what is refused": ("told, where the broker's answer comes before the end of file; a race in RabbitMQ, too",
                                                       ["ch1 channel.close 404 *"], "closed"),
    "tuned: open with trailing bytes": ("said before closing", ["ch0 connection.close 541 *"], "closed"),
    "channels: a thousand times open and close": ("works; RabbitMQ may still be closing the channel and then ends the connection",
                                                  ["1000 times: channel.open-ok", "1000 times: channel.close-ok"], "alive"),
    "channels: use after its close": ("refused; in RabbitMQ the channel may still be closing, and then it is ignored",
                                      ["ch1 channel.close-ok", "ch0 connection.close 504 *"], "closed"),
    "content: the reserved bit alone and a body": ("refused, because what it means is unknown", ["ch0 connection.close 541 *"], "closed"),
    "publish: immediate, without its content": ("refused at the method; RabbitMQ waits for the content", ["ch0 connection.close 540 *"], "closed"),
    "tables: twenty thousand empty names": _MANY,
    "tables: an array of a hundred thousand": _MANY,
    **{"tables: %s in %s" % (what, name): meant for name in (
        "exchange.declare", "exchange.bind", "exchange.unbind", "queue.bind", "queue.unbind", "basic.consume", "queue.declare")
       for what, meant in (("a lie", _READ), ("an unknown tag", _READ), ("nested 2,000 deep", _DEEP))
       if (what, name) not in (("an unknown tag", "queue.declare"), ("nested 2,000 deep", "queue.declare"))},
    "content: undefined property flags": ("refused, because what they mean is unknown", ["ch0 connection.close 541 *"], "closed"),
    "tables: unknown field tag in queue.declare": ("said before closing; RabbitMQ's reader crashes", ["ch0 connection.close 50? *"], "closed"),
    "methods: basic.deliver from a client": _SERVER,
    "methods: basic.get-ok from a client": _SERVER,
    **{n: _UNKNOWN for n in (
        "connection: unknown method id in its class", "tuned: unknown method", "channels: unknown method on a closing one", "methods: unknown class",
        "methods: unknown class on channel 0", "methods: unknown method of basic", "methods: class 0 method 0",
        "methods: the file class of 0-8")},
    **{"content: " + n: _LONGER for n in ("longer than declared", "longer than declared, in the second frame", "longer than declared, mandatory")},
    **{"content: " + n: _SIZE for n in ("size 2^63", "size 2^64-1", "size 2^40", "size over the maximum of 128 MiB, announced only")},
    **{"tables: " + n: _DEEP for n in ("nested 2,000 deep in headers", "nested 15,000 deep in headers", "arrays nested 2,000 deep in headers",
                                       "nested 100 deep in headers", "nested 2,000 deep in queue.declare")},
}
# Where only RabbitMQ 4 differs.
_ONLY_091 = ("RabbitMQ 4 speaks AMQP 1.0 and offers that; Umbel speaks 0-9-1", ["AMQP 0 0 9 1"], "closed")
STRICTER_THAN_4 = {
    "content: size over the maximum of 128 MiB, sent": (
        "Umbel's own limit is reached first; under it the broker's answer is the client's", ["ch1 channel.close 406 *"], "alive"),
    "tables: inner table's length lies": (
        "RabbitMQ 4 does not look into a table that it does not need", ["ch0 connection.close 541 *"], "closed"),
    **{"protocol header: " + n: _ONLY_091 for n in (
        "garbage of eight bytes", "HTTP request", "TLS hello on the plain port", "AMQP 1.0", "AMQP 1.0 with SASL", "AMQP 9 9 9 9",
        "lower case", "a megabyte of A", "TLS 1.3 alert", "PROXY protocol 1", "PROXY protocol 2", "MQTT connect", "STOMP connect",
        "HTTP/2 preface", "AMQP 0-10", "eight NULs", "the number 0-9 without its revision")},
}

# Pipelined behind what the broker is still to answer, a malformed frame may be refused first: the connection ends either way.
OVERTAKES = {"channels: open on a closing one", "channels: body on a closing one, out of order",
             "channels: unknown method on a closing one", "content: header after a method that takes none",
             "channels: a heartbeat on a closing one", "frames: a NUL between frames", "publish: immediate, after tx.select"}


def shape(lines):
    """Scope and code of each refusal whose words are our own; other answers as they are."""
    out = []
    for line in lines:
        words = line.split(" ")
        if len(words) > 2 and words[1] in ("connection.close", "channel.close") and words[2] in OWN_WORDS:
            line = " ".join(words[:3])
        out.append(line)
    return out


def by_channel(lines):
    """What each channel hears, in its order: between channels none is promised."""
    return sorted(lines, key=lambda line: line.split(" ")[0])


def verdict(name, seen, recorded, of_4=False):
    """`same`, `own words`, `stricter`, `overtakes`, or None where Umbel's answer is not meant to be so."""
    if seen["end"] == recorded["end"] and by_channel(seen["answers"]) == by_channel(recorded["answers"]):
        return "same"
    if seen["end"] == recorded["end"] and shape(seen["answers"]) == shape(recorded["answers"]):
        return "own words"
    meant = {**STRICTER, **(STRICTER_THAN_4 if of_4 else {})}
    if name in meant:
        _, patterns, end = meant[name]
        if seen["end"] == end and len(patterns) == len(seen["answers"]) and all(map(fnmatchcase, seen["answers"], patterns)):
            return "stricter"
    if name in OVERTAKES and seen["end"] == "closed" and shape(recorded["answers"])[-1:] == shape(seen["answers"])[-1:]:
        return "overtakes"
    return None
