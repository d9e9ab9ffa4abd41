"""Who is beside a hostile client: somebody decent on the same credentials and vhost, and the proxy's own memory."""
import json
import re
import threading
import time
from pathlib import Path

import wire
from harness.process import wait_for


class Bystander:
    """Publishes with confirms and consumes, all the time; remembers its slowest round trip and whatever went wrong.

    `control`: the broker's own address, where another does the same. What that one waits for is the machine's doing and not Umbel's.
    """

    def __init__(self, address, vhost="/", control=None):
        self.control = Bystander(control, vhost) if control else None
        self.wire = wire.Wire(address[1], timeout=60).login(vhost=vhost)
        self.wire.channel(1)
        self.wire.channel(2)
        self.wire.call(1, "confirm.select")
        self.queue = self.wire.call(2, "queue.declare", exclusive=True)["queue"]
        self.wire.call(2, "basic.consume", queue=self.queue, no_ack=True)
        self.slowest, self.rounds, self.wrong, self.over = 0.0, 0, None, threading.Event()
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()

    def live(self):
        try:
            while not self.over.is_set():
                began = time.monotonic()
                data = b"%d" % self.rounds
                self.wire.send(wire.message(1, data, routing_key=self.queue))
                seen = set()
                while len(seen) < 2:
                    kind, _, payload = self.wire.frame(60)
                    if kind == wire.METHOD:
                        name = wire.parse(payload)[0]
                        if name == "basic.ack":
                            seen.add("ack")
                        elif name != "basic.deliver":
                            raise AssertionError("got %s" % name)
                    elif kind == wire.BODY:
                        assert payload == data, (payload, data)
                        seen.add("message")
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.rounds += 1
                time.sleep(0.01)
        except BaseException as e:  # the test reads it
            self.wrong = repr(e)

    def end(self):
        self.over.set()
        self.thread.join(90)
        self.wire.close()
        if self.control:
            self.control.end()

    def allowed(self, within):
        """Seconds that a round trip may take: so many, and what the machine adds to the ways to Umbel, to the broker and back."""
        return within + 3 * (self.control.slowest if self.control else 0)

    def unharmed(self, within=1.0):
        """It ends, never having been disturbed: a link that died under it would have sent it a message twice."""
        wait_for(lambda: self.wrong or self.rounds > 5, what="its rounds")
        self.end()
        assert self.wrong is None
        assert self.slowest < self.allowed(within), "its slowest round trip was %.2f s, %.2f allowed" % (self.slowest, self.allowed(within))


class Publisher:
    """Somebody decent who only publishes, with confirms, and so shares a link with whoever else only publishes and declares."""

    def __init__(self, address, vhost="/"):
        self.wire = wire.Wire(address[1], timeout=60).login(vhost=vhost)
        self.wire.channel(1)
        self.wire.call(1, "confirm.select")
        self.slowest, self.rounds, self.wrong, self.over = 0.0, 0, None, threading.Event()
        self.round()
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()

    def round(self):
        began = time.monotonic()
        self.wire.send(wire.message(1, b"x", routing_key="h.unheard"))
        tag = self.wire.expect("basic.ack", 60)["delivery_tag"]
        self.rounds += 1
        assert tag == self.rounds
        self.slowest = max(self.slowest, time.monotonic() - began)

    def live(self):
        try:
            while not self.over.wait(0.01):
                self.round()
        except BaseException as e:  # the test reads it
            self.wrong = repr(e)

    def end(self):
        self.over.set()
        self.thread.join(90)
        self.wire.close()


def shared_links(proxy):
    """The links that nobody has to himself, by the port that each comes from."""
    status = json.loads(proxy.get("/status")[1])
    links = [link for upstream in status["upstreams"] for link in upstream["links"]]
    return {link["from"] for link in links if link["pinned_by"] is None and link["state"] == "open"}


def resident(pid):
    text = Path("/proc/%d/status" % pid).read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


class Memory:
    """The highest resident size, sampled."""

    def __init__(self, proxy):
        self.pid = getattr(proxy.process, "popen", proxy.process).pid
        self.first = resident(self.pid)
        self.peak, self.over = self.first, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.over.wait(0.05):
            self.peak = max(self.peak, resident(self.pid))

    def end(self):
        self.over.set()
        self.thread.join()
