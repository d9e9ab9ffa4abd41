"""Queues of other kinds: quorum queues, streams, priorities, expiry, limits."""
from .scenario import scenario


@scenario("queue.declare basic.consume basic.publish basic.ack")
def a_quorum_queue_is_as_any_other(t):
    t.call(1, "queue.declare", queue="m.quorum", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})
    t.call(1, "confirm.select")
    t.publish(b"q", routing_key="m.quorum", delivery_mode=2)
    t.confirms(1)
    t.call(1, "basic.qos", prefetch_count=5)
    t.call(1, "basic.consume", queue="m.quorum", consumer_tag="t")
    args, _ = t.message()
    t.send(1, "basic.ack", delivery_tag=args["delivery_tag"])
    t.call(1, "basic.cancel", consumer_tag="t")
    t.call(1, "queue.delete", queue="m.quorum")


@scenario("basic.consume basic.reject basic.deliver")
def a_quorum_queue_counts_deliveries_up_to_its_limit(t):
    t.call(1, "queue.declare", queue="m.dead")
    t.call(1, "queue.declare", queue="m.quorum", durable=True, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "m.dead"})
    t.publish(b"bad", routing_key="m.quorum", delivery_mode=2)
    t.call(1, "basic.qos", prefetch_count=1)
    t.call(1, "basic.consume", queue="m.quorum", consumer_tag="t")
    for _ in range(3):
        args, _ = t.message()
        t.send(1, "basic.reject", delivery_tag=args["delivery_tag"], requeue=True)
    t.depth("m.dead", 1)
    for q in ("m.quorum", "m.dead"):
        t.call(1, "queue.delete", queue=q)


@scenario("queue.declare basic.consume basic.qos")
def a_stream_is_read_from_its_first(t):
    t.call(1, "queue.declare", queue="m.stream", durable=True,
           arguments={"x-queue-type": "stream", "x-max-length-bytes": 1 << 30, "x-stream-max-segment-size-bytes": 1 << 20})
    t.call(1, "confirm.select")
    for i in range(3):
        t.publish(b"s%d" % i, routing_key="m.stream")
    t.confirms(3)
    t.call(1, "basic.qos", prefetch_count=10)
    t.call(1, "basic.consume", queue="m.stream", consumer_tag="s", arguments={"x-stream-offset": "first"})
    for _ in range(3):
        args, _ = t.message()
        t.send(1, "basic.ack", delivery_tag=args["delivery_tag"])
    t.call(1, "basic.cancel", consumer_tag="s")
    t.call(1, "queue.delete", queue="m.stream")


@scenario("basic.consume basic.deliver")
def a_stream_is_read_from_where_it_is_asked(t):
    t.call(1, "queue.declare", queue="m.stream", durable=True, arguments={"x-queue-type": "stream"})
    t.call(1, "confirm.select")
    for i in range(4):
        t.publish(b"s%d" % i, routing_key="m.stream")
    t.confirms(4)
    t.call(1, "basic.qos", prefetch_count=10)
    for tag, offset, count in (("number", 2, 2), ("moment", (b"T", b"\0" * 8), 4), ("next", "next", 0)):
        t.call(1, "basic.consume", queue="m.stream", consumer_tag=tag, arguments={"x-stream-offset": offset})
        for _ in range(count):
            args, _ = t.message()
            t.send(1, "basic.ack", delivery_tag=args["delivery_tag"])
        t.quiet()
        t.call(1, "basic.cancel", consumer_tag=tag)
    t.call(1, "queue.delete", queue="m.stream")


@scenario("basic.publish basic.get-ok")
def the_message_of_higher_priority_is_first(t):
    t.queue(arguments={"x-max-priority": 9})
    for priority in (1, 9, 0, 255):
        t.publish(b"%d" % priority, routing_key="m.q", priority=priority)
    t.depth("m.q", 4)
    for _ in range(4):
        t.send(1, "basic.get", queue="m.q", no_ack=True)
        t.message("basic.get-ok")
    t.call(1, "queue.delete", queue="m.q")


@scenario("basic.publish basic.nack")
def dead_letters_expiry_and_limits_are_the_brokers(t):
    t.call(1, "queue.declare", queue="m.dead")
    t.call(1, "queue.declare", queue="m.ttl", arguments={"x-message-ttl": 1, "x-dead-letter-exchange": "",
                                                           "x-dead-letter-routing-key": "m.dead"})
    t.publish(b"expires", routing_key="m.ttl")
    t.depth("m.dead", 1)
    t.call(1, "queue.declare", queue="m.full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    t.call(2, "channel.open")
    t.call(2, "confirm.select")
    t.publish(b"1", channel=2, routing_key="m.full")
    t.publish(b"2", channel=2, routing_key="m.full")
    t.confirms(2, channel=2)
    for q in ("m.dead", "m.ttl", "m.full"):
        t.call(1, "queue.delete", queue=q)
