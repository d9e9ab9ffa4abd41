"""Tasks that no queue takes, and routes that lead nowhere (SPEC D6, P9)."""

from harness import wire
from harness.celery import Producer
from harness.process import wait_equal, wait_for, wait_until

DEAD = '[dead_letter]\nqueue = "umbel.dead"\n'


def publish(client, queue, name):
    client.publish(queue, b"[[], {}, {}]", headers={"task": "t", "id": name}, content_type="application/json",
                   content_encoding="utf-8", correlation_id=name)


def drained(node, vhost, queue):
    with node.client(vhost=vhost) as client:
        if client.depth(queue) is None:
            return None
        return [m.properties["correlation_id"] for m in client.drain(queue)]


def test_the_queue_that_a_task_misses_is_declared_and_all_that_came_back_arrives_once_in_order(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), upstream_options='mandatory = "declare"')
    names = [f"u{n:03}" for n in range(200)]
    with umbel.client(vhost=vhost) as client:
        client.select_confirms()
        for name in names:
            publish(client, "never-declared", name)
        assert client.confirmed(len(names)) == set()
        assert client.returns == []
    assert drained(node, vhost, "never-declared") == names


def test_a_queue_that_is_deleted_in_mid_run_costs_no_task_of_a_client_without_confirms(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), upstream_options='mandatory = "declare"')
    with umbel.client(vhost=vhost) as client, node.client(vhost=vhost) as other:
        client.declare("jobs")
        publish(client, "jobs", "before")
        wait_equal(lambda: other.depth("jobs"), 1, what="the depth")
        other.call(1, "queue.delete", queue="jobs")
        publish(client, "jobs", "after")
        wait_equal(lambda: other.depth("jobs"), 1, what="the depth")
    assert drained(node, vhost, "jobs") == ["after"]


def test_a_real_producer_that_declared_its_queue_once_goes_on_when_somebody_deletes_it(make_umbel, node, vhost, place):
    umbel = make_umbel(node.url(), upstream_options='mandatory = "declare"')
    with Producer(place, umbel.url(vhost=vhost)) as producer, node.client(vhost=vhost) as other:
        producer.run("out = add.delay(1, 1).id")
        wait_equal(lambda: other.depth("celery"), 1, what="the depth")
        other.call(1, "queue.delete", queue="celery")
        after = producer.run("out = add.delay(2, 2).id")
        wait_equal(lambda: other.depth("celery"), 1, what="the depth")
    assert drained(node, vhost, "celery") == [after]


def test_a_task_that_no_queue_takes_is_put_into_the_dead_letter_place_with_the_reason(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), DEAD, upstream_options='mandatory = "dead-letter"')
    with umbel.client(vhost=vhost) as client:
        client.select_confirms()
        publish(client, "never-declared", "u1")
        assert client.confirmed(1) == set()
        assert client.returns == []
    with node.client(vhost=vhost) as other:
        (letter,) = other.drain("umbel.dead")
        assert other.depth("never-declared") is None
    assert letter.headers["x-umbel-reason"] == "unroutable"
    assert letter.headers["x-umbel-routing-key"] == "never-declared"
    assert letter.headers["id"] == "u1"


def test_a_route_to_another_upstream_whose_queue_is_missing_there_goes_where_it_was_going(make_umbel, node, vhost):
    elsewhere = f"{vhost}-elsewhere"
    node.add_vhost(elsewhere)
    rules = (
        f'[upstreams.other]\nurls = ["{node.url(vhost=elsewhere)}"]\n'
        "[policy]\ncreate_missing_queues = false\n"
        '[[rules]]\nname = "abroad"\nmatch = { task = "t" }\nroute = { queue = "abroad", upstream = "other", override = true }\n'
    )
    try:
        umbel = make_umbel(node.url(), rules)
        with umbel.client(vhost=vhost) as client:
            client.declare("home")
            client.select_confirms()
            publish(client, "home", "missing there")
            assert client.confirmed(1) == set()
            assert client.depth("home") == 1
        wait_for(lambda: umbel.metric("umbel_policy_mistakes_total", mistake="missing_target") >= 1)
        wait_for(lambda: "where they were going" in umbel.logged(), what=umbel.logged)
        with node.client(vhost=elsewhere) as other:
            assert other.depth("abroad") is None
    finally:
        node.delete_vhost(elsewhere)


def test_the_ledger_adds_up_whatever_becomes_of_a_task(make_umbel, node, vhost):
    rules = (
        '[[rules]]\nname = "late"\nmatch = { task = "late" }\nexpiry = { action = "revoke" }\n'
        '[[rules]]\nname = "off"\nmatch = { task = "off" }\nadmission = { action = "refuse" }\n'
    )
    umbel = make_umbel(node.url(), rules, upstream_options='mandatory = "count"')
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.select_confirms()
        for task, queue in [("t", "q"), ("t", "nowhere"), ("off", "q"), ("late", "q")]:
            client.publish(queue, b"[[], {}, {}]", headers={"task": task, "id": task, "expires": "2020-01-01T00:00:00+00:00"},
                           content_type="application/json", content_encoding="utf-8")
        assert client.confirmed(4) == {3}
        try:
            client.publish("q", b"", exchange="not-there")
            client.expect("basic.ack")
        except wire.Refused as refused:
            assert refused.code == 404

    counters = wait_until(umbel.counters, lambda now: now["accepted"] == 5 and now["in_flight"] == 0)
    assert {k: counters[k] for k in ("forwarded", "spooled", "refused", "expired")} == \
        {"forwarded": 2, "spooled": 0, "refused": 2, "expired": 1}
