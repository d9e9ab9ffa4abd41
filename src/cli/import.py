# Prints what a Celery application says of routes and queues, as JSON. Runs under the application's own interpreter (Python 2.7 and
# later, Celery 3.1 and later), so that its settings are what its producers see.
import json
import os
import sys

sys.path.insert(0, os.getcwd())

from celery import Celery
from celery.app.utils import find_app

try:
    from kombu import Queue
    from kombu.common import Broadcast
except ImportError:  # pragma: no cover
    Queue = Broadcast = ()

app = find_app(sys.argv[1])
conf = app.conf


def setting(new, old):
    for name in (new, old):
        try:
            value = getattr(conf, name)
        except AttributeError:
            continue
        if value is not None:
            return value
    return None


def pattern(value):
    return hasattr(value, "pattern") and hasattr(value, "flags")


def queue(q):
    exchange = q.exchange
    out = {
        "name": exchange.name if isinstance(q, Broadcast) else q.name,
        "exchange": exchange.name if exchange is not None else "",
        "exchange_type": exchange.type if exchange is not None else "direct",
        "routing_key": q.routing_key or "",
        "durable": bool(q.durable),
        "auto_delete": bool(q.auto_delete),
        "no_declare": bool(getattr(q, "no_declare", False)),
        "broadcast": isinstance(q, Broadcast),
        "arguments": dict(q.queue_arguments or {}),
    }
    for name in ("expires", "message_ttl", "max_length", "max_length_bytes", "max_priority"):
        value = getattr(q, name, None)
        if value is not None:
            out[name] = value
    return out


def plain(value):
    if isinstance(value, Queue):
        return {"$queue": queue(value)}
    if isinstance(value, dict):
        return dict((str(k), plain(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)


def table(routes):
    entries = []
    for key, value in routes.items() if hasattr(routes, "items") else routes:
        if pattern(key):
            kind, name = "regex", {"pattern": key.pattern, "flags": key.flags}
        else:
            kind, name = ("glob" if "*" in key else "exact"), key
        try:
            value = dict(value)
        except (TypeError, ValueError):
            value = {"queue": value}
        entries.append([kind, name, plain(value)])
    return entries


def router(r):
    if isinstance(r, str):
        return {"$function": r}
    if hasattr(r, "items") or isinstance(r, (list, tuple)):
        return table(r)
    return {"$function": "%s.%s" % (getattr(r, "__module__", "?"), getattr(r, "__name__", type(r).__name__))}


routes = setting("task_routes", "CELERY_ROUTES")
if routes is None:
    routes = []
elif not isinstance(routes, (list, tuple)):
    routes = [routes]

queues = setting("task_queues", "CELERY_QUEUES")
if hasattr(queues, "items"):
    # Celery's own reading of such a table (kombu's Queue.from_dict), exchange objects and strings alike.
    queues = [queue(v if isinstance(v, Queue) else Queue.from_dict(k, **v)) for k, v in queues.items()]
else:
    queues = [queue(q) for q in (queues or ())]

result = {"app": sys.argv[1], "task_routes": [router(r) for r in routes], "task_queues": queues}
for new, old in (
    ("task_default_queue", "CELERY_DEFAULT_QUEUE"),
    ("task_default_queue_type", ""),
    ("task_default_exchange", "CELERY_DEFAULT_EXCHANGE"),
    ("task_default_exchange_type", "CELERY_DEFAULT_EXCHANGE_TYPE"),
    ("task_default_routing_key", "CELERY_DEFAULT_ROUTING_KEY"),
    ("task_create_missing_queues", "CELERY_CREATE_MISSING_QUEUES"),
    ("task_create_missing_queue_type", ""),
    ("task_create_missing_queue_exchange_type", ""),
    ("task_queue_max_priority", ""),
    ("task_default_priority", ""),
    ("task_default_delivery_mode", "CELERY_DEFAULT_DELIVERY_MODE"),
):
    value = setting(new, old or new)
    if value is not None:
        result[new] = plain(value)

print(json.dumps(result))
