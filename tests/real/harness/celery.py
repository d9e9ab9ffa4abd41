"""Celery processes, each in the virtual environment of its age: workers that execute and producers that take orders."""

import json
import os
import subprocess
from itertools import count
from pathlib import Path

from . import venvs
from .process import Process, wait_at_least, wait_for

APPS = Path(__file__).resolve().parents[1] / "apps"
_numbers = count(1)


class ProducerError(Exception):
    """What the producer's code raised: `kind` is the exception's class name."""

    def __init__(self, kind, text, trace):
        super().__init__(f"{kind}: {text}\n{trace}")
        self.kind, self.text = kind, text


def environment(broker, log, settings):
    """`settings` are Celery's lower-case names; proj/tasks.py translates for 3.1."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CELERY", "PYTHON", "VIRTUAL_ENV", "PYENV"))}
    env.update(PYTHONPATH=str(APPS), PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", C_FORCE_ROOT="1", LANG="C.UTF-8",
               PROJ_BROKER=broker, PROJ_LOG=str(log), PROJ_SETTINGS=json.dumps(settings), PYTHONWARNINGS="ignore")
    return env


class Worker:
    """A `celery worker`; `executed()` is what its tasks wrote down as they ran."""

    def __init__(self, directory, broker, queues=("celery",), venv="celery5", pool="prefork", concurrency=1, arguments=(), settings=None, name=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name or f"w{next(_numbers)}"
        self.node = f"{self.name}@tests"
        self.venv, self.broker, self.queues = venv, broker, queues
        self.journal = self.directory / f"{self.name}.executed"
        self.log = self.directory / f"{self.name}.log"
        self.settings = dict(settings or {})
        self.argv = [venvs.python(venv), "-m", "celery", "worker", "-A", "proj.tasks"] if venv == "celery31" else \
                    [venvs.python(venv), "-m", "celery", "-A", "proj.tasks", "worker"]
        self.argv += ["-P", pool, "-c", concurrency, "-n", self.node, "-l", "INFO", "-Q", ",".join(queues), *arguments]
        self.process = None

    def start(self, ready=True, timeout=90):
        self.process = Process(self.argv, self.log, env=environment(self.broker, self.journal, self.settings), cwd=self.directory)
        if ready:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=90, times=1):
        def ready():
            assert self.process.alive(), f"{self.name} ended:\n{self.process.tail()}"
            return self.logged().count(" ready.") >= times

        wait_for(ready, timeout, 0.1, what=lambda: f"worker {self.name}\n{self.process.tail()}")

    def logged(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def executed(self):
        """One dictionary for each run of a task, in the order they began."""
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text().splitlines() if line.endswith("}")]

    def ran(self, task_id):
        return [e for e in self.executed() if e["id"] == task_id]

    def wait_executed(self, number, timeout=60):
        wait_at_least(lambda: len(self.executed()), number, timeout, 0.1, lambda: f"{self.process.tail()}\nexecutions in {self.name}")
        return self.executed()

    def stop(self, timeout=30):
        if self.process:
            self.process.stop(timeout)
            self.process = None

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()


class Producer:
    """A Python process with `proj.tasks` imported. `run` evaluates an expression (or executes statements that set `out`) there."""

    def __init__(self, directory, broker, venv="celery5", settings=None, name=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name or f"p{next(_numbers)}"
        self.settings = {"result_backend": "rpc://", **(settings or {})}
        env = environment(broker, self.directory / f"{self.name}.executed", self.settings)
        self.process = Process([venvs.python(venv), "-m", "proj.producer"], self.directory / f"{self.name}.log", env=env,
                               cwd=self.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, code):
        """Without waiting for the answer."""
        self.process.popen.stdin.write(json.dumps({"code": code}).encode() + b"\n")
        self.process.popen.stdin.flush()

    def answer(self):
        line = self.process.popen.stdout.readline()
        if not line:
            raise EOFError(f"producer {self.name} ended:\n{self.process.tail()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ProducerError(answer["error"], answer["text"], answer["trace"])
        return answer["out"]

    def run(self, code):
        self.send(code)
        return self.answer()

    def published(self):
        """What was handed to py-amqp since the last question: exchange, routing key, priority, bytes of body."""
        return self.run("published()")

    def stop(self):
        """By the end of its input, as a script ends: no connection is closed politely."""
        if self.process:
            self.process.popen.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                pass
            self.process.kill()
            self.process.popen.stdout.close()
            self.process = None

    def kill(self):
        if self.process:
            self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.stop()
