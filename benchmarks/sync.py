"""500 weight syncs of a LoRA in bfloat16 and float32: what moves in the base, and what a sync costs; ours and TRL's.

    python benchmarks/sync.py [--syncs 500] [--out benchmarks/results/sync.json]      with vLLM: .venv-vllm/bin/python

Each side has the model and a rank-16 LoRA of its own, with the same random weights, which take the same step of Adam's
size (1e-4 an entry) before every sync. Both push through their real `sync_weights`, in turns, to a receiver that copies
each tensor, as vLLM does. The base is then compared, bit by bit, with what was loaded.

Where vLLM can be imported, both also push to a real engine a few times, and the gap between its log-probabilities and
the trainer's is measured: in step, with the adapter left out, and with an engine of another precision. That is what
`rlvr.training.trainer.sync.TOLERANCE` has to tell apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from trl import GRPOConfig
from trl.generation.vllm_generation import VLLMGeneration

from rlvr.evaluation.provenance import machine, versions
from rlvr.policy import add_lora, load_base
from rlvr.recipe import Vllm
from rlvr.training.trainer.patches import engine_options
from rlvr.training.trainer.sync import Sync, adapted_layers

RESULT = Path(__file__).resolve().parent / "results" / "sync.json"
MODEL = "smollm2-135m"
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
SPREAD, STEP = 0.02, 1e-4  # of B's entries at the start, and of one optimiser step
ENGINES = (("bfloat16", "bfloat16"), ("float32", "float32"), ("float32", "bfloat16"))  # trainer, vLLM
PROMPTS = (
    "Knocking down ZAP70 in T cells lowers IL-2 because",
    "The receptor's signal reaches the nucleus when",
    "A gene that is expressed only after stimulation",
    "List three reasons why a knockdown may have no effect:",
)


class Receiver:
    """Stands for vLLM's model: copies every tensor into memory of its own."""

    def __init__(self) -> None:
        self.held: dict[str, torch.Tensor] = {}
        model = SimpleNamespace(load_weights=self.load_weights)
        worker = SimpleNamespace(model_runner=SimpleNamespace(model=model))
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=worker))

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        for name, weight in weights:
            if name not in self.held:
                self.held[name] = torch.empty_like(weight)
            self.held[name].copy_(weight)

    def reset_prefix_cache(self) -> None:
        """vLLM's is cheap."""


def policy(dtype: str) -> tuple[PeftModel, Any]:
    """The model under a random LoRA, the same at each call."""
    base, tokenizer = load_base(MODEL, dtype)
    torch.manual_seed(0)
    model = add_lora(base, LORA)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, SPREAD)
    return model, tokenizer


@torch.no_grad()
def step(model: PeftModel, seed: int) -> None:
    """Move every entry of the LoRA by about what Adam does at a rate of 1e-4."""
    draw = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.add_(torch.randn(weight.shape, generator=draw), alpha=STEP)


def side(kind: type[VLLMGeneration], model: PeftModel, tokenizer: Any) -> Any:
    """A sync of either kind into a receiver."""

    class Pushed(kind):  # type: ignore[misc]
        def _init_vllm(self) -> None:
            self.llm = Receiver()

    return Pushed(model, Accelerator(cpu=True), tokenizer)


def drift(dtype: str, syncs: int) -> dict[str, Any]:
    """What `syncs` syncs of both do to their bases, and how long they take."""
    sides, starts = {}, {}
    for name, kind in (("trl", VLLMGeneration), ("rlvr", Sync)):
        model, tokenizer = policy(dtype)
        sides[name] = side(kind, model, tokenizer)
        starts[name] = {key: layer.base_layer.weight.clone() for key, layer in adapted_layers(model).items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(syncs):
        order = list(sides) if number % 2 else list(sides)[::-1]
        for name in order:
            step(sides[name].model, number)
            seconds[name].append(timed(sides[name].sync_weights))
        if number == 0:
            first = {name: one.llm.held for name, one in sides.items()}
            same = all(torch.equal(weight, first["rlvr"][key]) for key, weight in first["trl"].items())
            assert same and first["trl"].keys() == first["rlvr"].keys(), "the first push differs"
    sides["rlvr"].check_base()
    return {name: {**moved(one.model, starts[name]), **costs(seconds[name])} for name, one in sides.items()}


def timed(call: Any) -> tuple[float, float]:
    """Seconds on the wall, and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def costs(seconds: list[tuple[float, float]]) -> dict[str, float]:
    rest = seconds[1:]  # the first makes the receiver's memory
    return {
        "seconds_per_sync": round(median(wall for wall, _ in rest), 4),
        "cpu_seconds_per_sync": round(median(cpu for _, cpu in rest), 4),
    }


def moved(model: PeftModel, before: dict[str, torch.Tensor]) -> dict[str, Any]:
    """How the adapted weights of the base differ from what they were."""
    count = changed = 0
    worst = size = 0.0
    for name, layer in adapted_layers(model).items():
        gap = (layer.base_layer.weight.double() - before[name].double()).abs()
        count, changed = count + gap.numel(), changed + int((gap > 0).sum())
        worst, size = max(worst, float(gap.max())), size + float(before[name].double().abs().sum())
    return {
        "bit_identical": changed == 0,
        "weights": count,
        "share_moved": round(changed / count, 6),
        "worst_move": worst,
        "worst_move_in_mean_weights": worst / (size / count),
    }


def engine(dtype: str, engine_dtype: str) -> dict[str, Any]:
    """Syncs into a real vLLM in this process, and how far its log-probabilities are from the trainer's."""
    options = Vllm(True, enforce_eager=True, dtype=engine_dtype, engine={"kv_cache_memory_bytes": 2**28})
    config = GRPOConfig(use_vllm=True, use_cpu=True, bf16=False, output_dir="unused", report_to=[])
    model, tokenizer = policy(dtype)
    model.name_or_path = model.get_base_model().name_or_path
    with engine_options(options, config):
        ours = Sync(model, Accelerator(cpu=True), tokenizer, max_model_length=512, max_num_seqs=8)
    theirs, bare = (VLLMGeneration.__new__(VLLMGeneration) for _ in range(2))  # TRL's sync, to the same engine
    theirs.__dict__ |= {**ours.__dict__, "model": policy(dtype)[0]}
    bare.__dict__ |= {**ours.__dict__, "model": load_base(MODEL, dtype)[0]}
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    seconds: dict[str, list[tuple[float, float]]] = {"trl": [], "rlvr": []}
    for number in range(8):
        for name, one in (("trl", theirs), ("rlvr", ours)):
            step(one.model, number)
            seconds[name].append(timed(one.sync_weights))
    gaps = {"in_step": ours.gap(prompts)}
    bare.sync_weights()
    gaps["adapter_left_out"] = ours.gap(prompts)
    return {"trainer": dtype, "vllm": engine_dtype, "gap": gaps, **{k: costs(v) for k, v in seconds.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--syncs", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--engine", nargs=2, metavar=("TRAINER", "VLLM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        print("RESULT" + json.dumps(engine(*options.engine)))
        return
    drifts = {dtype: drift(dtype, options.syncs) for dtype in ("bfloat16", "float32")}
    engines: Any = "skipped: vLLM is not installed"
    if importlib.util.find_spec("vllm"):
        engines = [in_process_of_its_own(*dtypes) for dtypes in ENGINES]
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "model": MODEL,
        "lora": LORA,
        "syncs": options.syncs,
        "drift": drifts,
        "vllm": engines,
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "machine": machine(),
        "versions": versions(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def in_process_of_its_own(*dtypes: str) -> Any:
    """A process holds one engine."""
    done = subprocess.run(
        [sys.executable, __file__, "--engine", *dtypes],
        env={"VLLM_CPU_OMP_THREADS_BIND": "nobind", **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.partition("RESULT")[2].partition("\n")[0])


if __name__ == "__main__":
    main()
