"""Evaluation that is killed, stopped by a budget, or fails: what was answered stays, and the rest is asked once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from trl import GRPOConfig
from typer.testing import CliRunner

from rlvr import policy
from rlvr.cli import app
from rlvr.completions import reference
from rlvr.evaluation.chunks import unfinished
from rlvr.evaluation.harness import Asked
from rlvr.evaluation.lengths import MAX_TOKENS, max_tokens, training_max_tokens
from rlvr.evaluation.measure import Evaluation
from rlvr.evaluation.prompt_file import write_prompts
from rlvr.evaluation.run import evaluate
from rlvr.evaluation.subject import Subject, trained
from rlvr.loading import gather, reward_layer, select, templates
from rlvr.prompts import Messages
from rlvr.recipe import Budget, Recipe, load
from rlvr.types import Error, Question
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
TASK = "perturbation/response"
SMALL = [
    "source.evidence=1",
    "verifiers={label: {weight: 1.0}, format: {weight: 0.2}}",
    "grpo.max_completion_length=12",
    "evaluation.questions=24",
    "evaluation.batch_size=2",
    "evaluation.chunk=4",
    "evaluation.resamples=20",
    "deadline=null",
]


def recipe(*overrides: str) -> Recipe:
    return load("quickstart", [*SMALL, *overrides])


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    asked = recipe()
    return select(gather(asked)[1], asked.evaluation)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.make(tmp_path_factory.mktemp("tiny"), tiny.planted(), steps=4)
    return folder


class Scripted:
    """Says "up" to everything, counts what it is asked, and may fail after so many calls."""

    def __init__(self, calls: int | None = None, tokens: int = 10) -> None:
        self.left, self.tokens = calls, tokens
        self.asked: Counter[str] = Counter()
        self.seeds: list[int] = []

    def answer(
        self,
        prompts: Sequence[Messages],
        answers: Mapping[str, str],
        max_tokens: int,
        progress: policy.Progress,
        *,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[policy.Answered]:
        if self.left == 0:
            raise Error("the server fell over")
        self.left = None if self.left is None else self.left - 1
        self.asked.update(str(prompt[-1]["content"]) for prompt in prompts)
        self.seeds.append(seed)
        shares = {label: 1 / len(answers) for label in answers.values()}
        return [
            policy.Answered(reference(f"{seed} {i}", "up"), True, shares, self.tokens)
            for _ in prompts
            for i in range(samples)
        ]


def measured(
    sampler: Scripted, asked: Recipe, questions: Sequence[Question], out: Path, budget: Budget | None = None
) -> dict[str, Any]:
    """One start of an evaluation; what its record says."""
    by_task = templates(asked, {TASK})
    who = Subject({"backend": "scripted", "model": "m"}, lambda: sampler, 4, asked.evaluation.samples)
    layer = reward_layer(asked, by_task)
    Evaluation(who, questions, by_task, layer, asked, "before", out, budget or Budget()).run()
    record: dict[str, Any] = json.loads((out / "evaluations" / "before.json").read_text())
    return record


def rows(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "evaluations" / "before.parquet")


def test_what_failed_goes_on_where_it_was(questions: list[Question], tmp_path: Path) -> None:
    whole, failing, rest = Scripted(), Scripted(calls=2), Scripted()
    measured(whole, recipe(), questions, tmp_path / "whole")
    with pytest.raises(Error, match=r"fell over; 8 of 24 questions are answered and kept in .*before\.parts") as caught:
        measured(failing, recipe(), questions, tmp_path / "broken")
    assert "\n" not in str(caught.value)
    assert unfinished(tmp_path / "broken") is not None
    record = measured(rest, recipe(), questions, tmp_path / "broken")
    assert (record["asked"], record["answered"], record["stopped"], record["tokens"]) == (24, 24, None, 240)
    assert set((failing.asked + rest.asked).values()) == {1}  # nothing twice
    assert (tmp_path / "broken/evaluations/before.parquet").read_bytes() == (
        tmp_path / "whole/evaluations/before.parquet"
    ).read_bytes()
    assert not (tmp_path / "broken/evaluations/before.parts").exists()
    assert unfinished(tmp_path / "broken") is None
    silent = Scripted(calls=0)
    measured(silent, recipe(), questions, tmp_path / "broken")  # finished: nobody is asked
    assert not silent.asked


def test_other_settings_are_refused_with_what_differs(questions: list[Question], tmp_path: Path) -> None:
    with pytest.raises(Error, match="fell over"):
        measured(Scripted(calls=1), recipe(), questions, tmp_path)
    for changed, told in (("seed=7", "seed was 0 and is 7"), ("verifiers.format.weight=0.3", "verifiers_sha256")):
        with pytest.raises(Error, match=told):
            measured(Scripted(), recipe(changed), questions, tmp_path)
    with pytest.raises(Error, match="asked was 24 and is 23"):
        measured(Scripted(), recipe(), questions[1:], tmp_path)
    flipped = [*questions[:-1], Question(**{**questions[-1].__dict__, "truth": {**questions[-1].truth, "core": "?"}})]
    with pytest.raises(Error, match="data_sha256"):
        measured(Scripted(), recipe(), flipped, tmp_path)
    measured(Scripted(), recipe(), questions, tmp_path)
    with pytest.raises(Error, match=r"before\.json is of another evaluation: seed"):
        measured(Scripted(), recipe("seed=7"), questions, tmp_path)


@pytest.mark.parametrize(
    ("budget", "stopped", "answered"),
    [
        (Budget(questions=10), "questions", 10),  # in the middle of a chunk
        (Budget(tokens=100), "tokens", 9),  # a tenth might take 12: 9 take 90
        (Budget(minutes=0), "minutes", 0),
    ],
)
def test_a_budget_stops_cleanly_and_more_of_it_goes_on(
    questions: list[Question], tmp_path: Path, budget: Budget, stopped: str, answered: int
) -> None:
    first, rest = Scripted(), Scripted()
    if answered:
        record = measured(first, recipe(), questions, tmp_path, budget)
        assert (record["stopped"], record["answered"], record["asked"]) == (stopped, answered, 24)
        assert record["tokens"] <= (budget.tokens or 10**9)
        assert len(rows(tmp_path)) == answered
        assert measured(Scripted(calls=0), recipe(), questions, tmp_path, budget)["answered"] == answered
    else:
        with pytest.raises(Error, match=r"holds no answers yet"):
            measured(first, recipe(), questions, tmp_path, budget)
    assert measured(rest, recipe(), questions, tmp_path)["stopped"] is None
    assert set((first.asked + rest.asked).values()) == {1}
    assert sorted(rows(tmp_path)["question_id"]) == sorted(question.id for question in questions)


def test_a_budget_asks_the_same_random_questions_whatever_their_order(
    questions: list[Question], tmp_path: Path
) -> None:
    for name, order in (("there", questions), ("back", questions[::-1])):
        measured(Scripted(), recipe(), order, tmp_path / name, Budget(questions=8))
    assert rows(tmp_path / "there")["question_id"].tolist() == rows(tmp_path / "back")["question_id"].tolist()


def test_samples_are_rows_and_each_chunk_has_its_seed(questions: list[Question], tmp_path: Path) -> None:
    asked = recipe("evaluation.samples=3", "evaluation.temperature=1.0")
    sampler = Scripted()
    record = measured(sampler, asked, questions, tmp_path)
    table = rows(tmp_path)
    assert (record["samples"], record["answered"], record["tokens"]) == (3, 24, 720)
    assert table.groupby("question_id")["sample"].apply(lambda numbers: list(numbers) == [0, 1, 2]).all()
    assert len(set(sampler.seeds)) == 6
    again = Scripted()
    measured(again, asked, questions, tmp_path / "again")
    assert again.seeds == sampler.seeds


def test_greedy_samples_and_nonsense_are_refused() -> None:
    for override, told in (
        ("evaluation.samples=4", "needs a temperature"),
        ("evaluation.temperature=-1", "temperature must be at least 0, not -1"),
        ("evaluation.temperature=.nan", "temperature must be a finite number, not nan"),
        ("evaluation.chunk=0", "at least 1"),
        ("evaluation.max_tokens=0", "at least 1"),
        ("evaluation.budget.tokens=-1", "budget: tokens must be at least 0, not -1"),
    ):
        with pytest.raises(Error, match=told):
            recipe(override)


def test_the_longest_completion_is_what_trl_takes_it_to_be() -> None:
    assert GRPOConfig.__dataclass_fields__["max_completion_length"].default == MAX_TOKENS


def test_an_evaluation_may_be_longer_than_training_and_every_door_uses_the_same_length(
    questions: list[Question], tmp_path: Path
) -> None:
    """A model that thinks at length is cut off at the length of training; its answers are another evaluation's."""
    bare = load("quickstart", ["grpo={max_steps: 1, per_device_train_batch_size: 4, num_generations: 2}"])
    assert max_tokens(bare) == training_max_tokens(bare) == MAX_TOKENS
    longer = recipe("evaluation.max_tokens=40")
    assert (max_tokens(recipe()), max_tokens(longer), training_max_tokens(longer)) == (12, 40, 12)
    assert Asked.open("quickstart", [*SMALL, "evaluation.max_tokens=40"]).max_tokens == 40
    assert measured(Scripted(), longer, questions[:4], tmp_path)["max_tokens"] == 40
    with pytest.raises(Error, match="max_tokens was 40 and is 12"):
        measured(Scripted(), recipe(), questions[:4], tmp_path)


@pytest.mark.slow
def test_sampled_answers_do_not_depend_on_where_it_was_interrupted(
    model: Path, questions: list[Question], tmp_path: Path
) -> None:
    """Real sampling: three samples a question, stopped in the middle, are those of one go."""
    asked = recipe(f"model={model}", "evaluation.samples=3", "evaluation.temperature=1.0")
    by_task = templates(asked, {TASK})
    loaded = policy.load_base(asked.model)
    tuned = policy.add_lora(loaded[0], {"r": 2, "target_modules": ["q_proj"]})
    who = trained(tuned, loaded[1], asked, policy.fingerprint_of(asked.model) or "")
    layer = reward_layer(asked, by_task)
    for out, budgets in (("whole", [Budget()]), ("parts", [Budget(questions=8), Budget()])):
        for budget in budgets:
            Evaluation(who, questions, by_task, layer, asked, "before", tmp_path / out, budget).run()
    whole, parts = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    pd.testing.assert_frame_equal(whole, parts)
    assert whole.groupby("question_id")["completion"].nunique().max() > 1
    record = json.loads((tmp_path / "parts/evaluations/before.json").read_text())
    assert record["base_sha256"] == policy.fingerprint(policy.load_base(asked.model)[0])
    assert record["tokens"] == whole["tokens"].sum() and whole["tokens"].between(1, 12).all()


def command(model: Path, folder: Path, out: Path) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(f"model={model}", "evaluation.chunk=2").to_dict()))
    return [sys.executable, "-m", "rlvr.cli", "evaluate", str(path), "--out", str(out)]


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(arguments, env=environment, start_new_session=True, **pipes)


def figures(out: Path) -> str:
    """report.json without what the clock and the command say."""
    document = json.loads((out / "report.json").read_text())
    for key in ("seconds", "written", "command", "evaluations", "output_dir"):
        document.pop(key, None)
    return json.dumps(document, sort_keys=True)


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_as_if_it_had_not_been(model: Path, tmp_path: Path) -> None:
    """kill -9 of a real `rlvr evaluate`, then the same command: rows and figures are those of one go."""
    whole = start(command(model, tmp_path, tmp_path / "whole"))
    killed = start(command(model, tmp_path, tmp_path / "killed"))
    parts = tmp_path / "killed/evaluations/before.parts"
    ended = time.monotonic() + 200
    while len(list(parts.glob("[0-9]*.parquet"))) < 2 and killed.poll() is None and time.monotonic() < ended:
        time.sleep(0.002)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    kept = [path.name for path in parts.glob("[0-9]*.parquet")]
    assert killed.returncode == -signal.SIGKILL and 2 <= len(kept) < 12
    said = subprocess.run(
        [sys.executable, "-m", "rlvr.cli", "report", str(tmp_path / "killed")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said.returncode == 1 and "unfinished" in said.stderr and said.stderr.count("\n") == 1
    again = start(command(model, tmp_path, tmp_path / "killed"))
    for process in (whole, again):
        _, error = process.communicate(timeout=250)
        assert process.returncode == 0, error[-3000:]
    assert f"/{24 - 2 * len(kept)} " in error  # the rest alone was asked, says the progress bar
    assert (tmp_path / "killed/evaluations/before.parquet").read_bytes() == (
        tmp_path / "whole/evaluations/before.parquet"
    ).read_bytes()
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")


Write = Callable[[Sequence[Mapping[str, Any]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def lines(given: Sequence[Mapping[str, Any]]) -> Path:
        path = tmp_path / "answers.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in given))
        return path

    return lines


def test_saved_completions_must_be_those_that_are_asked_for(
    questions: list[Question], write: Write, tmp_path: Path
) -> None:
    good = [{"question_id": q.id, "completion": reference("so", "up")} for q in questions]
    labels = ["none", "up", "down"]

    def opened(rows: Sequence[Mapping[str, Any]], partial: bool = False) -> policy.SavedCompletions:
        return policy.SavedCompletions(write(rows), questions, labels, partial)

    assert [a.finished for a in opened(good).of(questions)] == [True] * 24
    for bad, told in (
        ([*good, {"question_id": "q1", "completion": ""}], r"that are not asked, of 1 questions: 'q1'"),
        ([*good, good[3]], rf"second completion of one sample, of 1 questions: '{questions[3].id}'"),
        (good[2:], rf"no completion, of 2 questions: '{questions[0].id}', '{questions[1].id}'; .*--partial"),
        ([{**good[0], "sample": 1}, *good], "no completion, of 23 questions"),
        ([{**good[0], "sample": "a"}, *good[1:]], "sample is 'a'"),
        ([{**good[0], "p/up": 0.9, "p/down": 0.9}, *good[1:]], "no shares that sum to 1"),
        ([{**good[0], "p/up": True, "p/down": -1}, *good[1:]], "no shares that sum to 1"),
    ):
        with pytest.raises(Error, match=told) as caught:
            opened(bad)
        assert "\n" not in str(caught.value)
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    (tmp_path / "table.csv").touch()
    for path, told in (
        (tmp_path / "nowhere.jsonl", "there is no such file"),
        (tmp_path / "nowhere.csv", "there is no such file"),
        (folder, "is a folder"),
        (tmp_path / "table.csv", r"are read from \.parquet or \.jsonl files"),
    ):
        with pytest.raises(Error, match=told):
            policy.SavedCompletions(path, questions, labels)


def test_a_null_end_means_the_same_to_score_and_evaluate(questions: list[Question], tmp_path: Path) -> None:
    """`finished` that is null or missing: the completion ended by itself. Anything but a truth value is refused."""
    from rlvr.evaluation.rescore import rescore

    texts = [{"question_id": q.id, "completion": reference("so", "up")} for q in questions]
    ends: list[Any] = [None, True, False, *[None] * (len(texts) - 3)]
    table = pd.DataFrame(texts).assign(finished=pd.Series(ends, dtype=object))
    lines = [json.dumps({**row, "finished": end}) for row, end in zip(texts, ends, strict=True)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    table.to_parquet(tmp_path / "a.parquet")
    asked = recipe()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(asked.to_dict()))
    for file in (tmp_path / "a.jsonl", tmp_path / "a.parquet"):
        evaluate(asked, None, tmp_path / file.name[2:], final=False, completions=file)
        rescore(file, [], str(tmp_path / "recipe.yaml"), tmp_path / "scored.parquet")
        told = rows(tmp_path / file.name[2:]).set_index("question_id")["finished"]
        scored = pd.read_parquet(tmp_path / "scored.parquet").set_index("question_id")["finished"]
        for one in (told, scored):
            assert one[[q.id for q in questions]].tolist() == [True, True, False, *[True] * (len(texts) - 3)]
    for column, fault in (
        ({"finished": ["yes"] * len(texts)}, "finished must be true or false"),
        ({"question_id": [[q.id] for q in questions]}, "question_id holds a list"),
    ):
        table.assign(**column).to_parquet(tmp_path / "bad.parquet")
        with pytest.raises(Error, match=fault):
            evaluate(asked, None, tmp_path / "bad", final=False, completions=tmp_path / "bad.parquet")
        with pytest.raises(Error, match=fault):
            rescore(tmp_path / "bad.parquet", [], str(tmp_path / "recipe.yaml"), tmp_path / "scored.parquet")


def test_prompts_go_out_and_answers_come_back(questions: list[Question], tmp_path: Path) -> None:
    """`rlvr data export`, answers made elsewhere from nothing but that file, `rlvr evaluate --completions`."""
    out, template = CliRunner(), templates(recipe(), {TASK})[TASK]
    file = tmp_path / "prompts.jsonl"
    told = out.invoke(app, ["data", "export", "quickstart", "--to", str(file), *SMALL])
    assert told.exit_code == 0 and "24 prompts" in told.output
    prompts = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["question_id"]: row["messages"] for row in prompts} == {q.id: template.render(q) for q in questions}
    assert {row["task"] for row in prompts} == {TASK}
    answers = [
        {"question_id": row["question_id"], "completion": reference("so", template.word("up"))} for row in prompts
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    document = evaluate(recipe(), None, tmp_path / "out", final=False, completions=tmp_path / "answers.jsonl")
    share = sum(q.truth["answer"] == "up" for q in questions) / len(questions)
    assert document["before"][TASK]["accuracy"]["value"] == pytest.approx(share)
    with pytest.raises(Error, match=r"ends in \.jsonl"):
        write_prompts(recipe(), tmp_path / "prompts.csv")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["suite", "--completions", "a.jsonl"], "does not take --completions"),
        (["suite", "--completions", "a.jsonl", "--partial"], "does not take --completions"),
        (["suite", "--final", "--reasoning"], "does not take --reasoning, --final"),
        (["suite", "--stage", "after"], "does not take --stage"),
        (["suite", "--partial"], "--partial is about saved completions"),
        (["quickstart", "--partial"], "--partial is about saved completions"),
        (["quickstart", "--size", "full"], "--size is of the suite"),
        (["quickstart", "--key-env", "KEY"], "--key-env names the key of a server"),
        (["quickstart", "--completions", "a.jsonl", "--backend", "vllm"], "--backend samples on this machine"),
    ],
)
def test_no_option_is_left_unused_without_a_word(options: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(Error, match=told):
        CliRunner().invoke(app, ["evaluate", *options, "--out", str(tmp_path)], catch_exceptions=False)


def test_leaving_out_answers_raises_no_score(questions: list[Question], write: Write, tmp_path: Path) -> None:
    """A file without the wrong answers is counted as if they had been wrong, and has no probabilities to rank by."""
    wrong, word = {"up": "down", "down": "none", "none": "up"}, templates(recipe(), {TASK})[TASK].word
    answers = [q.truth["answer"] if i % 2 else wrong[q.truth["answer"]] for i, q in enumerate(questions)]
    given = [
        {"question_id": q.id, "completion": reference("so", word(answer))}
        | {f"p/{answer}": 0.8, f"p/{wrong[answer]}": 0.2}
        | {f"p/{wrong[wrong[answer]]}": 0.0}
        for q, answer in zip(questions, answers, strict=True)
    ]
    asked = recipe()
    document = evaluate(asked, None, tmp_path / "all", final=False, completions=write(given))
    right = [row for i, row in enumerate(given) if i % 2]
    with pytest.raises(Error, match="no completion, of 12"):
        evaluate(asked, None, tmp_path / "some", final=False, completions=write(right))
    some = evaluate(asked, None, tmp_path / "some", final=False, completions=write(right), partial=True)
    assert document["before"][TASK]["accuracy"]["value"] == some["before"][TASK]["accuracy"]["value"] == 0.5
    assert document["before"][TASK]["auroc"]["value"] is not None
    assert some["before"][TASK].get("auroc", {"value": None})["value"] is None
    assert some["before"]["parse_rate"]["value"] == 0.5
    record = json.loads((tmp_path / "some/evaluations/before.json").read_text())
    assert (record["missing"], record["backend"]) == (12, "completions")


def test_saved_rows_give_the_verdicts_and_figures_that_they_came_with(
    model: Path, questions: list[Question], tmp_path: Path
) -> None:
    asked = recipe(f"model={model}")
    document = evaluate(asked, None, tmp_path / "first", final=False)
    table = tmp_path / "first/evaluations/before.parquet"
    again = evaluate(asked, None, tmp_path / "again", final=False, completions=table)
    pd.testing.assert_frame_equal(rows(tmp_path / "first"), rows(tmp_path / "again"))
    for key in ("before", "baselines", "comparisons", "headline"):
        assert again[key] == document[key]
