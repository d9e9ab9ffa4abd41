"""Each scenario of methods/ says the same directly and through Umbel, and no method is without one."""
import time
from pathlib import Path

import methods
import pytest


@pytest.mark.parametrize("name", methods.SCENARIOS)
def test_the_transcript_is_the_same_both_ways(name, node, umbel):
    def both(pace):
        """Also where silence is an answer: what differs in haste alone, on a busy machine, does not differ at leisure."""
        methods.clear(node.address, "suite")
        used = set()
        direct = methods.play(name, node.address, "suite", used, pace)
        assert set(methods.SCENARIOS[name][0]) <= used, "it does not exercise all that it covers"
        methods.clear(node.address, "suite")
        return methods.play(name, umbel.address, "suite", pace=pace), direct

    through, direct = both(pace=1)
    if through != direct:
        through, direct = both(pace=8)
    assert through == direct


def test_every_method_is_exercised():
    assert [m for m, tests in methods.table().items() if not tests] == []


def test_the_documented_table_is_this_one():
    text = (Path(__file__).parent / "METHODS.md").read_text()
    rows = [(m, tests) for m, tests in methods.table().items()] + list(methods.FEATURES.items())
    assert [m for m, tests in rows if not any(m in line and "; ".join(tests) in line for line in text.splitlines())] == []
    here = {"methods_test.py::" + name for name in globals() if name.startswith("test_")}
    known = {*methods.SCENARIOS, *methods.ELSEWHERE.values(), *here}
    assert [t for tests in methods.FEATURES.values() for t in tests if t not in known] == []


def test_a_memory_alarm_is_told_and_its_end_too(node, umbel):
    if not hasattr(node, "memory_alarm"):
        pytest.skip("a broker that is not ours: no alarm can be raised")
    for address in (node.address, umbel.address):
        talk = methods.Talk(address, "suite")
        # A connection is told when it has published, as the broker does it: blocked at once, unblocked when it is over.
        talk.queue("m.alarm", exclusive=True)
        talk.publish(b"x", routing_key="m.alarm")
        talk.depth("m.alarm", 1)
        node.memory_alarm(True)
        try:
            talk.publish(b"y", routing_key="m.alarm")
            assert talk.until("connection.blocked")["reason"]
        finally:
            node.memory_alarm(False)
        talk.until("connection.unblocked")
        talk.depth("m.alarm", 2)
        talk.close()
        time.sleep(0.2)


def test_who_does_not_know_of_alarms_is_told_none(node, umbel):
    if not hasattr(node, "memory_alarm"):
        pytest.skip("a broker that is not ours: no alarm can be raised")
    for address in (node.address, umbel.address):
        talk = methods.Talk(address, "suite", client={"product": "old"})
        talk.queue("m.alarm", exclusive=True)
        talk.publish(b"x", routing_key="m.alarm")
        talk.depth("m.alarm", 1)
        node.memory_alarm(True)
        try:
            talk.publish(b"y", routing_key="m.alarm")
            talk.quiet(1.0)
        finally:
            node.memory_alarm(False)
        talk.depth("m.alarm", 2)
        assert not talk.used & {"connection.blocked", "connection.unblocked"}
        talk.close()
