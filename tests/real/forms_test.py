"""Forms of a task that Celery's own producers seldom send, each with a moment that has passed: what a real worker reads, Umbel reads.

`REVOKED`: the worker discards the task as expired, and so does Umbel, before the broker sees it. `RAN` and `LOST` (the worker runs it,
or cannot read it): Umbel forwards it byte for byte.
"""

import base64
import bz2
import datetime
import json
import pickle
import zlib

import pytest

from conftest import AGES
from harness.celery import Worker
from harness.process import wait_equal
from harness.umbel import Umbel

REVOKED, RAN, LOST = "revoked", "ran", "lost"
PAST = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
FUTURE = PAST + datetime.timedelta(days=9)
ISO = PAST.isoformat()
INDIA = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
JSON, PICKLE, YAML = "application/json", "application/x-python-serialize", "application/x-yaml"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
ARGS = json.dumps([[20, 22], {}, EMBED]).encode()
HEADERS = {"lang": "py", "task": "proj.tasks.add", "id": "ID", "retries": 0, "timelimit": [None, None], "eta": None, "expires": ISO, "group": None,
           "root_id": "ID", "parent_id": None}
BODY = {"task": "proj.tasks.add", "id": "ID", "args": [20, 22], "kwargs": {}, "retries": 0, "eta": None, "expires": ISO, "utc": True,
        "callbacks": None, "errbacks": None, "timelimit": [None, None], "taskset": None, "chord": None}


def headers(**more):
    return {**HEADERS, **more}


def v1(encoding="utf-8", ascii=False, **more):
    return json.dumps({**BODY, **more}, ensure_ascii=ascii).encode(encoding)


def pickled(expires, protocol=2):
    return pickle.dumps({**BODY, "expires": expires}, protocol=protocol)


YAML_BODY = 'task: proj.tasks.add\nid: "ID"\nargs: [20, 22]\nkwargs: {}\nretries: 0\neta: null\nexpires: MOMENT\nutc: true\n'


def without(entries, *names):
    return {k: v for k, v in entries.items() if k not in names}


# name: (headers, body, content type, content encoding, what a worker of today does)
FORMS = {
    "iso with offset": (headers(), ARGS, JSON, "utf-8", REVOKED),
    "iso with Z": (headers(expires=ISO.replace("+00:00", "Z")), ARGS, JSON, "utf-8", REVOKED),
    "iso elsewhere": (headers(expires=PAST.astimezone(INDIA).isoformat()), ARGS, JSON, "utf-8", REVOKED),
    "iso naive is utc": (headers(expires=ISO.replace("+00:00", "")), ARGS, JSON, "utf-8", REVOKED),
    "iso without fraction": (headers(expires=PAST.replace(microsecond=0).isoformat()), ARGS, JSON, "utf-8", REVOKED),
    "iso to come": (headers(expires=FUTURE.isoformat()), ARGS, JSON, "utf-8", RAN),
    "timestamp": (headers(expires=PAST), ARGS, JSON, "utf-8", REVOKED),
    "timestamp to come": (headers(expires=FUTURE), ARGS, JSON, "utf-8", RAN),
    "number": (headers(expires=int(PAST.timestamp())), ARGS, JSON, "utf-8", LOST),
    "fraction of a number": (headers(expires=PAST.timestamp()), ARGS, JSON, "utf-8", LOST),
    "no moment": (headers(expires="yesterday"), ARGS, JSON, "utf-8", LOST),

    "hybrid: a v1 body under v2 headers": (without(HEADERS, "expires", "eta"), v1(), JSON, "utf-8", REVOKED),
    "hybrid: least headers": ({"task": "proj.tasks.add", "id": "ID"}, v1(), JSON, "utf-8", REVOKED),
    "hybrid: id in the body": ({"task": "proj.tasks.add"}, v1(), JSON, "utf-8", REVOKED),
    "hybrid: null in a header lies over the body": (headers(expires=None), v1(), JSON, "utf-8", RAN),
    "hybrid: a header lies over the body": (headers(), v1(expires=FUTURE.isoformat()), JSON, "utf-8", REVOKED),
    "hybrid: pickled": ({"task": "proj.tasks.add", "id": "ID"}, pickle.dumps(BODY, protocol=2), PICKLE, "binary", REVOKED),
    "hybrid: compressed": ({"task": "proj.tasks.add", "id": "ID", "compression": "gzip"}, zlib.compress(v1()), JSON, "utf-8", REVOKED),
    "v1": ({}, v1(), JSON, "utf-8", REVOKED),
    "v1 says utc is false": ({}, v1(utc=False), JSON, "utf-8", REVOKED),
    "v1 at least": ({}, json.dumps({k: BODY[k] for k in ("task", "id", "args", "kwargs", "expires")}).encode(), JSON, "utf-8", REVOKED),
    "v1 of moments to come, a header lies over it": ({"expires": ISO}, v1(expires=FUTURE.isoformat()), JSON, "utf-8", REVOKED),
    "v1, null in a header lies over it": ({"expires": None}, v1(), JSON, "utf-8", RAN),
    "v1, a timestamp lies over it": ({"expires": PAST}, v1(expires=None), JSON, "utf-8", REVOKED),
    "v1 with a number": ({}, v1(expires=int(PAST.timestamp())), JSON, "utf-8", LOST),
    "a v2 body without v2 headers": ({}, ARGS, JSON, "utf-8", LOST),

    "v1 in utf-16": ({}, v1("utf-16"), JSON, "utf-16", REVOKED),
    "v1 in utf-16-be": ({}, v1("utf-16-be"), JSON, "UTF-16BE", REVOKED),
    "v1 in latin-1": ({}, v1("latin-1", origin="café"), JSON, "latin-1", REVOKED),
    "v1 that is utf-8 and says binary": ({}, v1(), JSON, "binary", REVOKED),
    "v1 that is utf-8 and says nonsense": ({}, v1(), JSON, "no such codec", REVOKED),
    "v1 that is utf-8 and says nothing": ({}, v1(), JSON, None, REVOKED),
    "v1 in yaml, utf-16": ({}, json.dumps(BODY).encode("utf-16"), YAML, "utf-16", REVOKED),
    "v1 in utf-16 that says utf-8": ({}, v1("utf-16"), JSON, "utf-8", LOST),
    "v1 compressed under latin-1": ({"compression": "application/x-gzip"}, zlib.compress(v1()), JSON, "latin-1", LOST),
    "v1 compressed": ({"compression": "bzip2"}, bz2.compress(v1()), JSON, "utf-8", REVOKED),
    "v1 pickle, a naive datetime": ({}, pickled(PAST.replace(tzinfo=None)), PICKLE, "binary", REVOKED),
    "v1 pickle, a naive datetime to come": ({}, pickled(FUTURE.replace(tzinfo=None)), PICKLE, "binary", RAN),
    "v1 pickle, a datetime in utc": ({}, pickled(PAST, protocol=4), PICKLE, "binary", REVOKED),
    "v1 pickle, a datetime elsewhere": ({}, pickled(PAST.astimezone(INDIA)), PICKLE, "binary", REVOKED),
    "v1 pickle, a datetime elsewhere to come": ({}, pickled(FUTURE.astimezone(INDIA), protocol=4), PICKLE, "binary", RAN),
    "v1 yaml, a datetime": ({}, YAML_BODY.replace("MOMENT", f"{PAST:%Y-%m-%d %H:%M:%S}").encode(), YAML, "utf-8", REVOKED),
    "v1 yaml, a datetime to come": ({}, YAML_BODY.replace("MOMENT", f"{FUTURE:%Y-%m-%d %H:%M:%S}").encode(), YAML, "utf-8", RAN),
    "v1 pickle under latin-1": ({}, pickle.dumps(BODY, protocol=2), PICKLE, "latin-1", LOST),
    "v1 wrapped in base64": ({}, base64.b64encode(v1()), JSON, "base64", LOST),
    "v2 in utf-16": (headers(), json.dumps([[20, 22], {}, EMBED]).encode("utf-16"), JSON, "utf-16", REVOKED),
    "erlang's terms": ({}, b"\x83t\x00\x00\x00\x01m\x00\x00\x00\x04taskm\x00\x00\x00\x0eproj.tasks.add", "application/x-erlang-binary", "binary", LOST),
}
# What the workers of old read otherwise.
OTHERWISE = {
    "celery31": {name: None for name, form in FORMS.items() if "task" in form[0] or "expires" in form[0]} | {
        "v1 says utc is false": None,
        # Python 2 has neither protocol 4 nor datetime.timezone.
        "v1 pickle, a datetime in utc": None, "v1 pickle, a datetime elsewhere": None, "v1 pickle, a datetime elsewhere to come": None},
    # To 4.4 a body of protocol 1 counts alone, whatever headers say.
    "celery44": {"no moment": None, "hybrid: null in a header lies over the body": REVOKED, "hybrid: a header lies over the body": RAN,
                 "v1 of moments to come, a header lies over it": RAN, "v1, null in a header lies over it": REVOKED,
                 "v1, a timestamp lies over it": RAN},
    "celery52": {},
}


def publish(client, queue, form, task_id, replies):
    table, body, kind, encoding, _ = form
    table = {k: task_id if v == "ID" else v for k, v in table.items()}
    body = named(body, task_id, table.get("compression"), encoding)
    client.publish(queue, body, headers=table, content_type=kind, content_encoding=encoding, correlation_id=task_id, reply_to=replies, delivery_mode=2)
    return body


def named(body, task_id, compression, encoding):
    """The body with the task's own id, as long as the place that is kept for it."""
    pack, unpack = {"gzip": (zlib.compress, zlib.decompress), "application/x-gzip": (zlib.compress, zlib.decompress),
                    "bzip2": (bz2.compress, bz2.decompress)}.get(compression, (bytes, bytes))
    plain = unpack(body)
    for codec in ("ascii", "utf-16-le", "utf-16-be"):
        plain = plain.replace('"ID"'.encode(codec), f'"{task_id}"'.encode(codec))
    plain = plain.replace(b"X\x02\x00\x00\x00ID", b"X" + len(task_id).to_bytes(4, "little") + task_id.encode())
    if b"\x8c\x02ID" in plain:
        # Protocol 4: written again, for its frame has a length.
        plain = pickle.dumps({**pickle.loads(plain), "id": task_id}, protocol=4)
    return pack(plain)


@pytest.fixture(scope="module", params=AGES)
def hall(request, node, logs):
    """A worker of each age, straight at the broker: (its age, it, its vhost)."""
    with node.vhost(f"forms-{request.param}") as vhost:
        with Worker(logs / vhost, node.url(vhost=vhost), venv=request.param, pool="solo", name="w") as worker:
            yield request.param, worker, vhost


@pytest.fixture(scope="module")
def revoking(node, logs):
    with Umbel(logs / "forms", node.url(), '[[rules]]\nname = "expired"\nexpiry = { action = "revoke" }\n', name="revoking") as umbel:
        yield umbel


@pytest.mark.parametrize("name", FORMS)
def test_a_real_worker_reads_it_so(hall, node, name):
    age, worker, vhost = hall
    wanted = OTHERWISE.get(age, {}).get(name, FORMS[name][4])
    if wanted is None:
        pytest.skip(f"{age} reads this another way, or not at all")
    task_id = "id-" + "".join(c if c.isalnum() else "-" for c in name)
    with node.client(vhost=vhost) as direct:
        replies = direct.declare("", exclusive=True)
        direct.consume(replies)
        publish(direct, "celery", FORMS[name], task_id, replies)
        # Behind it, so that whatever the worker did with it has been done.
        last = f"{task_id}-last"
        publish(direct, "celery", (headers(expires=None), ARGS, JSON, "utf-8", RAN), last, replies)
        answers = {}
        while last not in answers:
            answer = json.loads(direct.delivery().body)
            answers[answer["task_id"]] = answer["status"]
    assert worker.process.alive()
    assert answers.get(task_id) == {REVOKED: "REVOKED", RAN: "SUCCESS", LOST: None}[wanted], worker.process.tail(12)


@pytest.mark.parametrize("name", FORMS)
def test_umbel_reads_it_as_a_worker_does(revoking, node, vhost, name):
    form, task_id = FORMS[name], "an-id-of-its-own"
    with revoking.client(vhost=vhost) as client, node.client(vhost=vhost) as direct:
        replies = direct.declare("", exclusive=True)
        direct.declare("q")
        client.select_confirms()
        body = publish(client, "q", form, task_id, replies)
        assert client.confirmed(1) == set()
        if form[4] == REVOKED:
            direct.consume(replies)
            answer = json.loads(direct.delivery().body)
            assert (answer["status"], answer["task_id"]) == ("REVOKED", task_id)
            assert direct.depth("q") == 0
        else:
            wait_equal(lambda: direct.depth("q"), 1, what="the depth")
            assert direct.get("q").body == body
            assert direct.depth(replies) == 0
