"""One broker and one transparent Umbel for these suites, by the harness of tests/real."""
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "real")]

from harness.rabbit4 import new_node  # noqa: E402
from harness.umbel import Umbel  # noqa: E402

# Each test process its own place: one that was killed may have left its broker alive.
WORK = HERE.parent.parent / "target" / "suites" / ("pytest-%d" % os.getpid())


def pytest_addoption(parser):
    parser.addoption("--direct-only", action="store_true", help="straight to the broker only: proves the tests themselves")
    parser.addoption("--broker", help="HOST:PORT of a broker that is there already (guest/guest, a vhost `suite`)")


class Given:
    """A broker that is not ours to start: only its address."""

    def __init__(self, address):
        host, port = address.split(":")
        self.address = (host, int(port))
        self.port = self.address[1]

    def url(self):
        return "amqp://guest:guest@%s:%d/" % self.address


@pytest.fixture(scope="session")
def node(request):
    given = request.config.getoption("--broker")
    if given:
        yield Given(given)
        return
    with new_node(WORK / "rabbit") as node:
        node.add_vhost("suite")
        yield node


@pytest.fixture(scope="session")
def umbel(node, request):
    if request.config.getoption("--direct-only"):
        yield node
        return
    with Umbel(WORK / "umbel", node.url()) as umbel:
        yield umbel
        assert umbel.stop() == 0, umbel.logged()[-3000:]
