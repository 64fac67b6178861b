"""Exact resume: a tiny run killed at random moments and started again with the same command, beside one left alone.

    python benchmarks/kills.py --kills 20        writes benchmarks/results/kills.json

The model is tests/tiny.py's, the recipe `recipe()` below: a warm start, then GRPO over several epochs, where one
generation serves two optimiser steps and checkpoints and logs fall between them. Each kill is a SIGKILL that the
process sends itself: it waits for a chosen phase (as many kills for each of PHASES), and in it for a random time. What
it was really in is read from a note that it keeps. In the end adapters, evaluations, rollouts and every metric but
timings must be bit-identical to the run that was left alone.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "kills.json"
# Where a kill is to fall, and within how many seconds of the phase's beginning: about as long as it lasts.
PHASES = {
    "generation": 0.2,
    "verification": 0.01,
    "optimiser step": 0.002,
    "checkpoint write": 0.1,
    "evaluation": 0.15,
    "warm start": 1.0,
}
FIRST = {"evaluation", "warm start"}  # the phases outside GRPO
TIMINGS = ("time", "step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second")
NOTE, KILL = "RLVR_KILLS_NOTE", "RLVR_KILLS_AT"  # what the parent tells the child


def recipe(model: Path, out: Path) -> dict[str, Any]:
    """Twelve questions are three generations an epoch; each serves two steps; saves and logs fall in between."""
    adapted = ["q_proj", "v_proj", "up_proj"]
    train = {"gradient_checkpointing": False, "save_strategy": "steps", "save_steps": 3, "logging_steps": 2}
    return {
        "model": str(model),
        "output_dir": str(out),
        "source": {"name": "tcell_cytokines", "evidence": 1, "questions": 12},
        "verifiers": {"label": {"weight": {0: 0.5, 10: 1.0}}, "format": {"weight": 0.2}, "mention": {"weight": 0.1}},
        "lora": {"r": 4, "lora_alpha": 8, "target_modules": adapted, "lora_dropout": 0.05},
        "sft": {**train, "max_steps": 8, "per_device_train_batch_size": 4, "learning_rate": 1e-3},
        "grpo": {
            **train,
            "max_steps": 16,
            "num_generations": 4,
            "per_device_train_batch_size": 8,
            "steps_per_generation": 2,
            "learning_rate": 1e-3,
            "max_completion_length": 32,
        },
        "evaluation": {"questions": 8, "resamples": 50},
        "report_to": "none",
    }


def launch(
    config: Path, script: Path, told: Mapping[str, str] = {}, ranks: int = 1
) -> subprocess.CompletedProcess[str]:
    """The one command that starts the run and goes on with it. told: more of its environment."""
    many = ["--multi_gpu", "--num_machines", "1", "--main_process_port", "0"] if ranks > 1 else ["--cpu"]
    flags = [*many, "--num_processes", str(ranks), "--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *flags, str(script), "--config", str(config)]
    environment = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **told}
    # On a busy machine threads that wait for each other cost more than they do, so a single process has one core.
    cores = os.sched_getaffinity(0)
    pin = functools.partial(os.sched_setaffinity, 0, cores if ranks > 1 else {random.choice(sorted(cores))})
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=config.parent,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        preexec_fn=pin,
    )


def killed(folder: Path, model: Path, quota: Counter[str], rng: random.Random) -> list[dict[str, Any]]:
    """Start one run until it has finished, killing it as long as `quota` asks for it; the kills, in order."""
    config, script = write(folder, model), Path(__file__).resolve()
    kills: list[dict[str, Any]] = []
    while True:
        aimed = _aim(folder / "run", quota, rng)
        aim = {KILL: json.dumps([*aimed, rng.uniform(0, PHASES[aimed[0]])])} if aimed else {}
        done = launch(config, script, {NOTE: str(folder / "note"), **aim})
        if done.returncode == 0:
            return kills
        if not aimed or "SIGKILL" not in done.stderr:
            raise SystemExit(f"the run failed by itself:\n{done.stderr[-3000:]}")
        hit = (folder / "note").read_text().strip() or "in between"
        for part in hit.split(" / "):
            quota[part] -= part in quota
        kills.append({"during": hit, "aimed at": aimed[0]})
        print(f"killed during {hit}", flush=True)


def _aim(run: Path, quota: Counter[str], rng: random.Random) -> tuple[str, int] | None:
    """The phase to be killed next, and which of its occurrences in the coming start; None: no more."""
    training = sorted(phase for phase in quota.keys() - FIRST if quota[phase] > 0)
    if quota["evaluation"] > 0 and not (run / "evaluations" / "before.parquet").is_file():
        return "evaluation", 1
    if quota["warm start"] > 0 and not (run / "warm_start" / "adapter").is_dir():
        return "warm start", 1
    if training:
        return rng.choice(training), rng.randint(1, 3)
    return ("evaluation", 3) if quota["evaluation"] > 0 else None  # the one after training


def write(folder: Path, model: Path, **changed: Any) -> Path:
    """The recipe of a run in `folder`/run, as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "recipe.yaml"
    config.write_text(yaml.safe_dump({**recipe(model, folder / "run"), **changed}))
    return config


def differences(left: Path, right: Path) -> list[str]:
    """What differs between two run folders, apart from timings."""
    found = []
    patterns = ("adapter/*.safetensors", "warm_start/adapter/*.safetensors", "rollouts/*", "evaluations/*.parquet")
    for pattern in patterns:
        one, other = ({path.relative_to(run): path for path in run.glob(pattern)} for run in (left, right))
        found += [f"{name} is in one run only" for name in sorted(map(str, one.keys() ^ other.keys()))]
        found += [
            f"{name} differs"
            for name in one.keys() & other.keys()
            if one[name].read_bytes() != other[name].read_bytes()
        ]
        if not one:
            found.append(f"{pattern} matches nothing")
    lines = [
        [_untimed(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (left, right)
    ]
    if len(lines[0]) != len(lines[1]):
        found.append(f"metrics.jsonl has {len(lines[0])} and {len(lines[1])} lines")
    for one, other in zip(*lines, strict=False):
        unlike = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
        found += [f"metrics.jsonl: {one['phase']} step {one['step']}: {', '.join(unlike)}"] if unlike else []
    return found


def _untimed(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in TIMINGS and not key.startswith("time/")}


def child() -> None:
    """train.py with a note of what it is doing, and a kill when its time has come (`KILL`: phase, count, seconds)."""
    from accelerate.optimizer import AcceleratedOptimizer

    import train
    from rlvr.training.run import Run
    from rlvr.training.trainer.grpo import Trainer
    from rlvr.training.trainer.resume import Resuming

    note = os.open(os.environ[NOTE], os.O_WRONLY | os.O_CREAT)
    target, count, seconds = json.loads(os.environ.get(KILL, '["", 0, 0]'))
    doing, seen = list[str](), Counter[str]()

    def say() -> None:
        os.pwrite(note, " / ".join(doing).ljust(80).encode(), 0)

    @contextmanager
    def phase(name: str) -> Any:
        doing.append(name)
        say()
        seen[name] += 1
        if name == target and seen[name] == count:
            _kill_after(seconds)
        yield
        doing.pop()
        say()

    def noted(owner: Any, method: str, name: str) -> None:
        plain: Callable[..., Any] = getattr(owner, method)

        @functools.wraps(plain)
        def wrapped(*args: Any, **options: Any) -> Any:
            with phase(name):
                return plain(*args, **options)

        setattr(owner, method, wrapped)

    noted(Run, "evaluate", "evaluation")
    noted(Run, "warm_start", "warm start")
    noted(Run, "report", "report")
    noted(Trainer, "_generate", "generation")
    noted(Trainer, "_calculate_rewards", "verification")
    noted(Trainer, "training_step", "forward and backward")
    noted(Resuming, "_save_checkpoint", "checkpoint write")
    noted(AcceleratedOptimizer, "step", "optimiser step")
    say()
    try:
        train.main()
    except Exception as error:
        sys.exit(f"error: {error}")


def _kill_after(seconds: float) -> None:
    """Let the kernel send SIGKILL: a thread of this process would have to wait for its turn."""
    event = struct.pack("=Qii48x", 0, signal.SIGKILL, 0)  # sigevent: value, signal, SIGEV_SIGNAL
    span = struct.pack("=qqqq", 0, 0, int(seconds), max(1, int(seconds % 1 * 1e9)))  # itimerspec: once, then
    libc, timer = ctypes.CDLL(None, use_errno=True), ctypes.c_void_p()
    if libc.timer_create(1, event, ctypes.byref(timer)) or libc.timer_settime(timer, 0, span, None):
        raise OSError(ctypes.get_errno(), "no timer")


def measure(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """The whole comparison; raises if too few kills fall."""
    from rlvr.evaluation.provenance import machine, versions
    from tests import tiny

    model = tiny.make(folder / "model", tiny.planted(), seed=seed)
    script, alone = Path(__file__).resolve(), folder / "alone"
    started = time.perf_counter()
    done = launch(write(alone, model), script, {NOTE: str(alone / "note")})
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    seconds = round(time.perf_counter() - started, 1)
    rng, each = random.Random(seed), -(-kills // len(PHASES))
    quota = Counter(dict.fromkeys(PHASES, each))
    runs: list[dict[str, Any]] = []
    fell: list[dict[str, Any]] = []
    while len(fell) < kills or any(left > 0 for left in quota.values()):
        run = folder / f"killed-{len(runs)}"
        had = killed(run, model, quota, rng)
        fell += [{"run": len(runs), **kill} for kill in had]
        runs.append({"kills": len(had), "differences": differences(alone / "run", run / "run")})
        print(f"{run.name}: {len(had)} kills, {runs[-1]['differences'] or 'identical'}", flush=True)
    return {
        "kills": len(fell),
        "during": dict(Counter(part for kill in fell for part in kill["during"].split(" / "))),
        "runs": runs,
        "identical": not any(run["differences"] for run in runs),
        "seconds uninterrupted": seconds,
        "each": fell,
        "seed": seed,
        "recipe": recipe(Path("tiny"), Path("run")),
        "machine": machine(),
        "versions": versions(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options.kills, options.seed, Path(folder))
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{result['kills']} kills in {len(result['runs'])} runs: {'identical' if result['identical'] else 'DIFFERENT'}"
    )
    sys.exit(not result["identical"])


if __name__ == "__main__":
    child() if NOTE in os.environ else main()
