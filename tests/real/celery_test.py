"""Celery at work: what people do with it every day, straight to the broker and through an Umbel that has no rules."""

import datetime
import time

import pytest

from conftest import AGES
from harness.celery import Producer, ProducerError, Worker
from harness.pair import Pair
from harness.process import wait_equal, wait_for, wait_until


CODECS = {
    "celery5": ["gzip", "zlib", "bzip2", "lzma", "brotli", "zstd"],
    "celery52": ["gzip", "bzip2", "lzma", "brotli", "zstd"],
    "celery44": ["gzip", "bzip2", "lzma", "brotli", "zstd"],
    "celery31": ["gzip", "bzip2"],
}


def label(via, age, what):
    return f"{what}-{type(via).__name__}-{age}".lower()


@pytest.fixture(scope="module", params=AGES)
def age(request):
    return request.param


@pytest.fixture(scope="module")
def pair(via, age, node, logs):
    """A worker and a producer of one age in a vhost of their own, both through `via`."""
    name = label(via, age, "pair")
    with Pair(logs / name, via, node, age, name) as pair:
        yield pair


@pytest.fixture(scope="module")
def storing_pair(via, age, node, logs):
    """As `pair`, with results in a file: rpc:// cannot do chords."""
    name = label(via, age, "storing")
    place = logs / name
    place.mkdir()
    backend = f"db+sqlite:///{place}/results.db" if age == "celery31" else f"file://{place}/results"
    (place / "results").mkdir()
    with Pair(place, via, node, age, name, queues=["celery"], settings={"result_backend": backend}, arguments=["--without-mingle"]) as pair:
        yield pair


def test_delay_is_executed_and_its_result_comes_back(pair):
    before = len(pair.worker.executed())
    assert pair.run("add.delay(2, 3).get(timeout=60)") == 5
    assert [e["task"] for e in pair.worker.executed()[before:]] == ["proj.tasks.add"]


def test_a_failure_is_raised_where_the_result_is_asked_for(pair):
    with pytest.raises(ProducerError, match="ValueError: boom"):
        pair.run("fail.delay('boom').get(timeout=60)")


def test_a_countdown_is_waited_for(pair):
    began = time.time()
    _, ran, _ = pair.run_and_see("add", "countdown=1.5", "(1, 1)")
    assert ran["at"] - began >= 1.4


def test_an_eta_is_waited_for(pair):
    began = time.time()
    eta = datetime.datetime.fromtimestamp(began + 1.5, datetime.timezone.utc).replace(tzinfo=None)
    pair.run("import datetime")
    _, ran, _ = pair.run_and_see("add", f"eta={eta!r}", "(1, 1)")
    assert ran["at"] - began >= 1.4


def test_an_expiry_far_ahead_changes_nothing(pair):
    assert pair.run_and_see("add", "expires=600", "(20, 22)")[0] == 42


def test_a_task_that_expired_while_it_waited_is_revoked_by_the_worker(pair):
    with pytest.raises(ProducerError, match="TaskRevokedError"):
        pair.run("add.apply_async((1, 1), expires=1, countdown=2.5).get(timeout=60)")


def test_a_link_is_called_with_the_result(pair):
    pair.run("add.apply_async((2, 2), link=mul.s(10), task_id='linked-%s').get(timeout=60)" % pair.vhost)
    wait_for(lambda: [e for e in pair.worker.executed() if e["task"] == "proj.tasks.mul"], what=pair.worker.logged)


def test_an_errback_is_called(pair):
    before = len(pair.worker.executed())
    with pytest.raises(ProducerError, match="sad"):
        pair.run("fail.apply_async(('sad',), link_error=caught.s()).get(timeout=60)")
    wait_for(lambda: [e for e in pair.worker.executed()[before:] if e["task"] == "proj.tasks.caught"], what=pair.worker.logged)


def test_the_queue_asked_for_is_reached(pair):
    _, ran, _ = pair.run_and_see("add", "queue='other'", "(1, 2)")
    assert ran["routing_key"] == "other"


def test_the_exchange_and_routing_key_asked_for_are_reached(pair):
    _, ran, _ = pair.run_and_see("add", "exchange='other', routing_key='other'", "(1, 2)")
    assert (ran["exchange"], ran["routing_key"]) == ("other", "other")


def test_the_priority_asked_for_arrives(pair):
    _, ran, _ = pair.run_and_see("seen", "priority=7")
    assert ran["priority"] == 7


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
def test_every_serializer_is_read(pair, serializer):
    if (pair.age, serializer) == ("celery31", "msgpack"):
        pytest.skip("Celery 3.1's msgpack on Python 2.7 packs its keys as bytes: its own worker takes them, yet no other")
    assert pair.run_and_see("add", f"serializer={serializer!r}", "(40, 2)")[0] == 42


def test_every_codec_is_read(pair):
    for codec in CODECS[pair.age]:
        result, _, given = pair.run_and_see("echo", f"compression={codec!r}", "('umbel ' * 3000,)")
        assert result == "umbel " * 3000, codec
        assert given["bytes"] < 3000 and given["compression"], codec


def test_headers_of_our_own_arrive(pair):
    if pair.age != "celery5":
        pytest.skip("Celery before 5.3 does not show custom headers to a task (the broker does: see below)")
    result, _, _ = pair.run_and_see("seen", "headers={'tenant': 'acme', 'trace-id': '7f'}")
    assert (result["headers"]["tenant"], result["headers"]["trace-id"]) == ("acme", "7f")


def test_a_retried_task_comes_back_until_it_succeeds(pair):
    task_id = pair.run("(lambda r: (r.get(timeout=60), r.id))(stumble.delay(2))")
    assert task_id[0] == 2
    assert [e["retries"] for e in pair.worker.ran(task_id[1])] == [0, 1, 2]


def test_a_group_returns_all_results(pair):
    assert pair.run("group([add.s(i, i) for i in range(20)])().get(timeout=60)") == [2 * i for i in range(20)]


def test_a_chain_passes_results_on(pair):
    # Celery 3.1 waits for the parents first, unless told not to, and throws away what comes with the first result that it finds.
    assert pair.run("chain(add.s(1, 2), mul.s(10), add.s(5))().get(timeout=60, propagate=False)") == 35


def test_a_chord_collects_its_header(storing_pair):
    assert storing_pair.run("chord([add.s(i, i) for i in range(5)])(xsum.s()).get(timeout=60, interval=0.2)") == 20


def test_a_large_body_is_whole(pair):
    assert pair.run("(lambda big: echo.delay(big).get(timeout=60) == big)('0123456789' * 150000)") is True


def test_five_hundred_tasks_run_once_each_in_the_order_sent(pair):
    before = len(pair.worker.executed())
    pair.run("[number.apply_async((i,), ignore_result=True) and None for i in range(500)]")
    pair.worker.wait_executed(before + 500, 120)
    assert [e["n"] for e in pair.worker.executed()[before:]] == list(range(500))


def test_events_tell_a_task_s_life(pair):
    pair.listen()
    task_id = pair.run("add.delay(1, 1).id")

    def life():
        return [kind for kind, uuid, _ in pair.heard() if uuid == task_id]

    kinds = wait_until(life, lambda kinds: "task-succeeded" in kinds, every=0.2, what="the task's life")
    assert [k for k in kinds if k in ("task-received", "task-started", "task-succeeded")] == ["task-received", "task-started", "task-succeeded"]


def test_inspect_ping_is_answered(pair):
    assert pair.run("app.control.inspect(['%s'], timeout=60).ping()" % pair.worker.node) == {pair.worker.node: {"ok": "pong"}}


def test_inspect_shows_what_is_registered_and_active_queues(pair):
    assert "proj.tasks.add" in pair.run("app.control.inspect(['%s'], timeout=60).registered()" % pair.worker.node)[pair.worker.node]
    queues = pair.run("app.control.inspect(['%s'], timeout=60).active_queues()" % pair.worker.node)[pair.worker.node]
    assert sorted(q["name"] for q in queues) == ["celery", "high", "other"]


def test_a_revoked_task_is_not_run_and_its_caller_is_told(pair):
    """Revoked before it is sent, and the worker has said that it knows: nothing depends on who is quicker."""
    task_id = f"revoked-{pair.vhost}"
    assert pair.run(f"app.control.revoke({task_id!r}, destination=['{pair.worker.node}'], reply=True, timeout=60)")
    with pytest.raises(ProducerError, match="TaskRevokedError"):
        pair.run(f"add.apply_async((1, 1), task_id={task_id!r}, countdown=0.3).get(timeout=60)")
    assert pair.worker.ran(task_id) == []


def test_what_nobody_consumes_lies_in_the_broker_as_it_was_sent(pair, node):
    pair.producer.published()
    pair.run("add.apply_async((1, 2), queue='waiting', priority=4, headers={'tenant': 'acme'}) and None")
    given = [p for p in pair.producer.published() if p["routing_key"] == "waiting" or p["exchange"] == "waiting"]
    with node.client(vhost=pair.vhost) as direct:
        wait_equal(lambda: direct.depth("waiting"), 1, what="the depth")
        message = direct.get("waiting")
    assert len(message.body) == given[0]["bytes"]
    assert message.properties["priority"] == 4 and message.properties["delivery_mode"] == 2
    assert message.headers["tenant"] == "acme"


def test_a_producer_that_connects_for_each_publish_is_served(pair):
    assert pair.run("""
out = []
for i in range(20):
    with app.connection() as connection:
        out.append(add.apply_async((i, 1), connection=connection).get(timeout=60))
""") == [i + 1 for i in range(20)]


def test_a_worker_that_dies_at_its_task_leaves_it_to_the_next(via, age, node, vhost, processes):
    """acks_late: what was delivered and not acknowledged is delivered again."""
    url = via.url(vhost=vhost)
    settings = {"task_acks_late": True, "worker_prefetch_multiplier": 1}
    first = processes(Worker, url, venv=age, settings=settings, arguments=["--without-mingle", "--without-gossip"])
    producer = processes(Producer, url, venv=age)
    producer.run("nap.apply_async((3,), task_id='survivor') and None")
    wait_for(lambda: first.ran("survivor"), what=first.logged)
    first.process.kill()
    second = processes(Worker, url, venv=age, settings=settings, arguments=["--without-mingle", "--without-gossip"])
    wait_for(lambda: second.ran("survivor"), 60, what=second.logged)
    assert second.ran("survivor")[0]["redelivered"] is True


@pytest.mark.parametrize("confirmed", [False, True], ids=["unconfirmed", "confirmed"])
def test_publishes_with_and_without_confirms_all_arrive(via, age, vhost, processes, node, confirmed):
    producer = processes(Producer, via.url(vhost=vhost), venv=age, settings={"broker_transport_options": {"confirm_publish": confirmed}})
    producer.run("[number.apply_async((i,), queue='kept') and None for i in range(200)]")
    with node.client(vhost=vhost) as direct:
        wait_equal(lambda: direct.depth("kept"), 200, what="the depth")
        bodies = [m.body for m in direct.drain("kept")]
    assert len(set(bodies)) == 200


def test_two_workers_hear_of_each_other(via, age, vhost, processes):
    """The first hears of the second by its events; the second of the first by asking, for a second only: on a busy machine it asks again."""
    url = via.url(vhost=vhost)
    first = processes(Worker, url, venv=age, name="one")
    for name in ("two", "three", "four", "five"):
        second = processes(Worker, url, venv=age, name=name)
        if "mingle: sync with 1 nodes" in second.logged():
            break
        second.stop()
    else:
        pytest.fail(f"nobody answered the newcomer:\n{second.logged()}")
    wait_for(lambda: f"{name}@tests joined the party" in first.logged() or f"sync with {name}@tests" in first.logged(), what=first.logged)


@pytest.mark.slow
def test_a_worker_that_idles_beyond_its_heartbeat_stays_connected(via, age, vhost, processes):
    url = via.url(vhost=vhost)
    worker = processes(Worker, url, venv=age, settings={"broker_heartbeat": 2})
    producer = processes(Producer, url, venv=age)
    assert producer.run("add.delay(1, 1).get(timeout=60)") == 2
    time.sleep(5.5)
    assert producer.run("add.delay(1, 2).get(timeout=60)") == 3
    assert "onnection to broker lost" not in worker.logged()
