"""Messages given: routed, returned, refused, confirmed, in transactions."""
import wire

from .scenario import scenario
from .talk import PATIENCE


@scenario("basic.publish basic.return")
def an_unroutable_mandatory_publish_comes_back(t):
    t.publish(b"back", routing_key="m.none", mandatory=True, headers={"a": 1}, content_type="x")
    t.message("basic.return")
    t.publish(b"", exchange="amq.topic", routing_key="m.none", mandatory=True)
    t.message("basic.return")
    t.publish(b"lost", routing_key="m.none")
    t.call(1, "queue.declare", queue="m.q", exclusive=True)


@scenario("basic.publish")
def an_immediate_publish_is_not_implemented(t):
    t.publish(b"x", routing_key="m.q", immediate=True)
    t.refused()


@scenario("basic.publish channel.close")
def a_publish_to_a_missing_exchange_closes_the_channel(t):
    t.call(1, "confirm.select")
    t.publish(b"x", routing_key="m.none")
    t.confirms(1)
    t.publish(b"x", exchange="m.none")
    t.refused()


@scenario("basic.publish basic.get basic.get-ok")
def cc_and_bcc_route_to_more_queues(t):
    for q in ("m.a", "m.b", "m.c"):
        t.queue(q)
    t.publish(b"x", routing_key="m.a", headers={"CC": ["m.b"], "BCC": ["m.c"]})
    for q in ("m.a", "m.b", "m.c"):
        t.depth(q, 1)
        t.send(1, "basic.get", queue=q, no_ack=True)
        t.message("basic.get-ok")
        t.call(1, "queue.delete", queue=q)


@scenario("basic.publish basic.consume basic.deliver")
def direct_reply_to(t):
    t.queue()
    t.call(1, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True, consumer_tag="r")
    t.publish(b"question", routing_key="m.q", reply_to="amq.rabbitmq.reply-to")
    o = t.other()
    o.depth("m.q", 1)
    o.send(1, "basic.get", queue="m.q", no_ack=True)
    o.until("basic.get-ok")
    kind, data = o._one(PATIENCE)
    o._one(PATIENCE)
    o.lines[-2:] = ["header and body"]
    reply_to = wire.parse_properties(data[12:])["reply_to"]
    o.note(reply_to)
    o.call(1, "queue.declare", queue=reply_to, passive=True)
    o.publish(b"answer", routing_key=reply_to)
    t.message()
    t.call(1, "basic.cancel", consumer_tag="r")
    t.call(1, "queue.delete", queue="m.q")


@scenario("confirm.select confirm.select-ok basic.ack")
def confirms_count_from_one_each_once(t):
    t.queue()
    t.publish(b"before", routing_key="m.q")
    t.call(1, "confirm.select")
    for i in range(500):
        t.publish(b"%d" % i, routing_key="m.q")
    t.confirms(500)
    t.depth("m.q", 501)
    t.call(1, "queue.delete", queue="m.q")


@scenario("confirm.select basic.return basic.ack")
def returns_come_before_their_confirm(t):
    t.call(1, "confirm.select")
    t.publish(b"x", routing_key="m.none", mandatory=True)
    t.message("basic.return")
    t.note("confirmed before its return: %s" % bool(t.acked))
    t.confirms(1)


@scenario("basic.publish basic.return basic.ack")
def returned_and_routed_ones_are_confirmed_alike(t):
    t.queue()
    t.call(1, "confirm.select")
    for i in range(10):
        t.publish(b"%d" % i, routing_key="m.q" if i % 2 else "m.none", mandatory=True)
    for _ in range(5):
        t.message("basic.return")
    t.confirms(10)
    t.depth("m.q", 5)
    t.call(1, "queue.delete", queue="m.q")


@scenario("tx.select tx.select-ok tx.commit tx.commit-ok tx.rollback tx.rollback-ok")
def transactions_commit_and_roll_back(t):
    t.queue()
    t.call(2, "channel.open")
    t.call(2, "tx.select")
    t.publish(b"no", channel=2, routing_key="m.q")
    t.call(2, "tx.rollback")
    t.publish(b"yes", channel=2, routing_key="m.q")
    t.depth("m.q", 0)
    t.call(2, "tx.commit")
    t.depth("m.q", 1)
    t.send(2, "basic.get", queue="m.q")
    args, _ = t.message("basic.get-ok")
    t.send(2, "basic.ack", delivery_tag=args["delivery_tag"])
    t.call(2, "tx.rollback")
    t.send(2, "basic.ack", delivery_tag=args["delivery_tag"])
    t.call(2, "tx.commit")
    t.call(2, "channel.close")
    t.depth("m.q", 0)
    t.call(1, "queue.delete", queue="m.q")


@scenario("tx.select confirm.select")
def confirm_and_tx_exclude_each_other(t):
    t.call(1, "confirm.select")
    t.send(1, "tx.select")
    t.refused()
    t.call(1, "channel.open")
    t.call(1, "tx.select")
    t.send(1, "confirm.select")
    t.refused()


@scenario("tx.commit tx.rollback")
def commit_without_select_is_refused(t):
    for name in ("tx.commit", "tx.rollback"):
        t.send(1, name)
        t.refused()
        t.call(1, "channel.open")
