"""SIGTERM: an Umbel that ends says so, keeps reading, and loses nothing (SPEC D7)."""

import socket
import time

import pytest

from harness.celery import Producer
from harness.load import collect
from harness.process import wait_at_least
from harness.wire import METHOD, Refused, read_method


def arrived(node, vhost):
    """The numbers in the queue: what an Umbel that has ended well had is with the broker."""
    with node.client(vhost=vhost) as direct:
        return [int(m.body) for m in direct.drain("q")]


def test_sigterm_ends_a_quiet_umbel_with_0(make_umbel, node):
    umbel = make_umbel(node.url())
    with umbel.client() as client:
        began = time.monotonic()
        umbel.process.signal(15)
        with pytest.raises(Refused, match="320"):
            client.next()
    assert umbel.process.wait(30) == 0
    assert time.monotonic() - began < 20, "the drain's deadline is longer"


def test_sigterm_under_load_loses_nothing(make_umbel, node, vhost):
    """It says 320 and keeps reading until our end of stream (D7): what was sent meanwhile arrives too."""
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        for i in range(500):
            client.publish("q", b"%d" % i, delivery_mode=2)
        umbel.process.signal(15)
        with pytest.raises(Refused) as told:
            client.next()
        assert (told.value.scope, told.value.code) == ("connection", 320)
        assert umbel.process.wait(60) == 0
        assert arrived(node, vhost) == list(range(500))


def test_publishes_after_our_goodbye_still_arrive(make_umbel, node, vhost):
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        for i in range(200):
            client.publish("q", b"%d" % i, delivery_mode=2)
        umbel.process.signal(15)
        kind, _, said = client.read_frame()
        assert kind == METHOD and read_method(said)[0] == "connection.close", "heard, and not answered"
        for i in range(200, 400):
            client.publish("q", b"%d" % i, delivery_mode=2)
        # An end of stream, not a close: with our goodbye unread that would be a reset, and the kernel may drop what was sent.
        client.socket.shutdown(socket.SHUT_WR)
        assert umbel.process.wait(60) == 0
    assert arrived(node, vhost) == list(range(400))


def test_sigterm_under_celery_s_load_loses_nothing(make_umbel, node, vhost, processes, relay_to):
    """A second Umbel stands behind the same address; producers move over, and no task is missing."""
    first, second = make_umbel(node.url()), make_umbel(node.url())
    door = relay_to(first.address)
    producer = processes(Producer, door.url(vhost=vhost))
    producer.run("number.apply_async((0,), ignore_result=True, queue='q') and None")
    producer.send("[number.apply_async((i,), ignore_result=True, queue='q') and time.sleep(0.002) for i in range(1, 1000)] and None")
    wait_at_least(lambda: first.counters()["accepted"], 100, what="what the first has read")
    door.target = second.address
    assert first.stop() == 0
    producer.answer()
    with node.client(vhost=vhost) as direct:
        assert len(set(collect(direct, "q", 1000, lambda m: m.headers["argsrepr"]))) == 1000
