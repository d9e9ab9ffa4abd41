"""TLS on both sides, and certificates that log in (SPEC S3, L4; FAULTS 52). Which brokers are not spoken to: tls_broker_test."""

import contextlib
import ssl
import time

import pytest

from harness import wire
from harness.authority import upstream_tls
from harness.celery import Producer, Worker
from harness.process import free_port, wait_equal, wait_for
from harness.rabbit4 import new_node
from harness.wire import Refused

NODE = """\
listeners.ssl.local = 127.0.0.1:{port}
ssl_options.cacertfile = {cert.ca}
ssl_options.certfile = {cert.cert}
ssl_options.keyfile = {cert.key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
ssl_cert_login_from = common_name
"""


@pytest.fixture(scope="module")
def tls_node(logs, authority):
    """RabbitMQ with a TLS listener whose certificate is localhost's, and EXTERNAL by common name."""
    port = free_port()
    config = NODE.format(port=port, cert=authority.issue("rabbit"))
    with new_node(logs / "tls-rabbit", config, plugins=["rabbitmq_auth_mechanism_ssl"]) as node:
        node.tls_port = port
        node.add_user("umbel", "pass")
        node.add_user("shop", "unused")
        yield node


@pytest.fixture(scope="module")
def server_cert(authority):
    return authority.issue("umbel-server")


def context(authority, cert=None):
    made = ssl.create_default_context(cafile=str(authority.cert))
    if cert:
        made.load_cert_chain(cert.cert, cert.key)
    return made


def listen(cert, *more, client_ca=True):
    lines = ["[listen.tls]", f'cert = "{cert.cert}"', f'key = "{cert.key}"', *more]
    return "\n".join(lines + ([f'client_ca = "{cert.ca}"'] if client_ca else []))


def offered(client):
    """But for what RabbitMQ 4 offers besides."""
    return set(client.start["mechanisms"].decode().split()) - {"ANONYMOUS"}


def users_seen(node):
    """Whom the broker has logged in."""
    return set(node.eval("[element(2, lists:keyfind(user, 1, rabbit_networking:connection_info(P, [user]))) || P <- rabbit_networking:connections()]")
               .strip("[]").replace('<<"', "").replace('">>', "").split(","))


@pytest.fixture
def external_to_password(make_umbel, tls_node, authority, server_cert):
    """Clients with a certificate, an upstream with a user and password."""
    rules = '[[rules]]\nname = "the shop has its own queue"\nmatch = { user = "shop", task = "*" }\nroute = { queue = "shop-only", override = true }\n'
    return make_umbel(f"amqps://umbel:pass@localhost:{tls_node.tls_port}", rules, listen=listen(server_cert),
                      upstream_options=upstream_tls(authority.cert))


@pytest.fixture
def external_to_external(make_umbel, tls_node, authority, server_cert):
    """Clients with a certificate, an upstream that takes Umbel's."""
    return make_umbel(f"amqps://localhost:{tls_node.tls_port}", listen=listen(server_cert),
                      upstream_options=upstream_tls(authority.cert, authority.issue("umbel")))


def works(client, queue="q"):
    client.declare(queue)
    client.call(1, "queue.purge", queue=queue)
    client.publish(queue, b"over TLS")
    wait_equal(lambda: client.depth(queue), 1, what="the depth")
    assert client.get(queue).body == b"over TLS"


def test_passwords_go_through_tls_on_both_sides(make_umbel, tls_node, authority, server_cert):
    umbel = make_umbel(f"amqps://localhost:{tls_node.tls_port}", listen=listen(server_cert, client_ca=False),
                       upstream_options=upstream_tls(authority.cert))
    with umbel.client(tls=context(authority)) as client:
        assert offered(client) == {"PLAIN", "AMQPLAIN"}
        works(client)
    with pytest.raises(Refused, match="403"):
        umbel.client(tls=context(authority), password="wrong")


def test_a_certificate_logs_in_and_the_upstream_s_configured_user_stands_for_it(external_to_password, tls_node, authority):
    with external_to_password.client(tls=context(authority, authority.issue("shop")), mechanism="EXTERNAL") as client:
        assert offered(client) == {"PLAIN", "AMQPLAIN", "EXTERNAL"}
        works(client)
        assert "umbel" in users_seen(tls_node) and "shop" not in users_seen(tls_node)
        assert [s["user"] for s in external_to_password.status()["sessions"]["listed"]] == ["shop"]


def test_a_certificate_logs_in_and_umbel_s_own_certificate_stands_for_it(external_to_external, tls_node, authority):
    with external_to_external.client(tls=context(authority, authority.issue("shop")), mechanism="EXTERNAL") as client:
        works(client)
        assert "umbel" in users_seen(tls_node) and "shop" not in users_seen(tls_node)


def task(client, queue):
    client.publish(queue, b"[[], {}, {}]", content_type="application/json", content_encoding="utf-8",
                   headers={"task": "shop.buy", "id": "11111111-1111-4111-8111-111111111111", "lang": "py"})


def test_a_rule_sees_whom_the_certificate_names(external_to_password, authority):
    """Both share the upstream's login; the policy still tells them apart."""
    for name, queue in (("shop", "shop-only"), ("office", "celery")):
        with external_to_password.client(tls=context(authority, authority.issue(name)), mechanism="EXTERNAL") as client:
            client.declare("celery")
            task(client, "celery")
            client.declare(queue)
            wait_equal(lambda: client.depth(queue), 1, what=f"{name}'s tasks in {queue}")
            client.get(queue)


def test_a_certificate_gets_in_while_the_broker_is_away(external_to_password, tls_node, authority):
    """What has been seen working is remembered of certificates as of passwords (L4)."""
    tls = context(authority, authority.issue("shop"))
    with external_to_password.client(tls=tls, mechanism="EXTERNAL") as client:
        works(client)
    tls_node.pause()
    try:
        external_to_password.client(tls=tls, mechanism="EXTERNAL").close()
    finally:
        tls_node.resume()


def test_a_password_still_works_beside_certificates(external_to_password, authority):
    with external_to_password.client(tls=context(authority, authority.issue("shop")), user="umbel", password="pass") as client:
        works(client)
    with pytest.raises(Refused, match="403"):
        external_to_password.client(tls=context(authority, authority.issue("shop")), user="umbel", password="wrong")


@pytest.mark.parametrize("field, san, subject, name", [
    ("distinguished_name", "DNS:shop.example", None, "CN=someone,O=Umbel"),
    ("dns", "DNS:shop.example,DNS:other.example,email:shop@example.org", None, "shop.example"),
    ("email", "DNS:shop.example,email:shop@example.org", None, "shop@example.org"),
    ("uri", "URI:spiffe://example/shop", None, "spiffe://example/shop"),
    ("common_name", "DNS:shop.example", "/CN=Bärbel", "Bärbel"),
])
def test_the_name_is_taken_from_where_the_configuration_says(make_umbel, tls_node, authority, server_cert, field, san, subject, name):
    umbel = make_umbel(f"amqps://umbel:pass@localhost:{tls_node.tls_port}", listen=listen(server_cert, f'login_from = "{field}"'),
                       upstream_options=upstream_tls(authority.cert))
    cert = authority.issue("someone", san=san, subject=subject)
    with umbel.client(tls=context(authority, cert), mechanism="EXTERNAL"):
        assert [s["user"] for s in umbel.status()["sessions"]["listed"]] == [name]


# what is not offered, and what is said all the same

def test_external_is_offered_only_where_it_can_work(make_umbel, tls_node, node, authority, server_cert):
    """No certificate; no login of the upstream's own; a broker that does not take ours."""
    cert = authority.issue("shop")
    rabbit = f"localhost:{tls_node.tls_port}"
    optional = make_umbel(f"amqps://umbel:pass@{rabbit}", listen=listen(server_cert, 'client_cert = "optional"'), upstream_options=upstream_tls(authority.cert))
    lacks = make_umbel(f"amqps://{rabbit}", listen=listen(server_cert), upstream_options=upstream_tls(authority.cert))
    plain = make_umbel(node.url(user="guest"), listen=listen(server_cert))
    with optional.client(tls=context(authority)) as client:
        assert offered(client) == {"PLAIN", "AMQPLAIN"}
    with optional.client(tls=context(authority, cert)) as client:
        assert offered(client) == {"PLAIN", "AMQPLAIN", "EXTERNAL"}
    with lacks.client(tls=context(authority, cert)) as client:
        assert offered(client) == {"PLAIN", "AMQPLAIN"}
    with plain.client(tls=context(authority, cert), mechanism="EXTERNAL") as client:
        assert offered(client) == {"PLAIN", "AMQPLAIN", "EXTERNAL"}


def test_who_says_external_without_a_certificate_is_not_lent_ours(make_umbel, tls_node, authority):
    """The broker would see Umbel's certificate on the link: EXTERNAL is never passed on."""
    umbel = make_umbel(f"amqps://localhost:{tls_node.tls_port}", upstream_options=upstream_tls(authority.cert, authority.issue("umbel")))
    before = users_seen(tls_node)
    with pytest.raises((EOFError, ConnectionResetError)):
        umbel.client(mechanism="EXTERNAL")
    assert users_seen(tls_node) - before == set()
    with umbel.client(user="umbel", password="pass") as client:
        assert offered(client) == {"PLAIN", "AMQPLAIN"}


# who is not let in

@pytest.mark.parametrize("what", ["no certificate", "of another authority", "expired"])
def test_a_client_without_a_good_certificate_is_not_let_in(external_to_password, authority, stranger, what):
    cert = {"no certificate": None, "of another authority": stranger.issue("shop"), "expired": authority.issue("late", days=0)}[what]
    if what == "expired":
        time.sleep(1.1)
    with external_to_password.client(tls=context(authority, authority.issue("bystander")), mechanism="EXTERNAL") as bystander:
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            external_to_password.client(tls=context(authority, cert))
        works(bystander)
    wait_for(lambda: "TLS handshake failed" in external_to_password.logged(), what=external_to_password.logged)


def test_a_plaintext_client_on_the_tls_port_hears_no_amqp(external_to_password, authority):
    with external_to_password.client(tls=context(authority, authority.issue("shop")), mechanism="EXTERNAL") as bystander:
        with wire.Wire(external_to_password.address) as rude:
            rude.write(wire.PROTOCOL)
            got = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := rude.read_some(30):
                    got += piece
        assert b"AMQP" not in got and len(got) < 16, "an alert at most"
        works(bystander)


def test_a_tls_client_on_the_plaintext_port_is_told_what_is_spoken_there(umbel, authority):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        wire.Wire(umbel.address, tls=context(authority))


def test_who_does_not_finish_its_tls_handshake_is_let_go(make_umbel, node, server_cert):
    umbel = make_umbel(node.url(), "[limits]\nhandshake_timeout = \"1s\"\n", listen=listen(server_cert))
    with wire.Wire(umbel.address) as slow:
        slow.write(b"\x16\x03\x01")
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while slow.read_some(30):
                pass
        assert 0.5 < time.monotonic() - began < 8, "the default's are ten seconds"


# while it runs

def test_a_slow_reader_gets_the_last_octet(make_umbel, tls_node, authority, server_cert):
    """What TLS has sealed and the socket has not taken is not forgotten: bodies that end just there."""
    umbel = make_umbel(f"amqps://localhost:{tls_node.tls_port}", listen=listen(server_cert, client_ca=False), upstream_options=upstream_tls(authority.cert))

    def told():
        return umbel.metric("umbel_traffic_bytes_total", side="client", direction="out")

    @contextlib.contextmanager
    def asking(size):
        """A client that has asked for a message of this size and has not read it."""
        with umbel.client(tls=context(authority), timeout=60) as client:
            client.declare("big")
            client.select_confirms()
            client.publish("big", bytes(size))
            assert client.confirmed(1) == set()
            before = told()
            client.send(1, "basic.get", queue="big", no_ack=True)
            wait_for(lambda: told() > before + min(size, 1 << 16), what="octets on their way")
            last = -1
            while last != told():
                last = told()
                time.sleep(0.2)
            yield client, last - before

    with asking(32 << 20) as (client, taken):
        # So much do TLS and the kernel hold for who does not read.
        assert taken < 32 << 20
    for less in range(0, 80, 8):
        with asking(int(taken) - (less << 10)) as (client, _):
            assert len(client.next()[2].body) == int(taken) - (less << 10)


def test_renewed_certificates_are_used_from_sighup_on(make_umbel, node, authority, server_cert, place):
    cert, key = place / "renewed.pem", place / "renewed.key"

    def install(issued):
        cert.write_bytes(open(issued.cert, "rb").read())
        key.write_bytes(open(issued.key, "rb").read())

    def serial(umbel):
        with wire.Wire(umbel.address, tls=context(authority)) as w:
            return w.socket.getpeercert()["serialNumber"]

    install(server_cert)
    umbel = make_umbel(node.url(), listen=f'[listen.tls]\ncert = "{cert}"\nkey = "{key}"\n')
    before = serial(umbel)
    with umbel.client(tls=context(authority)) as client:
        install(authority.issue("umbel-server-2"))
        umbel.reload()
        wait_for(lambda: serial(umbel) != before, what="the new certificate")
        cert.write_text("no certificate")
        umbel.reload()
        wait_for(lambda: "not reloaded" in umbel.logged(), what="a complaint")
        assert serial(umbel) != before, "the last good one stays"
        works(client, "renewed")


def test_celery_over_tls_with_certificates_alone(make_umbel, tls_node, authority, server_cert, place):
    """broker_use_ssl and EXTERNAL in worker and producer, TLS and EXTERNAL to the broker."""
    umbel = make_umbel(f"amqps://localhost:{tls_node.tls_port}", listen=listen(server_cert),
                       upstream_options=upstream_tls(authority.cert, authority.issue("umbel")))
    cert = authority.issue("celery-app")
    settings = {
        "broker_use_ssl": {"ca_certs": cert.ca, "certfile": cert.cert, "keyfile": cert.key, "cert_reqs": int(ssl.CERT_REQUIRED)},
        "broker_login_method": "EXTERNAL",
    }
    with Worker(place, umbel.url(), settings=settings) as worker, Producer(place, umbel.url(), settings=settings) as producer:
        result, task_id = producer.run("(lambda r: (r.get(timeout=60), r.id))(add.delay(2, 3))")
        assert result == 5
        assert len(worker.ran(task_id)) == 1
