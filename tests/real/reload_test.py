"""Reload: SIGHUP and changed files of every kind, under load, and files that are wrong (SPEC C2)."""

import threading
import time

from harness.process import wait_at_least, wait_for


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
    wait_for(lambda: reaches(umbel, node, vhost, "two"))


def test_a_changed_file_is_noticed(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), route_to("one"))
    assert reaches(umbel, node, vhost, "one")
    umbel.config.write_text(umbel.toml(route_to("two")))
    wait_for(lambda: reaches(umbel, node, vhost, "two"))


def test_a_file_replaced_by_rename_is_noticed(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), route_to("one"))
    for queue in ("two", "three", "four"):
        umbel.write_config(route_to(queue))
        wait_for(lambda: reaches(umbel, node, vhost, queue))


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
    wait_for(lambda: reaches(umbel, node, vhost, "two"))


def test_a_bad_file_changes_nothing_and_is_reported(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), route_to("one"))
    umbel.write_config('[[rules]]\nname = "broken"\nmatch = { tsk = "x" }\n')
    umbel.reload()
    wait_for(lambda: "tsk" in umbel.logged(), what="the log to name the key")
    assert umbel.process.alive() and reaches(umbel, node, vhost, "one")
    umbel.write_config(route_to("two"))
    umbel.reload()
    wait_for(lambda: reaches(umbel, node, vhost, "two"))


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
        sent, end = 0, time.monotonic() + 60
        while sent < 2000 or not (direct.depth("to1") and direct.depth("to2")):
            assert time.monotonic() < end, "no reload took effect under load"
            for _ in range(20):
                task(client, "t")
            sent += 20
            time.sleep(0.005)
        stop.set()
        turner.join()
        assert client.confirmed(sent) == set()
        got = {n: direct.drain(f"to{n}") for n in (1, 2)}
    assert sum(map(len, got.values())) == sent
    for n, messages in got.items():
        assert {m.properties["priority"] for m in messages} == {n}


def test_connections_live_through_a_reload(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), route_to("one"))
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.consume("q")
        client.publish("q", b"before")
        assert client.delivery().body == b"before"

        def links():
            return {link["id"] for link in umbel.status()["upstreams"][0]["links"]}

        before, reloads = links(), umbel.metric("umbel_config_reloads_total")
        umbel.write_config(route_to("two"))
        umbel.reload()
        wait_at_least(lambda: umbel.metric("umbel_config_reloads_total"), reloads + 1, what="reloads")
        client.publish("q", b"x")
        assert client.delivery().body == b"x"
        assert before <= links()
