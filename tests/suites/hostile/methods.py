"""Methods: unknown ones, those that only a server sends, cut off, too long."""
from wire import METHOD, SPEC, body, frame, head, method, payload, shortstr

from .case import CHANNEL, OPEN, case, ids, publish

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
case("methods: bits that mean nothing in exchange.declare", CHANNEL,
     frame(METHOD, 1, ids(40, 10, b"\0\0" + shortstr("h.x") + shortstr("direct") + b"\xe4" + b"\0\0\0\0")))
case("methods: bits that mean nothing in queue.declare", CHANNEL, frame(METHOD, 1, ids(50, 10, b"\0\0" + shortstr("h.q") + b"\xe1" + b"\0\0\0\0")))
case("methods: bits that mean nothing in basic.consume", CHANNEL,
     frame(METHOD, 1, ids(60, 20, b"\0\0" + shortstr("h.c") + shortstr("t") + b"\xf2" + b"\0\0\0\0")))
case("methods: bits that mean nothing in basic.get", CHANNEL, frame(METHOD, 1, ids(60, 70, b"\0\0" + shortstr("h.q") + b"\xff")))
case("methods: bits that mean nothing in basic.qos", CHANNEL, frame(METHOD, 1, ids(60, 10, b"\0\0\0\0\0\7\xfe")))
case("methods: bits that mean nothing in confirm.select", CHANNEL, frame(METHOD, 1, ids(85, 10, b"\xfe")))
case("methods: bits that mean nothing in basic.ack", CHANNEL, frame(METHOD, 1, ids(60, 80, b"\0" * 8 + b"\xff")))
case("methods: a frame of the largest size in one method", CHANNEL,
     frame(METHOD, 1, payload("queue.declare", queue="h.q", passive=True, arguments={"x": "y" * (131064 - 33 + 10 - 7)})[:131064]))
case("methods: basic.publish without a content, then closed", CHANNEL, publish() + method(1, "channel.close", reply_code=200))
case("methods: a thousand qos that may not be", CHANNEL, method(1, "basic.qos", prefetch_size=1) * 1000)
case("methods: ten thousand acknowledgements of nothing", CHANNEL, method(1, "basic.ack", multiple=True) * 10000)
case("methods: five hundred qos", CHANNEL, method(1, "basic.qos", prefetch_count=1) * 500, quiet=10)

# ---------------------------------------------------------------------------------------- the same of every method
_SERVERS = [n for n in SPEC if n.endswith("-ok") and n not in ("connection.start-ok", "connection.secure-ok", "connection.tune-ok",
            "connection.close-ok", "channel.flow-ok", "channel.close-ok")] + ["connection.start", "connection.secure", "connection.tune",
            "basic.get-empty"]
_CONTENT = ("basic.publish", "basic.return", "basic.deliver", "basic.get-ok")
_CLIENTS = [n for n in SPEC if n not in (*_SERVERS, *_CONTENT, "connection.blocked", "connection.unblocked")] + ["basic.publish"]
for _name in _CLIENTS:
    _klass, _number, _arguments = SPEC[_name]
    _stage, _channel = (OPEN, 0) if _klass == 10 else (CHANNEL, 1)
    if _arguments:
        case("every method: %s without its arguments" % _name, _stage, frame(METHOD, _channel, ids(_klass, _number)))
        case("every method: %s without its last octet" % _name, _stage, frame(METHOD, _channel, payload(_name)[:-1]))
    case("every method: %s and an octet more" % _name, _stage, frame(METHOD, _channel, payload(_name) + b"x"))
    case("every method: %s on %s" % (_name, "channel 1" if _klass == 10 else "channel 0"), CHANNEL, method(1 - _channel, _name))
    if _klass != 10 and _name != "channel.open":
        # An empty name of a queue is looked up before the channel's state is.
        _queue = {"queue": "h.q"} if any(a == "queue" for a, _ in _arguments) else {}
        _content = head(9, 0) if _name == "basic.publish" else b""
        case("every method: %s on an unopened channel" % _name, CHANNEL, method(9, _name, **_queue) + _content)
        case("every method: %s inside a content" % _name, CHANNEL, publish() + head(1, 9) + body(1, b"x") + method(1, _name))
for _name in _SERVERS:
    if _name not in _CONTENT:
        _klass = SPEC[_name][0]
        case("every method: %s from a client" % _name, OPEN if _klass == 10 else CHANNEL, method(0 if _klass == 10 else 1, _name))
