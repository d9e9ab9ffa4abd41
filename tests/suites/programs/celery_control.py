"""The Celery that program_celery.py controls."""
import os
import time

import celery

app = celery.Celery("celery_control", broker=os.environ["SUITE_BROKER"], backend=os.environ["SUITE_REDIS"])
app.conf.update(
    task_default_queue="s.control", task_send_sent_event=True, worker_send_task_events=True, task_acks_late=True, worker_prefetch_multiplier=1,
    task_track_started=True, worker_hijack_root_logger=False, accept_content=["json", "pickle", "yaml"], task_create_missing_queues=True,
    task_reject_on_worker_lost=True, broker_connection_retry_on_startup=True, result_expires=600)


@app.task(name="s.add")
def add(x, y):
    return x + y


@app.task(name="s.tsum")
def tsum(numbers):
    return sum(numbers)


@app.task(name="s.naps")
def naps(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="s.fails")
def fails():
    raise ValueError("as asked")
