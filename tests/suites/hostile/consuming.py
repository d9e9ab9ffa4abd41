"""Consumers, acknowledgements, qos, transactions."""
from wire import body, head, message, method

from .case import CHANNEL, case, declare, publish

# ---------------------------------------------------------------------------------------- consuming
case("basic.consume: missing queue", CHANNEL, method(1, "basic.consume", queue="h.none"))
case("basic.consume: exclusive of another connection", CHANNEL, method(1, "basic.consume", queue="h.exclusive"))
case("basic.consume: exclusive consumer on a used queue", CHANNEL, method(1, "basic.consume", queue="h.used", exclusive=True))
case("basic.consume: duplicate tag", CHANNEL, method(1, "basic.consume", queue="h.c", consumer_tag="t") * 2)
case("basic.consume: last declared of none", CHANNEL, method(1, "basic.consume", queue=""))
case("basic.consume: priority of a wrong type", CHANNEL,
     method(1, "basic.consume", queue="h.c", arguments={"x-priority": "high"}))
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

# ---------------------------------------------------------------------------------------- consuming, more
_STREAM = declare("h.tmp", durable=True, arguments={"x-queue-type": "stream"})
case("basic.consume: missing queue, without wait", CHANNEL, method(1, "basic.consume", queue="h.none", nowait=True))
case("basic.consume: exclusive consumer on a used queue, without wait", CHANNEL, method(1, "basic.consume", queue="h.used", exclusive=True, nowait=True))
case("basic.consume: without wait and without a tag", CHANNEL, method(1, "basic.consume", queue="h.c", nowait=True))
case("basic.consume: duplicate tag, without wait", CHANNEL, method(1, "basic.consume", queue="h.c", consumer_tag="t", nowait=True) * 2)
case("basic.consume: the tag of another channel", CHANNEL, method(2, "channel.open") +
     method(1, "basic.consume", queue="h.c", consumer_tag="t"), 0.3, method(2, "basic.consume", queue="h.c", consumer_tag="t"))
# Waiting in between: RabbitMQ itself now and then crashes (541) over a cancel that comes while its consume is under way.
case("basic.consume: the tag of one that was cancelled", CHANNEL, method(1, "basic.consume", queue="h.c", consumer_tag="t"), 0.5,
     method(1, "basic.cancel", consumer_tag="t"), 0.5, method(1, "basic.consume", queue="h.c", consumer_tag="t"))
case("basic.consume: a tag of the server's kind", CHANNEL, method(1, "basic.consume", queue="h.c", consumer_tag="amq.ctag-mine"))
case("basic.consume: x-priority beyond an integer", CHANNEL, method(1, "basic.consume", queue="h.c", arguments={"x-priority": 1 << 40}))
case("basic.consume: x-priority of a float", CHANNEL, method(1, "basic.consume", queue="h.c", arguments={"x-priority": 1.5}))
case("basic.consume: x-stream-offset where no stream is", CHANNEL, method(1, "basic.consume", queue="h.c", arguments={"x-stream-offset": "nonsense"}))
case("basic.consume: x-cancel-on-ha-failover of a string", CHANNEL, method(1, "basic.consume", queue="h.c", arguments={"x-cancel-on-ha-failover": "x"}))
case("basic.consume: a stream without qos", CHANNEL, _STREAM, 0.5, method(1, "basic.consume", queue="h.tmp"))
case("basic.consume: a stream without acknowledgement", CHANNEL, _STREAM, 0.5,
     method(1, "basic.qos", prefetch_count=1) + method(1, "basic.consume", queue="h.tmp", no_ack=True))
case("basic.consume: a stream, exclusive", CHANNEL, _STREAM, 0.5,
     method(1, "basic.qos", prefetch_count=1) + method(1, "basic.consume", queue="h.tmp", exclusive=True))
case("basic.consume: a stream from an offset that means nothing", CHANNEL, _STREAM, 0.5,
     method(1, "basic.qos", prefetch_count=1) + method(1, "basic.consume", queue="h.tmp", consumer_tag="s", arguments={"x-stream-offset": "nonsense"}))
case("basic.consume: a stream under a global qos", CHANNEL, _STREAM, 0.5,
     method(1, "basic.qos", prefetch_count=1, **{"global": True}) + method(1, "basic.consume", queue="h.tmp", consumer_tag="s"))
case("basic.get: a stream", CHANNEL, _STREAM, 0.5, method(1, "basic.get", queue="h.tmp"))
case("queue.purge: a stream", CHANNEL, _STREAM, 0.5, method(1, "queue.purge", queue="h.tmp"))
case("basic.consume: direct reply-to, exclusive", CHANNEL, method(1, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True, exclusive=True, consumer_tag="a"))
case("basic.consume: direct reply-to again after its cancel", CHANNEL,
     method(1, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True, consumer_tag="a") + method(1, "basic.cancel", consumer_tag="a") +
     method(1, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True, consumer_tag="b"))
case("basic.consume: direct reply-to without wait", CHANNEL,
     method(1, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True, nowait=True, consumer_tag="a"))
case("basic.cancel: unknown tag, without wait", CHANNEL, method(1, "basic.cancel", consumer_tag="unknown", nowait=True))
case("basic.cancel: the tag of another channel", CHANNEL, method(2, "channel.open") + method(1, "basic.consume", queue="h.c", consumer_tag="t"), 0.3,
     method(2, "basic.cancel", consumer_tag="t"))
case("basic.cancel: an empty tag", CHANNEL, method(1, "basic.cancel"))
case("basic.cancel: twice", CHANNEL, method(1, "basic.consume", queue="h.c", consumer_tag="t"), 0.5,
     method(1, "basic.cancel", consumer_tag="t"), 0.5, method(1, "basic.cancel", consumer_tag="t"))

# ---------------------------------------------------------------------------------------- acknowledging, more
_GET = method(1, "basic.get", queue="h.full")
_BACK = method(1, "basic.nack", delivery_tag=1, requeue=True)
case("basic.ack: the tag of another channel", CHANNEL, method(2, "channel.open") + _GET, 0.3, method(2, "basic.ack", delivery_tag=1), 0.2, _BACK)
case("basic.ack: what needs none", CHANNEL, method(1, "basic.get", queue="h.q", no_ack=True) + method(1, "basic.ack", delivery_tag=1))
case("basic.ack: multiple beyond what is there", CHANNEL, _GET, 0.3, method(1, "basic.nack", delivery_tag=5, multiple=True, requeue=True))
case("basic.nack: tag 2^64-1", CHANNEL, method(1, "basic.nack", delivery_tag=(1 << 64) - 1))
case("basic.nack: tag 0, single", CHANNEL, method(1, "basic.nack", delivery_tag=0))
case("basic.nack: the same tag twice", CHANNEL, _GET, 0.3, _BACK * 2)
case("basic.nack: multiple, the same twice", CHANNEL, _GET, 0.3, method(1, "basic.nack", delivery_tag=1, multiple=True, requeue=True) * 2)
case("basic.reject: the same tag twice", CHANNEL, _GET, 0.3, method(1, "basic.reject", delivery_tag=1, requeue=True) * 2)
case("basic.ack: of a publisher's own confirm", CHANNEL, method(1, "confirm.select") + message(1, b"x"), 0.3, method(1, "basic.ack", delivery_tag=1))
case("basic.recover: a thousand times", CHANNEL, method(1, "basic.recover", requeue=True) * 1000)
case("basic.recover: what it got comes back", CHANNEL, _GET, 0.3, method(1, "basic.recover", requeue=True), 0.3, method(1, "basic.ack", delivery_tag=1))
case("basic.qos: prefetch_size 2^32-1", CHANNEL, method(1, "basic.qos", prefetch_size=0xffffffff))
case("basic.qos: prefetch_size, global", CHANNEL, method(1, "basic.qos", prefetch_size=1, prefetch_count=1, **{"global": True}))
case("basic.qos: global under consumers that are not", CHANNEL, method(1, "basic.qos", prefetch_count=1) +
     method(1, "basic.consume", queue="h.c", consumer_tag="t") + method(1, "basic.qos", prefetch_count=1, **{"global": True}))

# ---------------------------------------------------------------------------------------- tx and confirms, more
case("tx: an unknown tag acknowledged, then commit", CHANNEL, method(1, "tx.select") + method(1, "basic.ack", delivery_tag=9) + method(1, "tx.commit"))
case("tx: acknowledged twice, then commit", CHANNEL, method(1, "tx.select") + _GET, 0.3,
     method(1, "basic.nack", delivery_tag=1, requeue=True) * 2 + method(1, "tx.commit"))
case("tx: commit of nothing", CHANNEL, method(1, "tx.select") + method(1, "tx.commit") * 2 + method(1, "tx.rollback"))
case("tx: select after confirm without wait", CHANNEL, method(1, "confirm.select", nowait=True) + method(1, "tx.select"))
case("confirm: select after tx, without wait", CHANNEL, method(1, "tx.select") + method(1, "confirm.select", nowait=True))
case("tx: unroutable and mandatory, then commit", CHANNEL, method(1, "tx.select") +
     message(1, b"x", routing_key="h.none", mandatory=True) + method(1, "tx.commit"), 0.3)
case("tx: unroutable and mandatory, then rollback", CHANNEL, method(1, "tx.select") +
     message(1, b"x", routing_key="h.none", mandatory=True) + method(1, "tx.rollback"), 0.3)
case("tx: with another's user_id, then commit", CHANNEL, method(1, "tx.select") + message(1, b"x", user_id="someone") + method(1, "tx.commit"))
case("tx: select on a channel that has confirmed", CHANNEL, method(1, "confirm.select") + message(1, b"x"), 0.5, method(1, "tx.select"))
case("tx: commit in the middle of a content", CHANNEL, method(1, "tx.select") + publish() + head(1, 9) + body(1, b"x") + method(1, "tx.commit"))
case("confirm: select a thousand times", CHANNEL, method(1, "confirm.select") * 1000)
case("confirm: select after publishes", CHANNEL, message(1, b"x") * 3 + method(1, "confirm.select") + message(1, b"x"), 0.3)
