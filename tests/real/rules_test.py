"""Rules one by one: every action a rule can take, seen in the broker, at the worker and at the caller."""

import bz2
import datetime
import json
import time

import kombu.serialization
import pytest

from harness import venvs, wire
from harness.celery import Producer, Worker
from harness.pair import Pair
from harness.process import wait_equal, wait_for
from harness.rules import RULES

PAST = "expires=__import__('datetime').datetime.utcnow() - __import__('datetime').timedelta(seconds=60)"
CONTENT_TYPES = {"zlib": "application/x-gzip", "bzip2": "application/x-bz2", "lzma": "application/x-lzma",
                 "brotli": "application/x-brotli", "zstd": "application/zstd"}


@pytest.fixture(scope="module")
def ruled(node, logs):
    from harness.umbel import Umbel
    with Umbel(logs / "rules", node.url(), RULES, name="ruled") as umbel:
        yield umbel


@pytest.fixture(scope="module")
def room(ruled, node, logs):
    with Pair(logs / "rules-pair", ruled, node, "celery5", "rules", queues=["celery", "feeds"]) as pair:
        yield pair


def how(word, more=""):
    return f"headers={{'how': {word!r}}}" + (", " + more if more else "")


# routes

def test_override_beats_the_producer_s_own_queue(room):
    _, ran, given = room.run_and_see("feeds_pull", how("override", "queue='celery2'"), "('u',)")
    assert (given["routing_key"], ran["routing_key"]) == ("celery2", "feeds")


def test_a_split_follows_its_weights(room, node):
    room.run("[stats_hourly.apply_async(headers={'how': 'split'}) and None for i in range(400)]")
    with node.client(vhost=room.vhost) as direct:
        wait_equal(lambda: (direct.depth("most") or 0) + (direct.depth("few") or 0), 400, what="both depths together")
        most = direct.depth("most")
    assert 240 <= most <= 360, f"{most} of 400 went where three of four should"


def test_a_route_to_an_exchange_declares_it_and_uses_its_key(room, node):
    with node.client(vhost=room.vhost) as direct:
        direct.call(1, "exchange.declare", exchange="audit", type="topic", durable=True)
        direct.declare("auditors")
        direct.call(1, "queue.bind", queue="auditors", exchange="audit", routing_key="audit.#")
    room.call("add", how("exchange"), "(1, 1)")
    message = room.in_broker("auditors")
    assert (message.exchange, message.routing_key) == ("audit", "audit.all")


def test_a_missing_queue_is_declared_with_its_arguments(room, node):
    room.call("add", how("arguments"), "(1, 1)")
    assert room.in_broker("ranked").headers["task"] == "proj.tasks.add"
    with node.client(vhost=room.vhost) as direct:
        direct.declare("ranked", arguments={"x-max-priority": 7, "x-message-ttl": 3600000})


def test_a_delayed_task_keeps_its_delay_and_only_its_end_is_routed(room, ruled, node):
    """Celery 5.5's native delay is in the routing key: 28 bits, then the destination."""
    bits = ".".join(f"{5:028b}")
    with ruled.client(vhost=room.vhost) as client, node.client(vhost=room.vhost) as direct:
        for exchange in ("celery_delayed_27", "celery_delayed_delivery"):
            direct.call(1, "exchange.declare", exchange=exchange, type="topic", durable=True)
        queue = direct.declare("", exclusive=True)
        direct.call(1, "queue.bind", queue=queue, exchange="celery_delayed_27", routing_key="#")
        direct.consume(queue)
        client.publish(f"{bits}.celery", b"[[], {}, {}]", exchange="celery_delayed_27", content_type="application/json",
                       headers={"task": "feeds.pull", "id": "d1", "how": "delayed"})
        arrived = direct.delivery()
        assert arrived.exchange == "celery_delayed_27"
        assert arrived.routing_key == f"{bits}.feeds"
        # at the end of its delay it is found: the queue is bound as a worker would have bound it
        direct.publish(f"{bits}.feeds", b"[[], {}, {}]", exchange="celery_delayed_delivery", content_type="application/json",
                       headers={"task": "proj.tasks.mul", "id": "d2"}, mandatory=True)
        direct.select_confirms()
        direct.publish("nowhere", b"")
        direct.confirmed(1)
        assert direct.returns == []


# priority

@pytest.mark.parametrize("word, asked, arrived", [
    ("set", 1, 7), ("default", None, 5), ("default", 3, 3), ("clamp", 9, 4), ("clamp", 0, 2), ("clamp", 3, 3), ("map", 9, 6), ("map", 1, 2), ("map", 5, 5)])
def test_priorities(room, word, asked, arrived):
    # a producer that names a queue and no priority sends none
    options = how(word, "queue='feeds'" + (f", priority={asked}" if asked is not None else ""))
    _, ran, _ = room.run_and_see("add", options, "(1, 1)")
    assert ran["priority"] == arrived


# expiry

def test_late_ones_go_to_the_dead_letter_queue_with_the_reason(room):
    task_id, _ = room.call("add", how("late-dead", PAST), "(1, 1)")
    message = room.in_broker("late")
    assert message.headers["id"] == task_id
    assert any("expir" in str(v) for k, v in message.headers.items() if "umbel" in k), message.headers
    assert room.worker.ran(task_id) == []


def raw_late(client, word):
    past = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=1)).isoformat()
    headers = {"task": "proj.tasks.add", "id": "raw-late", "expires": past, "how": word, "lang": "py", "retries": 0}
    client.publish("celery", b"[[1, 1], {}, {}]", headers=headers, content_type="application/json", content_encoding="utf-8", correlation_id="raw-late")


def test_late_ones_can_be_returned(room, ruled):
    with ruled.client(vhost=room.vhost) as client:
        client.select_confirms()
        raw_late(client, "late-return")
        _, name, returned = client.next()
        assert name == "basic.return" and returned.body == b"[[1, 1], {}, {}]"
        assert client.confirmed(1) == set()


def test_late_ones_can_be_nacked(room, ruled):
    with ruled.client(vhost=room.vhost) as client:
        client.select_confirms()
        raw_late(client, "late-nack")
        assert client.confirmed(1) == {1}


def test_a_task_that_expired_in_its_queue_is_revoked_at_the_worker_s_door(room, ruled, node):
    """Where a rule asks for it, what a broker kept too long is not delivered: the caller is told, the message is acknowledged."""
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2.5)
    with ruled.client(vhost=room.vhost) as client, ruled.client(vhost=room.vhost) as worker, node.client(vhost=room.vhost) as direct:
        replies = direct.declare("", exclusive=True)
        client.declare("door")
        headers = {"task": "proj.tasks.add", "id": "at-the-door", "expires": soon.isoformat(), "how": "on-delivery", "lang": "py", "retries": 0, "ignore_result": False}
        client.publish("door", b"[[1, 1], {}, {}]", headers=headers, content_type="application/json", content_encoding="utf-8",
                       correlation_id="at-the-door", reply_to=replies, delivery_mode=2)
        client.publish("door", b"in time", content_type="text/plain")
        wait_equal(lambda: direct.depth("door"), 2, what="the depth")
        time.sleep(max(0.0, (soon - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) + 0.1)
        worker.consume("door", no_ack=False)
        assert worker.delivery().body == b"in time"
        wait_equal(lambda: direct.depth(replies), 1, what="the depth of the caller's queue")
        result = json.loads(direct.get(replies).body)
        assert (result["status"], result["task_id"]) == ("REVOKED", "at-the-door")
    wait_equal(lambda: node.depth("door", room.vhost), 1, what="what was in time, unacknowledged, and returns,")


def test_late_ones_can_pass(room):
    task_id, _ = room.call("add", how("late-pass", PAST + ", queue='passed'"), "(1, 1)")
    # Celery 5 stamps a TTL of nothing itself: the broker drops it where nobody waits, so the number is all there is to see
    assert room.via.get("/healthz")[0] == 200 and task_id


def test_the_remaining_time_becomes_the_ttl(room, ruled):
    soon = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=100)).isoformat()
    with ruled.client(vhost=room.vhost) as client:
        client.declare("stamped")
        headers = {"task": "proj.tasks.add", "id": "s1", "expires": soon, "how": "stamp"}
        client.publish("stamped", b"[[1, 1], {}, {}]", headers=headers, content_type="application/json", correlation_id="s1")
    message = room.in_broker("stamped")
    assert 90_000 <= int(message.properties["expiration"]) <= 100_000
    assert message.headers["expires"] == soon


def test_an_expiry_is_imposed_where_there_was_none(room):
    room.call("add", how("impose", "queue='imposed'"), "(1, 1)")
    message = room.in_broker("imposed")
    assert 90_000 <= int(message.properties["expiration"]) <= 100_000
    assert message.headers["expires"].endswith("+00:00")


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "bzip2"])
def test_an_expiry_is_imposed_in_a_body_of_protocol_1_and_a_worker_runs_it(room, ruled, processes, serializer, compression):
    """Protocol 1 says everything in its body: that is rewritten, in its own serializer and codec, and nothing else of it changes."""
    old = processes(Producer, ruled.url(vhost=room.vhost), settings={"task_protocol": 1})
    options = how("impose", f"serializer={serializer!r}, compression={compression!r}")
    assert old.run(f"add.apply_async((20, 22), {options}).get(timeout=60)") == 42
    old.run(f"add.apply_async((1, 1), queue='dated', {options}) and None")
    message = room.in_broker("dated")
    body = bz2.decompress(message.body) if compression else message.body
    said = kombu.serialization.loads(body, message.properties["content_type"], "utf-8", accept=kombu.serialization.prepare_accept_content(["json", "pickle", "yaml", "msgpack"]))
    left = datetime.datetime.fromisoformat(said["expires"]) - datetime.datetime.now(datetime.timezone.utc)
    assert 80 <= left.total_seconds() <= 101
    assert (list(said["args"]), said["task"], said["retries"]) == ([1, 1], "proj.tasks.add", 0)


def test_an_expiry_too_far_is_shortened(room):
    room.call("add", how("shorten", "queue='shortened', expires=3600"), "(1, 1)")
    message = room.in_broker("shortened")
    left = datetime.datetime.fromisoformat(message.headers["expires"]) - datetime.datetime.now(datetime.timezone.utc)
    assert 80 <= left.total_seconds() <= 101


# compression

@pytest.mark.parametrize("codec", CONTENT_TYPES)
def test_each_codec_is_kombu_s_own(room, codec):
    task_id, given = room.call("echo", how(codec, "queue='packed'"), "('umbel ' * 1000,)")
    message = room.in_broker("packed")
    assert message.headers["compression"] == CONTENT_TYPES[codec]
    assert len(message.body) < given["bytes"] / 5
    assert room.run(f"(lambda r: r.get(timeout=60))(echo.apply_async(('umbel ' * 1000,), {how(codec)}))") == "umbel " * 1000


@pytest.mark.parametrize("encoding, packed", [("utf-8", True), ("binary", True), (None, True), ("latin-1", False), ("utf-16", False), ("koi8-r", False)])
def test_a_body_is_packed_only_under_an_encoding_that_leaves_packed_bytes_alone(room, ruled, encoding, packed):
    """py-amqp makes text of a body where its encoding takes the bytes; Kombu cannot decompress text, and the worker drops the task."""
    headers = {"lang": "py", "task": "proj.tasks.echo", "id": f"under-{encoding}", "retries": 0, "how": "zlib"}
    body = json.dumps([["umbel " * 1000], {}, {}]).encode("utf-16" if encoding == "utf-16" else "ascii")
    with ruled.client(vhost=room.vhost) as client:
        for queue in ("under", "celery"):
            client.declare(queue)
            client.publish(queue, body, headers=headers, content_type="application/json", content_encoding=encoding, correlation_id=headers["id"], delivery_mode=2)
        wait_for(lambda: room.worker.ran(headers["id"]), what=room.worker.logged)
    message = room.in_broker("under")
    assert ("compression" in message.headers, message.body == body) == (packed, not packed)


@pytest.mark.old
@pytest.mark.parametrize("age", ["celery52", "celery44", "celery31"])
def test_workers_of_old_read_what_we_compress(ruled, node, vhost, place, age, processes):
    if venvs.python(age) is None:
        pytest.skip(venvs.why_missing(age))
    worker = processes(Worker, ruled.url(vhost=vhost), venv=age)
    producer = processes(Producer, ruled.url(vhost=vhost), venv=age)
    codecs = ["zlib", "bzip2"] if age == "celery31" else list(CONTENT_TYPES)
    for codec in codecs:
        assert producer.run(f"echo.apply_async(('umbel ' * 1000,), {how(codec)}).get(timeout=60)") == "umbel " * 1000, codec
    assert len(worker.executed()) == len(codecs)


def test_a_plain_body_under_a_compression_header_is_repaired(room, ruled):
    """What workers of Celery 5.3.0 to 5.3.5 send when they retry a compressed task; a worker would acknowledge and drop it."""
    headers = {"lang": "py", "task": "proj.tasks.add", "id": "repaired", "retries": 1, "timelimit": [None, None], "root_id": "repaired",
               "eta": None, "expires": None, "how": "repair", "compression": "application/x-gzip"}
    body = b'[[20, 22], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    with ruled.client(vhost=room.vhost) as client:
        client.publish("celery", body, headers=headers, content_type="application/json", content_encoding="utf-8", correlation_id="repaired", delivery_mode=2)
        wait_for(lambda: room.worker.ran("repaired"), what=room.worker.logged)


@pytest.mark.old
@pytest.mark.parametrize("repair", [False, True], ids=["as it is", "repaired"])
def test_what_celery_5_3_4_retries_compressed_runs_only_where_it_is_repaired(make_umbel, node, vhost, place, processes, repair):
    """Its worker sends the retry plain and leaves the `compression` header above it; whoever takes that next drops it."""
    if venvs.python("celery53") is None:
        pytest.skip(venvs.why_missing("celery53"))
    rule = '[[rules]]\nname = "repair"\ncompression = { repair = true }\n' if repair else ""
    umbel = make_umbel(node.url(), rule)
    worker = processes(Worker, umbel.url(vhost=vhost), venv="celery53", settings={"result_backend": "disabled://"})
    producer = processes(Producer, umbel.url(vhost=vhost), venv="celery53", settings={"result_backend": "disabled://"})
    task_id = producer.run("stumble.apply_async((2,), compression='gzip').id")
    if repair:
        wait_for(lambda: [e["retries"] for e in worker.ran(task_id)] == [0, 1, 2], 60, what=worker.logged)
    else:
        wait_for(lambda: "Can't decode message body" in worker.logged(), 60, what=worker.logged)
        assert [e["retries"] for e in worker.ran(task_id)] == [0]


# admission

def test_a_kill_switch_puts_tasks_aside_with_the_reason(room):
    task_id, _ = room.call("add", how("kill"), "(1, 1)")
    message = room.in_broker("off")
    assert message.headers["id"] == task_id
    assert any("imports are off" in str(v) for v in message.headers.values())
    assert room.worker.ran(task_id) == []


def test_what_is_dropped_is_gone_and_the_producer_goes_on(room):
    task_id, _ = room.call("add", how("drop"), "(1, 1)")
    assert room.run_and_see("add", "", "(1, 2)")[0] == 3
    assert room.worker.ran(task_id) == []


def test_what_a_rule_refuses_is_nacked_or_returned_where_it_says_so(room, ruled):
    with ruled.client(vhost=room.vhost) as client:
        client.select_confirms()
        for word in ("nack", "return"):
            client.publish("celery", b"[[1, 1], {}, {}]", headers={"task": "t", "id": word, "how": word}, content_type="application/json")
        assert client.confirmed(2) == {1}
        assert [m.headers["id"] for m in client.returns] == ["return"]


def test_a_rate_lets_its_burst_through_and_keeps_the_rest(room, ruled, node):
    with ruled.client(vhost=room.vhost) as client, node.client(vhost=room.vhost) as direct:
        client.declare("rated")
        client.select_confirms()
        began = time.monotonic()
        for i in range(40):
            client.publish("rated", b"[[1, 1], {}, {}]", headers={"task": "t", "id": str(i), "how": "rate"}, content_type="application/json")
        assert client.confirmed(40) == set()
        through = direct.depth("rated")
        assert 10 <= through <= 11 + (time.monotonic() - began), "ten, and one a second"
        wait_equal(lambda: direct.depth("too-many"), 40 - through, what="the depth of the others")


def test_a_serializer_can_be_kept_out(room):
    kept, _ = room.call("add", how("pickle", "serializer='pickle'"), "(1, 1)")
    assert room.in_broker("off").headers["id"] == kept
    assert room.run_and_see("add", how("pickle"), "(1, 2)")[0] == 3


# dry run

def test_a_dry_rule_changes_nothing(room):
    _, ran, given = room.run_and_see("add", how("dry", "priority=1"), "(1, 1)")
    assert (ran["routing_key"], ran["priority"]) == ("celery", 1) == (given["routing_key"], given["priority"])


def test_a_whole_policy_can_be_dry(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), '[policy]\ndry_run = true\n[[rules]]\nname = "all"\nroute = { queue = "feeds", override = true }\npriority = { set = 9 }\n')
    vector = {"task": "proj.tasks.add", "id": "d1"}
    with umbel.client(vhost=vhost) as client, node.client(vhost=vhost) as direct:
        client.declare("celery")
        header = wire.header(2, headers=vector, content_type="application/json")
        client.publish("celery", b"[]", header_payload=header)
        wait_equal(lambda: direct.depth("celery"), 1, what="the depth")
        assert direct.get("celery").header == header


# mistakes

@pytest.mark.parametrize("route", [
    '{ queue = "missing" }\n',
    '{ queue = "missing" }\n[[task_queues]]\nname = "missing"\nno_declare = true\n',
    '{ exchange = "missing", routing_key = "k" }\n',
], ids=["queue nobody defined", "queue", "exchange"])
def test_a_route_to_what_is_missing_and_may_not_be_made_costs_no_task(make_umbel, node, vhost, route):
    umbel = make_umbel(node.url(), f'[policy]\ncreate_missing_queues = false\n[[rules]]\nname = "wrong"\nmatch = {{ task = "*" }}\nroute = {route}')
    with umbel.client(vhost=vhost) as client, node.client(vhost=vhost) as direct:
        client.declare("celery")
        client.select_confirms()
        for i in range(5):
            client.publish("celery", b"[[], {}, {}]", headers={"task": "t", "id": f"{i}"}, content_type="application/json")
        assert client.confirmed(5) == set()
        wait_equal(lambda: direct.depth("celery"), 5, what="the depth")


def test_a_body_that_cannot_be_read_is_forwarded_untouched(ruled, room, node):
    with ruled.client(vhost=room.vhost) as client, node.client(vhost=room.vhost) as direct:
        direct.declare("strange")
        for body, kind in ((b"\x80\x04not a pickle", "application/x-python-serialize"), (b"{not json", "application/json"), (b"\xff" * 20, "application/x-msgpack")):
            client.publish("strange", body, content_type=kind, content_encoding="binary", headers={})
            wait_equal(lambda: direct.depth("strange"), 1, what="the depth")
            assert direct.get("strange").body == body


# elsewhere

@pytest.mark.slow
def test_a_route_may_lead_to_another_broker(make_umbel, node, own_node):
    umbel = make_umbel(node.url(), f'[upstreams.eu]\nurls = ["{own_node.url()}"]\n[[rules]]\nname = "eu"\nmatch = {{ task = "eu.*" }}\nroute = {{ upstream = "eu", queue = "celery-eu" }}\n')
    with umbel.client() as client:
        client.declare("celery")
        client.select_confirms()
        client.publish("celery", b"[[], {}, {}]", headers={"task": "eu.pay", "id": "e1"}, content_type="application/json")
        client.publish("celery", b"[[], {}, {}]", headers={"task": "us.pay", "id": "u1"}, content_type="application/json")
        assert client.confirmed(2) == set()
    wait_equal(lambda: own_node.depth("celery-eu"), 1, what="the depth")
    with node.client() as direct:
        assert [m.headers["id"] for m in direct.drain("celery")] == ["u1"]
        direct.call(1, "queue.delete", queue="celery")
