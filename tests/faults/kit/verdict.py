"""What a run was, as one row of figures, and which of its expectations do not hold."""

from dataclasses import asdict, dataclass, field

from .oracle import account
from .watch import family, ledger


@dataclass
class Row:
    """One run of one scenario, one way."""

    name: str
    way: str
    seed: int
    accepted: int = 0
    arrived: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    exceptions: int = 0
    slowest: float = 0.0
    recovery: float | None = None
    peak_mib: float | None = None
    resent: int = 0
    paused: float = 0.0
    seconds: float = 0.0
    wrong: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def as_json(self):
        return asdict(self)


def judge(scenario, world, seconds):
    """The row of a run that has settled. Directly nothing is promised: the figures stand for themselves."""
    told = account(world.loads.journals(), world.arrivals(), world.survived)
    world.stop_umbels()
    watches = list(world.watches.values())
    row = Row(scenario.name, "direct" if world.direct else "umbel", world.seed, told.accepted, told.arrived, told.lost, told.duplicated,
              told.reordered, told.corrupted, len(told.exceptions), round(told.slowest, 3), seconds=round(seconds, 1), notes=list(world.notes))
    if watches:
        row.peak_mib = round(max(w.peak_mib for w in watches), 1)
        row.resent = int(sum(family(w.last, "umbel_publishes_resent_total") for w in watches))
        row.paused = round(sum(family(w.last, "umbel_reads_paused_seconds_total") for w in watches), 3)
        if world.healed_at:
            recovered = [w.recovered for w in watches if w.healed_at and w.umbel.process is None]
            row.recovery = round(max(recovered), 1) if recovered and None not in recovered else None
    row.wrong = list(_wrong(scenario.expect, world, told, row, watches)) if not world.direct else []
    if world.away or told.lost and row.wrong:
        world.keep_evidence()
    if world.away and world.direct:
        row.notes.append(away(world))
    if told.holes:
        row.notes.append(f"{told.holes} of those reordered are holes in what the broker had kept when it was back")
    if told.exceptions:
        kinds = {}
        for text in told.exceptions:
            kind = text.split(" ")[0]
            kinds[kind] = kinds.get(kind, 0) + 1
        row.notes.append("exceptions: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    return row


def _wrong(expect, world, told, row, watches):
    """Every expectation that does not hold, in words."""
    if told.accepted < expect.accepted:
        yield f"only {told.accepted} accepted, {expect.accepted} wanted"
    if expect.lost is not None and told.lost > expect.lost:
        yield f"lost {told.lost}: {', '.join(told.lost_which[:5])}"
    most = row.resent if expect.duplicated == "resent" else expect.duplicated
    if most is not None and told.duplicated > most:
        yield f"duplicated {told.duplicated}, at most {most} allowed"
    if expect.reordered is not None and row.reordered - told.holes > expect.reordered:
        yield f"reordered {row.reordered}, {told.holes} of them by the broker"
    if expect.exceptions is not None and row.exceptions > expect.exceptions:
        yield f"exceptions {row.exceptions}: {told.exceptions[0]}"
    if told.corrupted > expect.corrupted:
        yield f"corrupted {told.corrupted}"
    if told.unknown > expect.unknown:
        yield f"{told.unknown} messages of nobody"
    if told.settled_twice:
        yield f"{told.settled_twice} numbers settled twice"
    if told.nacked_arrived:
        yield f"{told.nacked_arrived} nacked and yet arrived"
    if expect.slowest is not None and told.slowest > expect.slowest:
        yield f"a publish took {told.slowest:.2f} s"
    if world.away:
        yield away(world)
    if world.healed_at and expect.recovery is not None and (row.recovery is None or row.recovery > expect.recovery):
        yield f"recovered after {row.recovery} s, {expect.recovery:g} s allowed"
    if watches and row.peak_mib > expect.memory:
        yield f"{row.peak_mib:.0f} MiB resident, {expect.memory:.0f} allowed"
    if row.paused > expect.paused:
        yield f"clients unread for {row.paused:.2f} s"
    for watch in watches:
        accepted, *settled = ledger(watch.last)
        if expect.ledger and watch.last and accepted != sum(settled):
            yield f"ledger of {watch.umbel.name}: accepted {accepted}, forwarded + spooled + refused + expired = {settled}"
        if family(watch.last, "umbel_panics_total") or "panicked at" in watch.umbel.logged():
            yield f"{watch.umbel.name} panicked"
    for status in world.exits:
        if status != 0:
            yield f"Umbel ended with {status}"
    for what, holds in world.checks:
        if not holds:
            yield what


def away(world):
    """An absent queue is not an empty one: nothing can be said of what it had."""
    return f"at the drain the broker had no queue {', '.join(world.away)} (queues.json and its log are in {world.place.name})"
