"""Exchanges of every type, and what is bound to what."""
from .scenario import scenario


@scenario("exchange.declare exchange.declare-ok exchange.delete exchange.delete-ok")
def exchanges_of_every_type(t):
    for kind in ("direct", "fanout", "topic", "headers"):
        t.call(1, "exchange.declare", exchange="m." + kind, type=kind)
        t.call(1, "exchange.declare", exchange="m." + kind, type=kind, passive=True)
        t.call(1, "exchange.delete", exchange="m." + kind)
    t.call(1, "exchange.declare", exchange="m.d", type="direct", durable=True, auto_delete=True)
    t.send(1, "exchange.declare", exchange="m.nowait", type="fanout", nowait=True)
    t.call(1, "exchange.declare", exchange="m.nowait", type="fanout", passive=True)
    t.send(1, "exchange.delete", exchange="m.nowait", nowait=True)
    t.call(1, "exchange.delete", exchange="m.d", if_unused=True)
    t.send(1, "exchange.declare", exchange="m.nowait", type="fanout", passive=True)
    t.refused()


@scenario("exchange.declare basic.publish")
def an_internal_exchange_takes_no_publish(t):
    t.call(1, "exchange.declare", exchange="m.in", type="fanout", internal=True, auto_delete=True)
    t.publish(b"x", exchange="m.in")
    t.refused()
    t.call(1, "channel.open")
    t.call(1, "exchange.delete", exchange="m.in")


@scenario("exchange.declare basic.publish basic.get")
def an_alternate_exchange_takes_what_is_unroutable(t):
    t.queue()
    t.call(1, "exchange.declare", exchange="m.alt", type="fanout", auto_delete=True)
    t.call(1, "exchange.declare", exchange="m.x", type="direct", arguments={"alternate-exchange": "m.alt"})
    t.call(1, "queue.bind", queue="m.q", exchange="m.alt")
    t.publish(b"via alt", exchange="m.x", routing_key="none", mandatory=True)
    t.depth("m.q", 1)
    t.send(1, "basic.get", queue="m.q", no_ack=True)
    t.message("basic.get-ok")
    t.call(1, "exchange.delete", exchange="m.x")
    t.call(1, "queue.delete", queue="m.q")


@scenario("exchange.bind exchange.bind-ok exchange.unbind exchange.unbind-ok")
def exchanges_bind_to_exchanges(t):
    t.queue()
    for x in ("m.a", "m.b"):
        t.call(1, "exchange.declare", exchange=x, type="topic")
    t.call(1, "exchange.bind", destination="m.b", source="m.a", routing_key="k.#", arguments={"note": "x"})
    t.call(1, "queue.bind", queue="m.q", exchange="m.b", routing_key="#")
    t.publish(b"through", exchange="m.a", routing_key="k.1")
    t.depth("m.q", 1)
    t.call(1, "exchange.unbind", destination="m.b", source="m.a", routing_key="k.#", arguments={"note": "x"})
    t.publish(b"lost", exchange="m.a", routing_key="k.1")
    t.depth("m.q", 1)
    for x in ("m.a", "m.b"):
        t.call(1, "exchange.delete", exchange=x)
    t.call(1, "queue.delete", queue="m.q")
