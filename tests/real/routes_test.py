"""Celery's router against ours: random applications, imported by `umbel import`, must route as the real Celery does.

The application sends each task once with its `task_routes` and once without; what leaves Umbel for the second must be what Celery
published for the first. Configurations come from a seed, so that a failure can be had again: UMBEL_ROUTE_SEEDS=17,18 runs those alone.
"""

import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys

import celery.app.utils
import pytest
from celery import Celery
from kombu import Exchange, Queue
from kombu.common import Broadcast

from harness.process import ROOT
from harness.umbel import BINARY

SEEDS = [int(s) for s in os.environ["UMBEL_ROUTE_SEEDS"].split(",")] if "UMBEL_ROUTE_SEEDS" in os.environ else range(240)
SCRIPT = (ROOT / "src" / "cli" / "import.py").read_text()
TASKS = ["proj.add", "proj.mul", "proj.sub.deep", "feeds.import", "feeds", "f", "a.b", "[x]", "p?q", "PROJ.add", "é.ü", "a+b", "proj"]
GLOBS = ["proj", ".", "*", "?", "[ax]", "[!ax]", "[a-m]", "add", "feeds", "[", "[]]", "é", "+", "]", "^", "a"]
REGEXES = ["proj", r"\.", "(add|mul)", ".*", "[a-z]+", "feeds", "^", "$", r"\w+", "a?", "f|v", "x*"]
QUEUES = ["celery", "a", "b", "media", "high", "new"]



class Producer:
    """In place of Kombu's: it notes what Celery would have published."""

    def __init__(self, connection):
        self.connection = connection

    def publish(self, body, exchange=None, routing_key=None, declare=None, priority=0, expiration=None, mandatory=False, **_):
        self.exchange = getattr(exchange, "name", exchange) or ""
        self.routing_key, self.priority, self.mandatory = routing_key or "", priority, mandatory
        self.ttl = None if expiration is None else str(int(expiration * 1000))
        self.declares = [line for queue in declare or () for line in declared(queue)]


def declared(queue):
    """What kombu declares for a queue, in `umbel explain`'s words."""
    if queue.no_declare:
        return
    exchange = queue.exchange
    if exchange.name and not exchange.name.startswith("amq."):
        yield f"{exchange.type} exchange {exchange.name}"
    yield f"queue {queue.name}"
    if exchange.name:
        yield f'binding {exchange.name} → {queue.name} by "{queue.routing_key}"'


def app_of(settings):
    app = Celery("proj", broker="amqp://", set_as_current=False)
    app.conf.update(settings)
    return app


def publish(settings, task, options):
    def body(*_):
        """Never runs."""

    app = app_of(settings)
    producer = Producer(app.connection())
    app.task(body, name=task).apply_async((1,), producer=producer, **options)
    return producer


def pattern(r):
    if r.random() < 0.3:
        return r.choice(TASKS)
    if r.random() < 0.6:
        return "".join(r.choices(GLOBS, k=r.randint(0, 3))) + r.choice(["", "*", ".*", "*d", "?*"])
    while True:
        with contextlib.suppress(re.error):
            return re.compile("".join(r.choices(REGEXES, k=r.randint(1, 4))), r.choice([0, 0, re.I, re.S, re.M]))


def destination(r):
    if r.random() < 0.4:
        return r.choice(QUEUES)
    route = {}
    if r.random() < 0.9:
        own = r.randint(1, 10**9)
        own = Queue(f"own{own}", Exchange(f"x{own}", r.choice(["direct", "topic", "fanout"])), routing_key=f"k{own}")
        route["queue"] = own if r.random() < 0.15 else r.choice(QUEUES)
    for key, chance, choices in (
        ("routing_key", 0.25, ["rk", "media.video"]), ("priority", 0.25, [0, 3, 7, 200]), ("expiration", 0.1, [1, 2.5]),
        ("mandatory", 0.1, [True]), ("headers", 0.1, [{"tenant": "acme"}]), ("foo", 0.05, ["bar"]),
    ):
        if r.random() < chance:
            route[key] = r.choice(choices)
    # An exchange without a key is lost by Celery: the import says so, and leaves such tasks where they were going.
    if "routing_key" in route and r.random() < 0.5:
        route["exchange"] = r.choice(["ex", "amq.topic", "celery"])
        if r.random() < 0.4:
            route["exchange_type"] = r.choice(["topic", "direct", "fanout"])
    return route if r.random() < 0.95 else {}


def queue(r, name):
    options = {key: r.choice(choices) for key, chance, choices in (
        ("max_priority", 0.3, [5, 10]), ("message_ttl", 0.2, [1, 1.5]), ("expires", 0.1, [60]), ("max_length", 0.1, [7]), ("durable", 0.15, [False]),
        ("auto_delete", 0.15, [True]), ("no_declare", 0.1, [True]), ("queue_arguments", 0.2, [{"x-queue-type": "quorum"}, {"x-max-priority": 5}]),
        ("routing_key", 0.6, [f"rk.{name}", "media.#", name]),
    ) if r.random() < chance}
    kind = r.random()
    if kind < 0.1:
        return Broadcast(f"bc_{name}")
    if kind < 0.4:
        return Queue(name, **options)
    exchanges = [Exchange(f"ex_{name}", r.choice(["direct", "topic", "fanout", "headers"])), Exchange(name), Exchange("ex", "topic"), Exchange("amq.topic", "topic"), Exchange("")]
    return Queue(name, r.choice(exchanges), **options)


def application(r):
    def router():
        pairs = [(pattern(r), destination(r)) for _ in range(r.randint(1, 5))]
        return dict(pairs) if r.random() < 0.6 else pairs

    settings = {"task_routes": [router() for _ in range(r.choice([1, 1, 1, 2, 3]))]}
    if r.random() < 0.35:
        names = r.sample(QUEUES, r.randint(1, 3))
        settings["task_queues"] = [queue(r, name) for name in names]
        if r.random() < 0.2:
            settings["task_queues"] = {n: {"exchange": f"ex_{n}", "exchange_type": r.choice(["direct", "topic"]), "binding_key": f"k.{n}"} for n in names}
    for key, choices in (
        ("task_default_queue", QUEUES), ("task_default_exchange", ["dx"]), ("task_default_exchange_type", ["topic"]), ("task_default_routing_key", ["d.r.k"]),
        ("task_create_missing_queue_type", ["quorum"]), ("task_create_missing_queue_exchange_type", ["topic", "fanout"]),
        ("task_queue_max_priority", [10]), ("task_default_queue_type", ["quorum"]), ("task_default_priority", [2]),
    ):
        if r.random() < 0.1:
            settings[key] = r.choice(choices)
    return settings


def imported(settings, monkeypatch):
    """`umbel import`, its script run here rather than by an interpreter for each application."""
    monkeypatch.setattr(celery.app.utils, "find_app", lambda *_: app_of(settings))
    monkeypatch.setattr(sys, "argv", ["import.py", "fuzz:app"])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(SCRIPT, "import.py", "exec"), {"__name__": "imported"})
    done = subprocess.run([BINARY, "import", "--json", "-"], input=out.getvalue().splitlines()[-1], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("seed", SEEDS)
def test_an_imported_application_is_routed_as_celery_routes_it(seed, tmp_path, monkeypatch):
    r = random.Random(seed)
    settings, task = application(r), r.choice(TASKS)
    options = r.choice([{}, {}, {}, {}, {"priority": 9}, {"exchange": "amq.topic", "routing_key": "a.b"}])
    wanted = publish(settings, task, options)
    given = publish({k: v for k, v in settings.items() if k not in ("task_routes", "task_default_priority")}, task, options)
    config, message = tmp_path / "umbel.toml", tmp_path / "message.json"
    config.write_text(imported(settings, monkeypatch))
    message.write_text(json.dumps({
        "exchange": given.exchange, "routing_key": given.routing_key, "headers": {"task": task, "id": "1", "lang": "py"}, "body": [[1], {}, {}],
        "properties": {} if given.priority is None else {"priority": given.priority},
    }))
    done = subprocess.run([BINARY, "explain", "--config", config, "--message", message, "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stderr}\n{config.read_text()}"
    said = json.loads(done.stdout)
    priority = next(a["after"] for a in said["aspects"] if a["aspect"] == "priority")
    found = (said["to"]["exchange"], said["to"]["routing_key"], int(priority) if priority != "none" else 0)
    assert found == (wanted.exchange, wanted.routing_key, wanted.priority or 0), f"{task} {options} {settings}\n{config.read_text()}"
    # What Celery's producers declare again before they publish, we declare where we send a task elsewhere.
    if said["from"] != said["to"] and not wanted.exchange.startswith("bc_"):
        bare = [line for line in wanted.declares if "binding  " not in line]
        assert said["declares"] == bare, f"{task} {settings}\n{config.read_text()}"
