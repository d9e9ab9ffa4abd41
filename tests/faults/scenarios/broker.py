"""The broker itself: freezes, kills, operators. Real nodes of our own that may be hurt. (Its alarms are a file of their own.)"""

from harness import wire
from kit.scenario import scenario
from kit.world import own


# freezes, kills, restarts

@scenario("broker frozen (SIGSTOP) for 20 s, then going on", rows=9, direct=True, accepted=1_000, recovery=15.0)
def frozen(world):
    """Connections stay open and nothing moves; producers go on, and no kernel gives up on them."""
    node, _ = own(world)
    world.sleep(1)
    node.pause()
    world.sleep(20)
    node.resume()
    world.healed()
    world.sleep(3)


@scenario("broker frozen for 6 s, then killed and restarted, Celery 5 and 3.1", rows=7, direct=True, needs="celery31", recovery=20.0)
def frozen_and_killed(world):
    """Directly, what delay() returned from lies in the frozen broker's socket and dies with it."""
    node, _ = own(world, celery=["celery5", "celery31"], raw=False)
    world.sleep(1)
    node.pause()
    world.sleep(6)
    node.kill()
    node.start()
    world.healed()
    world.sleep(3)


@scenario("broker killed (SIGKILL) under load and restarted, durable queues", rows=7, direct=True, recovery=20.0)
def killed(world):
    node, _ = own(world)
    world.sleep(1.5)
    node.kill()
    world.sleep(1)
    node.start()
    world.healed()
    world.sleep(3)


@scenario("broker killed twice at random instants, producers with confirms", rows=7, recovery=20.0, duplicated=2 * 2 * 200)
def killed_twice_under_confirms(world):
    node, door = own(world, celery=(), raw=False)
    for _ in range(2):
        world.raw(door, rate=500, confirms=True, window=200, queues=["q"])
    for _ in range(2):
        world.moment(0.3, 2.0)
        node.kill()
        node.start()
        world.healed()
        world.sleep(1.5)


@scenario("broker shut down in an orderly way (SIGTERM) and started again", rows=8, direct=True, recovery=20.0)
def shut_down(world):
    node, _ = own(world)
    world.sleep(1)
    node.shut_down()
    node.start()
    world.healed()
    world.sleep(2)


@scenario("stop_app, 4 s, start_app", rows=8, direct=True, recovery=20.0)
def stop_app(world):
    """320 to everybody, then connection refused, then the same node again."""
    node, _ = own(world)
    world.sleep(1)
    node.eval("rabbit:stop()")
    world.sleep(4)
    node.eval("rabbit:start()")
    node.wait_ready()
    world.healed()
    world.sleep(2)


@scenario("close_all_connections every 0.7 s under load", rows=(8, 33), short=True, direct=True)
def connections_closed(world):
    """The operator's own 320; only this scenario's connections."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    world.celery(door, queue="tasks", pause=0.003)
    world.raw(door, rate=400, queues=["q"], channels=2)
    for _ in range(6):
        world.moment(0.5, 0.9)
        node.eval(f'[rabbit_networking:close_connection(P, "maintenance") || P <- rabbit_networking:connections(), '
                  f'proplists:get_value(vhost, rabbit_networking:connection_info(P, [vhost])) =:= <<"{world.vhost}">>]')
    world.healed()
    world.sleep(1)


# an operator's and a user's doings

@scenario("queue deleted in mid-run, declared again 2 s later", rows=24, short=True, direct=True, lost=None)
def queue_deleted(world):
    """As directly, what is published to a queue that is not there goes nowhere (mandatory is off); what is before and after is whole."""
    node = world.node()
    world.queue("q", "r")
    door = world.door(node)
    world.raw(door, rate=300, queues=["r"], confirms=True)
    world.raw(door, rate=300, queues=["q"])
    world.sleep(1)
    with node.client(vhost=world.vhost) as operator:
        operator.call(1, "queue.delete", queue="q")
        world.sleep(2)
        operator.declare("q")
    world.sleep(1)
    world.loads.stop()
    steady = world.loads.all[0].journal()
    world.wait(lambda: node.depth("r", world.vhost) >= len(steady.acked["p0/1"]), what="the other queue to have everything")


@scenario("queues deleted while the broker is away, mandatory = declare, Celery 5 and a small window", rows=(4, 24), lost=None, needs="celery5")
def queue_deleted_in_an_outage(world):
    """Directly, what comes back to a queue that is gone goes nowhere and is confirmed. Here it is declared again: what was accepted since the
    queue was gone arrives, in order. (What lay in it is gone with it.)"""
    node = world.node()
    relay = world.relay(node)
    door = world.door(relay, f'[spool]\npath = "{world.place}/spool"\n', 'mandatory = "declare"\nwindow_messages = 200')
    producer = world.celery(door, queue="tasks", pause=0.003)
    world.sleep(1)
    relay.cut()
    gone_at = producer.returned()
    with node.client(vhost=world.vhost) as operator:
        world.taken("tasks", operator.drain("tasks"))
        operator.call(1, "queue.delete", queue="tasks")
    world.sleep(4)
    relay.heal()
    world.healed()
    world.sleep(2)
    world.loads.stop()
    since = producer.returned() - gone_at
    world.wait(lambda: (node.depth("tasks", world.vhost) or 0) >= since, 15, lambda: f"{since} since it was gone, {node.depth('tasks', world.vhost)} are there")


@scenario("publishes to an exchange that is not there, others on the same credentials", rows=25, short=True, recovery=None)
def missing_exchange(world):
    """404 closes the culprit's channel; those who share its login go on without a repeat."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    world.raw(door, rate=500, confirms=True, queues=["q"])
    world.raw(door, rate=300, queues=["q"])
    told = []
    with door.client(vhost=world.vhost) as culprit:
        for _ in range(20):
            culprit.publish("x", b"?", exchange="not-there")
            try:
                culprit.next()
            except wire.Refused as refused:
                told.append((refused.scope, refused.code))
                culprit.call(1, "channel.open")
            world.sleep(0.05)
    world.loads.stop()
    world.check(f"the culprit was told 404 each time: {set(told)}, {len(told)} times", told == [("channel", 404)] * 20)


@scenario("good publishes behind one to an exchange that is not there, with confirms, on one channel", rows=25, recovery=None, accepted=500)
def behind_a_missing_exchange(world):
    """The channel ends with 404; what stood behind on it is unconfirmed, as directly, and counts as refused. None of it is acked and gone."""
    node = world.node()
    world.queue("q", "behind")
    door = world.door(node)
    world.raw(door, rate=500, confirms=True, queues=["q"])
    for _ in range(10):
        acked = 0
        with door.client(vhost=world.vhost) as culprit:
            culprit.select_confirms()
            culprit.write(b"".join(
                wire.frame(wire.METHOD, 1, wire.method("basic.publish", exchange="not-there" if n == 10 else "", routing_key="behind"))
                + wire.frame(wire.HEADER, 1, wire.header(0)) for n in range(30)))
            try:
                while True:
                    _, name, what = culprit.next()
                    if name == "basic.ack":
                        acked = what["delivery_tag"]
            except wire.Refused as refused:
                world.check(f"told {refused}", (refused.scope, refused.code) == ("channel", 404))
            world.check(f"nothing behind the culprit was acked ({acked})", acked <= 10)
        world.sleep(0.1)
    world.loads.stop()
    there = node.depth("behind", world.vhost)
    world.check(f"what stood before it arrived: {there}", there == 10 * 10)
    world.queues.remove("behind")


@scenario("a full queue with x-overflow=reject-publish, producers with confirms", rows=26, short=True, accepted=100, recovery=None, reordered=None)
def reject_publish_told(world):
    """Each nack of the broker's is the client's, each ack too."""
    node = world.node()
    world.queue("q", arguments={"x-max-length": 200, "x-overflow": "reject-publish"})
    door = world.door(node)
    producer = world.raw(door, rate=500, confirms=True, queues=["q"], count=1_500)
    producer.join(90)
    world.loads.stop()
    journal = producer.journal()
    world.check(f"{sum(map(len, journal.nacked.values()))} were nacked", sum(map(len, journal.nacked.values())) > 500)
    world.check("each number was settled", sum(map(len, journal.acked.values())) + sum(map(len, journal.nacked.values())) == 1_500)


@scenario("the same without confirms: refused ones wait for room", rows=26, recovery=20.0, reordered=None)
def reject_publish_untold(world):
    """Nobody could be told: they are tried again, and arrive once the queue has been emptied."""
    node = world.node()
    world.queue("q", arguments={"x-max-length": 200, "x-overflow": "reject-publish"})
    door = world.door(node)
    world.raw(door, rate=200, queues=["q"], count=600)
    world.sleep(4)
    world.loads.stop()
    taken = []
    with node.client(vhost=world.vhost) as consumer:
        with world.fault():
            pass
        world.wait(lambda: taken.extend(consumer.drain("q")) or len(taken) >= 600, 60, lambda: f"600 messages, {len(taken)} came")
    world.taken("q", taken)


@scenario("a queue declared again with other arguments, others beside it", rows=27, short=True, recovery=None)
def redeclared(world):
    """406 in the broker's words, for that channel alone."""
    node = world.node()
    world.queue("q")
    door = world.door(node)
    world.raw(door, rate=500, confirms=True, queues=["q"])
    told = []
    with door.client(vhost=world.vhost) as culprit:
        for _ in range(10):
            try:
                culprit.declare("q", arguments={"x-max-length": 7})
            except wire.Refused as refused:
                told.append((refused.scope, refused.code, "inequivalent arg 'x-max-length'" in refused.text))
                culprit.call(1, "channel.open")
            world.sleep(0.05)
    world.loads.stop()
    world.check(f"the culprit was told: {set(told)}", told == [("channel", 406, True)] * 10)


def permissions(node, user, vhost, pattern):
    node.eval(f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost}">>, <<"{pattern}">>, <<"{pattern}">>, <<"{pattern}">>, <<"tests">>)')


@scenario("password changed in mid-run, links cut, changed back 5 s later", rows=28, recovery=12.0)
def password_rotated(world):
    """No hot loop at the broker's login; what was accepted waits, and goes after the repair."""
    node = world.node()
    world.queue("q")
    user = f"rotated{world.seed}"
    node.add_user(user, "old", world.vhost)
    relay = world.relay(node)
    door = world.door(relay)
    world.raw(door, rate=300, queues=["q"], user=user, password="old")
    world.raw(door, rate=300, queues=["q"], user=user, password="old", confirms=True, window=5_000)
    world.sleep(1)
    node.eval(f'rabbit_auth_backend_internal:change_password(<<"{user}">>, <<"new">>, <<"tests">>)')
    relay.reset()
    before = relay.accepted
    world.sleep(5)
    tries = relay.accepted - before
    node.eval(f'rabbit_auth_backend_internal:change_password(<<"{user}">>, <<"old">>, <<"tests">>)')
    world.healed()
    world.sleep(3)
    world.note(f"{tries} logins tried in 5 s")
    world.check(f"no hot loop: {tries} logins in 5 s", tries <= 40)


@scenario("permissions revoked in mid-run, given back 4 s later", rows=28, exceptions=None, lost=None, reordered=None, recovery=12.0)
def permissions_revoked(world):
    """The broker closes the channel of whoever publishes; the client hears its 403 and comes back. With confirms nothing acked is lost."""
    node = world.node()
    world.queue("q")
    user = f"revoked{world.seed}"
    node.add_user(user, "pw", world.vhost)
    relay = world.relay(node)
    door = world.door(relay)
    world.raw(door, rate=300, queues=["q"], user=user, password="pw", confirms=True)
    world.sleep(1)
    permissions(node, user, world.vhost, "^$")
    relay.reset()  # a channel that has published keeps what it was allowed
    world.sleep(4)
    permissions(node, user, world.vhost, ".*")
    world.healed()
    world.sleep(3)
    world.loads.stop()
    journal = world.loads.all[0].journal()
    world.check(f"the client was told 403: {journal.exceptions[:2]}", any("403" in e for e in journal.exceptions))


@scenario("vhost deleted in mid-run, made again 4 s later", rows=29, lost=None, exceptions=None, recovery=20.0)
def vhost_deleted(world):
    """530 at every login meanwhile: no hot loop; what was accepted since waits. (What lay in the vhost's queues is gone with them; a
    broker in the middle of deleting may say 404 to whoever publishes, and the client hears that.)"""
    node = world.node()
    world.queue("q")
    relay = world.relay(node)
    door = world.door(relay)
    producer = world.raw(door, rate=300, queues=["q"])
    world.sleep(1)
    node.delete_vhost(world.vhost)
    gone_at, before = producer.returned(), relay.accepted
    world.sleep(4)
    tries = relay.accepted - before
    relay.cut()  # until its queue is there again, too: a broker confirms what no queue takes
    node.add_vhost(world.vhost)
    world.queue("q")
    relay.heal()
    world.healed()
    world.sleep(3)
    world.loads.stop()
    total = producer.returned()
    world.wait(lambda: node.depth("q", world.vhost) >= total - gone_at - 50, what=lambda: f"{total - gone_at} since it was gone, {node.depth('q', world.vhost)} are there")
    world.note(f"{tries} logins tried in 4 s")
    world.check(f"no hot loop: {tries} logins in 4 s", tries <= 40)


@scenario("connection limit of the vhost reached while links are cut", rows=31, recovery=15.0)
def connection_limit(world):
    """530 for every further link: what is there is used, what is accepted waits, nothing is killed."""
    node = world.node()
    world.queue("q")
    relay = world.relay(node)
    door = world.door(relay)
    world.raw(door, rate=300, queues=["q"])
    world.raw(door, rate=300, queues=["q"], confirms=True, window=5_000)
    world.sleep(1)
    node.eval(f'rabbit_vhost_limit:set(<<"{world.vhost}">>, [{{<<"max-connections">>, 0}}], <<"tests">>)')
    relay.reset()
    world.sleep(4)
    node.eval(f'rabbit_vhost_limit:clear(<<"{world.vhost}">>, <<"tests">>)')
    world.healed()
    world.sleep(3)


@scenario("channel_max of 8 at the broker, 60 producers", rows=31, slowest=1.0, recovery=None)
def few_channels(world):
    """Two links of eight channels: leases go round."""
    world.own_node("channel_max = 8\n")
    world.queue("q")
    door = world.door(world.broker, upstream_options='lease_idle = "100ms"')
    for _ in range(10):
        world.raw(door, channels=6, rate=30, queues=["q"])
    world.sleep(6)


@scenario("a message over the limit, others beside it", rows=30, short=True, recovery=None, memory=60.0)
def too_large(world):
    """Refused when its header is there (406), before memory is taken."""
    node = world.node()
    world.queue("q")
    door = world.door(node, rules='[limits]\nmessage_bytes = "1MiB"\n')
    world.raw(door, rate=300, confirms=True, queues=["q"])
    told = []
    for _ in range(5):
        with door.client(vhost=world.vhost) as culprit:
            culprit.write(wire.frame(wire.METHOD, 1, wire.method("basic.publish", routing_key="q")) + wire.frame(wire.HEADER, 1, wire.header(50_000_000)))
            try:
                culprit.next()
            except wire.Refused as refused:
                told.append((refused.scope, refused.code))
        world.sleep(0.1)
    world.loads.stop()
    world.check(f"told {told}", told == [("channel", 406)] * 5)
