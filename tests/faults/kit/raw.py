"""A raw AMQP producer in a process of its own: publishes, journals what returned, takes `stop` on its standard input.

Run by kit/load.py with one JSON argument. As py-amqp does, it lets its kernel give up after a second of unread data.
"""

import json
import os
import random
import socket
import sys
import threading
import time
from itertools import takewhile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "real")]

from harness import wire  # noqa: E402
from kit import message  # noqa: E402

TCP_USER_TIMEOUT_MS = 1000  # py-amqp's own setting (amqp/transport.py, KNOWN_TCP_OPTS)


class Connection:
    """A login, its channels, and a thread that journals what comes back."""

    def __init__(self, order, journal):
        self.order, self.journal = order, journal
        self.client = wire.Client.open(tuple(order["address"]), user=order["user"], password=order["password"], vhost=order["vhost"],
                                       channel=False, timeout=order["open_timeout"], heartbeat=order["heartbeat"], frame_max=order["frame_max"])
        self.client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
        self.broken, self.parted = None, False
        self.sent = {channel: {} for channel in order["channels"]}
        self.tags = {channel: 0 for channel in order["channels"]}
        self.closed = threading.Event()
        for channel in order["channels"]:
            self.client.call(channel, "channel.open")
            if order["confirms"]:
                self.client.select_confirms(channel)
        self.client.socket.settimeout(None)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    @property
    def outstanding(self):
        return sum(map(len, self.sent.values())) if self.order["confirms"] else 0

    def publish(self, channel, n, queue, padding):
        stream = f"{self.order['name']}/{channel}".encode()
        if self.order["confirms"]:
            self.tags[channel] += 1
            self.sent[channel][self.tags[channel]] = n
        # py-amqp's write: it blocks until the kernel has taken everything.
        began = time.monotonic()
        self.client.publish(queue, message.body(stream, n, padding), exchange=self.order["exchange"], channel=channel,
                            mandatory=self.order["mandatory"], **message.properties(stream, n))
        self.journal(f"r {channel} {n} {int((time.monotonic() - began) * 1e6)}")

    def _read(self):
        try:
            while True:
                self._one(*self.client.next(timeout=1e9))
        except wire.Refused as refused:
            self.broken = refused
        except (OSError, EOFError, AssertionError) as error:
            self.broken = error
        self.closed.set()

    def _one(self, channel, name, what):
        if name == "basic.return":
            self.journal(f"t {channel} {what.headers['n']}")
        elif name in ("basic.ack", "basic.nack"):
            tag, sent = what["delivery_tag"], self.sent[channel]
            settled = list(takewhile(lambda t: t <= tag, list(sent))) if what["multiple"] else [tag]
            for t in settled:
                n = sent.pop(t, None)
                if n is None:
                    self.journal(f"e Settled a tag that is not outstanding: {t}")
                else:
                    self.journal(f"{'a' if name == 'basic.ack' else 'k'} {channel} {n}")
        elif name == "connection.close-ok":
            self.parted = True
            self.closed.set()

    def goodbye(self, how, patience):
        """`polite`: connection.close; `eof`: the socket is closed; `reset`. What went wrong, or None: only a close-ok says that all was read, and
        a kernel that gives its socket up now takes with it what the calls before had returned from."""
        end = time.monotonic() + patience
        while self.outstanding and not self.broken and time.monotonic() < end:
            time.sleep(0.01)
        if how == "reset":
            self.client.abort()
            return None
        wrong = self.broken
        if how == "polite" and not self.broken:
            try:
                self.client.send(0, "connection.close", code=200)
                self.closed.wait(10)
                wrong = None if self.parted else self.broken or TimeoutError("no close-ok in 10 s")
            except OSError as error:
                wrong = error
        self.client.close()
        return wrong


def main():
    order = json.loads(sys.argv[1])
    rng = random.Random(order["seed"])
    log = os.open(order["journal"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()

    def journal(line):
        os.write(log, line.encode() + b"\n")

    def failed(error):
        journal(f"e {type(error).__name__} {str(error)[:200]}".replace("\n", " "))

    numbers = {channel: 0 for channel in order["channels"]}
    connection, said_ready, count, due = None, False, 0, time.monotonic()
    while not stop.is_set() and (order["count"] is None or count < order["count"]):
        try:
            if connection is None or connection.broken:
                if connection:
                    failed(connection.broken)
                    connection.client.close()
                    if not order["reconnect"]:
                        break
                connection = Connection(order, journal)
            if not said_ready:
                said_ready = True
                print("ready", flush=True)
            while connection.outstanding >= order["window"] and not connection.broken and not stop.is_set():
                time.sleep(0.0005)
            if stop.is_set() or connection.broken:
                continue
            channel = order["channels"][count % len(order["channels"])]
            n = numbers[channel]
            numbers[channel] += 1
            count += 1
            low, high = order["size"]
            connection.publish(channel, n, order["queues"][n % len(order["queues"])], b"." * rng.randint(low, high))
        except (OSError, EOFError, wire.Refused, AssertionError) as error:
            failed(error)
            if connection:
                connection.client.close()
            connection = None
            if not order["reconnect"]:
                break
            time.sleep(0.1)
        if order["rate"]:
            due += 1 / order["rate"]
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            elif pause < -0.2:
                due = time.monotonic()  # what was missed is not caught up with in a burst
    if connection:
        wrong = connection.goodbye(order["goodbye"], order["patience"])
        if wrong:
            failed(wrong)
    print("done", flush=True)


if __name__ == "__main__":
    main()
