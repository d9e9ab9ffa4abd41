"""Connections and channels by hand: what RabbitMQ answers to a client directly, it answers through Umbel."""

import contextlib
import socket
import time

import pytest

from harness import wire
from harness.process import wait_equal, wait_until
from harness.wire import Refused


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
        end, beats = time.monotonic() + 5.5, 0
        while time.monotonic() < end:
            client.beat()
            try:
                beats += client.read_frame(timeout=0.8)[0] == wire.HEARTBEAT
            except socket.timeout:
                pass
        assert beats >= 3
        client.declare("still-here")


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
        client.select_confirms()
        for i in range(50):
            client.publish("q", b"%d" % i)
        # A reset throws away what was not read: it is to hit the half alone.
        assert client.confirmed(50) == set()
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
    wait_equal(lambda: direct.depth("q"), 200, what="the depth")


def test_connections_have_their_names_in_the_broker(via, node, vhost):
    """A consumer's own client properties go upstream (T7)."""
    properties = {"product": "named", "connection_name": "billing worker 7",
                  "capabilities": {"consumer_cancel_notify": True}}
    with via.client(vhost=vhost, properties=properties) as client:
        client.declare("q", exclusive=True)
        client.consume("q")
        wait_until(lambda: node.eval("[rabbit_networking:connection_info(P, [client_properties]) || P <- rabbit_networking:connections()]"),
                   lambda said: "billing worker 7" in said, every=0.3, what="the connection's name")


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
        wait_equal(lambda: node.depth("q", vhost), 1, what="the depth")


# what Umbel adds

def test_fifty_producers_share_a_few_connections(umbel, node, vhost):
    before = node.connections()
    clients = [umbel.client(vhost=vhost) for _ in range(50)]
    clients[0].declare("q")
    for client in clients:
        client.publish("q", b"x")
    wait_equal(lambda: node.depth("q", vhost), 50, what="the depth")
    # Each look at the depth is a connection too, which the broker may not have missed yet.
    wait_until(node.connections, lambda now: now - before <= 4, what=f"four connections more than {before} at the most")
    for client in clients:
        client.bye()


def test_a_known_login_opens_without_asking_the_broker(make_umbel, node, relay_to, vhost):
    """The first connection asks. The second opens while nothing passes between Umbel and the broker, and what it publishes goes on later."""
    relay = relay_to(node.address)
    umbel = make_umbel(relay.url())
    with umbel.client(vhost=vhost) as first:
        first.declare("q")
    relay.stall()
    with umbel.client(vhost=vhost) as second:
        second.publish("q", b"x")
        relay.heal()
        wait_equal(lambda: node.depth("q", vhost), 1, what="the depth")


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
