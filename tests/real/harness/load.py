"""A producer of numbered bodies, and what must be there of it."""

import threading
import time

from .process import wait_for


def first_times(bodies):
    """In the order of their first arrival; duplicates are allowed after a link died."""
    return list(dict.fromkeys(bodies))


class Load(threading.Thread):
    """Publishes numbered bodies on one channel until told to stop; `sent` is how many went out without an error."""

    def __init__(self, client, queue, pause=0.001, size=0):
        super().__init__(daemon=True)
        self.client, self.queue, self.pause, self.filling = client, queue, pause, b" " * size
        self.sent, self.error, self.done = 0, None, threading.Event()

    def run(self):
        try:
            while not self.done.is_set():
                self.client.publish(self.queue, b"%d" % self.sent + self.filling, delivery_mode=2)
                self.sent += 1
                time.sleep(self.pause)
        except OSError as error:
            self.error = error

    def finish(self):
        self.done.set()
        self.join(20)
        assert self.error is None, f"the producer noticed: {self.error!r}"
        return self.sent


def all_there(node, vhost, queue, number, timeout=30):
    with node.client(vhost=vhost) as direct:
        wait_for(lambda: (direct.depth(queue) or 0) >= number, timeout, 0.1, what=lambda: f"{number} messages, {direct.depth(queue)} are there")
        time.sleep(0.3)
        bodies = [int(m.body) for m in direct.drain(queue)]
    assert first_times(bodies) == list(range(number))
    return len(bodies) - number
