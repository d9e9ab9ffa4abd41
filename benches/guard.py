"""Counts instructions a message: two runs under callgrind, their difference by the difference of their messages."""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import messages
import policies

HERE = Path(__file__).parent
BASELINE = HERE / "guard.baseline"
DRIVER = Path(os.environ.get("PURE_PATH", HERE.parent / "target" / "debug" / "examples" / "pure_path"))
# The first of these covers logging in, growth of buffers and everything learnt once.
FEW, MANY = 3_200, 9_600
GROWTH = 1.05
# Another compiler inlines otherwise: the baseline names its own, and under another one only what is gross is a failure.
GROWTH_ELSEWHERE = 1.15

# Long copies are `rep movsb` in glibc, which callgrind counts as an instruction an octet, whatever it takes: here they are loops.
ENVIRONMENT = {**os.environ, "GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=0x40000000"}

POLICY = policies.rules(20)
CASES = {
    "pass-1k": ("1k", None),
    "blank-1k": ("1k", ""),
    "policy-1k": ("1k", POLICY + policies.routes(200)),
    "policy-10k-routes-1k": ("1k", POLICY + policies.routes(10_000)),
    "pass-small": ("small", None),
    "blank-small": ("small", ""),
    "pass-64k": ("64k", None),
    "durable-1k": ("1k", "durable"),
}


def instructions(directory, name, message, size, count, config):
    argv = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/{name}-{count}.out", str(DRIVER), str(message), str(size), str(count)]
    out = subprocess.run([*argv, *([str(config)] if config else [])], capture_output=True, text=True, env=ENVIRONMENT)
    found = re.search(r"Collected : (\d+)", out.stderr)
    if out.returncode or not found:
        sys.exit(f"{name}: {out.stdout}{out.stderr}")
    return int(found[1])


def measure(directory, files, name):
    kind, toml = CASES[name]
    message, size = files[kind]
    config = None
    if toml == "durable":
        config = toml
    elif toml is not None:
        config = directory / f"{name}.toml"
        config.write_text(toml)
    divide = 8 if kind == "64k" else 1
    few, many = (instructions(directory, name, message, size, n // divide, config) for n in (FEW, MANY))
    return round((many - few) * divide / (MANY - FEW))


def main():
    keep = os.environ.get("GUARD_KEEP")
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(keep or temporary)
        directory.mkdir(exist_ok=True)
        files = messages.write(directory)
        with ThreadPoolExecutor(2) as pool:
            counted = dict(zip(CASES, pool.map(lambda name: measure(directory, files, name), CASES)))
    compiler = "# " + " ".join(subprocess.run(["rustc", "-V"], capture_output=True, text=True).stdout.split()[:2])
    if "--update" in sys.argv:
        BASELINE.write_text("".join(f"{line}\n" for line in [compiler, *(f"{name} {n}" for name, n in counted.items())]))
    first, *lines = BASELINE.read_text().splitlines() if BASELINE.exists() else [compiler]
    known = dict(line.split() for line in lines)
    growth = GROWTH if first == compiler else GROWTH_ELSEWHERE
    grown = []
    print(f"{'instructions a message':24} {'now':>8} {'baseline':>9}")
    for name, n in counted.items():
        before = int(known.get(name, 0))
        share = f"{n / before - 1:+.1%}" if before else "new"
        print(f"{name:24} {n:8} {before:9} {share}")
        if before and n > before * growth:
            grown.append(name)
    if grown:
        sys.exit(f"grown by more than {growth - 1:.0%}: {', '.join(grown)}")


if __name__ == "__main__":
    main()
