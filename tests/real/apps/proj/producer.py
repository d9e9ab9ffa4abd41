"""A producer that takes orders: one JSON line with Python code in, one JSON line with what came of it out."""

import json
import os
import sys
import time
import traceback

import celery
from celery import chain, chord, group
from celery.result import AsyncResult
from kombu.messaging import Producer

from proj import tasks
from proj.tasks import app

PUBLISHED = []
_publish = Producer._publish


def _watched(self, body, priority, content_type, content_encoding, headers, properties, routing_key, mandatory, immediate, exchange, *rest, **more):
    size = len(body if isinstance(body, bytes) else body.encode("utf-8"))
    PUBLISHED.append({"exchange": getattr(exchange, "name", exchange) or "", "routing_key": routing_key, "priority": priority, "bytes": size,
                      "id": properties.get("correlation_id"), "task": (headers or {}).get("task"),
                      "compression": (headers or {}).get("compression")})
    return _publish(self, body, priority, content_type, content_encoding, headers, properties, routing_key, mandatory, immediate, exchange, *rest, **more)


Producer._publish = _watched


def published():
    out, PUBLISHED[:] = list(PUBLISHED), []
    return out


def main():
    # our answers go where nobody else prints
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    names = dict(vars(tasks), app=app, chain=chain, chord=chord, group=group, AsyncResult=AsyncResult, celery=celery, published=published, time=time, os=os)
    for line in iter(sys.stdin.readline, ""):
        code = json.loads(line)["code"]
        try:
            try:
                out = eval(compile(code, "order", "eval"), names)
            except SyntaxError:
                names["out"] = None
                exec(compile(code, "order", "exec"), names)
                out = names["out"]
            answer = json.dumps({"out": out}, default=repr)
        except Exception as error:
            answer = json.dumps({"error": type(error).__name__, "text": str(error), "trace": traceback.format_exc()[-2000:]})
        answers.write(answer + "\n")
        answers.flush()
    # as most scripts end: no farewell to the broker
    os._exit(0)


if __name__ == "__main__":
    main()
