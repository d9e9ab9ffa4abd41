"""Prints the recorded answers as a Markdown table: `table.py` (RabbitMQ's), `table.py target/suites/hostile_umbel.json` (both)."""
import json
import sys
from pathlib import Path

import hostile
from stricter import STRICTER, verdict

RECORDED = json.loads((Path(__file__).parent / "hostile_rabbitmq_3_10.json").read_text())


def said(answer):
    text = " ; ".join(answer["answers"]) or "nothing"
    text = text if len(text) < 300 else text[:280] + "…"
    return (text + ", then " + answer["end"]).replace("|", "\\|")


def rows(seen):
    for case in hostile.CASES:
        yield "| %s | %s | %s |" % (case.stage, case.name, said(RECORDED[case.name])) + (
            "" if seen is None else " %s |" % ours(case.name, seen[case.name]))


def ours(name, seen):
    found = verdict(name, seen, RECORDED[name])
    if found == "same":
        return "the same"
    reason = {"own words": "the same scope and code, in words of our own", "overtakes": "the refusal comes first",
              "stricter": STRICTER.get(name, [""])[0], None: "**differs**"}[found]
    return "%s (%s)" % (said(seen), reason)


if __name__ == "__main__":
    umbel = json.load(open(sys.argv[1])) if len(sys.argv) > 1 else None
    head = ["when", "input", "RabbitMQ 3.10"] + (["Umbel"] if umbel else [])
    print("| %s |\n|%s" % (" | ".join(head), "---|" * len(head)))
    for row in rows(umbel):
        print(row)
