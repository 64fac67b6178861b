"""What was written, beside what the strict parser read of it: readable otherwise, cut off, empty, or refused.

    readings(run / "evaluations" / "after.parquet")     # task -> {n, strict, lenient, parsed, readable, cut_off, ...}

A model that answers in another form than it was asked for is wrong by the rules, and that is what it is measured by.
But whoever reads the number must see that it is the form that fails, and not the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

APART = 0.05  # accuracy, between the two readings
CUT = 0.05  # share of completions that a limit has cut off
EMPTY = 0.01  # share of completions without a word
COLUMNS = ("task", "truth", "answer", "lenient", "completion", "finished", "refused")


def readings(path: Path) -> dict[str, dict[str, Any]]:
    """Task -> n; shares of the completions: strict and lenient, right by either reading; parsed and readable, with an
    answer by either; cut_off, empty; refused, and the first reason. {} of a file without the completions."""
    with pq.ParquetFile(path) as file:
        held = [name for name in COLUMNS if name in file.schema_arrow.names]
        if not {"lenient", "completion", "finished"} <= set(held):
            return {}
        table = file.read(columns=held).to_pandas()
    return {str(task): _of(rows) for task, rows in table.groupby("task", sort=False)}


def _of(rows: pd.DataFrame) -> dict[str, Any]:
    refused = rows.get("refused", pd.Series("", index=rows.index)).fillna("").astype(str)
    said = rows["completion"].fillna("").astype(str)
    shares = {
        "strict": rows["answer"] == rows["truth"],
        "lenient": rows["lenient"] == rows["truth"],
        "parsed": rows["answer"].notna(),
        "readable": rows["lenient"].notna(),
        "cut_off": ~rows["finished"].fillna(True).astype(bool) & (refused == ""),
        "empty": (said.str.strip() == "") & (refused == ""),
    }
    why = next((text for text in refused if text), "")
    return {
        "n": len(rows),
        **{name: round(float(mask.mean()), 6) for name, mask in shares.items()},
        "refused": int((refused != "").sum()),
        **({"first_refusal": why} if why else {}),
    }


def flags(task: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a reader must know of a task's readings before any number."""
    strict, lenient, wrong = found["strict"], found["lenient"], "and count as wrong"
    told: dict[str, str] = {}
    if abs(lenient - strict) > APART:
        right = f"read strictly {strict:.1%} of the answers are right, read leniently {lenient:.1%}"
        told["lenient_apart"] = f"{right}: many stand in another form than the prompt asks for"
    if (share := found["cut_off"]) > CUT:
        told["cut_off"] = f"{share:.1%} of the completions were cut off by the limit of tokens, {wrong}"
        told["cut_off"] += "; raise evaluation.max_tokens"
    if (share := found["empty"]) > EMPTY:
        told["empty"] = f"{share:.1%} of the completions are empty, {wrong}"
    if number := found["refused"]:
        told["refused"] = f"{number} of {found['n']} requests were refused, {wrong}: {found.get('first_refusal')}"
    return [{"flag": flag, "task": task, "text": text} for flag, text in told.items()]
