"""The report of a run: one self-contained HTML page, and its summary for the terminal.

    rlvr report RUN

The page needs no network, no script and no other file, and says plainly what an unfinished run lacks.
What the model wrote is hostile: Jinja escapes everything, `text.printable` spells out what is invisible,
long texts lose their middle, and a content security policy forbids scripts, foreign styles and loading.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import yaml
from markupsafe import Markup

from rlvr.report import curves, examples, plots, scores, text
from rlvr.report.terminal import terminal_summary
from rlvr.source import write_atomically
from rlvr.types import Error

__all__ = ["terminal_summary", "write_report"]

HERE = Path(__file__).parent
DOI = re.compile(r"10\.\d{4,9}/[\w.;()/:-]{1,200}", re.ASCII)
RECORDS = 50  # rows of a ledger or of an audit that are shown


@dataclass(frozen=True)
class Section:
    """What was measured on one task: its table, one of further metrics, and a forest for each kind of AUROC."""

    table: scores.Table
    more: scores.Table
    forests: list[tuple[scores.Column, plots.Picture]]


@dataclass(frozen=True)
class Records:
    """A list of mappings as a table; `left_out` counts the rows that are not shown."""

    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    left_out: int = 0


def write_report(run: Path) -> Path:
    """Write `run/report.html` and return its path.

    Reads report.json, and where present metrics.jsonl, rollouts/*.parquet and evaluations/*.parquet.
    Errors: no readable report.json; the page cannot be written.
    """
    report = read_report(run)
    missing = [f"{text.lowered(name)} was not evaluated" for key, name in scores.STAGES.items() if not report.get(key)]
    if not report.get("baselines"):
        missing.append("no shortcuts were scored")

    rows: list[dict[str, Any]] = []
    if (run / "metrics.jsonl").is_file():
        rows, broken = curves.read_metrics(run / "metrics.jsonl")
        if broken:
            missing.append(f"metrics.jsonl: {broken} broken line{'s' if broken > 1 else ''} left out")
    else:
        missing.append("metrics.jsonl is absent, so there are no curves")

    rollouts, unread = examples.rollouts(run / "rollouts")
    pairs, changes, unread_evaluations = examples.before_after(run / "evaluations", scores.STAGES)
    if rollouts is None:
        missing.append("no rollouts were kept")
    if not pairs:
        missing.append("fewer than two stages kept their answers to the same questions")
    missing += [f"{name} could not be read" for name in unread + unread_evaluations]

    css = (HERE / "style.css").read_text(encoding="utf-8")
    page = (
        environment()
        .get_template("page.html.jinja")
        .render(
            report=report,
            css=Markup(css),
            style_hash=b64encode(sha256(css.encode()).digest()).decode(),
            headlines=scores.headlines(report),
            sections=[_section(report, task) for task in scores.tasks(report)],
            shortcuts={k: v for k, v in scores.SHORTCUTS.items() if k in scores.mapping(report.get("baselines"))},
            differences=scores.differences(report),
            panels=curves.panels(rows),
            parts=curves.step_parts(rows),
            monitors=scores.monitored(report),
            rollouts=rollouts,
            pairs=pairs,
            changes=changes,
            missing=missing,
            provenance=provenance(report),
            doi=doi_link(report),
            ledger=records(report.get("ledger")),
            leak=records(report.get("leak")),
            recipe=yaml.safe_dump(report.get("recipe"), sort_keys=False, allow_unicode=True)
            if report.get("recipe")
            else "",
        )
    )
    target = run / "report.html"
    write_atomically(target, page.encode("utf-8"))
    return target


def read_report(run: Path) -> dict[str, Any]:
    """`run/report.json`. Errors: absent, not JSON, not an object."""
    path = run / "report.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Error(f"{run}: no report.json; this is no run directory, or its evaluation has not begun") from error
    except (OSError, ValueError, RecursionError) as error:
        raise Error(f"{path}: cannot be read ({type(error).__name__}); run the evaluation again") from error
    if not isinstance(found, dict):
        raise Error(f"{path}: holds a {type(found).__name__} where an object was expected; run the evaluation again")
    return found


def environment() -> jinja2.Environment:
    """Autoescape is on, undefined names are errors, and every string printed passes `printable` first."""

    def spelt_out(value: Any) -> Any:
        return text.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=spelt_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": text.number, "count": text.count, "label": text.label, "words": text.words}
    return env


def _section(report: Mapping[str, Any], task: str) -> Section:
    table = scores.table(report, task)
    aurocs = [(i, column) for i, column in enumerate(table.columns) if "auroc" in column.key]
    return Section(
        table, scores.table(report, task, more=True), [(column, plots.forest(table, i)) for i, column in aurocs]
    )


def provenance(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the numbers come from, as (what, value); only what the report holds."""
    source, panel = scores.mapping(report.get("source")), dict(scores.mapping(report.get("panel")))
    null = scores.mapping(panel.pop("permutation_null", None))
    found = [
        ("Model", scores.mapping(report.get("recipe")).get("model")),
        ("Source", source.get("name")),
        ("Licence", source.get("licence")),
        ("Citation", source.get("citation")),
        ("Split", report.get("split")),
        ("Questions", report.get("n_questions")),
        (
            "Panel",
            "; ".join(flat(panel)) if panel else "none" if "panel" in report else None,
        ),
        ("Labels dealt anew", "; ".join(_chance(key, found) for key, found in null.items() if scores.mapping(found))),
        ("Seed", report.get("seed")),
        ("Command", report.get("command")),
        ("Machine", "; ".join(flat(report.get("machine")))),
        ("Versions", "; ".join(flat(report.get("versions")))),
    ]
    for stage, seconds in scores.mapping(report.get("seconds")).items():
        if (spent := text.finite(seconds)) is not None:
            found.append((f"Time: {text.words(stage).replace('grpo', 'GRPO')}", text.duration(spent)))
    return [(name, str(value)) for name, value in found if value not in (None, "")]


def _chance(key: str, found: Mapping[str, Any]) -> str:
    """What a metric is when the labels are dealt at random, from `metrics.permutation_null`."""
    mean, high, n = (text.finite(found.get(part)) for part in ("mean", "high", "n"))
    counted = text.count(None if n is None else int(n))
    return f"{scores.metric_name(key)}: mean {text.number(mean)}, 97.5\u00a0% point {text.number(high)} (n {counted})"


def flat(found: Any, prefix: str = "") -> list[str]:
    """Nested mappings as 'key value' pieces, keys joined with a dot."""
    if not isinstance(found, Mapping):
        return (
            [f"{prefix} {text.number(found) if isinstance(found, float) else found}".strip()]
            if found is not None
            else []
        )
    return [piece for key, value in found.items() for piece in flat(value, f"{prefix}.{key}" if prefix else str(key))]


def doi_link(report: Mapping[str, Any]) -> tuple[str, str] | None:
    """(text, address) of the source's DOI, the page's only link that leaves it; None if it is no DOI."""
    doi = str(scores.mapping(report.get("source")).get("doi") or "")
    return (doi, f"https://doi.org/{quote(doi)}") if DOI.fullmatch(doi) else None


def records(found: Any) -> Records:
    """A list of mappings (or of plain values) as a table."""
    items = (
        [item if isinstance(item, Mapping) else {"entry": item} for item in found] if isinstance(found, list) else []
    )
    columns = list(dict.fromkeys(str(key) for item in items for key in item))
    rows = [["; ".join(flat(item.get(column))) or "–" for column in columns] for item in items[:RECORDS]]
    return Records(columns, rows, max(0, len(items) - RECORDS))
