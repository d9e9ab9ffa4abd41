"""Queues: declared, named, bound, purged, deleted."""
import time

from wire import message, method

from .scenario import scenario


@scenario("queue.declare queue.declare-ok queue.delete queue.delete-ok")
def queues_of_every_kind(t):
    t.call(1, "queue.declare", queue="m.durable", durable=True)
    t.call(1, "queue.declare", queue="m.durable", durable=True)
    t.call(1, "queue.declare", queue="m.auto", auto_delete=True)
    t.call(1, "queue.declare", queue="m.excl", exclusive=True)
    t.call(1, "queue.declare")
    t.send(1, "queue.declare", queue="m.nowait", nowait=True)
    t.call(1, "queue.declare", queue="m.nowait", passive=True)
    t.call(1, "queue.declare", queue="m.args", arguments={
        "x-message-ttl": 60000, "x-expires": 60000, "x-max-length": 10, "x-max-length-bytes": 1 << 40, "x-overflow": "reject-publish",
        "x-max-priority": 9, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "m.durable", "x-single-active-consumer": True})
    for q in ("m.durable", "m.auto", "m.excl", "m.args"):
        t.call(1, "queue.delete", queue=q, if_unused=True, if_empty=True)
    t.send(1, "queue.delete", queue="m.nowait", nowait=True)
    t.send(1, "queue.declare", queue="m.nowait", passive=True)
    t.refused()


@scenario("queue.bind queue.bind-ok queue.unbind queue.unbind-ok")
def queues_bind_to_every_type(t):
    t.queue()
    for kind, key, args in (("direct", "k", None), ("fanout", "", None), ("topic", "*.x", None),
                            ("headers", "", {"x-match": "any", "a": 1, "b": "two"})):
        t.call(1, "queue.bind", queue="m.q", exchange="amq." + kind, routing_key=key, arguments=args)
    for kind, key in (("direct", "k"), ("fanout", "any"), ("topic", "y.x"), ("headers", "")):
        t.publish(kind.encode(), exchange="amq." + kind, routing_key=key, headers={"b": "two"})
    t.depth("m.q", 4)
    t.call(1, "queue.unbind", queue="m.q", exchange="amq.direct", routing_key="k")
    t.send(1, "queue.bind", queue="m.q", exchange="amq.direct", routing_key="n", nowait=True)
    t.publish(b"no", exchange="amq.direct", routing_key="k")
    t.publish(b"yes", exchange="amq.direct", routing_key="n")
    t.depth("m.q", 5)
    t.call(1, "queue.delete", queue="m.q")


@scenario("queue.purge queue.purge-ok")
def a_purge_counts(t):
    t.queue()
    for i in range(5):
        t.publish(b"%d" % i, routing_key="m.q")
    t.call(1, "queue.purge", queue="m.q")
    t.publish(b"x", routing_key="m.q")
    t.send(1, "queue.purge", queue="m.q", nowait=True)
    t.call(1, "queue.delete", queue="m.q")


@scenario("queue.declare queue.bind queue.purge queue.delete basic.consume basic.get")
def an_empty_name_means_the_last_declared(t):
    t.queue("m.one")
    t.queue("m.last")
    t.call(1, "queue.bind", exchange="amq.direct", routing_key="k")
    t.publish(b"x", exchange="amq.direct", routing_key="k")
    t.depth("m.last", 1)
    t.send(1, "basic.get", no_ack=True)
    t.message("basic.get-ok")
    t.call(1, "basic.consume", consumer_tag="t")
    t.call(1, "basic.cancel", consumer_tag="t")
    t.call(1, "queue.purge")
    t.call(1, "queue.delete")
    t.call(1, "queue.delete", queue="m.one")


@scenario("queue.declare queue.bind basic.publish queue.purge queue.delete")
def an_empty_name_is_known_without_waiting_for_its_answer(t):
    t.raw(method(1, "queue.declare", queue="m.q") + method(1, "queue.bind", exchange="amq.direct", routing_key="m.k") +
          message(1, b"x", exchange="amq.direct", routing_key="m.k"))
    for reply in ("queue.declare-ok", "queue.bind-ok"):
        t.until(reply)
    t.used |= {"queue.bind", "basic.publish"}
    t.depth("m.q", 1)
    t.raw(method(1, "queue.declare", exclusive=True) + method(1, "queue.bind", exchange="amq.direct", routing_key="m.k") +
          method(1, "queue.purge") + method(1, "queue.delete"))
    t.used |= {"queue.purge", "queue.delete"}
    for reply in ("queue.declare-ok", "queue.bind-ok", "queue.purge-ok", "queue.delete-ok"):
        t.until(reply)
    t.call(1, "queue.delete", queue="m.q")


@scenario("queue.declare basic.publish queue.declare-ok")
def a_declare_counts_what_was_published_before_it(t):
    t.queue()
    for n in range(1, 20):
        t.publish(b"x", routing_key="m.q")
        # Not the broker's exact count at each step: it answers a declare ahead of publishes it has in hand.
        t.depth("m.q", n)
    t.call(1, "queue.delete", queue="m.q")


@scenario("queue.declare")
def exclusive_is_of_the_connection_and_dies_with_it(t):
    t.queue("m.mine", exclusive=True)
    o = t.other()
    o.send(1, "queue.declare", queue="m.mine", exclusive=True)
    o.refused()
    t.call(2, "channel.open")
    t.call(2, "queue.declare", queue="m.mine", passive=True)
    t.call(0, "connection.close", reply_code=200)
    time.sleep(0.3 * t.pace)
    o.call(1, "channel.open")
    o.send(1, "queue.declare", queue="m.mine", passive=True)
    o.refused()


@scenario("basic.cancel queue.unbind exchange.declare queue.declare")
def what_deletes_itself_goes_with_the_last_that_used_it(t):
    t.call(1, "exchange.declare", exchange="m.a", type="fanout", auto_delete=True)
    t.call(1, "queue.declare", queue="m.q", auto_delete=True)
    t.call(1, "queue.bind", queue="m.q", exchange="m.a")
    t.call(1, "queue.unbind", queue="m.q", exchange="m.a")
    t.send(1, "exchange.declare", exchange="m.a", type="fanout", passive=True)
    t.refused()
    t.call(1, "channel.open")
    t.call(1, "basic.consume", queue="m.q", consumer_tag="last")
    t.call(1, "basic.cancel", consumer_tag="last")
    t.send(1, "queue.declare", queue="m.q", passive=True)
    t.refused()


@scenario("exchange.bind exchange.unbind confirm.select queue.declare exchange.delete")
def nothing_is_said_to_who_does_not_wait(t):
    for x in ("m.a", "m.b"):
        t.send(1, "exchange.declare", exchange=x, type="fanout", nowait=True)
    t.send(1, "queue.declare", queue="m.q", nowait=True)
    t.send(1, "queue.bind", queue="m.q", exchange="m.b", nowait=True)
    t.send(1, "exchange.bind", destination="m.b", source="m.a", nowait=True)
    t.send(1, "confirm.select", nowait=True)
    t.publish(b"through both", exchange="m.a", routing_key="k")
    t.confirms(1)
    t.depth("m.q", 1)
    t.send(1, "exchange.unbind", destination="m.b", source="m.a", nowait=True)
    t.publish(b"to nobody", exchange="m.a", routing_key="k")
    t.confirms(2)
    t.depth("m.q", 1)
    for x in ("m.a", "m.b"):
        t.send(1, "exchange.delete", exchange=x, nowait=True)
    t.call(1, "queue.delete", queue="m.q")
