"""Interleaved rounds A B C A B C …, medians with the least and the most, ratios; Markdown on standard output, JSON in benches/out."""

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import messages
import targets
from parties import BIN, HERE, Contender, NullBroker, Rabbit, Relay, contenders
from system import CORES, OTHER_CORE, PROXY_CORE, Child, machine, turned_away

MAIN = ["direct", "haproxy", "umbel", "umbel-policy", "umbel-10k", "umbel-durable", "umbel-compress"]
NULL, MUTE, REAL, FAR = "null", "mute", "rabbit", "far"


class Scenario:
    """`load`: arguments of the load generator; `figures`: which of its numbers, and what the system counted, make the table."""

    def __init__(self, name, what, broker, load, names=None, figures=("proxy_us", "broker_us", "rate"), one_core=False, before=None, message=None, fresh=False, base="haproxy", rest=0):
        self.name, self.what, self.broker, self.load, self.names = name, what, broker, load, names
        self.figures, self.one_core, self.before, self.message, self.fresh, self.base, self.rest = figures, one_core, before, message, fresh, base, rest
        self.rounds = None

    def trimmed(self, names, rounds, load):
        """As the targets need it."""
        self.names, self.rounds, self.load = names, rounds, {**self.load, **load}
        return self


def scenarios(quick):
    n = 4 if quick else 1
    plain = ["direct", "haproxy", "umbel", "umbel-policy"]
    publish = lambda count, **more: {"mode": "publish", "count": count // n, "warm": 5000, **more}
    return [
        Scenario("publish-1k", "1 KB, 1 connection, window 1000", NULL, publish(400_000, connections=1, window=1000), message="1k"),
        Scenario("publish-1k-50", "1 KB, 50 connections, window 1000", NULL, publish(400_000, connections=50, window=1000), message="1k"),
        Scenario("small", "small publishes, no confirms asked, 1 connection", NULL, publish(2_000_000, connections=1), plain, message="small"),
        Scenario("small-confirmed", "small publishes, 1 connection, window 10,000", NULL, publish(2_000_000, connections=1, window=10_000), [*plain, "umbel-durable"], message="small"),
        Scenario("publish-64k", "bodies of 64 KiB, 1 connection, window 100", NULL, publish(40_000, connections=1, window=100, warm=500), plain, message="64k"),
        Scenario("latency", "one confirmed publish at a time, everything on one core", NULL, {"mode": "latency", "count": 20_000 // n}, plain,
                 ("p50_us", "p99_us"), one_core=True, message="1k"),
        Scenario("latency-durable", "the same with the durable spool, cores apart", NULL, {"mode": "latency", "count": 2_000 // n}, ["direct", "haproxy", "umbel", "umbel-durable"],
                 ("p50_us", "p99_us"), message="1k"),
        Scenario("paced", "5,000 publishes a second over 50 connections", NULL, {"mode": "paced", "rate": 5000, "seconds": 3 / n, "connections": 50}, plain,
                 ("proxy_us", "broker_us"), message="1k"),
        Scenario("fair", "one client's publish a millisecond, quiet", NULL, {"mode": "beside", "seconds": 2 / n}, plain, ("p50_us", "p99_us"), message="1k"),
        Scenario("fair-flood", "the same beside a flood", NULL, {"mode": "beside", "seconds": 2 / n}, plain, ("p50_us", "p99_us"), message="1k", before="flood"),
        Scenario("fair-herd", "the same for the second in which 9,000 others connect at once", NULL, {"mode": "beside", "seconds": 1}, plain, ("p50_us", "p99_us", "max_us"), message="1k",
                 before="herd", fresh=True),
        Scenario("idle", "an idle connection with one channel, octets", NULL, {"mode": "idle", "connections": 2000}, ["haproxy", "umbel"], ("memory",), fresh=True),
        Scenario("idle-producer", "the same after one confirmed publish each", NULL, {"mode": "idle", "connections": 2000, "publish": 1, "seconds": 8},
                 ["haproxy", "umbel"], ("memory",), message="1k", fresh=True),
        Scenario("burst", "a burst over 50 connections, window 10,000: memory at its height, and three seconds after they are gone", NULL,
                 publish(1_000_000, connections=50, window=10_000), ["haproxy", "umbel", "umbel-policy"], ("peak", "after"), message="1k", fresh=True, rest=3),
        Scenario("storm", "10,000 clients at once", NULL, {"mode": "storm", "connections": 10_000}, ["direct", "umbel"],
                 ("seconds", "turned_away", "lost", "upstream_connections", "proxy_ms"), fresh=True),
        Scenario("storm-9k", "9,000 (HAProxy needs two files for each, and a process may have 20,000 where this was written)", NULL,
                 {"mode": "storm", "connections": 9_000}, ["direct", "haproxy", "umbel"], ("seconds", "turned_away", "lost", "proxy_ms"), fresh=True),
        Scenario("spool", "small publishes that only the spool acknowledges, window 10,000", MUTE, publish(400_000, connections=1, window=10_000), ["umbel-durable"],
                 ("rate", "proxy_us"), message="small", fresh=True),
        Scenario("spool-1k", "the same with 1 KB", MUTE, publish(100_000, connections=1, window=10_000), ["umbel-durable"], ("rate", "proxy_us"), message="1k", fresh=True),
        Scenario("spool-latency", "one publish at a time that only the spool acknowledges (µs), beside one fsync of the same disk", MUTE,
                 {"mode": "latency", "count": 2_000 // n, "warm": 50}, ["fsync", "umbel-durable"], ("p50_us", "p99_us"), message="1k", fresh=True),
        Scenario("rabbit", "RabbitMQ, durable queue, window 10,000", REAL, publish(40_000, connections=1, window=10_000, warm=2000), ["direct", "haproxy", "umbel", "umbel-policy"],
                 ("rate", "proxy_us", "broker_us"), message="durable", before="purge", base="direct"),
        Scenario("rabbit-none", "the same, no confirms asked", REAL, publish(40_000, connections=1, warm=2000), ["direct", "haproxy", "umbel"],
                 ("rate", "proxy_us", "broker_us"), message="durable", before="purge", base="direct"),
        Scenario("cycles", "connect, publish, close against RabbitMQ", REAL, {"mode": "cycles", "parallel": 4, "seconds": 4 / n}, plain[:3],
                 ("rate", "arrived_rate", "p50_us", "broker_us"), message="durable", before="purge", base="direct"),
        Scenario("cycles-confirmed", "the same with confirms", REAL, {"mode": "cycles", "parallel": 4, "seconds": 4 / n, "confirm": 1}, [*plain[:3], "umbel-durable"],
                 ("rate", "p50_us", "broker_us"), message="durable", before="purge", base="direct"),
        Scenario("steady-confirmed", "the same confirmed publishes over connections that stay: what no cycle can be quicker than", REAL,
                 {"mode": "steady", "parallel": 4, "seconds": 4 / n}, plain[:3], ("rate", "p50_us", "broker_us"), message="durable", before="purge", base="direct"),
        Scenario("far", "connect, publish, close, broker 50 ms away", FAR, {"mode": "cycles", "parallel": 1, "seconds": 3 / n}, plain[:3], ("p50_us",), message="durable", before="purge", base="direct"),
        Scenario("far-confirmed", "the same with confirms", FAR, {"mode": "cycles", "parallel": 1, "seconds": 3 / n, "confirm": 1}, [*plain[:3], "umbel-durable"],
                 ("p50_us",), message="durable", before="purge", base="direct"),
    ]


class Stage:
    """A broker with everybody who stands in front of it."""

    def __init__(self, directory, kind, names):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.kind, self.relay = directory, kind, None
        self.broker = Rabbit(directory) if kind in (REAL, FAR) else NullBroker(directory, *(["--mute"] if kind == MUTE else []))
        front = self.broker.port
        if kind == FAR:
            self.relay = Relay(directory, self.broker.port, 50)
            front = self.relay.port
        self.front = front
        self.contenders = contenders(names, directory, front)
        if kind in (NULL, MUTE):
            self.files = messages.write(directory / "messages")
        else:
            path = directory / "durable.bin"
            publishes = [messages.task(n, 1024, b"bench") for n in range(messages.NAMES)]
            path.write_bytes(b"".join(publishes))
            self.files = {"durable": (path, len(publishes[0]))}

    def find(self, name):
        if name == "fsync":
            return Contender("fsync", 0)
        return next(c for c in self.contenders if c.name == name)

    def stop(self):
        for c in self.contenders:
            c.stop()
        if self.relay:
            self.relay.stop()
        self.broker.stop()


class Load:
    """One run of the generator: `ready` … its JSON."""

    def __init__(self, stage, scenario, contender, options, core):
        argv = [BIN / "load", "--to", contender.address]
        for key, value in options.items():
            argv += [f"--{key}", value]
        if scenario.message:
            path, size = stage.files[scenario.message]
            argv += ["--message", path, "--size", size]
        if options["mode"] == "publish" and stage.kind == NULL:
            argv += ["--control", stage.broker.control]
        elif options["mode"] == "cycles" or (options["mode"] == "publish" and not options.get("window")):
            argv += ["--queue", "bench", "--broker", f"127.0.0.1:{stage.broker.port}"]
        self.child = Child(argv, core, stage.directory / "load.log", pipes=True)

    def line(self):
        line = self.child.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended: {self.child.tail()}")
        return line.strip()

    def ready(self):
        line = self.line()
        if line != "ready":
            raise RuntimeError(line)

    def go(self):
        self.child.popen.stdin.write("go\n")
        self.child.popen.stdin.flush()

    def end(self):
        self.child.popen.stdin.close()
        self.child.popen.wait(30)


def fsyncs(directory, count):
    """What one fsync of a kilobyte takes here, appended to a file as the spool's log is."""
    times = []
    with open(directory / "fsync", "ab", buffering=0) as file:
        for _ in range(count):
            file.write(b"x" * 1024)
            start = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - start) * 1e6)
    times.sort()
    return {"p50_us": times[len(times) // 2], "p99_us": times[len(times) * 99 // 100]}


# Who else is there while one client is looked at.
CROWDS = {
    "flood": ("1k", {"mode": "publish", "count": 400_000_000, "connections": 4, "window": 1000}),
    "herd": (None, {"mode": "storm", "connections": 9_000}),
}


def measure(stage, scenario, contender):
    """One round of one contender: numbers by name."""
    if contender.name == "fsync":
        return fsyncs(stage.directory, 500)
    core = PROXY_CORE if scenario.one_core else OTHER_CORE
    for process in stage.broker.processes():
        process.pin(core)
    if scenario.before == "purge":
        prepare = Child([BIN / "load", "--mode", "prepare", "--to", f"127.0.0.1:{stage.broker.port}", "--queue", "bench"], OTHER_CORE, stage.directory / "load.log")
        prepare.popen.wait(60)
    crowd = None
    if scenario.before in CROWDS:
        message, options = CROWDS[scenario.before]
        crowd = Load(stage, Scenario("", "", NULL, {}, message=message), contender, options, OTHER_CORE)
        crowd.ready()
    if scenario.before == "flood":
        crowd.go()
        time.sleep(0.3)
    load = Load(stage, scenario, contender, scenario.load, core)
    try:
        load.ready()
        processes = {"proxy": [contender.child] if contender.child else [], "broker": stage.broker.processes(), "load": [load.child]}
        cpu = {k: sum(p.cpu_ns() for p in ps) for k, ps in processes.items()}
        rss = contender.child.rss() if contender.child else 0
        counts = stage.broker.counts() if stage.kind == NULL else {}
        knocks = turned_away()
        load.go()
        if scenario.before == "herd":
            crowd.go()
        line = load.line()
        extra = {}
        if line == "ready":
            # Everybody is connected and stays until we say so.
            extra["turned_away"] = turned_away() - knocks
            extra["proxy_ms"] = (sum(p.cpu_ns() for p in processes["proxy"]) - cpu["proxy"]) / 1e6
            extra["memory"] = ((contender.child.rss() if contender.child else 0) - rss) / max(int(scenario.load["connections"]), 1)
            extra["upstream_connections"] = stage.broker.counts()["open"]
            load.go()
            line = load.line()
        result = json.loads(line)
        if "error" in result:
            raise RuntimeError(result["error"])
        used = {k: sum(p.cpu_ns() for p in ps) - cpu[k] for k, ps in processes.items()}
        if stage.kind == NULL:
            after = stage.broker.counts()
            reads = after["reads"] - counts["reads"]
            result["broker_read_bytes"] = (after["bytes"] - counts["bytes"]) / max(reads, 1)
            result["routed"] = after["routed"] - counts["routed"]
        count = max(result.get("count", 1), 1)
        for k, ns in used.items():
            result[f"{k}_us"] = ns / count / 1000
        if scenario.rest and contender.child:
            load.end()
            time.sleep(scenario.rest)
            result |= {"peak": contender.child.rss("VmHWM") - rss, "after": contender.child.rss() - rss}
        return {**result, **extra}
    finally:
        load.end()
        if crowd:
            crowd.child.stop()


def rounds(stage, scenario, number):
    names = [n for n in (scenario.names or MAIN) if n == "fsync" or any(c.name == n for c in stage.contenders)]
    results = {name: [] for name in names}
    for i in range(number):
        for name in names:
            contender = stage.find(name)
            try:
                # Memory that an earlier burst left behind would hide what a connection takes, and a window that it left full would slow it.
                if scenario.fresh and contender.child:
                    contender = contenders([name], stage.directory, stage.front)[0]
                result = measure(stage, scenario, contender)
                results[name].append(result)
            except Exception as why:
                print(f"{scenario.name} {name} round {i + 1}: {why}", file=sys.stderr)
                continue
            finally:
                if scenario.fresh and contender is not stage.find(name):
                    contender.stop()
            shown = " ".join(f"{f}={result[f]:.3f}" for f in scenario.figures if f in result)
            print(f"{scenario.name} {name} round {i + 1}: {shown}", file=sys.stderr, flush=True)
    return results


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def digits(x):
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.2f}" if abs(x) >= 1 else f"{x:.3f}"


UNITS = {
    "proxy_us": "proxy, µs a message", "broker_us": "broker, µs a message", "rate": "a second", "arrived_rate": "a second, until all has arrived", "p50_us": "p50, µs", "p99_us": "p99, µs", "max_us": "longest, µs", "memory": "octets", "peak": "octets more at its height", "after": "octets more afterwards",
    "seconds": "s", "lost": "lost", "turned_away": "knocked in vain", "proxy_ms": "proxy, ms in all", "upstream_connections": "upstream connections",
}


def table(scenario, results):
    """Markdown: median (least–most), and the ratio to `base`, or to whoever else there is to compare with."""
    figures = [f for f in scenario.figures if any(f in r for rs in results.values() for r in rs)]
    if scenario.broker == NULL and "rate" in figures:
        figures.append("broker_read_bytes")
    lines = [f"\n### {scenario.name}: {scenario.what}\n", "| | " + " | ".join(UNITS.get(f, f) for f in figures) + " |", "|---" * (len(figures) + 1) + "|"]
    out = {}
    for name, rs in results.items():
        cells = []
        for f in figures:
            values = [r[f] for r in rs if f in r]
            if not values or (f == "proxy_us" and name == "direct"):
                cells.append("–")
                continue
            s = summary(values)
            out.setdefault(name, {})[f] = s
            base = None
            for rival in (scenario.base, "haproxy", "direct", "fsync"):
                if out.get(rival, {}).get(f, {}).get("median"):
                    base = out[rival][f]["median"]
                    break
            ratio = f" · **{s['median'] / base:.2f}×**" if base and name != rival else ""
            cells.append(f"{digits(s['median'])} ({digits(s['min'])}–{digits(s['max'])}){ratio}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines), out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--targets", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--contenders", default="")
    parser.add_argument("--out", default=str(HERE / "out"))
    args = parser.parse_args()
    number = args.rounds or (3 if args.quick else 7)
    wanted = [w for w in args.only.split(",") if w]
    chosen = [s for s in scenarios(args.quick) if not wanted or s.name in wanted]
    if args.targets:
        chosen = [s.trimmed(*targets.NEEDED[s.name]) for s in chosen if s.name in targets.NEEDED]
    names = [c for c in args.contenders.split(",") if c] or MAIN
    out = Path(args.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=out))
    m = machine()
    report = [f"Measured on {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, Linux {m['kernel']}; proxy on one core, producers and broker on the other; "
              f"medians of {number} interleaved rounds (least–most), ratios to HAProxy's median; against RabbitMQ, and where HAProxy takes no part, to direct's."]
    everything = {"machine": m, "rounds": number, "date": time.strftime("%Y-%m-%d"), "scenarios": {}}
    try:
        for kind in (NULL, MUTE, REAL, FAR):
            here = [s for s in chosen if s.broker == kind]
            if not here:
                continue
            needed = [n for n in names if any(n in (s.names or MAIN) for s in here)]
            stage = Stage(work / kind, kind, needed)
            try:
                for scenario in here:
                    results = rounds(stage, scenario, min(number, scenario.rounds or number))
                    text, figures = table(scenario, results)
                    report.append(text)
                    everything["scenarios"][scenario.name] = {"what": scenario.what, "figures": figures, "raw": results}
                    (out / "results.json").write_text(json.dumps(everything, indent=1))
                    (out / "results.md").write_text("\n".join([*report, targets.table(everything["scenarios"])]) + "\n")
            finally:
                stage.stop()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("\n".join([*report, targets.table(everything["scenarios"])]))


if __name__ == "__main__":
    # 10,000 clients are 10,000 files in the producers, in Umbel, and (direct) in the broker.
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # On a machine that others use too, BENCH_NICE=-15 keeps them out of the way. Linux weighs sessions against each other first (autogroup), niceness only counts inside one.
    if os.environ.get("BENCH_NICE"):
        Path("/proc/self/autogroup").write_text(os.environ["BENCH_NICE"])
    assert len(CORES) >= 2, "two cores at least: one is the proxy's"
    main()
