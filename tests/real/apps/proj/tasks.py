"""The tasks: they compute, fail, retry, sleep, and write down what the worker saw of each message."""

import json
import os
import time

import celery
from celery import Celery
from kombu.transport import pyamqp

OLD = celery.VERSION[0] < 4
SETTINGS = {
    "result_backend": "rpc://",
    "accept_content": ["json", "pickle", "yaml", "msgpack"],
    "result_accept_content": ["json", "pickle", "yaml", "msgpack"],
    "task_serializer": "json",
    "result_serializer": "json",
    "broker_connection_retry_on_startup": True,
    "worker_hijack_root_logger": True,
}
SETTINGS.update(json.loads(os.environ.get("PROJ_SETTINGS", "{}")))
# Celery 3.1's words for ours; what is not here did not exist then
NAMES_OF_OLD = {
    "result_backend": "CELERY_RESULT_BACKEND", "accept_content": "CELERY_ACCEPT_CONTENT", "task_serializer": "CELERY_TASK_SERIALIZER",
    "result_serializer": "CELERY_RESULT_SERIALIZER", "worker_prefetch_multiplier": "CELERYD_PREFETCH_MULTIPLIER",
    "task_acks_late": "CELERY_ACKS_LATE", "broker_heartbeat": "BROKER_HEARTBEAT", "task_compression": "CELERY_MESSAGE_COMPRESSION",
    "task_send_sent_event": "CELERY_SEND_TASK_SENT_EVENT", "broker_transport_options": "BROKER_TRANSPORT_OPTIONS",
    "task_default_queue": "CELERY_DEFAULT_QUEUE", "task_default_exchange": "CELERY_DEFAULT_EXCHANGE",
    "task_default_routing_key": "CELERY_DEFAULT_ROUTING_KEY", "enable_utc": "CELERY_ENABLE_UTC", "broker_pool_limit": "BROKER_POOL_LIMIT",
}
if "task_queues" in SETTINGS:
    from kombu import Exchange, Queue
    SETTINGS["task_queues"] = [
        Queue(q["name"], Exchange(q.get("exchange", "")), routing_key=q.get("routing_key", q["name"]), queue_arguments=q.get("arguments"))
        for q in SETTINGS["task_queues"]]

app = Celery("proj", broker=os.environ.get("PROJ_BROKER", ""))
if OLD:
    NAMES_OF_OLD["task_queues"] = "CELERY_QUEUES"
    app.conf.update(dict((NAMES_OF_OLD[k], v) for k, v in SETTINGS.items() if k in NAMES_OF_OLD))
else:
    app.conf.update(SETTINGS)

# What the worker's socket brought, by task id: the body's size before it is decompressed, and the delivery's own words.
ARRIVED = {}
_message_to_python = pyamqp.Channel.message_to_python


def message_to_python(self, raw):
    body = raw.body
    properties = raw.properties
    ARRIVED[properties.get("correlation_id")] = {
        "bytes": len(body if isinstance(body, bytes) else body.encode("utf-8")),
        "exchange": raw.delivery_info.get("exchange"),
        "routing_key": raw.delivery_info.get("routing_key"),
        "priority": properties.get("priority"),
        "expiration": properties.get("expiration"),
        "compression": (properties.get("application_headers") or {}).get("compression"),
    }
    return _message_to_python(self, raw)


pyamqp.Channel.message_to_python = message_to_python
WATCHED = os.environ.get("PROJ_LOG", "") + ".arrived"


def note(task, **more):
    """One line in the journal. O_APPEND keeps lines whole when several processes write."""
    info = task.request.delivery_info or {}
    line = {"id": task.request.id, "task": task.name, "at": time.time(), "retries": task.request.retries,
            "exchange": info.get("exchange"), "routing_key": info.get("routing_key"), "priority": info.get("priority"),
            "redelivered": info.get("redelivered")}
    line.update(more)
    if os.environ.get("PROJ_LOG"):
        with open(os.environ["PROJ_LOG"], "a") as journal:
            journal.write(json.dumps(line) + "\n")


def arrived(request):
    """In the worker's main process, before the pool gets the task: what came off the wire."""
    seen = ARRIVED.pop(request.id, None)
    if seen and os.environ.get("PROJ_LOG"):
        seen.update(id=request.id, task=getattr(request, "name", None))
        with open(WATCHED, "a") as journal:
            journal.write(json.dumps(seen) + "\n")


if not OLD:
    from celery.signals import task_received

    @task_received.connect
    def _received(request=None, **_):
        arrived(request)


@app.task(bind=True)
def add(self, x, y):
    note(self, args=[repr(x), repr(y)])
    return x + y


@app.task(bind=True)
def mul(self, x, y):
    note(self)
    return x * y


@app.task(bind=True)
def xsum(self, numbers):
    note(self)
    return sum(numbers)


@app.task(bind=True)
def echo(self, value):
    note(self, size=len(value) if hasattr(value, "__len__") else None)
    return value


@app.task(bind=True)
def number(self, n):
    note(self, n=n)


@app.task(bind=True)
def fail(self, text="boom"):
    note(self)
    raise ValueError(text)


@app.task(bind=True)
def nap(self, seconds):
    note(self)
    time.sleep(seconds)
    return "woke"


@app.task(bind=True, max_retries=3, default_retry_delay=0.1)
def stumble(self, times):
    """Fails `times` times and is retried, then says how often."""
    note(self)
    if self.request.retries < times:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(bind=True)
def seen(self):
    """What the message said of itself when it arrived."""
    note(self)
    info = self.request.delivery_info or {}
    return {"exchange": info.get("exchange"), "routing_key": info.get("routing_key"), "priority": info.get("priority"),
            "headers": {k: v for k, v in (self.request.headers or {}).items() if isinstance(v, (str, int, float, bool, type(None)))},
            "expires": self.request.expires if not hasattr(self.request.expires, "isoformat") else self.request.expires.isoformat()}


@app.task(bind=True)
def caught(self, *args):
    note(self, args=[repr(a)[:200] for a in args])


# names that policies speak of
@app.task(bind=True, name="feeds.pull")
def feeds_pull(self, url="http://example.invalid/feed"):
    note(self)
    return url


@app.task(bind=True, name="reports.daily")
def reports_daily(self, day="today"):
    note(self)
    return day


@app.task(bind=True, name="stats.hourly")
def stats_hourly(self):
    note(self)
    return 24


@app.task(bind=True, name="video.encode")
def video_encode(self, name="film"):
    note(self)
    return name


@app.task(bind=True, name="checkout.pay")
def checkout_pay(self, amount=1):
    note(self)
    return amount


@app.task(bind=True, name="images.resize")
def images_resize(self, blob=""):
    note(self, size=len(blob))
    return len(blob)
