"""Sentences of the contract that no other real test holds by itself: each condition of a match, the routes of an imported application,
what passes though it has expired, what is never compressed, and where a route's upstream is away (SPEC P1–P9). README.md has the map.
"""

import bz2
import datetime
import json
import os
import subprocess
import zlib

import pytest

from harness import venvs, wire
from harness.celery import Producer
from harness.pair import Pair
from harness.process import free_port, wait_at_least, wait_equal, wait_for
from harness.umbel import BINARY, Umbel

JSON = "application/json"
NOW = datetime.datetime.now(datetime.timezone.utc)
V1 = json.dumps({"task": "a.b", "id": "1", "args": [], "kwargs": {}, "retries": 2}).encode()

# P1. What a match asks, and two messages: one for which it holds, one for which it does not.
CONDITIONS = {
    "task, exact": ('task = "a.b"', {}, {"task": "a.bc"}),
    "task, glob": ('task = "a.?*"', {}, {"task": "xa.b"}),
    "task, glob with a class": ('task = "[ab].[!c]"', {}, {"task": "a.c"}),
    "task, regex": ("task = { regex = '(a|b)\\.' }", {}, {"task": "xa.b"}),
    "task, any of a list": ('task = ["x", "y.*", { regex = "a" }]', {}, {"task": "z"}),
    "queue": ('queue = "celery"', {}, {"routing_key": "other"}),
    "exchange": ('exchange = "amq.topic"', {"exchange": "amq.topic", "routing_key": "x"}, {}),
    "routing_key": ('routing_key = "cel*"', {}, {"routing_key": "other"}),
    "vhost": ('vhost = "VHOST"', {}, None),
    "another vhost": ('vhost = "elsewhere"', None, {}),
    "user": ('user = "guest"', {}, None),
    "another user": ('user = ["root", "g"]', None, {}),
    "client": ('client = ["10.0.0.0/8", "127.0.0.0/8"]', {}, None),
    "another client": ('client = "10.0.0.0/8"', None, {}),
    "a header's text": ('headers = { tenant = ["x", "ac*"] }', {"headers": {"tenant": "acme"}}, {"headers": {"tenant": "emca"}}),
    "a header's number": ("headers = { n = 7 }", {"headers": {"n": 7}}, {"headers": {"n": 8}}),
    "a header that is there": ("headers = { tenant = true }", {"headers": {"tenant": "x"}}, {"headers": {"tenant": None}}),
    "a header that is not": ("headers = { tenant = false }", {}, {"headers": {"tenant": "x"}}),
    "content_type": ('content_type = "application/x-python-serialize"', {"content_type": "application/x-python-serialize"}, {}),
    "size_over": ('size_over = "1KiB"', {"body": b"x" * 1025}, {"body": b"x" * 1024}),
    "size_under": ('size_under = "1KiB"', {"body": b"x" * 1023}, {"body": b"x" * 1024}),
    "priority": ("priority = [5, 9]", {"priority": 9}, {"priority": 6}),
    "priority, bounds": ("priority = { min = 5, max = 255 }", {"priority": 255}, {"priority": 4}),
    "retries": ("retries = { min = 1 }", {"headers": {"retries": 3}}, {"headers": {"retries": 0}}),
    "eta": ("eta = true", {"headers": {"eta": NOW.isoformat()}}, {"headers": {"eta": None}}),
    "no eta": ("eta = false", {}, {"headers": {"eta": NOW.isoformat()}}),
    "expires": ("expires = true", {"headers": {"expires": "2040-01-01T00:00:00"}}, {}),
    "protocol 2": ("protocol = 2", {}, {"v1": True}),
    "protocol 1": ("protocol = 1", {"v1": True}, {}),
    "protocol 1, its name and its retries": ('task = "a.*", retries = 2', {"v1": True}, {}),
    "compressed": ("compressed = true", {"headers": {"compression": "gzip"}}, {}),
    "two, both hold": ('task = "a.*", priority = 3', {"priority": 3}, {"priority": 4}),
    "two, the other": ('task = "a.*", priority = 3', {"priority": 3}, {"priority": 3, "task": "b"}),
}


def send(client, task="a.b", routing_key="celery", exchange="", headers=None, body=b"[[], {}, {}]", content_type=JSON, priority=None, v1=False):
    headers = {} if v1 else {"task": task, "id": "1", "lang": "py", **(headers or {})}
    client.publish(routing_key, V1 if v1 else body, exchange=exchange, headers=headers, content_type=content_type, priority=priority, correlation_id="1")


@pytest.mark.parametrize("what", CONDITIONS)
def test_a_condition_holds_or_does_not(what, make_umbel, node, vhost):
    match, holds, fails = CONDITIONS[what]
    umbel = make_umbel(node.url(), f'[[rules]]\nname = "r"\nmatch = {{ {match.replace("VHOST", vhost)} }}\nroute = {{ queue = "hit", override = true }}\n')
    with node.client(vhost=vhost) as direct:
        for queue in ("celery", "other", "hit"):
            direct.declare(queue)
        direct.call(1, "queue.bind", queue="other", exchange="amq.topic", routing_key="#")
        for message, hits in ((holds, 1), (fails, 0)):
            if message is not None:
                with umbel.client(vhost=vhost) as client:
                    client.select_confirms()
                    send(client, **message)
                    assert client.confirmed(1) == set()
                assert (direct.depth("hit"), direct.depth("celery") + direct.depth("other")) == (hits, 1 - hits)
                for queue in ("hit", "celery", "other"):
                    direct.call(1, "queue.purge", queue=queue)


# P2, C3. An application's own table, imported: what its producer sends without it must be found where it would have sent it.

APP = """
import os, re, sys
from celery import Celery
from kombu import Exchange, Queue
app = Celery("shop", broker=os.environ["BROKER"])
app.conf.task_queues = [
    Queue("celery"), Queue("feeds", Exchange("feeds"), routing_key="f.rk"),
    Queue("media", Exchange("media", type="topic"), routing_key="media.#", max_priority=5),
]
ROUTES = [
    {"feeds.slow": "slow", "feeds.*": {"queue": "feeds"}, "video.encode": {"queue": "media", "routing_key": "media.encode"}},
    [(re.compile(r"(stats|sums)\\."), {"queue": "numbers", "priority": 4}), ("reports.*", {"exchange": "amq.topic", "routing_key": "reports.all"})],
    {"feeds.late": "never", "*.end": {"queue": "ends"}},
]
if os.environ.get("ROUTED"):
    app.conf.task_routes = ROUTES
TASKS = ["feeds.slow", "feeds.pull", "feeds.late", "video.encode", "stats.a", "sums.b", "xstats.c", "reports.daily", "the.end", "plain"]
def body():
    "Never runs."
tasks = {n: app.task(body, name=n) for n in TASKS}
if __name__ == "__main__":
    for name in TASKS:
        tasks[name].apply_async()
        # A route's exchange and key would beat Celery's own `queue`; to us a destination that was named is named (P2).
        tasks[name].apply_async(queue="own" if name != "reports.daily" else None)
        tasks[name].apply_async(priority=7)
    os._exit(0)
"""


def everything(node, vhost):
    """{queue: [(task, exchange, routing key, priority)]} of a vhost. No priority is 0, to the broker and to workers."""
    out = {}
    with node.client(vhost=vhost) as direct:
        names = node.eval(f'[N || {{resource, _, queue, N}} <- rabbit_amqqueue:list_names(<<"{vhost}">>)]')
        for name in sorted(json.loads(names.replace("<<", "").replace(">>", ""))):
            out[name] = [(m.headers["task"], m.exchange, m.routing_key, m.properties.get("priority") or 0) for m in direct.drain(name)]
    return out


def test_an_imported_application_s_tasks_are_found_where_celery_itself_would_have_sent_them(make_umbel, node, place):
    (place / "shopapp.py").write_text(APP)
    rooms = ["routed-by-celery", "routed-by-umbel"]
    for room in rooms:
        node.add_vhost(room)
        with node.client(vhost=room) as direct:
            direct.declare("topics")
            direct.call(1, "queue.bind", queue="topics", exchange="amq.topic", routing_key="reports.#")
    environment = {**os.environ, "BROKER": node.url(vhost=rooms[0]), "PYTHONDONTWRITEBYTECODE": "1"}
    imported = subprocess.run([BINARY, "import", "-A", "shopapp:app", "--python", venvs.python("celery5"), "--directory", place],
                              env={**environment, "ROUTED": "1"}, capture_output=True, text=True, timeout=60)
    assert imported.returncode == 0, imported.stderr
    umbel = make_umbel(node.url(), imported.stdout)
    producer = [venvs.python("celery5"), "shopapp.py"]
    subprocess.run(producer, cwd=place, env={**environment, "ROUTED": "1"}, check=True, timeout=60)
    subprocess.run(producer, cwd=place, env={**environment, "BROKER": umbel.url(vhost=rooms[1])}, check=True, timeout=60)
    umbel.wait_settled(30)
    celery, ours = everything(node, rooms[0]), everything(node, rooms[1])
    for queue in sorted(set(celery) | set(ours)):
        assert ours.get(queue, []) == celery.get(queue, []), f"{queue}\n{imported.stdout}"
    assert {"slow", "feeds", "media", "numbers", "ends", "topics", "own", "celery"} <= {q for q, held in ours.items() if held}
    for room in rooms:
        node.delete_vhost(room)


# P4

EXPIRES = """
[[rules]]
name = "pass"
match = { headers = { how = "pass" } }
expiry = { action = "pass" }
[[rules]]
name = "expired"
expiry = { action = "revoke" }
"""


@pytest.fixture
def strict(make_umbel, node):
    return make_umbel(node.url(), EXPIRES)


@pytest.mark.parametrize("what, headers, body", [
    ("the rule says pass", {"task": "t", "id": "1", "expires": "2020-01-01T00:00:00+00:00", "how": "pass"}, b"[[], {}, {}]"),
    ("no moment that can be read", {"task": "t", "id": "1", "expires": "in a while"}, b"[[], {}, {}]"),
    ("naive, and utc is false", {}, json.dumps({"task": "t", "id": "1", "args": [], "kwargs": {}, "expires": "2020-01-01T00:00:00", "utc": False}).encode()),
    ("no task", {"expires": 1600000000.5, "clock": 1}, b'{"method": "ping", "arguments": {}, "destination": null}'),
    ("no task at all", {"expires": "2020-01-01T00:00:00+00:00"}, b"plain"),
])
def test_what_looks_expired_passes_untouched_where(strict, node, vhost, what, headers, body):
    with strict.client(vhost=vhost) as client, node.client(vhost=vhost) as direct:
        client.declare("q")
        client.select_confirms()
        payload = wire.header(len(body), headers=headers, content_type=JSON)
        client.publish("q", body, header_payload=payload)
        assert client.confirmed(1) == set()
        message = direct.get("q")
        assert (message.header, message.body) == (payload, body), what


def test_a_producer_goes_on_after_its_task_was_kept_out(strict, node, vhost):
    """Without confirms, as Celery is: no return, no close, for they would cost it the next task (wire/CELERY.md §8)."""
    with strict.client(vhost=vhost) as client, node.client(vhost=vhost) as direct:
        client.declare("q")
        client.publish("q", b"[[], {}, {}]", headers={"task": "t", "id": "1", "expires": "2020-01-01T00:00:00+00:00"}, content_type=JSON)
        client.publish("q", b"[[], {}, {}]", headers={"task": "t", "id": "2"}, content_type=JSON)
        client.declare("q")
        wait_equal(lambda: direct.depth("q"), 1, what="the depth")
        assert direct.get("q").headers["id"] == "2"
    assert strict.metric("umbel_tasks_total", verdict="expire") == 1


@pytest.mark.parametrize("settings", [{}, {"task_protocol": 1}, {"enable_utc": False, "timezone": "America/New_York"}, {"timezone": "Asia/Kolkata"}],
                         ids=["protocol 2", "protocol 1", "not utc", "another timezone"])
def test_a_caller_of_any_setting_is_told_of_its_expired_task_and_keeps_the_one_in_time(strict, node, logs, settings, request):
    name = f"revoked-{request.node.callspec.id.replace(' ', '-')}"
    with Pair(logs / name, strict, node, "celery5", name, settings=settings) as pair:
        pair.run("late = add.apply_async((1, 1), queue='nobody', expires=-5)")
        assert pair.run("late.get(timeout=60, propagate=False).__class__.__name__, late.state") == ["TaskRevokedError", "REVOKED"]
        assert pair.run("add.apply_async((20, 22), expires=3600).get(timeout=60)") == 42
        assert pair.nothing_in_broker("nobody")


def test_celery_s_ttl_of_an_imposed_expiry_is_the_shorter_one(make_umbel, node, vhost, processes):
    """Celery stamps its own TTL; ours is never longer than what a rule leaves, nor longer than Celery's."""
    umbel = make_umbel(node.url(), '[[rules]]\nname = "max"\nexpiry = { max = "100s", stamp_ttl = true }\n')
    producer = processes(Producer, umbel.url(vhost=vhost))
    for asked, low, high in ((3600, 80_000, 100_000), (50, 40_000, 50_000), (None, 80_000, 100_000)):
        producer.run(f"add.apply_async((1, 1), queue='q', expires={asked}) and None")
        with node.client(vhost=vhost) as direct:
            wait_at_least(lambda: direct.depth("q"), 1, what="the depth")
            message = direct.get("q")
        assert low <= int(message.properties["expiration"]) <= high, asked
        left = datetime.datetime.fromisoformat(message.headers["expires"]) - datetime.datetime.now(datetime.timezone.utc)
        assert low / 1000 - 10 <= left.total_seconds() <= high / 1000 + 1


# P5

PACKING = """
[[rules]]
name = "unpacked"
match = { task = "*.echo", headers = { how = "none" } }
compression = { codec = "none" }
[[rules]]
name = "packed"
compression = { codec = "zlib" }
"""


@pytest.fixture(scope="module")
def packing(node, logs):
    with Umbel(logs / "packing", node.url(), PACKING, name="packing") as umbel, Pair(logs / "packing-pair", umbel, node, "celery5", "packing") as pair:
        yield pair


@pytest.mark.parametrize("codec", ["gzip", "bzip2", "zlib", "bzip", "lzma", "xz", "brotli", "zstd", "zstandard"])
def test_what_was_packed_with_any_of_kombu_s_codecs_is_unpacked_where_a_rule_says_so(packing, codec):
    options = f"compression={codec!r}, headers={{'how': 'none'}}"
    assert packing.run(f"echo.apply_async(('umbel ' * 500,), {options}).get(timeout=60)") == "umbel " * 500
    packing.run(f"echo.apply_async(('umbel ' * 500,), queue='unpacked', {options}) and None")
    message = packing.in_broker("unpacked")
    assert "compression" not in message.headers
    assert json.loads(message.body)[0] == ["umbel " * 500]


@pytest.mark.parametrize("what, body, codec", [
    ("tiny", "b", None), ("stubborn", "__import__('base64').b85encode(os.urandom(6000)).decode()[:1500]", None), ("packed", "'x' * 9000", "bzip2"),
])
def test_a_body_is_never_packed_that_is_tiny_or_packed_already(packing, what, body, codec):
    body = {"b": "'b'"}.get(body, body)
    packing.run(f"echo.apply_async(({body},), queue='left', compression={codec!r}) and None")
    message = packing.in_broker("left")
    if what == "stubborn":  # base85 still shrinks by a fifth: what counts is that it never grows
        plain = zlib.decompress(message.body) if "compression" in message.headers else message.body
        assert len(message.body) <= len(plain)
    else:
        assert message.headers.get("compression") == {None: None, "bzip2": "application/x-bz2"}[codec]
    if codec:
        assert json.loads(bz2.decompress(message.body))[0] == ["x" * 9000]


def test_bytes_that_do_not_shrink_go_as_they_came(packing, node):
    body = os.urandom(5000)
    with packing.via.client(vhost=packing.vhost) as client:
        client.declare("noise")
        payload = wire.header(len(body), headers={"task": "t", "id": "1"}, content_type="application/x-python-serialize", content_encoding="binary")
        client.publish("noise", body, header_payload=payload)
        message = packing.in_broker("noise")
        assert (message.header, message.body) == (payload, body)


def test_what_is_packed_keeps_its_content_type_and_encoding(packing):
    for serializer, encoding in (("json", "utf-8"), ("pickle", "binary"), ("msgpack", "binary"), ("yaml", "utf-8")):
        assert packing.run(f"echo.apply_async(('umbel ' * 500,), serializer={serializer!r}).get(timeout=60)") == "umbel " * 500
        packing.run(f"echo.apply_async(('umbel ' * 500,), queue='typed', serializer={serializer!r}) and None")
        message = packing.in_broker("typed")
        assert message.headers["compression"] == "application/x-gzip"
        assert (message.properties["content_encoding"], serializer in message.properties["content_type"] or serializer == "pickle") == (encoding, True)


# P6

def test_who_uses_no_confirms_is_refused_with_403_on_its_channel_where_a_rule_says_refuse(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), '[[rules]]\nname = "off"\nmatch = { task = "off.*" }\nadmission = { action = "refuse", reason = "off today" }\n')
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.publish("q", b"[]", headers={"task": "off.a", "id": "1"})
        with pytest.raises(wire.Refused, match="off today") as refused:
            client.next()
        assert (refused.value.scope, refused.value.code, refused.value.text) == ("channel", 403, "ACCESS_REFUSED - off today")
    with umbel.client(vhost=vhost) as client:
        client.select_confirms()
        client.publish("q", b"[]", headers={"task": "off.a", "id": "1"})
        client.publish("q", b"[]", headers={"task": "on.a", "id": "2"})
        assert client.confirmed(2) == {1}
    assert node.depth("q", vhost) == 1


# P9

@pytest.mark.parametrize("when_down, found", [("turn-back", 5), ("wait", 0)])
def test_a_task_for_an_upstream_that_is_away_goes_where_it_was_going_or_waits_and_is_counted(make_umbel, node, vhost, when_down, found):
    umbel = make_umbel(node.url(), f"""
[upstreams.eu]
urls = ["amqp://127.0.0.1:{free_port()}"]
when_down = "{when_down}"
[[rules]]
name = "to the other"
match = {{ task = "eu.*" }}
route = {{ upstream = "eu", queue = "q" }}
""")
    with umbel.client(vhost=vhost) as client:
        client.declare("celery")
        client.publish("celery", b"[]", headers={"task": "eu.first", "id": "0"})
        wait_equal(lambda: next(u for u in umbel.status()["upstreams"] if u["name"] == "eu")["state"], "down", what="the other upstream")
        began = wait_equal(lambda: node.depth("celery", vhost), 1 if found else 0, what="the depth")
        for i in range(5):
            client.publish("celery", b"[]", headers={"task": "eu.pay", "id": str(i)})
            client.publish("celery", b"[]", headers={"task": "us.pay", "id": str(i)})
        wait_equal(lambda: umbel.counters()["accepted"], 11, what="what was read")
        wait_equal(lambda: node.depth("celery", vhost) - began, 5 + found, what="what came in the queue")
        counters = umbel.status()["counters"]
        assert counters["in_flight"] >= (0 if found else 5)


def test_a_header_that_grows_out_of_its_frame_leaves_the_task_as_it_came_and_is_logged(make_umbel, node, vhost):
    headers = ", ".join(f'h{i} = "{"x" * 900}"' for i in range(12))
    umbel = make_umbel(node.url(), f'[[rules]]\nname = "fat"\nroute = {{ queue = "fat", headers = {{ {headers} }} }}\n')
    with umbel.client(vhost=vhost, frame_max=8192) as client, node.client(vhost=vhost) as direct:
        client.declare("celery")
        payload = wire.header(2, headers={"task": "t", "id": "1"})
        client.publish("celery", b"[]", header_payload=payload)
        wait_equal(lambda: direct.depth("celery"), 1, what="the depth")
        assert direct.get("celery").header == payload
    wait_for(lambda: "could not be carried out" in umbel.logged(), what=umbel.logged)
    assert umbel.metric("umbel_policy_mistakes_total") == 1
