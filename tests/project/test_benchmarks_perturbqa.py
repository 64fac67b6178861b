"""The tables of benchmarks/perturbqa: the page says what the results hold, and no held-out row is learnt from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.perturbqa import policy, table, transfer
from rlvr.evaluation import metrics


def test_the_page_says_what_the_results_hold() -> None:
    kept = (table.RESULTS / "perturbqa.md").read_text(encoding="utf-8")
    assert kept == "\n".join(table.page()).rstrip() + "\n", "python benchmarks/perturbqa/table.py > .../perturbqa.md"


def test_every_published_figure_is_an_auroc_with_its_source() -> None:
    published = pd.read_csv(table.HERE / "published.csv", dtype=str, keep_default_na=False)
    figures = published[list(table.LINES)].to_numpy().ravel()
    assert all(0.4 < float(value) < 0.8 for value in figures if value)
    assert published["source"].str.contains("doi:").all()


def line(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["perturbation", "readout", "label", "split"]).assign(context="a")


def test_only_the_asked_split_is_asked_and_never_learnt_from() -> None:
    held = {"effect": line(("A", "X", "yes", "train"), ("B", "X", "no", "validation"), ("C", "X", "no", "test"))}
    learnt, asked = transfer.split(held, "test")
    assert list(learnt["effect"]["perturbation"]) == ["A", "B"]
    assert set(learnt["effect"]["split"]) == {"train"}
    assert list(asked["effect"]["perturbation"]) == ["C"]
    learnt, asked = transfer.split(held, "validation")
    assert (list(learnt["effect"]["perturbation"]), list(asked["effect"]["perturbation"])) == (["A"], ["B"])


def test_a_pair_that_was_not_measured_is_no_answer() -> None:
    learnt = line(("A", "X", "yes", "train"), ("A", "Y", "no", "train"), ("B", "X", "yes", "train"))
    asked = line(
        ("A", "X", "no", "test"), ("A", "Y", "yes", "test"), ("B", "Y", "yes", "test"), ("C", "X", "no", "test")
    )
    np.testing.assert_array_equal(transfer.looked_up(learnt, asked, "yes"), [1.0, 0.0, np.nan, np.nan])


def systems(seed: int) -> dict[str, metrics.System]:
    rng = np.random.default_rng(seed)
    first = rng.random(40)
    of: metrics.System = {
        "labels": ["up", "down"] * 20,
        "probabilities": np.column_stack([first, 1 - first]),
        "answers": [None] * 40,
        "label_names": ["up", "down"],
        "readouts": [f"g{row // 8}" for row in range(40)],
        "clusters": [f"p{row % 10}" for row in range(40)],
    }
    return {"warm_start": of}


def test_the_mean_of_runs_is_that_of_their_values_and_draws() -> None:
    task = "perturbation/direction"
    runs = [policy.draw(task, systems(seed)) for seed in (1, 2, 3)]
    mean = policy.averaged(runs)["warm_start"]
    assert mean.value == pytest.approx(np.mean([run["warm_start"].value for run in runs]))
    spread = [np.nanstd(run["warm_start"].draws) for run in runs]
    assert np.nanstd(mean.draws) < max(spread)  # errors of runs that read differently partly cancel
    assert policy.averaged(runs[:1])["warm_start"].interval() == runs[0]["warm_start"].interval()


def test_a_stratum_keeps_rows_whole() -> None:
    whole = systems(1)["warm_start"]
    keep = np.arange(40) % 3 == 0
    found = policy.part(whole, keep)
    assert found["readouts"] == [name for name, kept in zip(whole["readouts"], keep, strict=True) if kept]
    assert found["probabilities"] is not None and whole["probabilities"] is not None
    np.testing.assert_array_equal(found["probabilities"], whole["probabilities"][keep])
    assert len({len(found[key]) for key in ("labels", "answers", "readouts", "clusters")}) == 1


def test_an_answer_follows_the_lead_of_its_thought_on_each_side() -> None:
    leads = np.array([0.55, 0.7, 0.9, 0.5, 0.45, 0.3, 0.1])
    sure = np.array([0.6, 0.8, 0.9, 0.5, 0.2, 0.1, 0.3])  # on the second side the surest answer has the middle lead
    of = systems(1)["warm_start"] | {"probabilities": np.column_stack([sure, 1 - sure])}
    both = np.column_stack([leads, 1 - leads])
    assert policy.follows(both, of, ["up", "down"]) == pytest.approx({"up": 1.0, "down": -0.5})
    of["probabilities"] = np.full((7, 2), 0.5)
    assert policy.follows(both, of, ["up", "down"]) == {"up": None, "down": None}
    assert policy.follows(both, of | {"probabilities": None}, ["up", "down"]) == {"up": None, "down": None}
