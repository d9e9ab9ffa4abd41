"""Every method of AMQP 0-9-1 and of RabbitMQ's extensions, as short scenarios whose transcripts must not depend on the way.

A scenario talks to one address and writes down every frame it gets; `methods_test.py` runs each directly and through Umbel and
compares. `python3 -m methods`, in tests/suites, prints the table method -> scenarios for the documentation.
"""
import wire

from . import connection, consuming, exchanges, kinds, publishing, queues  # noqa: F401  each adds its scenarios
from .scenario import SCENARIOS, clear, play  # noqa: F401  what tests use
from .talk import Talk  # noqa: F401

# Not scenarios of their own: they need an alarm at the broker, or a mechanism that asks back.
ELSEWHERE = {"connection.secure": "answers_test.py: start-ok: RABBIT-CR-DEMO (no other mechanism of RabbitMQ's sends it)",
             "connection.blocked": "methods_test.py::test_a_memory_alarm_is_told_and_its_end_too",
             "connection.unblocked": "methods_test.py::test_a_memory_alarm_is_told_and_its_end_too"}


# What RabbitMQ adds to the protocol without a method of its own, and where it is exercised.
FEATURES = {
    "alternate exchanges": ["an alternate exchange takes what is unroutable"],
    "bindings from exchange to exchange": ["exchanges bind to exchanges"],
    "internal exchanges": ["an internal exchange takes no publish"],
    "consumer cancel notification": ["a consumer is told that its queue is gone"],
    "consumer priorities": ["the consumer of higher priority is served first"],
    "consumer prefetch: per consumer, per channel": ["consume with qos per consumer and per channel"],
    "direct reply-to": ["direct reply to"],
    "sender-selected distribution (CC, BCC)": ["cc and bcc route to more queues"],
    "expiry, dead letters, length limits, reject-publish": ["dead letters expiry and limits are the brokers"],
    "queue arguments, untouched": ["queues of every kind"],
    "single active consumer": ["of two consumers one is active"],
    "quorum queues, their delivery limit": ["a quorum queue is as any other", "a quorum queue counts deliveries up to its limit"],
    "streams, from any offset": ["a stream is read from its first", "a stream is read from where it is asked"],
    "message priorities": ["the message of higher priority is first"],
    "no-wait": ["nothing is said to who does not wait"],
    "consumer_cancel_notify": ["a consumer is told that its queue is gone", "who does not know a cancel is told none"],
    "authentication_failure_close": ["a wrong password is told"],
    "connection.blocked": ["methods_test.py::test_a_memory_alarm_is_told_and_its_end_too",
                           "methods_test.py::test_who_does_not_know_of_alarms_is_told_none"],
}


def table():
    """{method: [scenario]} for every method of the specification."""
    out = {name: [] for name in wire.SPEC}
    for name, (covers, _, _) in SCENARIOS.items():
        for m in covers:
            out[m].append(name)
    for name, test in ELSEWHERE.items():
        out[name].append(test)
    return out
