"""A scenario is a function of a World; `@scenario` gives it its row in the table, what is expected of it, and where it belongs."""

import importlib
import pkgutil
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Expect:
    """What must hold through Umbel. None: not promised (say why in the scenario's docstring) or not meant."""

    accepted: int = 100           # at least: else nothing was tested
    lost: int | None = 0
    duplicated: object = "resent"  # "resent": no more than Umbel says it sent again; or a number
    reordered: int | None = 0     # beside what `World.looks_what_survived` explains
    corrupted: int = 0
    unknown: int = 0
    exceptions: int | None = 0    # that producers saw
    slowest: float | None = 1.0   # seconds of the longest publish call: py-amqp's kernel gives up after that
    recovery: float | None = 10.0  # seconds from the end of the fault until nothing more waits than usual
    memory: float = 160.0         # MiB, resident, at the most
    ledger: bool = True           # accepted = forwarded + spooled + refused + expired
    paused: float = 2.0           # seconds that clients were left unread, all slices of less than half a second together: on a busy machine some


@dataclass
class Scenario:
    name: str
    title: str
    about: str
    function: object
    rows: tuple                   # of the list of faults in FAULTS.md
    expect: Expect
    short: bool
    direct: bool
    group: str
    repeat: int = 1
    needs: tuple = field(default_factory=tuple)


ALL = {}


def scenario(title, rows=(), short=False, direct=False, needs=(), **expected):
    """`title` is the fault in one line. `direct`: the same function is also run straight to the broker, for the column beside it.

    `needs`: virtual environments without which it is left out. What else is given are fields of Expect.
    """
    def mark(function):
        rows_of = (rows,) if isinstance(rows, int) else tuple(rows)
        needed = (needs,) if isinstance(needs, str) else tuple(needs)
        name = function.__name__
        assert name not in ALL, f"two scenarios are called {name}"
        ALL[name] = Scenario(name, title, (function.__doc__ or "").strip(), function, rows_of, Expect(**expected), short, direct,
                             function.__module__.rsplit(".", 1)[-1], needs=needed)
        return function
    return mark


def load_all():
    """Every scenario of every file in scenarios/, file by file."""
    import scenarios
    for found in sorted(pkgutil.iter_modules(scenarios.__path__), key=lambda m: m.name):
        importlib.import_module(f"scenarios.{found.name}")
    return ALL
