"""Many, slow, or broken off: what one crowd does to Umbel's descriptors, memory and log, and to who is beside it (SPEC S1, S5, M3)."""

import contextlib
import os
import resource
import socket
import struct
import threading
import time

import pytest

from harness import umbel as umbel_of
from harness import wire
from harness.process import OPEN_FILES, wait_equal, wait_for, wait_until
from harness.wire import BODY, HEADER, METHOD, PROTOCOL, frame, header, method

MIB = 1 << 20


def descriptors(umbel):
    return len(os.listdir(f"/proc/{umbel.process.pid}/fd"))


def resident(umbel):
    with open(f"/proc/{umbel.process.pid}/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def processor_seconds(umbel):
    with open(f"/proc/{umbel.process.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def handshake(vhost, user="guest", password="guest"):
    """All that a client says to get in, in one go."""
    start_ok = method("connection.start-ok", mechanism="PLAIN", response=f"\0{user}\0{password}", locale="en_US")
    return PROTOCOL + frame(METHOD, 0, start_ok) + frame(METHOD, 0, method("connection.tune-ok", channel_max=10, frame_max=8192)) \
        + frame(METHOD, 0, method("connection.open", vhost=vhost)) + frame(METHOD, 1, method("channel.open"))


def is_in(client):
    """Reads up to channel.open-ok."""
    w = wire.Wire.__new__(wire.Wire)
    w.socket, w.buffer, w.timeout = client, b"", 60
    while True:
        kind, channel, payload = w.read_frame()
        if kind == METHOD and channel == 1 and payload[:4] == struct.pack(">HH", 20, 11):
            return True


# descriptors

def test_out_of_descriptors_accepting_waits_quietly_and_goes_on(make_umbel, node, vhost):
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as bystander:
        bystander.declare("q")
        bystander.select_confirms()
        bystander.publish("q", b"before")
        assert bystander.confirmed(1) == set()
        hard = resource.prlimit(umbel.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(umbel.process.pid, resource.RLIMIT_NOFILE, (64, hard))
        crowd = [socket.create_connection(umbel.address, 30) for _ in range(150)]
        try:
            wait_for(lambda: "could not be accepted" in umbel.logged(), what="a line in the log")
            began, worked, lines = time.monotonic(), processor_seconds(umbel), umbel.logged().count("could not be accepted")
            for n in range(30):
                bystander.publish("q", b"during")
                bystander.call(1, "queue.declare", queue="q", passive=True)
                time.sleep(0.1)
            passed = time.monotonic() - began
            assert processor_seconds(umbel) - worked < passed / 2, "no busy loop"
            assert umbel.logged().count("could not be accepted") - lines <= passed + 1, "a line a second"
        finally:
            for s in crowd:
                s.close()
        with umbel.client(vhost=vhost) as late:
            wait_equal(lambda: late.depth("q"), 31, what="the depth")


def test_the_soft_limit_on_open_files_is_raised(make_umbel, node, monkeypatch, place):
    """1024, as most systems start it, would be a thousand producers."""
    script = place / "limited.sh"
    script.write_text(f'#!/bin/sh\nulimit -S -n 100\nexec "{umbel_of.BINARY}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(umbel_of, "BINARY", script)
    umbel = make_umbel(node.url())
    soft, hard = resource.prlimit(umbel.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard > 100


# crowds

@pytest.mark.slow
def test_thousands_that_say_nothing_cost_little_and_are_let_go(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), '[limits]\nhandshake_timeout = "5s"\n')
    most = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]) - 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 400, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with umbel.client(vhost=vhost) as bystander:
        bystander.declare("q")
        before, open_before = resident(umbel), descriptors(umbel)
        crowd = [socket.create_connection(umbel.address, 30) for _ in range(min(6000, most))]
        for s in crowd[::2]:
            s.sendall(b"AMQP")
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            bystander.call(1, "queue.declare", queue="q", passive=True)
            slowest = max(slowest, time.monotonic() - began)
        assert resident(umbel) - before < 8192 * len(crowd), "8 KiB each at most"
        assert slowest < 4, "they are let go after five"
        wait_until(lambda: descriptors(umbel), lambda now: now <= open_before + 5, 60, 0.2, what=f"descriptors, {open_before} before")
        bystander.call(1, "queue.declare", queue="q", passive=True)
        for s in crowd:
            s.close()


def test_a_herd_of_two_thousand_is_served_over_a_few_links(make_umbel, node, vhost):
    """All at once, as after a restart (FAULTS 51): each gets in and publishes."""
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as client:
        client.declare("herd")
    said = handshake(vhost) + frame(METHOD, 1, method("basic.publish", routing_key="herd")) + frame(HEADER, 1, header(1)) + frame(BODY, 1, b"x")
    links_before = node.connections()
    herd, late, began = [], [], time.monotonic()

    def come(count):
        for _ in range(count):
            s = socket.create_connection(umbel.address, 60)
            herd.append(s)
            s.sendall(said)

    def wait(sockets):
        for s in sockets:
            is_in(s)
            late.append(time.monotonic() - began)

    callers = [threading.Thread(target=come, args=(500,)) for _ in range(4)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    wait(list(herd))
    assert len(late) == 2000
    print(f"2,000 clients were in after {max(late):.1f} s")
    assert max(late) < 60, "under 5 s on a machine of one's own"
    assert node.connections() - links_before <= 4
    wait_equal(lambda: node.depth("herd", vhost), 2000, 60, what="the depth")
    for s in herd:
        s.close()


def test_clients_killed_in_the_middle_of_everything_leave_nothing(make_umbel, node, vhost):
    """A thousand resets inside a handshake, a method, a header, a body (FAULTS 19, 20)."""
    umbel = make_umbel(node.url())
    whole = handshake(vhost) + frame(METHOD, 1, method("basic.publish", routing_key="q")) + frame(HEADER, 1, header(200_000)) + frame(BODY, 1, bytes(8000)) * 5
    with umbel.client(vhost=vhost) as bystander:
        bystander.declare("q")
        bystander.select_confirms()
        bystander.publish("q", b"before")
        assert bystander.confirmed(1) == set()
        before, memory, links = descriptors(umbel), resident(umbel), node.connections()
        for n in range(1000):
            s = socket.create_connection(umbel.address, 30)
            s.sendall(whole[:(n * 97) % len(whole)])
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        wait_until(lambda: descriptors(umbel), lambda now: now <= before + 4, every=0.1, what=f"descriptors, {before} before")
        wait_equal(lambda: umbel.status()["sessions"]["total"], 1, every=0.1, what="sessions")
        assert resident(umbel) - memory < 40 * MIB
        wait_until(node.connections, lambda now: now <= links + 2, what=f"connections at the broker, {links} before")
        assert bystander.depth("q") == 1, "no part of a message was published"


def test_what_waits_is_bounded_by_the_configured_memory(make_umbel, own_node):
    """A broker that has stopped dead, 60 producers of a megabyte each, again and again (FAULTS 48)."""
    umbel = make_umbel(own_node.url(), '[limits]\nmemory_bytes = "32MiB"\n')
    clients = [umbel.client() for _ in range(60)]
    for c in clients:
        c.select_confirms()
        c.publish("nowhere", b"x")
        assert c.confirmed(1) == set()
    own_node.pause()
    try:
        before = resident(umbel)
        peak = before
        for _ in range(3):
            for c in clients:
                with contextlib.suppress(OSError):
                    c.socket.settimeout(0.5)
                    c.publish("nowhere", bytes(MIB))
                peak = max(peak, resident(umbel))
        assert peak - before < 4 * 32 * MIB, f"{(peak - before) // MIB} MiB for 180 MiB of publishes"
        # What the kernel still holds is read later, and refused then.
        wait_for(lambda: umbel.metric("umbel_limits_hit_total", limit="memory") + umbel.metric("umbel_limits_hit_total", limit="window") > 0, every=0.1)
        assert resident(umbel) - before < 4 * 32 * MIB
    finally:
        own_node.resume()
        for c in clients:
            c.abort()


# secrets

@pytest.mark.parametrize("format", ["text", "json"])
def test_no_secret_and_no_body_is_in_the_log_whatever_its_level(make_umbel, node, vhost, format):
    """A login that works, one that does not, a pinned session, a refused publish, a configured login: all at trace."""
    password, wrong, configured, body = "hunter2-pässword", "wr0ng-pazzword", "c0nfigured-secret", b"b0dy-of-a-message"
    node.add_user("spy", password, vhost)
    node.add_user("own", configured)
    umbel = make_umbel(node.url(user="own", password=configured), f'[log]\nlevel = "trace"\nformat = "{format}"\n')
    with umbel.client(user="spy", password=password, vhost=vhost) as client:
        client.declare("q")
        client.select_confirms()
        client.publish("q", body, headers={"token": "h3ader-secret"})
        assert client.confirmed(1) == set()
        client.consume("q")
        assert client.delivery().body == body
        client.publish("q", body, exchange="missing")
        with pytest.raises(wire.Refused):
            client.next()
    with pytest.raises(wire.Refused):
        umbel.client(user="spy", password=wrong, vhost=vhost)
    umbel.get("/status"), umbel.get("/metrics"), umbel.get("/")
    log = umbel.logged()
    assert "listening" in log
    for secret in (password.encode(), wrong.encode(), configured.encode(), body, b"h3ader-secret"):
        shapes = [secret.decode(), ", ".join(map(str, secret)), ",".join(map(str, secret)), secret.hex()]
        for place in (log, umbel.get("/status")[1], umbel.get("/")[1]):
            for shape in shapes:
                assert shape not in place, f"{secret!r} as {shape!r}"
