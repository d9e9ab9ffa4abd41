"""Celery workers and other consumers while their link, their queue or their broker has a bad day."""

from harness import wire
from harness.celery import Producer, Worker
from kit.scenario import scenario
from kit.world import unacknowledged


def worker(world, door, name="w", venv="celery5", arguments=(), **settings):
    made = world.end_with(Worker(world.place, door.url(vhost=world.vhost), venv=venv, name=name, queues=["celery"],
                                 settings={"result_backend": None, "broker_heartbeat": 10, **settings}, arguments=["--without-mingle", "--without-gossip", *arguments]))
    return made.start()


def producer(world, door, **settings):
    return world.end_with(Producer(world.place, door.url(vhost=world.vhost), name="orders", settings={"result_backend": None, **settings}))


def all_run(world, worker, count, timeout=40):
    """Every number once or more; the numbers that ran twice."""
    ran = lambda: [e["n"] for e in worker.executed() if e["task"].endswith("number")]  # noqa: E731
    world.wait(lambda: len(set(ran())) == count, timeout, lambda: f"{count} tasks to run, {len(set(ran()))} did")
    return len(ran()) - count


@scenario("worker with acks_late: its link reset five times, prefetched tasks unacknowledged", rows=37, recovery=None, accepted=0, exceptions=None)
def worker_link_reset(world):
    """It is told, reconnects, the broker delivers again; no loop of 406, no task missing."""
    node = world.node()
    relay = world.relay(node)
    door = world.door(relay)
    one = worker(world, door, task_acks_late=True, worker_prefetch_multiplier=4)
    orders = producer(world, world.door(node, name="orders-umbel"))
    orders.run("[number.delay(i) and None for i in range(300)]\nout = None")
    for _ in range(5):
        world.moment(0.4, 1.0)
        relay.reset()
    twice = all_run(world, one, 300)
    world.note(f"300 tasks ran, {twice} of them twice")
    world.check("no loop of 406", one.logged().count("PRECONDITION_FAILED") <= 5)


@scenario("worker killed by its broker (SIGKILL and restart) with tasks under way", rows=(7, 37), recovery=None, accepted=0, exceptions=None)
def worker_broker_killed(world):
    node = world.own_node()
    door = world.door(node)
    one = worker(world, door, task_acks_late=True)
    orders = producer(world, door)
    orders.run("[number.delay(i) and None for i in range(100)]\nout = None")
    world.sleep(0.3)
    node.kill()
    orders.run("[number.delay(i) and None for i in range(100, 200)]\nout = None")
    node.start()
    twice = all_run(world, one, 200, 60)
    world.note(f"200 tasks ran, 100 of them ordered while the broker was down; {twice} ran twice")


@scenario("a worker through a memory alarm: what it took before is acknowledged, what it is given runs", rows=38, recovery=None, accepted=0, exceptions=None)
def worker_in_an_alarm(world):
    node = world.own_node()
    door = world.door(node)
    one = worker(world, door, task_acks_late=True)
    orders = producer(world, door)
    orders.run("[number.delay(i) and None for i in range(200)]\nout = None")
    node.memory_alarm(True)
    ordered_in_alarm = orders.run("import time\nbegan = time.time()\n[number.delay(i) and None for i in range(200, 300)]\nout = time.time() - began")
    all_run(world, one, 200)
    node.memory_alarm(False)
    all_run(world, one, 300)
    world.note(f"100 calls of delay() in the alarm took {ordered_in_alarm:.2f} s")
    world.check(f"delay() was not slow: {ordered_in_alarm:.2f} s for 100", ordered_in_alarm < 2)


@scenario("a worker that sends results and retries through a memory alarm", rows=38, recovery=None, accepted=0, exceptions=None)
def worker_with_results_in_an_alarm(world):
    """Each task runs in the alarm, is acknowledged, and has said what comes of it: a retry, which runs when the alarm is over, then a result."""
    node = world.own_node()
    door = world.door(node)
    orders = producer(world, door, result_backend="rpc://")
    orders.run("results = [stumble.delay(1) for _ in range(100)]\nout = None")
    node.memory_alarm(True)
    world.sleep(1)
    one = worker(world, door, task_acks_late=True, result_backend="rpc://")
    ran = lambda retries: len({e["id"] for e in one.executed() if e["retries"] == retries})  # noqa: E731
    world.wait(lambda: ran(0) == 100, 40, lambda: f"100 tasks to run in the alarm, {ran(0)} did")
    world.wait(lambda: unacknowledged(node, "celery") + node.depth("celery") == 0, what="their acknowledgements to arrive")
    world.check(f"no retry went past the alarm ({ran(1)})", ran(1) == 0)
    node.memory_alarm(False)
    told = orders.run("out = [r.get(timeout=40) for r in results]")
    world.check(f"each result came: {set(told)}", told == [1] * 100)


@scenario("a consumer's queue deleted: basic.cancel comes through", rows=39, recovery=None, accepted=0)
def queue_of_a_consumer_deleted(world):
    node = world.node()
    world.queue("gone")
    door = world.door(node)
    with door.client(vhost=world.vhost) as consumer, node.client(vhost=world.vhost) as operator:
        consumer.consume("gone", tag="mine")
        operator.call(1, "queue.delete", queue="gone")
        cancel = consumer.expect("basic.cancel")
        world.check(f"the cancel names the consumer: {cancel}", cancel["consumer_tag"] == "mine")
        consumer.declare("gone")
        consumer.consume("gone", tag="again")


@scenario("consumer_timeout of the broker: 406 for that channel, others beside it", rows=40, recovery=None, accepted=500, exceptions=0)
def consumer_timeout(world):
    """A delivery left unacknowledged for too long closes its channel alone."""
    node = world.own_node("consumer_timeout = 2000\n")
    node.eval("application:set_env(rabbit, channel_tick_interval, 500)")
    world.queue("q")
    world.stock("held", 1)
    door = world.door(node)
    world.raw(door, rate=400, confirms=True, queues=["q"])
    with door.client(timeout=70) as consumer:
        consumer.call(2, "channel.open")
        consumer.declare("alive", channel=2)
        consumer.consume("held", no_ack=False, tag="slow")
        consumer.delivery()
        try:
            consumer.next(timeout=60)
            told = None
        except wire.Refused as refused:
            told = (refused.scope, refused.code)
        world.check(f"told {told}", told == ("channel", 406))
        world.check("the other channel lives", consumer.depth("alive", channel=2) == 0)


@scenario("Celery 3.1 and 5 workers on one queue, their links reset, tasks of both ages", rows=(37, 56), needs="celery31", recovery=None, accepted=0, exceptions=None)
def workers_of_two_ages(world):
    node = world.node()
    relay = world.relay(node)
    door = world.door(relay)
    old = worker(world, door, "old", venv="celery31", task_acks_late=True)
    new = worker(world, door, "new", task_acks_late=True)
    orders = producer(world, door)
    orders.run("[number.delay(i) and None for i in range(200)]\nout = None")
    for _ in range(3):
        world.moment(0.5, 1.0)
        relay.reset()
    ran = lambda: {e["n"] for w in (old, new) for e in w.executed()}  # noqa: E731
    world.wait(lambda: len(ran()) == 200, 60, lambda: f"200 tasks to run, {len(ran())} did")
