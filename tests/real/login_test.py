"""Logins that are refused look through Umbel as they look to whoever asks the broker itself (SPEC T3, L4, S4)."""

import contextlib
import socket
import time

import pytest

from harness import wire
from harness.process import wait_equal, wait_until
from harness.wire import PROTOCOL, Client, Refused, table


def knock(address, mechanism, response, capable=True, vhost="/", timeout=30):
    """What comes after start-ok: a Refused, "hung up", or the tune that lets the client in."""
    client = Client(address, timeout)
    with client:
        client.deliveries, client.confirms, client.returns = [], [], []
        client.write(PROTOCOL)
        client.expect("connection.start")
        properties = {"capabilities": {"authentication_failure_close": True}} if capable else {"product": "old"}
        client.send(0, "connection.start-ok", client_properties=properties, mechanism=mechanism, response=response, locale="en_US")
        try:
            return client.next()[1]
        except Refused as refused:
            return (refused.scope, refused.code, refused.text)
        except (EOFError, ConnectionResetError):
            return "hung up"


AMQPLAIN_GOOD = table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]
UNREADABLE = {
    "PLAIN of nothing": ("PLAIN", b""),
    "PLAIN without a NUL": ("PLAIN", b"guestguest"),
    "PLAIN with one NUL": ("PLAIN", b"guest\0guest"),
    "PLAIN with a third NUL": ("PLAIN", b"\0guest\0guest\0"),
    "PLAIN for somebody else": ("PLAIN", b"admin\0guest\0guest"),
    "AMQPLAIN of nothing": ("AMQPLAIN", b""),
    "AMQPLAIN without a password": ("AMQPLAIN", table({"LOGIN": "guest"})[4:]),
    "AMQPLAIN that is no table": ("AMQPLAIN", b"\xff" * 20),
    "AMQPLAIN with a length before it": ("AMQPLAIN", table({"LOGIN": "guest", "PASSWORD": "guest"})),
    "a mechanism that nobody has": ("NTLM", b"x"),
    "no mechanism": ("", b""),
    "a mechanism in small letters": ("plain", b"\0guest\0guest"),
    "EXTERNAL without a certificate": ("EXTERNAL", b""),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_login_that_cannot_be_read_is_hung_up_on(via, what):
    mechanism, response = UNREADABLE[what]
    assert knock(via.address, mechanism, response) == "hung up"


WRONG = {
    "a wrong password": ("PLAIN", b"\0guest\0wrong"),
    "an unknown user": ("PLAIN", b"\0nobody\0x"),
    "an empty user": ("PLAIN", b"\0\0"),
    "a wrong password by AMQPLAIN": ("AMQPLAIN", table({"LOGIN": "guest", "PASSWORD": "wrong"})[4:]),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_login_is_told_to_who_understands_and_hung_up_on_otherwise(via, what):
    mechanism, response = WRONG[what]
    text = f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    assert knock(via.address, mechanism, response) == ("connection", 403, text)
    assert knock(via.address, mechanism, response, capable=False) == "hung up"


def test_a_good_login_still_gets_in_behind_all_of_them(via):
    assert knock(via.address, "PLAIN", b"\0guest\0guest") == "connection.tune"
    assert knock(via.address, "AMQPLAIN", AMQPLAIN_GOOD) == "connection.tune"


def refusal(address, **options):
    with pytest.raises(Refused) as refused:
        Client.open(address, **options)
    return refused.value.scope, refused.value.code, refused.value.text


def test_a_vhost_that_is_not_there_or_not_allowed_is_refused_in_the_broker_s_words(via, node, vhost):
    node.eval('catch rabbit_auth_backend_internal:add_user(<<"lonely">>, <<"pw">>, <<"tests">>), ok')
    assert refusal(via.address, vhost="h-none") == ("connection", 530, "NOT_ALLOWED - vhost h-none not found")
    for capable in (True, False):
        properties = {"capabilities": {"authentication_failure_close": capable}}
        assert refusal(via.address, user="lonely", password="pw", vhost=vhost, properties=properties) == \
            ("connection", 530, f"NOT_ALLOWED - access to vhost '{vhost}' refused for user 'lonely'")


NOBODY = r'<<"{\"max-connections\": 0}">>'  # as rabbitmqctl hands limits over


def test_a_vhost_s_and_a_user_s_connection_limits_are_refused_in_the_broker_s_words(via, node, vhost):
    """Seen by who comes for the first time: whoever is known shares what is there."""
    node.add_user("limited", "pw", vhost)
    node.eval(f'rabbit_vhost_limit:parse_set(<<"{vhost}">>, {NOBODY}, <<"tests">>)')
    scope, code, text = refusal(via.address, user="limited", password="pw", vhost=vhost)
    assert (scope, code) == ("connection", 530)
    assert text == f"NOT_ALLOWED - access to vhost '{vhost}' refused for user 'limited': connection limit (0) is reached"
    node.eval(f'rabbit_vhost_limit:clear(<<"{vhost}">>, <<"tests">>)')
    node.eval(f'rabbit_auth_backend_internal:set_user_limits(<<"limited">>, {NOBODY}, <<"tests">>)')
    scope, code, text = refusal(via.address, user="limited", password="pw", vhost=vhost)
    assert (scope, code) == ("connection", 530)
    assert text == "NOT_ALLOWED - connection refused for user 'limited': user connection limit (0) is reached"
    node.eval('rabbit_auth_backend_internal:clear_user_limits(<<"limited">>, <<"all">>, <<"tests">>)')
    with Client.open(via.address, user="limited", password="pw", vhost=vhost) as client:
        client.declare("q")


def test_a_user_id_that_is_not_the_user_s_is_refused_on_its_channel_alone(via, vhost):
    with via.client(vhost=vhost) as client:
        client.declare("q")
        client.call(2, "channel.open")
        client.publish("q", b"mine", user_id="guest")
        client.publish("q", b"not mine", user_id="admin", channel=2)
        with pytest.raises(Refused) as refused:
            client.next()
        assert (refused.value.scope, refused.value.code) == ("channel", 406)
        assert refused.value.text == "PRECONDITION_FAILED - user_id property set to 'admin' but authenticated user was 'guest'"
        wait_equal(lambda: client.depth("q"), 1, what="the depth of the other channel's queue")


# whom Umbel itself keeps out

def test_guest_of_another_host_is_refused_as_the_broker_would(make_umbel, node):
    """To the broker it would come from Umbel's own host (S4). What a broker does with its `loopback_users`, by any mechanism."""
    address = next((a for a in own_addresses() if not a.startswith("127.")), None)
    if address is None:
        pytest.skip("this host has no address but loopback")
    twice = b"".join(wire.short_string(k) + wire.field(v) for k, v in [("LOGIN", "guest"), ("PASSWORD", "guest"), ("LOGIN", "other")])
    for allowed in (False, True):
        umbel = make_umbel(node.url(), listen="allow_remote_guest = true" if allowed else "")
        umbel.stop()
        umbel.config.write_text(umbel.config.read_text().replace(f'amqp = "127.0.0.1:{umbel.port}"', f'amqp = "{address}:{umbel.port}"'))
        umbel.start()
        there = (address, umbel.port)
        for mechanism, response in [("PLAIN", b"\0guest\0guest"), ("AMQPLAIN", AMQPLAIN_GOOD), ("AMQPLAIN", twice)]:
            expected = ("connection", 403, f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. For details see the broker logfile.")
            assert knock(there, mechanism, response) == ("connection.tune" if allowed else expected)
            assert knock(there, mechanism, response, capable=False) == ("connection.tune" if allowed else "hung up")


def own_addresses():
    """This host's own, without a packet leaving it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, contextlib.suppress(OSError):
        s.connect(("192.0.2.1", 9))  # a datagram socket: nothing is sent
        return [s.getsockname()[0]]
    return []


# what is remembered

def test_a_refusal_is_as_quick_to_be_forgotten_as_the_reason_for_it(umbel, node, vhost):
    """Wrong passwords are not remembered, and a login that was taken away is not let in for ever once the broker has said so."""
    node.add_user("fickle", "old", vhost)
    with umbel.client(user="fickle", password="old", vhost=vhost) as client:
        client.declare("q")
    with pytest.raises(Refused, match="403"):
        umbel.client(user="fickle", password="new", vhost=vhost)
    node.eval('rabbit_auth_backend_internal:change_password(<<"fickle">>, <<"new">>, <<"tests">>)')
    with umbel.client(user="fickle", password="new", vhost=vhost) as client:
        client.declare("q")


def test_known_logins_open_while_the_broker_is_away_and_unknown_ones_are_told_so(make_umbel, own_node):
    umbel = make_umbel(own_node.url(), upstream_options='connect_timeout = "1s"\n')
    own_node.add_user("seen", "pw")
    own_node.add_user("unseen", "pw")
    with umbel.client(user="seen", password="pw") as client:
        client.declare("q")
    own_node.kill()
    umbel.client(user="seen", password="pw").close()
    scope, code, text = refusal(umbel.address, user="unseen", password="pw")
    assert (scope, code) == ("connection", 320) and f"127.0.0.1:{own_node.port}" in text
    assert refusal(umbel.address, user="seen", password="wrong")[1] == 320


def test_a_login_while_the_broker_is_a_black_hole_is_told_so_in_time(make_umbel, node, relay_to):
    relay = relay_to(node.address)
    umbel = make_umbel(relay.url(), upstream_options='connect_timeout = "1s"\n')
    relay.black_hole()
    began = time.monotonic()
    assert refusal(umbel.address)[1] == 320
    assert time.monotonic() - began < 9


def test_our_log_says_who_was_refused_from_where_by_which_upstream_and_never_the_secret(make_umbel, node):
    umbel = make_umbel(node.url())
    for secret in (b"s3cret-1", b"s3cret-2", b"s3cret-3"):
        knock(umbel.address, "PLAIN", b"\0guest\0" + secret)
    knock(umbel.address, "PLAIN", b"\0x\nERROR y\0s3cret-4")
    knock(umbel.address, "PLAIN", b"guest\0s3cret-5")
    told = lambda: [line for line in umbel.logged().splitlines() if "a login was refused" in line]  # noqa: E731
    wait_until(told, lambda lines: len(lines) == 3, what="three lines")
    for word in ('user="guest"', "client=127.0.0.1", 'upstream="default"', 'mechanism="PLAIN"', "403 ACCESS_REFUSED", "times=1"):
        assert word in told()[0], told()[0]
    assert r'user="x\nERROR y"' in told()[1]
    assert 'user=""' in told()[2]
    assert "s3cret" not in umbel.logged()
