"""pika's other ways of life: its asynchronous connection and what it does when it is cut, callbacks from other threads, what it negotiates and
how it logs in. Each step prints `name: what was seen`."""
import sys
import threading
import time

import pika
import pika.exceptions as errors
from relay import Relay

host, port, vhost = sys.argv[1], int(sys.argv[2]), sys.argv[3]
prefix = "s.pikaloops."
q = prefix + "q"


def say(step, seen):
    print("%s: %s" % (step, seen), flush=True)


def parameters(**more):
    return pika.ConnectionParameters(**{"host": host, "port": port, "virtual_host": vhost, "heartbeat": 10, **more})


def error(e):
    # Whoever is hung up on without a word sees FIN or RST, as the packets meet.
    words = str(getattr(e, "args", ())[:2])
    return "%s %s" % (type(e).__name__, "the connection is gone" if "StreamLostError" in words else words)


# ------------------------------------------------------------------------------------------------ SelectConnection
class Consumer:
    """Consumes whatever comes and connects again when its connection has gone, as pika's own example does."""

    def __init__(self, port):
        self.port, self.seen, self.opened, self.told, self.stopping = port, [], 0, [], False
        self.connection = self.channel = None

    def run(self):
        while not self.stopping:
            self.connection = pika.SelectConnection(
                parameters(host="127.0.0.1", port=self.port),
                on_open_callback=self.on_open, on_open_error_callback=self.on_gone, on_close_callback=self.on_gone)
            self.connection.ioloop.start()

    def on_open(self, connection):
        self.opened += 1
        connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel):
        self.channel = channel
        channel.add_on_cancel_callback(lambda frame: self.told.append("cancelled"))
        channel.add_on_close_callback(lambda c, why: self.told.append(type(why).__name__))
        channel.queue_declare(q, durable=True, callback=lambda frame: channel.basic_qos(
            prefetch_count=10, callback=lambda frame: channel.basic_consume(q, self.on_message)))

    def on_message(self, channel, method, properties, body):
        self.seen.append(body)
        channel.basic_ack(method.delivery_tag)
        if body == b"last":
            self.stopping = True
            self.connection.close()

    def on_gone(self, connection, why):
        connection.ioloop.stop()


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


relay = Relay(host, port)
consumer = Consumer(relay.port)
running = threading.Thread(target=consumer.run)
running.start()
connection = pika.BlockingConnection(parameters())
channel = connection.channel()
channel.confirm_delivery()
say("opened", until(lambda: consumer.channel is not None and consumer.channel.consumer_tags))
for round_ in range(3):
    for i in range(20):
        channel.basic_publish("", q, b"%d.%d" % (round_, i))
    say("consumed in round %d" % round_, until(lambda: len(set(consumer.seen)) == 20 * (round_ + 1)))
    say("cut", relay.cut())
    say("opened again", until(lambda: consumer.opened == round_ + 2 and consumer.channel.consumer_tags))
channel.basic_publish("", q, b"last")
running.join(20)
say("ended", not running.is_alive())
say("told", sorted(consumer.told))
say("left", channel.queue_declare(q, passive=True).method.message_count)

# --------------------------------------------------------------------------------- BlockingConnection and its callbacks
called = []
connection.call_later(0.1, lambda: called.append("later"))
worker_seen = []


def on_message(ch, method, properties, body):
    """The work is done by another thread, which acknowledges through the connection's own."""
    def work():
        worker_seen.append(body)
        connection.add_callback_threadsafe(lambda: ch.basic_ack(method.delivery_tag))
    threading.Thread(target=work).start()


consuming = connection.channel()
consuming.basic_qos(prefetch_count=4)
tag = consuming.basic_consume(q, on_message)
publishing = [threading.Thread(target=lambda n=n: connection.add_callback_threadsafe(
    lambda: channel.basic_publish("", q, b"%d" % n, mandatory=True))) for n in range(30)]
for t in publishing:
    t.start()
end = time.monotonic() + 20
while len(worker_seen) < 30 and time.monotonic() < end:
    connection.process_data_events(0.1)
connection.process_data_events(0.2)
say("callbacks", (called, sorted(map(int, worker_seen)) == list(range(30))))
consuming.basic_cancel(tag)
consuming.stop_consuming()
say("unacknowledged", channel.queue_declare(q, passive=True).method.message_count)

# two consumers on one channel, one exclusive consumer, priorities
first, second = [], []
pair = connection.channel()
pair.basic_qos(prefetch_count=1)
a = pair.basic_consume(q, lambda c, m, p, b: (first.append(b), c.basic_ack(m.delivery_tag)), arguments={"x-priority": 5})
b = pair.basic_consume(q, lambda c, m, p, b: (second.append(b), c.basic_ack(m.delivery_tag)), arguments={"x-priority": 1})
for i in range(10):
    channel.basic_publish("", q, b"%d" % i)
end = time.monotonic() + 10
while len(first) + len(second) < 10 and time.monotonic() < end:
    connection.process_data_events(0.1)
say("all came to one of two", len(first) + len(second))
pair.close()
try:
    alone = connection.channel()
    alone.basic_consume(q, lambda *a: None, exclusive=True)
    connection.channel().basic_consume(q, lambda *a: None)
    say("a second beside an exclusive", "accepted")
except errors.ChannelClosedByBroker as e:
    say("a second beside an exclusive", (e.reply_code, e.reply_text))
alone.close()

# tx with acknowledgements in it, and recover without requeue
channel.basic_publish("", q, b"in tx")
tx = connection.channel()
tx.tx_select()
for _ in range(50):
    method, _, body = tx.basic_get(q)
    if method:
        break
    time.sleep(0.05)
tx.basic_ack(method.delivery_tag)
tx.basic_publish("", q, b"by tx")
tx.tx_rollback()
tx.basic_ack(method.delivery_tag)
tx.basic_publish("", q, b"by tx again")
tx.tx_commit()
say("tx", (body, [channel.basic_get(q, auto_ack=True)[2] for _ in range(2)]))
try:
    other = connection.channel()
    other.basic_recover(requeue=False)
    say("recover without requeue", "accepted")
except (errors.ChannelClosedByBroker, errors.ConnectionClosedByBroker) as e:
    say("recover without requeue", (type(e).__name__, e.reply_code, e.reply_text))
if not connection.is_open:
    connection = pika.BlockingConnection(parameters())
    channel = connection.channel()

# ------------------------------------------------------------------------------------------------------ negotiation
for asked in ({"frame_max": 4096}, {"channel_max": 1}, {"frame_max": 131072, "channel_max": 2047}, {"heartbeat": 0}, {"heartbeat": 1},
              {"heartbeat": lambda connection, offered: offered}):
    name = " ".join("%s %s" % (k, v if isinstance(v, int) else "as offered") for k, v in asked.items())
    try:
        one = pika.BlockingConnection(parameters(**asked))
        tuned = one._impl.params
        ch = one.channel()
        ch.confirm_delivery()
        body = bytes(range(256)) * 64
        ch.basic_publish("", q, body)
        got = ch.basic_get(q, auto_ack=True)[2]
        say(name, (tuned.frame_max, tuned.channel_max, tuned.heartbeat, got == body))
        if "channel_max" in asked and asked["channel_max"] == 1:
            try:
                one.channel()
                say("a second channel of one", "opened")
            except Exception as e:
                say("a second channel of one", error(e))
        one.close()
    except Exception as e:
        say(name, error(e))


class Amqplain(pika.credentials.PlainCredentials):
    TYPE = "AMQPLAIN"

    def response_for(self, start):
        if b"AMQPLAIN" not in start.mechanisms.split():
            return None, None
        pieces = []
        pika.data.encode_table(pieces, {"LOGIN": self.username, "PASSWORD": self.password})
        return "AMQPLAIN", b"".join(pieces)[4:]


pika.credentials.VALID_TYPES.append(Amqplain)
for name, credentials in (("PLAIN", pika.PlainCredentials("guest", "guest")), ("AMQPLAIN", Amqplain("guest", "guest")),
                          ("AMQPLAIN wrong", Amqplain("guest", "wrong")), ("EXTERNAL", pika.credentials.ExternalCredentials())):
    try:
        one = pika.BlockingConnection(parameters(credentials=credentials))
        say("login by " + name, one.channel().queue_declare(q, passive=True).method.message_count)
        one.close()
    except Exception as e:
        say("login by " + name, error(e))

# client properties: none of the capabilities, some, odd ones
for name, properties in (("no capabilities", {"capabilities": {}}), ("odd ones", {"capabilities": {"flying": True}, "x": [1, {"y": None}]}),
                         ("a long name", {"connection_name": "n" * 2000}), ("no close at login", {"capabilities": {"authentication_failure_close": False}})):
    for password in ("guest", "wrong"):
        try:
            one = pika.BlockingConnection(parameters(client_properties=properties, credentials=pika.PlainCredentials("guest", password)))
            say("%s %s" % (name, password), one.channel().queue_declare(q, passive=True).method.message_count)
            one.close()
        except Exception as e:
            say("%s %s" % (name, password), error(e))
connection.update_secret("guest", "a new one")
say("update-secret", connection.channel().queue_declare(q, passive=True).method.queue)
say("deleted", connection.channel().queue_delete(q).method.message_count)
connection.close()
