"""What cargo-deny would say of licences, bans and sources, where it is not installed: deny.toml against `cargo metadata`."""

import json
import re
import subprocess
import sys
import tomllib


def satisfied(expression, allowed):
    """An SPDX expression, with / as the old way to write OR and exceptions taken with their licence."""
    expression = re.sub(r"\s+WITH\s+[\w.-]+", "", expression.replace("/", " OR "))
    words = re.findall(r"\(|\)|[\w.+-]+", expression)
    python = [{"OR": "or", "AND": "and"}.get(w, w if w in "()" else str(w in allowed)) for w in words]
    return eval(" ".join(python), {"__builtins__": {}})


def main():
    with open("deny.toml", "rb") as file:
        deny = tomllib.load(file)
    out = subprocess.run(["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"],
                         capture_output=True, text=True, check=True)
    metadata = json.loads(out.stdout)
    reached = {node["id"] for node in metadata["resolve"]["nodes"]}
    allowed = set(deny["licenses"]["allow"])
    banned = {entry.get("crate", entry.get("name")) for entry in deny["bans"].get("deny", [])}
    registries = {p["source"] for p in metadata["packages"] if p["source"]}
    problems = []
    for package in metadata["packages"]:
        if package["id"] not in reached:
            continue
        name = f'{package["name"]} {package["version"]}'
        if package["name"] in banned:
            problems.append(f"{name} is banned")
        if package["source"] and not package["source"].startswith("registry+"):
            problems.append(f'{name} comes from {package["source"]}')
        if not package["license"] or not satisfied(package["license"], allowed):
            problems.append(f'{name} is under {package["license"]}')
    if len(registries) > 1:
        problems.append(f"more than one registry: {sorted(registries)}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(reached)} packages, {len(problems)} problems")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
