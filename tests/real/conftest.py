"""Fixtures: one broker and one transparent Umbel for most tests, a vhost for each test, and a way to ask the same of both."""

import itertools
import os
import re
import shutil

import pytest

from harness import venvs
from harness.authority import Authority
from harness.process import ROOT
from harness.rabbit4 import new_node
from harness.relay import Relay
from harness.spooled import Spooled
from harness.umbel import Umbel

LOGS = ROOT / "target" / "real"
_vhosts = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--via", default="both", choices=["both", "direct", "umbel"],
                     help="where a test runs both ways: straight to the broker, through Umbel, or both (the default)")


def pytest_generate_tests(metafunc):
    if "via" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--via")
        metafunc.parametrize("via", ["direct", "umbel"] if chosen == "both" else [chosen], indirect=True, scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With -n: what shares a broker, an Umbel or Celery processes stays in one test process, file by file, in a file way by way and age by age.
    (xdist's own --dist loadgroup has no groups under pytest 9.2: it writes them to names that nobody reads.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            return " ".join([file, *re.findall(r"\b(?:direct|umbel|celery\d+)\b", test.partition("[")[2])])

    config.option.loadscopereorder = False  # by the number of tests, the slowest few would come last
    return Together(config, log)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test says where its logs are."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when == "call" and "place" in item.fixturenames:
        place = item.funcargs.get("place")
        for log in sorted(place.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-25:]
            report.sections.append((f"{log}", "\n".join(lines)))


@pytest.fixture(scope="session")
def logs(request):
    """A directory of this test process alone, emptied when it begins and kept when it ends."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    path = LOGS / worker
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


@pytest.fixture
def place(logs, request):
    """The test's own directory."""
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in request.node.name)[:80]
    path = logs / f"{request.node.path.stem}.{name}"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="session")
def node(logs):
    """The broker of those tests that leave it alive."""
    with new_node(logs / "rabbit") as node:
        yield node


@pytest.fixture
def own_node(place):
    """A broker that the test may kill."""
    with new_node(place / "rabbit") as node:
        yield node


@pytest.fixture(scope="session")
def umbel(node, logs):
    """An Umbel without any rule in front of `node`: it must change nothing."""
    with Umbel(logs / "umbel", node.url(), name="transparent") as umbel:
        yield umbel
        status = umbel.stop()
        assert status == 0, f"the transparent Umbel ended with {status}:\n{umbel.logged()[-3000:]}"


@pytest.fixture(scope="session")
def via(request):
    """Where a client of the test connects: the broker itself, or the transparent Umbel before it."""
    return request.getfixturevalue({"direct": "node", "umbel": "umbel"}[request.param])


@pytest.fixture
def vhost(node):
    """A vhost for this test alone, gone with it."""
    with node.vhost(f"t{os.getpid()}-{next(_vhosts)}") as name:
        yield name


@pytest.fixture
def client(via, vhost):
    """A connection that goes where `via` says, on channel 1."""
    with via.client(vhost=vhost) as client:
        yield client


@pytest.fixture
def direct(node, vhost):
    """A connection to the broker itself, on channel 1."""
    with node.client(vhost=vhost) as client:
        yield client


@pytest.fixture(scope="session")
def authority(logs):
    return Authority(logs / "authority")


@pytest.fixture(scope="session")
def stranger(logs):
    """An authority that nobody trusts."""
    return Authority(logs / "authority", "stranger")


@pytest.fixture
def make_umbel(place):
    """Umbels of the test's own: `make_umbel(node.url(), rules)`."""
    made = []

    def make(upstream, rules="", start=True, **options):
        umbel = Umbel(place, upstream, rules, name=options.pop("name", f"umbel{len(made)}"), **options)
        made.append(umbel)
        return umbel.start() if start else umbel

    yield make
    for umbel in made:
        if umbel.process:
            umbel.process.kill()


@pytest.fixture
def relay_to():
    made = []

    def make(address):
        made.append(Relay(address))
        return made[-1]

    yield make
    for relay in made:
        relay.stop()


@pytest.fixture
def spooled(make_umbel, relay_to, node, vhost, place):
    """Umbels on one spool, and an outage at will."""
    return Spooled(make_umbel, relay_to(node.address), node, vhost, place)


@pytest.fixture
def processes(place):
    """Starts workers and producers, and ends them."""
    made = []

    def start(kind, *arguments, **options):
        process = kind(place, *arguments, **options)
        made.append(process)
        return process.start() if hasattr(process, "start") else process

    yield start
    for process in reversed(made):
        if process.process:
            process.process.kill()


def old(name):
    """A parameter for a Celery of old: skipped, with the reason, where it could not be installed."""
    marks = [pytest.mark.old]
    if venvs.python(name) is None:
        marks.append(pytest.mark.skip(reason=venvs.why_missing(name)))
    return pytest.param(name, marks=marks, id=name)


# The newest always; each older one where its interpreter is on the machine.
AGES = ["celery5", old("celery52"), old("celery44"), old("celery31")]
