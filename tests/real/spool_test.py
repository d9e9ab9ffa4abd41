"""The spool (SPEC D4): what waits on disk outlives the window, the broker's outage and our own kill -9, in order."""

import time

import pytest

from harness.celery import Producer, Worker
from harness.process import wait_for
from harness.spooled import N, in_order, publish_all, settled, waiting


def test_what_is_beyond_the_window_waits_on_disk_and_arrives_in_order_before_what_comes_later(spooled):
    umbel = spooled.umbel()
    with spooled.client(umbel) as client:
        client.declare("q")
        spooled.outage()
        publish_all(client)
        wait_for(lambda: waiting(umbel) >= N - 40, 10)
        spooled.over()
        # while it is replayed, and after
        publish_all(client, N, 100)
        wait_for(lambda: settled(umbel), 30)
        publish_all(client, N + 100, 10)
        wait_for(lambda: settled(umbel), 10)
    assert in_order(spooled.arrived()) == list(range(N + 110))
    assert umbel.stop() == 0


@pytest.mark.parametrize("login", [True, False], ids=["configured login", "a session's login"])
def test_a_kill_of_our_own_loses_nothing_that_was_on_disk(spooled, login):
    umbel = spooled.umbel('tier = "durable"\n', login=login)
    client = spooled.client(umbel)
    client.declare("q")
    client.select_confirms()
    spooled.outage()
    publish_all(client)
    # the disk confirms, with no broker there
    assert client.confirmed(N, timeout=20) == set()
    umbel.kill()
    spooled.over()
    again = spooled.umbel('tier = "durable"\n', login=login)
    if not login:
        time.sleep(1)
        assert waiting(again) == N, "nobody has come who may publish this"
        with spooled.client(again):
            wait_for(lambda: settled(again), 30)
    wait_for(lambda: settled(again), 30)
    assert in_order(spooled.arrived()) == list(range(N))
    assert again.stop() == 0


@pytest.mark.parametrize("login", [True, False], ids=["configured login", "a session's login"])
def test_what_is_left_behind_goes_before_what_the_same_producer_sends_next(spooled, login):
    umbel = spooled.umbel('tier = "durable"\n', login=login)
    client = spooled.client(umbel)
    client.declare("q")
    client.select_confirms()
    spooled.outage()
    publish_all(client)
    client.confirmed(N, timeout=20)
    umbel.kill()
    spooled.over()
    again = spooled.umbel('tier = "durable"\n', login=login, spool="replay_rate = 300")
    with spooled.client(again) as client:
        client.select_confirms()
        publish_all(client, N, 50)
        assert client.confirmed(50, timeout=20) == set(), "a number of its own for each"
        wait_for(lambda: settled(again), 30)
    assert in_order(spooled.arrived()) == list(range(N + 50))
    assert again.stop() == 0


def test_sigterm_while_the_broker_is_away_leaves_the_rest_on_disk_in_order(spooled):
    """Twenty in memory, the others behind them on disk: what was in memory goes first in the next life too."""
    umbel = spooled.umbel(rules='[limits]\ndrain_timeout = "1s"\n')
    with spooled.client(umbel) as client:
        client.declare("q")
        spooled.outage()
        publish_all(client)
        wait_for(lambda: waiting(umbel) >= N - 40, 10)
    assert umbel.stop() == 0
    spooled.over()
    again = spooled.umbel()
    with spooled.client(again) as client:
        publish_all(client, N, 10)
        wait_for(lambda: settled(again), 30)
    assert in_order(spooled.arrived()) == list(range(N + 10))
    assert again.stop() == 0


def test_a_new_client_starts_during_an_outage_with_what_is_remembered(spooled):
    umbel = spooled.umbel()
    with spooled.client(umbel) as client:
        client.declare("q")
    spooled.outage()
    began = time.monotonic()
    with spooled.client(umbel) as cron:
        cron.declare("q")
        publish_all(cron, 0, 50)
        cron.bye()
    assert time.monotonic() - began < 3
    spooled.over()
    wait_for(lambda: settled(umbel), 30)
    assert in_order(spooled.arrived()) == list(range(50))
    assert umbel.stop() == 0
