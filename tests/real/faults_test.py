"""When a link, a broker or Umbel itself dies: nothing that was accepted is lost, and order is kept. The oracle is a drain of the broker."""

import socket
import threading
import time

import pytest

from harness import wire
from harness.celery import Producer, Worker
from harness.process import free_port, wait_for
from harness.wire import Refused

# Quick to notice a silent broker, quick to come back.
EAGER = 'heartbeat = "2s"\nconfirm_timeout = "4s"\nconnect_timeout = "2s"\n[upstreams.default.retry]\ninterval_start = "0s"\ninterval_step = "100ms"\ninterval_max = "500ms"\n'


def first_times(bodies):
    """In the order of their first arrival; duplicates are allowed after a link died."""
    return list(dict.fromkeys(bodies))


class Load(threading.Thread):
    """Publishes numbered bodies on one channel until told to stop; `sent` is how many went out without an error."""

    def __init__(self, client, queue, pause=0.001, size=0):
        super().__init__(daemon=True)
        self.client, self.queue, self.pause, self.filling = client, queue, pause, b" " * size
        self.sent, self.error, self.done = 0, None, threading.Event()

    def run(self):
        try:
            while not self.done.is_set():
                self.client.publish(self.queue, b"%d" % self.sent + self.filling, delivery_mode=2)
                self.sent += 1
                time.sleep(self.pause)
        except OSError as error:
            self.error = error

    def finish(self):
        self.done.set()
        self.join(20)
        assert self.error is None, f"the producer noticed: {self.error!r}"
        return self.sent


def all_there(node, vhost, queue, number, timeout=30):
    with node.client(vhost=vhost) as direct:
        wait_for(lambda: (direct.depth(queue) or 0) >= number, timeout, 0.1, what=lambda: f"{number} messages, {direct.depth(queue)} are there")
        time.sleep(0.3)
        bodies = [int(m.body) for m in direct.drain(queue)]
    assert first_times(bodies) == list(range(number))
    return len(bodies) - number


@pytest.fixture
def linked(node, vhost, relay_to, make_umbel):
    """(umbel, relay between it and the broker)"""
    relay = relay_to(node.address)
    return make_umbel(relay.url(), upstream_options=EAGER), relay


WAYS_TO_DIE = {
    "reset": lambda relay: relay.reset(),
    "closed": lambda relay: relay.close(),
    "cut inside a frame": lambda relay: setattr(relay.to_target, "cut_after", 777),
    "a bit turned on its way to us": lambda relay: setattr(relay.to_client, "flip_after", 7),
}


@pytest.mark.parametrize("way", WAYS_TO_DIE)
def test_links_that_die_under_load_lose_nothing_and_keep_order(linked, node, vhost, way):
    umbel, relay = linked
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        load = Load(client, "q")
        load.start()
        for _ in range(6):
            time.sleep(0.4)
            WAYS_TO_DIE[way](relay)
        time.sleep(0.5)
        relay.heal()
        sent = load.finish()
        assert sent > 300
        all_there(node, vhost, "q", sent)


def test_a_confirming_client_gets_each_ack_once_through_cuts(linked, node, vhost):
    umbel, relay = linked
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.select_confirms()
        for i in range(600):
            client.publish("q", b"%d" % i, delivery_mode=2)
            if i % 150 == 75:
                relay.reset()
            time.sleep(0.001)
        assert client.confirmed(600, timeout=20) == set()
        all_there(node, vhost, "q", 600)


def test_publishes_while_the_broker_cannot_be_reached_arrive_later(linked, node, vhost):
    umbel, relay = linked
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.publish("q", b"0", delivery_mode=2)
        wait_for(lambda: node.depth("q", vhost) == 1)
        relay.cut()
        for i in range(1, 500):
            client.publish("q", b"%d" % i, delivery_mode=2)
        time.sleep(2)
        relay.heal()
        all_there(node, vhost, "q", 500)


@pytest.mark.slow
def test_a_black_hole_is_noticed_and_what_fell_in_is_sent_again(linked, node, vhost):
    umbel, relay = linked
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        load = Load(client, "q", pause=0.005)
        load.start()
        time.sleep(1)
        relay.black_hole()
        time.sleep(7)
        relay.black_hole(False)
        relay.heal()
        sent = load.finish()
        all_there(node, vhost, "q", sent)


def test_bytes_one_by_one_change_nothing(node, vhost, relay_to, make_umbel):
    before, behind = relay_to(("127.0.0.1", 1)), relay_to(node.address)
    umbel = make_umbel(behind.url())
    before.target = umbel.address
    for relay in (before, behind):
        for way in relay.ways:
            way.slice = 1
    with wire.Client.open(before.address, vhost=vhost, timeout=20) as client:
        client.declare("q")
        client.select_confirms()
        for i in range(10):
            client.publish("q", b"%d" % i * 50, headers={"n": i})
        assert client.confirmed(10) == set()
        for way in (*before.ways, *behind.ways):
            way.slice = None
        with node.client(vhost=vhost) as direct:
            assert [m.body for m in direct.drain("q")] == [b"%d" % i * 50 for i in range(10)]


def test_celery_s_producers_notice_nothing_of_dying_links(linked, node, vhost, processes):
    umbel, relay = linked
    producer = processes(Producer, umbel.url(vhost=vhost))
    producer.run("number.apply_async((0,), ignore_result=True, queue='q') and None")
    producer.send("[number.apply_async((i,), ignore_result=True, queue='q') and time.sleep(0.002) for i in range(1, 1000)] and None")
    for _ in range(6):
        time.sleep(0.4)
        relay.reset()
    producer.answer()
    with node.client(vhost=vhost) as direct:
        wait_for(lambda: direct.depth("q") >= 1000, 30)
        ids = [m.headers["argsrepr"] for m in direct.drain("q")]
    assert first_times(ids) == [f"({i},)" for i in range(1000)]


def test_a_worker_sees_its_link_die_and_recovers(linked, node, vhost, processes):
    umbel, relay = linked
    worker = processes(Worker, umbel.url(vhost=vhost), settings={"broker_connection_retry": True}, arguments=["--without-mingle", "--without-gossip"])
    producer = processes(Producer, umbel.url(vhost=vhost))
    assert producer.run("add.delay(1, 1).get(timeout=20)") == 2
    relay.reset()
    wait_for(lambda: "onnection to broker lost" in worker.logged(), 10, what="the worker to notice")
    task_id = producer.run("add.delay(2, 2).id")
    wait_for(lambda: worker.ran(task_id), 30)


def test_a_consumer_is_told_at_once_when_its_link_dies(linked, vhost):
    umbel, relay = linked
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.consume("q")
        relay.reset()
        with pytest.raises((Refused, EOFError, ConnectionResetError)) as told:
            client.next(timeout=3)
        assert not isinstance(told.value, Refused) or (told.value.scope, told.value.code) == ("connection", 320)


def test_the_broker_s_own_close_reaches_a_consumer_and_not_a_producer(node, vhost, make_umbel):
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as producer, umbel.client(vhost=vhost) as consumer:
        producer.declare("q")
        producer.publish("q", b"0", delivery_mode=2)
        consumer.declare("other")
        consumer.consume("other")
        node.close_connections("maintenance")
        with pytest.raises(Refused) as refused:
            consumer.next(timeout=5)
        assert (refused.value.scope, refused.value.code) == ("connection", 320)
        for i in range(1, 10):
            producer.publish("q", b"%d" % i, delivery_mode=2)
        all_there(node, vhost, "q", 10)


@pytest.mark.slow
def test_a_broker_that_is_killed_and_started_again_has_lost_nothing(own_node, make_umbel):
    umbel = make_umbel(own_node.url(), upstream_options=EAGER)
    with umbel.client() as client:
        client.declare("q")
        load = Load(client, "q", pause=0.003)
        load.start()
        time.sleep(1.5)
        own_node.kill()
        time.sleep(1)
        own_node.start()
        time.sleep(1)
        sent = load.finish()
        all_there(own_node, "/", "q", sent, timeout=40)


@pytest.mark.slow
def test_a_broker_that_stops_for_a_while_delays_nobody(own_node, make_umbel):
    """SIGSTOP: connections stay open and nothing moves. delay() must not wait for it."""
    umbel = make_umbel(own_node.url(), upstream_options=EAGER)
    with umbel.client() as client:
        client.declare("q")
        client.publish("q", b"0", delivery_mode=2)
        wait_for(lambda: own_node.depth("q") == 1)
        own_node.pause()
        try:
            slowest = 0
            for i in range(1, 800):
                began = time.monotonic()
                client.publish("q", b"%d" % i, delivery_mode=2)
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.005)
        finally:
            own_node.resume()
        assert slowest < 0.5, f"a publish waited {slowest:.2f} s"
        all_there(own_node, "/", "q", 800, timeout=60)


@pytest.mark.slow
def test_a_memory_alarm_neither_delays_nor_loses(own_node, make_umbel, place):
    """Directly, py-amqp's TCP_USER_TIMEOUT makes the kernel throw away what delay() had returned from."""
    umbel = make_umbel(own_node.url())
    with Producer(place, umbel.url()) as producer:
        producer.run("number.apply_async((0,), ignore_result=True, queue='q') and None")
        own_node.memory_alarm(True)
        try:
            slowest = producer.run("""
out = 0
for i in range(1, 1500):
    began = time.time()
    number.apply_async((i,), ignore_result=True, queue='q')
    out = max(out, time.time() - began)
    time.sleep(0.002)
""")
        finally:
            own_node.memory_alarm(False)
        assert slowest < 0.5, f"a delay() took {slowest:.2f} s"
        wait_for(lambda: own_node.depth("q") == 1500, 30, 0.2, what=lambda: f"1500 messages, {own_node.depth('q')} are there")


def test_acknowledgements_go_on_during_a_memory_alarm(own_node, make_umbel):
    """A broker stops reading whatever connection has published: a worker's acks must not share one."""
    umbel = make_umbel(own_node.url())
    with umbel.client() as client, own_node.client() as direct:
        client.declare("q")
        client.declare("results")
        for i in range(10):
            direct.publish("q", b"%d" % i)
        client.consume("q", no_ack=False)
        got = [client.delivery() for _ in range(10)]
        client.publish("results", b"r")
        time.sleep(0.3)
        own_node.memory_alarm(True)
        try:
            client.publish("results", b"r")
            for message in got:
                client.send(1, "basic.ack", delivery_tag=message.delivery_tag)
            wait_for(lambda: own_node.eval(
                '[Q] = [Q || Q <- rabbit_amqqueue:list(<<"/">>), element(4, element(2, Q)) =:= <<"q">>], '
                'proplists:get_value(messages_unacknowledged, rabbit_amqqueue:info(Q, [messages_unacknowledged]))') == "0", 5, 0.2,
                what="every acknowledgement to arrive")
        finally:
            own_node.memory_alarm(False)


# Umbel itself

def test_sigterm_ends_a_quiet_umbel_with_0(make_umbel, node):
    umbel = make_umbel(node.url())
    with umbel.client() as client:
        began = time.monotonic()
        umbel.process.signal(15)
        with pytest.raises(Refused, match="320"):
            client.next(timeout=5)
    assert umbel.process.wait(10) == 0
    assert time.monotonic() - began < 10


def test_sigterm_under_load_loses_nothing(make_umbel, node, vhost):
    """It says 320 and keeps reading until our end of stream (D7): what was sent meanwhile arrives too."""
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        for i in range(500):
            client.publish("q", b"%d" % i, delivery_mode=2)
        umbel.process.signal(15)
        with pytest.raises(Refused) as told:
            client.next(timeout=10)
        assert (told.value.scope, told.value.code) == ("connection", 320)
        assert umbel.process.wait(30) == 0
        all_there(node, vhost, "q", 500)


def test_publishes_after_our_goodbye_still_arrive(make_umbel, node, vhost):
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        for i in range(200):
            client.publish("q", b"%d" % i, delivery_mode=2)
        umbel.process.signal(15)
        time.sleep(0.5)
        for i in range(200, 400):
            client.publish("q", b"%d" % i, delivery_mode=2)
        # An end of stream, not a close: with our goodbye unread that would be a reset, and the kernel may drop what was sent.
        client.socket.shutdown(socket.SHUT_WR)
        assert umbel.process.wait(30) == 0
    all_there(node, vhost, "q", 400)


def test_sigterm_under_celery_s_load_loses_nothing(make_umbel, node, vhost, processes, relay_to):
    """A second Umbel stands behind the same address; producers move over, and no task is missing."""
    first, second = make_umbel(node.url()), make_umbel(node.url())
    door = relay_to(first.address)
    producer = processes(Producer, door.url(vhost=vhost))
    producer.run("number.apply_async((0,), ignore_result=True, queue='q') and None")
    producer.send("[number.apply_async((i,), ignore_result=True, queue='q') and time.sleep(0.002) for i in range(1, 1000)] and None")
    time.sleep(0.8)
    door.target = second.address
    assert first.stop() == 0
    producer.answer()
    with node.client(vhost=vhost) as direct:
        wait_for(lambda: direct.depth("q") >= 1000, 20, what=lambda: f"1000 tasks, {direct.depth('q')} are there")
        assert len(set(m.headers["id"] for m in direct.drain("q"))) == 1000


# a broker that is not there

def test_a_broker_that_is_not_there_is_said_in_time_and_by_name(make_umbel):
    nowhere = free_port()
    umbel = make_umbel(f"amqp://127.0.0.1:{nowhere}", start=False, upstream_options='connect_timeout = "2s"')
    umbel.start(ready=False)
    wait_for(lambda: umbel.get("/healthz")[0] == 200, 10)
    assert umbel.get("/readyz")[0] != 200
    began = time.monotonic()
    with pytest.raises((Refused, EOFError, ConnectionResetError)):
        umbel.client(timeout=10)
    assert time.monotonic() - began < 6
    wait_for(lambda: str(nowhere) in umbel.logged(), 5, what="the log to name the address")
    assert "refused" in umbel.logged().lower()


def test_a_broker_that_comes_later_is_used(make_umbel, node, relay_to, vhost):
    relay = relay_to(node.address)
    relay.cut()
    umbel = make_umbel(relay.url(), start=False, upstream_options=EAGER)
    umbel.start(ready=False)
    wait_for(lambda: umbel.get("/healthz")[0] == 200, 10)
    relay.heal()
    wait_for(lambda: umbel.get("/readyz")[0] == 200, 15, what="readiness")
    with umbel.client(vhost=vhost) as client:
        client.declare("q")


def test_a_second_url_is_used_when_the_first_is_dead(make_umbel, node, vhost):
    umbel = make_umbel([f"amqp://127.0.0.1:{free_port()}", node.url()], upstream_options=EAGER)
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.select_confirms()
        client.publish("q", b"x")
        assert client.confirmed(1) == set()


# reload

def task(client, name, queue="celery"):
    client.publish(queue, b"[[], {}, {}]", headers={"task": name, "id": "r"}, content_type="application/json", correlation_id="r")


def route_to(queue):
    return f'[[rules]]\nname = "moved"\nmatch = {{ task = "feeds.*" }}\nroute = {{ queue = "{queue}" }}\n'


def reaches(umbel, node, vhost, queue):
    """Whether a task published now lands in `queue`."""
    with umbel.client(vhost=vhost) as client, node.client(vhost=vhost) as direct:
        client.declare("celery")
        for q in ("celery", queue):
            if direct.depth(q):
                direct.call(1, "queue.purge", queue=q)
        client.select_confirms()
        task(client, "feeds.pull")
        client.confirmed(1)
        return (direct.depth(queue) or 0) == 1


def test_sighup_reloads(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), route_to("one"))
    assert reaches(umbel, node, vhost, "one")
    umbel.write_config(route_to("two"))
    umbel.reload()
    wait_for(lambda: reaches(umbel, node, vhost, "two"), 5)


def test_a_changed_file_is_noticed(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), route_to("one"))
    assert reaches(umbel, node, vhost, "one")
    umbel.config.write_text(umbel.toml(route_to("two")))
    wait_for(lambda: reaches(umbel, node, vhost, "two"), 10)


def test_a_file_replaced_by_rename_is_noticed(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), route_to("one"))
    for queue in ("two", "three", "four"):
        umbel.write_config(route_to(queue))
        wait_for(lambda: reaches(umbel, node, vhost, queue), 10)


def test_a_symlink_swap_as_kubernetes_does_it_is_noticed(make_umbel, node, vhost, place):
    umbel = make_umbel(node.url(), start=False)
    mount = place / "mount"
    for version in ("..v1", "..v2"):
        (mount / version).mkdir(parents=True)
    (mount / "..v1" / "umbel.toml").write_text(umbel.toml(route_to("one")))
    (mount / "..v2" / "umbel.toml").write_text(umbel.toml(route_to("two")))
    (mount / "..data").symlink_to("..v1")
    (mount / "umbel.toml").symlink_to("..data/umbel.toml")
    umbel.config = mount / "umbel.toml"
    umbel.start()
    assert reaches(umbel, node, vhost, "one")
    (mount / "..data_tmp").symlink_to("..v2")
    (mount / "..data_tmp").replace(mount / "..data")
    wait_for(lambda: reaches(umbel, node, vhost, "two"), 10)


def test_a_bad_file_changes_nothing_and_is_reported(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), route_to("one"))
    umbel.write_config('[[rules]]\nname = "broken"\nmatch = { tsk = "x" }\n')
    umbel.reload()
    wait_for(lambda: "tsk" in umbel.logged(), 5, what="the log to name the key")
    assert umbel.process.alive() and reaches(umbel, node, vhost, "one")
    umbel.write_config(route_to("two"))
    umbel.reload()
    wait_for(lambda: reaches(umbel, node, vhost, "two"), 5)


def test_reloads_under_load_lose_nothing_and_mix_nothing(make_umbel, node, vhost):
    """Each snapshot sends to a queue and sets a priority: no message may have one of one and one of the other."""
    def rules(n):
        return f'[[rules]]\nname = "r"\nmatch = {{ task = "*" }}\nroute = {{ queue = "to{n}" }}\npriority = {{ set = {n} }}\n'

    umbel = make_umbel(node.url(), rules(1))
    with umbel.client(vhost=vhost) as client, node.client(vhost=vhost) as direct:
        direct.declare("to1")
        direct.declare("to2")
        client.select_confirms()
        stop = threading.Event()

        def turn():
            n = 1
            while not stop.is_set():
                n = 3 - n
                umbel.write_config(rules(n))
                umbel.reload()
                time.sleep(0.03)

        turner = threading.Thread(target=turn, daemon=True)
        turner.start()
        for i in range(2000):
            task(client, "t")
            if i % 20 == 0:
                time.sleep(0.005)
        stop.set()
        turner.join()
        assert client.confirmed(2000) == set()
        got = {n: direct.drain(f"to{n}") for n in (1, 2)}
    assert sum(map(len, got.values())) == 2000
    for n, messages in got.items():
        assert {m.properties["priority"] for m in messages} <= {n}
    assert all(got.values()), "no reload took effect under load"


def test_connections_live_through_a_reload(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), route_to("one"))
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.consume("q")
        before = node.connections()
        umbel.write_config(route_to("two"))
        umbel.reload()
        time.sleep(0.5)
        client.publish("q", b"x")
        assert client.delivery().body == b"x"
        assert node.connections() >= before
