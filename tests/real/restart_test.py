"""What outlives our own restart while the broker is away (SPEC L4, D4): logins, what the broker is, what was declared."""

import json

import pytest

from harness.celery import Producer, Worker
from harness.process import wait_equal, wait_for
from harness.spooled import in_order, publish_all, settle, wait_waiting
from harness.wire import Refused

NIGHTLY = "[add.apply_async((i, i), queue='nightly', ignore_result=True).id for i in range({})]"


def known(spooled):
    """The file beside the spool, if there is one yet."""
    file = spooled.path / "known"
    return file.read_text() if file.exists() else ""


DECLARE, BIND = "0032000a", "00320014"  # queue.declare and queue.bind, as the file has them


def knows(spooled, queue, method=DECLARE):
    """Whether the queue's declaration, or its binding, in this test's vhost is in it. (Its name alone is found anywhere: "q" is 71.)"""
    try:
        upstreams = json.loads(known(spooled).partition("\n")[2])["upstreams"]
    except ValueError:
        return False
    name, vhost = f"{len(queue):02x}{queue.encode().hex()}", spooled.vhost.encode().hex()
    declared = [d for each in upstreams.values() for d in each["declared"]]
    return any(d["vhost"] == vhost and d["payload"].startswith(method) and name in d["payload"] for d in declared)


def next_life(spooled, options=""):
    """An Umbel that starts in an outage."""
    umbel = spooled.umbel(options, ready=False)
    wait_equal(lambda: umbel.get("/healthz")[0], 200)
    return umbel


@pytest.fixture
def killed(spooled):
    """An Umbel that knew `guest` and the queue `q`, killed in an outage; the next one has come up in it."""
    umbel = spooled.umbel()
    with spooled.client(umbel) as client:
        client.declare("q")
    wait_for(lambda: knows(spooled, "q"), what="what is known to be written")
    spooled.outage()
    umbel.kill()
    return next_life(spooled)


def test_a_cron_job_s_task_runs_although_umbel_was_killed_in_the_outage(spooled, processes):
    """Celery itself, a process of its own after the restart: it logs in, declares, publishes, exits 0; later its task runs from its queue."""
    umbel = spooled.umbel()
    first = processes(Producer, umbel.url(vhost=spooled.vhost))
    first.run(NIGHTLY.format(1))
    # Confirmed: what was in flight at the cut might run twice.
    umbel.wait_settled(1)
    wait_for(lambda: knows(spooled, "nightly", BIND), what="what is known to be written")
    with spooled.node.client(vhost=spooled.vhost) as direct:
        direct.call(1, "queue.delete", queue="nightly")
    spooled.outage()
    umbel.kill()
    again = next_life(spooled, 'tier = "durable"\n')
    cron = processes(Producer, again.url(vhost=spooled.vhost))
    ids = cron.run(NIGHTLY.format(40))
    cron.process.popen.stdin.close()
    assert cron.process.wait(30) == 0
    spooled.over()
    worker = processes(Worker, spooled.node.url(vhost=spooled.vhost), queues=("nightly",), arguments=["--without-mingle", "--without-gossip"])
    assert [e["id"] for e in worker.wait_executed(40)] == ids
    assert again.stop() == 0


def test_a_wrong_password_is_refused_after_the_restart_too(spooled, killed):
    with pytest.raises(Refused) as told:
        spooled.client(killed, password="wrong")
    assert told.value.code in (320, 403)
    with spooled.client(killed) as client:
        client.declare("q")


def test_a_login_that_was_never_seen_is_refused_after_the_restart(spooled, killed, node):
    node.add_user("never", "seen", spooled.vhost)
    with pytest.raises(Refused):
        spooled.client(killed, user="never", password="seen")


def test_a_password_that_the_broker_has_refused_meanwhile_is_not_believed(spooled, node):
    """It was good once, then it was changed, and somebody came with the old one while the broker was there to say so."""
    node.add_user("rotated", "old", spooled.vhost)
    umbel = spooled.umbel()
    spooled.client(umbel, user="rotated", password="old").close()
    wait_for(lambda: "rotated" in known(spooled))
    umbel.stop()
    node.eval('rabbit_auth_backend_internal:change_password(<<"rotated">>, <<"new">>, <<"tests">>)')
    umbel = spooled.umbel()
    with pytest.raises((Refused, EOFError, ConnectionResetError)):
        spooled.client(umbel, user="rotated", password="old")
    wait_for(lambda: "rotated" not in known(spooled))
    spooled.outage()
    umbel.kill()
    umbel = next_life(spooled)
    with pytest.raises((Refused, EOFError, ConnectionResetError)):
        spooled.client(umbel, user="rotated", password="old")


def test_what_is_published_after_the_restart_arrives_in_order(spooled, killed):
    with spooled.client(killed) as client:
        client.declare("q")
        publish_all(client)
        wait_waiting(killed, 1)
    spooled.over()
    settle(killed, 300)
    assert in_order(spooled.arrived()) == list(range(300))
    assert killed.stop() == 0


def test_the_file_is_its_owner_s_and_has_no_password_in_it(spooled, node):
    node.add_user("secretive", "correct horse battery staple", spooled.vhost)
    umbel = spooled.umbel()
    spooled.client(umbel, user="secretive", password="correct horse battery staple").close()
    file = spooled.path / "known"
    wait_for(lambda: "secretive" in known(spooled))
    assert file.stat().st_mode & 0o777 == 0o600
    for secret in ("correct horse battery staple", "correct horse battery staple".encode().hex()):
        assert secret not in file.read_text()
    assert umbel.stop() == 0


def test_a_damaged_file_is_said_once_and_nobody_is_kept_from_working(spooled):
    umbel = spooled.umbel()
    with spooled.client(umbel) as client:
        client.declare("q")
    file = spooled.path / "known"
    wait_for(lambda: knows(spooled, "q"))
    umbel.kill()
    file.write_bytes(file.read_bytes()[:-10])
    umbel = spooled.umbel()
    with spooled.client(umbel) as client:
        client.declare("q")
        publish_all(client, 0, 10)
        settle(umbel, 10)
    assert umbel.logged().count("what was known before this start is lost") == 1
    wait_for(lambda: knows(spooled, "q"), what="it to be written anew")
    assert umbel.stop() == 0
