"""AMQP itself, by hand: what RabbitMQ answers to a client directly, it answers through Umbel."""

import contextlib
import socket
import time

import pytest

from harness import wire
from harness.process import wait_for
from harness.wire import Client, Refused


@pytest.fixture
def client(via, vhost):
    with via.client(vhost=vhost) as client:
        yield client


@pytest.fixture
def direct(node, vhost):
    with node.client(vhost=vhost) as client:
        yield client


# logging in

def test_the_server_s_properties_are_the_broker_s_own(via, node):
    with via.client() as client, node.client() as direct:
        assert client.start["server_properties"] == direct.start["server_properties"]
        assert client.start["mechanisms"] == direct.start["mechanisms"]


def test_limits_never_exceed_the_broker_s(via, node):
    with via.client() as client, node.client() as direct:
        assert 0 < client.tune["channel_max"] <= direct.tune["channel_max"]
        assert 4096 <= client.tune["frame_max"] <= direct.tune["frame_max"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
@pytest.mark.parametrize("protocol", [wire.PROTOCOL, wire.PROTOCOL_OF_OLD], ids=["0-9-1", "0-9 of py-amqp 1.4"])
def test_clients_of_every_age_log_in(via, vhost, mechanism, protocol):
    with via.client(vhost=vhost, mechanism=mechanism, protocol=protocol) as client:
        client.declare("q")
        client.bye()


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
def test_a_wrong_password_is_refused_with_403(via, mechanism):
    with pytest.raises(Refused) as refused:
        via.client(password="wrong", mechanism=mechanism)
    assert (refused.value.scope, refused.value.code) == ("connection", 403)
    assert refused.value.text.startswith("ACCESS_REFUSED")


def test_a_wrong_password_is_refused_to_clients_that_do_not_know_the_method(via):
    """Without authentication_failure_close the broker just hangs up."""
    with pytest.raises((EOFError, ConnectionResetError)):
        via.client(password="wrong", properties={"product": "old"})


def test_a_wrong_password_does_not_profit_from_a_right_one_before(via, vhost):
    for _ in range(3):
        with via.client(vhost=vhost):
            pass
        with pytest.raises(Refused, match="ACCESS_REFUSED"):
            via.client(vhost=vhost, password="wrong")


def test_an_unknown_user_is_refused(via):
    with pytest.raises(Refused, match="403"):
        via.client(user="nobody", password="nothing")


def test_an_unknown_vhost_is_refused_with_530(via):
    with pytest.raises(Refused) as refused:
        via.client(vhost="nowhere")
    assert (refused.value.scope, refused.value.code) == ("connection", 530)
    assert "nowhere" in refused.value.text


def test_a_user_without_permission_is_refused_for_that_vhost(via, node, vhost):
    stranger = f"stranger-{vhost}"
    node.add_user(stranger, "secret", vhost)
    with pytest.raises(Refused, match="530"):
        via.client(user=stranger, password="secret", vhost="/")
    with via.client(user=stranger, password="secret", vhost=vhost) as client:
        client.declare("q")


def test_what_a_user_may_not_write_to_is_refused_with_403_on_the_channel(via, node, vhost, direct):
    direct.declare("closed")
    node.eval(f'catch rabbit_auth_backend_internal:add_user(<<"reader">>, <<"secret">>, <<"tests">>), '
              f'rabbit_auth_backend_internal:set_permissions(<<"reader">>, <<"{vhost}">>, <<"^$">>, <<"^$">>, <<".*">>, <<"tests">>)')
    with via.client(user="reader", password="secret", vhost=vhost) as client:
        with pytest.raises(Refused) as refused:
            client.declare("mine")
        assert (refused.value.scope, refused.value.code) == ("channel", 403)
        client.call(2, "channel.open")
        client.publish("closed", b"x", channel=2)
        with pytest.raises(Refused) as refused:
            client.expect("nothing")
        assert (refused.value.scope, refused.value.code) == ("channel", 403)


def test_an_unknown_mechanism_is_refused(via):
    with pytest.raises((Refused, EOFError, ConnectionResetError)):
        via.client(mechanism="KERBEROS_V9")


def test_another_protocol_is_answered_with_ours(via):
    with wire.Wire(via.address) as rude:
        rude.write(b"AMQP\x00\x01\x00\x00")
        assert rude.read_some() == wire.PROTOCOL
        with contextlib.suppress(ConnectionResetError):
            assert rude.read_some() == b""


def test_a_polite_close_is_answered(client):
    client.send(0, "connection.close", code=200, text="bye")
    client.expect("connection.close-ok")


@pytest.mark.slow
def test_heartbeats_come_at_the_interval_agreed_and_silence_is_noticed(via, vhost):
    with via.client(vhost=vhost, heartbeat=2) as client:
        began, beats = time.monotonic(), 0
        try:
            while True:
                kind, _, _ = client.read_frame(timeout=12)
                assert kind == wire.HEARTBEAT
                beats += 1
        except (EOFError, ConnectionResetError):
            pass
        lasted = time.monotonic() - began
    assert beats >= 2
    assert 2 <= lasted <= 10, f"a silent client was found after {lasted:.1f} s"


@pytest.mark.slow
def test_a_client_that_beats_stays_and_gets_beats(via, vhost):
    with via.client(vhost=vhost, heartbeat=2) as client:
        end, beats = time.monotonic() + 7, 0
        while time.monotonic() < end:
            client.beat()
            try:
                beats += client.read_frame(timeout=0.8)[0] == wire.HEARTBEAT
            except socket.timeout:
                pass
        assert beats >= 3
        client.declare("still-here")


# publishing

def test_publishes_arrive_in_order_and_whole(client, direct):
    client.declare("q")
    for i in range(300):
        client.publish("q", b"%d" % i, headers={"n": i}, delivery_mode=2)
    wait_for(lambda: direct.depth("q") == 300)
    assert [m.body for m in direct.drain("q")] == [b"%d" % i for i in range(300)]


def test_a_body_of_many_frames_is_whole(client, direct):
    client.declare("q")
    body = bytes(range(256)) * 8192
    client.publish("q", body)
    client.publish("q", b"")
    wait_for(lambda: direct.depth("q") == 2)
    assert [m.body for m in direct.drain("q")] == [body, b""]


def test_small_frames_of_a_client_are_joined_and_cut_as_the_sides_agreed(via, vhost, direct):
    direct.declare("q")
    body = b"0123456789abcdef" * 20000
    with via.client(vhost=vhost, frame_max=4096) as client:
        client.publish("q", body)
        wait_for(lambda: direct.depth("q") == 1)
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


# declaring

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
    wait_for(lambda: client.depth("last") == 1)
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
    wait_for(lambda: client.depth("q") == 1)
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
    wait_for(lambda: client.depth("quiet") == 1)


def test_a_declare_sees_what_was_published_before_it_on_its_channel(client):
    client.declare("q")
    client.select_confirms()
    for round_ in range(1, 30):
        client.publish("q", b"x")
        assert client.confirmed(round_) == set() if round_ == 1 else True
        assert client.call(1, "queue.declare", queue="q", durable=True)["messages"] <= round_
    wait_for(lambda: client.depth("q") == 29)


# consuming

def test_get_ack_reject_and_nack_do_as_they_say(client):
    client.declare("q")
    for body in (b"acked", b"requeued", b"dropped"):
        client.publish("q", body)
    wait_for(lambda: client.depth("q") == 3)
    first, second, third = (client.get("q", no_ack=False) for _ in range(3))
    client.send(1, "basic.ack", delivery_tag=first.delivery_tag)
    client.send(1, "basic.reject", delivery_tag=third.delivery_tag, requeue=False)
    client.send(1, "basic.nack", delivery_tag=second.delivery_tag, requeue=True)
    wait_for(lambda: client.depth("q") == 1)
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
    wait_for(lambda: direct.depth("q") == 1)
    client.call(1, "channel.open")
    assert client.get("q").redelivered is True


def test_unacknowledged_messages_return_when_the_client_vanishes(via, vhost, direct):
    direct.declare("q")
    direct.publish("q", b"x")
    with via.client(vhost=vhost) as client:
        client.consume("q", no_ack=False)
        client.delivery()
        client.abort()
    wait_for(lambda: direct.depth("q") == 1)


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


# channels

def test_a_channel_number_can_be_used_again(client):
    for round_ in range(20):
        client.call(5, "channel.open")
        client.declare(f"q{round_}", channel=5)
        client.call(5, "channel.close", code=200)


def test_a_method_on_a_channel_never_opened_is_504(client):
    client.send(9, "queue.declare", queue="q")
    with pytest.raises(Refused) as refused:
        client.expect("nothing")
    assert (refused.value.scope, refused.value.code) == ("connection", 504)


def test_opening_an_open_channel_is_504(client):
    client.send(1, "channel.open")
    with pytest.raises(Refused) as refused:
        client.expect("nothing")
    assert (refused.value.scope, refused.value.code) == ("connection", 504)


def test_a_channel_beyond_the_limit_is_refused(via, vhost):
    with via.client(vhost=vhost, channel_max=5) as client:
        for channel in range(2, 6):
            client.call(channel, "channel.open")
        client.send(6, "channel.open")
        with pytest.raises(Refused) as refused:
            client.expect("channel.open-ok")
        assert refused.value.scope == "connection"
        assert refused.value.code in (504, 530)


def test_a_secret_can_be_updated(client):
    """RabbitMQ answers it for every backend that can refresh; the internal one accepts."""
    client.send(0, "connection.update-secret", secret="guest", reason="rotated")
    try:
        assert client.next()[1] == "connection.update-secret-ok"
    except Refused as refused:
        assert (refused.scope, refused.code) == ("connection", 530)


def test_what_was_published_before_a_reset_is_not_torn(via, vhost, direct):
    """A client that dies in the middle of a body leaves nothing behind but what was whole."""
    direct.declare("q")
    with via.client(vhost=vhost) as client:
        for i in range(50):
            client.publish("q", b"%d" % i)
        whole = wire.frame(wire.METHOD, 1, wire.method("basic.publish", routing_key="q")) + wire.frame(wire.HEADER, 1, wire.header(1000))
        client.write(whole + wire.frame(wire.BODY, 1, b"half of it"))
        time.sleep(0.2)
        client.abort()
    time.sleep(0.3)
    assert [m.body for m in direct.drain("q")] == [b"%d" % i for i in range(50)]


def test_a_producer_that_leaves_without_a_word_loses_nothing(umbel, vhost, direct):
    """Scripts end by closing their socket. The broker itself sometimes loses the last of what such a client sent."""
    direct.declare("q")
    for round_ in range(10):
        client = umbel.client(vhost=vhost)
        for i in range(20):
            client.publish("q", b"%d" % i)
        client.close()
    wait_for(lambda: direct.depth("q") == 200, what="two hundred messages")


def test_connections_have_their_names_in_the_broker(via, node, vhost):
    """A consumer's own client properties go upstream (T7)."""
    properties = {"product": "named", "connection_name": "billing worker 7",
                  "capabilities": {"consumer_cancel_notify": True}}
    with via.client(vhost=vhost, properties=properties) as client:
        client.declare("q", exclusive=True)
        client.consume("q")
        wait_for(lambda: "billing worker 7" in node.eval(
            "[rabbit_networking:connection_info(P, [client_properties]) || P <- rabbit_networking:connections()]"), 5, 0.3)


def test_a_memory_alarm_is_announced_to_who_publishes(node, via, vhost):
    """connection.blocked comes from the broker, or from Umbel once it refuses to buffer more; both go on when it ends."""
    with via.client(vhost=vhost) as client:
        client.declare("q")
        node.memory_alarm(True)
        try:
            client.publish("q", b"during the alarm")
            time.sleep(0.3)
        finally:
            node.memory_alarm(False)
        def arrived():
            with node.client(vhost=vhost) as direct:
                return direct.depth("q") == 1
        wait_for(arrived, 10)


# what Umbel adds

def test_fifty_producers_share_a_few_connections(umbel, node, vhost):
    before = node.connections()
    clients = [umbel.client(vhost=vhost) for _ in range(50)]
    clients[0].declare("q")
    for client in clients:
        client.publish("q", b"x")
    wait_for(lambda: node.depth("q", vhost) == 50)
    assert node.connections() - before <= 4
    for client in clients:
        client.bye()


def test_a_known_login_opens_without_asking_the_broker(make_umbel, node, relay_to, vhost):
    """300 ms away: the first connection waits for it, the next do not."""
    relay = relay_to(node.address)
    umbel = make_umbel(relay.url())
    for way in relay.ways:
        way.delay = 0.15
    with umbel.client(vhost=vhost) as first:
        first.declare("q")
    began = time.monotonic()
    with umbel.client(vhost=vhost) as second:
        took = time.monotonic() - began
        second.publish("q", b"x")
        assert took < 0.15, f"connection and channel took {took * 1000:.0f} ms"
        wait_for(lambda: node.depth("q", vhost) == 1)


def test_the_upstream_s_own_credentials_can_replace_the_client_s(make_umbel, node, vhost):
    node.add_user("proxy", "proxys-secret", vhost)
    umbel = make_umbel(f"amqp://proxy:proxys-secret@127.0.0.1:{node.port}", upstream_options='credentials = "configured"')
    with umbel.client(user="whoever", password="whatever", vhost=vhost) as client:
        client.declare("q", exclusive=True)
        client.consume("q")
        users = node.eval("[rabbit_networking:connection_info(P, [user]) || P <- rabbit_networking:connections()]")
        assert '<<"proxy">>' in users and '<<"whoever">>' not in users


def test_an_unroutable_task_that_is_only_counted_is_acked_and_not_returned(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), upstream_options='mandatory = "count"')
    with umbel.client(vhost=vhost) as client:
        client.select_confirms()
        client.publish("never-declared", b"[[], {}, {}]", headers={"task": "t", "id": "u1"}, content_type="application/json")
        assert client.confirmed(1) == set()
        assert client.returns == []
