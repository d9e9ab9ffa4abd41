"""librabbitmq (the C client's Python binding, Celery's `librabbitmq://` and, up to Kombu 4, its `amqp://`): each step prints `name: what was seen`."""
from __future__ import print_function

import os
import re
import signal
import subprocess
import sys
import time

import librabbitmq

host, port, vhost = sys.argv[1], int(sys.argv[2]), sys.argv[3]
prefix = "s.lr."
q = prefix + "q"


def say(step, seen):
    print("%s: %s" % (step, seen))
    sys.stdout.flush()


def connect(**more):
    return librabbitmq.Connection(host=host, port=port, virtual_host=more.pop("vhost", vhost), **more)


def got(channel, queue=q, no_ack=True):
    """The next message; a publish may still be on its way."""
    for _ in range(100):
        message = channel.basic_get(queue, no_ack=no_ack)
        if message is not None:
            return message
        time.sleep(0.05)


def octets(message):
    """The body: text, a buffer or octets, as the binding finds it."""
    body = message.body
    return body.encode("utf-8") if isinstance(body, type(u"")) else bytes(body)


def seen(message):
    info = message.delivery_info
    return (octets(message), info["exchange"], info["routing_key"], bool(info["redelivered"]))


def refused(step, act):
    connection = connect()
    try:
        channel = connection.channel()
        act(channel)
        channel.queue_declare(q, passive=True)
        say(step, "accepted")
    except Exception as e:
        # The binding does not look at the answer to qos: what comes next finds the socket ended, by FIN or RST as the packets meet.
        gone = re.sub("a socket error occurred|connection closed unexpectedly", "the connection is gone", str(e))
        say(step, "%s %s" % (type(e).__name__, gone))
    finally:
        connection.close()


connection = connect()
say("server", "%s %s" % (connection.server_properties["product"], sorted(connection.server_properties["capabilities"])))
say("tuned", (connection.channel_max, connection.frame_max, connection.heartbeat))
channel = connection.channel()
for kind in ("direct", "fanout", "topic", "headers"):
    channel.exchange_declare(prefix + kind, kind)
    say("exchange " + kind, channel.exchange_declare(prefix + kind, kind, passive=True))
say("queue", tuple(channel.queue_declare(q, durable=True, arguments={"x-max-priority": 5, "x-expires": 60000})))
for kind, key, arguments in (("direct", "k", None), ("fanout", "", None), ("topic", "t.#", None), ("headers", "", {"x-match": "all", "h": 1})):
    channel.queue_bind(q, prefix + kind, key, arguments)
for kind, key, headers in (("direct", "k", {}), ("fanout", "any", {}), ("topic", "t.x", {}), ("headers", "", {"h": 1})):
    channel.basic_publish(kind, prefix + kind, key, headers=headers)
    say("by " + kind, seen(got(channel)))
server = channel.queue_declare("", exclusive=True).queue
say("server-named", server[:8])

full = dict(content_type="application/x", content_encoding="utf-8", delivery_mode=2, priority=3, correlation_id="corr", reply_to="reply",
            expiration="60000", message_id="id", timestamp=1234567, type="type", user_id="guest", app_id="app",
            headers={"s": "text", "i": 5, "l": 1 << 40, "neg": -7, "t": True, "f": 1.5, "list": [1, "a", {"in": [2]}], "table": {"x": {"y": 1}}})
channel.basic_publish(b"\x00\x7f\x01" * 1000, "", q, **full)
message = got(channel)
say("properties", (octets(message) == b"\x00\x7f\x01" * 1000, sorted(message.properties.items(), key=str)))
for size in (0, 1, 131063, 131064, 131065, 1 << 20):
    channel.basic_publish(b"\x7f" * size, "", q)
    say("body of %d" % size, octets(got(channel)) == b"\x7f" * size)
small = connect(frame_max=4096).channel()
for size in (4087, 4088, 4089, 1 << 17):
    small.basic_publish(b"s" * size, "", q)
    say("in small frames %d" % size, octets(got(small)) == b"s" * size)

# consume with qos, ack, reject, recover, cancel
for i in range(6):
    channel.basic_publish("m%d" % i, "", q)
consumer = connection.channel()
consumer.basic_qos(prefetch_count=2)
told = []


def on_message(message):
    told.append((octets(message), bool(message.delivery_info["redelivered"])))
    if len(told) == 2:
        consumer.basic_reject(message.delivery_info["delivery_tag"], requeue=True)
    else:
        message.ack()


say("consume", consumer.basic_consume(q, callback=on_message, consumer_tag="t"))
while len(told) < 7:
    connection.drain_events(timeout=5)
say("consumed", sorted(told))
consumer.basic_cancel("t")
for i in range(3):
    channel.basic_publish("r%d" % i, "", q)
held = [got(consumer, no_ack=False) for _ in range(3)]
consumer.basic_recover(True)
say("recovered", [seen(got(consumer)) for _ in held])
consumer.close()
channel.basic_publish("purged", "", q)
time.sleep(0.3)
say("purged", channel.queue_purge(q))

# what is refused
refused("404 queue", lambda c: c.queue_declare(prefix + "none", passive=True))
refused("404 exchange", lambda c: (c.basic_publish("x", prefix + "none", "k"), time.sleep(0.3)))
refused("406 inequivalent", lambda c: c.queue_declare(q, durable=False))
refused("403 reserved", lambda c: c.queue_declare("amq.mine"))
refused("405 exclusive", lambda c: c.queue_declare(server, exclusive=True))
refused("503 exchange type", lambda c: c.exchange_declare(prefix + "odd", "nonsense"))
refused("540 immediate", lambda c: (c.basic_publish("x", "", q, immediate=True), time.sleep(0.3)))
refused("540 prefetch size", lambda c: c.basic_qos(prefetch_size=1))
refused("406 unknown tag", lambda c: (c.basic_ack(99), time.sleep(0.3)))
for step, more in (("wrong password", {"password": "wrong"}), ("unknown vhost", {"vhost": "s.none"})):
    try:
        connect(**more)
        say(step, "accepted")
    except Exception as e:
        say(step, "%s %s" % (type(e).__name__, e))

# unacknowledged come back when the client dies
channel.basic_publish("orphan", "", q)
child = subprocess.Popen([sys.executable, "-c", """
import librabbitmq, sys, time
c = librabbitmq.Connection(host=sys.argv[1], port=int(sys.argv[2]), virtual_host=sys.argv[3]).channel()
while c.basic_get(sys.argv[4]) is None:
    time.sleep(0.05)
print("has it")
sys.stdout.flush()
time.sleep(60)
""", host, str(port), vhost, q], stdout=subprocess.PIPE)
child.stdout.readline()
os.kill(child.pid, signal.SIGKILL)
child.wait()
say("orphan returned", seen(got(channel)))

for kind in ("direct", "fanout", "topic", "headers"):
    channel.queue_unbind(q, prefix + kind, "t.#" if kind == "topic" else "k" if kind == "direct" else "")
    channel.exchange_delete(prefix + kind)
say("deleted", channel.queue_delete(q))
channel.close()
connection.close()

# Celery by it: a worker and a producer, with results over rpc. Solo, because billiard cannot send the binding's buffers to a child.
program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "celery_librabbitmq.py")
environment = dict(os.environ, SUITE_BROKER="librabbitmq://guest:guest@%s:%d/%s" % (host, port, vhost))
worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_librabbitmq", "worker", "-P", "solo", "-l", "ERROR"],
                          env=environment, cwd=os.path.dirname(program), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    subprocess.call([sys.executable, program], env=environment, stderr=subprocess.STDOUT)
finally:
    worker.terminate()
    say("worker ended", worker.wait())
