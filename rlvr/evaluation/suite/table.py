"""The suite as a table in Markdown, and as one radar.

write_atomically(out / "suite.svg", radar(document).encode())
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from math import pi
from typing import Any

import matplotlib
from matplotlib.figure import Figure

LINES = {"in_distribution": "like training", "shifted": "shifted", "shortcut": "best shortcut"}
COLOURS = {"in_distribution": "#0b6e99", "shifted": "#d9730d", "shortcut": "#9b9a97"}


def markdown(document: Mapping[str, Any]) -> str:
    """The table, with what was not measured beneath it."""
    measured = [row for row in document["entries"] if "missing" not in row]
    missing = [row for row in document["entries"] if "missing" in row]
    lines = [
        f"# Suite {document['suite']}, {document['size']}: {_plain(document['model'])}",
        "",
        "| area | entry | what is new | metric | policy | n | best shortcut | gain | parsed |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in measured),
    ]
    if missing:
        lines += ["", "Not measured:", "", *(f"- {row['entry']}: {_plain(row['missing'])}" for row in missing)]
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    gain, best = row["gain"], row["shortcut_value"]
    cells = [
        row["area"],
        row["entry"] if row["task"].endswith(row["entry"]) else f"{row['entry']} ({row['task']})",
        "nothing" if row["shift"] == "none" else row["shift"],
        row["metric"],
        _interval(row),
        str(row["n"]),
        "-" if best is None else f"{best:.3f} ({row['shortcut']})",
        "-" if gain is None else _interval(gain, signed=True),
        f"{row['parse_rate']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _interval(values: Mapping[str, Any], signed: bool = False) -> str:
    if values["value"] is None:
        return "-"
    form = "+.3f" if signed else ".3f"
    if values["low"] is None:
        return f"{values['value']:{form}}"
    return f"{values['value']:{form}} [{values['low']:{form}}, {values['high']:{form}}]"


def _plain(text: Any) -> str:
    """One line that Markdown takes as text."""
    line = " ".join(str(text).split())
    return "".join(f"\\{mark}" if mark in r"\`*_[]<>|#" else mark for mark in line)


def radar(document: Mapping[str, Any]) -> str:
    """SVG: one axis for each area, the mean of its entries' metrics; a hole where an area has none."""
    names = list(document["areas"])
    angles = [2 * pi * place / len(names) for place in range(len(names))]
    figure = Figure(figsize=(5.2, 4.6))
    axes: Any = figure.add_subplot(projection="polar")
    for key, label in LINES.items():
        values = [document["areas"][name][key] for name in names]
        points = [float("nan") if value is None else value for value in values]
        style = "--" if key == "shortcut" else "-"
        axes.plot([*angles, angles[0]], [*points, points[0]], style, color=COLOURS[key], label=label, marker="o", ms=3)
    axes.set_xticks(angles, names)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75, 1.0])
    axes.tick_params(labelsize=8)
    axes.legend(loc="upper right", bbox_to_anchor=(1.32, 1.12), fontsize=8, frameon=False)
    axes.set_title(f"suite {document['suite']}, {document['size']}", fontsize=9)
    text = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "rlvr"}):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return text.getvalue()
