"""Every hostile input of hostile.py through Umbel: answered as RabbitMQ 3.10 answers it, or stricter with the reason; a bystander on
the same credentials and vhost goes on, its link too, and memory stays bounded."""
import json
import re
import threading
import time
from pathlib import Path

import hostile
import pytest
import record
import wire
from stricter import OVERTAKES, STRICTER, verdict

RECORDED = json.loads((Path(__file__).parent / "hostile_rabbitmq_3_10.json").read_text())


class Bystander:
    """Publishes with confirms and consumes, all the time; remembers its slowest round trip and whatever went wrong."""

    def __init__(self, address):
        self.wire = wire.Wire(address[1], timeout=20).login()
        self.wire.channel(1)
        self.wire.channel(2)
        self.wire.call(1, "confirm.select")
        self.queue = self.wire.call(2, "queue.declare", exclusive=True)["queue"]
        self.wire.call(2, "basic.consume", queue=self.queue, no_ack=True)
        self.slowest, self.rounds, self.wrong, self.over = 0.0, 0, None, threading.Event()
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()

    def live(self):
        try:
            while not self.over.is_set():
                began = time.monotonic()
                data = b"%d" % self.rounds
                self.wire.send(wire.message(1, data, routing_key=self.queue))
                seen = set()
                while len(seen) < 2:
                    kind, _, payload = self.wire.frame(20)
                    if kind == wire.METHOD:
                        name = wire.parse(payload)[0]
                        if name == "basic.ack":
                            seen.add("ack")
                        elif name != "basic.deliver":
                            raise AssertionError("got %s" % name)
                    elif kind == wire.BODY:
                        assert payload == data, (payload, data)
                        seen.add("message")
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.rounds += 1
                time.sleep(0.01)
        except BaseException as e:  # the test reads it
            self.wrong = repr(e)

    def end(self):
        self.over.set()
        self.thread.join(30)
        self.wire.close()


def resident(pid):
    text = Path("/proc/%d/status" % pid).read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


class Memory:
    """The highest resident size, sampled."""

    def __init__(self, pid):
        self.pid, self.first = pid, resident(pid)
        self.peak, self.over = self.first, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.over.wait(0.05):
            self.peak = max(self.peak, resident(self.pid))

    def end(self):
        self.over.set()
        self.thread.join()


@pytest.fixture(scope="module")
def answers(node, umbel):
    """All of them at once, a dozen at a time, beside the bystander."""
    bystander = Bystander(umbel.address)
    time.sleep(0.3)
    popen = getattr(umbel.process, "popen", umbel.process)
    memory = Memory(popen.pid)
    seen = record.record(umbel.port, topology_port=node.port, hopes=RECORDED)
    memory.end()
    bystander.end()
    place = Path(__file__).parent.parent.parent / "target" / "suites" / "hostile_umbel.json"
    place.write_text(json.dumps(seen, indent=1) + "\n")
    return seen, bystander, memory


@pytest.mark.parametrize("name", hostile.NAMES)
def test_it_is_answered_as_rabbitmq_does(name, answers):
    seen, expected = answers[0][name], RECORDED[name]
    assert verdict(name, seen, expected), "RabbitMQ: %s\nUmbel:    %s" % (expected, seen)


def test_the_bystander_never_noticed(answers):
    _, bystander, _ = answers
    assert bystander.wrong is None
    assert bystander.rounds > 100
    assert bystander.slowest < 2.0, "its slowest round trip, beside a dozen hostile clients on this machine"


def test_memory_stayed_bounded(answers):
    _, _, memory = answers
    assert memory.peak - memory.first < 300, "MiB; the largest input is one of 128 MiB"


def test_nothing_is_called_stricter_that_is_not_there():
    assert set(STRICTER) | OVERTAKES <= set(hostile.NAMES)
