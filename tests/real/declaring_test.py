"""Declaring by hand: what RabbitMQ answers to a client directly, it answers through Umbel."""

import pytest

from harness.process import wait_equal, wait_for
from harness.wire import Refused


def test_a_server_named_queue_has_a_name_and_belongs_to_its_connection(via, client, vhost):
    name = client.declare("", exclusive=True)
    assert name.startswith("amq.gen-")
    with via.client(vhost=vhost) as other:
        with pytest.raises(Refused, match="RESOURCE_LOCKED"):
            other.declare(name, passive=True)


def test_the_last_declared_queue_is_meant_where_no_name_is_given(client):
    client.declare("last", durable=False)
    client.call(1, "queue.bind", queue="", exchange="amq.direct", routing_key="k")
    client.publish("k", b"x", exchange="amq.direct")
    wait_equal(lambda: client.depth("last"), 1, what="the depth")
    assert client.get("").body == b"x"


def test_an_exclusive_queue_is_gone_with_its_connection(via, vhost, direct):
    with via.client(vhost=vhost) as client:
        client.declare("mine", exclusive=True)

    def gone():
        try:
            return direct.depth("mine") is None
        except Refused as locked:
            assert locked.code == 405
            direct.call(1, "channel.open")
            return False

    wait_for(gone)


def test_a_queue_declared_otherwise_is_406_in_the_broker_s_words(client, vhost):
    client.declare("q")
    with pytest.raises(Refused) as refused:
        client.declare("q", durable=False)
    assert (refused.value.scope, refused.value.code) == ("channel", 406)
    assert refused.value.text == (f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '{vhost}': "
                                  "received 'false' but current is 'true'")
    assert refused.value.about == (50, 10)


def test_a_passive_declare_of_nothing_is_404(client):
    with pytest.raises(Refused) as refused:
        client.declare("nothing", passive=True)
    assert (refused.value.scope, refused.value.code) == ("channel", 404)


def test_an_unknown_exchange_type_is_503(client):
    with pytest.raises(Refused) as refused:
        client.call(1, "exchange.declare", exchange="odd", type="no-such-type")
    assert (refused.value.scope, refused.value.code) == ("connection", 503)


def test_exchanges_bind_to_exchanges(client):
    client.call(1, "exchange.declare", exchange="from", type="topic")
    client.call(1, "exchange.declare", exchange="to", type="fanout")
    client.call(1, "exchange.bind", destination="to", source="from", routing_key="a.#")
    client.declare("q")
    client.call(1, "queue.bind", queue="q", exchange="to")
    client.publish("a.b", b"x", exchange="from")
    wait_equal(lambda: client.depth("q"), 1, what="the depth")
    client.call(1, "exchange.unbind", destination="to", source="from", routing_key="a.#")
    client.call(1, "queue.unbind", queue="q", exchange="to")
    client.call(1, "exchange.delete", exchange="to")
    assert client.call(1, "queue.purge", queue="q")["messages"] == 1
    assert client.call(1, "queue.delete", queue="q")["messages"] == 0


def test_no_wait_means_no_answer(client):
    client.send(1, "queue.declare", queue="quiet", no_wait=True)
    client.send(1, "queue.bind", queue="quiet", exchange="amq.fanout", no_wait=True)
    client.publish("", b"x", exchange="amq.fanout")
    assert client.call(1, "queue.declare", queue="quiet")["messages"] in (0, 1)
    wait_equal(lambda: client.depth("quiet"), 1, what="the depth")


def test_a_declare_sees_what_was_published_before_it_on_its_channel(client):
    client.declare("q")
    client.select_confirms()
    for round_ in range(1, 30):
        client.publish("q", b"x")
        assert client.confirmed(round_) == set() if round_ == 1 else True
        assert client.call(1, "queue.declare", queue="q", durable=True)["messages"] <= round_
    wait_equal(lambda: client.depth("q"), 29, what="the depth")
