"""What the producers send: every body says whose it is, which one it is, and what it must look like."""

import json
import zlib


def checksum(stream, n, padding):
    return zlib.crc32(b"%s %d %s" % (stream, n, padding)) & 0xFFFFFFFF


def body(stream, n, padding=b""):
    """`stream` is a producer's channel, as bytes; `n` counts within it."""
    return b"%s %d %08x %s" % (stream, n, checksum(stream, n, padding), padding)


def properties(stream, n):
    """The same twice more, where a mixed-up header would show."""
    label = stream.decode()
    return {"content_type": "application/octet-stream", "delivery_mode": 2, "message_id": f"{label}:{n}", "headers": {"stream": label, "n": n}}


def read(message_body, given):
    """(stream, n) of a message that is what it was when it left; None of any other. `given` are its properties."""
    if given.get("content_type") == "application/json":
        return _read_task(message_body, given)
    try:
        stream, n, _, padding = message_body.split(b" ", 3)
        number, label = int(n), stream.decode("ascii")
    except ValueError:
        return None
    if message_body != body(stream, number, padding) or given.get("message_id") != f"{label}:{number}" or (given.get("headers") or {}) != {"stream": label, "n": number}:
        return None
    return label, number


def _read_task(message_body, given):
    """Celery's: protocol 2 is [args, kwargs, embed] with headers, protocol 1 a dictionary."""
    try:
        whole = json.loads(message_body)
        arguments = whole["args"] if isinstance(whole, dict) else whole[0]
        label, n, crc, padding = arguments
        sound = crc == checksum(label.encode(), n, padding.encode())
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
    headers = given.get("headers") or {}
    task_id = whole["id"] if isinstance(whole, dict) else headers.get("id")
    if not sound or task_id != given.get("correlation_id"):
        return None
    if not isinstance(whole, dict) and not headers.get("argsrepr", "").startswith(f"('{label}', {n}, "):
        return None
    return label, n
