"""A verifier that raises on one input in a hundred, hangs once and gives NaN once, over a thousand completions
scored batch by batch with a deadline: it finishes, every row is accounted for, and the sound ones are untouched."""

from __future__ import annotations

from collections import Counter

import pytest

from rlvr.answers import Choice
from rlvr.completions import reference
from rlvr.plugins import load
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.types import Error
from rlvr.verifier import Verifier
from tests.faulty import Faulty, FaultyBatch

ANSWERS = {"perturbation/direction": Choice({"up": "up", "down": "down"})}
COMPLETIONS, BATCH, DEADLINE = 1024, 64, 5.0
HANGS, NAN = 333, 777  # no multiples of 100, which raise


def command(i: int) -> str:
    return "hang" if i == HANGS else "nan" if i == NAN else "raise" if i % 100 == 50 else f"completion {i}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Faulty, FaultyBatch])
def test_a_run_with_a_faulty_verifier_finishes_with_every_row_accounted_for(make_question, tmp_path, kind):
    notes = tmp_path / "notes"
    verifiers = {"faulty": Weighted(kind(str(notes))), "label": Weighted(load("verifiers", "label", Verifier)(), 0.5)}
    layer = RewardLayer(verifiers, ANSWERS, max_error_rate=0.02, deadline=DEADLINE)
    questions = [make_question(id=f"q{group}") for group in range(COMPLETIONS // 8)]
    rows, served = [], {function.__name__: [] for function in layer.functions()}
    for start in range(0, COMPLETIONS, BATCH):
        texts = [reference(command(i), "down") for i in range(start, start + BATCH)]
        column = [questions[i // 8].to_json() for i in range(start, start + BATCH)]
        for function in layer.functions():  # as TRL calls them
            served[function.__name__] += function([], texts, question=column)
        rows += layer.last_rows

    assert [row["question_id"] for row in rows] == [f"q{i // 8}" for i in range(COMPLETIONS)]
    assert [row["thought"] for row in rows] == [command(i) for i in range(COMPLETIONS)]
    failed = {i for i in range(COMPLETIONS) if command(i) != f"completion {i}"}
    assert len(failed) == 12
    for i, row in enumerate(rows):
        told = (row["faulty"], row["label"], row["reward"], row["faulty/reason"], row["label/reason"])
        assert told == (
            (None, None, None, "error", "correct") if i in failed else (1.0, 1.0, 1.5, "correct", "correct")
        )
        assert (row["faulty/error"] is not None) == (i in failed)
        assert row["label/error"] is None
    assert served == {name: [row[name] for row in rows] for name in ("faulty", "label")}

    kinds = Counter(row["faulty/error"].splitlines()[0] for row in rows if row["faulty/error"])
    assert kinds.pop("no verdict within 5 s, its process was killed") == 1
    assert kinds == {"Traceback (most recent call last):": 11}
    assert sum("ValueError: the table is gone" in str(row["faulty/error"]) for row in rows) == 10
    assert "score nan is outside [0, 1]" in rows[NAN]["faulty/error"]
    assert 'faulty.py", line' in rows[HANGS]["faulty/error"]
    assert (layer.errors, layer.asked) == ({"faulty": 12, "label": 0}, dict.fromkeys(verifiers, COMPLETIONS))

    # One process was lost to the hang (and, of a batch, one more to find the culprit): resources were opened anew.
    opened = [line for line in notes.read_text().splitlines() if line.startswith("opened")]
    assert len(opened) == len(set(opened)) == (2 if kind is Faulty else 3)


def test_above_the_allowed_rate_the_run_stops_and_says_why(make_question):
    layer = RewardLayer({"faulty": Weighted(Faulty())}, ANSWERS, max_error_rate=0.005, deadline=60.0)
    texts = [reference(command(i), "down") for i in range(1, 201)]
    with pytest.raises(
        Error, match=r"verifier faulty failed on 2 of 200 .*allowed 0\.5%.*ValueError: the table is gone \(faulty"
    ):
        layer.score([make_question()] * 200, texts)
