"""The reward layer, called as TRL calls it: columns, gates, faults, and when it stops a run."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.answers import Choice, Options
from rlvr.completions import reference
from rlvr.plugins import load
from rlvr.rewards.layer import OWN_COLUMNS, RewardLayer, Weighted
from rlvr.types import Error, Evidence, Reason, Verdict
from rlvr.verifier import Verifier

TASK = "perturbation/direction"
ANSWERS = {TASK: Choice({"up": "up", "down": "down"})}
RIGHT, WRONG = reference("ZAP70 on IL-2", "down"), reference("ZAP70 on IL-2", "up")
EOS, PAD = 2, 0


@dataclass(frozen=True)
class Scripted(Verifier):
    """Gives, per completion text, what its script says: a score, an exception, or a thing to return."""

    name: ClassVar[str] = "scripted"
    script: dict[str, object] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def verify(self, question, completion):
        self.calls[completion.text] += 1
        does = self.script.get(completion.text, 1.0)
        if isinstance(does, Exception):
            raise does
        if isinstance(does, float):
            return Verdict(does, Reason.BELIEF)
        return does


class Sloppy(Verdict):
    """A verdict that skips the checks of its class."""

    def __post_init__(self):
        pass


def built_in(*names):
    return {name: Weighted(load("verifiers", name, Verifier)()) for name in names}


def scripted(script, *, gate=False, rate=1.0, label_weight=1.0):
    verifiers = {"scripted": Weighted(Scripted(script), gate=gate), **built_in("label")}
    verifiers["label"] = Weighted(verifiers["label"].verifier, label_weight)
    return RewardLayer(verifiers, ANSWERS, rate)


def ask(layer, question, completions, *, ids=None, log_metric=None):
    """Every reward function in turn, with the keywords of TRL 1.16. `question`: one, or one each."""
    questions = question if isinstance(question, list) else [question] * len(completions)
    return {
        function.__name__: function(
            prompts=[[{"role": "user", "content": "?"}]] * len(completions),
            completions=completions,
            completion_ids=ids or [[7, EOS]] * len(completions),
            question=[q.to_json() for q in questions],
            trainer_state=object(),
            log_extra=lambda column, values: None,
            log_metric=log_metric or (lambda name, value: None),
        )
        for function in layer.functions()
    }


def test_each_verifier_is_one_named_function_with_its_weight(make_question):
    verifiers = built_in("format", "label", "mention", "neighbours")
    verifiers["format"] = Weighted(verifiers["format"].verifier, weight=0.25)
    layer = RewardLayer(verifiers, ANSWERS)
    names = [function.__name__ for function in layer.functions()]
    assert names == ["format", "label", "mention", "neighbours"]
    assert layer.weights() == [0.25, 1.0, 1.0, 1.0]
    assert ask(layer, make_question(), [RIGHT, WRONG, "?"]) == {
        "format": [1.0, 1.0, 0.0],
        "label": [1.0, 0.0, 0.0],
        "mention": [1.0, 1.0, 0.0],
        "neighbours": [0.75, 0.25, 0.0],
    }
    assert [row["reward"] for row in layer.last_rows] == [3.0, 1.5, 0.0]


def test_messages_are_read_as_text_is(make_question):
    layer = RewardLayer(built_in("format", "label"), ANSWERS)
    as_text = ask(layer, make_question(), [RIGHT, WRONG])
    assert ask(layer, make_question(), [[{"role": "assistant", "content": text}] for text in (RIGHT, WRONG)]) == as_text
    assert [row["completion"] for row in layer.last_rows] == [RIGHT, WRONG]


def test_a_row_tells_all_that_was_decided(make_question):
    question = make_question()
    layer = RewardLayer(built_in("label"), ANSWERS)
    (row,) = layer.score([question], [RIGHT])
    assert {key: row[key] for key in OWN_COLUMNS} == {
        "question_id": question.id,
        "task": question.task,
        "completion": RIGHT,
        "thought": "ZAP70 on IL-2",
        "answer": "down",
        "finished": True,
        "gate": None,
        "reward": 1.0,
    }
    assert set(row) - set(OWN_COLUMNS) == {"label", "label/reason", "label/error", "label/evidence"}
    assert (row["label"], row["label/reason"], row["label/error"]) == (1.0, "correct", None)
    assert json.loads(row["label/evidence"])[0]["record"] == question.id


@pytest.mark.parametrize(
    ("end", "ids", "finished"),
    [
        ([EOS, PAD], [5, 6, EOS], True),
        ([EOS, PAD], [5, EOS, PAD, PAD], True),
        ([EOS, PAD], [5, EOS, 6], False),
        ([EOS, PAD], [], False),
        ([EOS], [5, 6], False),
        ([], [5, 6], True),
    ],
)
def test_whether_generation_ended_is_read_from_its_ids(make_question, end, ids, finished):
    layer = RewardLayer(built_in("format", "label"), ANSWERS, eos_token_ids=end)
    score = 1.0 if finished else 0.0
    assert ask(layer, make_question(), [RIGHT], ids=[ids]) == {"format": [score], "label": [score]}
    assert layer.last_rows[0]["finished"] is finished


def test_without_ids_a_completion_counts_as_finished(make_question):
    layer = RewardLayer(built_in("label"), ANSWERS, eos_token_ids=[EOS])
    (label,) = layer.functions()
    assert label(prompts=["?"], completions=[RIGHT], question=[make_question().to_json()]) == [1.0]
    assert [row["label"] for row in layer.score([make_question()] * 2, [RIGHT] * 2, [True, False])] == [1.0, 0.0]


def test_a_batch_is_scored_once_by_all_and_a_later_one_anew(make_question):
    layer, question = scripted({}), make_question()
    calls = layer.verifiers["scripted"].verifier.calls
    ask(layer, question, [RIGHT, WRONG])
    assert calls == {RIGHT: 1, WRONG: 1}
    ask(layer, question, [RIGHT, WRONG])  # the same texts at a later step
    assert calls == {RIGHT: 2, WRONG: 2}
    ask(layer, question, [WRONG, RIGHT])
    assert calls == {RIGHT: 3, WRONG: 3}
    assert [row["completion"] for row in layer.last_rows] == [WRONG, RIGHT]


def test_what_was_scored_for_one_batch_is_never_read_for_another(make_question):
    layer = RewardLayer(built_in("format", "label"), ANSWERS, eos_token_ids=[EOS])
    down, up = make_question(), make_question(truth={"answer": "up"})
    of_format, of_label = layer.functions()

    def keywords(question, ids):
        return {"prompts": ["?"], "completions": [RIGHT], "completion_ids": [ids], "question": [question.to_json()]}

    assert of_format(**keywords(down, [EOS])) == [1.0]
    assert of_label(**keywords(up, [EOS])) == [0.0]  # other truth, same text
    assert of_format(**keywords(down, [EOS])) == [1.0]
    assert of_label(**keywords(down, [9])) == [0.0]  # same text, cut off
    of_format(**keywords(down, [EOS]))
    layer.score([down], [WRONG])
    assert of_label(**keywords(down, [EOS])) == [1.0]


def test_a_verifier_that_abstains_gives_none_in_its_own_column_alone(make_question):
    layer = RewardLayer(built_in("label", "neighbours", "mention"), ANSWERS)
    uncovered = make_question(id="u", truth={"neighbours": None})
    other = make_question(id="o", fields={"perturbation": ""})
    rewards = ask(layer, [uncovered, uncovered, other], [RIGHT, "?", RIGHT])
    assert rewards == {"label": [1.0, 0.0, 1.0], "neighbours": [None, None, 0.75], "mention": [1.0, 0.0, None]}
    assert [row["neighbours/reason"] for row in layer.last_rows] == ["uncovered", "uncovered", "belief"]
    assert layer.last_rows[2]["mention/reason"] == "not_applicable"
    assert [row["reward"] for row in layer.last_rows] == [2.0, 0.0, 1.75]


def test_a_row_on_which_all_abstain_has_no_reward(make_question):
    layer = RewardLayer(built_in("neighbours"), ANSWERS)
    assert layer.score([make_question(truth={"neighbours": None})], [RIGHT])[0]["reward"] is None


def test_a_closed_gate_takes_the_other_rewards_and_says_so(make_question):
    layer = scripted({WRONG: 0.0, "?": 0.5}, gate=True)
    question = make_question(truth={"answer": "up"})
    assert ask(layer, question, [WRONG, "?"]) == {"scripted": [0.0, 0.5], "label": [0.0, 0.0]}
    first, second = layer.last_rows
    assert (first["gate"], second["gate"]) == ("scripted", None)
    assert first["label/reason"] == "correct"  # what it said stands; what trains is 0
    assert first["reward"] == 0.0


def test_a_gate_that_abstains_is_open_and_a_closed_one_leaves_abstention_alone(make_question):
    uncovered = make_question(truth={"neighbours": None})
    gated = {**built_in("label", "neighbours")}
    gated["neighbours"] = Weighted(gated["neighbours"].verifier, gate=True)
    assert ask(RewardLayer(gated, ANSWERS), uncovered, [RIGHT])["label"] == [1.0]
    gated["label"] = Weighted(gated["label"].verifier, gate=True)
    assert ask(RewardLayer(gated, ANSWERS), uncovered, [WRONG]) == {"label": [0.0], "neighbours": [None]}


def spoilt(verdict):
    object.__setattr__(verdict, "score", math.nan)
    return verdict


FAULTS = {
    "raises": (RuntimeError("the table is gone"), "RuntimeError: the table is gone"),
    "raises an error of ours": (Error("no table"), "no table"),
    "recursion": (RecursionError("deep"), "RecursionError: deep"),
    "returns nothing": (None, "gave NoneType, not a Verdict"),
    "returns a number": (1, "gave int, not a Verdict"),
    "nan": (Sloppy(math.nan, Reason.BELIEF), "score nan is outside"),
    "nan, set past the checks": (spoilt(Verdict(1.0, Reason.BELIEF)), "score nan is outside"),
    "infinity": (Sloppy(math.inf, Reason.BELIEF), "score inf is outside"),
    "above one": (Sloppy(1.5, Reason.BELIEF), "score 1.5 is outside"),
    "a score that is no number": (Sloppy("high", Reason.BELIEF), "TypeError"),
    "an unknown reason": (Sloppy(1.0, "because"), "gave the reason 'because'"),
    "the layer's own reason": (Verdict(None, Reason.ERROR), "raise where the work failed"),
    "no score and no abstention": (Sloppy(None, Reason.WRONG), "does not fit reason"),
    "evidence that is none": (Verdict(1.0, Reason.BELIEF, ("look",)), "TypeError"),
    "evidence that is neither for nor against": (
        Verdict(1.0, Reason.BELIEF, (Evidence("s", "r", "x", 1),)),
        "supports True or False",
    ),
    "evidence beyond JSON": (Verdict(1.0, Reason.BELIEF, (Evidence("s", "r", object(), True),)), "not JSON"),
}


@pytest.mark.parametrize(("does", "says"), FAULTS.values(), ids=FAULTS)
def test_a_fault_costs_its_own_row_in_every_column(make_question, does, says):
    layer = scripted({"?": does})
    logged = {}
    rewards = ask(layer, make_question(), [RIGHT, "?", RIGHT], log_metric=logged.__setitem__)
    assert rewards == {"scripted": [1.0, None, 1.0], "label": [1.0, None, 1.0]}
    good, bad, _ = layer.last_rows
    assert says in bad["scripted/error"]
    assert (bad["scripted/reason"], bad["label/reason"], bad["label/error"]) == ("error", "unparsed", None)
    assert (good["scripted/error"], bad["reward"]) == (None, None)
    assert (layer.errors["scripted"], layer.asked["scripted"], layer.errors["label"]) == (1, 3, 0)
    assert logged == {"errors/scripted": pytest.approx(1 / 3), "errors/label": 0.0}
    json.dumps(layer.last_rows, allow_nan=False)


def test_the_traceback_leads_to_the_line_and_is_bounded(make_question):
    layer = scripted({"?": ValueError("x" * 100_000)})
    ask(layer, make_question(), ["?"])
    assert len(layer.last_rows[0]["scripted/error"]) <= 4000
    layer = scripted({"?": ValueError("short")})
    ask(layer, make_question(), ["?"])
    assert "Traceback" in layer.last_rows[0]["scripted/error"]
    assert "test_rewards.py" in layer.last_rows[0]["scripted/error"]


class Batched(Scripted):
    """`script["batch"]` is what verify_batch does with the verdicts of the pairs."""

    def verify_batch(self, pairs):
        does = self.script["batch"]
        if isinstance(does, Exception):
            raise does
        return does([self.verify(*pair) for pair in pairs])


@pytest.mark.parametrize(
    ("batch", "scores"),
    [
        (list, [1.0, 1.0]),
        (tuple, [1.0, 1.0]),
        (iter, [1.0, 1.0]),
        (TimeoutError("slow"), [1.0, 1.0]),  # each is asked alone
        (lambda verdicts: None, [1.0, 1.0]),
        (lambda verdicts: verdicts[:1], [None, None]),
        (lambda verdicts: verdicts * 2, [None, None]),
        (lambda verdicts: [], [None, None]),
        (lambda verdicts: [verdicts[0], 0.5], [1.0, None]),
        (lambda verdicts: [verdicts[0], TimeoutError("given, not raised")], [1.0, None]),
    ],
)
def test_faults_of_a_batch(make_question, batch, scores):
    layer = RewardLayer({"scripted": Weighted(Batched({"batch": batch}))}, ANSWERS, 1.0)
    assert ask(layer, make_question(), [RIGHT, WRONG]) == {"scripted": scores}
    if batch in (list, tuple):
        assert layer.last_rows[0]["scripted/error"] is None
    if scores == [None, None]:
        assert "verdicts for 2 completions" in layer.last_rows[0]["scripted/error"]


def test_a_fault_while_asking_whether_it_applies_is_a_fault(make_question):
    class Unsure(Scripted):
        def applies(self, question):
            return question.fields["tissue"] == "blood"

    layer = RewardLayer({"scripted": Weighted(Unsure())}, ANSWERS, 1.0)
    assert ask(layer, make_question(), [RIGHT]) == {"scripted": [None]}
    assert "KeyError: 'tissue'" in layer.last_rows[0]["scripted/error"]


def test_a_verifier_is_not_asked_what_does_not_concern_it(make_question):
    class Never(Scripted):
        def applies(self, question):
            return False

    never = Never()
    layer = RewardLayer({"scripted": Weighted(never), **built_in("label")}, ANSWERS, 0.0)
    assert ask(layer, make_question(), [RIGHT] * 30)["scripted"] == [None] * 30
    assert (never.calls, layer.asked["scripted"]) == ({}, 0)


def test_no_completion_can_buy_silence(make_question):
    """Abstaining on some completions of a question and scoring others is a fault, not an abstention."""
    layer = scripted({"?": Verdict(None, Reason.UNCOVERED)})
    one, two = make_question(id="one"), make_question(id="two")
    rewards = ask(layer, [one, one, two], [RIGHT, "?", "?"])
    assert rewards == {"scripted": [1.0, None, None], "label": [1.0, None, 0.0]}
    assert [row["scripted/reason"] for row in layer.last_rows] == ["belief", "error", "uncovered"]
    assert "question one" in layer.last_rows[1]["scripted/error"]


def test_too_many_faults_stop_the_run_and_say_why(make_question):
    layer = scripted({"?": KeyError("symbol")}, rate=0.1)
    ask(layer, make_question(), ["?"] * 2 + [RIGHT] * 17)  # 2 of 19: too few to judge
    ask(layer, make_question(), [RIGHT])  # 2 of 20: at the rate, not above
    with pytest.raises(
        Error, match=r"verifier scripted failed on 3 of 21 .*14\.3%, allowed 10\.0%.*KeyError: 'symbol'"
    ) as e:
        ask(layer, make_question(), ["?"])
    assert "(test_rewards.py:" in str(e.value)
    assert "\n" not in str(e.value)
    assert layer.last_rows[0]["scripted/reason"] == "error"  # still there to be written


def test_a_long_message_of_many_lines_is_cut_to_one(make_question):
    layer = scripted({"?": RuntimeError("first\n" + "more\n" * 1000)}, rate=0.0)
    with pytest.raises(Error, match="RuntimeError: first") as caught:
        ask(layer, make_question(), ["?"] * 20)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_user_can_still_stop_it(make_question, stop):
    class Stopped(Scripted):
        def verify(self, question, completion):
            raise stop

    with pytest.raises(stop):
        ask(RewardLayer({"scripted": Weighted(Stopped())}, ANSWERS), make_question(), [RIGHT])


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([RIGHT, WRONG, "?", "x\ud800"])), max_size=12))
def test_rows_do_not_depend_on_their_neighbours_in_the_batch(make_question, batch):
    layer = scripted({"?": RuntimeError("gone"), WRONG: 0.5})
    questions = [make_question(id=name) for name, _ in batch]
    texts = [text for _, text in batch]

    def known(row):  # a traceback may differ by the road it took
        return {key: value for key, value in row.items() if not key.endswith("/error")}

    together = [known(row) for row in layer.score(questions, texts)]
    alone = [known(layer.score([q], [t])[0]) for q, t in zip(questions, texts, strict=True)]
    assert together == alone
    json.dumps(together).encode()


def test_an_empty_batch_is_no_fault(make_question):
    assert ask(scripted({}), make_question(), []) == {"scripted": [], "label": []}


@pytest.mark.parametrize("name", ["reward", "question_id", "advantage", "step", "a/b"])
def test_a_verifier_may_not_take_a_column(name):
    with pytest.raises(Error, match=f"verifier '{name}' would overwrite a column"):
        RewardLayer({name: Weighted(Scripted())}, ANSWERS)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_must_be_a_number_of_at_least_0(weight):
    with pytest.raises(Error, match="must be a number of at least 0"):
        RewardLayer({"scripted": Weighted(Scripted(), weight)}, ANSWERS)


def test_mistakes_of_the_caller_are_named(make_question):
    with pytest.raises(Error, match="name at least one under `verifiers:`"):
        RewardLayer({}, ANSWERS)
    layer = scripted({})
    with pytest.raises(Error, match="the dataset has no column `question`"):
        layer.functions()[0](prompts=["?"], completions=[RIGHT])
    with pytest.raises(Error, match="1 questions, 2 completions"):
        layer.score([make_question()], [RIGHT, WRONG])
    with pytest.raises(Error, match=r"question x: no prompt says how task cell/type is answered \(known: perturbation"):
        layer.score([make_question(id="x", task="cell/type")], [RIGHT])


def test_each_task_is_read_by_its_own_answers_and_fields(make_question):
    layer = RewardLayer(built_in("label"), {**ANSWERS, "cell/type": Options()})
    cell = make_question({"options": ["B cell", "T cell"]}, {"answer": "T cell"}, task="cell/type")
    texts = [RIGHT, reference("x", "t cell"), reference("x", "NK cell")]
    assert ask(layer, [make_question(), cell, cell], texts) == {"label": [1.0, 1.0, 0.0]}
    assert [row["answer"] for row in layer.last_rows] == ["down", "T cell", None]
