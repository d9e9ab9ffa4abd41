"""Limits and heartbeats are kept on each side apart: frames of every size agreed, bodies of every size, who is silent, who is not."""
import time

import pytest
import wire
from conftest import WORK
from harness.rabbit4 import new_node
from harness.umbel import Umbel
from wire import HEARTBEAT, Gone, Wire, message, method

MIB = 1 << 20


@pytest.fixture(scope="module", params=[8192, 131072, 0], ids=["broker 8192", "broker 131072", "broker unlimited"])
def framed(request):
    """A broker of that frame_max and an Umbel before it."""
    place = WORK / ("frame-%d" % request.param)
    with new_node(place / "rabbit", config="frame_max = %d\n" % request.param) as node, Umbel(place / "umbel", node.url()) as umbel:
        yield request.param, node, umbel
        assert umbel.stop() == 0, umbel.logged()[-2000:]


def arrives(umbel, frame_max, sizes):
    """Bodies go through in both directions: published here, got here, and equal."""
    with Wire(umbel.port, timeout=60).login(frame_max=frame_max) as w:
        w.channel(1)
        w.channel(2)
        queue = w.call(2, "queue.declare", exclusive=True)["queue"]
        w.call(1, "confirm.select")
        for size in sizes:
            data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
            w.send(message(1, data, routing_key=queue, frame_max=frame_max))
            w.expect("basic.ack", 60)
            w.send(method(2, "basic.get", queue=queue, no_ack=True))
            w.expect("basic.get-ok", 60)
            longest, got = 0, bytearray()
            w.frame(60)
            while len(got) < size:
                _, _, part = w.frame(60)
                longest = max(longest, len(part))
                got += part
            assert bytes(got) == data
            assert longest <= frame_max - 8


@pytest.mark.slow
@pytest.mark.parametrize("frame_max", [4096, 8192, 131072])
def test_bodies_around_every_frame_size(framed, frame_max):
    broker, _, umbel = framed
    with Wire(umbel.port).login() as w:
        offered = w.tune["frame_max"]
    assert 0 < offered and (broker == 0 or offered <= broker)
    frame_max = min(frame_max, offered)
    edges = sorted({0, 1, *(m - 8 + d for m in (4096, 8192, 131072) for d in (-1, 0, 1))})
    arrives(umbel, frame_max, [*edges, 10 * MIB])


@pytest.mark.slow
def test_a_body_of_128_mib():
    """RabbitMQ 4 takes 16 MiB where nobody says otherwise."""
    place = WORK / "large"
    with new_node(place / "rabbit", config="max_message_size = %d\n" % (128 * MIB)) as node, Umbel(place / "umbel", node.url()) as umbel:
        arrives(umbel, 131072, [128 * MIB])


@pytest.mark.slow
def test_more_channels_than_a_link_has():
    """A broker that allows ten channels a connection; a client that wants forty gets what is honest, and sessions share out."""
    place = WORK / "channels"
    with new_node(place / "rabbit", config="channel_max = 10\n") as node, Umbel(place / "umbel", node.url()) as umbel:
        made = []
        for _ in range(8):
            w = Wire(umbel.port).login()
            assert 0 < w.tune["channel_max"] <= 10
            made.append(w)
            for n in range(1, 6):
                w.channel(n)
                w.call(n, "confirm.select")
            for n in range(1, 6):
                w.send(message(n, b"x", routing_key="l.nowhere"))
        for w in made:
            for _ in range(5):
                w.expect("basic.ack")
            w.close()


def test_a_mute_client_is_let_go_within_two_intervals_and_a_bit(umbel):
    w = Wire(umbel.port).login(heartbeat=2)
    w.channel(1)
    began = time.monotonic()
    with pytest.raises((Gone, TimeoutError)):
        while True:
            w.frame(30)
    assert 3 < time.monotonic() - began < 10


def test_a_client_that_beats_lives_and_is_beaten_to(umbel):
    w = Wire(umbel.port).login(heartbeat=2)
    w.channel(1)
    beats, began = 0, time.monotonic()
    while time.monotonic() - began < 7:
        w.send(wire.frame(HEARTBEAT, 0, b""))
        try:
            kind, _, _ = w.frame(1)
            beats += kind == HEARTBEAT
        except TimeoutError:
            pass
    assert beats >= 3
    w.call(1, "queue.declare", queue="l.alive", exclusive=True)


@pytest.mark.slow
def test_a_quiet_consumer_with_busy_deliveries_at_a_brokers_heartbeat_of_4():
    """It agreed on heartbeat 0 with us and never writes; the broker wants to hear from the link every four seconds."""
    place = WORK / "beats"
    with new_node(place / "rabbit", config="heartbeat = 4\n") as node, Umbel(place / "umbel", node.url()) as umbel:
        w = Wire(umbel.port).login(heartbeat=0)
        w.channel(1)
        queue = w.call(1, "queue.declare", exclusive=True)["queue"]
        w.call(1, "basic.consume", queue=queue, no_ack=True)
        p = Wire(umbel.port).login(heartbeat=0)
        p.channel(1)
        began, count = time.monotonic(), 0
        while time.monotonic() - began < 20:
            p.send(message(1, b"%d" % count, routing_key=queue))
            w.expect("basic.deliver")
            w.content()
            count += 1
            time.sleep(0.05)
        w.call(1, "queue.declare", queue=queue, passive=True)


@pytest.mark.slow
def test_a_mute_broker_is_found_and_the_worker_told():
    place = WORK / "mute"
    with new_node(place / "rabbit", config="heartbeat = 2\n") as node, Umbel(place / "umbel", node.url()) as umbel:
        w = Wire(umbel.port, timeout=30).login(heartbeat=0)
        w.channel(1)
        queue = w.call(1, "queue.declare", exclusive=True)["queue"]
        w.call(1, "basic.consume", queue=queue, no_ack=True)
        node.pause()
        began = time.monotonic()
        try:
            assert w.expect("connection.close", 20)["reply_code"] == 320
        finally:
            node.resume()
        assert time.monotonic() - began < 9
