"""Which brokers are not spoken to: certificates that are late, of a stranger, of another name; no plaintext either (SPEC S3; FAULTS 52)."""

import contextlib
import socket
import ssl
import threading
import time

import pytest

from harness import wire
from harness.authority import upstream_tls
from harness.process import wait_equal, wait_for
from harness.wire import Refused


class Listener:
    """A TLS server that is no broker: remembers which name it was asked for, and what it was told before or after a handshake."""

    def __init__(self, cert):
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(cert.cert, cert.key)
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        self.names, self.told, self.raw = [], [], []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                client.settimeout(30)
                self.raw.append(client.recv(5, socket.MSG_PEEK))
                with contextlib.suppress(OSError):
                    with self.context.wrap_socket(client, server_side=True) as spoken:
                        self.told.append(spoken.recv(100))

    def close(self):
        self.socket.close()


@pytest.mark.parametrize("what, says", [("expired", "expired"), ("of another authority", "UnknownIssuer"), ("of another name", "not valid for name")])
def test_a_broker_whose_certificate_is_not_good_is_refused_and_nothing_is_said_to_it(make_umbel, authority, stranger, what, says):
    cert = {
        "expired": lambda: authority.issue("late-broker", days=0),
        "of another authority": lambda: stranger.issue("broker"),
        "of another name": lambda: authority.issue("misnamed", san="DNS:rabbit.example"),
    }[what]()
    broker = Listener(cert)
    time.sleep(1.1 if what == "expired" else 0)
    try:
        umbel = make_umbel(f"amqps://umbel:pass@localhost:{broker.port}", upstream_options=upstream_tls(authority.cert), start=False).start(ready=False)
        wait_equal(lambda: umbel.get("/healthz")[0], 200)
        with pytest.raises(Refused) as refused:
            umbel.client()
        assert refused.value.code == 320
        assert f"amqps://localhost:{broker.port}" in refused.value.text
        lines = lambda: [l for l in umbel.logged().splitlines() if "could not be reached" in l and f"localhost:{broker.port}" in l]
        wait_for(lines, what=umbel.logged)
        assert says in lines()[-1], lines()
        assert broker.told == [], "nothing after the handshake"
        assert all(first[:2] == b"\x16\x03" for first in broker.raw), "and no plaintext"
    finally:
        broker.close()


def test_the_broker_s_name_is_asked_for_and_must_be_the_certificate_s(make_umbel, authority):
    broker = Listener(authority.issue("named", san="DNS:rabbit.example"))
    try:
        umbel = make_umbel(f"amqps://localhost:{broker.port}", upstream_options=upstream_tls(authority.cert, server_name="rabbit.example"), start=False)
        umbel.start(ready=False)
        wait_for(lambda: broker.told, what="a handshake")
        assert broker.names[0] == "rabbit.example"
        assert broker.told[0] == wire.PROTOCOL
    finally:
        broker.close()


def test_amqps_to_a_plaintext_port_never_falls_back(make_umbel, node, authority):
    umbel = make_umbel(f"amqps://guest:guest@localhost:{node.port}", upstream_options=upstream_tls(authority.cert), start=False).start(ready=False)
    wait_equal(lambda: umbel.get("/healthz")[0], 200)
    with pytest.raises(Refused, match="320"):
        umbel.client()
    wait_for(lambda: f"amqps://localhost:{node.port}" in umbel.logged(), what="the log to name the address")
