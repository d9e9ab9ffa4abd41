"""An eye on an Umbel while it is in trouble: its memory, what waits in it, and when that was gone again."""

import re
import threading
import time
from pathlib import Path

EVERY = 0.1
BACKLOG_OF_NORMAL_TIMES = 150  # messages that wait for a confirm when nothing is wrong, under the loads of this suite


def _memory(pid, line):
    try:
        return int(re.search(line + r":\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024
    except (OSError, TypeError):
        return 0.0


class Watch:
    """Of one Umbel, over all its lives."""

    def __init__(self, umbel):
        self.umbel = umbel
        self.peak_mib, self.most_waiting, self.most_spooled = 0.0, 0, 0
        self.healed_at = self.recovered = None
        self.last = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._over.wait(EVERY):
            process = self.umbel.process
            if process is None or not process.alive():
                continue
            self.peak_mib = max(self.peak_mib, _memory(process.pid, "VmHWM"))
            metrics = self.umbel.metrics()
            if metrics:
                self._look(metrics)

    def _look(self, metrics):
        self.last = metrics
        waiting = int(in_flight(metrics) + metrics.get("umbel_spool_messages", 0))
        self.most_waiting = max(self.most_waiting, waiting)
        self.most_spooled = max(self.most_spooled, int(metrics.get("umbel_spool_messages", 0)))
        healed_at = self.healed_at
        if healed_at and self.recovered is None and waiting <= BACKLOG_OF_NORMAL_TIMES:
            self.recovered = time.monotonic() - healed_at

    def heal(self):
        """The fault is over: `recovered` will be the seconds from now until nothing more waits than usual."""
        self.healed_at, self.recovered = time.monotonic(), None

    def end(self, last=None):
        """No more looks but the last one: a scenario may be over before the next would have been."""
        self._over.set()
        self._thread.join(5)
        if last:
            self._look(last)


def family(metrics, name):
    return sum(value for key, value in metrics.items() if key.split("{")[0] == name)


def ledger(metrics):
    """(accepted, forwarded, spooled, refused, expired): the first is the sum of the others once nothing is in flight."""
    return tuple(int(family(metrics, f"umbel_publishes_{word}_total")) for word in ("accepted", "forwarded", "spooled", "refused", "expired"))


def in_flight(metrics):
    accepted, *settled = ledger(metrics)
    return accepted - sum(settled)
