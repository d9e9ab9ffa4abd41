"""A producer of numbered bodies, and what must be there of it."""

import threading
import time

from .process import wait_at_least


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
        self.join(60)
        assert not self.is_alive(), "nobody takes what it publishes"
        assert self.error is None, f"the producer noticed: {self.error!r}"
        return self.sent

    def more(self, count):
        """Until so many more have gone out."""
        wait_at_least(lambda: self.sent, self.sent + count, what="what was published")


def collect(direct, queue, number, key, timeout=60):
    """What a queue holds, taken until so many different ones have come: the keys in order, duplicates too."""
    taken = []

    def different():
        taken.extend(key(message) for message in direct.drain(queue))
        return len(set(taken))

    wait_at_least(different, number, timeout, what=f"different ones in {queue}")
    return taken


def all_there(umbel, node, vhost, queue, number, timeout=60):
    """The bodies 0 to `number` are in the queue in that order, and no more of them twice than Umbel sent again."""
    umbel.wait_settled(number, timeout)
    with node.client(vhost=vhost) as direct:
        bodies = collect(direct, queue, number, lambda m: int(m.body))
    assert first_times(bodies) == list(range(number))
    twice, resent = len(bodies) - number, umbel.counters()["resent"]
    assert twice <= resent, f"{twice} came twice, {resent} were sent again"
