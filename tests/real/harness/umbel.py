"""An Umbel of our own: its configuration written for it, its ports free ones, its log kept; ended by pid."""

import json
import os
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path

from .process import PATIENCE, ROOT, Process, free_port, wait_for, wait_until
from .wire import Client

BINARY = Path(os.environ.get("UMBEL_BINARY", ROOT / "target" / "debug" / "umbel"))


class Umbel:
    """`rules` is TOML put behind [listen] and [upstreams.default]; `whole` replaces the file altogether ({amqp}, {admin} and {upstream} are filled in)."""

    def __init__(self, directory, upstream, rules="", whole=None, upstream_options="", name="umbel", listen="", env=None, under=(), **limits):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.port = free_port()
        self.admin_port = free_port()
        urls = [upstream] if isinstance(upstream, str) else list(upstream)
        self.urls, self.upstream_options, self.listen, self.whole = urls, upstream_options, listen, whole
        self.config = self.directory / f"{name}.toml"
        self.log = self.directory / f"{name}.log"
        self.env = {**os.environ, "RUST_BACKTRACE": "1", "RUST_LOG": os.environ.get("UMBEL_LOG", "info"), **(env or {})}
        self.under = [*under]  # what runs it: a command that ends in executing its arguments
        self.process, self.limits = None, limits  # of its process: open_files, memory
        self.write_config(rules)

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    def url(self, user="guest", password="guest", vhost=""):
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{vhost}"

    def toml(self, rules=""):
        if self.whole is not None:
            return self.whole.replace("{amqp}", f"127.0.0.1:{self.port}").replace("{admin}", f"127.0.0.1:{self.admin_port}").replace("{upstream}", self.urls[0])
        return (
            f'[listen]\namqp = "127.0.0.1:{self.port}"\nadmin = "127.0.0.1:{self.admin_port}"\n{self.listen}\n\n'
            f"[upstreams.default]\nurls = {json.dumps(self.urls)}\n{self.upstream_options}\n\n{rules}"
        )

    def write_config(self, rules=""):
        """The file as an editor leaves it: whole, by rename."""
        new = self.config.with_suffix(".new")
        new.write_text(self.toml(rules))
        new.replace(self.config)

    def start(self, ready=True, timeout=PATIENCE):
        assert BINARY.exists(), f"{BINARY} is not there: cargo build makes it (tests/run does)"
        self.process = Process([*self.under, BINARY, "run", "--config", self.config], self.log, env=self.env, cwd=self.directory, **self.limits)
        if ready:
            wait_for(self._ready, timeout, 0.03, what=lambda: f"/readyz of {self.name}\n{self.process.tail()}")
        return self

    def _ready(self):
        assert self.process.alive(), f"umbel ended with {self.process.popen.returncode}:\n{self.process.tail()}"
        return self.get("/readyz")[0] == 200

    def stop(self, timeout=60):
        """SIGTERM; the exit status."""
        if self.process is None:
            return None
        status = self.process.stop(timeout)
        self.process = None
        return status

    def kill(self):
        self.process.kill()

    def reload(self):
        self.process.signal(signal.SIGHUP)

    # what it says of itself

    def get(self, path, timeout=20):
        """(status, text); (0, why) where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode(errors="replace")
        except (OSError, urllib.error.URLError) as why:
            return 0, str(why)

    def status(self):
        """As of now: asked again where its data thread was too busy to say within a second."""
        return json.loads(wait_until(lambda: self.get("/status"), lambda said: said[0] != 503, what="/status")[1])

    def counters(self):
        """The ledger: accepted, forwarded, in_flight and so on."""
        return self.status()["counters"]

    def wait_settled(self, accepted=0, timeout=PATIENCE):
        """Until so many publishes have been read in this life, and the broker has confirmed all that was: what a cut may send twice is none."""
        wait_until(self.counters, lambda c: c["accepted"] >= accepted and c["in_flight"] == 0, timeout, what=f"{accepted} accepted and none in flight")

    def metrics(self):
        """{'name{label="value"}': number}"""
        status, text = self.get("/metrics")
        out = {}
        for line in text.splitlines() if status == 200 else []:
            found = re.match(r"([a-zA-Z_:][^ ]*(?:\{.*\})?) ([^ ]+)$", line)
            if found and not line.startswith("#"):
                out[found[1]] = float(found[2])
        return out

    def metric(self, name, **labels):
        """The sum of a family's series whose labels are these."""
        wanted = [f'{k}="{v}"' for k, v in labels.items()]
        return sum(v for k, v in self.metrics().items() if k.split("{")[0] == name and all(w in k for w in wanted))

    def client(self, **options):
        return Client.open(self.address, **options)

    def logged(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
