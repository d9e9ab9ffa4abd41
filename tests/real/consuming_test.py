"""Consuming by hand: what RabbitMQ answers to a client directly, it answers through Umbel."""

import socket

import pytest

from harness import wire
from harness.process import wait_equal
from harness.wire import Refused


def test_get_ack_reject_and_nack_do_as_they_say(client):
    client.declare("q")
    for body in (b"acked", b"requeued", b"dropped"):
        client.publish("q", body)
    wait_equal(lambda: client.depth("q"), 3, what="the depth")
    first, second, third = (client.get("q", no_ack=False) for _ in range(3))
    client.send(1, "basic.ack", delivery_tag=first.delivery_tag)
    client.send(1, "basic.reject", delivery_tag=third.delivery_tag, requeue=False)
    client.send(1, "basic.nack", delivery_tag=second.delivery_tag, requeue=True)
    wait_equal(lambda: client.depth("q"), 1, what="the depth")
    again = client.get("q")
    assert (again.body, again.redelivered) == (b"requeued", True)
    assert client.get("q") is None


def test_an_ack_of_an_unknown_tag_is_406(client):
    client.declare("q")
    client.consume("q", no_ack=False)
    client.send(1, "basic.ack", delivery_tag=99)
    with pytest.raises(Refused) as refused:
        client.expect("nothing")
    assert (refused.value.scope, refused.value.code) == ("channel", 406)
    assert refused.value.text == "PRECONDITION_FAILED - unknown delivery tag 99"


def test_prefetch_is_respected(client):
    client.declare("q")
    client.call(1, "basic.qos", prefetch_count=2)
    for i in range(5):
        client.publish("q", b"%d" % i)
    client.consume("q", no_ack=False)
    first, second = client.delivery(), client.delivery()
    with pytest.raises(socket.timeout):
        client.delivery(timeout=0.5)
    client.send(1, "basic.ack", delivery_tag=second.delivery_tag, multiple=True)
    assert [client.delivery().body, client.delivery().body] == [b"2", b"3"]
    assert (first.body, second.body) == (b"0", b"1")


def test_a_consumer_is_told_when_its_queue_is_gone(client, direct):
    client.declare("q")
    tag = client.consume("q")
    direct.call(1, "queue.delete", queue="q")
    assert client.expect("basic.cancel")["consumer_tag"] == tag


def test_a_cancelled_consumer_gets_nothing_more(client, direct):
    client.declare("q")
    tag = client.consume("q", tag="named-by-me")
    assert tag == "named-by-me"
    client.call(1, "basic.cancel", consumer_tag=tag)
    direct.publish("q", b"x")
    with pytest.raises(socket.timeout):
        client.delivery(timeout=0.4)
    # A queue tells its depth before it takes what was published before the question.
    wait_equal(lambda: direct.depth("q"), 1, what="the depth")
    assert client.get("q").body == b"x"


def test_two_channels_may_use_the_same_consumer_tag(client, direct):
    client.declare("a")
    client.declare("b")
    client.call(2, "channel.open")
    client.consume("a", channel=1, tag="None1")
    client.consume("b", channel=2, tag="None1")
    direct.publish("a", b"to a")
    direct.publish("b", b"to b")
    assert {client.delivery().body, client.delivery().body} == {b"to a", b"to b"}


def test_an_exclusive_consumer_is_alone(via, client, vhost):
    client.declare("q")
    client.call(1, "basic.consume", queue="q", exclusive=True)
    with via.client(vhost=vhost) as other:
        with pytest.raises(Refused) as refused:
            other.consume("q")
        assert (refused.value.scope, refused.value.code) == ("channel", 403)


def test_recover_brings_the_unacknowledged_back(client):
    client.declare("q")
    client.publish("q", b"x")
    client.consume("q", no_ack=False)
    assert client.delivery().redelivered is False
    client.call(1, "basic.recover", requeue=True)
    assert client.delivery().redelivered is True


def test_unacknowledged_messages_return_when_the_channel_closes(client, direct):
    client.declare("q")
    client.publish("q", b"x")
    client.consume("q", no_ack=False)
    client.delivery()
    client.call(1, "channel.close", code=200)
    wait_equal(lambda: direct.depth("q"), 1, what="the depth")
    client.call(1, "channel.open")
    assert client.get("q").redelivered is True


def test_unacknowledged_messages_return_when_the_client_vanishes(via, vhost, direct):
    direct.declare("q")
    direct.publish("q", b"x")
    with via.client(vhost=vhost) as client:
        client.consume("q", no_ack=False)
        client.delivery()
        client.abort()
    wait_equal(lambda: direct.depth("q"), 1, what="the depth")


def test_direct_reply_to_reaches_the_asker(via, vhost, client):
    client.consume("amq.rabbitmq.reply-to")
    with via.client(vhost=vhost) as server:
        server.declare("rpc")
        server.consume("rpc")
        client.publish("rpc", b"question", reply_to="amq.rabbitmq.reply-to", correlation_id="c1")
        asked = server.delivery()
        assert asked.properties["reply_to"].startswith("amq.rabbitmq.reply-to.")
        server.publish(asked.properties["reply_to"], b"answer", correlation_id="c1")
        assert client.delivery().body == b"answer"


def test_a_transaction_commits_and_rolls_back(client, direct):
    client.declare("q")
    client.call(1, "tx.select")
    client.publish("q", b"never")
    client.call(1, "tx.rollback")
    client.publish("q", b"kept")
    assert direct.depth("q") == 0
    client.call(1, "tx.commit")
    assert [m.body for m in direct.drain("q")] == [b"kept"]


def test_confirms_and_transactions_exclude_each_other(client):
    client.call(1, "tx.select")
    with pytest.raises(Refused) as refused:
        client.select_confirms()
    assert (refused.value.scope, refused.value.code) == ("channel", 406)


def test_publishing_and_consuming_on_one_channel_both_work(client):
    client.declare("q")
    client.consume("q", no_ack=False)
    client.select_confirms()
    for i in range(100):
        client.publish("q", b"%d" % i)
    for i in range(100):
        message = client.delivery()
        assert message.body == b"%d" % i
        client.send(1, "basic.ack", delivery_tag=message.delivery_tag)
    client.confirmed(100)


def test_a_consumer_s_messages_come_as_the_broker_has_them(client, direct):
    direct.declare("q")
    client.consume("q")
    odd = wire.header(3, headers=b"\x01aS\x00\x00\x00\x01x\x01aS\x00\x00\x00\x01y\x02\xff\xfeI\x00\x00\x00\x07", app_id="me", timestamp=2**40)
    direct.publish("q", b"odd", header_payload=odd)
    arrived = client.delivery()
    assert (arrived.header, arrived.body) == (odd, b"odd")


def test_a_header_table_with_doubled_keys_and_odd_bytes_is_not_touched(client, direct):
    direct.declare("q")
    direct.consume("q")
    odd = wire.header(3, headers=b"\x01aS\x00\x00\x00\x01x\x01aS\x00\x00\x00\x01y\x02\xff\xfeI\x00\x00\x00\x07\x01lL\x00\x00\x00\x00\x00\x00\x00\x05")
    client.publish("q", b"odd", header_payload=odd)
    arrived = direct.delivery()
    assert (arrived.header, arrived.body) == (odd, b"odd")
