"""Publishing by hand: what RabbitMQ answers to a client directly, it answers through Umbel."""

import pytest

from harness.process import wait_equal
from harness.wire import Refused


def test_publishes_arrive_in_order_and_whole(client, direct):
    client.declare("q")
    for i in range(300):
        client.publish("q", b"%d" % i, headers={"n": i}, delivery_mode=2)
    wait_equal(lambda: direct.depth("q"), 300, what="the depth")
    assert [m.body for m in direct.drain("q")] == [b"%d" % i for i in range(300)]


def test_a_body_of_many_frames_is_whole(client, direct):
    client.declare("q")
    body = bytes(range(256)) * 8192
    client.publish("q", body)
    client.publish("q", b"")
    wait_equal(lambda: direct.depth("q"), 2, what="the depth")
    assert [m.body for m in direct.drain("q")] == [body, b""]


def test_small_frames_of_a_client_are_joined_and_cut_as_the_sides_agreed(via, vhost, direct):
    direct.declare("q")
    body = b"0123456789abcdef" * 20000
    with via.client(vhost=vhost, frame_max=4096) as client:
        client.publish("q", body)
        wait_equal(lambda: direct.depth("q"), 1, what="the depth")
        assert client.get("q").body == body


def test_each_publish_is_confirmed_once(client, direct):
    client.declare("q")
    client.select_confirms()
    for i in range(500):
        client.publish("q", b"%d" % i)
    assert client.confirmed(500) == set()
    assert direct.depth("q") == 500


def test_confirms_count_from_their_select(client):
    client.declare("q")
    client.publish("q", b"before")
    client.select_confirms()
    client.publish("q", b"after")
    assert client.confirmed(1) == set()


def test_an_unroutable_mandatory_publish_returns_before_its_ack(client):
    client.select_confirms()
    client.publish("nowhere", b"lost", mandatory=True, headers={"a": 1}, message_id="m1")
    _, name, returned = client.next()
    assert name == "basic.return"
    assert (returned.code, returned.text, returned.exchange, returned.routing_key) == (312, "NO_ROUTE", "", "nowhere")
    assert (returned.body, returned.properties["message_id"]) == (b"lost", "m1")
    assert client.next()[1] == "basic.ack"


def test_an_unroutable_publish_that_is_not_mandatory_vanishes_quietly(client):
    client.select_confirms()
    client.publish("nowhere", b"lost")
    assert client.confirmed(1) == set() and client.returns == []


def test_a_publish_to_an_exchange_that_is_not_there_closes_the_channel_with_404(client, vhost):
    client.call(2, "channel.open")
    client.publish("k", b"x", exchange="no-such-exchange")
    with pytest.raises(Refused) as refused:
        client.expect("nothing")
    assert (refused.value.scope, refused.value.code) == ("channel", 404)
    assert refused.value.text == f"NOT_FOUND - no exchange 'no-such-exchange' in vhost '{vhost}'"
    assert refused.value.about == (60, 40)
    client.call(1, "channel.open")
    client.declare("q", channel=2)
    client.declare("q", channel=1)


def test_a_full_queue_that_rejects_is_a_nack(client):
    client.declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.select_confirms()
    client.publish("full", b"fits")
    assert client.confirmed(1) == set()
    client.publish("full", b"does not")
    _, name, what = client.next()
    assert (name, what["delivery_tag"]) == ("basic.nack", 2)


def test_immediate_is_refused_with_540(client):
    client.declare("q")
    client.publish("q", b"x", immediate=True)
    with pytest.raises(Refused) as refused:
        client.expect("nothing")
    assert (refused.value.scope, refused.value.code) == ("connection", 540)


def test_bits_of_a_user_id_that_is_another_s_are_refused(client):
    client.declare("q")
    client.publish("q", b"x", user_id="someone-else")
    with pytest.raises(Refused) as refused:
        client.expect("nothing")
    assert (refused.value.scope, refused.value.code) == ("channel", 406)


def test_one_channel_s_error_leaves_its_neighbours(client, direct):
    client.declare("q")
    client.call(2, "channel.open")
    client.select_confirms(channel=2)
    client.publish("k", b"x", exchange="missing")
    client.publish("q", b"good", channel=2)
    seen = []
    while len(seen) < 2:
        try:
            seen.append(client.next()[1])
        except Refused as refused:
            seen.append(refused.code)
    assert sorted(map(str, seen)) == ["404", "basic.ack"]
    assert direct.depth("q") == 1
