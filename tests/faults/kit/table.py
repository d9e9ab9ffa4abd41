"""The rows as a Markdown table, one line a scenario, the direct run beside it."""

COLUMNS = ["#", "scenario", "accepted", "arrived", "lost", "dup", "reord", "corrupt", "exc", "longest call", "recovery", "RSS", "verdict", "direct: accepted, **lost**, exc, longest call"]


def markdown(scenarios, rows, heading):
    """`rows`: {(name, way): Row as a dictionary}"""
    out = [heading, "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    group = None
    for scenario in scenarios:
        row, direct = rows.get((scenario.name, "umbel")), rows.get((scenario.name, "direct"))
        if row is None:
            continue
        if scenario.group != group:
            group = scenario.group
            out.append(f"| | **{group}** |" + " |" * (len(COLUMNS) - 2))
        out.append("| " + " | ".join(_cells(scenario, row, direct)) + " |")
    notes = [f"- `{s.name}`: {'; '.join(rows[s.name, way]['notes'])}" + (" (direct)" if way == "direct" else "")
             for s in scenarios for way in ("umbel", "direct") if rows.get((s.name, way), {}).get("notes")]
    if notes:
        out += ["", "Measured beside it:", "", *notes]
    return "\n".join(out) + "\n"


def _cells(scenario, row, direct):
    numbers = ", ".join(map(str, scenario.rows))
    verdict = "holds" if not row["wrong"] else "**" + "; ".join(row["wrong"]).replace("|", "/") + "**"
    yield numbers
    yield f"{scenario.title} (`{scenario.name}`)"
    for name in ("accepted", "arrived", "lost", "duplicated", "reordered", "corrupted", "exceptions"):
        yield str(row[name])
    yield f"{row['slowest'] * 1000:.0f} ms"
    yield "–" if row["recovery"] is None else f"{row['recovery']:.1f} s"
    yield "–" if row["peak_mib"] is None else f"{row['peak_mib']:.0f} MiB"
    yield verdict
    yield "" if direct is None else f"{direct['accepted']}, **{direct['lost']}**, {direct['exceptions']}, {direct['slowest'] * 1000:.0f} ms"
