"""A worker and a producer of one age, in a vhost of their own, through one address."""

import time

from .celery import Producer, Worker
from .process import wait_at_least


LISTEN = """
import threading
heard = []
listens = threading.Event()
def listen():
    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": lambda e: heard.append((e["type"], e.get("uuid"), e.get("expired")))})
        receiver.on_consume_ready = lambda *a, **k: listens.set()
        try:
            for _ in receiver.itercapture(limit=None, timeout=120, wakeup=False):
                pass
        except Exception as error:
            heard.append((repr(error), None, None))
listener = threading.Thread(target=listen)
listener.daemon = True
listener.start()
listens.wait(60)
"""


class Pair:
    def __init__(self, place, via, node, age, vhost, queues=("celery", "other", "high"), settings=None, arguments=("-E",)):
        self.via, self.node, self.vhost, self.age, self.place = via, node, vhost, age, place
        node.add_vhost(vhost)
        url = via.url(vhost=vhost)
        self.producer = Producer(place, url, venv=age, name="p", settings=settings)
        self.worker = Worker(place, url, queues, venv=age, arguments=arguments, name="w", settings=settings)

    def __enter__(self):
        try:
            self.worker.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.producer.kill()
        self.worker.__exit__()
        self.node.delete_vhost(self.vhost)

    def run(self, code):
        return self.producer.run(code)

    def run_and_see(self, task, options, arguments="()"):
        """Calls a task and waits for its result; (result, what the worker saw of it, what py-amqp was given)."""
        self.producer.published()
        result, task_id = self.run(f"(lambda r: (r.get(timeout=60), r.id))({task}.apply_async({arguments}, {options}))")
        given = [p for p in self.producer.published() if p["id"] == task_id]
        return result, self.worker.ran(task_id)[0], given[0]

    def call(self, task, options="", arguments="()"):
        """Calls a task and forgets its result: (id, what py-amqp was given)."""
        self.producer.published()
        task_id = self.run(f"{task}.apply_async({arguments}, {options}).id")
        return task_id, [p for p in self.producer.published() if p["id"] == task_id][0]

    def in_broker(self, queue):
        """The next message that lies in a queue, taken by a direct connection."""
        with self.node.client(vhost=self.vhost) as direct:
            wait_at_least(lambda: direct.depth(queue), 1, what=f"the depth of {queue}")
            return direct.get(queue)

    def nothing_in_broker(self, queue, within=0.5):
        time.sleep(within)
        return not self.node.depth(queue, self.vhost)

    def listen(self):
        """The producer begins to hear events."""
        self.run(LISTEN)

    def heard(self):
        """[[type, task id, expired]] so far."""
        return self.run("list(heard)")
