"""Prints the recorded answers as a Markdown table: `table.py hostile_rabbitmq_3_10.json`."""
import json
import sys

import hostile


def rows(recorded):
    stage = {c.name: c.stage for c in hostile.CASES}
    for name, seen in recorded.items():
        answers = " ; ".join(seen["answers"]) or "-"
        yield "| %s | %s | %s | %s |" % (stage.get(name, "?"), name, answers.replace("|", "\\|"), seen["end"])


if __name__ == "__main__":
    print("| from | input | answer | then |\n|---|---|---|---|")
    for row in rows(json.load(open(sys.argv[1]))):
        print(row if len(row) < 420 else row[:400] + "… |")
