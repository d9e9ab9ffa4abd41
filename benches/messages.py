"""Publishes as files of encoded frames on channel 1, all of one length: Celery's own, captured, with names and bodies of ours."""

import json
import struct
from pathlib import Path

VECTOR = Path(__file__).parent.parent / "tests" / "data" / "vectors" / "c570-py311-v2-json.json"
NAMES = 200


def frame(kind, payload):
    return struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"


def publish(exchange, key, header, body, frame_max=131072):
    method = struct.pack(">HHH", 60, 40, 0) + bytes([len(exchange)]) + exchange + bytes([len(key)]) + key + b"\0"
    # class, weight, size, then the captured properties
    header = header[:4] + struct.pack(">Q", len(body)) + header[12:]
    out = frame(1, method) + frame(2, header)
    step = frame_max - 8
    for at in range(0, len(body), step):
        out += frame(3, body[at:at + step])
    return out


def long_string(text):
    return struct.pack(">I", len(text)) + text


def task(number, wire_bytes, key=b"celery"):
    """A protocol 2 message as Celery 5 sends it, of so many octets on the wire, half of them in the body."""
    vector = json.loads(VECTOR.read_text())
    header = bytes.fromhex(vector["frames_hex"][1])[7:-1]
    old_name, name = b"proj.tasks.add", b"proj.tasks.t%03d" % number
    assert header.count(long_string(old_name)) == 1
    header = header.replace(long_string(old_name), long_string(name))
    table = header.index(b"\x04langS") - 4
    size = struct.unpack(">I", header[table:table + 4])[0]
    header = header[:table] + struct.pack(">I", size + len(name) - len(old_name)) + header[table + 4:]

    def body(pad):
        return b'[[2, 3], {"note": "' + b"x" * pad + b'"}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'

    pad = wire_bytes - len(publish(b"", key, header, body(0)))
    whole = publish(b"", key, header, body(max(pad, 0)))
    # A second body frame costs eight octets.
    return publish(b"", key, header, body(max(pad - (len(whole) - wire_bytes), 0)))


def small(number):
    """No task: 16 octets of body under plain properties, the least that a producer sends."""
    header = struct.pack(">HHQH", 60, 0, 16, 0x9000) + b"\x0aplain/text" + b"\x01"
    return publish(b"", b"celery", header, b"%016d" % number)


def durable(number, key):
    return task(number, 1024, key)


def write(directory, key=b"celery"):
    """name → (file, octets of one publish)"""
    directory.mkdir(parents=True, exist_ok=True)
    kinds = {
        "1k": [task(n, 1024, key) for n in range(NAMES)],
        "64k": [task(n, 65536 + 512, key) for n in range(8)],
        "small": [small(n) for n in range(NAMES)],
    }
    files = {}
    for name, publishes in kinds.items():
        sizes = {len(p) for p in publishes}
        assert len(sizes) == 1, sizes
        path = directory / f"{name}.bin"
        path.write_bytes(b"".join(publishes))
        files[name] = (path, sizes.pop())
    return files
