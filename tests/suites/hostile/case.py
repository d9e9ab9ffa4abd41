"""One hostile input, and the words that the inputs are written in."""
import struct
from dataclasses import dataclass

import wire
from wire import body, head, method

PLAIN = b"\0guest\0guest"
PROBE = 1999

# How far the connection is before the first step.
RAW, STARTED, TUNE, TUNED, OPEN, CHANNEL = "raw", "started", "tune", "tuned", "open", "channel"


@dataclass
class Case:
    """One hostile input. A step is bytes, or a number (seconds to wait), or a callable that yields bytes."""
    name: str
    stage: str
    steps: list
    client: dict = None      # other client properties than the usual
    probe: bool = True       # False where the connection may not take another method
    quiet: float = 5.0       # how long silence must last to be the answer
    strict: str = ""         # why Umbel may answer otherwise (stricter), if it may


CASES = []


def case(name, stage, *steps, **more):
    CASES.append(Case(name, stage, list(steps), **more))


def start_ok(client=None, mechanism="PLAIN", response=PLAIN, locale="en_US"):
    return method(0, "connection.start-ok", client_properties=wire.CLIENT if client is None else client,
                  mechanism=mechanism, response=response, locale=locale)


def opened(vhost="/"):
    return method(0, "connection.open", virtual_host=vhost)


def tune_ok(channel_max=2047, frame_max=131072, heartbeat=0):
    return method(0, "connection.tune-ok", channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)


def ids(klass, number, rest=b""):
    return struct.pack(">HH", klass, number) + rest


def publish(channel=1, exchange="", key="h.nowhere", **more):
    return method(channel, "basic.publish", exchange=exchange, routing_key=key, **more)


def declare(queue="h.tmp", channel=1, **more):
    return method(channel, "queue.declare", queue=queue, **more)


def with_table(inner):
    """A message on channel 1 whose headers are these table bytes (length included)."""
    return publish() + head(1, 1, struct.pack(">H", 1 << 13) + inner) + body(1, b"x")
