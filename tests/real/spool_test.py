"""The spool (SPEC D4): what waits on disk outlives the window, the broker's outage and our own kill -9, in order."""

import time

import pytest

from harness.celery import Producer, Worker
from harness.process import wait_equal, wait_until
from harness.spooled import N, in_order, publish_all, settle, wait_waiting, waiting


def test_what_is_beyond_the_window_waits_on_disk_and_arrives_in_order_before_what_comes_later(spooled):
    umbel = spooled.umbel()
    with spooled.client(umbel) as client:
        client.declare("q")
        spooled.outage()
        publish_all(client)
        wait_waiting(umbel, N - 40)
        spooled.over()
        # while it is replayed, and after
        publish_all(client, N, 100)
        settle(umbel, N + 100)
        publish_all(client, N + 100, 10)
        settle(umbel, N + 110)
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
    assert client.confirmed(N) == set()
    umbel.kill()
    spooled.over()
    again = spooled.umbel('tier = "durable"\n', login=login)
    if not login:
        time.sleep(1)
        assert waiting(again) == N, "nobody has come who may publish this"
        with spooled.client(again):
            settle(again)
    settle(again)
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
    client.confirmed(N)
    umbel.kill()
    spooled.over()
    again = spooled.umbel('tier = "durable"\n', login=login, spool="replay_rate = 300")
    with spooled.client(again) as client:
        client.select_confirms()
        publish_all(client, N, 50)
        assert client.confirmed(50) == set(), "a number of its own for each"
        settle(again, 50)
    assert in_order(spooled.arrived()) == list(range(N + 50))
    assert again.stop() == 0


def test_sigterm_while_the_broker_is_away_leaves_the_rest_on_disk_in_order(spooled):
    """Twenty in memory, the others behind them on disk: what was in memory goes first in the next life too."""
    umbel = spooled.umbel(rules='[limits]\ndrain_timeout = "1s"\n')
    with spooled.client(umbel) as client:
        client.declare("q")
        spooled.outage()
        publish_all(client)
        wait_equal(lambda: umbel.counters()["accepted"], N, what="what was read")
        wait_waiting(umbel, N - 40)
    assert umbel.stop() == 0
    spooled.over()
    again = spooled.umbel()
    with spooled.client(again) as client:
        publish_all(client, N, 10)
        settle(again, 10)
    assert in_order(spooled.arrived()) == list(range(N + 10))
    assert again.stop() == 0


def test_a_new_client_starts_during_an_outage_with_what_is_remembered(spooled):
    umbel = spooled.umbel()
    with spooled.client(umbel) as client:
        client.declare("q")
    spooled.outage()
    with spooled.client(umbel) as cron:
        cron.declare("q")
        publish_all(cron, 0, 50)
        cron.bye()
    spooled.over()
    settle(umbel, 50)
    assert in_order(spooled.arrived()) == list(range(50))
    assert umbel.stop() == 0


def test_a_cron_job_s_task_runs_after_the_outage_and_its_queue_is_there(spooled, processes):
    """Celery itself: known login, what it declares was declared before (and is gone by now), publishes, exits 0."""
    umbel = spooled.umbel()
    url = umbel.url(vhost=spooled.vhost)
    code = "[add.apply_async((i, i), queue='nightly', ignore_result=True).id for i in range(40)]"
    first = processes(Producer, url)
    first.run(code)
    # Confirmed: what was in flight at the cut might run twice.
    umbel.wait_settled(40)
    with spooled.node.client(vhost=spooled.vhost) as direct:
        direct.call(1, "queue.delete", queue="nightly")
    spooled.outage()
    cron = processes(Producer, url)
    ids = cron.run(code)
    cron.process.popen.stdin.close()
    assert cron.process.wait(30) == 0
    wait_waiting(umbel, 1)
    spooled.over()
    worker = processes(Worker, spooled.node.url(vhost=spooled.vhost), queues=("nightly",), arguments=["--without-mingle", "--without-gossip"])
    assert [e["id"] for e in worker.wait_executed(40)] == ids
    first.stop()  # a drain would wait for it
    assert umbel.stop() == 0


EXPIRY = """
[[rules]]
name = "mail that is late is put aside"
match = { task = "*.number" }
expiry = { action = "dead-letter", dead_letter = { queue = "late" } }
[[rules]]
name = "expired tasks are revoked"
expiry = { action = "revoke" }
"""


def test_what_expires_on_disk_is_revoked_or_put_aside_when_its_turn_comes(spooled, node, processes):
    """P4 after the spool, where a memory alarm has filled it: the rpc caller hears REVOKED, the dead-letter queue gets the other."""
    umbel = spooled.umbel(rules=EXPIRY)
    caller = processes(Producer, umbel.url(vhost=spooled.vhost))
    assert caller.run("number.apply_async((0,), ignore_result=True, queue='q') and add.apply_async((1, 1), queue='q') and 1") == 1
    umbel.wait_settled(2)
    node.memory_alarm(True)
    try:
        caller.run("[number.apply_async((i,), queue='q', ignore_result=True) for i in range(25)] and None")
        wait_waiting(umbel, 1)
        caller.run("results = [add.apply_async((i, i), queue='q', expires=1) for i in range(30)]")
        caller.run("[number.apply_async((i,), queue='q', expires=1, ignore_result=True) for i in range(10)] and None")
        caller.run("[number.apply_async((i,), queue='q', ignore_result=True) for i in range(25, 30)] and None")
        time.sleep(1.1)
    finally:
        node.memory_alarm(False)
    settle(umbel, 72)
    assert caller.run("""
out = []
for r in results:
    try:
        r.get(timeout=60)
    except Exception as error:
        out.append(type(error).__name__)
""") == ["TaskRevokedError"] * 30
    with spooled.node.client(vhost=spooled.vhost) as direct:
        assert len(direct.drain("late")) == 10
        assert [m.headers["argsrepr"] for m in direct.drain("q")][2:] == [f"({i},)" for i in range(30)]
    caller.stop()  # a drain would wait for it
    assert umbel.stop() == 0


def test_a_paced_replay_starves_nobody(spooled, node):
    """One login's backlog goes out at its rate; what another publishes meanwhile is confirmed long before that is through."""
    node.add_user("live", "live", spooled.vhost)
    umbel = spooled.umbel(spool="replay_rate = 60")
    client, live = spooled.client(umbel), spooled.client(umbel, user="live", password="live")
    client.declare("q")
    live.declare("fresh")
    live.select_confirms()
    spooled.outage()
    publish_all(client)
    wait_waiting(umbel, N - 40)
    spooled.over()
    left = wait_until(lambda: waiting(umbel), lambda left: left < N - 40, what="messages on disk")
    began = time.monotonic()
    for _ in range(10):
        live.publish("fresh", b"x", delivery_mode=2)
        live.expect("basic.ack")
    assert waiting(umbel) > 0, f"ten publishes took as long as {left} messages at 60 a second"
    settle(umbel, N + 10)
    took = time.monotonic() - began
    assert took > left / 60 * 0.6, f"{left} messages at 60 a second took {took:.1f} s"
    assert in_order(spooled.arrived()) == list(range(N))
    for each in (client, live):
        each.bye()  # a drain would wait for it
    assert umbel.stop() == 0
