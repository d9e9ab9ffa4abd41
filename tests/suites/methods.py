"""Every method of AMQP 0-9-1 and of RabbitMQ's extensions, as short scenarios whose transcripts must not depend on the way.

A scenario talks to one address and writes down every frame it gets; `methods_test.py` runs each directly and through Umbel and
compares. `python3 methods.py` prints the table method -> scenarios for the documentation.
"""
import re
import time

import wire
from wire import CLIENT, HEADER, Gone, Wire, message, method

SCENARIOS = {}
PATIENCE = 30  # seconds that an answer may take on a busy machine


class Talk:
    """A connection that writes down what it hears. Confirms are written as the set they confirm: how they are grouped is free."""

    def __init__(self, address, vhost, pace=1, **login):
        """`pace`: how many times longer than usual silence must last."""
        self.address, self.vhost, self.pace = address, vhost, pace
        self.lines, self.acked, self.nacked, self.confirmed = [], set(), set(), {}
        # The methods that went and came: what a scenario says that it covers must be among them.
        self.used = set()
        self.wire = Wire(address[1], address[0])
        if login.pop("login", True):
            self.wire.login(vhost=vhost, **login)
            self.call(1, "channel.open")

    def note(self, line):
        self.lines.append(settle(line))

    def send(self, channel, name, **given):
        self.used.add(name)
        self.wire.send(method(channel, name, **given))

    def raw(self, data):
        if data[:1] == b"\1":
            self.used.add(wire.parse(data[7:-1])[0])
        self.wire.send(data)

    def publish(self, data, channel=1, **more):
        self.used.add("basic.publish")
        self.wire.send(message(channel, data, **more))

    def _one(self, timeout):
        kind, channel, data = self.wire.frame(timeout)
        if kind == wire.HEARTBEAT:
            return "heartbeat", {}
        if kind == wire.METHOD:
            name, args = wire.parse(data)
            self.used.add(name)
            if name in ("basic.ack", "basic.nack"):
                done, tag = self.confirmed.setdefault(channel, set()), args["delivery_tag"]
                tags = {n for n in range(1, tag + 1) if n not in done} if args["multiple"] else {tag}
                assert not tags & done, "confirmed twice"
                done |= tags
                (self.acked if name == "basic.ack" else self.nacked).update((channel, t) for t in tags)
                return name, args
            self.note(wire.sentence(kind, channel, data))
            return name, args
        self.note(wire.sentence(kind, channel, data) if kind != wire.BODY else "ch%d body %r" % (channel, data[:60]))
        return kind, data

    def until(self, name, timeout=PATIENCE):
        while True:
            got, args = self._one(timeout)
            if got == name:
                return args

    def call(self, channel, name, reply=None, **given):
        self.send(channel, name, **given)
        return self.until(reply or name + "-ok")

    def message(self, name="basic.deliver", timeout=PATIENCE):
        """The next message: its method's arguments and its body."""
        args = self.until(name, timeout)
        _, data = self._one(timeout)
        size, got = int.from_bytes(data[4:12], "big"), b""
        while len(got) < size:
            kind, part = self._one(timeout)
            if kind == wire.BODY:
                got += part
        return args, got

    def quiet(self, seconds=0.4):
        """Whatever else comes."""
        try:
            while True:
                self._one(seconds * self.pace)
        except TimeoutError:
            pass
        except Gone:
            self.note("closed")

    def confirms(self, count, channel=1):
        while len(self.confirmed.get(channel, ())) < count:
            self._one(PATIENCE)
        self.note("acked %s nacked %s" % (sorted(self.acked), sorted(self.nacked)))

    def depth(self, queue, wanted, channel=1):
        """Wait until a queue holds so many; what it holds then is noted, not the asking."""
        end = time.monotonic() + PATIENCE
        while True:
            kept = len(self.lines)
            got = self.call(channel, "queue.declare", queue=queue, passive=True)["message_count"]
            del self.lines[kept:]
            if got == wanted or time.monotonic() > end:
                break
            time.sleep(0.05)
        self.note("%s holds %d" % (queue, got))

    def queue(self, name="m.q", **more):
        self.call(1, "queue.declare", queue=name, **more)
        return name

    def refused(self):
        """Until the broker closes the channel or the connection; answers as a client should."""
        while True:
            name, _ = self._one(PATIENCE)
            if name == "channel.close":
                self.send(1, "channel.close-ok")
                return
            if name == "connection.close":
                self.send(0, "connection.close-ok")
                try:
                    while True:
                        self._one(PATIENCE)
                except Gone:
                    self.note("closed")
                return

    def close(self):
        """In good order where that is still possible: exclusive queues are gone when the broker has said close-ok."""
        try:
            self.wire.send(method(0, "connection.close", reply_code=200))
            while True:
                kind, _, data = self.wire.frame(2)
                if kind == wire.METHOD and wire.parse(data)[0] in ("connection.close-ok", "connection.close"):
                    break
        except (OSError, Gone, TimeoutError):
            pass
        self.wire.close()


def settle(text):
    text = re.sub(r"amq\.gen-[\w-]+", "amq.gen-*", text)
    text = re.sub(r"reply-to\.[\w./+=-]+", "reply-to.*", text)
    return re.sub(r"cluster_name': '[^']*'", "cluster_name': '*'", text)


def scenario(covers, **login):
    def take(act):
        SCENARIOS[act.__name__.replace("_", " ")] = (covers.split(), act, login)
        return act
    return take


def clear(address, vhost):
    """What a scenario that failed has left."""
    t = Talk(address, vhost)
    for q in ("m.q", "m.two", "m.one", "m.last", "m.a", "m.b", "m.c", "m.dead", "m.ttl", "m.full", "m.quorum", "m.stream", "m.durable"):
        t.call(1, "queue.delete", queue=q)
    t.close()


def play(name, address, vhost, used=None, pace=1):
    """The transcript of one scenario. A second connection is made with `talk.other()`. `used` takes the methods that went and came."""
    _, act, login = SCENARIOS[name]
    made = []

    def connect(**more):
        made.append(Talk(address, vhost, pace, **{**login, **more}))
        return made[-1]
    try:
        first = connect()
        first.other = connect
        act(first)
        return [line for talk in made for line in ["-- connection", *talk.lines]]
    finally:
        for talk in made:
            if used is not None:
                used |= talk.used
            talk.close()


# ---------------------------------------------------------------------------------------------------- connection
@scenario("connection.start connection.start-ok connection.tune connection.tune-ok connection.open connection.open-ok "
          "connection.close connection.close-ok", login=False)
def a_connection_opens_and_closes(t):
    t.raw(HEADER)
    t.note(str(t.until("connection.start")))
    t.raw(method(0, "connection.start-ok", client_properties=CLIENT, mechanism="PLAIN", response="\0guest\0guest", locale="en_US"))
    t.until("connection.tune")
    t.send(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0)
    t.call(0, "connection.open", virtual_host=t.vhost)
    t.call(0, "connection.close", reply_code=200, reply_text="bye")
    # The socket is the client's to close: an end of file behind the close-ok is a fault to some clients (lapin, Go's).
    t.quiet(0.5)
    t.send(0, "connection.close", reply_code=200, reply_text="bye again")
    t.quiet(0.5)


@scenario("connection.start-ok", login=False)
def an_old_client_opens_with_its_header_and_amqplain(t):
    t.raw(b"AMQP\1\1\0\x09")
    t.until("connection.start")
    t.raw(method(0, "connection.start-ok", client_properties={"product": "old"}, mechanism="AMQPLAIN",
                 response=wire.table({"LOGIN": "guest", "PASSWORD": "guest"})[4:], locale="en_US"))
    t.until("connection.tune")
    t.send(0, "connection.tune-ok", channel_max=65535 & 2047, frame_max=4096, heartbeat=0)
    t.call(0, "connection.open", virtual_host=t.vhost)
    t.call(7, "channel.open")


@scenario("connection.secure-ok")
def secure_ok_is_out_of_order(t):
    t.send(0, "connection.secure-ok", response="x")
    t.refused()


@scenario("connection.close", login=False)
def a_wrong_password_is_told(t):
    t.raw(HEADER)
    t.until("connection.start")
    t.raw(method(0, "connection.start-ok", client_properties=CLIENT, mechanism="PLAIN", response="\0guest\0wrong", locale="en_US"))
    t.until("connection.close")
    t.send(0, "connection.close-ok")
    t.quiet(0.5)


@scenario("connection.update-secret connection.update-secret-ok")
def a_secret_is_updated(t):
    t.call(0, "connection.update-secret", new_secret="guest", reason="rotation")
    t.queue(exclusive=True)


@scenario("connection.close connection.close-ok")
def the_broker_closes_a_connection(t):
    t.send(1, "basic.qos", prefetch_size=1)
    t.refused()


# ---------------------------------------------------------------------------------------------------- channel
@scenario("channel.open channel.open-ok channel.close channel.close-ok")
def channels_open_close_and_open_again(t):
    for n in (2, 3, 2047):
        t.call(n, "channel.open")
    for n in (2, 1, 3):
        t.call(n, "channel.close", reply_code=200, reply_text="bye")
    t.call(2, "channel.open")
    t.call(2, "queue.declare", queue="m.q", exclusive=True)


@scenario("channel.close channel.close-ok")
def the_broker_closes_a_channel_and_its_number_lives_again(t):
    t.call(2, "channel.open")
    t.send(1, "queue.declare", queue="m.none", passive=True)
    t.refused()
    t.call(2, "queue.declare", queue="m.two", exclusive=True)
    t.call(1, "channel.open")
    t.call(1, "queue.declare", queue="m.two", passive=True)


@scenario("channel.flow channel.flow-ok")
def flow_on_is_answered(t):
    t.call(1, "channel.flow", active=True)


@scenario("channel.flow")
def flow_off_is_not_implemented(t):
    t.send(1, "channel.flow", active=False)
    t.refused()


@scenario("access.request access.request-ok")
def access_is_granted_as_ever(t):
    t.call(1, "access.request", realm="/data", read=True, write=True)


# ---------------------------------------------------------------------------------------------------- exchange
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


# ---------------------------------------------------------------------------------------------------- queue
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


# ---------------------------------------------------------------------------------------------------- basic
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


@scenario("basic.recover")
def recover_without_requeue_is_not_implemented(t):
    t.send(1, "basic.recover", requeue=False)
    t.refused()


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


# ---------------------------------------------------------------------------------------------------- more of queues and consumers
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


@scenario("basic.consume queue.delete", client={"product": "old"})
def who_does_not_know_a_cancel_is_told_none(t):
    t.queue()
    t.call(1, "basic.consume", queue="m.q", consumer_tag="t")
    t.other().call(1, "queue.delete", queue="m.q")
    t.quiet(0.5)
    t.call(1, "queue.declare", queue="m.again", exclusive=True)


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


# ---------------------------------------------------------------------------------------------------- confirm, tx
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


# Not scenarios of their own: they need an alarm at the broker, or a mechanism that asks back.
ELSEWHERE = {"connection.secure": "answers_test.py: start-ok: RABBIT-CR-DEMO (no other mechanism of RabbitMQ's sends it)",
             "connection.blocked": "methods_test.py::test_a_memory_alarm_is_told_and_its_end_too",
             "connection.unblocked": "methods_test.py::test_a_memory_alarm_is_told_and_its_end_too"}


# What RabbitMQ adds to the protocol without a method of its own, and where it is exercised.
FEATURES = {
    "alternate exchanges": ["an alternate exchange takes what is unroutable"],
    "bindings from exchange to exchange": ["exchanges bind to exchanges"],
    "internal exchanges": ["an internal exchange takes no publish"],
    "consumer cancel notification": ["a consumer is told that its queue is gone"],
    "consumer priorities": ["the consumer of higher priority is served first"],
    "consumer prefetch: per consumer, per channel": ["consume with qos per consumer and per channel"],
    "direct reply-to": ["direct reply to"],
    "sender-selected distribution (CC, BCC)": ["cc and bcc route to more queues"],
    "expiry, dead letters, length limits, reject-publish": ["dead letters expiry and limits are the brokers"],
    "queue arguments, untouched": ["queues of every kind"],
    "single active consumer": ["of two consumers one is active"],
    "quorum queues, their delivery limit": ["a quorum queue is as any other", "a quorum queue counts deliveries up to its limit"],
    "streams, from any offset": ["a stream is read from its first", "a stream is read from where it is asked"],
    "message priorities": ["the message of higher priority is first"],
    "no-wait": ["nothing is said to who does not wait"],
    "consumer_cancel_notify": ["a consumer is told that its queue is gone", "who does not know a cancel is told none"],
    "authentication_failure_close": ["a wrong password is told"],
    "connection.blocked": ["methods_test.py::test_a_memory_alarm_is_told_and_its_end_too",
                           "methods_test.py::test_who_does_not_know_of_alarms_is_told_none"],
}


def table():
    """{method: [scenario]} for every method of the specification."""
    out = {name: [] for name in wire.SPEC}
    for name, (covers, _, _) in SCENARIOS.items():
        for m in covers:
            out[m].append(name)
    for name, test in ELSEWHERE.items():
        out[name].append(test)
    return out


if __name__ == "__main__":
    print("| method | exercised by (`tests/suites/methods.py`) |\n|---|---|")
    for name, tests in table().items():
        print("| `%s` | %s |" % (name, "; ".join(tests) or "**nothing**"))
    print("\n| of RabbitMQ, without a method of its own | exercised by |\n|---|---|")
    for name, tests in FEATURES.items():
        print("| %s | %s |" % (name, "; ".join(tests)))
