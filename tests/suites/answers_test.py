"""Every hostile input of hostile/ through Umbel: answered as RabbitMQ 3.10 answers it (another version is asked now), or
stricter with the reason; a bystander on the same credentials and vhost goes on, its link too, and memory stays bounded."""
import json
import time
from dataclasses import dataclass
from pathlib import Path

import hostile
import pytest
import record
import wire
from bystander import Bystander, Memory, Publisher, shared_links
from stricter import OVERTAKES, STRICTER, STRICTER_THAN_4, verdict

pytestmark = pytest.mark.timeout(900)  # the first waits for all of them

RECORDED = json.loads((Path(__file__).parent / "hostile_rabbitmq_3_10.json").read_text())


@dataclass
class Seen:
    answers: dict
    expected: dict
    of_4: bool
    bystander: Bystander
    publisher: Publisher
    memory: Memory
    links: set     # that were shared before
    lost: set      # of them afterwards


@pytest.fixture(scope="module")
def answers(node, umbel):
    """All of them at once, a dozen at a time, beside the bystander."""
    with wire.Wire(node.port) as w:
        w.send(wire.HEADER)
        version = w.expect("connection.start")["server_properties"]["version"]
    expected = RECORDED if version.startswith("3.10.") else record.record(node.port)
    bystander, publisher = Bystander(umbel.address, control=node.address), Publisher(umbel.address)
    time.sleep(0.3)
    memory = Memory(umbel)
    before = shared_links(umbel)
    seen = record.record(umbel.port, topology_port=node.port, hopes=expected)
    lost = before - shared_links(umbel)
    memory.end()
    bystander.end()
    publisher.end()
    place = Path(__file__).parent.parent.parent / "target" / "suites" / "hostile_umbel.json"
    place.write_text(json.dumps(seen, indent=1) + "\n")
    return Seen(seen, expected, not version.startswith("3."), bystander, publisher, memory, before, lost)


@pytest.mark.parametrize("name", hostile.NAMES)
def test_it_is_answered_as_rabbitmq_does(name, answers):
    seen, expected = answers.answers[name], answers.expected[name]
    assert verdict(name, seen, expected, of_4=answers.of_4), "RabbitMQ: %s\nUmbel:    %s" % (expected, seen)


@pytest.mark.parametrize("who", ["bystander", "publisher"])
def test_the_bystanders_never_noticed(who, answers):
    decent = getattr(answers, who)
    assert decent.wrong is None
    assert decent.rounds > 100
    assert decent.slowest < answers.bystander.allowed(2.0), "its slowest round trip, beside a dozen hostile clients on this machine"


def test_no_link_that_others_share_was_lost(answers):
    assert answers.links and not answers.lost


def test_memory_stayed_bounded(answers):
    memory = answers.memory
    assert memory.peak - memory.first < 300, "MiB; the largest input is one of 128 MiB"


def test_nothing_is_called_stricter_that_is_not_there():
    assert set(STRICTER) | set(STRICTER_THAN_4) | OVERTAKES <= set(hostile.NAMES)
