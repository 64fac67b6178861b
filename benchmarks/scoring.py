"""Seconds and memory to score and report 100,000 saved rollouts on one core, and to bootstrap 25,000 answers.

    python benchmarks/scoring.py [--rollouts 100000]      writes benchmarks/results/scoring.json

The rollouts are eight completions of about 300 words to each question about a made-up screen of 800 perturbations.
`rlvr score` gives their verdicts (parse, label, format, mention, in the verifiers' own process), then results.assemble
writes report.json from the same rows, with 2,000 resamples, every shortcut and every stratum, and report.write_report
the page. The whole of it is held to one core. Seconds are of processor time, this process and its children together,
beside those on the clock, in which other work on the machine counts.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from verification import prose  # type: ignore[import-not-found]

import rlvr
from rlvr import prompts
from rlvr.completions import reference
from rlvr.evaluation import metrics, rescore
from rlvr.plugins import load
from rlvr.recipe import load as load_recipe
from rlvr.source import Source

RESULT = Path(__file__).resolve().parent / "results" / "scoring.json"
TASK, GROUP = "perturbation/direction", 8
ANSWERS, PERTURBATIONS, RESAMPLES = 25_000, 400, 10_000
SOURCE = '''
"""A made-up screen: perturbations, their readouts, and labels that lean one way for each readout."""
import random
from dataclasses import dataclass
from typing import ClassVar
from rlvr.source import Source
from rlvr.types import Question

@dataclass(frozen=True)
class Screen(Source):
    name: ClassVar[str] = "made_up_screen"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "none"
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = "benchmarks/scoring.py"
    doi: ClassVar[str] = ""

    @classmethod
    def files(cls):
        return ()

    def questions(self):
        draw = random.Random(1)
        lean = [draw.random() for _ in range(500)]
        for p in range(800):
            split = "train" if p < 300 else "validation"
            for r in draw.sample(range(500), 25):
                fields = {"perturbation": f"P{p}", "readout": f"R{r}", "context": "primary human CD4+ T cells",
                          "modality": "CRISPRi knockdown", "evidence": []}
                truth = {"answer": "up" if draw.random() < lean[r] else "down", "context": "t", "neighbours": None,
                         "partners": None, "core": p % 9 == 0, "annotations": p % 97}
                yield Question(f"made_up:{p}:{r}", "perturbation/direction", fields, truth, "made_up_screen", split)
'''
RECIPE = {
    "model": "none",
    "source": {"name": "made_up_screen"},
    "verifiers": {"label": {"weight": 1.0}, "format": {"weight": 0.2}, "mention": {"weight": 0.1}},
}


@dataclass(frozen=True)
class Cost:
    """What one step took."""

    processor: float
    clock: float

    @classmethod
    def of(cls, step: Callable[[], Any]) -> Cost:
        before, started = _spent(), time.perf_counter()
        step()
        gc.collect()  # the verifiers' process ends with its layer; until then its time is not counted
        return cls(round(_spent() - before, 1), round(time.perf_counter() - started, 1))


def _spent() -> float:
    """Processor time of this process and of the children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak() -> dict[str, float]:
    """The most memory that was resident, in MiB: of this process, and of its largest child (Linux)."""
    own, child = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"this_process": round(own), "largest_child": round(child)}


def write_run(folder: Path, count: int) -> None:
    """A run's folder with `count` completions, four in five well formed, right more often than not."""
    draw = random.Random(0)
    (folder / "evaluations").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    questions = load("data", "made_up_screen", Source)().questions()
    held_out = [q for q in questions if q.split == "validation"][: count // GROUP]
    rows = []
    for question in held_out:
        truth = question.truth["answer"]
        prompt = "\n\n".join(message["content"] for message in prompts.load(TASK).render(question))
        for sample in range(GROUP):
            answer = truth if draw.random() < 0.6 else {"up": "down", "down": "up"}[truth]
            text = reference(prose(draw, question), answer)
            up = min(0.99, max(0.01, draw.gauss(0.6 if answer == "up" else 0.4, 0.2)))
            rows.append(
                {
                    "question_id": question.id,
                    "sample": sample,
                    "context": "t",
                    "perturbation": question.cluster,
                    "readout": question.fields["readout"],
                    "split": "validation",
                    "truth": truth,
                    "prompt": prompt,
                    "completion": text if draw.random() < 0.8 else text.replace("</think>", "", 1),
                    "finished": True,
                    "lenient": answer,
                    "p/up": up,
                    "p/down": 1 - up,
                }
            )
    pd.DataFrame(rows).to_parquet(folder / "evaluations" / "after.parquet")


def with_verdicts(folder: Path, verdicts: Path) -> None:
    """Put what `rlvr score` wrote beside the rows it read, as `rlvr evaluate` keeps them."""
    path = folder / "evaluations" / "after.parquet"
    rows, scored = pd.read_parquet(path), pd.read_parquet(verdicts)
    fresh = [name for name in scored.columns if name not in rows.columns and name not in rescore.AS_SAVED]
    pd.concat([rows, scored[fresh]], axis=1).to_parquet(path)


def apart(work: Callable[[], Any]) -> Any:
    """What `work` gives, done in a process of its own, so that its memory counts nowhere else. JSON values only."""
    with tempfile.NamedTemporaryFile("w+") as told:
        pid = os.fork()
        if pid == 0:
            Path(told.name).write_text(json.dumps(work()))
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            raise SystemExit("a step of the benchmark failed; see above")
        return json.loads(Path(told.name).read_text())


def report_of(count: int) -> dict[str, Any]:
    """Score, assemble and write the page of `count` rollouts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        (folder / "data" / "made_up_screen.py").write_text(SOURCE)
        rlvr.__path__.append(str(folder))
        run, verdicts = folder / "run", folder / "verdicts.parquet"

        def scored() -> dict[str, Any]:
            return {"score": Cost.of(lambda: rescore.rescore(run, [], None, verdicts)).__dict__, "peak_mib": peak()}

        def reported() -> dict[str, Any]:
            from rlvr.evaluation.report import write_report
            from rlvr.evaluation.results import assemble

            recipe = load_recipe(str(run / "recipe.yaml"))
            questions = list(load("data", "made_up_screen", Source)().questions())
            template = {TASK: prompts.load(TASK)}
            steps = {"assemble": Cost.of(lambda: assemble(run, recipe, [], template, questions, {})).__dict__}
            return {**steps, "page": Cost.of(lambda: write_report(run)).__dict__, "peak_mib": peak()}

        apart(lambda: write_run(run, count))
        first = apart(scored)
        apart(lambda: with_verdicts(run, verdicts))
        second = apart(reported)
        size = (run / "report.html").stat().st_size / 2**20
    steps = {name: cost for part in (first, second) for name, cost in part.items() if name != "peak_mib"}
    total = {kind: round(sum(cost[kind] for cost in steps.values()), 1) for kind in ("processor", "clock")}
    return {
        "rollouts": count,
        "seconds": {**steps, "sum": total},
        "peak_mib": {"score": first["peak_mib"], "assemble and page": second["peak_mib"]},
        "page_mib": round(size, 1),
    }


def bootstrap(perturbations: int) -> dict[str, Any]:
    """Every metric of one task with two labels, with RESAMPLES resamples of ANSWERS answers."""
    draw = np.random.default_rng(0)
    truth = draw.random(ANSWERS) < 0.13
    first = np.clip(0.13 + 0.2 * truth + draw.normal(0, 0.15, ANSWERS), 0, 1)
    system = metrics.System(
        labels=np.where(truth, "yes", "no").tolist(),
        probabilities=np.column_stack([first, 1 - first]),
        answers=np.where(first > 0.5, "yes", "no").tolist(),
        label_names=["yes", "no"],
        readouts=[f"R{i}" for i in draw.integers(1500, size=ANSWERS)],
        clusters=[f"P{i}" for i in draw.permutation(ANSWERS) % perturbations],
    )
    found: dict[str, Any] = {}
    cost = Cost.of(lambda: found.update(metrics.summarise("perturbation/effect", **system, resamples=RESAMPLES)))
    sizes = {"answers": ANSWERS, "perturbations": perturbations, "resamples": RESAMPLES, "metrics": len(found)}
    return {**sizes, "seconds": cost.__dict__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=100_000)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    reported = report_of(options.rollouts)
    resampled = [bootstrap(PERTURBATIONS), bootstrap(ANSWERS)]
    from rlvr.evaluation.provenance import machine, versions

    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "report": reported,
        "bootstrap": resampled,
        "load_average": round(os.getloadavg()[0], 2),
        "machine": machine(),
        "versions": versions(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
