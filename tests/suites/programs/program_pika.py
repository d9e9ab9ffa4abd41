"""pika, widely: each step prints `name: what was seen`, the same whether straight to a broker or through Umbel."""
import subprocess
import sys
import time

import pika
import pika.exceptions as errors

host, port, vhost = sys.argv[1], int(sys.argv[2]), sys.argv[3]
params = pika.ConnectionParameters(host, port, vhost, heartbeat=5, client_properties={"connection_name": "suites-pika"})
prefix = "s.pika."


def say(step, seen):
    print("%s: %s" % (step, seen), flush=True)


def refused(step, act):
    """What closes the channel (or the connection), in the broker's words."""
    connection = pika.BlockingConnection(params)
    try:
        channel = connection.channel()
        act(channel)
        connection.process_data_events(0.2)
        say(step, "accepted")
    except (errors.ChannelClosedByBroker, errors.ConnectionClosedByBroker) as e:
        say(step, "%s %s %s" % (type(e).__name__, e.reply_code, e.reply_text))
    except Exception as e:
        say(step, repr(e))
    finally:
        if connection.is_open:
            connection.close()


connection = pika.BlockingConnection(params)
props = connection._impl.server_properties
say("server", "%s %s" % (props["product"], sorted(props["capabilities"])))
say("tuned", (connection._impl.params.channel_max, connection._impl.params.frame_max))
channel = connection.channel()
for kind in ("direct", "fanout", "topic", "headers"):
    name = prefix + kind
    channel.exchange_declare(name, kind, auto_delete=False)
    channel.exchange_declare(name, passive=True)
    say("exchange " + kind, "declared")
channel.exchange_declare(prefix + "alt", "direct", arguments={"alternate-exchange": prefix + "fanout"})
channel.exchange_declare(prefix + "internal", "fanout", internal=True)
channel.exchange_bind(prefix + "internal", prefix + "topic", "a.#")
q = channel.queue_declare(prefix + "q", durable=True, arguments={"x-max-priority": 5, "x-expires": 60000})
say("queue", (q.method.queue, q.method.message_count, q.method.consumer_count))
channel.queue_purge(prefix + "q")
for x, key, args in (("direct", "k", None), ("fanout", "", None), ("topic", "t.*", None), ("internal", "", None),
                     ("headers", "", {"x-match": "all", "h": 1})):
    channel.queue_bind(prefix + "q", prefix + x, key, args)
server = channel.queue_declare("", exclusive=True).method.queue
say("server-named", server.startswith("amq.gen-"))
channel.queue_bind(server, prefix + "fanout")

# publish by every road, read back with get
for x, key, head in (("direct", "k", None), ("fanout", "any", None), ("topic", "t.x", None), ("topic", "a.b", None),
                     ("headers", "", {"h": 1}), ("alt", "nowhere", None)):
    channel.basic_publish(prefix + x, key, b"by " + x.encode(), pika.BasicProperties(headers=head, delivery_mode=2))
channel.basic_publish("", prefix + "q", b"default")
time.sleep(0.3)
got = []
while True:
    method, properties, body = channel.basic_get(prefix + "q", auto_ack=False)
    if method is None:
        break
    got.append((body, method.exchange, method.routing_key, method.redelivered, properties.headers))
    channel.basic_ack(method.delivery_tag)
say("get", got)
say("server-named purged", channel.queue_purge(server).method.message_count)

# every property and field type
import datetime
import decimal
full = pika.BasicProperties(
    "application/x", "utf-8", {"s": "text", "b": b"\xff\x00", "i": 5, "l": 1 << 40, "neg": -7, "t": True, "none": None,
                               "list": [1, "a", {"in": [None]}], "table": {"x": {"y": {}}}, "big": 1 << 62,
                               "when": datetime.datetime(2020, 1, 1), "dec": decimal.Decimal("1.25")},
    2, 3, "corr", "reply", "60000", "id", 1234567, "type", "guest", "app", "cluster")
channel.basic_publish("", prefix + "q", b"\x00\xce\x01" * 1000, full)
time.sleep(0.1)
method, properties, body = channel.basic_get(prefix + "q", auto_ack=True)
say("properties", (body == b"\x00\xce\x01" * 1000, {k: (sorted(v.items(), key=str) if isinstance(v, dict) else v)
                                                    for k, v in sorted(vars(properties).items())}))
for size in (0, 1, 131063, 131064, 131065, 1 << 20):
    data = bytes(size)
    channel.basic_publish("", prefix + "q", data)
    time.sleep(0.1)
    for _ in range(50):
        method, _, body = channel.basic_get(prefix + "q", auto_ack=True)
        if method:
            break
        time.sleep(0.05)
    say("body of %d" % size, body == data)

# priorities: the highest first
for p in (0, 5, 3, 1):
    channel.basic_publish("", prefix + "q", str(p).encode(), pika.BasicProperties(priority=p))
time.sleep(0.3)
say("priorities", [channel.basic_get(prefix + "q", auto_ack=True)[2] for _ in range(4)])

# consume, ack, nack, reject, recover, cancel
for i in range(6):
    channel.basic_publish("", prefix + "q", b"m%d" % i)
consumer = connection.channel()
consumer.basic_qos(prefetch_count=2)
seen = []
for method, _, body in consumer.consume(prefix + "q", inactivity_timeout=3):
    if method is None:
        seen.append("nothing")
        break
    # Not the tags: whether what was rejected or the next message comes first hangs on the microseconds between the reject and
    # the ack behind it (the queue's process takes acks before requeues when both wait), with or without a proxy.
    seen.append((body, method.redelivered))
    n = len(seen)
    if n == 1:
        consumer.basic_nack(method.delivery_tag, requeue=False)
    elif n == 2:
        consumer.basic_reject(method.delivery_tag, requeue=True)
    else:
        consumer.basic_ack(method.delivery_tag)
    if n == 7:
        break
say("consumed", sorted(map(str, seen)))
say("cancelled", consumer.cancel())
for i in range(3):
    channel.basic_publish("", prefix + "q", b"r%d" % i)
time.sleep(0.2)
tags = [consumer.basic_get(prefix + "q")[0].delivery_tag for _ in range(3)]
say("get tags", len(tags))
consumer.basic_recover(requeue=True)
time.sleep(0.2)
say("recovered", [(lambda m: (m[2], m[0].redelivered))(consumer.basic_get(prefix + "q", auto_ack=True)) for _ in range(3)])

# consumer cancel notification
doomed = channel.queue_declare(prefix + "doomed", auto_delete=True).method.queue
told = []
consumer.add_on_cancel_callback(lambda frame: told.append("cancelled"))
consumer.basic_consume(doomed, lambda *a: None)
channel.queue_delete(doomed)
for _ in range(50):
    # It returns with the first event, which need not be this one.
    connection.process_data_events(0.1)
    if told:
        break
say("cancel notification", told)

# confirms and returns
sure = connection.channel()
sure.confirm_delivery()
sure.basic_publish("", prefix + "q", b"sure", mandatory=True)
say("confirmed", "yes")
try:
    sure.basic_publish("", prefix + "nowhere", b"lost", mandatory=True)
    say("unroutable", "accepted")
except errors.UnroutableError as e:
    say("unroutable", [(m.method.reply_code, m.method.reply_text, m.body) for m in e.messages])
limited = channel.queue_declare(prefix + "limited", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}).method.queue
channel.queue_purge(limited)
sure.basic_publish("", limited, b"1")
try:
    sure.basic_publish("", limited, b"2")
    say("nacked", "no")
except errors.NackError:
    say("nacked", "yes")
channel.queue_delete(limited)
channel.queue_purge(prefix + "q")

# tx
tx = connection.channel()
tx.tx_select()
tx.basic_publish("", prefix + "q", b"rolled back")
tx.tx_rollback()
tx.basic_publish("", prefix + "q", b"committed")
before = channel.queue_declare(prefix + "q", passive=True).method.message_count
tx.tx_commit()
say("tx", (before, channel.basic_get(prefix + "q", auto_ack=True)[2], channel.basic_get(prefix + "q")[0]))

# direct reply-to
answers = []
rpc = connection.channel()
rpc.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, b: answers.append(b), auto_ack=True)
rpc.basic_publish("", prefix + "q", b"question", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
connection.process_data_events(0.3)
method, properties, body = channel.basic_get(prefix + "q", auto_ack=True)
channel.basic_publish("", properties.reply_to, b"answer to " + body)
connection.process_data_events(0.5)
say("direct reply-to", (properties.reply_to.startswith("amq.rabbitmq.reply-to."), answers))

# exclusive: of this connection, gone with it
other = pika.BlockingConnection(params)
mine = other.channel().queue_declare(prefix + "mine", exclusive=True).method.queue
refused("exclusive of another", lambda c: c.queue_declare(mine, exclusive=True))
other.close()
refused("exclusive gone", lambda c: c.queue_declare(mine, passive=True))

# unacknowledged come back when the client dies
channel.basic_publish("", prefix + "q", b"orphan")
time.sleep(0.2)
subprocess.run([sys.executable, "-c", """
import os, pika, sys
c = pika.BlockingConnection(pika.ConnectionParameters(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
assert c.channel().basic_get(sys.argv[4])[0]
os.kill(os.getpid(), 9)
""", *sys.argv[1:4], prefix + "q"])
for _ in range(40):
    method, _, body = channel.basic_get(prefix + "q", auto_ack=True)
    if method:
        break
    time.sleep(0.05)
say("orphan returned", (body, method and method.redelivered))

# what is refused
refused("404 exchange", lambda c: (c.basic_publish(prefix + "none", "", b""), c.connection.process_data_events(0.3),
                                   c.queue_declare(prefix + "q", passive=True)))
refused("404 queue", lambda c: c.queue_declare(prefix + "none", passive=True))
refused("406 inequivalent", lambda c: c.queue_declare(prefix + "q", durable=True))
refused("403 reserved", lambda c: c.queue_declare("amq.mine"))
refused("503 exchange type", lambda c: c.exchange_declare(prefix + "odd", "nonsense"))
refused("406 unknown tag", lambda c: (c.basic_ack(99), c.connection.process_data_events(0.3), c.queue_declare(prefix + "q", passive=True)))
refused("540 prefetch size", lambda c: c.basic_qos(prefetch_size=10))
refused("530 tag reuse", lambda c: (c.basic_consume(prefix + "q", lambda *a: None, consumer_tag="t"),
                                                c._impl._consumers.clear(), c._consumer_infos.clear(),
                                                c.basic_consume(prefix + "q", lambda *a: None, consumer_tag="t")))
for user, place in (("wrong", vhost), ("guest", "s.none")):
    try:
        pika.BlockingConnection(pika.ConnectionParameters(host, port, place, pika.PlainCredentials(user, "guest")))
        say("login %s %s" % (user, place), "accepted")
    except Exception as e:
        say("login %s %s" % (user, place), repr(e)[:300])

# idle longer than two heartbeats of five seconds: this one, which has consumed; one that has only published; one that waits for messages;
# and one that is mute, which must be let go
only_published, waits, mute = (pika.BlockingConnection(params) for _ in range(3))
sender = only_published.channel()
sender.confirm_delivery()
sender.basic_publish("", prefix + "nowhere", b"before")
waited = []
waits.channel().basic_consume(prefix + "q", lambda c, m, p, b: waited.append(b), auto_ack=True)
mute.channel().queue_declare(prefix + "q", passive=True)
began = time.monotonic()
while time.monotonic() - began < 17:
    for idle in (connection, only_published, waits):
        idle.process_data_events(0.3)
say("idle at heartbeat 5", (connection.is_open, only_published.is_open, waits.is_open))
sender.basic_publish("", prefix + "q", b"after")
for _ in range(50):
    if waited:
        break
    waits.process_data_events(0.1)
say("used again", waited)
try:
    mute.channel()
    say("mute at heartbeat 5", "lives")
except Exception as e:
    say("mute at heartbeat 5", "is let go: %s" % isinstance(e, errors.AMQPConnectionError))
only_published.close()
waits.close()
channel.queue_delete(prefix + "q")
for kind in ("direct", "fanout", "topic", "headers", "alt", "internal"):
    channel.exchange_delete(prefix + kind)
connection.close()
say("closed", connection.is_closed)
