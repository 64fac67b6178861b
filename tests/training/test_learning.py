"""Probing, difficulty pools, curricula and the critic: what they keep, in which order, and real runs that use them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rlvr.cli import app
from rlvr.loading import gather, templates
from rlvr.plugins import load as load_plugin
from rlvr.policy import AnswerSlot
from rlvr.prompts import load as load_prompt
from rlvr.recipe import Learning, Recipe, load
from rlvr.training.learning.critic import passed, warm_start_rows
from rlvr.training.learning.pool import grpo_rows, laid_out, pass_rates, pooled
from rlvr.training.learning.probe import histogram, probe, summarise
from rlvr.training.run import Run
from rlvr.training.trainer.warm_start import WarmStart
from rlvr.types import Error, Question
from rlvr.verifier import Verifier
from tests import tiny
from tests.chance import verifiers

PREFERENCE = load_plugin("verifiers", "preference", Verifier)

LORA = {"r": 4, "target_modules": ["q_proj"], "layers_to_transform": None}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.make(tmp_path_factory.mktemp("tiny"), tiny.planted(), steps=2)
    return folder


@pytest.fixture
def by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the questions earn nothing whatever is written, the others by chance."""
    monkeypatch.setattr(Recipe, "open_verifiers", lambda self: verifiers())


def recipe(model: Path, out: Path, *overrides: str) -> Recipe:
    values = [
        f"model={model}",
        f"output_dir={out}",
        "source={name: tcell_cytokines, evidence: 1, questions: 40}",
        "verifiers={label: {weight: 1.0}, format: {weight: 0.2}}",
        f"lora={json.dumps(LORA)}",
        "sft={}",
        "evaluation={stages: []}",
        "grpo.max_steps=4",
        "grpo.num_generations=4",
        "grpo.per_device_train_batch_size=16",
        "grpo.max_completion_length=6",
        "deadline=null",
        *overrides,
    ]
    return load("quickstart", values)


def training(asked: Recipe) -> list[Question]:
    return [question for question in gather(asked)[1] if question.split == "train"]


def write_pool(path: Path, questions: list[Question]) -> str:
    """Pass rates that fall from 1 to 0 along the questions."""
    most = max(1, len(questions) - 1)
    rates = [1 - place / most for place in range(len(questions))]
    pd.DataFrame({"question_id": [q.id for q in questions], "pass_rate": rates}).to_parquet(path)
    return str(path)


# The recipe's section.
@pytest.mark.parametrize(
    ("learning", "told"),
    [
        ("{keep: [0.1, 0.9]}", "need learning.pool"),
        ("{curriculum: {0: 0.5}}", "need learning.pool"),
        ("{pool: p, keep: [0.9, 0.1]}", "give two pass rates in order"),
        ("{pool: p, keep: [0.1]}", "give two pass rates in order"),
        ("{pool: p, curriculum: {0: 0.0}}", "every share must be above 0"),
        ("{pool: p, curriculum: {0: 1.5}}", "at most 1"),
        ("{pool: p, curriculum: {soon: 0.5}}", "learning.curriculum must be a number"),
        ("{rounds: -1}", "must be at least 0"),
        ("{round: 1}", "did you mean 'rounds'"),
    ],
)
def test_what_a_recipe_may_not_ask(learning: str, told: str) -> None:
    with pytest.raises(Error, match=told) as caught:
        load("quickstart", [f"learning={learning}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["grpo.shuffle_dataset=true", "grpo.max_steps=null"])
def test_a_curriculum_orders_a_known_number_of_steps(override: str) -> None:
    with pytest.raises(Error, match=r"set grpo\.max_steps, remove grpo\.shuffle_dataset"):
        load("quickstart", ["learning={pool: p, curriculum: {0: 0.5}}", override])


# Pools.
def test_a_pool_keeps_what_sometimes_passes(model: Path, tmp_path: Path) -> None:
    questions = training(recipe(model, tmp_path))[:21]
    pool = write_pool(tmp_path / "probe.parquet", questions[:11])  # 1.0, 0.9, ... 0.0; ten were not probed
    kept = pooled(questions, Learning(pool=pool, keep=(0.15, 0.85)))
    assert kept == questions[2:9]
    assert pooled(questions, Learning(pool=pool)) == questions[:11]
    assert pooled(questions, Learning()) == questions
    with pytest.raises(Error, match=r"none of 11 probed training questions passes between 0\.55 and 0\.55"):
        pooled(questions, Learning(pool=pool, keep=(0.55, 0.55)))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (None, "no such file; make it: rlvr probe"),
        (b"not parquet", "cannot be read"),
        ({"question_id": ["a"]}, "column 'pass_rate' is missing"),
        ({"question_id": ["a"], "pass_rate": [1.5]}, "no share from 0 to 1"),
        ({"question_id": ["a"], "pass_rate": [None]}, "no share from 0 to 1"),
    ],
)
def test_a_pool_that_is_none(tmp_path: Path, table: Any, told: str) -> None:
    path = tmp_path / "probe.parquet"
    if isinstance(table, bytes):
        path.write_bytes(table)
    elif table is not None:
        pd.DataFrame(table).to_parquet(path)
    with pytest.raises(Error, match=told) as caught:
        pass_rates(path)
    assert "\n" not in str(caught.value)


# Curricula.
@given(
    count=st.integers(4, 30),
    each=st.integers(1, 4),
    steps=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20),
    seed=st.integers(0, 9),
)
def test_a_batch_asks_open_questions_once_and_evenly(count: int, each: int, steps: list[float], seed: int) -> None:
    opened = [max(each, round(share * count)) for share in steps]
    order = laid_out(count, opened, each, seed)
    assert order == laid_out(count, opened, each, seed)
    assert len(order) == each * len(steps)
    asked: Counter[int] = Counter()
    for number, first in enumerate(opened):
        batch = order[number * each : (number + 1) * each]
        assert len(set(batch)) == each and max(batch) < first
        closed = [asked[place] for place in range(first) if place not in batch]
        assert not closed or max(asked[place] for place in batch) <= min(closed)  # none waits while another comes again
        asked.update(batch)


def test_rows_go_from_easy_to_hard_as_the_steps_do(model: Path, tmp_path: Path) -> None:
    questions = training(recipe(model, tmp_path))[:20]
    learning = Learning(pool=write_pool(tmp_path / "p.parquet", questions), curriculum={"0": 0.2, "8": 1.0})
    config = SimpleNamespace(
        max_steps=10, gradient_accumulation_steps=2, steps_per_generation=4, num_iterations=1, seed=3,
        generation_batch_size=8, num_generations=4,
    )  # fmt: skip
    rows = grpo_rows(list(reversed(questions)), learning, config, lambda question: [{"content": question.id}])
    assert len(rows) == 5 * 2  # a batch of two questions for every two steps
    place = {question.to_json(): number for number, question in enumerate(questions)}
    for number, row in enumerate(rows):
        step = number // 2 * 2
        assert row["opens"] <= step
        assert place[row["question"]] < max(2, round(20 * (0.2 + 0.1 * step)) + 1)
    assert max(place[row["question"]] for row in rows[:2]) < 4
    assert max(place[row["question"]] for row in rows) >= 10


@pytest.mark.slow
def test_a_run_follows_its_curriculum_and_resumes_in_it(model: Path, tmp_path: Path, by_chance: None) -> None:
    """Real GRPO: the questions of each step are those that were laid out, and a resumed run asks the same."""
    plain = recipe(model, tmp_path / "run")
    pool = write_pool(tmp_path / "probe.parquet", training(plain))
    learning = f"learning={{pool: {pool}, keep: [0.2, 0.9], curriculum: {{0: 0.2, 3: 1.0}}, rounds: 1}}"
    asked = recipe(model, tmp_path / "run", learning, "grpo.save_strategy=steps", "grpo.save_steps=2")
    run = Run(asked)
    laid = grpo_rows(run.pool, asked.learning, run.grpo_config, run._render)
    run.grpo()
    rates = pass_rates(Path(pool))
    seen = _questions_by_step(tmp_path / "run")
    for step, ids in seen.items():
        here = {json.loads(row["question"])["id"] for row in laid[4 * (step - 1) : 4 * step]}
        assert here <= ids
        assert all(0.2 <= rates[name] <= 0.9 for name in ids)
        # What comes in the place of a flat group is open too.
        opened = {json.loads(row["question"])["id"] for row in laid if row["opens"] < step}
        assert ids <= opened
    shutil.rmtree(tmp_path / "run" / "adapter")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    Run(asked).grpo()
    assert _questions_by_step(tmp_path / "run") == seen


def _questions_by_step(run: Path) -> dict[int, set[str]]:
    files = (run / "rollouts").rglob("*.parquet")
    rows = pd.concat([pd.read_parquet(path, columns=["step", "question_id"]) for path in files])
    return {step: set(rows.loc[rows["step"] == step, "question_id"]) for step in sorted(set(rows["step"]))}


# Probing.
def test_a_summary_counts_what_was_scored() -> None:
    rows = pd.DataFrame(
        [
            {"question_id": "a", "reward": 1.0, "label": 1.0, "answer": "up", "completion": "right"},
            {"question_id": "a", "reward": 1.2, "label": 1.0, "answer": "up", "completion": "right, well put"},
            {"question_id": "a", "reward": 2.0, "label": 0.0, "answer": None, "completion": "well paid and wrong"},
            {"question_id": "a", "reward": None, "label": None, "answer": "up", "completion": "a verifier failed"},
            {"question_id": "b", "reward": None, "label": None, "answer": "up", "completion": "all failed"},
            {"question_id": "c", "reward": 0.2, "label": 0.0, "answer": "up", "completion": "wrong"},
        ]
    ).assign(task="t", **{"label/reason": "wrong"})
    found, other = summarise(rows, "label").to_dict("records")
    assert (found["question_id"], found["samples"], found["scored"], found["passed"]) == ("a", 4, 3, 2)
    assert (found["pass_rate"], found["reward"], found["parse_rate"]) == pytest.approx((2 / 3, 1.4, 0.75))
    assert (found["best"], found["task"]) == ("right, well put", "t")
    assert (other["question_id"], other["pass_rate"], other["reward_deviation"]) == ("c", 0.0, 0.0)
    assert not isinstance(other["best"], str)
    with pytest.raises(Error, match="no completion got a reward"):
        summarise(rows[rows["question_id"] == "b"], "label")


def test_a_right_answer_passes_however_little_it_earns() -> None:
    row = {"question_id": "a", "reward": 0.1, "label": 0.1, "answer": "up", "completion": "right", "task": "t"}
    rows = pd.DataFrame([{**row, "label/reason": "correct"}, {**row, "label/reason": "partial"}])
    assert summarise(rows, "label")["passed"].tolist() == [1]


@given(st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=1, max_size=300))
def test_the_histogram_counts_every_question_in_80_columns(rates: list[float]) -> None:
    lines = histogram(rates).splitlines()
    assert max(map(len, lines)) <= 80
    counts = [int(line.split()[-1]) for line in lines[1:-1]]
    assert sum(counts) == len(rates)
    assert (counts[0], counts[-1]) == (rates.count(0.0), rates.count(1.0))
    assert lines[-1].startswith(f"{sum(0 < rate < 1 for rate in rates)} of {len(rates)} questions")


def test_a_probe_says_what_a_policy_already_knows(model: Path, tmp_path: Path, by_chance: None) -> None:
    """A real policy on real questions through the command: what is written adds up, and feeds a pool and a critic."""
    asked = recipe(model, tmp_path / "run")
    arguments = ["quickstart", *_overrides(asked), "--samples", "4", "--questions", "10", "--out", str(tmp_path / "p")]
    done = CliRunner().invoke(app, ["probe", *arguments])
    assert done.exit_code == 0, done.output
    assert "of 10 questions sometimes pass" in done.stdout and "probe.parquet" in done.stdout
    found = pd.read_parquet(tmp_path / "p" / "probe.parquet")
    rows = pd.read_parquet(tmp_path / "p" / "evaluations" / "probe.parquet").assign(
        passed=lambda table: table["label"] == 1
    )
    assert len(found) == 10 and len(rows) == 40 and found["samples"].eq(4).all()
    again, joined = rows.groupby("question_id"), found.set_index("question_id")
    assert again["passed"].mean().to_dict() == pytest.approx(joined["pass_rate"].to_dict())
    assert again["reward"].mean().to_dict() == pytest.approx(joined["reward"].to_dict())
    assert 0 < found["pass_rate"].mean() < 1 and again["completion"].nunique().gt(1).any()  # sampled, not greedy

    questions, path = training(asked), str(tmp_path / "p" / "probe.parquet")
    assert len(pooled(questions, Learning(pool=path))) == 10
    by_task = templates(asked, {question.task for question in questions})
    imitated = warm_start_rows(questions, by_task, Learning(rationales=path), ["<|im_end|>"])
    assert len(imitated) == again["passed"].any().sum()
    assert {row["completion"][0]["content"] for row in imitated} <= set(rows.loc[rows["passed"], "completion"])


def _overrides(asked: Recipe) -> list[str]:
    keys = ("model", "output_dir", "source", "verifiers", "lora", "sft", "evaluation", "grpo", "deadline")
    return [f"{key}={json.dumps(asked.to_dict()[key])}" for key in keys]


@pytest.mark.parametrize(
    ("options", "told"),
    [({"samples": 1}, "take at least 2"), ({"by": "lable"}, "no verifier 'lable'; choose one of label, format")],
)
def test_a_probe_that_cannot_be(model: Path, tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(Error, match=told):
        probe(recipe(model, tmp_path), tmp_path / "p", **{"samples": 4, "most": 2, **options})


# The critic.
def test_the_critic_keeps_what_passed(model: Path, tmp_path: Path) -> None:
    one, two, three = training(recipe(model, tmp_path))[:3]
    best = {one.id: "best", two.id: "spells <|im_end|> out", three.id: None, "held-out": "not of this split"}
    path = tmp_path / "probe.parquet"
    pd.DataFrame({"question_id": list(best), "best": list(best.values())}).to_parquet(path)
    by_task, learning = {one.task: load_prompt(one.task)}, Learning(rationales=str(path))
    (row,) = warm_start_rows([one, two, three], by_task, learning, ["<|im_end|>"])
    assert row["completion"] == [{"role": "assistant", "content": "best"}]
    assert row["prompt"] == by_task[one.task].render(one)
    with pytest.raises(Error, match="none passed on this recipe's training questions"):
        warm_start_rows([two, three], by_task, learning, ["<|im_end|>"])
    with pytest.raises(Error, match="no such file; make it: rlvr probe"):
        warm_start_rows([one], by_task, Learning(rationales="nowhere.parquet"), [])


def test_a_verifier_judges_the_written_rationales(make_question) -> None:
    """Neighbours that say up for certain: kept where up was measured; where they say nothing, nothing is imitated."""
    vote = {"up": 0.9, "down": 0.1}
    truths = {"agrees": ("up", vote), "disagrees": ("down", vote), "unknown": ("up", None)}
    asked = [make_question(truth={"answer": a, "neighbours": v}, id=name) for name, (a, v) in truths.items()]
    other = make_question(task="cell/type", truth={"answer": "B cell"}, id="not judged")
    by_task = {question.task: load_prompt(question.task) for question in (*asked, other)}
    for critic in (PREFERENCE(), PREFERENCE(weighted=True)):
        assert [question.id for question in passed([*asked, other], by_task, critic)] == ["agrees", "not judged"]
    assert passed(asked, by_task, PREFERENCE(least=0.7)) == asked[:1]
    with pytest.raises(Error, match=r"learning\.critic preference: none of 3 training questions passes"):
        passed(asked, by_task, PREFERENCE(least=0.9))
    rows = warm_start_rows(asked, by_task, Learning(critic="preference"), [], critic=PREFERENCE())
    assert [row["prompt"] for row in rows] == [by_task[asked[0].task].render(asked[0])]
    assert len(warm_start_rows(asked, by_task, Learning(), [])) == len(asked)


@pytest.mark.parametrize("critic", ["label", "neighbours"])
def test_a_run_asks_the_critic_that_its_recipe_names(model: Path, tmp_path: Path, critic: str) -> None:
    """What is right by the measurement always passes; the vote of the neighbours is another opinion."""
    sft = "sft={max_steps: 2, per_device_train_batch_size: 4, learning_rate: 1.0e-3, gradient_checkpointing: false}"
    both = "verifiers={label: {weight: 1.0}, neighbours: {weight: 0.5}}"
    run = Run(recipe(model, tmp_path / "run", sft, both, f"learning.critic={critic}"))
    voted = {question.id: question.truth["neighbours"] or {} for question in run.train}
    agree = sum(voted[q.id].get(q.truth["answer"], 0.0) == max(voted[q.id].values(), default=1.0) for q in run.train)
    assert 0 < agree < len(run.train)
    assert len(run.imitated) == (agree if critic == "neighbours" else len(run.train))


def test_a_critic_must_be_one_of_the_verifiers(model: Path, tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"learning\.critic 'oracle' is none of the verifiers: label, format"):
        Run(recipe(model, tmp_path / "run", "learning.critic=oracle"))
    with pytest.raises(Error, match=r"learning\.critic is for written rationales"):
        Learning(critic="label", rationales="probe.parquet")


# The answer's say.
@pytest.mark.parametrize("items", [None, 100])
def test_an_answer_weighs_as_many_tokens_as_the_recipe_says(model: Path, tmp_path: Path, items: int | None) -> None:
    """By hand: each answer's word once, however often the thought has it, and nothing else."""
    sft = "sft={max_steps: 1, per_device_train_batch_size: 8, learning_rate: 1.0e-3, gradient_checkpointing: false}"
    run = Run(recipe(model, tmp_path / "run", sft))
    trainer = WarmStart(
        model=run.model,
        args=run.sft,
        train_dataset=Dataset.from_list(run.imitated),
        processing_class=run.tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    trained = trainer.model.eval()
    (template,) = run.templates.values()
    slot = AnswerSlot(run.tokenizer, template.slot_words)
    with torch.no_grad():
        plain = trainer.compute_loss(trained, dict(batch), num_items_in_batch=items)
        trainer.weigh(5.0, slot.words)
        weighed = trainer.compute_loss(trained, dict(batch), num_items_in_batch=items)
        chances = trained(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(dim=-1)
    lost = 0.0
    ends = {f"{word}</answer>" for word in template.slot_words}
    for row, ids in enumerate(batch["input_ids"].tolist()):
        (place,) = (
            i for i in range(len(ids)) if run.tokenizer.decode(ids[i:], skip_special_tokens=True).rstrip() in ends
        )
        lost -= float(chances[row, place - 1, ids[place]])
    tokens = items or int((batch["labels"][:, 1:] != -100).sum())
    assert float(weighed) == pytest.approx(float(plain) + 4.0 * lost / tokens, rel=1e-4)


def test_a_warm_start_weighs_answers_where_its_recipe_says_so(model: Path, tmp_path: Path) -> None:
    sft = "sft={max_steps: 2, per_device_train_batch_size: 4, logging_steps: 1, gradient_checkpointing: false}"
    losses = {}
    for weight in (1, 9):
        out = tmp_path / str(weight)
        Run(recipe(model, out, sft, f"learning.answer_weight={weight}")).warm_start()
        losses[weight] = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    assert losses[9] > 1.01 * losses[1]
    with pytest.raises(Error, match=r"learning\.answer_weight is 0\.5; it must be at least 1"):
        Learning(answer_weight=0.5)


def test_a_warm_start_alone_learns_what_the_critic_kept(model: Path, tmp_path: Path) -> None:
    """Critic-filtered SFT from end to end, without GRPO: one adapter, which is the warm start's."""
    asked = recipe(model, tmp_path / "run")
    kept = [(q.id, f"<think>Kept.</think><answer>{q.truth['answer']}</answer>") for q in training(asked)]
    pd.DataFrame(kept, columns=["question_id", "best"]).to_parquet(tmp_path / "r.parquet")
    sft = "sft={max_steps: 2, per_device_train_batch_size: 4, learning_rate: 1.0e-3, gradient_checkpointing: false}"
    options = [sft, "grpo.max_steps=0", f"learning.rationales={tmp_path / 'r.parquet'}"]
    run = Run(recipe(model, tmp_path / "run", *options))
    assert len(run.imitated) == len(kept)
    run.warm_start()
    run.grpo()
    before, after = (
        tmp_path / "run" / name / "adapter_model.safetensors" for name in ("warm_start/adapter", "adapter")
    )
    assert before.read_bytes() == after.read_bytes()
    assert not (tmp_path / "run" / "rollouts").exists()
