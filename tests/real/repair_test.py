"""What was accepted waits for a repair (SPEC D4): permissions revoked, password rotated, vhost deleted, queue deleted while it was on disk.

Nothing is lost, nothing loops, the rest is not held up, and once an operator has put it right it goes out, in order.
"""

import json
import time

import pytest

from harness.process import wait_equal
from harness.spooled import in_order, publish_all, settle, waiting

COUNT = 200


def aside(umbel):
    return umbel.status()["spool"]["aside"]


def task(client, n, queue="q", exchange=""):
    client.publish(queue, b"[[%d], {}, {}]" % n, exchange=exchange, headers={"task": "t", "id": str(n)}, content_type="application/json",
                   content_encoding="utf-8", correlation_id=str(n), delivery_mode=2)


def arrived(spooled, queue="q"):
    with spooled.node.client(vhost=spooled.vhost) as client:
        return [int(m.properties["correlation_id"]) for m in client.drain(queue)]


@pytest.fixture
def user(spooled, node):
    """A user of the test's own."""
    name = f"user-of-{spooled.vhost}"
    node.add_user(name, "pw", spooled.vhost)
    return name


@pytest.fixture
def accepted(spooled, user):
    """An Umbel in an outage with COUNT tasks on disk, of a user of their own; their producer has gone."""
    umbel = spooled.umbel('tier = "durable"\n', login=False)
    with spooled.client(umbel, user=user, password="pw") as client:
        client.declare("q")
        client.declare("other")
        client.select_confirms()
        spooled.outage()
        for n in range(COUNT):
            task(client, n)
            task(client, n, "other")
        assert client.confirmed(2 * COUNT) == set(), "the disk has them"
        client.bye()
    wait_equal(lambda: waiting(umbel), 2 * COUNT, what="on disk")
    # What waits in memory is looked at once a second.
    time.sleep(1.5)
    return umbel


def permit(node, user, vhost, write):
    node.eval(f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost}">>, <<".*">>, <<"{write}">>, <<".*">>, <<"tests">>)')


def closes(node):
    """Channels that the broker has closed for a fault so far."""
    log = next((node.directory / "log").glob("*.log")).read_text(errors="replace")
    return log.count("operation basic.publish caused a channel exception")


class NoHotLoop:
    """What `count` counts stays below `most` for 4 s from the end of the outage: a fault is not run against again and again."""

    def __init__(self, count, most):
        self.count, self.most, self.before = count, most, count()

    def holds(self):
        time.sleep(4)
        grown = self.count() - self.before
        assert grown <= self.most, f"a hot loop: {grown} in 4 s"


def test_revoked_permissions_keep_what_was_accepted_until_they_are_given_back(spooled, accepted, node, user):
    permit(node, user, spooled.vhost, "^$")
    refusals = NoHotLoop(lambda: closes(node), 6)  # one is enough for all that go there
    spooled.over()
    wait_equal(lambda: aside(accepted), 2 * COUNT, what="put aside")
    refusals.holds()
    assert waiting(accepted) == 2 * COUNT, "nothing is lost"
    assert "403" in str(accepted.status()["upstreams"][0]["last_error"])
    permit(node, user, spooled.vhost, ".*")
    settle(accepted)
    assert in_order(arrived(spooled)) == in_order(arrived(spooled, "other")) == list(range(COUNT))
    wait_equal(lambda: aside(accepted), 0, what="put aside")
    assert accepted.metric("umbel_spool_put_aside_total") >= 2 * COUNT
    assert accepted.stop() == 0


def test_a_rotated_password_keeps_what_was_accepted_until_somebody_comes_with_the_new_one(spooled, accepted, node, user):
    node.eval(f'rabbit_auth_backend_internal:change_password(<<"{user}">>, <<"new">>, <<"tests">>)')
    dials = NoHotLoop(lambda: spooled.relay.accepted, 20)
    spooled.over()
    dials.holds()
    assert waiting(accepted) == 2 * COUNT
    with spooled.client(accepted, user=user, password="new") as client:
        settle(accepted)
        client.bye()
    assert in_order(arrived(spooled)) == list(range(COUNT))
    assert accepted.stop() == 0


def test_a_deleted_vhost_keeps_what_was_accepted_until_it_and_its_queues_are_there_again(spooled, accepted, node, user):
    node.delete_vhost(spooled.vhost)
    dials = NoHotLoop(lambda: spooled.relay.accepted, 20)
    spooled.over()
    dials.holds()
    assert waiting(accepted) == 2 * COUNT
    node.add_vhost(spooled.vhost)
    node.add_vhost(spooled.vhost, user)
    wait_equal(lambda: aside(accepted), 2 * COUNT, what="put aside")
    with node.client(vhost=spooled.vhost) as operator:
        operator.declare("q")
        operator.declare("other")
    settle(accepted)
    assert in_order(arrived(spooled)) == in_order(arrived(spooled, "other")) == list(range(COUNT))
    assert accepted.stop() == 0


def test_a_deleted_queue_keeps_its_tasks_and_holds_up_nobody_else_s(spooled, accepted, node, user):
    with node.client(vhost=spooled.vhost) as operator:
        operator.call(1, "queue.delete", queue="q")
        spooled.over()
        wait_equal(lambda: operator.depth("other"), COUNT, what="the depth of the other queue")
        wait_equal(lambda: aside(accepted), COUNT, what="put aside")
        # What comes now is not behind it.
        with spooled.client(accepted, user=user, password="pw") as client:
            client.select_confirms()
            task(client, COUNT, "other")
            assert client.confirmed(1) == set()
        operator.declare("q")
    settle(accepted)
    assert in_order(arrived(spooled)) == list(range(COUNT))
    assert in_order(arrived(spooled, "other")) == list(range(COUNT + 1))
    assert accepted.stop() == 0


def test_a_missing_exchange_keeps_what_goes_there_over_a_restart_and_for_a_replay_by_hand(spooled):
    umbel = spooled.umbel('tier = "durable"\n')
    with spooled.client(umbel) as client:
        client.call(1, "exchange.declare", exchange="x", type="direct", durable=True)
        client.declare("q")
        client.call(1, "queue.bind", queue="q", exchange="x", routing_key="q")
        client.select_confirms()
        spooled.outage()
        for n in range(COUNT):
            task(client, n, exchange="x")
        publish_all(client, 0, 10)
        assert client.confirmed(COUNT + 10) == set()
        client.bye()
    with spooled.node.client(vhost=spooled.vhost) as operator:
        operator.call(1, "exchange.delete", exchange="x")
        spooled.over()
        wait_equal(lambda: aside(umbel), COUNT, what="put aside")
        wait_equal(lambda: operator.depth("q"), 10, what="the depth")
        umbel.kill()
        umbel = spooled.umbel('tier = "durable"\n')
        wait_equal(lambda: aside(umbel), COUNT, what="put aside")
        assert umbel.stop() == 0
        assert f" {COUNT}  404 NOT_FOUND - no exchange 'x'" in spooled.command("ls").stdout
        assert {json.loads(line)["refused"][:3] for line in spooled.command("export").stdout.splitlines()} == {"404"}
        operator.call(1, "exchange.declare", exchange="x", type="direct", durable=True)
        operator.call(1, "queue.bind", queue="q", exchange="x", routing_key="q")
        operator.drain("q")
    done = spooled.command("replay", "--to", spooled.node.url())
    assert done.stdout == f"{COUNT} messages published and confirmed\n", done.stderr
    assert in_order(arrived(spooled)) == list(range(COUNT))


def test_what_a_client_that_has_gone_left_in_memory_is_kept_too(spooled, node, user):
    """Tier window: nothing was on disk when the broker refused it, and nobody is there to be told."""
    umbel = spooled.umbel(login=False)
    with spooled.client(umbel, user=user, password="pw") as client:
        client.declare("q")
        spooled.outage()
        for n in range(10):
            task(client, n)
        client.bye()
    permit(node, user, spooled.vhost, "^$")
    spooled.over()
    wait_equal(lambda: aside(umbel), 10, what="put aside")
    permit(node, user, spooled.vhost, ".*")
    settle(umbel)
    assert in_order(arrived(spooled)) == list(range(10))
    assert umbel.stop() == 0


def test_what_a_broker_will_never_take_is_not_tried_in_a_circle(spooled):
    """A TTL that is no number: 406 each time. The others go, and the turns grow apart."""
    umbel = spooled.umbel('tier = "durable"\n')
    with spooled.client(umbel) as client:
        client.declare("q")
        client.select_confirms()
        spooled.outage()
        for n in range(20):
            client.publish("q", b"%d" % n, delivery_mode=2, **({"expiration": "soon"} if n % 10 == 5 else {}))
        client.confirmed(20)
        client.bye()
    before = closes(spooled.node)
    spooled.over()
    wait_equal(lambda: aside(umbel), 2, what="put aside")
    time.sleep(5)
    assert closes(spooled.node) - before <= 8
    assert waiting(umbel) == 2
    assert in_order(spooled.arrived()) == [n for n in range(20) if n % 10 != 5]
    assert umbel.stop() == 0
