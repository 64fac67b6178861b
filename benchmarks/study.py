"""What the comparisons of training runs share: one warm-started model for each seed, one run for each row and seed.

study = Study("perturbqa_direction", Path("runs/study"), ["grpo.max_steps=20"])
study.row("plain", seed=0, overrides=["verifiers={label: {weight: 1.0}}"])

Every row starts from the same weights, so rows differ in their overrides alone. What has finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

from rlvr.evaluation import provenance
from rlvr.evaluation.results.compare import compare_runs
from rlvr.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("auroc_macro_gene", "auroc", "accuracy", "macro_f1")
MEANT = ("row", "held_out", "trained", "flat_groups", "completions", "grpo_seconds")  # averaged over seeds


@dataclass(frozen=True)
class Study:
    """overrides: of every run, warm starts too."""

    recipe: str
    folder: Path
    overrides: Sequence[str] = ()

    def model(self, seed: int) -> Path:
        """The model that all rows of a seed start from: warm start, evaluation, merged export."""
        model, run = self.folder / f"model_{seed}", self._run("warm_start", seed)
        if not model.is_dir():
            self.train(run, [*self.overrides, f"seed={seed}", "grpo.max_steps=0", "evaluation.stages=[after]"])
            self._call("-m", "rlvr.cli", "export", run, "--to", model, "--merged")
        return model

    def probe(self, seed: int, samples: int, questions: int) -> Path:
        """The pass rates of the model that the rows start from."""
        out = self.folder / f"probe_{seed}"
        if not (out / "probe.parquet").is_file():
            given = [*self.overrides, f"model={self.model(seed)}", f"seed={seed}"]
            options = ["--samples", samples, "--questions", questions, "--out", out]
            self._call("-m", "rlvr.cli", "probe", self.recipe, *given, *options)
        return out / "probe.parquet"

    def row(self, name: str, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
        """Train from the seed's model, evaluate, and say what came of it."""
        run, model = self._run(name, seed), self.model(seed)
        if not (run / "report.json").is_file():
            start = [f"model={model}", f"seed={seed}", "sft={}", "evaluation.stages=[after]"]
            self.train(run, [*self.overrides, *start, *overrides])
        return {"row": name, "seed": seed, **_found(run, self._run("warm_start", seed)), "overrides": list(overrides)}

    def train(self, run: Path, overrides: Iterable[str]) -> None:
        self._call(ROOT / "train.py", "--config", self.recipe, *overrides, f"output_dir={run}")

    def _run(self, name: str, seed: int) -> Path:
        return self.folder / f"{name}_{seed}"

    def _call(self, *arguments: object) -> None:
        command = [sys.executable, *map(str, arguments)]
        print(" ".join(command), flush=True)
        if subprocess.run(command, check=False).returncode:
            raise SystemExit("the command above failed; mend it, and the same benchmark goes on from there")


def options(description: str | None, recipe: str, out: Path, names: Sequence[str]) -> argparse.ArgumentParser:
    """The arguments that every comparison takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=recipe)
    parser.add_argument("--rows", nargs="+", choices=names, default=list(names))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs") / out.stem, help="where the runs go")
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of every run")
    return parser


def write(out: Path, rows: Sequence[dict[str, Any]], study: Study) -> None:
    """The rows, their means over seeds, and on what machine and versions; printed as well."""
    table = pd.json_normalize([{key: row[key] for key in MEANT} for row in rows])
    means = table.groupby("row", sort=False).mean(numeric_only=True).reset_index()
    result = {
        "recipe": study.recipe,
        "overrides": list(study.overrides),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "means": means.to_dict("records"),
        "rows": list(rows),
    }
    write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    print(means.set_index("row").T.to_string(float_format=lambda value: f"{value:.3f}"))


def _report(run: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run / "report.json").read_text())
    return document


def _found(run: Path, start: Path) -> dict[str, Any]:
    """Held-out scores before and after, and what they gained, paired (rlvr.evaluation.results.compare);
    what was trained early and late; which of the report's monitors went off; and what it took."""
    report, started = _report(run), _report(start)["after"]
    after, gain = report["after"], compare_runs(run, start)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["phase"] == "grpo" and "reward" in line]
    rows = pd.concat([pd.read_parquet(path) for path in sorted((run / "rollouts").glob("*.parquet"))])
    discarded = [pd.read_parquet(path) for path in (run / "rollouts" / "discarded").glob("*.parquet")]
    judges = [name.removesuffix("/reason") for name in rows.columns if name.endswith("/reason")]
    late = rows["step"] > rows["step"].max() - max(1, len(steps) // 4)
    early = rows["step"] <= max(1, len(steps) // 4)
    scores = {
        task: {name: (started[task][name]["value"], after[task][name]["value"]) for name in KEPT if name in after[task]}
        for task in gain["tasks"]
    }
    return {
        "held_out": {
            f"{name}/{when}": _mean(pair[place] for pairs in scores.values() if (pair := pairs.get(name)))
            for name in KEPT
            for place, when in enumerate(("before", "after"))
        },
        "gain": {task: {name: of[name] for name in KEPT if name in of} for task, of in gain["tasks"].items()},
        "answers": gain["overlap"],
        "trained": {
            f"{judge}/{when}": _mean(pd.to_numeric(rows.loc[part, judge]).dropna())
            for judge in judges
            for when, part in (("early", early), ("late", late))
        },
        "monitors": [f"{of['monitor']} {of['subject']}: {of['detail']}" for of in report["monitors"] if not of["ok"]],
        "flat_groups": _mean(line["frac_reward_zero_std"] for line in steps),
        "completions": len(rows) + sum(map(len, discarded)),
        "grpo_seconds": report["seconds"].get("grpo"),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return mean(known) if known else None
