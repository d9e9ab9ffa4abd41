"""Producers under a fault: raw AMQP ones for volume and real Celery ones, each with a journal of what returned."""

import json
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from harness.celery import Producer
from harness.process import Process, wait_for

from .oracle import Journal

RAW = Path(__file__).with_name("raw.py")
ENOUGH = 40  # seconds that a producer may take to say goodbye


class Raw:
    """One process, one connection, channels in turn (kit/raw.py)."""

    def __init__(self, directory, address, name, queues=("q",), channels=1, confirms=False, rate=400, size=(0, 200), count=None, window=500,
                 vhost="/", user="guest", password="guest", exchange="", mandatory=False, reconnect=True, goodbye="polite", patience=20,
                 open_timeout=15, heartbeat=0, frame_max=131072, seed=0):
        self.name, self.confirms = name, confirms
        self.journal_file = Path(directory) / f"{name}.journal"
        size = (size, size) if isinstance(size, int) else size
        order = {"address": list(address), "name": name, "queues": list(queues), "channels": list(range(1, channels + 1)), "confirms": confirms,
                 "rate": rate, "size": size, "count": count, "window": window, "vhost": vhost, "user": user, "password": password,
                 "exchange": exchange, "mandatory": mandatory, "reconnect": reconnect, "goodbye": goodbye, "patience": patience,
                 "open_timeout": open_timeout, "heartbeat": heartbeat, "frame_max": frame_max, "seed": seed, "journal": str(self.journal_file)}
        self.process = Process([sys.executable, RAW, json.dumps(order)], Path(directory) / f"{name}.log",
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def wait_ready(self, timeout=40):
        told, _, _ = select.select([self.process.popen.stdout], [], [], timeout)
        line = self.process.popen.stdout.readline() if told else b"nothing"
        assert line == b"ready\n", f"producer {self.name} said {line!r}:\n{self.journal().exceptions[-1:]}\n{self.process.tail()}"
        return self

    def returned(self, kind=b"r"):
        """Calls that have returned so far."""
        if not self.journal_file.exists():
            return 0
        return sum(line.startswith(kind) for line in self.journal_file.read_bytes().splitlines())

    def acked(self):
        return self.returned(b"a")

    def stop(self):
        """Tells it to end; `join` waits."""
        try:
            self.process.popen.stdin.write(b"stop\n")
            self.process.popen.stdin.flush()
        except (OSError, ValueError):
            pass

    def join(self, timeout=ENOUGH):
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        self.process.kill()
        for pipe in (self.process.popen.stdout, self.process.popen.stdin):
            try:
                pipe.close()
            except OSError:
                pass

    def kill(self):
        self.process.kill()

    def journal(self):
        text = self.journal_file.read_text(errors="replace") if self.journal_file.exists() else ""
        return Journal.read(self.name, self.confirms, text.splitlines())


# Runs in Celery's own interpreter, Python 2.7 too.
LOOP = r'''
import zlib
out = 0
journal = open(JOURNAL, "ab", 0)
while out < COUNT and not os.path.exists(STOP):
    n = out
    crc = zlib.crc32(("%s %d %s" % (STREAM, n, PADDING)).encode()) & 0xffffffff
    began = time.time()
    try:
        caught.delay(STREAM, n, crc, PADDING)
        journal.write(("r 1 %d %d\n" % (n, (time.time() - began) * 1e6)).encode())
        if CONFIRMS:
            journal.write(("a 1 %d\n" % n).encode())
    except Exception as error:
        journal.write(("e %s %s\n" % (type(error).__name__, str(error).replace("\n", " ")[:200])).encode())
    out += 1
    time.sleep(PAUSE)
journal.close()
'''


class Tasks:
    """One Celery producer calling `delay()`; no result backend, its default queue is ours."""

    def __init__(self, directory, url, name, queue="q", venv="celery5", confirms=False, pause=0.002, size=100, count=1 << 40, settings=None):
        self.name, self.confirms = name, confirms
        self.journal_file = Path(directory) / f"{name}.journal"
        self.stop_file = Path(directory) / f"{name}.stop"
        settings = {"result_backend": None, "task_default_queue": queue, "task_default_exchange": queue, "task_default_routing_key": queue,
                    **({"broker_transport_options": {"confirm_publish": True}} if confirms else {}), **(settings or {})}
        self.producer = Producer(directory, url, venv, settings=settings, name=name)
        names = {"JOURNAL": str(self.journal_file), "STOP": str(self.stop_file), "STREAM": f"{name}/1", "PADDING": "." * size,
                 "COUNT": count, "PAUSE": pause, "CONFIRMS": confirms}
        self.producer.run("out = None\nglobals().update(%r)" % names if venv != "celery31" else
                          "out = None\nglobals().update(dict((str(k), str(v) if isinstance(v, type(u'')) else v) for k, v in %r.items()))" % names)
        self.producer.send(LOOP)
        self.ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self):
        try:
            self.producer.answer()
        except Exception:  # it was killed, or its log says why it ended
            pass
        self.ended.set()

    def wait_ready(self):
        wait_for(lambda: self.journal_file.exists() and self.journal_file.stat().st_size, 40, 0.05, what=lambda: f"{self.name}\n{self.producer.process.tail()}")
        return self

    returned = Raw.returned
    acked = Raw.acked
    journal = Raw.journal

    def stop(self):
        self.stop_file.touch()

    def join(self, timeout=ENOUGH):
        self.ended.wait(timeout)
        self.producer.stop()

    def kill(self):
        if self.producer.process:
            self.producer.kill()


class Loads:
    """All producers of a scenario."""

    def __init__(self):
        self.all = []

    def add(self, producer):
        self.all.append(producer)
        return producer

    def stop(self):
        for producer in self.all:
            producer.stop()
        end = time.monotonic() + ENOUGH
        for producer in self.all:
            producer.join(max(1.0, end - time.monotonic()))

    def kill(self):
        for producer in self.all:
            producer.kill()

    def journals(self):
        return [producer.journal() for producer in self.all]
