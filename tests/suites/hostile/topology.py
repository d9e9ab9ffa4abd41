"""Exchanges and queues: what may not be declared, bound, deleted."""
from wire import method

from .case import CHANNEL, case, declare

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

# ---------------------------------------------------------------------------------------- names
for _name, _given, _key in (("queue.declare", {}, "queue"), ("queue.delete", {}, "queue"), ("queue.purge", {}, "queue"), ("basic.get", {}, "queue"),
                            ("basic.consume", {}, "queue"), ("basic.consume", {"queue": "h.c"}, "consumer_tag"), ("basic.cancel", {}, "consumer_tag"),
                            ("exchange.declare", {"type": "direct"}, "exchange"), ("exchange.declare", {"exchange": "h.x"}, "type"),
                            ("exchange.delete", {}, "exchange"), ("queue.bind", {"queue": "h.q", "exchange": "h.direct"}, "routing_key"),
                            ("queue.bind", {"queue": "h.q"}, "exchange"), ("queue.unbind", {"queue": "h.q", "exchange": "h.direct"}, "routing_key"),
                            ("exchange.bind", {"destination": "h.direct"}, "source"), ("access.request", {}, "realm")):
    case("names: %s's %s is no UTF-8" % (_name, _key), CHANNEL, method(1, _name, **_given, **{_key: b"\xff\xfe"}))
    if _name not in ("queue.delete", "queue.unbind", "access.request"):
        # What is made lives for the case alone.
        _long = ("h.%s.%s." % (_name, _key)).ljust(255, "n")
        _more = {"exclusive": True} if _name == "queue.declare" else {}
        case("names: %s's %s of 255 bytes" % (_name, _key), CHANNEL, method(1, _name, **_given, **_more, **{_key: _long}) +
             (method(1, "exchange.delete", exchange=_long) if _name == "exchange.declare" else b""))
case("names: a queue with NULs and line breaks", CHANNEL, declare("h.\0\r\n'\"<>", exclusive=True))
case("names: a queue that looks server-named", CHANNEL, declare("amq.gen-h", exclusive=True))
case("names: a queue of one space", CHANNEL, declare(" ", exclusive=True))
case("names: a bare amq.", CHANNEL, declare("amq.", exclusive=True))
case("names: amq without its dot", CHANNEL, declare("amq-h", exclusive=True))

# ---------------------------------------------------------------------------------------- exchanges, more
case("exchange.declare: amq.direct as a topic", CHANNEL, method(1, "exchange.declare", exchange="amq.direct", type="topic", durable=True))
case("exchange.declare: amq.direct as it is", CHANNEL, method(1, "exchange.declare", exchange="amq.direct", type="direct", durable=True))
case("exchange.declare: amq.direct as it is, but not durable", CHANNEL, method(1, "exchange.declare", exchange="amq.direct", type="direct"))
case("exchange.declare: reserved name, passive", CHANNEL, method(1, "exchange.declare", exchange="amq.mine", type="direct", passive=True))
case("exchange.declare: unknown type, without wait", CHANNEL, method(1, "exchange.declare", exchange="h.x", type="nonsense", nowait=True))
case("exchange.declare: unknown type for one that is there", CHANNEL, method(1, "exchange.declare", exchange="h.direct", type="nonsense"))
case("exchange.declare: a type in capitals", CHANNEL, method(1, "exchange.declare", exchange="h.x", type="Direct"))
case("exchange.declare: a type of Erlang's words", CHANNEL, method(1, "exchange.declare", exchange="h.x", type="undefined"))
case("exchange.declare: x-delayed-message without its plugin", CHANNEL,
     method(1, "exchange.declare", exchange="h.x", type="x-delayed-message", arguments={"x-delayed-type": "direct"}))
case("exchange.declare: passive, missing, without wait", CHANNEL,
     method(1, "exchange.declare", exchange="h.none", type="direct", passive=True, nowait=True))
case("exchange.declare: inequivalent type, without wait", CHANNEL, method(1, "exchange.declare", exchange="h.direct", type="topic", nowait=True))
case("exchange.declare: inequivalent internal", CHANNEL, method(1, "exchange.declare", exchange="h.direct", type="direct", internal=True))
case("exchange.declare: inequivalent auto-delete", CHANNEL, method(1, "exchange.declare", exchange="h.direct", type="direct", auto_delete=True))
case("exchange.declare: inequivalent alternate exchange", CHANNEL,
     method(1, "exchange.declare", exchange="h.direct", type="direct", arguments={"alternate-exchange": "h.alt"}))
case("exchange.delete: reserved, without wait", CHANNEL, method(1, "exchange.delete", exchange="amq.direct", nowait=True))
case("exchange.delete: in use, without wait", CHANNEL, method(1, "exchange.delete", exchange="h.direct", if_unused=True, nowait=True))
case("exchange.bind: missing destination", CHANNEL, method(1, "exchange.bind", destination="h.none", source="h.direct"))
case("exchange.bind: both missing", CHANNEL, method(1, "exchange.bind", destination="h.none", source="h.nil"))
case("exchange.bind: from the default exchange", CHANNEL, method(1, "exchange.bind", destination="h.direct", source=""))
case("exchange.bind: missing source, without wait", CHANNEL, method(1, "exchange.bind", destination="h.direct", source="h.none", nowait=True))
case("exchange.bind: to itself, and taken back", CHANNEL, method(1, "exchange.bind", destination="h.direct", source="h.direct", routing_key="s") +
     method(1, "exchange.unbind", destination="h.direct", source="h.direct", routing_key="s"))
case("exchange.unbind: from the default exchange", CHANNEL, method(1, "exchange.unbind", destination="h.direct", source=""))

# ---------------------------------------------------------------------------------------- queues, more
case("queue.declare: passive, missing, without wait", CHANNEL, declare("h.none", passive=True, nowait=True))
case("queue.declare: server-named, without wait", CHANNEL, declare("", exclusive=True, nowait=True))
case("queue.declare: server-named and passive after one was declared", CHANNEL, declare("h.q", passive=True) + declare("", passive=True))
case("queue.declare: the pseudo-queue of direct replies", CHANNEL, declare("amq.rabbitmq.reply-to"))
case("queue.declare: the pseudo-queue of direct replies, passive", CHANNEL, declare("amq.rabbitmq.reply-to", passive=True))
case("queue.declare: a forged direct reply queue, passive", CHANNEL, declare("amq.rabbitmq.reply-to.forged", passive=True))
case("queue.delete: the pseudo-queue of direct replies", CHANNEL, method(1, "queue.delete", queue="amq.rabbitmq.reply-to"))
case("queue.purge: the pseudo-queue of direct replies", CHANNEL, method(1, "queue.purge", queue="amq.rabbitmq.reply-to"))
case("queue.bind: the pseudo-queue of direct replies", CHANNEL,
     method(1, "queue.bind", queue="amq.rabbitmq.reply-to", exchange="amq.direct", routing_key="k"))
case("basic.get: the pseudo-queue of direct replies", CHANNEL, method(1, "basic.get", queue="amq.rabbitmq.reply-to"))
for _argument, _value in (("x-max-length", -1), ("x-max-length-bytes", "x"), ("x-max-length-bytes", -1), ("x-max-length", 1 << 62),
                          ("x-message-ttl", 1 << 33), ("x-message-ttl", 1.5), ("x-expires", -5), ("x-expires", 1 << 40), ("x-expires", "x"),
                          ("x-max-priority", -1), ("x-max-priority", "x"), ("x-max-priority", 0), ("x-dead-letter-exchange", 5),
                          ("x-dead-letter-exchange", "h.none"), ("x-single-active-consumer", "yes"), ("x-queue-mode", "nonsense"), ("x-queue-mode", 1),
                          ("x-queue-mode", "lazy"), ("x-queue-version", 3), ("x-queue-type", 5), ("x-queue-type", "CLASSIC"), ("x-overflow", 5),
                          ("x-queue-master-locator", "nonsense"), ("x-delivery-limit", 3), ("x-max-age", "1D"), ("x-quorum-initial-group-size", 1),
                          ("x-unknown", "any")):
    case("queue.declare: %s=%s" % (_argument, _value), CHANNEL, declare(arguments={_argument: _value}))
for _argument, _value in (("x-max-age", "nonsense"), ("x-max-age", 5), ("x-stream-max-segment-size-bytes", "x"), ("x-max-length", 5), ("x-message-ttl", 5),
                          ("x-overflow", "reject-publish"), ("x-max-priority", 5), ("x-dead-letter-exchange", "x")):
    case("queue.declare: a stream with %s=%s" % (_argument, _value), CHANNEL,
         declare("h.tmp", durable=True, arguments={"x-queue-type": "stream", _argument: _value}))
case("queue.declare: a stream, not durable", CHANNEL, declare("h.tmp", arguments={"x-queue-type": "stream"}))
case("queue.declare: a stream, exclusive", CHANNEL, declare("h.tmp", durable=True, exclusive=True, arguments={"x-queue-type": "stream"}))
case("queue.declare: a stream, auto-delete", CHANNEL, declare("h.tmp", durable=True, auto_delete=True, arguments={"x-queue-type": "stream"}))
for _argument, _value in (("x-max-priority", 5), ("x-queue-mode", "lazy"), ("x-delivery-limit", "x"), ("x-delivery-limit", -2),
                          ("x-quorum-initial-group-size", 0), ("x-overflow", "reject-publish-dlx"), ("x-dead-letter-strategy", "at-least-once")):
    case("queue.declare: a quorum queue with %s=%s" % (_argument, _value), CHANNEL,
         declare("h.quorum", durable=True, arguments={"x-queue-type": "quorum", _argument: _value}))
case("queue.declare: quorum and auto-delete", CHANNEL, declare("h.quorum", durable=True, auto_delete=True, arguments={"x-queue-type": "quorum"}))
case("queue.declare: classic, as a quorum queue again", CHANNEL, declare("h.q", durable=True, arguments={"x-queue-type": "quorum"}))
case("queue.declare: inequivalent durable, without wait", CHANNEL, declare("h.q", durable=False, nowait=True))
case("queue.declare: inequivalent auto-delete", CHANNEL, declare("h.q", durable=True, auto_delete=True))
case("queue.declare: exclusive of another connection, without wait", CHANNEL, declare("h.exclusive", exclusive=True, nowait=True))
case("queue.bind: missing queue, without wait", CHANNEL, method(1, "queue.bind", queue="h.none", exchange="amq.direct", nowait=True))
case("queue.bind: missing queue and exchange", CHANNEL, method(1, "queue.bind", queue="h.none", exchange="h.nil"))
case("queue.bind: to the default exchange by its queue's name", CHANNEL, method(1, "queue.bind", queue="h.q", exchange="", routing_key="h.q"))
case("queue.bind: x-match of a number", CHANNEL, method(1, "queue.bind", queue="h.q", exchange="amq.headers", arguments={"x-match": 1}))
case("queue.unbind: from the default exchange", CHANNEL, method(1, "queue.unbind", queue="h.q", exchange="", routing_key="h.q"))
case("queue.unbind: missing exchange", CHANNEL, method(1, "queue.unbind", queue="h.q", exchange="h.none"))
case("queue.unbind: last declared of none", CHANNEL, method(1, "queue.unbind", queue="", exchange="amq.direct"))
case("queue.unbind: exclusive of another connection", CHANNEL, method(1, "queue.unbind", queue="h.exclusive", exchange="amq.direct"))
case("queue.purge: missing, without wait", CHANNEL, method(1, "queue.purge", queue="h.none", nowait=True))
case("queue.purge: last declared of none", CHANNEL, method(1, "queue.purge", queue=""))
case("queue.delete: last declared of none", CHANNEL, method(1, "queue.delete", queue=""))
case("queue.delete: missing, if unused and empty", CHANNEL, method(1, "queue.delete", queue="h.none", if_unused=True, if_empty=True))
case("queue.delete: not empty, without wait", CHANNEL, method(1, "queue.delete", queue="h.full", if_empty=True, nowait=True))
case("queue.delete: in use, without wait", CHANNEL, method(1, "queue.delete", queue="h.used", if_unused=True, nowait=True))
case("queue.delete: the last declared, then used by no name", CHANNEL,
     declare("h.tmp") + method(1, "queue.delete", queue="h.tmp") + method(1, "basic.get", queue=""))
