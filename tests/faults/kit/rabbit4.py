"""A private RabbitMQ 4 node: the same harness, its files and its programs in the root that tests/suites/rabbit4 has installed."""

import shutil
import subprocess
from pathlib import Path

from harness.process import ROOT, Process, wait_for
from harness.rabbit import RabbitNode, _accepts

CHROOT = ROOT / "target" / "suites" / "trixie"


class Rabbit4(RabbitNode):
    def __init__(self, directory, config=""):
        if not (CHROOT / "usr" / "sbin" / "rabbitmq-server").exists():
            raise RuntimeError("RabbitMQ 4 is not there: `tests/suites/rabbit4 install`")
        # Inside the root, so that the node sees its own files.
        inside = CHROOT / "faults" / Path(directory).name
        super().__init__(inside, config)
        self.env = {key: value.replace(str(CHROOT), "") if isinstance(value, str) else value for key, value in self.env.items()}

    def start(self, wait=True):
        if subprocess.run(["mountpoint", "-q", CHROOT / "proc"]).returncode:
            subprocess.run(["mount", "-t", "proc", "proc", CHROOT / "proc"], check=True)
        if self.epmd is None or not self.epmd.alive():
            self.epmd = Process(["epmd", "-port", self.epmd_port, "-address", "127.0.0.1"], self.directory / "epmd.out", env=self.env)
            wait_for(lambda: _accepts(self.epmd_port), 10, what="epmd")
        server = sorted((CHROOT / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))[-1]
        self.process = Process(["chroot", CHROOT, "/" + str(server.relative_to(CHROOT))], self.directory / "server.out", env=self.env)
        if wait:
            self.wait_ready()
        return self

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
