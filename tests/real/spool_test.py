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


def test_a_cron_job_s_task_runs_after_the_outage_and_its_queue_is_there(spooled, processes):
    """Celery itself: known login, what it declares was declared before (and is gone by now), publishes, exits 0."""
    umbel = spooled.umbel()
    url = umbel.url(vhost=spooled.vhost)
    code = "[add.apply_async((i, i), queue='nightly', ignore_result=True).id for i in range(40)]"
    first = processes(Producer, url)
    first.run(code)
    wait_for(lambda: spooled.node.depth("nightly", spooled.vhost) == 40, 10)
    with spooled.node.client(vhost=spooled.vhost) as direct:
        direct.call(1, "queue.delete", queue="nightly")
    spooled.outage()
    cron = processes(Producer, url)
    began = time.monotonic()
    ids = cron.run(code)
    cron.process.popen.stdin.close()
    assert cron.process.wait(10) == 0
    assert time.monotonic() - began < 5
    wait_for(lambda: waiting(umbel) > 0, 5, what="what the window has no room for is on disk")
    spooled.over()
    worker = processes(Worker, spooled.node.url(vhost=spooled.vhost), queues=("nightly",), arguments=["--without-mingle", "--without-gossip"])
    worker.wait_executed(40, 30)
    assert [e["id"] for e in worker.executed()] == ids
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
    wait_for(lambda: spooled.node.depth("q", spooled.vhost) == 2, 10)
    node.memory_alarm(True)
    try:
        caller.run("[number.apply_async((i,), queue='q', ignore_result=True) for i in range(25)] and None")
        wait_for(lambda: waiting(umbel) > 0, 10)
        caller.run("results = [add.apply_async((i, i), queue='q', expires=1) for i in range(30)]")
        caller.run("[number.apply_async((i,), queue='q', expires=1, ignore_result=True) for i in range(10)] and None")
        caller.run("[number.apply_async((i,), queue='q', ignore_result=True) for i in range(25, 30)] and None")
        time.sleep(1.1)
    finally:
        node.memory_alarm(False)
    wait_for(lambda: settled(umbel), 30)
    assert caller.run("""
out = []
for r in results:
    try:
        r.get(timeout=10)
    except Exception as error:
        out.append(type(error).__name__)
""") == ["TaskRevokedError"] * 30
    with spooled.node.client(vhost=spooled.vhost) as direct:
        assert len(direct.drain("late")) == 10
        assert [m.headers["argsrepr"] for m in direct.drain("q")][2:] == [f"({i},)" for i in range(30)]
    assert umbel.stop() == 0


def test_a_paced_replay_starves_nobody(spooled, node):
    """One login's backlog goes out at its rate; what another publishes meanwhile is confirmed as ever."""
    node.add_user("live", "live", spooled.vhost)
    umbel = spooled.umbel(spool="replay_rate = 100")
    client, live = spooled.client(umbel), spooled.client(umbel, user="live", password="live")
    client.declare("q")
    live.declare("fresh")
    spooled.outage()
    publish_all(client)
    wait_for(lambda: waiting(umbel) >= N - 40, 10)
    spooled.over()
    wait_for(lambda: waiting(umbel) < N - 40, 10)
    live.select_confirms()
    began, slowest, count = time.monotonic(), 0, 0
    while waiting(umbel):
        one = time.monotonic()
        live.publish("fresh", b"x", delivery_mode=2)
        count += 1
        live.expect("basic.ack", timeout=5)
        slowest = max(slowest, time.monotonic() - one)
    took = time.monotonic() - began
    assert took > 1, f"{N} messages at 100 a second took {took:.1f} s"
    assert count > 20 and slowest < 0.5, f"{count} publishes meanwhile, the slowest took {slowest:.2f} s"
    assert in_order(spooled.arrived()) == list(range(N))
    assert umbel.stop() == 0
