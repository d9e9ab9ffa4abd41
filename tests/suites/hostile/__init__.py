"""Malformed and hostile inputs, as data: a name, how far the connection is when they start, and the bytes.

A case ends with a probe (a channel.open on a far channel) where the connection was open, so "the connection lives" is an
answer like any other. What RabbitMQ 3.10 answers is in `hostile_rabbitmq_3_10.json`, written by `record.py`.
"""
# Importing them fills CASES, in the order of the table.
from . import login, connection, methods, content, tables, topology, consuming  # noqa: F401, isort: skip
from .case import CASES, CHANNEL, OPEN, PROBE, RAW, STARTED, TUNE, TUNED, Case, start_ok, tune_ok  # noqa: F401

NAMES = [c.name for c in CASES]
assert len(NAMES) == len(set(NAMES)), [n for n in NAMES if NAMES.count(n) > 1]
