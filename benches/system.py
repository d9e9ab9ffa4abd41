"""Processes of ours on given cores, and what the system says that they cost."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
# The proxy has one core for itself, producers and brokers share the other.
PROXY_CORE = CORES[-1]
OTHER_CORE = CORES[0]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Child:
    """A process, its children counted with it, its output in a file; ended by pid."""

    def __init__(self, argv, core, log, env=None, cwd=None, pipes=False):
        argv = ["taskset", "-c", str(core), *[str(a) for a in argv]]
        self.log = Path(log)
        out = subprocess.PIPE if pipes else open(log, "ab")
        self.popen = subprocess.Popen(
            argv, stdin=subprocess.PIPE if pipes else subprocess.DEVNULL, stdout=out,
            stderr=open(log, "ab"), env=env, cwd=cwd, text=pipes, bufsize=1 if pipes else -1,
        )
        self.pid = self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def pin(self, core):
        for task in os.listdir(f"/proc/{self.pid}/task"):
            os.sched_setaffinity(int(task), {core})

    def cpu_ns(self):
        """Processor time of all its threads, to the nanosecond where the kernel tells."""
        total = 0
        try:
            for task in os.listdir(f"/proc/{self.pid}/task"):
                try:
                    total += int(Path(f"/proc/{self.pid}/task/{task}/schedstat").read_text().split()[0])
                except FileNotFoundError:
                    pass
        except FileNotFoundError:
            return 0
        return total

    def rss(self, which="VmRSS"):
        """Resident octets: now, or (`VmHWM`) at most so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self):
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""


def turned_away():
    """How often a listener's queue was full when a client knocked, all listeners of this machine."""
    names, values = [line.split()[1:] for line in open("/proc/net/netstat") if line.startswith("TcpExt:")]
    return int(dict(zip(names, values))["ListenOverflows"])


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"{what} did not come up")
        time.sleep(0.05)


def machine():
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    memory = next((int(l.split()[1]) for l in open("/proc/meminfo") if l.startswith("MemTotal")), 0)
    return {"cpu": cpu, "cores": len(CORES), "memory_gib": round(memory / 2**20, 1), "kernel": os.uname().release}
