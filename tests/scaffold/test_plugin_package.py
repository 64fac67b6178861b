"""A third party's package, installed by pip in an environment of its own: listed, checked, and trained with.

The scratch environment is empty but for a path to the packages of the running one, so that nothing is fetched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rlvr import plugins
from rlvr.recipe import load
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "plugin_package"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which pip has installed the package."""
    folder = tmp_path_factory.mktemp("scratch")
    source = folder / "package"  # a build leaves files beside its source
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    venv.create(folder / "env", with_pip=False)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "running.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    interpreter = folder / "env" / "bin" / "python"
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", str(source)]
    done = subprocess.run([interpreter, *install], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (site / "rlvr_cites_evidence" / "__init__.py").is_file()
    return interpreter


def rlvr(python: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The rlvr command of the scratch environment, in which this checkout is the rlvr that runs."""
    return subprocess.run(
        [python, "-c", "from rlvr.cli import main; main()", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_installed_there_and_not_here() -> None:
    assert "cites_evidence" not in plugins.names("verifiers")


def test_it_is_listed_with_where_it_comes_from(python: Path, tmp_path: Path) -> None:
    done = rlvr(python, tmp_path, "verifiers", "list", "--json")
    found = {row["name"]: row for row in json.loads(done.stdout)}
    row = found["cites_evidence"]
    assert (row["from"], row["version"], row["kind"]) == ("rlvr-cites-evidence", "1.2", "hard")
    assert "perturbation/response" in row["tasks"]
    assert found["label"]["from"] == "built in"


def test_it_passes_the_kit_there(python: Path, tmp_path: Path) -> None:
    done = rlvr(python, tmp_path, "verifiers", "check", "cites_evidence")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stuffed" not in done.stdout  # every check passed: nothing is wrong to be told


def test_a_mistake_in_its_options_is_named(python: Path, tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").write_text('{"question_id": "q", "completion": ""}\n')
    arguments = ["score", "rollouts.jsonl", "--recipe", "quickstart", "--out", "out.parquet", "--verifier"]
    for verifier, told in (
        ("cites_evidense", "no verifiers plugin 'cites_evidense', did you mean 'cites_evidence'?"),
        ("cites_evidence:lest=2", "unknown key 'lest', did you mean 'least'?"),
        ("cites_evidence:least=two", "least must be int, not 'two'"),
    ):
        done = rlvr(python, tmp_path, *arguments, verifier)
        assert done.returncode == 1
        assert told in done.stderr, done.stderr


@pytest.mark.slow
def test_a_recipe_that_names_it_trains(python: Path, tmp_path: Path) -> None:
    """Through accelerate launch and train.py: its column is in the rollouts, its mean in the metrics."""
    model = tiny.make(tmp_path / "model", tiny.planted(), steps=4)
    out = tmp_path / "run"
    recipe = load(
        "quickstart",
        [
            f"model={model}",
            f"output_dir={out}",
            "verifiers={label: {weight: 1.0}, cites_evidence: {weight: 0.3, most: 20}}",
            "lora={r: 4, target_modules: [q_proj, v_proj], layers_to_transform: null}",
            "source.evidence=1",
            "sft={}",
            "grpo.max_steps=2",
            "grpo.num_generations=4",
            "grpo.per_device_train_batch_size=8",
            "grpo.max_completion_length=32",
            "evaluation.questions=6",
            "evaluation.resamples=20",
            "evaluation.stages=[after]",
        ],
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    flags = ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    done = subprocess.run(
        [python, "-m", "accelerate.commands.launch", *flags, ROOT / "train.py", "--config", tmp_path / "recipe.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = pd.concat([pd.read_parquet(path) for path in sorted((out / "rollouts").glob("*.parquet"))])
    assert len(rows) == 2 * 8
    assert rows["cites_evidence"].between(0, 1).all()
    assert rows["cites_evidence/error"].isna().all()
    assert ((rows["label"] + 0.3 * rows["cites_evidence"]) - rows["reward"]).abs().max() < 1e-6
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    logged = [line["rewards/cites_evidence/mean"] for line in metrics if "rewards/cites_evidence/mean" in line]
    assert logged == pytest.approx(rows.groupby("step")["cites_evidence"].mean().tolist(), abs=1e-6)

    again = rlvr(python, tmp_path, "score", str(out), "--out", "again.parquet", "--json")
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["rows"] == len(rows) + 6  # the rollouts, and the evaluation
    assert [found["verifiers"][name]["changed"] for name in ("label", "cites_evidence")] == [0, 0]
