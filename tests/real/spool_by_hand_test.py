"""`umbel spool` on a real broker (SPEC C3): what waits is listed, exported, replayed and purged by hand."""

import json
import time

import pytest

from harness.spooled import N, in_order, publish_all


@pytest.fixture
def left_behind(spooled):
    """A spool of a stopped Umbel with N messages for `q`, one for a queue that is missing, one for a missing exchange, and N more."""
    umbel = spooled.umbel('tier = "durable"\n')
    with spooled.client(umbel) as client:
        client.declare("q")
        client.select_confirms()
        spooled.outage()
        publish_all(client)
        client.publish("nowhere", b"unroutable", delivery_mode=2)
        client.publish("q", b"lost exchange", exchange="missing", delivery_mode=2)
        publish_all(client, N)
        client.confirmed(2 * N + 2, timeout=20)
        umbel.kill()
    spooled.over()
    return spooled


def test_replay_by_hand_publishes_in_order_and_keeps_what_no_queue_takes(left_behind):
    to = left_behind.node.url()
    done = left_behind.command("replay", "--to", to)
    assert done.returncode == 1, "two could not be published"
    assert done.stdout == f"{2 * N} messages published and confirmed\n", done.stderr
    assert "no queue takes it (exchange '', routing key 'nowhere')" in done.stderr
    assert "404" in done.stderr and "missing" in done.stderr
    assert left_behind.arrived() == list(range(2 * N))
    left = [json.loads(line) for line in left_behind.command("export").stdout.splitlines()]
    assert [(line["exchange"], line["routing_key"]) for line in left] == [("", "nowhere"), ("missing", "q")]
    with left_behind.node.client(vhost=left_behind.vhost) as client:
        client.declare("nowhere")
        assert left_behind.command("replay", "--to", to).returncode == 1
        assert client.depth("nowhere") == 1
    assert left_behind.command("purge", "--yes").stdout == "1 messages removed\n"


def test_replay_by_hand_is_paced_and_says_why_a_broker_refuses_it(left_behind):
    wrong = left_behind.command("replay", "--to", left_behind.node.url(password="no"))
    assert wrong.returncode == 1 and "403" in wrong.stderr
    began = time.monotonic()
    left_behind.command("replay", "--to", left_behind.node.url(), "--rate", 400)
    assert time.monotonic() - began > 2 * N / 400 * 0.8
    assert in_order(left_behind.arrived()) == list(range(2 * N))
