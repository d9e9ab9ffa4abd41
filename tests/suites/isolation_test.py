"""One client's fault is that client's alone: a bystander on the same credentials and vhost, on shared links, never notices."""
import resource
import socket
import struct
import time

import pytest
import wire
from bystander import Bystander, Memory, resident
from conftest import WORK
from harness.process import wait_at_least, wait_equal, wait_for
from harness.umbel import Umbel
from wire import Wire, body, head, message, method

MIB = 1 << 20


@pytest.fixture
def umbel(node, request):
    """An Umbel for this test alone, so that what one test finds does not spoil the next."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
    with Umbel(WORK / "isolation" / name, node.url()) as umbel:
        yield umbel
        assert umbel.stop() == 0, umbel.logged()[-2000:]


@pytest.fixture
def bystander(umbel, node):
    bystander = Bystander(umbel.address, "suite", control=node.address)
    wait_at_least(lambda: bystander.rounds, 10, what="its rounds")
    yield bystander
    if bystander.thread.is_alive():
        bystander.end()


def login(umbel, **more):
    w = Wire(umbel.port, timeout=60).login(vhost="suite", **more)
    w.channel(1)
    return w


def reset(w):
    """Leave as a process that is killed with data unread: by RST."""
    w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    w.close()


@pytest.mark.parametrize("fault", [
    method(1, "basic.publish", immediate=True) + head(1, 0), method(1, "exchange.declare", exchange="i.x", type="nonsense"),
    method(1, "basic.qos", prefetch_size=1), method(1, "channel.flow", active=False), b"\xff" * 64, body(1, b"x"),
    method(1, "basic.cancel-ok", consumer_tag="x"), method(1, "tx.select-ok"),
    message(1, b"x", headers=wire.raw_table(b"\1ad\x7f\xf8\0\0\0\0\0\0")),
], ids=["immediate", "exchange type", "prefetch size", "flow", "garbage", "body", "cancel-ok", "select-ok", "NaN"])
def test_a_connection_error_is_its_makers_alone(umbel, bystander, fault):
    w = login(umbel)
    w.send(message(1, b"before", routing_key="i.nowhere") + fault)
    kind, _, data = w.frame(60)
    # RabbitMQ 4 answers an unknown exchange type on the channel.
    assert kind == wire.METHOD and wire.parse(data)[0] in ("connection.close", "channel.close")
    w.close()
    bystander.unharmed()


def test_a_channel_error_is_its_channels_alone(umbel, bystander):
    w = login(umbel)
    w.channel(2)
    w.call(2, "confirm.select")
    w.send(message(1, b"x", exchange="i.none") + message(2, b"y", routing_key="i.nowhere"))
    seen = {wire.parse(w.frame()[2])[0] for _ in range(2)}
    assert seen == {"channel.close", "basic.ack"}
    w.close()
    bystander.unharmed()


@pytest.mark.parametrize("names", [1, 100], ids=["one missing exchange", "a hundred missing exchanges"])
def test_publishes_to_exchanges_that_are_missing_cost_each_once_and_nobody_else(umbel, bystander, names):
    """A hundred in one go, forty times: the broker ends the channel at the first and throws the others away. Those that Umbel sends
    again it sends once, not once for each that stood before them."""
    w = login(umbel)
    for _ in range(40):
        w.send(b"".join(message(1, b"x", exchange="i.none.%d" % (n % names)) for n in range(100)))
        w.expect("channel.close")
        w.send(method(1, "channel.close-ok"))
        w.channel(1)
    w.call(0, "connection.close", reply_code=200)
    w.close()
    assert umbel.status()["counters"]["resent"] <= 40 * 100
    bystander.unharmed(within=3)


@pytest.mark.slow
def test_ten_thousand_missing_exchanges_are_found_one_by_one_beside_a_bystander(umbel, bystander):
    """Each ends a channel at the broker. What waits behind is not walked for each of them, and nobody waits for it."""
    w = login(umbel)
    w.send(b"".join(message(1, b"x", exchange="i.none.%d" % n) for n in range(10000)))
    w.expect("channel.close")
    w.send(method(1, "channel.close-ok"))
    w.channel(1)
    w.call(0, "connection.close", reply_code=200)
    w.close()
    wait_for(lambda: umbel.metric("umbel_unconfirmed_messages") < 3, 60, 0.2, what="all ten thousand")
    bystander.unharmed(within=0.6)


def test_deaths_in_the_middle_of_a_body_leave_no_half_message(umbel, node, bystander):
    direct = Wire(node.address[1]).login(vhost="suite")
    direct.channel(1)
    direct.call(1, "queue.declare", queue="i.half")
    for n in range(50):
        w = login(umbel)
        w.call(1, "confirm.select")
        w.send(message(1, b"whole %d" % n, routing_key="i.half")
               + method(1, "basic.publish", routing_key="i.half") + head(1, 1000000) + body(1, b"h" * 100000) + body(1, b"h" * 1000)[:500])
        # A reset throws away what was not read: it is to hit the half alone.
        w.expect("basic.ack")
        reset(w)
    wait_equal(lambda: umbel.status()["sessions"]["total"], 1, what="sessions")
    assert direct.call(1, "queue.delete", queue="i.half")["message_count"] == 50
    bystander.unharmed()


@pytest.mark.slow
def test_a_client_that_refuses_to_read_40_mib_of_deliveries(umbel, node, bystander):
    direct = Wire(node.address[1], timeout=30).login(vhost="suite")
    direct.channel(1)
    direct.call(1, "confirm.select")
    direct.call(1, "queue.declare", queue="i.big")
    for _ in range(40):
        direct.send(message(1, bytes(MIB), routing_key="i.big"))
    acked = 0
    while acked < 40:
        args = direct.expect("basic.ack")
        acked = args["delivery_tag"] if args["multiple"] else acked + 1
    memory = Memory(umbel)
    w = login(umbel)
    w.send(method(1, "basic.consume", queue="i.big", no_ack=True, consumer_tag="deaf"))
    time.sleep(5)
    memory.end()
    assert memory.peak - memory.first < 45, "MiB"
    reset(w)
    direct.call(1, "queue.delete", queue="i.big")
    bystander.unharmed()


@pytest.mark.slow
def test_2047_channels_publish_and_are_confirmed(umbel, bystander):
    w = login(umbel)
    w.send(b"".join(method(n, "channel.open") for n in range(2, 2048)))
    for _ in range(2046):
        w.expect("channel.open-ok")
    w.send(b"".join(method(n, "confirm.select") for n in range(1, 2048)))
    for _ in range(2047):
        w.expect("confirm.select-ok")
    w.send(b"".join(message(n, b"x", routing_key="i.nowhere") for n in range(1, 2048)))
    acked = set()
    while len(acked) < 2047:
        kind, channel, data = w.frame(60)
        assert wire.parse(data)[0] == "basic.ack" and channel not in acked
        acked.add(channel)
    w.call(0, "connection.close", reply_code=200)
    w.close()
    bystander.unharmed(within=3)


def test_a_flood_of_publishes(umbel, node, bystander):
    w = login(umbel)
    w.call(1, "confirm.select")
    memory = Memory(umbel)
    flood = b"".join(message(1, b"f" * 1000, routing_key="i.nowhere") for _ in range(1000))
    for _ in range(60):
        w.send(flood)
    acked = 0
    while acked < 60000:
        args = w.expect("basic.ack", 60)
        acked = args["delivery_tag"] if args["multiple"] else acked + 1
    memory.end()
    assert memory.peak - memory.first < 200, "MiB"
    w.close()
    bystander.unharmed(within=3)


@pytest.mark.slow
def test_four_hundred_clients_leave_by_reset_and_nothing_stays(umbel, bystander):
    pid = umbel.process.popen.pid
    before = resident(pid)
    for _ in range(8):
        gang = [login(umbel) for _ in range(50)]
        for w in gang:
            w.send(message(1, b"x" * 2000, routing_key="i.nowhere") + method(1, "basic.publish")[:7])
        for w in gang:
            reset(w)
    wait_equal(lambda: umbel.status()["sessions"]["total"], 1, what="sessions")
    assert resident(pid) - before < 60, "MiB"
    bystander.unharmed(within=2)


TEN_THOUSAND = 10000


@pytest.fixture
def many_files():
    """As many sockets in this process as the machine lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < TEN_THOUSAND + 2000:
        pytest.skip("ten thousand connections need more open files than %d" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_thousand_idle_connections_and_no_more_than_192_mib(node, many_files):
    """Nothing, half a header, a header (FAULTS 23, 48): let go when the handshake's time is up, and until then nobody's loss."""
    # Longer than the default's ten seconds: a busy machine needs that long to make them all.
    rules = '[limits]\nhandshake_timeout = "40s"\n'
    with Umbel(WORK / "isolation" / "idle", node.url(), rules, open_files=many_files, memory=192 * MIB) as umbel:
        bystander = Bystander(umbel.address, "suite")
        memory = Memory(umbel)
        idle = []
        for n in range(TEN_THOUSAND):
            s = socket.create_connection(umbel.address)
            s.sendall((b"", wire.HEADER[:4], wire.HEADER)[n % 3])
            idle.append(s)
        wait_for(lambda: umbel.status()["sessions"]["total"] == TEN_THOUSAND + 1, every=0.2, what="all of them at once")
        wait_for(lambda: umbel.status()["sessions"]["total"] == 1, 90, 0.5, what="the end of their handshakes")
        memory.end()
        for s in idle:
            s.close()
        bystander.unharmed(within=2)
        assert memory.peak - memory.first < 80, "MiB"
        assert umbel.stop() == 0, umbel.logged()[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_thousand_idle_sessions_and_no_more_than_192_mib(node, many_files):
    """Logged in, a channel open, a message published, as Celery's producers idle."""
    with Umbel(WORK / "isolation" / "sessions", node.url(), open_files=many_files, memory=192 * MIB) as umbel:
        bystander = Bystander(umbel.address, "suite")
        idle = []
        for n in range(TEN_THOUSAND):
            w = login(umbel)
            if n % 20 == 0:
                w.send(message(1, b"x", routing_key="i.nowhere"))
            idle.append(w)
        assert umbel.status()["sessions"]["total"] == TEN_THOUSAND + 1
        resident_now = resident(umbel.process.popen.pid)
        bystander.unharmed(within=2)
        for w in idle:
            w.close()
        wait_for(lambda: umbel.status()["sessions"]["total"] == 0, every=0.2, what="their end")
        assert resident_now < 160, "MiB"
        assert umbel.stop() == 0, umbel.logged()[-2000:]


@pytest.mark.slow
def test_messages_begun_and_never_finished_take_no_more_than_they_may(node):
    """A hundred channels with half of 8 MiB each, of ten clients, where 256 MiB are all there is: whoever holds most of it goes."""
    rules = '[limits]\nmemory_bytes = "32MiB"\nmessage_bytes = "16MiB"\n'
    with Umbel(WORK / "isolation" / "begun", node.url(), rules, memory=256 * MIB) as umbel:
        bystander = Bystander(umbel.address, "suite")
        hogs = []
        for _ in range(10):
            w = login(umbel)
            hogs.append(w)
            try:
                for n in range(1, 11):
                    if n > 1:
                        w.channel(n)
                    w.send(method(n, "basic.publish", routing_key="i.half") + head(n, 8 * MIB) + 32 * body(n, bytes(131064)))
            except (OSError, wire.Gone):
                pass  # its turn has come
        assert umbel.metric("umbel_limits_hit_total", limit="assembly") > 0
        for w in hogs:
            w.close()
        bystander.unharmed(within=2)
        assert umbel.stop() == 0, umbel.logged()[-2000:]


def test_consumers_death_returns_its_deliveries_at_once(umbel, node):
    direct = Wire(node.address[1]).login(vhost="suite")
    direct.channel(1)
    direct.call(1, "queue.declare", queue="i.back")
    direct.send(b"".join(message(1, b"%d" % n, routing_key="i.back") for n in range(100)))
    w = login(umbel)
    w.call(1, "basic.consume", queue="i.back", consumer_tag="c")
    for _ in range(100):
        w.expect("basic.deliver")
        w.content()
    assert direct.call(1, "queue.declare", queue="i.back", passive=True)["message_count"] == 0
    began = time.monotonic()
    reset(w)
    wait_equal(lambda: direct.call(1, "queue.declare", queue="i.back", passive=True)["message_count"], 100, every=0.01, what="the depth")
    assert time.monotonic() - began < 5, "not only when somebody's heartbeat is missed"
    direct.call(1, "queue.delete", queue="i.back")


def test_an_exclusive_queue_dies_with_its_owner_at_once(umbel, node):
    w = login(umbel)
    w.call(1, "queue.declare", queue="i.mine", exclusive=True)
    direct = Wire(node.address[1]).login(vhost="suite")
    direct.channel(1)
    direct.send(method(1, "queue.declare", queue="i.mine", passive=True))
    assert direct.expect("channel.close")["reply_code"] == 405
    reset(w)

    def gone():
        d = Wire(node.address[1]).login(vhost="suite")
        d.channel(1)
        d.send(method(1, "queue.declare", queue="i.mine", passive=True))
        code = d.expect("channel.close")["reply_code"]
        d.close()
        return code == 404
    wait_for(gone, what="the exclusive queue's end")
