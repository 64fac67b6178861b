"""report.json from kept rows: samples, unfinished stages, stated probabilities, open answers, and two runs compared."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rlvr.completions import reference
from rlvr.evaluation.results import compare_runs, rows
from rlvr.types import Error, Question
from tests.kept_run import DIRECTION, keep, knows, questions, recipe, report, rows_of

ASKED = questions()
HELD_OUT = [q for q in ASKED if q.split == "validation"]
PROBABLE = "perturbation/effect_probability"


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory):
    """Four samples of each question; the first stage was stopped halfway."""
    run, made = tmp_path_factory.mktemp("two") / "run", recipe()
    before = rows_of(HELD_OUT[:80], knows(0.6), made, samples=4)
    keep(run, "before", before, {"asked": 640, "answered": 320, "stopped": "minutes"})
    keep(run, "after", rows_of(HELD_OUT, knows(0.8), made, samples=4, seed=1), {"asked": 640, "answered": 640})
    lines = [json.dumps({"time": 1.0, "step": 3, "alarm": "entropy", "value": 0.1, "threshold": 0.2, "action": "warn"})]
    (run / "alarms.jsonl").write_text("\n".join([*lines, '{"time": 2']))
    return run, report(run, ASKED, made)


def test_an_unfinished_stage_is_measured_on_what_it_has_and_compared_on_what_both_have(two_stages):
    _, found = two_stages
    assert found["headline"].startswith("unfinished: 320 of 640 in stage before (minutes). Beats the best shortcut")
    assert found["evaluations"]["before"] == {"asked": 640, "answered": 320, "stopped": "minutes"}
    assert (found["before"]["n"], found["after"]["n"]) == (320, 640)
    assert found["comparisons"]["after - before"][DIRECTION]["accuracy"]["n"] == 320
    assert found["comparisons"]["after - majority"][DIRECTION]["accuracy"]["n"] == 640
    assert found["n_questions"] == 160


def test_several_samples_are_summed_up_by_question(two_stages):
    run, found = two_stages
    own, table = found["after"][DIRECTION], rows.read(run / "evaluations" / "after.parquet")
    hits = rows.right(table).reshape(160, 4).sum(axis=1)
    assert own["pass@1"]["value"] == pytest.approx(own["accuracy"]["value"]) == hits.mean() / 4
    assert own["pass@4"]["value"] == (hits > 0).mean()
    assert own["maj@4"]["value"] == pytest.approx(np.mean(np.select([hits > 2, hits == 2], [1.0, 0.5])))
    assert own["best_of_4/label"]["value"] == own["pass@4"]["value"], "a verifier that sees the truth"
    assert own["best_of_4/format"]["value"] == pytest.approx(own["pass@1"]["value"]), "one that cannot tell them apart"
    assert own["vote/auroc"]["value"] > own["auroc"]["value"]
    assert own["pass@4"]["n"] == 160


def test_what_a_comparison_carries(two_stages):
    _, found = two_stages
    gain = found["comparisons"]["after - before"][DIRECTION]["auroc"]
    assert {"value", "low", "high", "n", "detectable", "p", "p_holm", "test"} <= gain.keys()
    assert found["beats_best_shortcut"][DIRECTION]["p_holm"] == found["beats_best_shortcut"][DIRECTION]["p"]
    assert found["alarms"][0]["alarm"] == "entropy"
    assert found["inconsistencies"] == ["alarms.jsonl: 1 lines are not JSON and are left out"]


def test_strata_hold_every_question_once_and_small_ones_say_so(two_stages):
    _, found = two_stages
    divided = found["strata"][DIRECTION]
    assert {"annotations", "core"} <= divided.keys()
    for division, strata in divided.items():
        assert sum(row["n"] for row in strata.values()) == 640, division
    assert divided["core"]["core machinery"]["clusters"] == 10
    assert "gain" in divided["core"]["other genes"]
    made = recipe()
    few = [q for q in HELD_OUT if not q.truth["core"]] + [q for q in HELD_OUT if q.truth["core"]][:4]
    small = report(keep(two_stages[0].parent / "small", "after", rows_of(few, knows(0.8), made)), ASKED, made)
    assert small["strata"][DIRECTION]["core"]["core machinery"] == {
        "n": 4, "clusters": 1, "reason": "too few clusters: 1, at least 10 are needed",
    }  # fmt: skip


def test_a_stated_probability_is_measured_like_one_that_is_read(tmp_path):
    asked, made = questions(PROBABLE), recipe(verifiers={"brier": {}, "format": {}})
    held_out = [q for q in asked if q.split == "validation"]

    def states(question: Question, draw) -> str:
        p = draw.uniform(0.55, 1.0) if question.truth["answer"] == "yes" else draw.uniform(0.0, 0.6)
        return reference("So I would say.", f"{p:.2f}") if draw.random() < 0.9 else "Perhaps."

    table = rows_of(held_out, states, made, labels=())
    found = report(keep(tmp_path / "run", "after", table), asked, made)
    own = found["after"][PROBABLE]
    silent = table["answer"].isna()
    p = table["answer"].astype(float).fillna(0.5)
    yes = table["truth"] == "yes"
    assert own["accuracy"]["value"] == pytest.approx((~silent & ((p > 0.5) == yes)).mean())
    assert own["auroc"]["value"] > 0.9
    assert own["brier"]["value"] == pytest.approx(((p - yes) ** 2).mean())
    assert own["brier_strict"]["value"] == pytest.approx(1 - own["score/brier"]["value"]), "the verifier says the same"
    assert "readout_frequency" in found["baselines"]
    assert len(found["reliability"]["after"][PROBABLE]) > 5


def profiles():
    found = []
    for i in range(60):
        genes = {f"G{j}": round(np.sin(i * j + 1.0), 3) for j in range(6)}
        fields = {"perturbation": f"P{i}", "context": "cells", "modality": "knockdown", "genes": list(genes)}
        truth = {"answer": genes, "baseline": {g: 0.1 * j for j, g in enumerate(genes)}, "context": "cells"}
        found.append(
            Question(f"p:{i}", "perturbation/profile", fields, truth, "made", "train" if i < 30 else "validation")
        )
    return found


def test_profiles_stand_beside_the_mean_baseline(tmp_path):
    asked, made = profiles(), recipe(verifiers={"profile": {}, "format": {}})
    held_out = [q for q in asked if q.split == "validation"]

    def policy(question: Question, draw) -> str:
        told = {gene: amount + draw.gauss(0, 0.3) for gene, amount in question.truth["answer"].items()}
        return reference("Hm.", ", ".join(f"{gene}: {amount:.3f}" for gene, amount in told.items()))

    table = rows_of(held_out, policy, made, labels=())
    found = report(keep(tmp_path / "run", "after", table), asked, made)
    own, mean = (part["perturbation/profile"] for part in (found["after"], found["baselines"]["mean_profile"]))
    assert own["rmse"]["value"] == pytest.approx(0.3, abs=0.06)
    assert mean["rmse"]["value"] > 0.5
    assert (mean["pearson_delta"]["value"], mean["accuracy"]["value"]) == (0.0, 0.0)
    assert found["beats_best_shortcut"]["perturbation/profile"]["metric"] == "pearson_delta"
    assert found["beats_best_shortcut"]["perturbation/profile"]["verdict"] == "yes"
    assert found["leak"] == [{"kind": "perturbation", "overlap": 0, "n": 30}, {"kind": "pair", "overlap": 0, "n": 30}]


def test_a_server_without_probabilities_is_judged_by_its_answers(tmp_path):
    made = recipe()
    table = rows_of(HELD_OUT, knows(0.8), made).drop(columns=["p/up", "p/down"])
    found = report(keep(tmp_path / "run", "after", table), ASKED, made)
    assert found["after"][DIRECTION]["auroc"]["reason"] == "the system gives no probabilities"
    assert found["beats_best_shortcut"][DIRECTION]["metric"] == "accuracy"


def test_test_questions_used_twice_are_counted_and_told(tmp_path, monkeypatch):
    from rlvr.evaluation import provenance
    from rlvr.questions import panels

    asked = [replace(q, split="test" if q.split == "validation" else q.split) for q in ASKED]
    digest = panels.digest([q for q in asked if q.split == "test"])
    monkeypatch.setattr(provenance, "ledger", lambda: [{"questions_sha256": d} for d in (digest, "other", digest)])
    made = recipe()
    run = keep(tmp_path / "run", "after", rows_of([q for q in asked if q.split == "test"], knows(0.8), made))
    found = report(run, asked, made)
    assert found["test_split_uses"] == 2
    assert found["headline"].startswith("these test questions have been used 2 times.")


def test_rows_that_cannot_be_measured_are_named(tmp_path):
    made = recipe()
    table = rows_of(HELD_OUT[:8], knows(0.8), made)
    with pytest.raises(Error, match=r"has sample 0 twice; keep one"):
        report(keep(tmp_path / "twice", "after", pd.concat([table, table.head(1)])), ASKED, made)
    strange = table.assign(question_id="lost")
    with pytest.raises(Error, match=r"answers 1 questions that the sources lack \(lost\)"):
        report(keep(tmp_path / "lost", "after", strange.head(1)), ASKED, made)
    with pytest.raises(Error, match="holds no evaluations"):
        report(tmp_path, ASKED, made)
    run = keep(tmp_path / "broken", "after", table)
    (run / "evaluations" / "after.json").write_text("[1]")
    with pytest.raises(Error, match="holds a list where an object was expected"):
        report(run, ASKED, made)
    (run / "evaluations" / "after.parquet").write_bytes(b"PAR1")
    with pytest.raises(Error, match="cannot be read"):
        report(run, ASKED, made)


def test_two_runs_are_paired_on_what_both_answered(tmp_path):
    made = recipe()
    one = keep(tmp_path / "one", "after", rows_of(HELD_OUT, knows(0.9), made))
    other = keep(tmp_path / "other", "before", rows_of(HELD_OUT[:100][::-1], knows(0.6), made, seed=5))
    found = compare_runs(one, other, resamples=300)
    assert found["common"] == 100
    assert found["overlap"] == "paired are the 100 answers that both have, of 160 and of 100"
    assert (found["runs"]["a"]["stage"], found["runs"]["b"]["stage"]) == ("after", "before")
    gain = found["tasks"][DIRECTION]
    first, second = (rows.read(p) for p in (one / "evaluations/after.parquet", other / "evaluations/before.parquet"))
    first = first[first["question_id"].isin(second["question_id"])]
    assert gain["accuracy"]["value"] == pytest.approx(rows.right(first).mean() - rows.right(second).mean())
    assert gain["accuracy"]["p"] < 0.01
    assert gain["score/label"]["value"] == pytest.approx(gain["accuracy"]["value"])
    back = compare_runs(other, one, resamples=300)["tasks"][DIRECTION]
    for name, difference in gain.items():
        assert back[name]["value"] == pytest.approx(-difference["value"]), name
        assert back[name]["p"] == pytest.approx(difference["p"]), name
    same = compare_runs(one, one, resamples=50)
    assert same["overlap"] == "all 160 answers are to the same questions"
    assert all((d["value"], d["p"]) == (0.0, 1.0) for d in same["tasks"][DIRECTION].values())
    json.dumps(found, allow_nan=False)


def test_runs_on_other_questions_or_other_truths_are_refused(tmp_path):
    made = recipe()
    table = rows_of(HELD_OUT[:40], knows(0.9), made)
    one = keep(tmp_path / "one", "after", table)
    apart = keep(tmp_path / "apart", "after", rows_of(HELD_OUT[40:60], knows(0.9), made))
    with pytest.raises(Error, match="none in common"):
        compare_runs(one, apart)
    turned = keep(tmp_path / "turned", "after", table.assign(truth="up"))
    with pytest.raises(Error, match="differ in the truth of"):
        compare_runs(one, turned)


def test_comparing_runs_needs_no_torch():
    code = "import sys, rlvr.evaluation.results; print(sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
