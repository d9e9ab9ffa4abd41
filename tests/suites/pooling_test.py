"""Pooling that shows: how many links there are, whose channel is where, and that all of it is what the broker says, too."""
import re
import time

import pytest
from conftest import WORK
from harness.process import wait_equal
from harness.umbel import Umbel
from wire import Wire, message


@pytest.fixture(scope="module")
def two_links(node):
    """An Umbel that may have two links a login; what is lent stays lent, however slowly the thousand come."""
    if not hasattr(node, "eval"):
        pytest.skip("a broker that is not ours: it cannot be asked")
    with Umbel(WORK / "pooling", node.url(), upstream_options='links = 2\nchannels_per_link = 600\nlease_idle = "2m"') as umbel:
        yield umbel
        assert umbel.stop() == 0, umbel.logged()[-2000:]


def producer(umbel, channels=(1,)):
    w = Wire(umbel.port, timeout=30).login(vhost="suite")
    for n in channels:
        w.channel(n)
        w.call(n, "confirm.select")
        w.send(message(n, b"x", routing_key="p.nowhere"))
        w.expect("basic.ack")
    return w


def broker_says(node):
    """{peer port: (user, vhost, channels)} of the broker's connections."""
    text = node.eval(
        "[{proplists:get_value(peer_port, I), proplists:get_value(user, I), proplists:get_value(vhost, I), proplists:get_value(channels, I)}"
        " || C <- rabbit_networking:connections(), I <- [rabbit_reader:info(C, [peer_port, user, vhost, channels])]]")
    found = re.findall(r'\{(\d+),<<"([^"]*)">>,<<"([^"]*)">>,(\d+)\}', text)
    return {int(port): (user, vhost, int(channels)) for port, user, vhost, channels in found}


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def metric(umbel, wanted, name, **labels):
    """Gauges are set with each tick."""
    wait_equal(lambda: umbel.metric(name, **labels), wanted, what="%s %s" % (name, labels))


def links(umbel):
    return {link["id"]: link for link in umbel.status()["upstreams"][0]["links"] if link["state"] == "open"}


def test_a_thousand_producers_are_on_two_links_and_the_metrics_say_so(two_links, node):
    before, made = set(broker_says(node)), []
    try:
        made += [producer(two_links) for _ in range(1000)]
        assert_on_two_links(two_links, node, before)
    finally:
        for w in made:
            w.call(0, "connection.close", reply_code=200)
            w.close()
    wait_equal(lambda: two_links.status()["sessions"]["total"], 0, what="sessions")
    metric(two_links, 0, "umbel_leases", state="lent")
    metric(two_links, 1000, "umbel_leases", state="free")
    assert two_links.metric("umbel_links", state="open") == 2


def assert_on_two_links(two_links, node, before):
    status = two_links.status()
    assert {k: status["sessions"][k] for k in ("total", "handshaking", "pooled", "pinned")} == {
        "total": 1000, "handshaking": 0, "pooled": 1000, "pinned": 0}
    metric(two_links, 1000, "umbel_sessions", state="pooled")
    metric(two_links, 1000, "umbel_client_channels")
    metric(two_links, 2, "umbel_links", state="open")
    # Others' connections may end meanwhile: what is new at the broker is our two links and nothing else.
    assert set(broker_says(node)) - before == {port_of(link["from"]) for link in links(two_links).values()} - before
    assert len(links(two_links)) == 2
    # Each producer's channel has one of its own upstream, and the two links share them out.
    metric(two_links, 1000, "umbel_leases", state="lent")
    assert sorted(link["channels_used"] > 300 for link in links(two_links).values()) == [True, True]


def test_status_says_whose_channel_is_where(two_links, node):
    """The client's port and channel, the upstream, the link with its port at the broker, and the channel's number there."""
    w, other = producer(two_links, (1, 7)), producer(two_links, (3,))
    own = Wire(two_links.port, timeout=30).login(vhost="suite")
    own.channel(5)
    own.call(5, "queue.declare", queue="p.own", exclusive=True)
    own.call(5, "basic.consume", queue="p.own", consumer_tag="c")
    status = two_links.status()
    by_port = {port_of(s["peer"]): s for s in status["sessions"]["listed"]}
    told, said = links(two_links), broker_says(node)
    taken = set()
    for client, numbers in ((w, [1, 7]), (other, [3])):
        session = by_port[client.sock.getsockname()[1]]
        assert (session["state"], session["user"], session["vhost"]) == ("pooled", "guest", "suite")
        assert [c["number"] for c in session["channels"]] == numbers
        for channel in session["channels"]:
            assert channel["confirm"]
            [lane] = channel["lanes"]
            assert lane["upstream"] == "default"
            link = told[lane["link"]]
            assert (link["identity"], link["pinned_by"]) == ("guest@suite", None)
            assert said[port_of(link["from"])][:2] == ("guest", "suite")
            taken.add((lane["link"], lane["channel"]))
    assert len(taken) == 3, "no two channels share one"
    session = by_port[own.sock.getsockname()[1]]
    assert session["state"] == "pinned" and [c["number"] for c in session["channels"]] == [5]
    link = told[session["pinned_link"]]
    assert link["pinned_by"] == session["id"]
    assert said[port_of(link["from"])] == ("guest", "suite", 1)
    time.sleep(1.1)
    assert by_port[w.sock.getsockname()[1]]["connected_seconds"] <= two_links.status()["sessions"]["listed"][0]["connected_seconds"]
    for client in (w, other, own):
        client.close()


def test_what_is_not_confirmed_is_counted_where_it_is(two_links, node):
    """The broker stands still: the publish is on the link, on the channel, and in the metric."""
    w = producer(two_links)
    node.pause()
    try:
        w.send(message(1, b"x", routing_key="p.nowhere") * 3)

        def mine():
            port = w.sock.getsockname()[1]
            return next(s for s in two_links.status()["sessions"]["listed"] if port_of(s["peer"]) == port)
        wait_equal(lambda: mine()["channels"][0]["unsettled"], 3, what="what is unsettled on the channel")
        lane = mine()["channels"][0]["lanes"][0]
        wait_equal(lambda: links(two_links)[lane["link"]]["unconfirmed_messages"], 3, what="what is unconfirmed on its link")
        metric(two_links, 3, "umbel_unconfirmed_messages")
    finally:
        node.resume()
    acked = 0
    while acked < 4:
        acked = w.expect("basic.ack")["delivery_tag"]
    wait_equal(lambda: mine()["channels"][0]["unsettled"], 0, what="what is unsettled on the channel")
    w.close()


def test_an_idle_lease_goes_back_and_is_lent_again_as_it_is(node):
    """What was lent returns after `lease_idle`; the next producer gets it without a channel being opened at the broker."""
    with Umbel(WORK / "idle", node.url(), upstream_options='lease_idle = "1s"') as umbel:
        first = producer(umbel)
        metric(umbel, 1, "umbel_leases", state="free")
        metric(umbel, 0, "umbel_leases", state="lent")
        again = producer(umbel)
        for client in (first, again):
            assert client.call(1, "channel.close", reply_code=200) == {}
        metric(umbel, 1, "umbel_leases", state="free")
        for client in (first, again):
            client.close()
        assert umbel.stop() == 0


def test_a_visit_against_a_warm_pool_asks_the_broker_nothing(two_links, node):
    """Connect, open, publish, close: twenty times, while the broker stands still."""
    def visit():
        w = Wire(two_links.port).login(vhost="suite")
        w.channel(1)
        w.send(message(1, b"x", routing_key="p.nowhere"))
        w.call(1, "channel.close", reply_code=200)
        w.call(0, "connection.close", reply_code=200)
        w.close()
    visit()
    opened = two_links.metric("umbel_links_opened_total")
    node.pause()
    try:
        for _ in range(20):
            visit()
    finally:
        node.resume()
    assert two_links.metric("umbel_links_opened_total") == opened
    metric(two_links, 0, "umbel_unconfirmed_messages")
