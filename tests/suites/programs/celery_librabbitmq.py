"""A Celery whose transport is librabbitmq: the worker's module, and the producer when run."""
from __future__ import print_function

import os

import celery

app = celery.Celery("celery_librabbitmq", broker=os.environ["SUITE_BROKER"], backend="rpc://")
app.conf.update(task_default_queue="s.lr.celery", worker_hijack_root_logger=False)


@app.task(name="s.lr.add")
def add(x, y):
    return x + y


if __name__ == "__main__":
    with app.connection() as connection:
        print("transport: %s" % type(connection.transport).__module__)
    print("result: %s" % add.delay(2, 3).get(timeout=30))
    print("a group: %s" % celery.group(add.s(i, i) for i in range(20))().get(timeout=30))
    print("with expires and countdown: %s" % add.apply_async((1, 1), countdown=1, expires=60).get(timeout=30))
    print("priority: %s" % add.apply_async((4, 4), priority=3).get(timeout=30))
    print("ping: %s" % [list(r.values()) for r in app.control.ping(timeout=2)])
