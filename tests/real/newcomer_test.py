"""The first hour with Umbel: no file at all, a file with many mistakes, a log for a machine to read, and what the probes say while the
broker is away (issue 2, C1, M1, M3)."""

import json
import re
import subprocess
import sys
import time

import pytest

from harness import wire
from harness.process import free_port, wait_equal, wait_for, wait_until
from harness.umbel import BINARY

# In a network of its own, where the default ports are nobody else's: {path: (status, text)} and the broker's refusal, as JSON.
ALONE = r"""
import fcntl, json, socket, struct, subprocess, sys, time, urllib.request, urllib.error
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(s, 0x8914, struct.pack("16sH", b"lo", 0x49))
umbel = subprocess.Popen([sys.argv[1], "run"], stderr=subprocess.PIPE, text=True)
def get(path):
    try:
        with urllib.request.urlopen("http://127.0.0.1:9673" + path, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError:
        return 0, ""
out, end = {}, time.monotonic() + 30
while (get("/healthz")[0] != 200 or "refused" not in get("/readyz")[1]) and time.monotonic() < end:
    time.sleep(0.05)
c = socket.create_connection(("127.0.0.1", 5673), 20)
c.settimeout(20)
c.sendall(b"AMQP\0\0\x09\x01")
out["socket"] = c.recv(100).hex()
for path in ("/healthz", "/readyz", "/status"):
    out[path] = get(path)
umbel.terminate()
out["log"] = umbel.communicate(timeout=40)[1]
out["exit"] = umbel.returncode
print(json.dumps(out))
"""


def alone_in_a_network():
    return subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not alone_in_a_network(), reason="unshare -n needs root: the default ports may be somebody else's here")
def test_without_a_file_it_listens_on_5673_and_says_that_there_is_no_broker_on_5672():
    done = subprocess.run(["unshare", "-n", sys.executable, "-c", ALONE, BINARY], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert out["/healthz"][0] == 200
    assert out["/readyz"][0] == 503 and "upstream default" in out["/readyz"][1]
    assert [u["urls"] for u in json.loads(out["/status"][1])["upstreams"]] == [["amqp://127.0.0.1:5672"]]
    assert "127.0.0.1:5673" in out["log"] and "127.0.0.1:5672" in out["log"] and "refused" in out["log"].lower(), out["log"]
    assert out["exit"] == 0


def test_without_a_file_whoever_takes_the_port_is_named(node):
    """5673 is taken, by us or by somebody else."""
    import socket
    taken = socket.socket()
    try:
        taken.bind(("127.0.0.1", 5673))
        taken.listen()
    except OSError:
        pass
    done = subprocess.run([BINARY, "run"], capture_output=True, text=True, timeout=60)
    taken.close()
    assert done.returncode not in (0, 64)
    assert "127.0.0.1:5673" in done.stderr and "in use" in done.stderr.lower()


MISTAKES = """\
[listen]
amqp = "nowhere"
  admin = 5
[upstreams.default]
urls = []
tier = "durable"
[[rules]]
name = "a"
match = { task = { regex = "(" } , size_over = "8 parsecs" }
route = { queue = "q" }
[[rules]]
name = "a"
priority = { min = 9, max = 1 }
[[task_routes]]
queue = "x"
"""
PLACES = ["2:8", "3:11", "5:8", "9:28", "9:48", "12:8", "13:29", "14:1"]


@pytest.mark.parametrize("command", [["check"], ["run", "--config"], ["explain", "--task", "t", "--config"]])
def test_many_mistakes_are_told_at_once_each_with_its_line_and_column(command, place):
    file = place / "mistakes.toml"
    file.write_text(MISTAKES)
    done = subprocess.run([BINARY, *command, file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 64
    said = re.findall(rf"(?m)^{re.escape(str(file))}:(\d+:\d+): ", done.stdout + done.stderr)
    assert said == sorted(said, key=lambda at: [int(n) for n in at.split(":")])
    assert set(PLACES) <= set(said), done.stdout + done.stderr


STANDARD = {"timestamp", "level", "fields", "target"}


def test_every_line_of_a_json_log_is_an_object_with_the_documented_fields(make_umbel, node, vhost, relay_to):
    """Through a start, logins good and bad, an outage, reloads good and bad, and the end."""
    relay = relay_to(node.address)
    log = '[log]\nformat = "json"\nlevel = "debug"\n'
    rules = '[[rules]]\nname = "late \\"ones\\"\\n"\nexpiry = { action = "revoke" }\n'
    umbel = make_umbel(relay.url(), log + rules, upstream_options='connect_timeout = "1s"', env={"RUST_LOG": "debug"})
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.publish("q", b"[]", headers={"task": 'line\nbreak "and" quotes \x1b[31m', "id": "1", "expires": "2020-01-01T00:00:00Z"})
        client.publish("q", b"[]", exchange="missing")
        with pytest.raises(wire.Refused):
            client.next()
    with pytest.raises(wire.Refused):
        umbel.client(password="wrong")
    relay.cut()
    umbel.write_config(log + "[[rules]]\nname = 7\n")
    umbel.reload()
    wait_equal(lambda: umbel.metric("umbel_config_last_reload_successful"), 0, what="whether the last file was good")
    umbel.write_config(log)
    umbel.reload()
    wait_equal(lambda: umbel.metric("umbel_config_last_reload_successful"), 1, what="whether the last file was good")
    assert umbel.stop() == 0
    lines = umbel.logged().splitlines()
    assert len(lines) > 8
    for line in lines:
        said = json.loads(line)
        assert STANDARD <= set(said), line
        assert said["level"] in ("ERROR", "WARN", "INFO", "DEBUG", "TRACE") and said["fields"]["message"], line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", said["timestamp"]), line


def test_the_probes_tell_the_truth_while_the_broker_is_away(make_umbel, node, vhost, relay_to):
    relay = relay_to(node.address)
    umbel = make_umbel(relay.url(), upstream_options='connect_timeout = "1s"\nheartbeat = "1s"')
    with umbel.client(vhost=vhost) as client:
        client.declare("q")
        client.publish("q", b"[]", headers={"task": "t", "id": "1"})
        # Confirmed: what was in flight at the cut might arrive twice.
        umbel.wait_settled(1)
        assert node.depth("q", vhost) == 1
        assert umbel.get("/readyz")[0] == 200
        # No link of a client's is missed by anybody: what is said is to be true all the same.
        relay.black_hole()
        relay.reset()
        status, words = wait_until(lambda: umbel.get("/readyz"), lambda said: said[0] == 503)
        assert "nothing can take tasks" in words and "upstream default: down" in words
        assert umbel.get("/healthz")[0] == 200
        # It goes on taking what its producer says, up to the window.
        client.publish("q", b"[]", headers={"task": "t", "id": "2"})
        relay.heal()
        wait_until(lambda: umbel.get("/readyz"), lambda said: said[0] == 200)
    wait_equal(lambda: node.depth("q", vhost), 2, what="the depth")


def test_with_a_spool_it_is_ready_while_the_broker_is_away(make_umbel, place):
    umbel = make_umbel(f"amqp://127.0.0.1:{free_port()}", f'[spool]\npath = "{place / "spool"}"\n')
    status, words = umbel.get("/readyz")
    assert status == 200 and "spool: ready" in words


def test_a_wrong_password_is_403_to_that_client_and_its_neighbours_go_on(make_umbel, node, vhost):
    umbel = make_umbel(node.url())
    with umbel.client(vhost=vhost) as neighbour:
        neighbour.declare("q")
        began = time.monotonic()
        with pytest.raises(wire.Refused) as refused:
            umbel.client(password="wrong", vhost=vhost)
        assert (refused.value.scope, refused.value.code) == ("connection", 403)
        assert time.monotonic() - began < 10
        neighbour.select_confirms()
        neighbour.publish("q", b"x")
        assert neighbour.confirmed(1) == set()
    assert "wrong" not in umbel.logged()


@pytest.mark.parametrize("why", ["refused", "unresolved", "silent"])
def test_a_broker_that_is_not_there_is_told_within_the_connect_deadline_and_the_log_says_which_and_why(make_umbel, relay_to, node, why):
    relay = relay_to(node.address)
    url, words = {
        "refused": (f"amqp://127.0.0.1:{free_port()}", "refused"),
        "unresolved": ("amqp://broker.invalid:5672", "broker.invalid"),
        "silent": (relay.url(), "time"),
    }[why]
    if why == "silent":
        relay.black_hole()
    umbel = make_umbel(url, start=False, upstream_options='connect_timeout = "1s"')
    umbel.start(ready=False)
    wait_equal(lambda: umbel.get("/healthz")[0], 200)
    began = time.monotonic()
    with pytest.raises((wire.Refused, EOFError, ConnectionResetError)):
        umbel.client()
    assert time.monotonic() - began < 4.8, "the default's are five seconds"
    address = url.rpartition("@")[2].removeprefix("amqp://").rstrip("/")
    wait_for(lambda: any(address in line and words in line.lower() for line in umbel.logged().splitlines()), what=umbel.logged)
