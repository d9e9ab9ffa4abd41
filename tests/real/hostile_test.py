"""Bad input: the right AMQP error to who sent it, at once, and everybody else goes on."""

import contextlib
import socket
import struct
import time

import pytest

from harness import wire
from harness.process import wait_until
from harness.umbel import Umbel
from harness.wire import BODY, HEADER, HEARTBEAT, METHOD, PROTOCOL, Refused, frame, header, method


@pytest.fixture
def bystander(via, vhost):
    """Somebody decent on the same address and in the same vhost; it must be served before and after."""
    with via.client(vhost=vhost) as client:
        client.declare("q")
        client.select_confirms()
        client.publish("q", b"before")
        assert client.confirmed(1) == set()
        yield client
        client.publish("q", b"after")
        client.confirms.append(("basic.ack", {"delivery_tag": 1, "multiple": False}))
        assert client.confirmed(2) == set()
        client.bye()


def nested_table(depth):
    inner = b""
    for _ in range(depth):
        inner = b"\x01aF" + struct.pack(">I", len(inner)) + inner
    return inner


def nested_array(depth):
    inner = b""
    for _ in range(depth):
        inner = b"A" + struct.pack(">I", len(inner)) + inner
    return b"\x01a" + inner


def first_words(client, data, timeout=30):
    """What the peer answers to `data`: a Refused, or the raw bytes before the end of the stream."""
    with contextlib.suppress(OSError):
        client.write(data)
    try:
        while True:
            client.next(timeout=timeout)
    except Refused as refused:
        return refused
    except (EOFError, ConnectionResetError):
        return None


PUBLISH = frame(METHOD, 1, method("basic.publish", routing_key="q"))
DEEP = nested_table(2000)
assert len(DEEP) > 13000

# What is sent on a connection that is logged in and has channel 1 open: the codes that are right.
AFTER_LOGIN = {
    "a frame of 2 GiB": (struct.pack(">BHI", METHOD, 1, 2**31 - 1) + b"x" * 100, {501}),
    "a frame of 4 GiB less one": (struct.pack(">BHI", BODY, 1, 2**32 - 1) + b"x" * 100, {501}),
    "a frame just over what was agreed": (struct.pack(">BHI", BODY, 1, 131072) + b"x" * 131072 + b"\xce", {501, 505}),
    "a frame that does not end as one": (frame(METHOD, 1, method("queue.declare", queue="z"))[:-1] + b"\x00" + frame(HEARTBEAT, 0, b""), {501}),
    "an unknown frame type": (frame(77, 1, b"hello"), {501, 505}),
    "random bytes": (bytes(range(200, 256)) * 20, {501}),
    "a second protocol header": (PROTOCOL + PROTOCOL, {501}),
    "HTTP in the middle": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", {501}),
    "a content header without a publish": (frame(HEADER, 1, header(5)), {505}),
    "a body without a publish": (frame(BODY, 1, b"hello"), {505}),
    "a body before its header": (PUBLISH + frame(BODY, 1, b"hello"), {505}),
    "a method where a header is due": (PUBLISH + PUBLISH, {505}),
    "a method where a body is due": (PUBLISH + frame(HEADER, 1, header(5)) + PUBLISH, {505}),
    "two headers": (PUBLISH + frame(HEADER, 1, header(5)) * 2, {505}),
    "a body longer than declared": (PUBLISH + frame(HEADER, 1, header(5)) + frame(BODY, 1, b"hello, world"), {501, 502, 505}),
    "a body frame more than declared": (PUBLISH + frame(HEADER, 1, header(5)) + frame(BODY, 1, b"hello") * 2, {501, 505}),
    "an unknown class": (frame(METHOD, 1, struct.pack(">HH", 999, 10)), {501, 502, 503, 540}),
    "an unknown method": (frame(METHOD, 1, struct.pack(">HH", 50, 999)), {501, 502, 503, 540}),
    "an empty method frame": (frame(METHOD, 1, b""), {501, 502, 503}),
    "a method cut short": (frame(METHOD, 1, method("queue.declare", queue="long-name-here")[:9]), {501, 502}),
    "a table longer than its frame": (frame(METHOD, 1, method("queue.declare", queue="z")[:-4] + struct.pack(">I", 1000)), {501, 502}),
    "an unknown field type": (frame(METHOD, 1, method("queue.declare", queue="z", arguments=b"\x01a?")), {501, 502}),
    "a method of a server": (frame(METHOD, 1, method("queue.declare-ok", queue="q")), {503, 505, 501, 502, 540}),
    "a table 2,000 deep in a declare": (frame(METHOD, 1, method("queue.declare", queue="z", arguments=DEEP)), {501, 502}),
    "a table 2,000 deep in a content header": (PUBLISH + frame(HEADER, 1, header(0, headers=DEEP)), {501, 502}),
    "an array 5,000 deep in a content header": (PUBLISH + frame(HEADER, 1, header(0, headers=nested_array(5000))), {501, 502}),
    "a content header of another class": (PUBLISH + frame(HEADER, 1, b"\x00\x32" + header(5)[2:]), {501, 502, 505}),
    "property flags that promise more than there is": (PUBLISH + frame(HEADER, 1, header(0)[:-2] + b"\xff\xf8"), {501, 502, 541}),
    "a method on channel 0": (frame(METHOD, 0, method("queue.declare", queue="z")), {501, 503, 504, 505}),
    "a publish on channel 0": (frame(METHOD, 0, method("basic.publish", routing_key="q")), {501, 503, 504, 505}),
    "content on a channel that is not open": (frame(HEADER, 7, header(3)), {501, 504, 505}),
    "connection.start-ok once more": (frame(METHOD, 0, method("connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US")), {501, 503, 504, 505, 540}),
}
# These RabbitMQ takes in its stride, or answers otherwise than the specification; Umbel has to guard those who share its links.
OURS_ALONE = {"a table 2,000 deep in a declare", "a table 2,000 deep in a content header", "an array 5,000 deep in a content header",
              "property flags that promise more than there is", "an unknown field type",
              "a body longer than declared", "an unknown class", "an unknown method"}


@pytest.mark.parametrize("what", AFTER_LOGIN)
def test_after_login(via, vhost, bystander, what):
    data, codes = AFTER_LOGIN[what]
    if what in OURS_ALONE and not hasattr(via, "admin_port"):
        pytest.skip("the broker itself is more patient")
    with via.client(vhost=vhost) as client:
        answer = first_words(client, data)
    assert answer is not None, "closed without a word"
    assert answer.code in codes, str(answer)
    assert answer.scope == "connection", str(answer)


BEFORE_LOGIN = {
    "garbage": b"\xde\xad\xbe\xef" * 50,
    "HTTP": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(range(189)),
    "AMQP 1.0": b"AMQP\x00\x01\x00\x00",
    "AMQP with SASL": b"AMQP\x03\x01\x00\x00",
    "eight zeros": bytes(8),
}


@pytest.mark.parametrize("what", BEFORE_LOGIN)
def test_what_is_not_amqp_is_answered_with_our_header_and_closed(via, vhost, bystander, what):
    with wire.Wire(via.address) as rude:
        rude.write(BEFORE_LOGIN[what])
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := rude.read_some(8):
                got += piece
    assert got == PROTOCOL


@pytest.mark.parametrize("what", ["a frame of 2 GiB", "a table 2,000 deep", "an unknown frame", "a publish", "tune-ok first"])
def test_half_a_handshake(umbel, vhost, what):
    with umbel.client(vhost=vhost) as bystander:
        with wire.Client(umbel.address) as rude:
            rude.deliveries, rude.confirms, rude.returns = [], [], []
            rude.write(PROTOCOL)
            rude.expect("connection.start")
            began = time.monotonic()
            first_words(rude, {
                "a frame of 2 GiB": struct.pack(">BHI", METHOD, 0, 2**31 - 1) + b"x" * 5000,
                "a table 2,000 deep": frame(METHOD, 0, method("connection.start-ok", client_properties=DEEP, mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US")),
                "an unknown frame": frame(99, 0, b"?"),
                "a publish": PUBLISH,
                "tune-ok first": frame(METHOD, 0, method("connection.tune-ok")),
            }[what])
            assert time.monotonic() - began < 9, "not only when the handshake's time is up"
        bystander.declare("q")


@pytest.fixture(scope="module")
def hasty(node, logs):
    """An Umbel that gives a handshake three seconds of the default's ten."""
    with Umbel(logs / "hasty", node.url(), '[limits]\nhandshake_timeout = "3s"\n', name="hasty") as umbel:
        yield umbel


@pytest.mark.parametrize("sent", [b"", b"AMQP", PROTOCOL], ids=["nothing", "half a header", "only a header"])
def test_who_does_not_finish_the_handshake_is_let_go(hasty, vhost, sent):
    with hasty.client(vhost=vhost) as bystander, wire.Wire(hasty.address) as slow:
        slow.write(sent)
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while slow.read_some(30):
                pass
        assert 1 < time.monotonic() - began < 9
        bystander.declare("q")


def test_who_drips_its_handshake_byte_by_byte_is_let_go(hasty):
    with wire.Wire(hasty.address) as slow:
        began = time.monotonic()
        data = PROTOCOL + frame(METHOD, 0, method("connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US"))
        with contextlib.suppress(OSError):
            for byte in data:
                slow.write(bytes([byte]))
                time.sleep(0.5)
                slow.socket.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    if slow.socket.recv(4096) == b"":
                        raise ConnectionResetError
                slow.socket.setblocking(True)
        assert time.monotonic() - began < 9


def test_a_message_larger_than_allowed_is_refused_at_its_header(umbel, vhost):
    """No memory is taken for what will not be accepted."""
    with umbel.client(vhost=vhost) as bystander:
        with umbel.client(vhost=vhost) as client:
            client.declare("q")
            answer = first_words(client, PUBLISH + frame(HEADER, 1, header(2**50)))
            assert answer.code in (406, 501, 311, 506), str(answer)
        bystander.declare("q")


def test_many_at_once_are_rude_and_one_is_served(umbel, vhost):
    rude = []
    with umbel.client(vhost=vhost) as bystander:
        bystander.declare("q")
        for i in range(300):
            s = wire.Wire(umbel.address)
            s.write([b"GET / HTTP/1.0\r\n\r\n", PROTOCOL, b"AM", bytes(100)][i % 4])
            rude.append(s)
        bystander.select_confirms()
        bystander.publish("q", b"x")
        assert bystander.confirmed(1) == set()
        for s in rude:
            s.abort()
        with umbel.client(vhost=vhost) as late:
            late.declare("q")


def test_who_does_not_read_stalls_nobody(umbel, node, vhost):
    """A consumer whose socket is full: its neighbours' messages still flow, and Umbel's memory stays bounded."""
    with umbel.client(vhost=vhost) as glutton, umbel.client(vhost=vhost) as neighbour, node.client(vhost=vhost) as direct:
        glutton.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        glutton.declare("much")
        neighbour.declare("little")
        glutton.send(1, "basic.consume", queue="much", no_ack=True)
        neighbour.consume("little")
        for _ in range(60):
            direct.publish("much", b"x" * 1_000_000)
        for i in range(20):
            direct.publish("little", b"%d" % i)
            assert neighbour.delivery().body == b"%d" % i


def test_a_confirming_client_that_does_not_read_stalls_nobody(umbel, vhost):
    with umbel.client(vhost=vhost) as flood, umbel.client(vhost=vhost) as neighbour:
        flood.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        flood.declare("q")
        flood.select_confirms()
        flood.socket.settimeout(3)
        with contextlib.suppress(OSError):
            for _ in range(20000):
                flood.publish("q", b"x")
        neighbour.select_confirms()
        neighbour.publish("q", b"y")
        assert neighbour.confirmed(1) == set()


def test_a_thousand_connections_leave_nothing_open(umbel, vhost):
    def descriptors():
        import os
        return len(os.listdir(f"/proc/{umbel.process.pid}/fd"))

    before = descriptors()
    for i in range(100):
        clients = [umbel.client(vhost=vhost) for _ in range(10)]
        for c in clients:
            c.publish("q", b"x")
            c.abort() if i % 2 else c.close()
    wait_until(descriptors, lambda now: now <= before + 20, every=0.2, what=f"descriptors, {before} before")


def test_every_cut_of_a_conversation_is_survived(umbel, vhost):
    """The same bytes in pieces, ended at every one of many places."""
    with umbel.client(vhost=vhost) as bystander:
        bystander.declare("q")
        whole = PROTOCOL + frame(METHOD, 0, method("connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US")) \
            + frame(METHOD, 0, method("connection.tune-ok", channel_max=10, frame_max=8192)) + frame(METHOD, 0, method("connection.open", vhost=vhost)) \
            + frame(METHOD, 1, method("channel.open")) + PUBLISH + frame(HEADER, 1, header(5, headers={"a": 1})) + frame(BODY, 1, b"hello")
        for cut in range(0, len(whole), 3):
            with wire.Wire(umbel.address) as s:
                s.write(whole[:cut])
        bystander.declare("q")
