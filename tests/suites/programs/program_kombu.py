"""Kombu as applications use it: ensure, retries and revival after a cut, heartbeats, pools, mixins, SimpleQueue, its ways to log in. Each step
prints `name: what was seen`."""
import logging
import socket
import sys
import threading
import time

import kombu
from kombu import Connection, Consumer, Exchange, Producer, Queue, pools
from kombu.common import Broadcast
from kombu.mixins import ConsumerMixin, ConsumerProducerMixin
from relay import Relay

host, port, vhost = sys.argv[1], int(sys.argv[2]), sys.argv[3]
prefix = "s.kombu."
relay = Relay(host, port)
# How many deliveries a closing channel has thrown away is a race's.
logging.getLogger("amqp").setLevel(logging.CRITICAL)


def say(step, seen):
    print("%s: %s" % (step, seen), flush=True)


def connect(port=port, **more):
    return Connection(hostname=more.pop("hostname", host), port=port, userid="guest", password=more.pop("password", "guest"),
                      virtual_host=vhost, transport="pyamqp", **more)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def drain(connection, done, seconds=10):
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        try:
            connection.drain_events(timeout=0.5)
        except socket.timeout:
            pass
    return bool(done())


exchange = Exchange(prefix + "x", "topic", durable=True)
queue = Queue(prefix + "q", exchange, "a.#", durable=True, expires=120, max_length=1000, message_ttl=60, max_priority=5)

# ------------------------------------------------------------------------------------- publish with retries across a cut
errors = []
with connect(relay.port, hostname="127.0.0.1") as connection:
    say("transport", (connection.transport.driver_name, connection.connected, bool(connection.ensure_connection(max_retries=3)), connection.connected))
    producer = Producer(connection.channel(), exchange, auto_declare=True, on_return=lambda *a: errors.append(a[1]))
    policy = {"max_retries": 10, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.5,
              "errback": lambda exc, interval: None}
    for i in range(5):
        producer.publish({"n": i}, routing_key="a.%d" % i, declare=[queue], retry=True, retry_policy=policy, priority=i)
        if i in (1, 3):
            time.sleep(0.3)  # what has been written arrives; what is cut with it may come twice, or not at all, directly as well
            relay.cut()
    bound = queue(connection.default_channel)
    got = []
    until(lambda: bound.queue_declare(passive=True).message_count >= 4, 10)
    while message := bound.get():
        got.append(message.payload["n"])
        message.ack()
    say("published across cuts", sorted(got))

    calls = []

    def declared(channel):
        calls.append(channel.connection.connected)
        if len(calls) == 1:
            relay.cut()
            time.sleep(0.1)
        return bound.bind(channel).queue_declare(passive=True).message_count

    say("autoretry", (connection.autoretry(declared, max_retries=5)()[0], len(calls)))
    revived = []
    ensured = connection.ensure(producer, producer.publish, max_retries=5, on_revive=lambda channel: revived.append(1))
    relay.cut()
    time.sleep(0.1)
    ensured({"n": "ensured"}, routing_key="a.e")
    ensured({"n": "ensured"}, routing_key="a.e")
    reader = queue(connection.channel())
    say("ensured", until(lambda: reader.get(no_ack=True) is not None))
    producer.publish({}, routing_key="nowhere", mandatory=True)
    drain(connection, lambda: errors, 3)
    say("returned", errors)

# -------------------------------------------------------------------------------------------------------- heartbeats
with connect(heartbeat=2) as connection:
    connection.connect()
    say("heartbeat", (connection.get_heartbeat_interval(), connection.supports_heartbeats))
    consumer = Consumer(connection, [queue], callbacks=[lambda body, message: message.ack()])
    consumer.consume()
    end = time.monotonic() + 7
    while time.monotonic() < end:
        connection.heartbeat_check(rate=2)
        try:
            connection.drain_events(timeout=0.5)
        except socket.timeout:
            pass
    consumer.recover(requeue=True)
    say("lives on checks", connection.connected)
    consumer.cancel()
with connect(heartbeat=1) as connection:
    channel = connection.channel()
    channel.basic_qos(0, 1, False)
    time.sleep(4)
    try:
        for _ in range(3):
            connection.heartbeat_check(rate=2)
            connection.drain_events(timeout=1)
        say("mute", "lives")
    except Exception as e:
        say("mute", isinstance(e, connection.connection_errors))

# ---------------------------------------------------------------------------------------------------- pools and simple
with connect() as connection:
    with pools.producers[connection].acquire(block=True, timeout=5) as producer:
        producer.publish({"pooled": 1}, exchange=exchange, routing_key="a.b", serializer="json", compression="zlib", declare=[exchange, queue])
    with pools.connections[connection].acquire(block=True) as other:
        say("pooled", until(lambda: (m := queue(other.default_channel).get(no_ack=True)) is not None and m.payload == {"pooled": 1}))
    pools.reset()
    simple = connection.SimpleQueue(prefix + "simple")
    simple.clear()
    simple.put({"hello": "simple"}, serializer="yaml")
    simple.put("text", headers={"h": 1})
    kombu.enable_insecure_serializers(["yaml"])
    message = simple.get(block=True, timeout=5)
    message.requeue()
    try:
        seen = [simple.get(block=True, timeout=5) for _ in range(2)]
        say("simple", sorted(str(m.payload) for m in seen))
        for m in seen:
            m.ack()
        simple.get(block=True, timeout=0.5)
    except simple.Empty:
        say("simple empty", "Empty")
    simple.clear()
    simple.close()

    # a fanout to two of them, each with its own server-named queue
    broadcast = Broadcast(prefix + "b")
    heard = []
    channels = [connection.channel() for _ in range(2)]
    readers = [Consumer(c, [Broadcast(prefix + "b")], callbacks=[lambda b, m: (heard.append(b), m.ack())], accept=["json"]) for c in channels]
    for reader in readers:
        reader.consume()
    Producer(connection).publish({"to": "all"}, exchange=broadcast.exchange, routing_key="")
    drain(connection, lambda: len(heard) == 2)
    say("broadcast", heard)
    for c in channels:
        c.close()


# ----------------------------------------------------------------------------------------------- mixins across a cut
class Server(ConsumerProducerMixin):
    def __init__(self, connection):
        self.connection, self.served = connection, []

    def get_consumers(self, Consumer, channel):
        return [Consumer([Queue(prefix + "rpc", durable=True)], on_message=self.on_request, prefetch_count=1, accept=["json"])]

    def on_request(self, message):
        self.served.append(message.payload)
        self.producer.publish({"answer": message.payload}, exchange="", routing_key=message.properties["reply_to"],
                              correlation_id=message.properties["correlation_id"], retry=True)
        message.ack()


class Listener(ConsumerMixin):
    def __init__(self, connection, queues):
        self.connection, self.queues, self.seen, self.ready = connection, queues, [], 0

    def on_consume_ready(self, connection, channel, consumers, **kwargs):
        self.ready += 1

    def get_consumers(self, Consumer, channel):
        return [Consumer(self.queues, callbacks=[lambda body, m: (self.seen.append(body), m.ack())], accept=["json"])]


server = Server(connect(relay.port, hostname="127.0.0.1"))
listener = Listener(connect(relay.port, hostname="127.0.0.1"), [queue])
threads = [threading.Thread(target=m.run, daemon=True) for m in (server, listener)]
for t in threads:
    t.start()
until(lambda: listener.ready == 1)
with connect() as connection:
    for round_ in range(2):
        replies = Queue("", exclusive=True, auto_delete=True)(connection.channel())
        replies.declare()
        answers = []
        with Consumer(connection, [replies], auto_declare=False, callbacks=[lambda body, m: answers.append(body)], no_ack=True):
            Producer(connection).publish({"q": round_}, exchange="", routing_key=prefix + "rpc", reply_to=replies.name, correlation_id="c",
                                         declare=[Queue(prefix + "rpc", durable=True)])
            drain(connection, lambda: answers)
        say("rpc", answers)
        Producer(connection).publish({"r": round_}, exchange=exchange, routing_key="a.r")
        say("listened", until(lambda: {"r": round_} in listener.seen))
        if round_ == 0:
            say("cut", relay.cut())
            say("ready again", until(lambda: listener.ready == 2))
for m in (server, listener):
    m.should_stop = True
for t in threads:
    t.join(10)

# --------------------------------------------------------------------------------------------------------- logging in
for method in ("PLAIN", "AMQPLAIN", "EXTERNAL", None):
    for password in ("guest", "wrong"):
        try:
            with connect(login_method=method, password=password) as connection:
                connection.connect()
                say("login %s %s" % (method, password), connection.connected)
        except Exception as e:
            say("login %s %s" % (method, password), "%s %s" % (type(e).__name__, str(e)[:120]))
for options in ({"frame_max": 4096}, {"frame_max": 0}, {"channel_max": 1}, {"confirm_publish": True}, {"client_properties": {"connection_name": "k"}},
                {"read_timeout": 5, "write_timeout": 5}, {"max_retries": 1}):
    try:
        with connect(transport_options=options) as connection:
            amqp = connection.connection
            Producer(connection).publish({"o": list(range(3000))}, exchange=exchange, routing_key="a.o")
            ok = until(lambda: (m := queue(connection.default_channel).get(no_ack=True)) is not None and len(m.payload["o"]) == 3000)
            say("options %s" % " ".join(options), (amqp.frame_max, amqp.channel_max, ok))
    except Exception as e:
        say("options %s" % " ".join(options), "%s %s" % (type(e).__name__, str(e)[:160]))

# ---------------------------------------------------------------------------------------------------------- the end
with connect() as connection:
    channel = connection.channel()
    try:
        Queue(prefix + "q", exchange, "a.#", durable=False)(channel).declare()
    except Exception as e:
        say("inequivalent", "%s %s" % (type(e).__name__, str(e)[:200]))
    channel = connection.channel()
    for name in ("q", "rpc", "simple"):
        say("deleted " + name, channel.queue_delete(prefix + name))
    for name in (prefix + "x", prefix + "b", prefix + "simple"):
        try:
            channel.exchange_delete(name)
        except Exception as e:
            say("deleted " + name, str(e)[:100])
            channel = connection.channel()
