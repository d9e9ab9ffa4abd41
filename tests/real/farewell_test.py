"""How connections end: who hangs up first, and what arrives before the end (no reset destroys what was said), in bounded time."""

import contextlib
import socket
import time

import pytest

from harness.process import wait_at_least, wait_equal
from harness.wire import BODY, HEADER, METHOD, Refused, frame, header, method

MIB = 1 << 20


def silence(client, seconds):
    """Whether the peer neither says anything nor hangs up for so long."""
    try:
        return not client.read_some(seconds) and False
    except TimeoutError:
        return True


def test_after_close_ok_it_is_the_client_that_hangs_up(via, vhost):
    """A client whose socket ends before it closes it may take that for a lost connection."""
    with via.client(vhost=vhost) as pooled:
        pooled.declare("q")
        pooled.publish("q", b"x")
        pooled.call(0, "connection.close", code=200)
        assert silence(pooled, 2)
    with via.client(vhost=vhost) as pinned:
        pinned.consume("q")
        pinned.delivery()
        pinned.call(0, "connection.close", code=200)
        assert silence(pinned, 2)


def test_who_never_hangs_up_is_hung_up_on_after_its_heartbeat(umbel, vhost):
    with umbel.client(vhost=vhost, heartbeat=2) as lazy:
        lazy.call(0, "connection.close", code=200)
        began = time.monotonic()
        assert lazy.read_some(30) == b""
        assert 1 < time.monotonic() - began < 15


def test_what_is_said_after_goodbye_does_not_cost_the_answer(via, vhost):
    """Octets that nobody reads would make the kernel answer with a reset, and throw away close-ok."""
    with via.client(vhost=vhost) as client:
        client.declare("q")
        client.write(frame(METHOD, 0, method("connection.close", code=200)) + frame(METHOD, 1, method("queue.declare", queue="q")) * 5000)
        assert client.expect("connection.close-ok") == {}


def test_a_refusal_reaches_who_goes_on_sending(via, vhost):
    """A connection error in the middle of a flood: the client reads why, however much it sends behind it."""
    with via.client(vhost=vhost, timeout=60) as client:
        client.declare("q")
        message = frame(METHOD, 1, method("basic.publish", routing_key="q")) + frame(HEADER, 1, header(1000)) + frame(BODY, 1, bytes(1000))
        with contextlib.suppress(OSError):
            client.write(message * 100 + frame(HEADER, 1, header(5)) + message * 3000)
        with pytest.raises(Refused) as refused:
            while True:
                client.next()
        assert refused.value.code == 505


def test_all_that_was_delivered_comes_before_close_ok_however_slowly_it_is_read(via, node, vhost):
    """8 MiB of deliveries on their way while the client says goodbye, read in small sips."""
    with node.client(vhost=vhost) as direct, via.client(vhost=vhost, timeout=60) as client:
        client.declare("q")
        client.select_confirms()
        for _ in range(8):
            direct.publish("q", bytes(MIB))
        wait_equal(lambda: direct.depth("q"), 8, what="the depth")
        client.send(1, "basic.consume", queue="q", no_ack=True)
        wait_equal(lambda: direct.depth("q"), 0, what="the depth")
        client.send(0, "connection.close", code=200)
        at_once = client.read_some
        client.read_some = lambda timeout=None: time.sleep(0.01) or at_once(timeout)
        got = 0
        while True:
            _, name, what = client.next()
            if name == "connection.close-ok":
                break
            got += name == "basic.deliver"
        # RabbitMQ stops delivering at a close; what it has begun to say comes whole.
        assert got <= 8


def test_who_takes_nothing_of_what_is_left_is_cut_in_bounded_time(make_umbel, node, vhost):
    """Refused with its socket full: neither its session nor what it never read stays."""
    umbel = make_umbel(node.url())
    with node.client(vhost=vhost) as direct:
        stuck = umbel.client(vhost=vhost)
        stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.declare("much")
        stuck.consume("much", no_ack=True)
        for _ in range(30):
            direct.publish("much", bytes(MIB))
        wait_at_least(lambda: umbel.status()["sessions"]["listed"][0]["out_backlog_bytes"], MIB, what="the backlog")
        stuck.write(frame(HEADER, 1, header(5)))
        began = time.monotonic()
        wait_equal(lambda: umbel.status()["sessions"]["total"], 0, what="sessions")
        assert time.monotonic() - began < 20
        stuck.abort()


# messages larger than what may lie unread

SMALL_BACKLOG = '[limits]\noutput_backlog_bytes = "1MiB"\n'


@pytest.fixture(params=["relayed", "looked at"])
def narrow(request, make_umbel, node):
    """Little may lie unread; with and without a rule that looks at deliveries, which keeps each until it is whole."""
    rules = '[[rules]]\nname = "late"\nexpiry = { action = "revoke", on_delivery = true }\n' if request.param == "looked at" else ""
    return make_umbel(node.url(), rules + SMALL_BACKLOG)


def test_a_delivery_larger_than_the_bound_waits_for_its_slow_reader(narrow, node, vhost):
    body = bytes(range(256)) * 4 * 4096
    with narrow.client(vhost=vhost, timeout=60) as worker, node.client(vhost=vhost) as direct:
        worker.declare("big")
        for _ in range(3):
            direct.publish("big", body)
        worker.consume("big", no_ack=False)
        time.sleep(1)
        at_once = worker.read_some
        worker.read_some = lambda timeout=None: time.sleep(0.002) or at_once(timeout)
        for n in range(1, 4):
            message = worker.delivery()
            assert message.body == body
            worker.send(1, "basic.ack", delivery_tag=n)
        worker.read_some = at_once
        worker.send(1, "basic.get", queue="big", no_ack=True)
        assert worker.next()[1] == "basic.get-empty"
    assert narrow.metric("umbel_limits_hit_total", limit="out_backlog") == 0


def test_a_return_larger_than_the_bound_comes_back_whole(narrow, vhost):
    body = bytes(8 * MIB)
    with narrow.client(vhost=vhost, timeout=60) as client:
        client.select_confirms()
        client.write(frame(METHOD, 1, method("basic.publish", routing_key="nowhere", mandatory=True)) + frame(HEADER, 1, header(len(body)))
                     + b"".join(frame(BODY, 1, body[at:at + 131064]) for at in range(0, len(body), 131064)))
        time.sleep(1)
        assert client.next()[2].body == body
        assert client.confirmed(1) == set()


def test_what_is_many_messages_unread_is_still_cut(narrow, vhost):
    """Returns to a client that does not read: it has no link of its own that could be paused."""
    with narrow.client(vhost=vhost, timeout=5) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        publish = frame(METHOD, 1, method("basic.publish", routing_key="nowhere", mandatory=True)) + frame(HEADER, 1, header(100_000)) + frame(BODY, 1, bytes(100_000))
        with contextlib.suppress(OSError):
            for _ in range(300):
                client.write(publish)
        wait_at_least(lambda: narrow.metric("umbel_limits_hit_total", limit="out_backlog"), 1, what="the limit's count")
        wait_equal(lambda: narrow.status()["sessions"]["total"], 0, what="sessions")
