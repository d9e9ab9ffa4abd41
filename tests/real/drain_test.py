"""SIGTERM: an Umbel that ends says so, keeps reading, and loses nothing (SPEC D7)."""

import socket
import time

import pytest

from harness.celery import Producer
from harness.load import all_there
from harness.process import wait_for
from harness.wire import Refused


def test_sigterm_ends_a_quiet_umbel_with_0(make_umbel, node):
    umbel = make_umbel(node.url())
    with umbel.client() as client:
        began = time.monotonic()
        umbel.process.signal(15)
        with pytest.raises(Refused, match="320"):
            client.next(timeout=5)
    assert umbel.process.wait(10) == 0
    assert time.monotonic() - began < 10


def test_sigterm_under_load_loses_nothing(make_umbel, node, vhost):
    """It says 320 and keeps reading until our end of stream (D7): what was sent meanwhile arrives too."""
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        for i in range(500):
            client.publish("q", b"%d" % i, delivery_mode=2)
        umbel.process.signal(15)
        with pytest.raises(Refused) as told:
            client.next(timeout=10)
        assert (told.value.scope, told.value.code) == ("connection", 320)
        assert umbel.process.wait(30) == 0
        all_there(node, vhost, "q", 500)


def test_publishes_after_our_goodbye_still_arrive(make_umbel, node, vhost):
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        for i in range(200):
            client.publish("q", b"%d" % i, delivery_mode=2)
        umbel.process.signal(15)
        time.sleep(0.5)
        for i in range(200, 400):
            client.publish("q", b"%d" % i, delivery_mode=2)
        # An end of stream, not a close: with our goodbye unread that would be a reset, and the kernel may drop what was sent.
        client.socket.shutdown(socket.SHUT_WR)
        assert umbel.process.wait(30) == 0
    all_there(node, vhost, "q", 400)


def test_sigterm_under_celery_s_load_loses_nothing(make_umbel, node, vhost, processes, relay_to):
    """A second Umbel stands behind the same address; producers move over, and no task is missing."""
    first, second = make_umbel(node.url()), make_umbel(node.url())
    door = relay_to(first.address)
    producer = processes(Producer, door.url(vhost=vhost))
    producer.run("number.apply_async((0,), ignore_result=True, queue='q') and None")
    producer.send("[number.apply_async((i,), ignore_result=True, queue='q') and time.sleep(0.002) for i in range(1, 1000)] and None")
    time.sleep(0.8)
    door.target = second.address
    assert first.stop() == 0
    producer.answer()
    with node.client(vhost=vhost) as direct:
        wait_for(lambda: direct.depth("q") >= 1000, 20, what=lambda: f"1000 tasks, {direct.depth('q')} are there")
        assert len(set(m.headers["id"] for m in direct.drain("q"))) == 1000
