"""Umbels on one spool, one after the other, before a relay to the broker that can be cut."""

import subprocess

from .process import wait_at_least, wait_equal
from .umbel import BINARY

N = 300
# Quick to notice an outage and its end; twenty messages in memory, then the spool.
OPTIONS = """\
window_messages = 20
heartbeat = "2s"
connect_timeout = "2s"
[upstreams.default.retry]
interval_start = "0s"
interval_step = "100ms"
interval_max = "300ms"
"""


class Spooled:
    """Umbels, one after the other, on one spool, before a relay to the broker that can be cut."""

    def __init__(self, make_umbel, relay, node, vhost, place):
        self.make_umbel, self.relay, self.node, self.vhost, self.path = make_umbel, relay, node, vhost, place / "spool"
        self.number = 0

    def umbel(self, options="", login=True, spool="", rules="", ready=True):
        """`login`: the upstream's url names one, so that replay waits for nobody."""
        self.number += 1
        url = self.relay.url() if login else f"amqp://127.0.0.1:{self.relay.port}"
        umbel = self.make_umbel(url, f'[spool]\npath = "{self.path}"\n{spool}\n{rules}', upstream_options=options + OPTIONS,
                                name=f"umbel{self.number}", start=False)
        return umbel.start(ready=ready)

    def client(self, umbel, **options):
        return umbel.client(vhost=self.vhost, **options)

    def outage(self):
        self.relay.cut()

    def over(self):
        self.relay.heal()

    def arrived(self, queue="q"):
        with self.node.client(vhost=self.vhost) as client:
            return [int(message.body) for message in client.drain(queue)]

    def command(self, *arguments, timeout=60):
        return subprocess.run([str(BINARY), "spool", "--path", str(self.path), *map(str, arguments)],
                              capture_output=True, text=True, timeout=timeout)


def publish_all(client, first=0, count=N, queue="q"):
    for n in range(first, first + count):
        client.publish(queue, b"%d" % n, delivery_mode=2)


def waiting(umbel):
    return umbel.status()["spool"]["messages"]


def settle(umbel, accepted=0, timeout=60):
    """Until so many have been read in this life, and all of them, and what was on disk, are with the broker."""
    def left():
        status = umbel.status()
        return max(0, accepted - status["counters"]["accepted"]), status["counters"]["in_flight"], status["spool"]["messages"]

    wait_equal(left, (0, 0, 0), timeout, 0.1, "unread, unconfirmed and on disk")


def wait_waiting(umbel, number, **options):
    """Until so many are on disk."""
    wait_at_least(lambda: waiting(umbel), number, what="messages on disk", **options)


def in_order(bodies):
    """The first time of each; after a link died with unconfirmed publishes there may be others."""
    firsts = list(dict.fromkeys(bodies))
    assert firsts == sorted(firsts), f"out of order: {firsts[:40]}"
    return firsts
