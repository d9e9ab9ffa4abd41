"""Every captured publish, sent byte for byte and read back from the broker by a direct connection: header payload and body as they were."""

import json
from pathlib import Path

import pytest

from harness import wire
from harness.process import ROOT

VECTORS = ROOT / "tests" / "data" / "vectors"
CAPTURED = [entry["name"] for entry in json.loads((VECTORS / "index.json").read_text())]
# Publishes of the Celery versions between those, of celery-node, and of nobody: `origin` says whose.
MORE = {vector["name"]: vector for vector in json.loads((VECTORS.parent / "more_vectors.json").read_text())}
NAMES = [*CAPTURED, *MORE]
LONGEST_TTL = 2**32 - 1  # milliseconds: RabbitMQ refuses a longer expiration
TYPES = {"amq.topic": "topic", "celeryev": "topic", "celery.pidbox": "fanout"}


def load(name):
    vector = MORE.get(name) or json.loads(Path(VECTORS / f"{name}.json").read_text())
    frames = [bytes.fromhex(f) for f in vector["frames_hex"]]
    return vector, frames, frames[1][7:-1], b"".join(f[7:-1] for f in frames[2:])


@pytest.fixture(scope="module")
def hall(node):
    with node.vhost("vectors") as name:
        yield name


@pytest.fixture
def room(node, hall):
    """A connection to the broker itself, which consumes."""
    with node.client(vhost=hall) as direct:
        yield direct


@pytest.fixture
def publisher(via, hall):
    with via.client(vhost=hall) as client:
        client.select_confirms()
        yield client


def test_there_are_ninety_five_and_ninety_more():
    assert len(CAPTURED) == 95
    assert len(MORE) >= 90


@pytest.mark.parametrize("name", NAMES)
def test_a_captured_publish_arrives_as_it_was(name, room, publisher):
    vector, frames, header, body = load(name)
    _, arguments = wire.read_method(frames[0][7:-1])
    exchange, routing_key = arguments["exchange"], arguments["routing_key"]

    # The consumer waits before the publish: some vectors carry a TTL of nothing.
    queue = routing_key if exchange == "" else room.declare("", exclusive=True, durable=False)
    if exchange == "":
        room.declare(queue, durable=False)
    else:
        kind = TYPES.get(exchange, "topic" if exchange.startswith("celery_delayed") else "direct")
        room.call(1, "exchange.declare", exchange=exchange, type=kind, durable=True)
        room.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key=routing_key)
    tag = room.consume(queue)

    publisher.write(b"".join(frames))
    if int(vector["properties_decoded"].get("expiration", 0)) > LONGEST_TTL:
        with pytest.raises(wire.Refused, match="invalid expiration") as refused:
            publisher.confirmed(1)
        assert (refused.value.scope, refused.value.code) == ("channel", 406)
    else:
        assert publisher.confirmed(1) == set()
        assert publisher.returns == []
        arrived = room.delivery()
        assert arrived.body == body
        assert arrived.header == header, "the content header changed on its way"
        assert (arrived.exchange, arrived.routing_key) == (exchange, routing_key)
    room.call(1, "basic.cancel", consumer_tag=tag)
    assert room.deliveries == []
    if exchange and not exchange.startswith("amq."):
        room.call(1, "exchange.delete", exchange=exchange)
    room.call(1, "queue.delete", queue=queue)
