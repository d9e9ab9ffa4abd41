"""The commands as a person uses them, and what the admin address tells."""

import json
import subprocess

import pytest

from harness import venvs
from harness.process import ROOT, free_port, wait_at_least, wait_equal, wait_for
from harness.umbel import BINARY

VECTORS = ROOT / "tests" / "data" / "vectors"


def command(*arguments, timeout=60, **options):
    return subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=timeout, **options)


BAD = """
[listen]
amqp = "not an address"
colour = "blue"

[upstreams.default]
urls = ["http://127.0.0.1"]
links = "many"

[[rules]]
name = "odd"
match = { tsk = "x" }
priority = { set = 900 }

[[rules]]
name = "bad pattern"
match = { task = { regex = "(" } }
route = { queue = "q" }
"""


@pytest.mark.parametrize("verb", ["run", "check"])
def test_every_problem_of_a_bad_file_is_listed_with_its_place_and_the_exit_is_64(place, verb):
    file = place / "bad.toml"
    file.write_text(BAD)
    out = command(verb, *(["--config"] if verb == "run" else []), file)
    said = out.stdout + out.stderr
    assert out.returncode == 64, said
    for word, line in (("not an address", 3), ("colour", 4), ("http", 7), ("links", 8), ("tsk", 12), ("900", 13), ("regex", 17)):
        assert f"{line}" in said, f"line {line} is not named:\n{said}"
        assert word in said, f"{word} is not named:\n{said}"


def test_a_file_that_is_not_there_is_64(place):
    out = command("run", "--config", place / "nothing.toml")
    assert out.returncode == 64
    assert "nothing.toml" in out.stdout + out.stderr


def test_a_file_that_is_no_toml_is_64_with_its_line(place):
    file = place / "no.toml"
    file.write_text('[listen]\namqp = "127.0.0.1:1\n')
    out = command("check", file)
    assert out.returncode == 64 and "2" in out.stdout + out.stderr


def test_the_repo_s_own_config_is_good():
    out = command("check", ROOT / "config.toml")
    assert out.returncode == 0, out.stdout + out.stderr


def test_an_address_in_use_is_said(place, node):
    file = place / "taken.toml"
    file.write_text(f'[listen]\namqp = "127.0.0.1:{node.port}"\nadmin = "127.0.0.1:{free_port()}"\n')
    out = command("run", "--config", file)
    assert out.returncode != 0
    assert str(node.port) in out.stdout + out.stderr


def test_secrets_are_never_printed(place, node, make_umbel):
    run = make_umbel("amqp://guest:hunter2secret@127.0.0.1:%d" % node.port, start=False)
    run.start(ready=False)
    wait_equal(lambda: run.get("/healthz")[0], 200)
    everything = run.logged() + "".join(run.get(path)[1] for path in ("/metrics", "/status", "/readyz", "/"))
    assert "hunter2secret" not in everything


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "--help"], ["explain", "--help"], ["import", "--help"], ["--version"]])
def test_help_is_helpful(arguments):
    out = command(*arguments)
    assert out.returncode == 0 and len(out.stdout) > 5


def test_explain_names_the_rule_behind_each_part():
    out = command("explain", "--config", ROOT / "config.toml", "--task", "reports.daily", "--priority", "9")
    assert out.returncode == 0, out.stderr
    assert "reports never outrank checkouts" in out.stdout
    out = command("explain", "--config", ROOT / "config.toml", "--task", "feeds.pull")
    assert "feeds have their own queue" in out.stdout


APP = """
from celery import Celery
from kombu import Exchange, Queue
app = Celery("shop")
app.conf.task_default_queue = "celery"
app.conf.task_queues = [Queue("celery"), Queue("feeds", Exchange("feeds"), routing_key="feeds"), Queue("media", Exchange("media", type="topic"), routing_key="media.#", max_priority=5)]
app.conf.task_routes = {"feeds.*": {"queue": "feeds"}, "video.encode": {"queue": "media", "routing_key": "media.encode"}, "stats.*": {"queue": "feeds", "priority": 2}}
"""


def test_import_turns_a_celery_app_s_routes_into_toml_that_decides_as_celery_does(place):
    (place / "shopapp.py").write_text(APP)
    out = command("import", "-A", "shopapp:app", "--python", venvs.python("celery5"), "--directory", place, timeout=60)
    assert out.returncode == 0, out.stderr
    file = place / "imported.toml"
    file.write_text(out.stdout)
    checked = command("check", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr + out.stdout
    asked = "import json; from shopapp import app; r = app.amqp.router; print(json.dumps({n: r.route({}, n)['queue'].name for n in %r}))"
    names = ["feeds.pull", "video.encode", "video.other", "stats.daily", "add"]
    celery = subprocess.run([venvs.python("celery5"), "-c", asked % names], cwd=place, capture_output=True, text=True, timeout=60)
    for name, queue in json.loads(celery.stdout).items():
        explained = command("explain", "--config", file, "--task", name)
        assert f"{queue}" in explained.stdout, f"{name}: Celery says {queue}, Umbel\n{explained.stdout}"


def test_explain_reads_a_captured_message():
    out = command("explain", "--config", ROOT / "config.toml", "--message", VECTORS / "c31-py27-v1-json.json")
    assert out.returncode == 0, out.stderr
    assert "proj.tasks.add" in out.stdout and "protocol 1" in out.stdout


# the admin address

def test_health_readiness_and_status_are_told(umbel, node, vhost):
    assert umbel.get("/healthz")[0] == 200
    assert umbel.get("/readyz")[0] == 200
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.publish("q", b"x")
        assert isinstance(json.loads(umbel.get("/status")[1]), dict)
    status, page = umbel.get("/")
    assert status == 200 and "<html" in page.lower()
    assert umbel.get("/nothing-here")[0] == 404


def test_metrics_are_well_formed_and_count_what_the_broker_got(umbel, node, vhost):
    from collections import Counter
    text_before = umbel.metrics()
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.select_confirms()
        for i in range(25):
            client.publish("q", b"[[], {}, {}]", headers={"task": "metrics.task", "id": str(i)}, content_type="application/json")
        client.confirmed(25)
    text = umbel.get("/metrics")[1]
    names = Counter(line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#"))
    assert names
    for name in names:
        assert name.startswith(("umbel_", "process_")), name
    typed = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    for name, kind in typed.items():
        if kind == "counter":
            assert name.endswith("_total"), name
    changed = {k for k, v in umbel.metrics().items() if v - text_before.get(k, 0) == 25}
    assert any("metrics.task" in k for k in changed), changed


def test_the_metrics_are_readable_by_prometheus_own_rules(umbel):
    """Every sample belongs to a family that was described before it, and no series comes twice."""
    seen, families = set(), set()
    for line in umbel.get("/metrics")[1].splitlines():
        if line.startswith("# TYPE"):
            families.add(line.split()[2])
        elif line and not line.startswith("#"):
            series = line.rsplit(" ", 1)[0]
            assert series not in seen, series
            seen.add(series)
            name = series.split("{")[0]
            assert name in families or name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") in families, name


def test_the_times_and_ends_that_are_promised_are_really_measured(make_umbel, node, vhost):
    """A family that never moves would be a promise without anybody behind it."""
    umbel = make_umbel(node.url())
    began = umbel.metrics()
    assert umbel.metric("umbel_start_timestamp_seconds") > 1.7e9
    assert umbel.metric("umbel_config_last_reload_successful") == 1
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.select_confirms()
        for i in range(40):
            client.publish("q", b"[[], {}, {}]", headers={"task": "timed.task", "id": str(i)}, content_type="application/json")
        assert client.confirmed(40) == set()
        wait_equal(lambda: umbel.metric("umbel_publish_confirm_seconds_count"), 40, what="publishes timed")
        # each publish is counted with the run that took it out
        assert umbel.metric("umbel_publish_forward_seconds_count") == 40
        assert 0 < umbel.metric("umbel_publish_forward_seconds_sum") < 40
        assert umbel.metric("umbel_link_connect_seconds_count") >= 1
        wait_at_least(lambda: umbel.status()["sessions"]["listed"][0]["connected_seconds"], 1, what="the session's age")
    wait_equal(lambda: umbel.metric("umbel_sessions_ended_total"), 1, what="sessions ended")
    for rules, successful in (("[[rules]]\nname = 'a'\npriority = 1\n", 1), ("[[rules]]\n", 0), ("", 1)):
        applied = umbel.metric("umbel_config_reloads_total")
        umbel.write_config(rules)
        umbel.reload()
        wait_for(lambda: umbel.metric("umbel_config_reloads_total") > applied and umbel.metric("umbel_config_last_reload_successful") == successful, what=umbel.logged)
    assert umbel.metric("umbel_config_reload_seconds_count") >= 3
    assert umbel.metric("umbel_config_last_success_timestamp_seconds") >= began["umbel_config_last_success_timestamp_seconds"] > 1.7e9
