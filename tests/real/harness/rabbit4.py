"""RabbitMQ 4 by the same handle: its programs are in the root that tests/suites/rabbit4 installs, its files where any node's are."""

import os

from .process import ROOT
from .rabbit import RabbitNode

CHROOT = ROOT / "target" / "suites" / "trixie"
# A mount namespace of its own for each program: what is mounted is gone with it. The node's files have the same path on both sides.
ENTER = 'mkdir -p "$1$2" && mount --bind "$2" "$1$2" && mount -t proc proc "$1/proc" && shift 2 && exec chroot "$@"'


class Rabbit4(RabbitNode):
    def __init__(self, directory, config="", plugins=()):
        if not (CHROOT / "usr" / "sbin" / "rabbitmq-server").exists():
            raise RuntimeError("RabbitMQ 4 is not there: `tests/suites/rabbit4 install`")
        super().__init__(directory, config, plugins)

    def argv(self, program):
        found = sorted((CHROOT / "usr/lib/rabbitmq/lib").glob(f"rabbitmq_server-*/sbin/{program}"))[-1]
        files = ROOT / "target"
        return ["unshare", "--mount", "sh", "-c", ENTER, "sh", CHROOT, files.resolve(), CHROOT, f"/{found.relative_to(CHROOT)}"]


def new_node(directory, config="", plugins=()):
    """A node, not started, of the RabbitMQ that UMBEL_RABBITMQ names: 4, or this system's."""
    kind = Rabbit4 if os.environ.get("UMBEL_RABBITMQ") == "4" else RabbitNode
    return kind(directory, config, plugins)
