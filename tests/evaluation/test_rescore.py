"""Re-scoring: the verdicts of saved completions are those of training, and every difference is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import rlvr
from rlvr import prompts
from rlvr.completions import reference
from rlvr.evaluation import rescore
from rlvr.plugins import load as load_plugin
from rlvr.recipe import load
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.source import Source
from rlvr.types import Error, Question
from rlvr.verifier import Verifier

TASK = "perturbation/direction"
N = 30  # questions
SOURCE = """
from dataclasses import dataclass
from typing import ClassVar
from rlvr.source import Source
from rlvr.types import Question

@dataclass(frozen=True)
class Planted(Source):
    name: ClassVar[str] = "planted"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "none"
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = "nobody"
    doi: ClassVar[str] = "10.0/0"
    n: int = 30

    @classmethod
    def files(cls):
        return ()

    def questions(self):
        for i in range(self.n):
            fields = {"perturbation": f"GENE{i}", "readout": "IL2", "context": "T cells", "modality": "knockdown",
                      "evidence": []}
            truth = {"answer": "up" if i % 3 else "down", "neighbours": None, "context": "t"}
            split = "train" if i < 20 else "validation"
            yield Question(f"planted:{i}", "perturbation/direction", fields, truth, "planted", split)
"""
RECIPE: dict[str, Any] = {
    "model": "none",
    "source": {"name": "planted"},
    "verifiers": {"label": {"weight": 1.0}, "format": {"weight": 0.2}, "mention": {"weight": 0.1}},
    "deadline": None,
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A source of thirty questions, found as a built-in is."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "data").mkdir()
    (folder / "data" / "planted.py").write_text(SOURCE)
    before = list(rlvr.__path__)
    rlvr.__path__.append(str(folder))
    yield folder
    rlvr.__path__[:] = before
    sys.modules.pop("rlvr.data.planted", None)


@pytest.fixture
def questions(planted: Path) -> list[Question]:
    return list(load_plugin("data", "planted", Source)().questions())


def completions(question: Question) -> list[str]:
    """Four of one group: right, wrong, a bare answer, and a loop that never ended."""
    gene = question.fields["perturbation"]
    return [
        reference(f"{gene} and IL2", "up"),
        reference(f"{gene} " * 3, "down"),
        reference("", "up"),
        f"<think>{gene} " + "and so on " * 20,
    ]


@pytest.fixture
def run(questions: list[Question], tmp_path: Path) -> Callable[..., Path]:
    """run(verifiers={...}): a run's folder with two steps of rollouts and one evaluation, as training leaves it."""

    def make(**changed: Any) -> Path:
        folder = tmp_path / "run"
        (folder / "rollouts").mkdir(parents=True)
        (folder / "evaluations").mkdir()
        (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, **changed}))
        recipe = load(str(folder / "recipe.yaml"))
        opened = {name: Weighted(*values) for name, values in recipe.open_verifiers().items()}
        layer = RewardLayer(opened, {TASK: prompts.load(TASK).answers})
        for step in (1, 2):
            layer.step = step - 1
            asked = [q for q in questions if q.split == "train"][step - 1 :: 2]
            pairs = [(q, text) for q in asked for text in completions(q)]
            rows = layer.score([q for q, _ in pairs], [t for _, t in pairs], ["loop" not in t for _, t in pairs])
            own = [
                {"step": step, "phase": "grpo", "group": i // 4, "prompt": "?", **row, "advantage": 0.5}
                for i, row in enumerate(rows)
            ]
            pd.DataFrame(own).to_parquet(folder / "rollouts" / f"step_{step:06d}_0000001_rank0.parquet")
        layer.step = 0
        held_out = [q for q in questions if q.split == "validation"]
        rows = layer.score(held_out, [completions(q)[0] for q in held_out])
        extra = {"context": "t", "split": "validation", "prompt": "?", "p/up": 0.5}
        pd.DataFrame([extra | row for row in rows]).to_parquet(folder / "evaluations" / "before.parquet")
        return folder

    return make


def saved(folder: Path) -> pd.DataFrame:
    files = [*sorted((folder / "rollouts").iterdir()), *sorted((folder / "evaluations").iterdir())]
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def json_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("deadline", [None, 60.0])
def test_the_recipes_own_verifiers_say_again_what_they_said(run, tmp_path, deadline) -> None:
    """In this process, and in a worker: the same rows, in the same order."""
    folder = run(deadline=deadline)
    found = rescore.rescore(folder, [], None, tmp_path / "again.parquet").to_dict()
    old, new = saved(folder), pd.read_parquet(tmp_path / "again.parquet")
    assert found["rows"] == len(old) == len(new) == 2 * 40 + 10
    assert {name: row["changed"] for name, row in found["verifiers"].items()} == {"label": 0, "format": 0, "mention": 0}
    pd.testing.assert_frame_equal(
        old[list(old)].reindex(columns=list(new)).drop(columns="phase"), new.drop(columns="phase")
    )
    assert set(new["phase"]) == {"grpo", "before"}
    assert set(saved(folder)) - set(new) == {"context", "split", "p/up"}  # what evaluation adds beside a rollout


def test_weights_of_the_step_and_gates_are_those_of_training(run, tmp_path) -> None:
    verifiers = {"label": {"weight": {0: 1.0, 1: 3.0}}, "format": {"weight": 0.5, "gate": True}}
    folder = run(verifiers=verifiers)
    rescore.rescore(folder, [], None, tmp_path / "again.parquet")
    old, new = saved(folder), pd.read_parquet(tmp_path / "again.parquet")
    assert new.groupby("step")["reward"].max().tolist() == [1.5, 3.5]
    assert (new["gate"] == "format").sum() == 2 * 20
    pd.testing.assert_series_equal(old["reward"], new["reward"])
    pd.testing.assert_series_equal(old["gate"], new["gate"])


def test_a_changed_option_is_shown_with_its_effect(run, tmp_path) -> None:
    """mention pays a name said three times by default, and not at most=2."""
    folder = run()
    found = rescore.rescore(folder, ["mention:most=2"], None, tmp_path / "out.parquet").to_dict()
    (name, row), *others = found["verifiers"].items()
    assert (name, others) == ("mention", [])
    old, new = saved(folder), pd.read_parquet(tmp_path / "out.parquet")
    different = (old["mention"] != new["mention"]).sum()
    assert row["changed"] == different == 20
    assert (row["before"], row["after"]) == pytest.approx((old["mention"].mean(), new["mention"].mean()))
    assert row["reasons"]["stuffed"] == 20
    assert len(row["examples"]) == 3
    assert all((e["before"], e["after"], e["reason"]) == (0.5, 0.0, "stuffed") for e in row["examples"])
    assert "label" not in new.columns


def test_options_are_the_recipes_until_they_are_given(run, tmp_path) -> None:
    folder = run(verifiers={"mention": {"weight": 0.1, "most": 2}, "label": {}})
    kept = rescore.rescore(folder, ["mention"], None, tmp_path / "kept.parquet").to_dict()
    assert kept["verifiers"]["mention"]["changed"] == 0
    other = rescore.rescore(folder, ["mention:most=4,weight=2"], None, tmp_path / "other.parquet").to_dict()
    assert other["verifiers"]["mention"]["changed"] == 20
    assert pd.read_parquet(tmp_path / "other.parquet")["reward"].max() == 2.0


def test_a_verifier_that_was_not_in_the_run_has_nothing_to_compare(run, tmp_path) -> None:
    found = rescore.rescore(run(verifiers={"label": {}}), ["format"], None, tmp_path / "out.parquet").to_dict()
    row = found["verifiers"]["format"]
    assert (row["before"], row["compared"], row["changed"], row["examples"]) == (None, 0, None, [])
    assert row["after"] is not None


def test_one_file_of_a_run_finds_the_runs_recipe(run, tmp_path) -> None:
    file = next((run() / "rollouts").iterdir())
    assert rescore.rescore(file, [], None, tmp_path / "out.parquet").rows == 40


def test_json_lines_need_but_an_id_and_a_completion(questions, tmp_path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    right, cut = reference("GENE1 and IL2", "up"), reference("GENE2", "up")
    lines = json_lines(
        tmp_path / "c.jsonl",
        {"question_id": "planted:1", "completion": right},
        {"question_id": "planted:2", "completion": cut, "finished": False},
        {"question_id": "planted:2", "completion": "\ud800", "model": "other"},
    )
    found = rescore.rescore(lines, ["label", "format"], str(recipe), tmp_path / "out.parquet")
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert found.rows == 3
    assert table["label"].tolist() == [1.0, 0.0, 0.0]
    assert table["answer"].tolist() == ["up", None, None]
    assert table["finished"].tolist() == [True, False, True]
    assert table["step"].isna().all()


def test_ids_that_no_source_knows_are_listed_and_counted(run, questions, tmp_path) -> None:
    recipe = str(run() / "recipe.yaml")
    rows = [{"question_id": i, "completion": ""} for i in ("planted:0", "lost:2", "lost:1", "lost:2")]
    found = rescore.rescore(json_lines(tmp_path / "c.jsonl", *rows), [], recipe, tmp_path / "out.parquet")
    assert (found.rows, found.skipped, found.missing) == (1, 3, ("lost:1", "lost:2"))
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 1
    strangers = json_lines(tmp_path / "s.jsonl", *rows[1:])
    with pytest.raises(Error, match=r"not one of its 2 question ids \(lost:1, lost:2\) is in the recipe's sources"):
        rescore.rescore(strangers, [], recipe, tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"question_id": "planted:1", "completion": ""}\n{"question_id"', ":2: not JSON"),
        ("[1]\n", ":1: needs an object with the strings question_id and completion"),
        ('{"question_id": 3, "completion": ""}\n', ":1: needs an object"),
        ('{"question_id": "planted:1", "completion": null}\n', ":1: needs an object"),
        ('{"question_id": "planted:1", "completion": "", "finished": 1}\n', "finished must be true or false"),
        ("[" * 100_000, ":1: not JSON"),
        ("\n", "not one of its 0 question ids"),
    ],
)
def test_bad_lines_are_named(run, tmp_path, text, told) -> None:
    (tmp_path / "c.jsonl").write_text(text)
    with pytest.raises(Error) as caught:
        rescore.rescore(tmp_path / "c.jsonl", [], str(run() / "recipe.yaml"), tmp_path / "out.parquet")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


def test_a_file_in_no_text_encoding_is_named(run, tmp_path) -> None:
    (tmp_path / "c.jsonl").write_bytes(b'{"question_id": "planted:1", "completion": "\xff\xfe"}\n')
    with pytest.raises(Error, match=r"c\.jsonl:1: not JSON"):
        rescore.rescore(tmp_path / "c.jsonl", [], str(run() / "recipe.yaml"), tmp_path / "out.parquet")


def test_files_that_hold_no_rollouts_are_named(run, tmp_path) -> None:
    recipe = str(run() / "recipe.yaml")
    pq.write_table(pa.table({"question_id": ["planted:1"]}), tmp_path / "thin.parquet")
    pq.write_table(pa.table({"question_id": ["planted:1"], "completion": [None]}), tmp_path / "null.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "table.csv").touch()
    (tmp_path / "empty").mkdir()
    for name, told in (
        ("thin.parquet", "has no column completion"),
        ("null.parquet", "without question_id or completion"),
        ("broken.parquet", "is no Parquet file, or a broken one"),
        ("table.csv", r"are read from \.parquet or \.jsonl files"),
        ("empty", "holds no rollouts"),
        ("absent", "there is no such file"),
        ("absent.csv", "there is no such file"),
    ):
        with pytest.raises(Error, match=told):
            rescore.rescore(tmp_path / name, [], recipe, tmp_path / "out.parquet")


def test_rollouts_without_a_recipe_ask_for_one(tmp_path) -> None:
    lines = json_lines(tmp_path / "c.jsonl", {"question_id": "planted:1", "completion": ""})
    with pytest.raises(Error, match="say --recipe NAME_OR_PATH"):
        rescore.rescore(lines, [], None, tmp_path / "out.parquet")


def test_nothing_that_is_read_is_overwritten(run, tmp_path) -> None:
    folder = run()
    file = next((folder / "rollouts").iterdir())
    before = file.read_bytes()
    for source, out in ((file, file), (folder, file), (folder, folder / "rollouts" / "new.parquet")):
        with pytest.raises(Error, match="lies among the rollouts that are read"):
            rescore.rescore(source, [], None, out)
    assert file.read_bytes() == before


def test_a_verifier_that_keeps_failing_leaves_what_was_there(run, tmp_path, monkeypatch) -> None:
    folder, out = run(), tmp_path / "out" / "verdicts.parquet"
    out.parent.mkdir()
    out.write_bytes(b"what was there")

    def fail(self: Any, question: Question, completion: Any) -> Any:
        raise RuntimeError("no licence")

    monkeypatch.setattr(load_plugin("verifiers", "format", Verifier), "verify", fail)
    with pytest.raises(Error, match=r"verifier format failed on .*no licence"):
        rescore.rescore(folder, [], None, out)
    assert out.read_bytes() == b"what was there"
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_rows_are_scored_a_batch_at_a_time(planted, tmp_path, monkeypatch) -> None:
    """However many rollouts there are, no more than BATCH of them are in hand."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(RECIPE))
    count = 5 * rescore.BATCH + 7
    ids = [f"planted:{i % N}" for i in range(count)]
    table = pa.table({"question_id": ids, "completion": [reference("GENE1", "up")] * count, "finished": [True] * count})
    pq.write_table(table, tmp_path / "many.parquet", row_group_size=count)
    sizes = []
    plain = RewardLayer.score

    def counted(self: RewardLayer, asked: list[Question], texts: list[str], finished: Any = None) -> Any:
        sizes.append(len(texts))
        return plain(self, asked, texts, finished)

    monkeypatch.setattr(RewardLayer, "score", counted)
    found = rescore.rescore(tmp_path / "many.parquet", ["label"], str(tmp_path / "mine.yaml"), tmp_path / "out.parquet")
    assert found.rows == sum(sizes) == count
    assert max(sizes) <= rescore.BATCH
    written = pq.ParquetFile(tmp_path / "out.parquet")
    assert written.metadata.num_rows == count
    assert pd.read_parquet(tmp_path / "out.parquet")["question_id"].tolist() == ids


def test_it_needs_no_torch_and_prints_no_control_characters(run, planted, tmp_path) -> None:
    """As a command: what a completion says reaches the terminal only in quotes."""
    folder = run()
    rows = pd.read_parquet(next((folder / "rollouts").iterdir())).head(1)
    rows["completion"] = reference("\x1b[2J\x1b]0;owned\x07" + "x" * 5, "up")
    rows["label"] = 0.25
    rows.to_parquet(folder / "rollouts" / "step_000003_0000001_rank0.parquet")
    code = (
        f"import sys, rlvr; rlvr.__path__.append({str(planted)!r})\n"
        "from rlvr.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "score", str(folder), "--verifier", "label", "--out", "out.parquet"]
    root = str(Path(rlvr.__file__).parent.parent)
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": root}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "\x1b" not in done.stdout
    assert "91 completions scored" in done.stdout
    assert "0.250 -> " in done.stdout
    assert (tmp_path / "out.parquet").is_file()
