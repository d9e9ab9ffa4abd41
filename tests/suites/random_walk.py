"""Walks through AMQP 0-9-1 by a seed: what a broker says to one must not depend on whether Umbel stands between.

A walk is two connections of three channels each that declare, bind, publish, get, consume, acknowledge, select and close whatever a
seeded generator thinks of, good and bad. After each step it waits until nothing more comes and writes down what came. What AMQP
leaves open is not compared: how confirms are grouped, what order two channels' frames have, what a channel confirms before it is closed.
Not walked through: what is meant to differ (stricter.py), and full queues that reject: what a producer without confirms sends to one goes
again, where the broker alone would drop it.

    python3 tests/suites/random_walk.py --seeds 1-200        # a broker and an Umbel of its own; prints the first step that differs
"""
import argparse
import random
import re
import select
import sys
import time
from pathlib import Path

import wire
from wire import Gone, Wire, method

VHOST = "suite"
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


class Connection:
    """One connection of a walk, and what it remembers of its channels."""

    def __init__(self, address, name, frame_max):
        self.address, self.name, self.frame_max, self.channels, self.wire = address, name, frame_max, {}, None
        self.open()

    def open(self):
        self.wire = Wire(self.address[1], self.address[0]).login(vhost=VHOST, frame_max=self.frame_max)
        self.channels = {}
        for number in (1, 2, 3):
            self.wire.channel(number)
            self.channels[number] = Channel()


class Walk:
    def __init__(self, address, seed, quiet):
        self.random = random.Random(seed)
        self.kind = self.random.choice(list(KINDS))
        self.quiet = quiet
        self.connections = [Connection(address, name, self.random.choice((4096, 9000, 131072))) for name in ("one", "two")]
        self.number = 0
        self.bodies = {}
        self.owed, self.asked = None, set()  # whose answer a step waits for; which of them is to a question of the walk's own

    def steps(self, count):
        """The transcript: a (step, what was heard) each."""
        names, weights = zip(*KINDS[self.kind].items())
        out = []
        for _ in range(count):
            connection = self.random.choice(self.connections)
            number = self.random.choice((1, 2, 3))
            channel = connection.channels.get(number)
            step = self.random.choices(names, weights)[0]
            if channel is None:
                step = "reopen"
            what, data = getattr(self, step)(connection, number, channel)
            self.owed = None
            self.asked.clear()
            if data:
                # Where the method has no answer of its own, a question behind it has.
                if step != "bad" and connection.channels.get(number) and not _answered(data):
                    data += method(number, "exchange.declare", exchange="amq.direct", type="direct", passive=True)
                    self.asked.add((connection, number))
                self.owed = (connection, number)
                connection.wire.send(data)
            out.append(("%s ch%d %s" % (connection.name, number, what), self.hear()))
        return out

    # ------------------------------------------------------------------ what comes back

    def hear(self):
        """Everything that the broker says until both are quiet, by connection and channel."""
        heard, confirms = {}, {}
        until, latest = time.monotonic() + self.quiet, time.monotonic() + 5
        while True:
            now = time.monotonic()
            if now >= until and (now >= latest or self.owed is None and not any(_awaits(c) for each in self.connections for c in each.channels.values())):
                break
            ready = [c for c in self.connections if len(c.wire.pending) > 7]
            if not ready:
                socks = {c.wire.sock: c for c in self.connections}
                ready = [socks[s] for s in select.select(list(socks), [], [], 0.01)[0]]
            for connection in ready:
                try:
                    self._take(connection, heard, confirms, *connection.wire.frame(2))
                except Gone:
                    self.owed = None
                    heard.setdefault((connection.name, 9), []).append("%s closed" % connection.name)
                    for key in [k for k in confirms if k[0] == connection.name]:
                        del confirms[key]
                    connection.open()
                until = time.monotonic() + self.quiet
        for (name, number), tags in confirms.items():
            heard.setdefault((name, number), []).append("%s ch%d confirmed %s" % (name, number, sorted(tags)))
        return [line for key in sorted(heard) for line in heard[key]]

    def _take(self, connection, heard, confirms, kind, number, data):
        channel = connection.channels.get(number)
        lines = heard.setdefault((connection.name, number), [])
        if kind == wire.METHOD:
            name, args = wire.parse(data)
            if name in ("basic.ack", "basic.nack") and channel:
                tag = args["delivery_tag"]
                tags = {n for n in range(1, tag + 1) if n not in channel.confirmed} if args["multiple"] else {tag}
                assert not tags & channel.confirmed, "confirmed twice: %s" % tags
                channel.confirmed |= tags
                confirms.setdefault((connection.name, number), set()).update((t, name) for t in tags)
                return
            if self.owed == (connection, number) and (name.endswith(("-ok", ".close")) or name == "basic.get-empty") or name in ("connection.close", "connection.close-ok"):
                self.owed = None
            if name == "exchange.declare-ok" and (connection, number) in self.asked:
                self.asked.discard((connection, number))
                return
            lines.append(clean("%s %s" % (connection.name, wire.sentence(kind, number, data))))
            if name in ("basic.deliver", "basic.get-ok") and channel:
                channel.unacked.append(args["delivery_tag"])
            if name == "channel.close":
                connection.wire.send(method(number, "channel.close-ok"))
                connection.channels.pop(number, None)
            if name in ("channel.close", "channel.close-ok"):
                confirms.pop((connection.name, number), None)
            if name == "connection.close":
                connection.wire.send(method(0, "connection.close-ok"))
            if name == "connection.close-ok":
                # The socket is the client's to close now.
                connection.wire.close()
                connection.open()
        elif kind == wire.BODY:
            # Where a body is cut is free, within what was agreed.
            assert len(data) <= connection.frame_max - 8, len(data)
            start = "%s ch%d body " % (connection.name, number)
            whole = (self.bodies.pop((connection, number), b"") if lines and lines[-1].startswith(start) else b"") + data
            if whole != data:
                lines.pop()
            self.bodies[connection, number] = whole
            lines.append("%s%d %r" % (start, len(whole), whole[:24]))
        elif kind != wire.HEARTBEAT:
            lines.append("%s %s" % (connection.name, wire.sentence(kind, number, data)))

    # ------------------------------------------------------------------ what is said

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


def _answered(data):
    """Whether the last of these frames is a method that is answered."""
    kind, at = None, 0
    while at < len(data):
        kind, size = data[at], int.from_bytes(data[at + 3:at + 7], "big")
        last, at = data[at + 7:at + 7 + size], at + size + 8
    if kind != wire.METHOD:
        return False
    name, args = wire.parse(last)
    return name + "-ok" in wire.SPEC and not args.get("nowait")


def _awaits(channel):
    return channel.confirming and len(channel.confirmed) < channel.published


def clean(line):
    line = re.sub(r"amq\.gen-[\w-]+", "amq.gen-*", line)
    return re.sub(r"amq\.ctag-[\w-]+", "amq.ctag-*", line)


def tidy(address):
    """What an earlier walk left."""
    with Wire(address[1], address[0]).login(vhost=VHOST) as w:
        w.channel(1)
        for queue in [*QUEUES, "w.missing"]:
            w.call(1, "queue.delete", queue=queue)
        for exchange in ("w.x", "w.y"):
            w.call(1, "exchange.delete", exchange=exchange)


def walk(address, seed, steps, quiet):
    it = Walk(address, seed, quiet)
    try:
        return it.kind, it.steps(steps)
    finally:
        for connection in it.connections:
            connection.wire.close()
        time.sleep(0.05)


def difference(direct, through):
    """The first step that differs, as text, with the steps before it; none where there is none."""
    for at, (one, other) in enumerate(zip(direct, through)):
        if one != other:
            before = "\n".join("    %s\n%s" % (what, "".join("        %s\n" % h for h in heard)) for what, heard in direct[max(0, at - 6):at])
            return "%s  step %d: %s\n    direct:  %s\n    through: %s%s" % (
                before, at, one[0], "\n             ".join(one[1]) or "-", "\n             ".join(other[1]) or "-", "" if one[0] == other[0] else "\n    (then said %s)" % other[0])
    return None


def compare(node, umbel, seed, steps):
    """None, or how a walk differs, when it does so at rest (a second after each step, for a busy machine) as well."""
    for pause in (0.03, 0.4, 1.2):
        said = []
        for address in (node, umbel):
            tidy(node)
            said.append(walk(address, seed, steps, pause))
        found = difference(said[0][1], said[1][1])
        if found is None:
            return None
        steps = 1 + next(i for i, (one, other) in enumerate(zip(said[0][1], said[1][1])) if one != other)
    return "seed %d (%s)\n%s" % (seed, said[0][0], found)


def main():
    here = Path(__file__).resolve().parent
    sys.path.insert(0, str(here.parent / "real"))
    from harness.rabbit4 import new_node
    from harness.umbel import Umbel
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", default="1-20")
    options.add_argument("--steps", type=int, default=120)
    options.add_argument("--work", type=Path, default=here.parent.parent / "target" / "suites" / "walk")
    options.add_argument("--durable", action="store_true", help="through an Umbel whose spool has everything first")
    given = options.parse_args()
    first, _, last = given.seeds.partition("-")
    node = new_node(given.work.resolve() / "rabbit").start()
    spool = given.work.resolve() / "spool"
    durable = {"upstream_options": 'tier = "durable"', "rules": '[spool]\npath = "%s"' % spool} if given.durable else {}
    wrong = 0
    try:
        node.add_vhost(VHOST)
        with Umbel(given.work.resolve() / "umbel", node.url(), **durable) as umbel:
            for seed in range(int(first), int(last or first) + 1):
                try:
                    found = compare(node.address, umbel.address, seed, given.steps)
                except Exception as why:  # noqa: BLE001  a seed that cannot be walked is one that differs
                    found = "seed %d: %r" % (seed, why)
                wrong += found is not None
                print(found or "seed %d: the same" % seed, flush=True)
    finally:
        node.remove()
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
