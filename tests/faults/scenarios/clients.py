"""Clients that die, dawdle, flood or lie, and relays on their side: it is their own affair (bystanders and Umbel's memory are watched)."""

import os
import socket
import threading
import time
from pathlib import Path

from harness import wire
from kit import message
from kit.scenario import scenario


def steady(world, door, rate=400):
    """A bystander with confirms: it must notice nothing."""
    return world.raw(door, name="bystander", rate=rate, confirms=True, queues=["q"])


def settled(world, door):
    """What one Umbel has open: file descriptors, its sessions, its client channels."""
    umbel = world.umbels[0]
    return {"descriptors": len(os.listdir(f"/proc/{umbel.process.pid}/fd")), "sessions": umbel.status()["sessions"]["total"],
            "channels": int(umbel.metric("umbel_client_channels"))}


@scenario("producers reset in the middle of a body, others on the same pool", rows=19, short=True, recovery=None)
def reset_inside_a_body(world):
    """Half a message is nobody's: it goes no further, and no link of ours notices."""
    node = world.node()
    world.queue("q", "half")
    door = world.door(node)
    steady(world, door)
    world.sleep(0.5)
    links = world.umbels[0].metric("umbel_links_opened_total")
    for n in range(60):
        client = door.client(vhost=world.vhost)
        body = message.body(b"half/1", n, b"." * world.random.randrange(10, 300_000))
        whole = b"".join([wire.frame(wire.METHOD, 1, wire.method("basic.publish", routing_key="half")),
                          wire.frame(wire.HEADER, 1, wire.header(len(body), **message.properties(b"half/1", n))),
                          *(wire.frame(wire.BODY, 1, body[i:i + 100_000]) for i in range(0, len(body), 100_000))])
        client.write(whole[:world.random.randrange(1, len(whole) - 1)])
        world.sleep(0.01)
        client.abort()
    world.sleep(1)
    world.loads.stop()
    world.check("nothing of the halves arrived", node.depth("half", world.vhost) == 0)
    opened = world.umbels[0].metric("umbel_links_opened_total") - links
    world.check(f"no link died of it ({opened:.0f} opened)", opened == 0)


@scenario("200 producers killed (SIGKILL) while publishing", rows=20, recovery=None, lost=None, accepted=1_000, memory=120.0)
def producers_killed(world):
    """Nothing of them stays: no descriptor, no session, no channel. (What a killed one had not written yet is nobody's to deliver.)"""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    bystander = steady(world, door, 200)
    world.sleep(1)
    before = settled(world, door)
    for turn in range(20):
        batch = [world.raw(door, name=f"dies{turn}-{i}", rate=300, ready=False, channels=3, queues=["q"]) for i in range(10)]
        world.wait(lambda: sum(p.returned() for p in batch) > 200, what="the batch to publish")
        world.moment(0.0, 0.2)
        for producer in batch:
            producer.kill()
    world.wait(lambda: (after := settled(world, door))["sessions"] <= before["sessions"] and after["channels"] <= before["channels"]
               and after["descriptors"] <= before["descriptors"] + 2, what=lambda: f"{settled(world, door)} to be as {before}")
    bystander.stop()
    bystander.join()
    journal = bystander.journal()
    world.check(f"the bystander lost nothing and saw nothing: {journal.exceptions[:1]}", not journal.exceptions)


@scenario("1,000 connections that come, publish and are reset, thirty at a time", rows=20, recovery=None, memory=80.0)
def thousand_short_lives(world):
    node = world.node()
    world.queue("q")
    door = world.door(node)
    steady(world, door)
    before = settled(world, door)

    def lives(count):
        for _ in range(count):
            client = door.client(vhost=world.vhost)
            client.publish("gone", b"x")
            client.abort()

    threads = [threading.Thread(target=lives, args=(34,)) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.wait(lambda: (after := settled(world, door))["sessions"] <= before["sessions"] and after["channels"] <= before["channels"]
               and after["descriptors"] <= before["descriptors"] + 2, what=lambda: f"{settled(world, door)} to be as {before}")
    world.note(f"left over: {settled(world, door)}, before: {before}")


@scenario("half-close by producers with publishes unanswered", rows=21, short=True, recovery=None, accepted=10)
def half_close(world):
    """A client that has said its last word is gone, as for RabbitMQ; what it had said counts, all of it."""
    node = world.node()
    world.queue("q", "said")
    door = world.door(node)
    steady(world, door)
    for n in range(10):
        with door.client(vhost=world.vhost) as client:
            client.select_confirms()
            for i in range(100):
                # Order is promised within a channel: each connection is a stream of its own.
                whose = b"bystander/%d" % (10 + n)
                client.publish("said", message.body(whose, i), **message.properties(whose, i))
            client.socket.shutdown(socket.SHUT_WR)
            try:
                while True:
                    client.next()
            except (EOFError, OSError):
                pass
    world.loads.stop()
    world.wait(lambda: node.depth("said", world.vhost) == 1_000, what=lambda: f"1,000 messages, {node.depth('said', world.vhost)} are there")


@scenario("two clients that flood and never read their confirms", rows=22, recovery=None, memory=200.0, paused=20.0)
def never_reads(world):
    """Their output is bounded; others are not slowed by it. (A flood is paused, in slices of less than half a second.)"""
    node = world.node()
    world.queue("q")
    door = world.door(node, rules='[limits]\noutput_backlog_bytes = "1MiB"\n')
    steady(world, door)
    deaf = []
    end = time.monotonic() + 6

    def flood():
        client = door.client(vhost=world.vhost, timeout=10)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.select_confirms()
        many = b"".join(wire.frame(wire.METHOD, 1, wire.method("basic.publish", routing_key="gone")) + wire.frame(wire.HEADER, 1, wire.header(0)) for _ in range(200))
        try:
            while time.monotonic() < end:
                client.write(many)
        except OSError as error:
            deaf.append(repr(error))
        client.close()

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    world.sleep(1)


@scenario("slowloris: half a header, half a login, half a frame, for 12 s; 2,000 idle sockets", rows=23, recovery=None, memory=120.0)
def slowloris(world):
    """Who does not log in within handshake_timeout (2 s here) is gone; the others are served."""
    node = world.node()
    world.queue("q")
    door = world.door(node, rules='[limits]\nhandshake_timeout = "2s"\n')
    steady(world, door)
    lazy = []
    for n in range(2_000):
        s = socket.create_connection(door.address)
        s.sendall([b"", b"AM", wire.PROTOCOL, wire.PROTOCOL + b"\x01\x00\x00\x00\x00\x10"][n % 4])
        lazy.append(s)
    world.sleep(4)
    gone = 0
    for s in lazy:
        s.settimeout(0.2)
        try:
            while s.recv(4096):
                pass
            gone += 1
        except TimeoutError:
            pass
        except OSError:
            gone += 1
    world.check(f"{gone} of 2,000 were shown the door", gone == 2_000)
    for s in lazy:
        s.close()


@scenario("2,000 clients connect at once, log in, declare, publish one and leave", rows=51, recovery=None, memory=200.0, accepted=20)
def thundering_herd(world):
    """All are served within seconds; upstream links stay the configured two."""
    node = world.node()
    world.queue("q", "herd")
    door = world.door(node)
    steady(world, door, 100)
    socket_count, took, wrong = 2_000, [], []
    began = time.monotonic()

    def come(numbers):
        clients = []
        for n in numbers:
            s = socket.create_connection(door.address)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            login = wire.frame(wire.METHOD, 0, wire.method("connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US"))
            login += wire.frame(wire.METHOD, 0, wire.method("connection.tune-ok", channel_max=2047, frame_max=131072))
            login += wire.frame(wire.METHOD, 0, wire.method("connection.open", vhost=world.vhost))
            login += wire.frame(wire.METHOD, 1, wire.method("channel.open"))
            login += wire.frame(wire.METHOD, 1, wire.method("confirm.select"))
            login += wire.frame(wire.METHOD, 1, wire.method("queue.declare", queue="herd", durable=True))
            body = message.body(b"herd/%d" % n, 0)
            login += wire.frame(wire.METHOD, 1, wire.method("basic.publish", routing_key="herd"))
            login += wire.frame(wire.HEADER, 1, wire.header(len(body), **message.properties(b"herd/%d" % n, 0))) + wire.frame(wire.BODY, 1, body)
            s.sendall(wire.PROTOCOL + login)
            clients.append(s)
        for s in clients:
            s.settimeout(20)
            heard = b""
            ack = wire.frame(wire.METHOD, 1, wire.method("basic.ack", delivery_tag=1))
            try:
                while ack not in heard:
                    piece = s.recv(65536)
                    if not piece:
                        raise EOFError(heard[-80:])
                    heard += piece
                took.append(time.monotonic() - began)
            except (OSError, EOFError) as error:
                wrong.append(repr(error))
            s.close()

    threads = [threading.Thread(target=come, args=(range(i, socket_count, 8),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.note(f"{len(took)} acked, the last after {max(took, default=0):.1f} s; {int(world.umbels[0].metric('umbel_links_opened_total'))} links opened")
    world.check(f"everybody was served: {len(wrong)} were not, {wrong[:1]}", not wrong)
    world.check(f"links: {world.umbels[0].metric('umbel_links_opened_total'):.0f}", world.umbels[0].metric("umbel_links_opened_total") <= 4)
    world.loads.stop()
    world.wait(lambda: node.depth("herd", world.vhost) == socket_count, what=lambda: f"2,000 messages, {node.depth('herd', world.vhost)} are there")
    world.queues.remove("herd")


@scenario("a connection for each message, as fast as three processes can", rows=60, recovery=None, memory=80.0, accepted=300)
def churn(world):
    """Airflow's way: connect, publish, close. Upstream links stay few, memory flat."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    steady(world, door, 100)
    count, wrong, end = [], [], time.monotonic() + 6

    def go(name):
        n = 0
        while time.monotonic() < end:
            try:
                with door.client(vhost=world.vhost) as client:
                    client.select_confirms()
                    client.publish("q", message.body(b"bystander/%d" % name, n), **message.properties(b"bystander/%d" % name, n))
                    client.confirmed(1, timeout=5)
                    client.bye()
                n += 1
            except (OSError, EOFError, wire.Refused) as error:
                wrong.append(repr(error))
        count.append(n)

    threads = [threading.Thread(target=go, args=(name,)) for name in (50, 51, 52)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened = world.umbels[0].metric("umbel_links_opened_total")
    world.note(f"{sum(count)} cycles in 6 s, {opened:.0f} upstream links opened")
    world.check(f"no cycle failed: {wrong[:1]}", not wrong and sum(count) > 200)
    world.check(f"{opened:.0f} upstream links", opened <= 4)


@scenario("an Umbel that may open 40 files, 200 clients", rows=47, recovery=None, exceptions=None, lost=None, slowest=None)
def out_of_descriptors(world):
    """It waits with accepting instead of turning in a circle, and serves again when there is room. Those inside notice nothing."""
    import resource
    node = world.node()
    world.queue("q")
    door = world.door(node)
    bystander = steady(world, door)
    umbel = world.umbels[0]
    resource.prlimit(umbel.process.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{umbel.process.pid}/fd")) + 20,) * 2)
    crowd = [socket.create_connection(door.address) for _ in range(100)]
    spent = cpu(umbel.process.pid)
    world.sleep(3)
    spent = cpu(umbel.process.pid) - spent
    logged = umbel.logged().count("could not be accepted")
    for s in crowd:
        s.close()
    world.sleep(1)
    with door.client(vhost=world.vhost) as late:
        late.declare("q", passive=True)
    bystander.stop()
    bystander.join()
    journal = bystander.journal()
    world.note(f"{spent:.2f} s of processor in 3 s, said {logged} times")
    world.check(f"no busy loop: {spent:.2f} s of processor in 3 s", spent < 1.5)
    world.check(f"said now and then, {logged} times", 1 <= logged <= 8)
    world.check(f"those inside noticed nothing: {journal.exceptions[:1]}", not journal.exceptions and len(journal.acked["bystander/1"]) > 500)


def cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@scenario("60 producers with messages of 1 MB, the broker stalled, 64 MiB allowed", rows=48, recovery=30.0, memory=160.0, lost=0, exceptions=None, slowest=None, paused=60.0)
def memory_budget(world):
    """The budget holds: what is beyond it is refused where the client can see it, and everybody's is delivered who was told so."""
    node = world.node()
    world.queue("q")
    relay = world.relay(node)
    door = world.door(relay, rules='[limits]\nmemory_bytes = "64MiB"\n', upstream_options='window_bytes = "48MiB"')
    for _ in range(6):
        world.raw(door, channels=10, rate=10, size=1_000_000, confirms=True, queues=["q"], window=20)
    world.sleep(1)
    relay.to_target.stalled = True
    world.sleep(6)
    relay.heal()
    world.healed()
    world.sleep(3)


@scenario("garbage instead of frames from 200 clients, producers beside them", rows=(19, 58), short=True, recovery=None)
def garbage(world):
    """Every fault is its client's own."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    steady(world, door)
    for _ in range(200):
        try:
            client = door.client(vhost=world.vhost)
            client.write(world.random.randbytes(world.random.randrange(1, 4_000)))
            client.abort()
        except (OSError, EOFError, wire.Refused):
            pass
    world.sleep(0.5)


@scenario("producers through a line of 20 kB/s with 300 ms of delay and cuts (client's side)", rows=(16, 19), recovery=None, exceptions=None, slowest=None)
def bad_line(world):
    """Confirmed is delivered, whatever the line does; the client sees its own cuts."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    line = world.relay(door)
    line.to_target.delay = line.to_client.delay = 0.3
    world.raw(line, rate=60, confirms=True, queues=["q"], size=(0, 400))
    steady(world, door)
    for _ in range(5):
        world.moment(1.0, 2.0)
        line.reset()
    line.heal()
    world.sleep(1)


@scenario("octets from producers stall in mid-frame for 0.6 s, seven at a time (client's side)", rows=(17, 23), recovery=None)
def stalled_client(world):
    """Half a frame waits for its other half; nobody else does."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    line = world.relay(door)
    world.raw(line, rate=200, size=(0, 3_000), queues=["q"])
    steady(world, door)
    for _ in range(6):
        world.moment(0.2, 0.4)
        line.to_target.slice = 7
        world.moment(0.05, 0.1)
        line.to_target.stalled = True
        world.sleep(0.6)
        line.heal()
    world.sleep(0.5)
