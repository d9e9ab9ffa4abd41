"""Every hostile input of hostile.py through Umbel: answered as RabbitMQ 3.10 answers it (another version is asked now), or
stricter with the reason; a bystander on the same credentials and vhost goes on, its link too, and memory stays bounded."""
import json
import time
from pathlib import Path

import hostile
import pytest
import record
import wire
from bystander import Bystander, Memory
from stricter import OVERTAKES, STRICTER, STRICTER_THAN_4, verdict

RECORDED = json.loads((Path(__file__).parent / "hostile_rabbitmq_3_10.json").read_text())


@pytest.fixture(scope="module")
def answers(node, umbel):
    """All of them at once, a dozen at a time, beside the bystander."""
    with wire.Wire(node.port) as w:
        w.send(wire.HEADER)
        version = w.expect("connection.start")["server_properties"]["version"]
    expected = RECORDED if version.startswith("3.10.") else record.record(node.port)
    bystander = Bystander(umbel.address)
    time.sleep(0.3)
    memory = Memory(umbel)
    seen = record.record(umbel.port, topology_port=node.port, hopes=expected)
    memory.end()
    bystander.end()
    place = Path(__file__).parent.parent.parent / "target" / "suites" / "hostile_umbel.json"
    place.write_text(json.dumps(seen, indent=1) + "\n")
    return seen, bystander, memory, expected, not version.startswith("3.")


@pytest.mark.parametrize("name", hostile.NAMES)
def test_it_is_answered_as_rabbitmq_does(name, answers):
    seen, expected = answers[0][name], answers[3][name]
    assert verdict(name, seen, expected, of_4=answers[4]), "RabbitMQ: %s\nUmbel:    %s" % (expected, seen)


def test_the_bystander_never_noticed(answers):
    bystander = answers[1]
    assert bystander.wrong is None
    assert bystander.rounds > 100
    assert bystander.slowest < 2.0, "its slowest round trip, beside a dozen hostile clients on this machine"


def test_memory_stayed_bounded(answers):
    memory = answers[2]
    assert memory.peak - memory.first < 300, "MiB; the largest input is one of 128 MiB"


def test_nothing_is_called_stricter_that_is_not_there():
    assert set(STRICTER) | set(STRICTER_THAN_4) | OVERTAKES <= set(hostile.NAMES)
