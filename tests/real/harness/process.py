"""A child process that never outlives us: its own group, its own log file, ended by pid."""

import contextlib
import ctypes
import fcntl
import os
import random
import resource
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PR_SET_PDEATHSIG = 1
OPEN_FILES = 8192  # Erlang and Python both walk the whole table when the limit is enormous
_libc = ctypes.CDLL(None, use_errno=True)
_ports, _mine = None, set()  # the file whose octets are the ports that somebody has
PATIENCE = 30.0  # seconds: what is waited for comes at once, but a busy machine may take its time


def free_port():
    """A loopback port that nobody listens on and that no test process of this machine has been given, for as long as we live. Below those
    that the kernel lends to connections: one of these may be anybody's by the time it is bound."""
    global _ports
    if _ports is None:
        _ports = open(Path(tempfile.gettempdir()) / f"umbel-test-ports-{os.getuid()}", "ab")
    while True:
        port = random.randrange(12000, 32000)
        if port in _mine:
            continue
        try:
            fcntl.lockf(_ports, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            continue
        _mine.add(port)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def wait_until(read, holds, timeout=PATIENCE, every=0.05, what=None):
    """The first value of `read()` for which `holds(value)`, or an AssertionError that says what was waited for, and what was there."""
    end = time.monotonic() + timeout
    while True:
        value = read()
        if holds(value):
            return value
        if time.monotonic() > end:
            label = what() if callable(what) else what
            raise AssertionError(f"waited {timeout:g} s for {label or read}, last seen: {value!r}")
        time.sleep(every)


def wait_for(condition, timeout=PATIENCE, every=0.05, what=None):
    """The first true value of `condition()`. Where it compares, `wait_equal` and `wait_at_least` say more when it never holds."""
    return wait_until(condition, bool, timeout, every, what)


def wait_equal(read, wanted, timeout=PATIENCE, every=0.05, what=None):
    """Until `read()` is what is wanted."""
    return wait_until(read, lambda seen: seen == wanted, timeout, every, lambda: f"{_label(what)}to be {wanted!r}")


def wait_at_least(read, wanted, timeout=PATIENCE, every=0.05, what=None):
    """Until `read()` is that much. None, as of a queue that is not there, is nothing."""
    return wait_until(read, lambda seen: (seen or 0) >= wanted, timeout, every, lambda: f"{_label(what)}to be {wanted!r} at least")


def _label(what):
    label = what() if callable(what) else what
    return f"{label} " if label else "it "


def _in_child(open_files, memory):
    # If the test run is killed, its children go with it.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = open_files if hard == resource.RLIM_INFINITY else min(open_files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


class Process:
    """A running program; its output goes to `log`. `memory`: octets of data (RLIMIT_DATA), beyond which it is given none."""

    def __init__(self, argv, log, env=None, cwd=None, stdin=subprocess.DEVNULL, stdout=None, open_files=OPEN_FILES, memory=None,
                 pass_fds=()):
        self.log = Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.argv = [str(a) for a in argv]
        with open(self.log, "ab") as out:
            self.popen = subprocess.Popen(
                self.argv, stdin=stdin, stdout=stdout or out, stderr=out if stdout else subprocess.STDOUT,
                env=env, cwd=cwd, start_new_session=True, preexec_fn=lambda: _in_child(open_files, memory),
                pass_fds=pass_fds,
            )
        self.pid = self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        """To this process alone."""
        if self.alive():
            os.kill(self.pid, number)

    def pause(self):
        """Returns when each of its threads stands still: until the one that takes the signal has had a processor, the others go on."""
        self.signal(signal.SIGSTOP)
        wait_equal(self._states, {"T"}, every=0.001, what="states of the threads")

    def _states(self):
        states = set()
        for thread in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                states.add(thread.read_text().rpartition(")")[2].split()[0])
        return states

    def resume(self):
        self.signal(signal.SIGCONT)

    def wait(self, timeout):
        return self.popen.wait(timeout)

    def stop(self, timeout=10.0):
        """SIGTERM, and SIGKILL for those who do not listen; the exit status."""
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        self.kill()
        return self.popen.returncode

    def kill(self):
        """SIGKILL to it and to whatever it started in its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.popen.wait(10)

    def tail(self, lines=40):
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""
