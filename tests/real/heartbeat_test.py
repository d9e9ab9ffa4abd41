"""Who is silent by right lives, who is silent because it is gone is found, on each side's own interval (SPEC L5)."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.celery import Producer, Worker
from harness.process import wait_until
from harness.rabbit4 import new_node
from harness.wire import HEARTBEAT, Refused


@pytest.fixture(scope="module")
def brisk(logs):
    """A broker that wants to hear something every four seconds, and says something itself."""
    with new_node(logs / "brisk", "heartbeat = 4\n") as node:
        yield node


@pytest.fixture(scope="module")
def mute(logs):
    """A broker without heartbeats."""
    with new_node(logs / "mute", "heartbeat = 0\n") as node:
        yield node


def idle(place, umbel, seconds, settings):
    """A worker and a producer do nothing for so long; then the worker runs what comes, on the connections that it had."""
    with Worker(place, umbel.url(), settings=settings) as worker, Producer(place, umbel.url(), settings=settings) as producer:
        assert producer.run("add.delay(1, 1).get(timeout=60)") == 2
        time.sleep(seconds)
        assert producer.run("add.delay(2, 3).get(timeout=60)") == 5
        assert len(worker.executed()) == 2
        for sign in ("Connection to broker lost", "Trying to re-establish", "Traceback"):
            assert sign not in worker.logged(), worker.process.tail()
    assert not umbel.status()["upstreams"][0]["last_error"]


def test_an_idle_worker_outlives_many_heartbeats(make_umbel, brisk, place):
    idle(place, make_umbel(brisk.url()), 12, {"broker_heartbeat": 2})


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(480)
def test_a_default_worker_idle_for_five_minutes(make_umbel, node, place):
    idle(place, make_umbel(node.url()), 300, {})


def beats(client, seconds):
    """Answers heartbeats as a client does that has nothing else to say; how many came."""
    came, end, said = 0, time.monotonic() + seconds, time.monotonic()
    while (left := end - time.monotonic()) > 0:
        if time.monotonic() - said > 2:
            client.beat()
            said = time.monotonic()
        try:
            kind, _, _ = client.read_frame(min(left, 0.5))
            came += kind == HEARTBEAT
        except TimeoutError:
            pass
    return came


def test_a_client_idle_at_heartbeat_5_lives_and_is_beaten_to(make_umbel, brisk):
    """As pika's BlockingConnection idles: pooled, and with a consumer."""
    umbel = make_umbel(brisk.url())
    with umbel.client(heartbeat=5) as pooled, umbel.client(heartbeat=5) as pinned:
        pooled.declare("q")
        pinned.declare("p")
        pinned.consume("p")
        with ThreadPoolExecutor() as at_once:
            assert min(at_once.map(beats, (pooled, pinned), (11, 11))) >= 4
        pooled.publish("p", b"still here")
        assert pinned.delivery().body == b"still here"


def test_heartbeat_0_on_both_sides_is_silence_that_lasts(make_umbel, mute):
    umbel = make_umbel(mute.url(), upstream_options='heartbeat = "0s"\n')
    with umbel.client(heartbeat=0) as pooled, umbel.client(heartbeat=0) as pinned:
        pooled.declare("q")
        pinned.consume("q")
        for client, seconds in ((pooled, 6), (pinned, 0.1)):
            with pytest.raises(TimeoutError):
                client.read_frame(seconds)
        pooled.publish("q", b"after a while")
        assert pinned.delivery().body == b"after a while"


def test_a_mute_client_is_found_within_two_intervals_and_a_mute_broker_does_not_hide_it(make_umbel, own_node):
    """The client's clock goes on while its broker is stopped, and a worker learns of the broker within two of ours."""
    umbel = make_umbel(own_node.url(), upstream_options='heartbeat = "2s"\n')
    mute, worker = umbel.client(heartbeat=2), umbel.client(heartbeat=60)
    mute.declare("q")
    worker.consume("q")
    own_node.pause()
    try:
        began = time.monotonic()
        with pytest.raises(Refused) as refused:
            worker.next()
        assert refused.value.code == 320
        assert 2 < time.monotonic() - began < 9, "two intervals of 2 s, our tick, and what a busy machine takes"
        with pytest.raises((EOFError, ConnectionResetError)):
            while True:
                mute.read_frame()
        assert time.monotonic() - began < 11
        wait_until(lambda: umbel.status()["upstreams"][0]["last_error"] or "", lambda said: "heartbeats" in said, what="what the broker is said to lack")
    finally:
        own_node.resume()
