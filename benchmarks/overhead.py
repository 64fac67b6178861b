"""What we add to TRL and to vLLM: our training step against trl.GRPOTrainer's, our evaluation against LLM.generate.

    python benchmarks/overhead.py [--quick] [--steps 40]         with vLLM: .venv-vllm/bin/python benchmarks/overhead.py

Training: the same model, data, seed and settings, learning rate 0, so that every side samples the same completions
(checked by hash). Each side runs in a process of its own, and they take turns, step by step, in an order that rotates.
A step is all of it: sampling, rewards, update, optimiser, logs, the next batch. `rlvr` is what train.py runs:
verifiers in their worker process, rollouts, metrics, alarms; `trl` is GRPOTrainer with a constant reward, as it comes;
`trl, patched` is that under `masked_positions_skipped`, which we add on CPUs. The ratio is the median over steps of
ours to theirs, with its 95 % bootstrap interval; beside the wall, processor time of the process and its children.

Evaluation: `VllmSampler.answer` against `LLM.generate` of the same prompts on the same engine, in turns, its prefix
cache emptied before each. Tokens per second compare generation with generation; the second pass, which reads the
probabilities at the answer slot, is reported beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.stats import bootstrap
from transformers import TrainerCallback
from trl import GRPOTrainer

from rlvr.evaluation.provenance import machine, versions
from rlvr.recipe import Recipe, load
from rlvr.training import run as running
from rlvr.training.learning.pool import grpo_rows
from rlvr.training.run import Run
from rlvr.training.trainer.grpo import Trainer
from rlvr.training.trainer.patches import masked_positions_skipped

RESULT = Path(__file__).resolve().parent / "results" / "overhead.json"
SIDES = ("rlvr", "trl, patched", "trl")
FULL = ["grpo.per_device_train_batch_size=16", "grpo.max_completion_length=64"]
QUICK = ["grpo.per_device_train_batch_size=8", "grpo.max_completion_length=16"]
WARM = 2  # steps that fill caches
EVALUATED = 64  # prompts


def recipe(folder: Path, steps: int, quick: bool) -> Recipe:
    """The quickstart without its warm start, at a learning rate of 0."""
    fixed = ["sft={}", "grpo.learning_rate=0.0", "report_to=none", f"grpo.max_steps={steps}", f"output_dir={folder}"]
    return load("quickstart", [*fixed, *(QUICK if quick else FULL)])


class Turns(TrainerCallback):  # type: ignore[misc]
    """Waits for its turn before each step, and then tells what the one before has cost."""

    def __init__(self, trainer: GRPOTrainer, turn: Any) -> None:
        self.turn, self.started, self.hash = turn, (0.0, 0.0), sha256()
        plain = trainer._generate

        def generate(prompts: list[Any]) -> Any:
            out = plain(prompts)
            self.hash.update(json.dumps([list(map(int, row)) for row in out[1]]).encode())
            return out

        trainer._generate = generate

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.told()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.told()

    def told(self) -> None:
        """What the step has cost; then wait."""
        wall, cpu = (after - before for after, before in zip(now(), self.started, strict=True))
        self.turn.write(json.dumps({"wall": wall, "cpu": cpu, "completions": self.hash.hexdigest()}) + "\n")
        self.turn.flush()
        if not sys.stdin.readline():
            raise SystemExit("nobody gives turns any more")
        self.started = now()


def now() -> tuple[float, float]:
    """Time on the wall, and processor time of this process and its children (Linux)."""
    ticks = 0
    for thread in Path("/proc/self/task").iterdir():
        for child in (thread / "children").read_text().split():  # the verifiers' process
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return time.perf_counter(), time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def train(side: str, folder: Path, steps: int, quick: bool) -> None:
    """One side, in this process."""
    turn = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what TRL prints is no turn
    run = Run(recipe(folder, steps, quick))
    if side == "rlvr":

        class Turning(Trainer):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                self.add_callback(Turns(self, turn))

        vars(running)["Trainer"] = Turning
        run.grpo()
        return
    run.grpo_config.reward_weights = None
    trainer = GRPOTrainer(
        model=run.model,
        reward_funcs=constant,
        args=run.grpo_config,
        train_dataset=Dataset.from_list(grpo_rows(run.pool, run.recipe.learning, run.grpo_config, run._render)),
        processing_class=run.tokenizer,
    )
    trainer.add_callback(Turns(trainer, turn))
    with nullcontext() if side == "trl" else masked_positions_skipped():
        trainer.train()


def constant(completions: Sequence[Any], **_: Any) -> list[float]:
    """The reward that costs nothing."""
    return [1.0] * len(completions)


def all_sides(steps: int, quick: bool) -> dict[str, Any]:
    """All sides, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        children = {side: start(side, Path(folder) / side.replace(", ", "_"), steps, quick) for side in SIDES}
        seen: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for child in children.values():
            answer(child)  # ready for the first step
        for number in range(steps):
            for place in range(len(SIDES)):
                side = SIDES[(number + place) % len(SIDES)]
                children[side].stdin.write("go\n")
                children[side].stdin.flush()
                seen[side].append(answer(children[side]))
        for child in children.values():
            child.communicate("end\n", timeout=600)
    for told in zip(*seen.values(), strict=True):
        assert len({one["completions"] for one in told}) == 1, "the sides sampled different completions"
    ratios = {
        f"rlvr / {other}": {
            clock: ratio([one[clock] for one in seen["rlvr"][WARM:]], [one[clock] for one in seen[other][WARM:]])
            for clock in ("wall", "cpu")
        }
        for other in SIDES[1:]
    }
    seconds = {side: round(median(one["wall"] for one in rows[WARM:]), 3) for side, rows in seen.items()}
    return {"steps": steps - WARM, "median_seconds": seconds, "ratio": ratios}


def start(side: str, folder: Path, steps: int, quick: bool) -> Any:
    words = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--steps", str(steps)]
    return subprocess.Popen(
        words + ["--quick"] * quick,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder.parent / f"{folder.name}.log").open("w"),
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def answer(child: Any) -> dict[str, Any]:
    """What a side tells of its step."""
    line = child.stdout.readline()
    if not line:
        raise SystemExit(f"a side ended early with exit code {child.wait()}; see its log")
    return json.loads(line)  # type: ignore[no-any-return]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Median of the steps' ratios, with its 95 % bootstrap interval."""
    ratios = np.asarray(ours) / np.asarray(theirs)
    low, high = bootstrap((ratios,), np.median, n_resamples=9999, method="percentile", rng=0).confidence_interval
    return {"value": round(float(np.median(ratios)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def evaluation(folder: Path, quick: bool, rounds: int) -> dict[str, Any]:
    """Our sampler and bare LLM.generate, in turns, in this process."""
    from vllm import SamplingParams

    from rlvr import policy
    from rlvr.loading import gather, templates

    asked = recipe(folder, 1, quick)
    questions = [q for q in gather(asked)[1] if q.split == "train"][: EVALUATED // (2 if quick else 1)]
    template = templates(asked, {questions[0].task})[questions[0].task]
    prompts = [template.render(q) for q in questions]
    tokens = int(asked.grpo["max_completion_length"])
    engine: dict[str, Any] = {"enforce_eager": True, "dtype": "float32", "kv_cache_memory_bytes": 2**30}
    sampler = policy.VllmSampler(asked.model, None, **engine)
    passes: list[float] = []
    generate = sampler.llm.generate

    def timed(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        out = generate(*args, **options)
        passes.append(time.perf_counter() - started)
        return out

    sampler.llm.generate = timed
    tokenizer = sampler.llm.get_tokenizer()
    encoded = [tokenizer.apply_chat_template(p, add_generation_prompt=True, return_dict=False) for p in prompts]
    inputs = [{"prompt_token_ids": ids} for ids in encoded]
    greedy = SamplingParams(temperature=0, max_tokens=tokens)
    ours, bare, slot, written = [], [], [], 0
    for number in range(rounds + 1):
        for who in ("ours", "bare") if number % 2 else ("bare", "ours"):
            sampler.llm.reset_prefix_cache()
            passes.clear()
            started = time.perf_counter()
            if who == "bare":
                outs = generate(inputs, greedy, use_tqdm=False)
                bare.append(time.perf_counter() - started)
                written = sum(len(out.outputs[0].token_ids) for out in outs)
            else:
                sampler.answer(prompts, template.slot_words, tokens, lambda done: None)
                whole = time.perf_counter() - started
                slot.append(sum(passes[1:]))
                ours.append(whole - slot[-1])
    return {
        "prompts": len(prompts),
        "tokens": written,
        "rounds": rounds,
        "tokens_per_second": {
            "ours": round(written / median(ours[1:]), 1),
            "LLM.generate": round(written / median(bare[1:]), 1),
        },
        "ratio": ratio(bare[1:], ours[1:]),
        "slot_pass_as_share_of_generation": round(median(slot[1:]) / median(bare[1:]), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small batch and few tokens")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=15, help="of evaluation")
    parser.add_argument("--only", choices=["training", "evaluation"])
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        train(options.side, options.folder, options.steps, options.quick)
        return
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "settings": QUICK if options.quick else FULL,
    }
    if options.only != "evaluation":
        result["training"] = all_sides(options.steps, options.quick)
    if options.only != "training":
        there = importlib.util.find_spec("vllm")
        with tempfile.TemporaryDirectory() as folder:
            result["evaluation"] = (
                evaluation(Path(folder), options.quick, options.rounds) if there else "skipped: vLLM is not installed"
            )
    result |= {"load_average": round(os.getloadavg()[0], 2), "machine": machine(), "versions": versions()}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
