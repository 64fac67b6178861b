"""The card of an oracle: what it is, what it learnt from, how good it is, and under which terms it may be used.

`rlvr oracle fit` and `rlvr oracle calibrate` write it twice: card.json for programs, CARD.md for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlvr.files import write_atomically
from rlvr.knowledge import KnowledgeBase
from rlvr.oracle import calibration
from rlvr.oracle.crossfit import LABELS
from rlvr.source import Source
from rlvr.tables import COLUMNS
from rlvr.types import Error


def data(sources: Iterable[Source]) -> list[dict[str, Any]]:
    """Name, version, licence and citation of each source."""
    keys = ("name", "version", "licence", "commercial", "citation", "doi")
    return [{key: getattr(source, key, None) for key in keys} for source in sources]


def knowledge(base: KnowledgeBase) -> list[dict[str, Any]]:
    """The releases that similarity rests on, with their hashes and licences."""
    return [vars(release) for release in base.releases()]


def training(table: pd.DataFrame) -> dict[str, Any]:
    """How many training rows there are, and a hash of them that their order does not change."""
    rows = table.loc[table["split"] == "train", list(COLUMNS)].sort_values(list(COLUMNS))
    return {"rows": len(rows), "sha256": sha256(rows.to_csv(index=False).encode()).hexdigest()}


def quality(predictions: pd.DataFrame, label: pd.Series[str], task: str) -> dict[str, Any]:
    """Of rows with a probability: how many, its calibration error, reliability diagram and coverage curve."""
    told = predictions["p"].notna().to_numpy()
    p = predictions.loc[told, "p"].to_numpy(dtype=np.float64)
    truth = np.asarray(label[told] == LABELS[task][0], dtype=np.float64)
    return {
        "n": len(p),
        "ece": calibration.ece(p, truth),
        "reliability": calibration.reliability(p, truth),
        "coverage": calibration.coverage(p, truth),
    }


def read(folder: Path) -> dict[str, Any]:
    """The card that lies there; empty where there is none."""
    path = folder / "card.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Error(f"{path}: cannot be read ({error}); delete it, or write to another folder") from error
    if not isinstance(found, dict) or not {"fits", "data"} <= set(found):
        raise Error(f"{path}: is no oracle's card; delete it, or write to another folder")
    return found


def calibrated(folder: Path, entry: Mapping[str, Any], sources: Iterable[Source]) -> dict[str, Any]:
    """The card of that folder with a calibrated table's entry in the place of what it said of that task. Errors: the
    folder holds what `rlvr oracle fit` wrote of another task, whose card says more than a table's."""
    there = read(folder)
    others = [fit for fit in there.get("fits", []) if fit["task"] != entry["task"]]
    if any("of" not in fit for fit in others):
        raise Error(f"{folder}: holds an oracle that `rlvr oracle fit` wrote; write to another folder")
    learnt = [*(there["data"] if others else []), *data(sources)]
    fits = [*others, entry]
    return {
        "what": "; ".join(f"{fit['task']}: {fit['of']}" for fit in fits),
        "data": [one for place, one in enumerate(learnt) if one not in learnt[:place]],
        "fits": fits,
    }


def write(folder: Path, card: Mapping[str, Any]) -> None:
    """card.json and CARD.md, for the tables that lie there: each fit names the sha256 of its own, so that the card does
    not speak for a table that took its place."""
    tasks = {fit["task"] for fit in card["fits"]}
    made = {task: sha256((folder / f"{task}.parquet").read_bytes()).hexdigest() for task in tasks}
    held = {**card, "fits": [{**fit, "sha256": made[fit["task"]]} for fit in card["fits"]]}
    write_atomically(folder / "card.json", json.dumps(held, indent=1).encode())
    write_atomically(folder / "CARD.md", _page(card).encode())


def _page(card: Mapping[str, Any]) -> str:
    lines = [f"# Oracle: {card['what']}", ""]
    if "folds" in card:
        lines += [
            f"`p` is the calibrated probability of yes or up, `lift` what the perturbation alone says (.5: nothing). "
            f"Training rows are cross-fitted in {card['folds']} folds of perturbations: reward them with `lift`.",
            "",
        ]
    lines += ["| context | task | rows | abstained | calibration error (ECE) | on rows |", "|---|---|---|---|---|---|"]
    for fit in card["fits"]:
        silent = ", ".join(f"{n} {why}" for why, n in fit.get("abstained", {}).items() if n) or "none"
        error = f"{fit['ece']:.3f}" if "ece" in fit else "not measured"
        lines.append(
            f"| {fit.get('context', 'all')} | {fit['task']} | {fit['rows']} | {silent} | {error} | {fit.get('n', 0)} |"
        )
    terms = [*card.get("data", []), *card.get("knowledge", [])]
    if terms:
        lines += ["", "## Learnt from", ""]
        for entry in terms:
            name, release = entry.get("name") or entry.get("source"), entry.get("version") or entry.get("release")
            lines.append(f"- {name}, {release}: {entry['licence']}")
        if not all(entry.get("commercial") for entry in terms):
            lines += ["", "Some of these terms forbid commercial use, and so of what was learnt from them."]
    return "\n".join(lines) + "\n"
