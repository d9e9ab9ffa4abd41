"""The spool (SPEC D4): what waits on disk outlives the window, the broker's outage and our own kill -9, in order.

Restarts brokers for minutes, so it has a command of its own: `tests/run tests/real/spool_outages.py`.
"""

import time

import pytest
from harness.process import wait_for

N = 300


@pytest.fixture
def spooled(place, own_node, make_umbel):
    """An Umbel with a spool and a window of twenty messages, before a broker of its own."""

    def make(options="", name="spooled"):
        return make_umbel(
            own_node.url(), f'[spool]\npath = "{place}/spool"\n',
            upstream_options=f"window_messages = 20\n{options}", name=name, start=False)

    return make


def publish_all(client, first=0, count=N):
    for n in range(first, first + count):
        client.publish("q", f"{n}".encode(), delivery_mode=2)


def arrived(node, queue="q"):
    with node.client() as client:
        return [int(message.body) for message in client.drain(queue)]


def settled(umbel):
    return umbel.metric("umbel_spool_messages") == 0 and umbel.metric("umbel_unconfirmed_messages") == 0


def test_what_is_beyond_the_window_waits_on_disk_and_arrives_in_order(spooled, own_node):
    umbel = spooled().start()
    with umbel.client() as client:
        client.declare("q")
        own_node.kill()
        publish_all(client)
        wait_for(lambda: umbel.metric("umbel_spool_messages") >= N - 40, 10)
        own_node.start()
        wait_for(lambda: settled(umbel), 40)
        publish_all(client, N, 10)
        wait_for(lambda: settled(umbel), 20)
    assert sorted(set(arrived_in_order := arrived(own_node))) == list(range(N + 10))
    firsts = list(dict.fromkeys(arrived_in_order))
    assert firsts == sorted(firsts), "order is kept"
    assert umbel.stop() == 0


def test_a_kill_of_our_own_loses_nothing_that_was_on_disk(spooled, own_node):
    umbel = spooled("tier = \"durable\"\n").start()
    client = umbel.client()
    client.declare("q")
    client.select_confirms()
    own_node.kill()
    publish_all(client)
    # the disk confirms, with no broker there
    client.confirmed(N, timeout=20)
    umbel.kill()
    own_node.start()
    again = spooled("tier = \"durable\"\n", name="again").start()
    # replay waits for somebody with the same login
    with again.client():
        wait_for(lambda: settled(again), 40)
    got = arrived(own_node)
    assert sorted(set(got)) == list(range(N))
    firsts = list(dict.fromkeys(got))
    assert firsts == sorted(firsts), "order is kept"
    assert again.stop() == 0


def test_sigterm_while_the_broker_is_away_leaves_the_rest_on_disk(spooled, own_node):
    options = "connect_timeout = \"2s\"\n"
    umbel = spooled(options)
    umbel.write_config(f'[spool]\npath = "{umbel.directory}/spool"\n[limits]\ndrain_timeout = "2s"\n')
    umbel.start()
    with umbel.client() as client:
        client.declare("q")
        own_node.kill()
        publish_all(client, 0, 10)
        time.sleep(0.5)
    assert umbel.stop() == 0
    own_node.start()
    again = spooled(options, name="again").start()
    with again.client():
        wait_for(lambda: settled(again), 40)
    assert sorted(set(arrived(own_node))) == list(range(10))
    assert again.stop() == 0


def test_a_new_client_starts_during_an_outage_with_what_is_remembered(spooled, own_node):
    umbel = spooled().start()
    with umbel.client() as client:
        client.declare("q")
    own_node.kill()
    began = time.monotonic()
    with umbel.client() as cron:
        cron.declare("q")
        publish_all(cron, 0, 5)
        cron.bye()
    assert time.monotonic() - began < 3
    own_node.start()
    wait_for(lambda: settled(umbel), 40)
    assert arrived(own_node) == list(range(5))
    assert umbel.stop() == 0
