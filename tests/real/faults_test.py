"""When a link, a broker or Umbel itself dies: nothing that was accepted is lost, and order is kept. The oracle is a drain of the broker."""

import time

import pytest

from harness import wire
from harness.celery import Producer, Worker
from harness.load import Load, all_there, collect, first_times
from harness.process import free_port, wait_equal, wait_for
from harness.wire import Refused

# Quick to notice a silent broker, quick to come back.
EAGER = 'heartbeat = "2s"\nconfirm_timeout = "4s"\nconnect_timeout = "2s"\n[upstreams.default.retry]\ninterval_start = "0s"\ninterval_step = "100ms"\ninterval_max = "500ms"\n'


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
            load.more(50)
            time.sleep(0.2)
            WAYS_TO_DIE[way](relay)
        load.more(50)
        relay.heal()
        all_there(umbel, node, vhost, "q", load.finish())


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
        assert client.confirmed(600) == set()
        all_there(umbel, node, vhost, "q", 600)


def test_publishes_while_the_broker_cannot_be_reached_arrive_later(linked, node, vhost):
    umbel, relay = linked
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.publish("q", b"0", delivery_mode=2)
        umbel.wait_settled(1)
        relay.cut()
        for i in range(1, 500):
            client.publish("q", b"%d" % i, delivery_mode=2)
        wait_equal(lambda: umbel.counters()["accepted"], 500, what="what was read while nobody could be reached")
        relay.heal()
        all_there(umbel, node, vhost, "q", 500)


@pytest.mark.slow
def test_a_black_hole_is_noticed_and_what_fell_in_is_sent_again(linked, node, vhost):
    umbel, relay = linked
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        load = Load(client, "q", pause=0.005)
        load.start()
        load.more(100)
        relay.black_hole()
        wait_equal(lambda: umbel.status()["upstreams"][0]["state"], "down", what="the upstream")
        load.more(100)
        relay.heal()
        all_there(umbel, node, vhost, "q", load.finish())


def test_bytes_one_by_one_change_nothing(node, vhost, relay_to, make_umbel):
    before, behind = relay_to(("127.0.0.1", 1)), relay_to(node.address)
    umbel = make_umbel(behind.url())
    before.target = umbel.address
    for relay in (before, behind):
        for way in relay.ways:
            way.slice = 1
    with wire.Client.open(before.address, vhost=vhost, timeout=60) as client:
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
        calls = collect(direct, "q", 1000, lambda m: m.headers["argsrepr"])
    assert first_times(calls) == [f"({i},)" for i in range(1000)]


def test_a_worker_sees_its_link_die_and_recovers(linked, node, vhost, processes):
    umbel, relay = linked
    worker = processes(Worker, umbel.url(vhost=vhost), settings={"broker_connection_retry": True}, arguments=["--without-mingle", "--without-gossip"])
    producer = processes(Producer, umbel.url(vhost=vhost))
    assert producer.run("add.delay(1, 1).get(timeout=20)") == 2
    relay.reset()
    wait_for(lambda: "onnection to broker lost" in worker.logged(), what="the worker to notice")
    task_id = producer.run("add.delay(2, 2).id")
    wait_for(lambda: worker.ran(task_id), 60, what=worker.logged)


def test_a_consumer_is_told_at_once_when_its_link_dies(node, vhost, relay_to, make_umbel):
    """At once: no heartbeat is due for a minute."""
    relay = relay_to(node.address)
    umbel = make_umbel(relay.url())
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.consume("q")
        relay.reset()
        with pytest.raises((Refused, EOFError, ConnectionResetError)) as told:
            client.next(timeout=15)
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
            consumer.next()
        assert (refused.value.scope, refused.value.code) == ("connection", 320)
        for i in range(1, 10):
            producer.publish("q", b"%d" % i, delivery_mode=2)
        all_there(umbel, node, vhost, "q", 10)


@pytest.mark.slow
def test_a_broker_that_is_killed_and_started_again_has_lost_nothing(own_node, make_umbel):
    umbel = make_umbel(own_node.url(), upstream_options=EAGER)
    with umbel.client() as client:
        client.declare("q")
        own_node.keep_declarations()
        load = Load(client, "q", pause=0.003)
        load.start()
        load.more(200)
        own_node.kill()
        load.more(100)
        own_node.start()
        load.more(100)
        all_there(umbel, own_node, "/", "q", load.finish())


@pytest.mark.slow
def test_a_broker_that_stops_for_a_while_delays_nobody(own_node, make_umbel):
    """SIGSTOP: connections stay open and nothing moves. What producers say is read all the same, so that none waits for it."""
    umbel = make_umbel(own_node.url(), upstream_options=EAGER)
    with umbel.client() as client:
        client.declare("q")
        client.publish("q", b"0", delivery_mode=2)
        umbel.wait_settled(1)
        own_node.pause()
        try:
            for i in range(1, 800):
                client.publish("q", b"%d" % i, delivery_mode=2)
                time.sleep(0.005)
            wait_equal(lambda: umbel.counters()["accepted"], 800, what="what was read while the broker stood still")
        finally:
            own_node.resume()
        all_there(umbel, own_node, "/", "q", 800)


@pytest.mark.slow
def test_a_memory_alarm_neither_delays_nor_loses(own_node, make_umbel, place):
    """Directly, py-amqp's TCP_USER_TIMEOUT makes the kernel throw away what delay() had returned from."""
    umbel = make_umbel(own_node.url())
    with Producer(place, umbel.url()) as producer:
        producer.run("number.apply_async((0,), ignore_result=True, queue='q') and None")
        own_node.memory_alarm(True)
        try:
            producer.run("[number.apply_async((i,), ignore_result=True, queue='q') and time.sleep(0.002) for i in range(1, 1500)] and None")
            # Read at once, all of it: what is not read is what the kernel would throw away.
            wait_equal(lambda: umbel.counters()["accepted"], 1500, what="what was read during the alarm")
        finally:
            own_node.memory_alarm(False)
        wait_equal(lambda: own_node.depth("q"), 1500, 60, 0.2, what="the depth")


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
            wait_equal(lambda: own_node.eval(
                '[Q] = [Q || Q <- rabbit_amqqueue:list(<<"/">>), element(4, element(2, Q)) =:= <<"q">>], '
                'proplists:get_value(messages_unacknowledged, rabbit_amqqueue:info(Q, [messages_unacknowledged]))'), "0",
                what="what is unacknowledged")
        finally:
            own_node.memory_alarm(False)


# a broker that is not there

def test_a_broker_that_is_not_there_is_said_in_time_and_by_name(make_umbel):
    nowhere = free_port()
    umbel = make_umbel(f"amqp://127.0.0.1:{nowhere}", start=False, upstream_options='connect_timeout = "2s"')
    umbel.start(ready=False)
    wait_equal(lambda: umbel.get("/healthz")[0], 200)
    assert umbel.get("/readyz")[0] != 200
    began = time.monotonic()
    with pytest.raises((Refused, EOFError, ConnectionResetError)):
        umbel.client()
    assert time.monotonic() - began < 9, "two seconds, and what a busy machine takes"
    wait_for(lambda: any(str(nowhere) in line and "refused" in line.lower() for line in umbel.logged().splitlines()), what=umbel.logged)


def test_a_broker_that_comes_later_is_used(make_umbel, node, relay_to, vhost):
    relay = relay_to(node.address)
    relay.cut()
    umbel = make_umbel(relay.url(), start=False, upstream_options=EAGER)
    umbel.start(ready=False)
    wait_equal(lambda: umbel.get("/healthz")[0], 200)
    relay.heal()
    wait_equal(lambda: umbel.get("/readyz")[0], 200, what="readiness")
    with umbel.client(vhost=vhost) as client:
        client.declare("q")


def test_a_second_url_is_used_when_the_first_is_dead(make_umbel, node, vhost):
    umbel = make_umbel([f"amqp://127.0.0.1:{free_port()}", node.url()], upstream_options=EAGER)
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.select_confirms()
        client.publish("q", b"x")
        assert client.confirmed(1) == set()
