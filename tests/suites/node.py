"""A private RabbitMQ node on loopback, started from Debian's package and ended by its own pid.

Only what the suites need; it shares nothing (cookie, epmd, mnesia, ports) with any other node of the machine.
"""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = "/usr/lib/rabbitmq/lib"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    """One RabbitMQ node: `with Node() as node: node.port`."""

    def __init__(self, conf="", plugins="", port=None):
        self.port = port or free_port()
        self.home = tempfile.mkdtemp(prefix="suites-rmq-")
        self.name = "n%d@localhost" % self.port
        home = self.home
        with open(home + "/rabbitmq.conf", "w") as f:
            f.write("listeners.tcp.1 = 127.0.0.1:%d\nlog.console.level = warning\n%s" % (self.port, conf))
        with open(home + "/enabled_plugins", "w") as f:
            f.write("[%s]." % plugins)
        self.env = dict(
            PATH=os.environ["PATH"], HOME=home, LANG="C.UTF-8",
            RABBITMQ_NODENAME=self.name, RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(self.port), RABBITMQ_DIST_PORT=str(free_port()),
            ERL_EPMD_PORT=str(free_port()), ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_MNESIA_BASE=home + "/mnesia", RABBITMQ_LOG_BASE=home + "/log",
            RABBITMQ_LOGS=home + "/log/rabbit.log",
            RABBITMQ_CONFIG_FILE=home + "/rabbitmq.conf", RABBITMQ_ENABLED_PLUGINS_FILE=home + "/enabled_plugins",
            RABBITMQ_CONF_ENV_FILE=home + "/none", RABBITMQ_PID_FILE=home + "/pid",
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none",
        )
        self.process = None

    def ctl(self, *args):
        """Run one rabbitmqctl command against this node."""
        base = sorted(os.listdir(ROOT))[-1]
        return subprocess.run(
            ["%s/%s/sbin/rabbitmqctl" % (ROOT, base), "-n", self.name, *args],
            env=self.env, capture_output=True, text=True, timeout=60)

    def start(self):
        base = sorted(os.listdir(ROOT))[-1]
        self.out = open(self.home + "/out", "wb")
        self.process = subprocess.Popen(
            ["%s/%s/sbin/rabbitmq-server" % (ROOT, base)], env=self.env,
            stdout=self.out, stderr=self.out, start_new_session=True)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 2) as s:
                    s.sendall(b"AMQP\0\0\x09\x01")
                    s.settimeout(5)
                    if s.recv(1) == b"\x01":
                        return self
            except OSError:
                time.sleep(0.3)
            if self.process.poll() is not None:
                break
        raise RuntimeError("no node: " + open(self.home + "/out").read()[-2000:])

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        # epmd leaves the group; it listens on this node's own port only.
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                env = open("/proc/%s/environ" % pid, "rb").read()
                cmd = open("/proc/%s/cmdline" % pid, "rb").read()
            except OSError:
                continue
            if b"epmd" in cmd and b"ERL_EPMD_PORT=" + self.env["ERL_EPMD_PORT"].encode() + b"\0" in env:
                os.kill(int(pid), signal.SIGTERM)
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()


if __name__ == "__main__":
    import sys
    with Node(port=int(sys.argv[1]) if len(sys.argv) > 1 else None) as node:
        print(node.port, node.home, flush=True)
        signal.sigwait([signal.SIGINT, signal.SIGTERM])
