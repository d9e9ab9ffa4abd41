"""What a random walk may say next: a step is a method of `Steps`, chosen by weight, and answers (words for the transcript, octets to send)."""
import wire
from wire import method

QUEUES = ["w.a", "w.b", "w.c", "w.d"]
EXCHANGES = ["w.x", "w.y", "amq.direct", "amq.fanout", "amq.headers"]
# A walk's chances of each step. Producers alone stay on leases; the others are pinned sooner or later.
STEPS = {
    "publish": 30, "burst": 8, "declare": 12, "bind": 6, "unbind": 2, "exchange": 5, "exchange_delete": 1, "exchange_bind": 2, "passive": 3, "purge": 2,
    "delete": 2, "reopen": 2, "confirm": 4, "get": 8, "consume": 6, "cancel": 2, "settle": 14, "recover": 1, "qos": 3, "tx": 3, "commit": 5,
    "flow": 1, "visit": 1, "bad": 1, "half": 1,
}
PRODUCER = {"publish", "burst", "declare", "bind", "unbind", "exchange", "exchange_bind", "passive", "reopen", "confirm", "visit", "delete", "half"}
KINDS = {"producer": {k: v for k, v in STEPS.items() if k in PRODUCER}, "both": STEPS}


class Channel:
    def __init__(self):
        self.unacked, self.confirming, self.published, self.confirmed, self.tx = [], False, 0, set(), False


class Steps:
    def __init__(self, random):
        self.random = random
        self.kind = random.choice(list(KINDS))
        self.number = 0

    def chance(self, share):
        return self.random.random() < share

    def queue_name(self):
        return self.random.choice(QUEUES) if not self.chance(0.04) else "w.missing"

    def exchange_name(self):
        return self.random.choice(EXCHANGES) if not self.chance(0.05) else "w.nowhere"

    def publish(self, connection, number, channel, good=False):
        """One message. A `good` one is none that a broker refuses."""
        self.number += 1
        exchange = "" if self.chance(0.6) else self.random.choice(EXCHANGES[2:]) if good else self.exchange_name()
        size = self.random.choice((0, 1, 20, 20, 20, 300, 5000, 140000))
        data = (b"%d:" % self.number).ljust(size, b".")[:max(size, 0)] if size else b""
        props = {}
        if self.chance(0.5):
            props["delivery_mode"] = self.random.choice((1, 2))
        if self.chance(0.15):
            props["priority"] = self.random.choice((0, 5, 9, 255))
        if self.chance(0.1):
            props["expiration"] = self.random.choice(("0", "100000") if good else ("0", "100000", "1e3", "-1", ""))
        if self.chance(0.06):
            props["user_id"] = self.random.choice(("guest", "guest", "guest" if good else "somebody"))
        if self.chance(0.2):
            props["headers"] = self.random.choice(({"CC": [self.random.choice(QUEUES)]}, {"BCC": [self.random.choice(QUEUES)]}, {"CC": ["w.a"] if good else "w.a"}, {"a": 1, "x": None},
                                                   {"task": "walk.task", "id": "1", "n": [1, {"b": b"\xff"}]}, {"x-match": "all"}))
        if self.chance(0.2):
            props.update(content_type="application/json", content_encoding="utf-8", correlation_id="c%d" % self.number, reply_to="w.d", type="t", app_id="a",
                         message_id="m", timestamp=12345)
        more = {"mandatory": self.chance(0.25), "immediate": not good and self.chance(0.01)}
        channel.published += channel.confirming
        key = self.random.choice(QUEUES) if not self.chance(0.15) else self.random.choice(("w.missing", "", "#", "a.b"))
        what = "publish #%d to %r key %r %d octets %s %s" % (self.number, exchange, key, len(data), props, more)
        return what, wire.message(number, data, exchange=exchange, routing_key=key, frame_max=connection.frame_max, **more, **props)

    def burst(self, connection, number, channel):
        """Several at once. What follows a refused publish is free: a broker may not have looked at it, and Umbel has accepted it."""
        parts = [self.publish(connection, number, channel, good=True) for _ in range(self.random.randint(2, 6))]
        return "; ".join(w for w, _ in parts), b"".join(d for _, d in parts)

    def declare(self, connection, number, channel):
        arguments = self.random.choice(({}, {}, {}, {}, {"x-max-length": 2}, {"x-max-length": 1, "x-overflow": "drop-head"}, {"x-max-priority": 5}, {"x-expires": 600000},
                                        {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "w.d", "x-message-ttl": 600000}, {"x-message-ttl": "bad"}))
        given = dict(queue="" if self.chance(0.05) else self.queue_name(), durable=self.chance(0.5), exclusive=self.chance(0.05), auto_delete=self.chance(0.1),
                     nowait=self.chance(0.1), arguments=arguments)
        if given["queue"] == "w.missing":
            given["queue"] = self.random.choice(QUEUES)
        if self.kind == "producer":
            # What an exclusive queue pins is walked through by the others.
            given["exclusive"] = False
        return "queue.declare %s" % given, method(number, "queue.declare", **given)

    def passive(self, connection, number, channel):
        if self.chance(0.5):
            name = self.exchange_name()
            return "passive exchange %s" % name, method(number, "exchange.declare", exchange=name, type="direct", passive=True)
        name = self.queue_name()
        return "passive queue %s" % name, method(number, "queue.declare", queue=name, passive=True)

    def bind(self, connection, number, channel):
        given = dict(queue=self.queue_name(), exchange=self.exchange_name(), routing_key=self.random.choice([*QUEUES, "a.*"]), nowait=self.chance(0.1))
        return "queue.bind %s" % given, method(number, "queue.bind", **given)

    def unbind(self, connection, number, channel):
        given = dict(queue=self.queue_name(), exchange=self.exchange_name(), routing_key=self.random.choice(QUEUES))
        return "queue.unbind %s" % given, method(number, "queue.unbind", **given)

    def exchange(self, connection, number, channel):
        given = dict(exchange=self.random.choice(("w.x", "w.y", "w.y", "amq.direct", "amq.mine")), type=self.random.choice(("direct", "direct", "fanout", "topic", "headers", "strange")),
                     durable=self.chance(0.3), auto_delete=self.chance(0.1), internal=self.chance(0.1), nowait=self.chance(0.1),
                     arguments={"alternate-exchange": "amq.fanout"} if self.chance(0.2) else {})
        if given["type"] == "strange" and self.chance(0.8):
            given["type"] = "direct"
        return "exchange.declare %s" % given, method(number, "exchange.declare", **given)

    def exchange_delete(self, connection, number, channel):
        given = dict(exchange=self.exchange_name(), if_unused=self.chance(0.4), nowait=self.chance(0.1))
        return "exchange.delete %s" % given, method(number, "exchange.delete", **given)

    def exchange_bind(self, connection, number, channel):
        name = self.random.choice(("exchange.bind", "exchange.unbind"))
        given = dict(destination=self.exchange_name(), source=self.exchange_name(), routing_key=self.random.choice(QUEUES), nowait=self.chance(0.1))
        return "%s %s" % (name, given), method(number, name, **given)

    def purge(self, connection, number, channel):
        given = dict(queue=self.queue_name(), nowait=self.chance(0.1))
        return "purge %s" % given, method(number, "queue.purge", **given)

    def delete(self, connection, number, channel):
        given = dict(queue=self.queue_name(), if_unused=self.chance(0.3), if_empty=self.chance(0.3), nowait=self.chance(0.1))
        return "queue.delete %s" % given, method(number, "queue.delete", **given)

    def reopen(self, connection, number, channel):
        if channel is None:
            connection.channels[number] = Channel()
            return "open", method(number, "channel.open")
        if self.chance(0.03):
            return "open again", method(number, "channel.open")
        connection.channels.pop(number)
        return "close", method(number, "channel.close", reply_code=200)

    def confirm(self, connection, number, channel):
        if not channel.tx:
            channel.confirming = True
        return "confirm.select", method(number, "confirm.select", nowait=self.chance(0.1))

    def get(self, connection, number, channel):
        given = dict(queue=self.queue_name(), no_ack=self.chance(0.3))
        return "get %s" % given, method(number, "basic.get", **given)

    def consume(self, connection, number, channel):
        given = dict(queue=self.queue_name(), consumer_tag=self.random.choice(("t1", "t2", "")), no_ack=self.chance(0.3), exclusive=self.chance(0.1), nowait=self.chance(0.1),
                     no_local=self.chance(0.1), arguments={"x-priority": 3} if self.chance(0.1) else {})
        return "consume %s" % given, method(number, "basic.consume", **given)

    def cancel(self, connection, number, channel):
        given = dict(consumer_tag=self.random.choice(("t1", "t2", "t3")), nowait=self.chance(0.1))
        return "cancel %s" % given, method(number, "basic.cancel", **given)

    def settle(self, connection, number, channel):
        if channel.unacked and self.chance(0.95):
            tag = channel.unacked.pop(self.random.randrange(len(channel.unacked)) if self.chance(0.3) else 0)
        elif self.chance(0.7):
            return self.get(connection, number, channel)
        else:
            tag = self.random.choice((0, 1, 2, 77))
        name = self.random.choice(("basic.ack", "basic.ack", "basic.nack", "basic.reject"))
        given = {"delivery_tag": tag}
        if name != "basic.reject":
            given["multiple"] = self.chance(0.15)
        if name != "basic.ack":
            given["requeue"] = self.chance(0.5)
        return "%s %s" % (name, given), method(number, name, **given)

    def recover(self, connection, number, channel):
        name, again = self.random.choice(("basic.recover", "basic.recover-async")), self.chance(0.7)
        return "%s requeue %s" % (name, again), method(number, name, requeue=again)

    def qos(self, connection, number, channel):
        given = dict(prefetch_count=self.random.choice((0, 1, 3)), prefetch_size=1 if self.chance(0.03) else 0)
        given["global"] = self.chance(0.3)
        return "qos %s" % given, method(number, "basic.qos", **given)

    def tx(self, connection, number, channel):
        channel.tx = channel.tx or not channel.confirming
        return "tx.select", method(number, "tx.select")

    def commit(self, connection, number, channel):
        if not channel.tx and self.chance(0.9):
            return self.get(connection, number, channel)
        name = self.random.choice(("tx.commit", "tx.commit", "tx.rollback"))
        return name, method(number, name)

    def flow(self, connection, number, channel):
        active = self.chance(0.8)
        return "flow %s" % active, method(number, "channel.flow", active=active)

    def visit(self, connection, number, channel):
        """The connection closed in good order, or just left, and come back to."""
        if self.chance(0.5):
            return "leave in good order", method(0, "connection.close", reply_code=200)
        connection.wire.close()
        connection.open()
        return "leave without a word", b""

    def bad(self, connection, number, channel):
        what, data = self.random.choice((
            ("a method of the server's", method(number, "basic.qos-ok")),
            ("a body out of nowhere", wire.body(number, b"x")),
            ("a header out of nowhere", wire.head(number, 3)),
            ("a publish without a header, and a method", method(number, "basic.publish") + method(number, "basic.get", queue="w.a")),
            ("a channel that is not open", method(9, "basic.get", queue="w.a")),
            ("close-ok out of nowhere", method(number, "channel.close-ok")),
        ))
        return what, data

    def half(self, connection, number, channel):
        """A message begun, and the channel closed in the middle of it."""
        data = method(number, "basic.publish", routing_key="w.a") + wire.head(number, 4) + wire.body(number, b"ab") + method(number, "channel.close", reply_code=200)
        connection.channels.pop(number)
        return "half a message, then close", data
