"""A connection that writes down what it hears: the two sides of a scenario's comparison."""
import re
import time

import wire
from wire import Gone, Wire, message, method

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
