"""Celery's remote control, its events and its workers' lives, as an operator uses them. Each step prints `name: what was seen`."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

host, port, vhost, redis = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.environ["SUITE_BROKER"] = "pyamqp://guest:guest@%s:%d/%s" % (host, port, vhost)
os.environ["SUITE_REDIS"] = redis
os.environ["C_FORCE_ROOT"] = "1"  # pickle is among what it takes

from celery_control import add, app, fails, naps, tsum  # noqa: E402
from celery import chain, chord, group  # noqa: E402
from kombu import Queue  # noqa: E402

place = tempfile.mkdtemp(prefix="umbel-suites-")
here = os.path.dirname(os.path.abspath(__file__))


def say(step, seen):
    print("%s: %s" % (step, seen), flush=True)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    return None


def celery(*arguments, **more):
    return subprocess.run([sys.executable, "-m", "celery", "-A", "celery_control", *arguments], cwd=here, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, **more)


workers = []


def worker(name, *more):
    argv = [sys.executable, "-m", "celery", "-A", "celery_control", "worker", "-n", name, "-E", "-c", "2", "-l", "WARNING", *more]
    process = subprocess.Popen(argv, cwd=here, stdout=open(os.path.join(place, name), "w"), stderr=subprocess.STDOUT)
    workers.append(process)
    return process


def ended(process):
    """Whether it has, in a busy machine's time."""
    try:
        return process.wait(90) is not None
    except subprocess.TimeoutExpired:
        return False


def names(replies):
    """A broadcast's replies without the machine's name."""
    return sorted(re.sub("@.*", "", name) for reply in replies or () for name in reply)


one = worker("one@h")
two = worker("two@h", "-Q", "s.control,s.control.two")
try:
    say("ping", until(lambda: (r := names(app.control.ping(timeout=2))) == ["one", "two"] and r, 120))
    inspect = app.control.inspect(timeout=3)
    say("registered", sorted(t for t in inspect.registered()["one@h"] if t.startswith("s.")))
    say("queues", sorted(q["name"] for q in inspect.active_queues()["two@h"]))
    say("stats", sorted(set(inspect.stats()["one@h"]) & {"broker", "clock", "pid", "pool", "prefetch_count", "total", "uptime"}))
    say("prefetch", inspect.stats()["one@h"]["prefetch_count"])
    say("conf", inspect.conf()["one@h"]["task_default_queue"])
    say("to one of them", names(app.control.ping(destination=["two@h"], timeout=3)))
    say("pattern", names(app.control.ping(pattern="t*", matcher="glob", timeout=3)))

    # what is active, reserved, scheduled, revoked
    results = [naps.apply_async((4,)) for _ in range(4)]
    later = add.apply_async((1, 1), countdown=120)
    say("active", until(lambda: sum(map(len, (inspect.active() or {}).values())) == 4))
    say("scheduled", until(lambda: sum(map(len, (inspect.scheduled() or {}).values())) == 1))
    found = inspect.query_task(later.id)
    say("query", [state for tasks in found.values() for state, _ in tasks.values()])
    app.control.revoke(later.id)
    say("revoked", until(lambda: any(later.id in ids for ids in (inspect.revoked() or {}).values())))
    say("napped", [r.get(timeout=60) for r in results])
    endless = naps.apply_async((300,))
    until(lambda: sum(map(len, (inspect.active() or {}).values())) == 1)
    app.control.revoke(endless.id, terminate=True)
    say("terminated", type(endless.get(timeout=60, propagate=False)).__name__)

    # control: limits, consumers, pools
    say("rate limit", sorted(str(v) for r in app.control.rate_limit("s.add", "100/s", reply=True, timeout=3) for v in r.values()))
    say("time limit", len(app.control.time_limit("s.add", soft=50, hard=60, reply=True, timeout=3)))
    say("add consumer", len(app.control.add_consumer("s.control.extra", reply=True, timeout=5, destination=["one@h"])))
    say("by extra", add.apply_async((2, 3), queue="s.control.extra").get(timeout=30))
    say("cancel consumer", len(app.control.cancel_consumer("s.control.extra", reply=True, timeout=5)))
    say("grown", [list(v) for r in app.control.pool_grow(1, reply=True, timeout=5, destination=["one@h"]) for v in r.values()])
    say("by two", add.apply_async((4, 4), queue="s.control.two").get(timeout=30))

    # events, as monitors hear them
    heard, connection = {}, app.connection_for_read()

    def monitor():
        with connection:
            receiver = app.events.Receiver(connection, handlers={"*": lambda e: heard.setdefault(e["type"], []).append(e)})
            try:
                receiver.capture(limit=None, timeout=60, wakeup=True)
            except Exception:
                pass

    threading.Thread(target=monitor, daemon=True).start()
    say("online", until(lambda: "worker-heartbeat" in heard))
    app.control.enable_events()
    add.delay(1, 2).get(timeout=30)
    fails.delay().get(timeout=30, propagate=False)
    want = {"task-sent", "task-received", "task-started", "task-succeeded", "task-failed", "worker-heartbeat"}
    until(lambda: want <= set(heard), 30)
    say("events", sorted(want & set(heard)))

    # canvas: chords, groups, chains, errors
    say("group", group(add.s(i, i) for i in range(10))().get(timeout=60))
    say("chain", chain(add.s(1, 1), add.s(2), add.s(3))().get(timeout=60))
    say("chord", chord([add.s(i, i) for i in range(10)])(tsum.s()).get(timeout=60))
    say("chord in a chain", chain(group(add.s(1, 1), add.s(2, 2)), tsum.s(), add.s(1))().get(timeout=60))
    say("chord that fails", type(chord([add.s(1, 1), fails.s()])(tsum.s()).get(timeout=60, propagate=False)).__name__)
    results = [add.apply_async((i, i), priority=i % 5, expires=60, headers={"h": i}, serializer=s, compression=c)
               for i, (s, c) in enumerate((s, c) for s in ("json", "pickle", "yaml") for c in (None, "zlib", "bzip2"))]
    say("serializers", [r.get(timeout=60) for r in results])
    say("expired", type(add.apply_async((1, 1), expires=-1).get(timeout=30, propagate=False)).__name__)
    add.apply_async((9, 9), queue="s.control.purge")
    with app.connection_for_write() as write:
        Queue("s.control.purge")(write.channel()).queue_declare()
    until(lambda: False, 0.5)

    # the command line
    said = celery("inspect", "ping", "-t", "5").stdout
    say("celery inspect ping", (said.count("pong"), "2 nodes online" in said))
    say("celery status", "2 nodes online" in celery("status", "-t", "5").stdout)
    say("celery call", bool(re.fullmatch(r"[0-9a-f-]{36}\s*", celery("call", "s.add", "--args", "[1, 2]").stdout)))
    purged = celery("purge", "-f", "-Q", "s.control.purge").stdout
    say("celery purge", purged.strip())
    said = celery("multi", "start", "m", "-A", "celery_control", "-Q", "s.control.multi", "-c", "1", "--pidfile=%s/%%n.pid" % place,
                  "--logfile=%s/%%n%%I.log" % place)
    say("celery multi start", said.returncode)
    say("by multi", add.apply_async((5, 5), queue="s.control.multi").get(timeout=60))
    say("celery multi stopwait", celery("multi", "stopwait", "m", "--pidfile=%s/%%n.pid" % place).returncode)

    # a warm shutdown finishes what has begun; SIGKILL gives back what is acknowledged late
    nap = naps.apply_async((2,), queue="s.control.two")
    until(lambda: sum(map(len, (inspect.active() or {}).values())) == 1, 20)
    app.control.shutdown(destination=["two@h"])
    say("finished before the end", nap.get(timeout=30))
    say("ended", ended(two))
    three = worker("three@h", "-Q", "s.control.late")
    until(lambda: "three" in names(app.control.ping(timeout=1)))
    late = naps.apply_async((3,), queue="s.control.late")
    until(lambda: (inspect.active() or {}).get("three@h"), 20)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(three.pid)], stdout=subprocess.PIPE, text=True).stdout.split()
    for pid in (three.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    three.wait()
    three = worker("four@h", "-Q", "s.control.late")
    say("given back", late.get(timeout=60))
    # Its tasks come before its remote control is there.
    until(lambda: "four" in names(app.control.ping(timeout=1)))
    app.control.shutdown()
    say("all ended", (ended(one), ended(three)))
finally:
    for process in workers:
        if process.poll() is None:
            process.kill()
    with app.connection_for_write() as write:
        channel = write.channel()
        for name in ("s.control", "s.control.two", "s.control.extra", "s.control.late", "s.control.multi", "s.control.purge"):
            channel.queue_delete(name)
    shutil.rmtree(place, ignore_errors=True)
