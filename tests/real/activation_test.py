"""Socket activation (SPEC D7): somebody else holds the listening socket, as systemd does; between two lives nobody is refused."""

import shutil
import socket
import subprocess
import threading

import pytest

from harness.celery import Producer
from harness.load import collect
from harness.process import ROOT, Process, free_port, wait_for
from harness.umbel import BINARY


@pytest.fixture
def held(make_umbel, node):
    """(an Umbel that is not started, its listening socket, held by us; starts it on that)"""
    umbel = make_umbel(node.url(), start=False)
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    # In the configuration stands another port: the socket counts.
    configured, umbel.port = umbel.port, listening.getsockname()[1]

    def start(**more):
        # systemd's own way: descriptor 3, and the pid of who is meant.
        shell = f'exec 3<&{listening.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" run --config "$1"'
        umbel.process = Process(["bash", "-c", shell, BINARY, umbel.config], umbel.log, env=umbel.env, cwd=umbel.directory, pass_fds=(listening.fileno(),), **more)
        wait_for(umbel._ready, what=umbel.logged)
        return umbel

    umbel.configured = configured
    yield umbel, start
    listening.close()


def test_the_socket_that_is_handed_over_is_listened_on_and_no_other(held, vhost):
    umbel, start = held
    start()
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", umbel.configured), 1)
    assert {"kind": "amqp", "address": f"127.0.0.1:{umbel.port}"} in umbel.status()["listeners"]
    assert umbel.stop() == 0


def test_who_connects_between_two_lives_waits_and_is_served(held, vhost, node):
    umbel, start = held
    start()
    assert umbel.stop() == 0
    told = []

    def late():
        with umbel.client(vhost=vhost, timeout=60) as client:
            client.declare("q")
            client.select_confirms()
            client.publish("q", b"late", delivery_mode=2)
            told.append(client.confirmed(1))

    waiting = threading.Thread(target=late)
    waiting.start()
    start()
    waiting.join(60)
    assert told == [set()]
    assert node.depth("q", vhost) == 1
    assert umbel.stop() == 0


def test_a_celery_producer_goes_through_a_restart_without_an_exception(held, vhost, node, processes):
    umbel, start = held
    start()
    producer = processes(Producer, umbel.url(vhost=vhost))
    producer.run("number.apply_async((0,), ignore_result=True, queue='q') and None")
    producer.send("[number.apply_async((i,), ignore_result=True, queue='q') and time.sleep(0.005) for i in range(1, 500)] and None")
    assert umbel.stop() == 0
    start()
    producer.answer()
    with node.client(vhost=vhost) as direct:
        assert len(set(collect(direct, "q", 500, lambda m: m.headers["argsrepr"]))) == 500


def test_a_descriptor_that_is_no_socket_is_said_and_nothing_starts(make_umbel, node):
    umbel = make_umbel(node.url(), start=False)
    shell = 'exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" run --config "$1"'
    done = subprocess.run(["bash", "-c", shell, BINARY, umbel.config], env=umbel.env, cwd=umbel.directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "LISTEN_FDS" in done.stderr


def systemd(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@systemd("systemd-analyze")
def test_the_units_say_nothing_that_systemd_does_not_understand(tmp_path):
    def complaints():
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir())], capture_output=True, text=True)
        return done.returncode, done.stderr

    for name in ("umbel.service", "umbel.socket"):
        unit = (ROOT / "deploy" / name).read_text()
        (tmp_path / name).write_text(unit.replace("/usr/local/bin/umbel", str(BINARY)))
    assert complaints() == (0, "")
    # It would have told.
    (tmp_path / "umbel.socket").write_text((ROOT / "deploy" / "umbel.socket").read_text().replace("Backlog=", "Backlogs="))
    assert "Backlogs" in complaints()[1]


@systemd("systemd-socket-activate")
def test_systemd_hands_its_socket_over_when_the_first_client_comes(make_umbel, node, vhost):
    umbel = make_umbel(node.url(), start=False)
    configured, umbel.port = umbel.port, free_port()
    activate = ["systemd-socket-activate", f"--listen=127.0.0.1:{umbel.port}", "--fdname=amqp"]
    passed = [f"--setenv={name}" for name in ("RUST_LOG", "RUST_BACKTRACE", "PATH")]
    umbel.process = Process([*activate, *passed, BINARY, "run", "--config", umbel.config], umbel.log, env=umbel.env, cwd=umbel.directory)
    wait_for(lambda: "Listening on" in umbel.logged(), what="systemd-socket-activate to listen")
    assert umbel.get("/healthz")[0] == 0, "nobody has come yet"
    with umbel.client(vhost=vhost, timeout=60) as client:
        client.declare("q")
        client.select_confirms()
        client.publish("q", b"first", delivery_mode=2)
        assert client.confirmed(1) == set()
        client.bye()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", configured), 1)
    assert umbel.stop() == 0
