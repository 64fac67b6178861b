"""The strict reading beside a lenient one, and what was cut off, empty or refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rlvr.evaluation.report import scores
from rlvr.evaluation.results.readings import flags, readings


def kept(path: Path, *rows: tuple[str | None, str | None, str, bool, str]) -> Path:
    """answer, lenient, completion, finished, refused; the truth is always up."""
    columns = ["answer", "lenient", "completion", "finished", "refused"]
    pd.DataFrame(rows, columns=columns).assign(task="t", truth="up").to_parquet(path)
    return path


def test_shares_are_of_all_completions(tmp_path: Path) -> None:
    path = kept(
        tmp_path / "a.parquet",
        ("up", "up", "<answer>up</answer>", True, ""),
        (None, "up", "Answer: up", True, ""),
        (None, None, "I would need to th", False, ""),
        (None, None, " \n", True, ""),
        ("down", "down", "<answer>down</answer>", True, ""),
        (None, None, "", False, "server x answered 400: 'filter'"),
        (None, "up", "up", True, ""),
        (None, "down", "down", True, ""),
    )
    (found,) = readings(path).values()
    assert found == {
        "n": 8,
        "strict": 1 / 8,
        "lenient": 3 / 8,
        "parsed": 2 / 8,
        "readable": 5 / 8,
        "cut_off": 1 / 8,
        "empty": 1 / 8,
        "refused": 1,
        "first_refusal": "server x answered 400: 'filter'",
    }
    told = {flag["flag"]: flag["text"] for flag in flags("t", found)}
    assert told.keys() == {"lenient_apart", "cut_off", "empty", "refused"}
    assert "strictly 12.5% of the answers are right, read leniently 37.5%" in told["lenient_apart"]
    assert told["refused"] == "1 of 8 requests were refused, and count as wrong: server x answered 400: 'filter'"
    (line,) = [one for one in scores.headlines({"readings": {"after": {"t": found}}}) if one.answer.startswith("How")]
    assert line.text == (
        "Right by the strict reading 12.5%, by a lenient one 37.5%; cut off 12.5%, empty 12.5%, of 8 completions."
    )


def test_what_reads_the_same_needs_no_warning(tmp_path: Path) -> None:
    (found,) = readings(kept(tmp_path / "a.parquet", *[("up", "up", "x", True, "")] * 30)).values()
    assert flags("t", found) == [] and found["strict"] == found["lenient"] == 1.0


@pytest.mark.parametrize("missing", ["refused", "completion"])
def test_older_rows_are_read_as_far_as_they_go(tmp_path: Path, missing: str) -> None:
    path = kept(tmp_path / "a.parquet", ("up", "up", "x", True, ""))
    pd.read_parquet(path).drop(columns=missing).to_parquet(path)
    assert bool(readings(path)) == (missing == "refused")
