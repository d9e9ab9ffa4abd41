"""The issue's targets: what each is a ratio of, what was measured, and whether it is met; as a Markdown table for README.md."""


def ratio(scenario, figure, of="umbel", to="haproxy", at=None):
    """One contender's median by another's; `at`: the other's scenario."""
    return lambda look: look(scenario, of, figure) / look(at or scenario, to, figure)


def plain(scenario, figure, of="umbel", per=1.0):
    return lambda look: look(scenario, of, figure) / per


# What, in what unit, (word, measure) …, bound: at most (positive) or at least (negative); None: told, not judged.
TARGETS = [
    ("processor time a publish, 1 KB, passing; 1, 50 connections", "× HAProxy", [ratio("publish-1k", "proxy_us"), ratio("publish-1k-50", "proxy_us")], 2.0),
    ("the same under 20 rules, 200 routes", "× HAProxy", [ratio("publish-1k", "proxy_us", "umbel-policy"), ratio("publish-1k-50", "proxy_us", "umbel-policy")], 2.5),
    ("10,000 routes; 1, 50 connections", "× 200 routes", [ratio("publish-1k", "proxy_us", "umbel-10k", "umbel-policy"), ratio("publish-1k-50", "proxy_us", "umbel-10k", "umbel-policy")], 1.1),
    ("the durable spool on, 1 KB, processor time", "× HAProxy", [ratio("publish-1k", "proxy_us", "umbel-durable")], None),
    ("publishes a second, 1 KB; 1, 50 connections", "× HAProxy", [ratio("publish-1k", "rate"), ratio("publish-1k-50", "rate")], -0.8),
    ("small publishes (81 octets) a second", "× HAProxy", [ratio("small-confirmed", "rate")], -0.8),
    ("bodies of 64 KiB, processor time", "× HAProxy", [ratio("publish-64k", "proxy_us")], 1.3),
    ("a durable queue of RabbitMQ, window 10,000, a second", "× direct", [ratio("rabbit", "rate", to="direct")], -0.97),
    ("the same beside direct without confirms: what safety costs", "× direct", [ratio("rabbit", "rate", to="direct", at="rabbit-none")], None),
    ("latency of a confirmed publish, one core, p50, p99", "× HAProxy", [ratio("latency", "p50_us"), ratio("latency", "p99_us")], 1.15),
    ("the broker's own processor time, 1 KB; 1, 50 connections", "× HAProxy", [ratio("publish-1k", "broker_us"), ratio("publish-1k-50", "broker_us")], 1.0),
    ("paced, 5,000 a second over 50 connections, processor time", "× HAProxy", [ratio("paced", "proxy_us")], 1.2),
    ("connect, publish, close on RabbitMQ, a second; until all has arrived", "× direct", [ratio("cycles", "rate", to="direct"), ratio("cycles", "arrived_rate", to="direct")], -6),
    ("the broker's processor time a cycle", "× direct", [ratio("cycles", "broker_us", to="direct")], 0.1),
    ("the same two with confirms", "× direct", [ratio("cycles-confirmed", "rate", to="direct"), ratio("cycles-confirmed", "broker_us", to="direct")], None),
    ("the same where the durable spool confirms", "× direct", [ratio("cycles-confirmed", "rate", "umbel-durable", "direct"), ratio("cycles-confirmed", "broker_us", "umbel-durable", "direct")], None),
    ("the same publishes, direct, over connections that stay: what a cycle that waits for RabbitMQ cannot better", "× direct's cycles",
     [ratio("steady-confirmed", "rate", "direct", "direct", at="cycles-confirmed"), ratio("steady-confirmed", "broker_us", "direct", "direct", at="cycles-confirmed")], None),
    ("a cycle with the broker 50 ms away, p50", "ms", [plain("far", "p50_us", per=1000)], 3),
    ("the same with confirms", "ms", [plain("far-confirmed", "p50_us", per=1000)], 55),
    ("the same where the durable spool confirms", "ms", [plain("far-confirmed", "p50_us", "umbel-durable", per=1000)], 5),
    ("memory an idle connection, after a publish", "octets", [plain("idle-producer", "memory")], 8192),
    ("memory that a burst over 50 connections leaves, and takes at its height", "MB", [plain("burst", "after", per=1e6), plain("burst", "peak", per=1e6)], None),
    ("10,000 clients at once, all logged in", "s", [plain("storm", "seconds")], 3),
    ("their upstream links", "links", [plain("storm", "upstream_connections")], None),
    ("durable, small publishes accepted", "a second", [plain("spool", "rate", "umbel-durable")], -100_000),
    ("durable, 1 KB accepted", "a second", [plain("spool-1k", "rate", "umbel-durable")], None),
    ("durable, one acked publish, p99", "× one fsync's p99", [ratio("spool-latency", "p99_us", "umbel-durable", "fsync")], 2.0),
    ("one client's p99 beside a flood", "× its own, quiet", [ratio("fair-flood", "p99_us", to="umbel", at="fair")], 3.0),
    ("HAProxy's of the same", "× its own, quiet", [ratio("fair-flood", "p99_us", "haproxy", "haproxy", at="fair")], None),
]

# What the targets need, in a quarter of the hour that everything takes: who takes part, at most how many rounds, and what is shorter.
NEEDED = {
    "publish-1k": (["haproxy", "umbel", "umbel-policy", "umbel-10k", "umbel-durable"], None, {}),
    "publish-1k-50": (["haproxy", "umbel", "umbel-policy", "umbel-10k"], None, {}),
    "small-confirmed": (["haproxy", "umbel"], None, {}),
    "publish-64k": (["haproxy", "umbel"], None, {"count": 20_000}),
    "latency": (["haproxy", "umbel"], None, {}),
    "paced": (["haproxy", "umbel"], None, {"seconds": 1.5}),
    "fair": (["haproxy", "umbel"], None, {"seconds": 1.5}),
    "fair-flood": (["haproxy", "umbel"], None, {"seconds": 1.5}),
    "idle-producer": (["umbel"], 2, {}),
    "burst": (["umbel"], 2, {}),
    "storm": (["umbel"], None, {}),
    "spool": (["umbel-durable"], None, {}),
    "spool-1k": (["umbel-durable"], None, {}),
    "spool-latency": (["fsync", "umbel-durable"], None, {"count": 500}),
    "rabbit": (["direct", "umbel"], None, {"count": 30_000}),
    "rabbit-none": (["direct"], None, {"count": 30_000}),
    "cycles": (["direct", "umbel"], None, {"seconds": 2}),
    "cycles-confirmed": (["direct", "umbel", "umbel-durable"], None, {"seconds": 2}),
    "steady-confirmed": (["direct"], None, {"seconds": 2}),
    "far": (["umbel"], 5, {"seconds": 1}),
    "far-confirmed": (["umbel", "umbel-durable"], 5, {"seconds": 1.5}),
}


def shown(x):
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def met(values, bound):
    if bound is None:
        return "–"
    good = [v <= bound if bound > 0 else v >= -bound for v in values]
    return "met" if all(good) else "missed" if not any(good) else "in part"


def table(scenarios):
    """Of what was measured, by scenario; what was not is left out."""

    def look(scenario, contender, figure):
        return scenarios[scenario]["figures"][contender][figure]["median"]

    lines = ["\n### Targets\n", "| | measured | target | |", "|---|---|---|---|"]
    for what, unit, measures, bound in TARGETS:
        try:
            values = [measure(look) for measure in measures]
        except KeyError:
            continue
        goal = "" if bound is None else f"{'≤' if bound > 0 else '≥'} {shown(abs(bound))}"
        lines.append(f"| {what} | {'; '.join(map(shown, values))} {unit} | {goal} | {met(values, bound)} |")
    return "\n".join(lines)
