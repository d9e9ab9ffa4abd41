"""Runs the hostile cases against one address and writes down what came back: `record.py PORT FILE.json`."""
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import hostile
import wire
from wire import Gone, Wire, method


def topology(port):
    """What the cases lean on. The connection returned owns `h.exclusive` and consumes from `h.used`; keep it open."""
    w = Wire(port).login()
    w.channel(1)
    w.call(1, "exchange.declare", exchange="h.direct", type="direct")
    w.call(1, "exchange.declare", exchange="h.internal", type="fanout", internal=True)
    w.call(1, "queue.declare", queue="h.q", durable=True)
    w.call(1, "queue.bind", queue="h.q", exchange="h.direct", routing_key="k")
    w.call(1, "queue.declare", queue="h.c", durable=True)
    w.call(1, "queue.declare", queue="h.args", durable=True, arguments={"x-max-length": 5})
    w.call(1, "queue.declare", queue="h.exclusive", exclusive=True)
    w.call(1, "queue.declare", queue="h.used", exclusive=False, auto_delete=True)
    w.call(1, "basic.consume", queue="h.used", consumer_tag="owner")
    w.call(1, "queue.declare", queue="h.full", durable=True)
    w.call(1, "queue.purge", queue="h.full")
    w.send(wire.message(1, b"full", routing_key="h.full"))
    w.call(1, "queue.declare", queue="h.full", passive=True)
    return w


def lasting(case):
    """Whether the case may leave or take something that another case would see."""
    return any(isinstance(s, bytes) and any(n in s for n in (b"h.tmp", b"h.x", b"h.full", b"h.quorum")) for s in case.steps)


def tidy(port, queues=("h.tmp", "h.quorum"), exchanges=("h.x",)):
    with Wire(port).login() as w:
        w.channel(1)
        for q in queues:
            w.call(1, "queue.delete", queue=q)
        for x in exchanges:
            w.call(1, "exchange.delete", exchange=x)


def clear(port):
    """Leave nothing behind."""
    tidy(port, ("h.q", "h.c", "h.args", "h.full", "h.tmp", "h.quorum"), ("h.direct", "h.internal", "h.x"))


def prepare(case, port):
    w = Wire(port, timeout=30)
    stage, client = case.stage, case.client or wire.CLIENT
    if stage in (hostile.OPEN, hostile.CHANNEL):
        w.login(client=client)
        if stage == hostile.CHANNEL:
            w.channel(1)
    elif stage != hostile.RAW:
        w.start()
        if stage in (hostile.TUNE, hostile.TUNED):
            w.send(hostile.start_ok(client))
            w.expect("connection.tune")
        if stage == hostile.TUNED:
            w.send(hostile.tune_ok())
    return w


def run(case, port, hoped=None):
    """The answers as sentences, and how it ended: `alive`, `silent`, or `closed`.

    Where fewer than are hoped for have come, and where nobody knows how many will (None), it waits longer.
    """
    hope = len(hoped["answers"]) if hoped else 0
    w = prepare(case, port)
    probing = case.probe and case.stage in (hostile.OPEN, hostile.CHANNEL)
    answers = []
    try:
        for step in case.steps:
            if step == "half-close":
                w.sock.shutdown(socket.SHUT_WR)
            elif isinstance(step, bytes):
                w.send(step)
            elif callable(step):
                for part in step():
                    w.send(part)
            else:
                time.sleep(step)
        probe = method(hostile.PROBE, "channel.open")
        end, quiet = "silent", case.quiet
        if probing:
            w.send(probe)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if hoped and end == hoped["end"] != "closed" and len(answers) >= hope:
                    quiet = min(quiet, 1.0)
                kind, channel, data = w.frame(3 if end == "alive" and len(answers) < hope else quiet)
            except TimeoutError:
                break
            if kind == wire.HEARTBEAT:
                continue
            line = wire.sentence(kind, channel, data)
            if probing and channel == hostile.PROBE and line.startswith("ch%d channel.open-ok" % hostile.PROBE):
                end = "alive"
                # What a publish made the broker say may come a little after the probe's answer.
                probing, quiet = False, 0.2 if hoped else 1.0
                continue
            if kind == wire.METHOD and line.startswith("ch0 connection.close "):
                w.send(method(0, "connection.close-ok"))
                end, quiet = "silent", 5.0
            elif kind == wire.METHOD and " channel.close " in line:
                w.send(method(channel, "channel.close-ok"))
            answers.append(line)
    except Gone:
        end = "closed"
    except OSError as e:
        end = "closed" if isinstance(e, (BrokenPipeError, ConnectionResetError)) else "oserror %s" % e
    finally:
        w.close()
    return {"answers": fold(answers), "end": end}


def fold(lines):
    """Long runs of the same answer on many channels become one line."""
    if len(lines) <= 20:
        return lines
    kinds = {}
    for line in lines:
        kind = line.split(" ", 1)[1] if " " in line else line
        kinds[kind] = kinds.get(kind, 0) + 1
    return ["%d times: %s" % (n, k) for k, n in kinds.items()]


def record(port, names=None, workers=12, topology_port=None, hopes=None):
    """All cases (or those named) against a port. What they lean on is made at `topology_port`, the broker's own where it differs."""
    topology_port = topology_port or port
    owner = topology(topology_port)
    cases = [c for c in hostile.CASES if names is None or c.name in names]
    alone = [c for c in cases if lasting(c)]
    with ThreadPoolExecutor(workers) as pool:
        results = dict(zip([c.name for c in cases], pool.map(lambda c: None if lasting(c) else safe(c, port, hopes), cases)))
    for c in alone:
        results[c.name] = safe(c, port, hopes)
        tidy(topology_port)
    owner.close()
    time.sleep(0.5)
    clear(topology_port)
    return results


def safe(case, port, hopes):
    try:
        return run(case, port, (hopes or {}).get(case.name))
    except Exception as e:  # a case that cannot even start is an answer too
        return {"answers": [], "end": "failed: %r" % e}


if __name__ == "__main__":
    out = record(int(sys.argv[1]))
    with open(sys.argv[2], "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")
    print(len(out), "cases")
