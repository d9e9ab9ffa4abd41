"""The repo's own config.toml at work on real tasks: what was asked for, what the broker got, what the worker ran, what the caller saw."""

import re
import tomllib
import zlib

import pytest

from conftest import AGES
from harness.celery import ProducerError
from harness.pair import Pair
from harness.process import ROOT, wait_for
from harness.umbel import Umbel

def tour(umbel_port, admin_port, upstream):
    """config.toml with only its addresses changed."""
    text = (ROOT / "config.toml").read_text()
    for key, value in (("amqp", f"127.0.0.1:{umbel_port}"), ("admin", f"127.0.0.1:{admin_port}")):
        text, found = re.subn(rf'(?m)^{key}(\s*)= "[^"]*"', rf'{key}\1= "{value}"', text)
        assert found == 1
    text, found = re.subn(r'(?m)^urls = \[.*?\]', f'urls = ["{upstream}"]', text)
    assert found == 1
    tomllib.loads(text)
    return text


@pytest.fixture(scope="module")
def touring(node, logs):
    """An Umbel that runs the repo's config.toml."""
    umbel = Umbel(logs / "policy", node.url(), name="touring")
    umbel.config.write_text(tour(umbel.port, umbel.admin_port, node.url()))
    with umbel.start():
        yield umbel


@pytest.fixture(scope="module", params=AGES)
def age(request):
    return request.param


@pytest.fixture(scope="module")
def shop(touring, node, logs, age):
    name = f"shop-{age}"
    with Pair(logs / name, touring, node, age, name, queues=["celery", "feeds", "media", "other"]) as pair:
        yield pair


# routes

def test_a_rule_sends_feeds_to_their_queue(shop):
    result, ran, given = shop.run_and_see("feeds_pull", "", "('u',)")
    assert result == "u"
    assert given["routing_key"] == "celery"
    assert ran["routing_key"] == "feeds"


def test_celery_s_own_table_sends_videos_to_media(shop):
    _, ran, given = shop.run_and_see("video_encode", "", "('film',)")
    assert (given["routing_key"], ran["routing_key"]) == ("celery", "media")


def test_a_queue_that_the_producer_named_is_respected(shop):
    _, ran, _ = shop.run_and_see("feeds_pull", "queue='other'", "('u',)")
    assert ran["routing_key"] == "other"


def test_a_task_nobody_speaks_of_stays(shop):
    _, ran, given = shop.run_and_see("add", "", "(1, 1)")
    assert ran["routing_key"] == given["routing_key"] == "celery"


def test_each_task_of_a_chain_finds_its_own_way(shop):
    before = len(shop.worker.executed())
    result = shop.run("chain(feeds_pull.si('a'), video_encode.si('b'), add.si(1, 2))()")
    shop.worker.wait_executed(before + 3)
    assert [e["routing_key"] for e in shop.worker.executed()[before:]] == ["feeds", "media", "celery"], result


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "bzip2"])
def test_routing_reads_every_serializer(shop, serializer, compression):
    options = f"serializer={serializer!r}" + (f", compression={compression!r}" if compression else "")
    if shop.age == "celery31" and serializer == "msgpack":
        pytest.skip("Celery 3.1 on Python 2.7 packs msgpack's keys as bytes: nobody newer sees a task in it (vector c31-py27-v1-msgpack)")
    task_id, given = shop.call("feeds_pull", options, "('u',)")
    ran = wait_for(lambda: shop.worker.ran(task_id), what=shop.worker.logged)[0]
    assert ran["routing_key"] == "feeds"


# priority

@pytest.mark.parametrize("asked, arrived", [(9, 3), (3, 3), (2, 2), (0, 0)])
def test_reports_never_outrank_checkouts(shop, asked, arrived):
    _, ran, _ = shop.run_and_see("reports_daily", f"priority={asked}", "('monday',)")
    assert ran["priority"] == arrived


def test_a_checkout_keeps_its_rank(shop):
    _, ran, _ = shop.run_and_see("checkout_pay", "priority=9", "(1,)")
    assert ran["priority"] == 9


# expiry

def past(seconds=60):
    return f"expires=__import__('datetime').datetime.utcnow() - __import__('datetime').timedelta(seconds={seconds})"


def test_an_expired_task_is_revoked_before_the_broker_sees_it_and_its_caller_is_told(shop):
    """`nobody` has no worker: only Umbel can have said it."""
    shop.run(f"late = add.apply_async((1, 1), queue='nobody', {past()})")
    with pytest.raises(ProducerError) as raised:
        shop.run("late.get(timeout=30)")
    assert raised.value.kind == "TaskRevokedError"
    assert "expired" in raised.value.text
    assert shop.run("late.state") == "REVOKED"
    assert shop.nothing_in_broker("nobody")


def test_a_task_whose_eta_lies_after_its_expiry_is_revoked_at_once(shop):
    """Long before it expires."""
    with pytest.raises(ProducerError, match="TaskRevokedError"):
        shop.run("add.apply_async((1, 1), queue='nobody', countdown=600, expires=300).get(timeout=60)")


def test_the_event_of_an_expired_task_is_sent(shop):
    shop.listen()
    task_id = shop.run(f"add.apply_async((1, 1), queue='nobody', {past()}).id")
    wait_for(lambda: ["task-revoked", task_id, True] in shop.heard(), every=0.2, what=shop.heard)


def test_a_task_that_has_time_left_runs(shop):
    assert shop.run_and_see("add", "expires=600", "(2, 2)")[0] == 4


def test_remote_control_has_no_expiry(shop):
    """pidbox messages carry a float `expires`: they are no tasks."""
    assert shop.run(f"app.control.inspect(['{shop.worker.node}'], timeout=60).ping()") == {shop.worker.node: {"ok": "pong"}}


# compression

def test_a_big_body_travels_compressed_and_every_worker_reads_it(shop):
    result, _, given = shop.run_and_see("images_resize", "", "('pixel ' * 5000,)")
    assert result == 30000
    assert given["bytes"] > 30000
    _, given = shop.call("images_resize", "queue='nobody'", "('pixel ' * 5000,)")
    message = shop.in_broker("nobody")
    assert message.headers["compression"] == "application/x-gzip"
    assert len(message.body) < 3000
    assert len(zlib.decompress(message.body)) == given["bytes"]


def test_a_small_body_is_left_alone(shop):
    _, given = shop.call("images_resize", "queue='nobody'", "('pixel',)")
    message = shop.in_broker("nobody")
    assert "compression" not in message.headers
    assert len(message.body) == given["bytes"]


def test_what_is_compressed_already_is_not_compressed_again(shop):
    _, given = shop.call("images_resize", "queue='nobody', compression='bzip2'", "(''.join(str(i) for i in range(40000)),)")
    message = shop.in_broker("nobody")
    assert given["bytes"] > 8192
    assert message.headers["compression"] == "application/x-bz2"
    assert len(message.body) == given["bytes"]


def test_the_numbers_agree_with_what_was_seen(touring, shop):
    assert touring.metrics(), "no metrics"
    assert shop.via.get("/healthz")[0] == 200
