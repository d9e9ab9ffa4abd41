"""A machine that misbehaves under one Umbel: its disk answers EIO, its wall clock jumps (kit/shim.c, preloaded)."""

import hashlib
import mmap
import os
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
PAGE = struct.Struct("=qII")  # as in shim.c: clock_ns, fails, failed
WRITES, SYNCS, READS = 1, 2, 4


def built(place):
    """The library, compiled where it is not there yet."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = Path(place) / f"shim-{digest}.so"
    if not library.exists():
        draft = library.with_suffix(f".{os.getpid()}")
        done = subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", draft, SOURCE, "-ldl"], capture_output=True, text=True)
        assert done.returncode == 0, f"no shim: {done.stderr}"
        draft.replace(library)
    return library


class Shim:
    """`env` is for an Umbel; what is set here counts at once, in every life of it. `below`: the directory on the bad disk."""

    def __init__(self, place, below=""):
        file = Path(place) / "shim.page"
        file.write_bytes(bytes(mmap.PAGESIZE))
        with open(file, "r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), 0)
        self.env = {"LD_PRELOAD": str(built(Path(place).parent)), "SHIM_PAGE": str(file), "SHIM_BELOW": str(below)}

    def jump(self, seconds):
        """The wall clock is so far from the real one."""
        struct.pack_into("=q", self._page, 0, int(seconds * 1e9))

    def fail(self, *kinds):
        """These answer EIO from now on; none: all is well."""
        struct.pack_into("=I", self._page, 8, sum(kinds))

    @property
    def failed(self):
        """Calls that have been answered EIO."""
        return PAGE.unpack_from(self._page)[2]
