"""Pure: what the producers' journals say against what the broker had. Knows no socket, no clock, no Umbel.

A journal has one line an event, written the moment it happened:

    r CHANNEL N MICROSECONDS   the call returned
    a CHANNEL N                the broker's ack came (producers with confirms)
    k CHANNEL N                its nack
    t CHANNEL N                a basic.return
    e KIND TEXT                the producer's code got an exception
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class Journal:
    """One producer's."""

    name: str
    confirms: bool = False
    returned: dict = field(default_factory=lambda: defaultdict(set))
    acked: dict = field(default_factory=lambda: defaultdict(set))
    nacked: dict = field(default_factory=lambda: defaultdict(set))
    came_back: dict = field(default_factory=lambda: defaultdict(set))
    settled_twice: int = 0
    exceptions: list = field(default_factory=list)
    slowest: float = 0.0

    @classmethod
    def read(cls, name, confirms, lines):
        self = cls(name, confirms)
        for line in lines:
            kind, *rest = line.rstrip("\n").split(" ")
            if kind == "e":
                self.exceptions.append(" ".join(rest))
                continue
            if kind not in "rakt" or len(rest) < 2 + (kind == "r"):
                continue  # a producer that was killed may leave half a line
            stream, n = f"{name}/{rest[0]}", int(rest[1])
            if kind == "r":
                self.returned[stream].add(n)
                self.slowest = max(self.slowest, int(rest[2]) / 1e6)
            elif kind == "t":
                self.came_back[stream].add(n)
            else:
                self.settled_twice += n in self.acked[stream] or n in self.nacked[stream]
                (self.acked if kind == "a" else self.nacked)[stream].add(n)
        return self

    @property
    def accepted(self):
        """{stream: numbers}: what the producer may rely on."""
        return self.acked if self.confirms else self.returned


@dataclass
class Account:
    """One run, in numbers."""

    accepted: int = 0
    arrived: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    holes: int = 0                # of those reordered: such as the broker itself left out when it died
    corrupted: int = 0
    unknown: int = 0
    nacked: int = 0
    nacked_arrived: int = 0
    settled_twice: int = 0
    exceptions: list = field(default_factory=list)
    slowest: float = 0.0
    lost_which: list = field(default_factory=list)


def account(journals, arrivals, survived=()):
    """`arrivals`: (place, (stream, n) or None where the body was not sound), in the order of each place.

    Order is asked of first arrivals only: what is sent again after a link died may come once more, later. `survived`: what a broker that
    was killed still had when it was back, before anybody sent it anything: it may have kept the hundredth and lost the ninetieth, which
    then comes again, behind it.
    """
    out = Account()
    kept, last_kept = set(), {}
    for place, which in survived:
        if which is not None:
            kept.add((place, which))
            last_kept[place, which[0]] = max(which[1], last_kept.get((place, which[0]), -1))
    seen, highest = Counter(), {}
    for place, which in arrivals:
        if which is None:
            out.corrupted += 1
            continue
        stream, n = which
        seen[which] += 1
        if seen[which] > 1:
            out.duplicated += 1
            continue
        if n < highest.get((place, stream), -1):
            out.reordered += 1
            out.holes += (place, which) not in kept and n < last_kept.get((place, stream), -1)
        highest[place, stream] = max(n, highest.get((place, stream), -1))
    out.arrived = len(seen)
    for journal in journals:
        out.exceptions += journal.exceptions
        out.slowest = max(out.slowest, journal.slowest)
        out.settled_twice += journal.settled_twice
        for stream, numbers in journal.accepted.items():
            out.accepted += len(numbers)
            missing = [n for n in sorted(numbers) if (stream, n) not in seen]
            out.lost += len(missing)
            out.lost_which += [f"{stream}:{n}" for n in missing[:20]]
        for stream, numbers in journal.nacked.items():
            out.nacked += len(numbers)
            out.nacked_arrived += sum((stream, n) in seen for n in numbers)
    names = {j.name for j in journals}
    out.unknown = sum(1 for stream, _ in seen if stream.rsplit("/", 1)[0] not in names)
    return out
