"""Gathers what the page and the Markdown show of a run: one read of its folder, one mapping of names to parts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import yaml

from rlvr import jsonlines
from rlvr.evaluation.report import browser, curves, extras, pairs, plots, rows, scores, text
from rlvr.evaluation.results import compare_runs
from rlvr.types import Error

DOI = re.compile(r"10\.\d{4,9}/[\w.;()/:-]{1,200}", re.ASCII)
ALARMS = 30  # of a long run that are shown; the last


@dataclass(frozen=True)
class Section:
    """What was measured on one task."""

    table: scores.Table
    more: scores.Table  # further metrics
    confusions: list[extras.Confusion]
    strata: list[extras.Stratum]
    uncounted: list[str]  # strata too small to be scored
    reliability: dict[str, list[extras.Bin]]

    def forests(self) -> list[tuple[scores.Column, plots.Picture]]:
        """One for each kind of AUROC, or of the accuracy where there is none."""
        columns = list(enumerate(self.table.columns))
        wanted = [pair for pair in columns if "auroc" in pair[1].key] or [
            pair for pair in columns if pair[1].key == "accuracy"
        ]
        return [(column, plots.forest(self.table, i)) for i, column in wanted]

    def calibration(self) -> plots.Picture | None:
        return plots.reliability(self.reliability, self.table.task) if self.reliability else None

    def strata_plots(self) -> list[tuple[str, plots.Picture]]:
        """One for each way of splitting and metric."""
        groups: dict[str, list[extras.Stratum]] = {}
        for stratum in self.strata:
            groups.setdefault(f"{stratum.metric} by {stratum.of}", []).append(stratum)
        return [(title, plots.strata(found, title)) for title, found in groups.items()]


def gather(run: Path, other: Path | None) -> dict[str, Any]:
    """Everything of `run`, and where `other` is given, how its answers to the same questions differ."""
    report = read_report(run)
    missing = _missing(report)
    logged: list[dict[str, Any]] = []
    if (run / "metrics.jsonl").is_file():
        logged, broken = jsonlines.read(run / "metrics.jsonl")
        if broken:
            missing.append(f"metrics.jsonl: {broken} broken line{'s' if broken > 1 else ''} left out")
    else:
        missing.append("metrics.jsonl is absent, so there are no curves")
    found, unread = rows.index(run)
    if not (found["stage"] == rows.TRAINING).any():
        missing.append("no rollouts were kept")
    missing += [f"{name} could not be read" for name in unread]
    tasks = scores.tasks(report)
    return {
        "report": report,
        "name": _name(report, run),
        "headlines": scores.headlines(report),
        "sections": [_section(report, found, task) for task in tasks],
        "shortcuts": {k: v for k, v in scores.SHORTCUTS.items() if k in scores.mapping(report.get("baselines"))},
        "differences": scores.differences(report),
        "reasoning": extras.reasoning(report),
        "logged": logged,
        "parts": curves.step_parts(logged),
        "monitors": scores.monitored(report),
        "alarms": _alarms(report),
        "progress": extras.progress(report),
        "index": found,
        "versus": versus(run, found, other) if other else None,
        "missing": missing,
        "provenance": provenance(report),
        "doi": doi_link(report),
        "ledger": extras.records(report.get("ledger")),
        "leak": extras.records(report.get("leak")),
        "recipe": yaml.safe_dump(report["recipe"], sort_keys=False, allow_unicode=True) if report.get("recipe") else "",
    }


@dataclass(frozen=True)
class Versus:
    """Another run on the same questions; the differences are this one minus the other."""

    name: str
    overlap: str
    differences: list[scores.Difference]
    pairs: pairs.Pairs | None
    prompts: list[Any]


def versus(run: Path, found: pd.DataFrame, other: Path) -> Versus:
    """Errors: a run without evaluations, no question in common, a question that is not the same in both."""
    compared = compare_runs(run, other)
    names = run.resolve().name, other.resolve().name
    found_in = compared["tasks"].items()
    differences = [d for task, told in found_in for d in scores.of_pair(" − ".join(names), task, told, True)]
    prompts = browser.Prompts()
    met = pairs.of_runs(rows.index(other)[0], found, (names[1], names[0]), prompts)
    return Versus(names[1], compared["overlap"], differences, met, prompts.all)


def _name(report: Mapping[str, Any], run: Path) -> str:
    return str(report.get("recipe_name") or run.resolve().name)


def _missing(report: Mapping[str, Any]) -> list[str]:
    found = [f"{text.lowered(name)} was not evaluated" for key, name in scores.STAGES.items() if not report.get(key)]
    return found if report.get("baselines") else [*found, "no shortcuts were scored"]


def _section(report: Mapping[str, Any], found: pd.DataFrame, task: str) -> Section:
    return Section(
        scores.table(report, task),
        scores.table(report, task, more=True),
        extras.confusions(found, task),
        extras.strata(report, task),
        extras.uncounted(report, task),
        extras.reliability(report, task),
    )


def _alarms(report: Mapping[str, Any]) -> extras.Records:
    kept = report.get("alarms")
    return extras.records(kept[-ALARMS:] if isinstance(kept, list) else [])


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
        ("Panel", "; ".join(extras.flat(panel)) if panel else "none" if "panel" in report else None),
        ("Labels dealt anew", "; ".join(_chance(key, found) for key, found in null.items() if scores.mapping(found))),
        ("Seed", report.get("seed")),
        ("Command", report.get("command")),
        ("Machine", "; ".join(extras.flat(report.get("machine")))),
        ("Versions", "; ".join(extras.flat(report.get("versions")))),
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


def doi_link(report: Mapping[str, Any]) -> tuple[str, str] | None:
    """(text, address) of the source's DOI, the page's only link that leaves it; None if it is no DOI."""
    doi = str(scores.mapping(report.get("source")).get("doi") or "")
    return (doi, f"https://doi.org/{quote(doi)}") if DOI.fullmatch(doi) else None
