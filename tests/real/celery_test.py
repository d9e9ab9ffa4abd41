"""Celery at work: what people do with it every day, straight to the broker and through an Umbel that has no rules."""

import pytest

from conftest import old
from harness.celery import Producer, ProducerError, Worker
from harness.process import wait_for

# The newest always; each older one where its interpreter is on the machine.
AGES = ["celery5", old("celery52"), old("celery44"), old("celery31")]


class Pair:
    def __init__(self, worker, producer, via, vhost, age):
        self.worker, self.producer, self.via, self.vhost, self.age = worker, producer, via, vhost, age

    def run(self, code):
        return self.producer.run(code)


@pytest.fixture(scope="module", params=AGES)
def age(request):
    return request.param


@pytest.fixture(scope="module")
def pair(via, age, node, logs):
    """A worker and a producer of one age in a vhost of their own, both through `via`."""
    vhost = f"pair-{via.__class__.__name__}-{age}".lower()
    node.add_vhost(vhost)
    place = logs / vhost
    worker = Worker(place, via.url(vhost=vhost), ["celery", "other", "high"], venv=age, arguments=["-E"], name="w")
    producer = Producer(place, via.url(vhost=vhost), venv=age, name="p")
    try:
        worker.start()
        yield Pair(worker, producer, via, vhost, age)
    finally:
        producer.kill()
        worker.__exit__()
        node.eval(f'rabbit_vhost:delete(<<"{vhost}">>, <<"tests">>)')


def test_delay_is_executed_and_its_result_comes_back(pair):
    before = len(pair.worker.executed())
    assert pair.run("add.delay(2, 3).get(timeout=20)") == 5
    assert [e["task"] for e in pair.worker.executed()[before:]] == ["proj.tasks.add"]
