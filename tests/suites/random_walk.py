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
from random_steps import KINDS, QUEUES, Channel, Steps
from wire import Gone, Wire, method

VHOST = "suite"


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


class Walk(Steps):
    def __init__(self, address, seed, quiet):
        super().__init__(random.Random(seed))
        self.quiet = quiet
        self.connections = [Connection(address, name, self.random.choice((4096, 9000, 131072))) for name in ("one", "two")]
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
    # When x-death says that it died: which second that was.
    line = re.sub("(0474696d6554)[0-9a-f]{16}", r"\1…", line)
    return re.sub(r"amq\.ctag-[\w-]+", "amq.ctag-*", line)


def tidy(address, patience=20):
    """What an earlier walk left; its exclusive queues once the broker has noticed that their owner has gone."""
    for left in reversed(range(patience)):
        try:
            return delete_all(address)
        except AssertionError as refused:
            if "RESOURCE_LOCKED" not in str(refused) or not left:
                raise
            time.sleep(0.25)


def delete_all(address):
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
