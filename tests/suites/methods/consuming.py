"""Messages taken: got, delivered, acknowledged, returned to their queue."""
from .scenario import scenario


@scenario("basic.publish basic.get basic.get-ok basic.get-empty basic.ack")
def get_with_and_without_acknowledgement(t):
    t.queue()
    t.send(1, "basic.get", queue="m.q")
    t.until("basic.get-empty")
    t.publish(b"one", routing_key="m.q", content_type="a/b", headers={"x": [1, {"y": None}]}, delivery_mode=2, priority=4,
              correlation_id="c", reply_to="r", expiration="60000", message_id="i", timestamp=7, type="t", user_id="guest", app_id="a")
    t.publish(b"two", routing_key="m.q")
    t.depth("m.q", 2)
    t.send(1, "basic.get", queue="m.q", no_ack=True)
    t.message("basic.get-ok")
    t.send(1, "basic.get", queue="m.q")
    args, _ = t.message("basic.get-ok")
    t.send(1, "basic.ack", delivery_tag=args["delivery_tag"])
    t.send(1, "basic.get", queue="m.q")
    t.until("basic.get-empty")
    t.call(1, "queue.delete", queue="m.q")


@scenario("basic.consume basic.consume-ok basic.deliver basic.ack basic.cancel basic.cancel-ok basic.qos basic.qos-ok")
def consume_with_qos_per_consumer_and_per_channel(t):
    t.queue()
    for i in range(6):
        t.publish(b"%d" % i, routing_key="m.q")
    t.depth("m.q", 6)
    t.call(1, "basic.qos", prefetch_count=2)
    t.call(1, "basic.consume", queue="m.q", consumer_tag="one")
    t.message()
    t.message()
    t.quiet()
    t.send(1, "basic.ack", delivery_tag=2, multiple=True)
    t.message()
    t.message()
    t.call(1, "basic.qos", prefetch_count=3, **{"global": True})
    t.send(1, "basic.ack", delivery_tag=3)
    t.message()
    t.quiet()
    t.call(1, "basic.cancel", consumer_tag="one")
    t.send(1, "basic.ack", multiple=True)
    t.depth("m.q", 1)
    t.call(1, "queue.delete", queue="m.q")


@scenario("basic.consume basic.deliver")
def consume_with_every_flag(t):
    t.queue(auto_delete=False)
    t.call(1, "basic.consume", queue="m.q", no_ack=True, exclusive=True, no_local=True, arguments={"x-priority": 3, "note": {"a": [1]}})
    o = t.other()
    o.send(1, "basic.consume", queue="m.q")
    o.refused()
    t.publish(b"x", routing_key="m.q")
    t.message()
    t.call(2, "channel.open")
    t.call(2, "queue.declare", queue="m.q2", auto_delete=True)
    t.send(2, "basic.consume", queue="m.q2", consumer_tag="quiet", nowait=True)
    t.publish(b"y", routing_key="m.q2")
    t.message()
    t.send(2, "basic.cancel", consumer_tag="quiet", nowait=True)
    t.quiet()
    t.call(1, "queue.delete", queue="m.q")


@scenario("basic.consume basic.deliver")
def the_consumer_of_higher_priority_is_served_first(t):
    t.queue()
    t.call(1, "basic.qos", prefetch_count=1)
    t.call(1, "basic.consume", queue="m.q", consumer_tag="low", arguments={"x-priority": 1})
    t.call(1, "basic.consume", queue="m.q", consumer_tag="high", arguments={"x-priority": 10})
    t.publish(b"1", routing_key="m.q")
    t.message()
    t.publish(b"2", routing_key="m.q")
    t.message()
    t.call(1, "queue.delete", queue="m.q")


@scenario("basic.consume basic.cancel basic.deliver")
def of_two_consumers_one_is_active(t):
    t.queue(arguments={"x-single-active-consumer": True})
    t.call(1, "basic.consume", queue="m.q", consumer_tag="first", no_ack=True)
    t.call(1, "basic.consume", queue="m.q", consumer_tag="second", no_ack=True)
    for i in range(2):
        t.publish(b"%d" % i, routing_key="m.q")
        t.message()
    t.call(1, "basic.cancel", consumer_tag="first")
    t.publish(b"2", routing_key="m.q")
    t.message()
    t.call(1, "queue.delete", queue="m.q")


@scenario("basic.cancel")
def a_consumer_is_told_that_its_queue_is_gone(t):
    t.queue()
    t.call(1, "basic.consume", queue="m.q", consumer_tag="t")
    t.other().call(1, "queue.delete", queue="m.q")
    t.until("basic.cancel")
    t.call(1, "queue.declare", queue="m.again", exclusive=True)


@scenario("basic.consume queue.delete", client={"product": "old"})
def who_does_not_know_a_cancel_is_told_none(t):
    t.queue()
    t.call(1, "basic.consume", queue="m.q", consumer_tag="t")
    t.other().call(1, "queue.delete", queue="m.q")
    t.quiet(0.5)
    t.call(1, "queue.declare", queue="m.again", exclusive=True)


@scenario("basic.nack basic.reject basic.get")
def nack_and_reject_requeue_or_not(t):
    t.queue()
    for i in range(4):
        t.publish(b"%d" % i, routing_key="m.q")
    t.depth("m.q", 4)
    for _ in range(4):
        t.send(1, "basic.get", queue="m.q")
        t.message("basic.get-ok")
    t.send(1, "basic.reject", delivery_tag=1, requeue=False)
    t.send(1, "basic.nack", delivery_tag=3, multiple=True, requeue=True)
    t.send(1, "basic.reject", delivery_tag=4, requeue=True)
    t.depth("m.q", 3)
    for _ in range(3):
        t.send(1, "basic.get", queue="m.q", no_ack=True)
        t.message("basic.get-ok")
    t.call(1, "queue.delete", queue="m.q")


@scenario("basic.recover basic.recover-ok basic.recover-async")
def recover_brings_back_what_was_not_acknowledged(t):
    t.queue()
    t.publish(b"x", routing_key="m.q")
    t.depth("m.q", 1)
    t.send(1, "basic.get", queue="m.q")
    t.message("basic.get-ok")
    t.call(1, "basic.recover", requeue=True)
    t.depth("m.q", 1)
    t.send(1, "basic.get", queue="m.q")
    t.message("basic.get-ok")
    t.send(1, "basic.recover-async", requeue=True)
    t.depth("m.q", 1)
    t.call(1, "queue.delete", queue="m.q")


@scenario("basic.recover basic.deliver basic.recover-ok")
def recover_delivers_again_to_a_consumer(t):
    t.queue()
    t.publish(b"x", routing_key="m.q")
    t.call(1, "basic.consume", queue="m.q", consumer_tag="c")
    t.message()
    t.call(1, "basic.recover", requeue=True)
    args, _ = t.message()
    t.send(1, "basic.ack", delivery_tag=args["delivery_tag"])
    t.call(1, "basic.cancel", consumer_tag="c")
    t.depth("m.q", 0)
    t.call(1, "queue.delete", queue="m.q")


@scenario("basic.recover")
def recover_without_requeue_is_not_implemented(t):
    t.send(1, "basic.recover", requeue=False)
    t.refused()


@scenario("basic.publish basic.deliver")
def what_is_not_acknowledged_returns_when_the_client_dies(t):
    t.queue()
    t.publish(b"x", routing_key="m.q")
    o = t.other()
    o.depth("m.q", 1)
    o.call(1, "basic.consume", queue="m.q", consumer_tag="d")
    o.message()
    o.wire.close()
    t.depth("m.q", 1)
    t.send(1, "basic.get", queue="m.q", no_ack=True)
    t.message("basic.get-ok")
    t.call(1, "queue.delete", queue="m.q")


@scenario("channel.close basic.deliver basic.get-ok")
def what_is_not_acknowledged_returns_when_the_channel_closes(t):
    t.queue()
    t.publish(b"x", routing_key="m.q")
    t.depth("m.q", 1)
    t.call(2, "channel.open")
    t.call(2, "basic.consume", queue="m.q", consumer_tag="c")
    t.message()
    t.call(2, "channel.close", reply_code=200)
    t.depth("m.q", 1)
    t.send(1, "basic.get", queue="m.q", no_ack=True)
    t.message("basic.get-ok")
    t.call(1, "queue.delete", queue="m.q")
