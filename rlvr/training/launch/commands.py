"""`rlvr launch RECIPE --print --topology ddp:8`: the exact commands for a number of GPUs or nodes. Starts nothing.

    print(commands("qwen2.5-3b_80gb", ["seed=1"], Topology.parse("slurm:2x8")))

Beside this file lie accelerate's configurations, one for each way to share a model between processes. What has been run
and what follows upstream's documentation stands in benchmarks/README.md.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr import models
from rlvr.recipe import Recipe, load
from rlvr.training.trainer.batch import Batch
from rlvr.types import Error

FORMS = "ddp:N, fsdp2:N, zero2:N, zero3:N, vllm-server:T+V (T GPUs train, V sample), slurm:NODESxGPUS"
PATTERN = re.compile(
    r"(?P<shared>ddp|fsdp2|zero2|zero3):(\d+)|(?P<server>vllm-server):(\d+)\+(\d+)|(?P<slurm>slurm):(\d+)x(\d+)"
)
SERVER_PORT, RENDEZVOUS_PORT = 8000, 29500
CPUS_PER_GPU = 8
NOTICE = 300  # seconds between Slurm's SIGTERM and the end, in which a step must end and be saved
DOCS = "https://huggingface.co/docs"
SPLIT = "evaluation and the adapter's files have not been seen to work with split weights"
REFUSED = "train.py refuses it until it is proven"
UNTESTED = {
    "fsdp2": f"{REFUSED}; {SPLIT}: {DOCS}/trl/distributing_training",
    "zero2": f"{REFUSED}; needs pip install deepspeed: {DOCS}/trl/deepspeed_integration",
    "zero3": f"{REFUSED}; needs pip install deepspeed; {SPLIT}: {DOCS}/trl/deepspeed_integration",
    "vllm-server": f"not run here, as it needs CUDA on two devices: {DOCS}/trl/vllm_integration",
    "slurm": f"not run here on a cluster: {DOCS}/accelerate/basic_tutorials/launch",
}


@dataclass(frozen=True)
class Topology:
    """kind: as in FORMS. processes train in all, on so many nodes; `servers` GPUs sample."""

    kind: str
    processes: int
    nodes: int = 1
    servers: int = 0

    @classmethod
    def parse(cls, text: str) -> Topology:
        """From `ddp:8` and the like. Errors: another form, or too few processes to share anything."""
        found = PATTERN.fullmatch(text)
        if not found:
            raise Error(f"topology {text!r} is none of {FORMS}")
        kind = next(name for name in (found["shared"], found["server"], found["slurm"]) if name)
        numbers = [int(number) for number in found.groups()[1:] if number and number.isdigit()]
        if kind == "slurm":
            nodes, gpus = numbers
            topology = cls(kind, nodes * gpus, nodes=nodes)
        else:
            topology = cls(kind, numbers[0], servers=numbers[1] if kind == "vllm-server" else 0)
        least = 1 if kind == "vllm-server" else 2
        if topology.processes < least or 0 in numbers:
            raise Error(f"topology {text!r}: at least {least} training process{'es' * (least > 1)}, and no 0")
        return topology


def commands(recipe: str, overrides: Sequence[str], topology: Topology) -> str:
    """Shell text: one command, two terminals' worth, or an sbatch script. Errors: a batch that does not divide."""
    asked = load(recipe, overrides)
    Batch.from_recipe(asked.grpo, topology.processes)
    note = UNTESTED.get(topology.kind)
    lines = [f"# {topology.kind}: {note}"] if note else []
    train = ["train.py", "--config", recipe, *overrides]
    if topology.kind == "slurm":
        return _slurm(train, topology, lines)
    if topology.kind == "vllm-server":
        return "\n".join([*lines, *_with_server(asked, train, topology)])
    return "\n".join([*lines, shlex.join([*_accelerate(topology.kind, topology.processes), *train])])


def config_file(name: str) -> Path:
    """accelerate's configuration of that name."""
    return Path(__file__).with_name(f"{name}.yaml")


def _accelerate(config: str, processes: int, nodes: int = 1) -> list[str]:
    launch = ["accelerate", "launch"]
    if processes == 1:  # accelerate refuses a distributed configuration for one process
        return [
            *launch,
            "--num_processes",
            "1",
            "--num_machines",
            "1",
            "--mixed_precision",
            "bf16",
            "--dynamo_backend",
            "no",
        ]
    sizes = ["--num_processes", str(processes), "--num_machines", str(nodes)]
    return [*launch, "--config_file", str(config_file(config)), *sizes]


def _with_server(recipe: Recipe, train: Sequence[str], topology: Topology) -> list[str]:
    """vLLM on the first GPUs, the trainer on the next. vLLM's developer mode takes weights from whoever reaches it, so
    the server listens on this machine alone."""
    model = str(models.folder_of(recipe.model)) if recipe.model in models.KNOWN else recipe.model
    serve = ["vllm", "serve", model, "--host", "127.0.0.1", "--port", str(SERVER_PORT)]
    serve += ["--tensor-parallel-size", str(topology.servers), "--dtype", recipe.vllm.dtype]
    if length := recipe.grpo.get("vllm_max_model_length"):
        serve += ["--max-model-len", str(length)]
    if recipe.vllm.enforce_eager:
        serve += ["--enforce-eager"]
    serve += ["--enable-scale-out", "--weight-transfer-config", json.dumps({"backend": "nccl"})]
    serve += ["--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1"]
    url = f"http://127.0.0.1:{SERVER_PORT}"
    switch = ["vllm.enabled=true", "grpo.vllm_mode=server", f"grpo.vllm_server_base_url={url}"]
    last = topology.servers + topology.processes
    return [
        "# first, in a terminal of its own (on another node: its private address as --host, and below)",
        f"VLLM_SERVER_DEV_MODE=1 CUDA_VISIBLE_DEVICES={_gpus(0, topology.servers)} {shlex.join(serve)}",
        f"# once {url}/health answers",
        f"CUDA_VISIBLE_DEVICES={_gpus(topology.servers, last)} "
        + shlex.join([*_accelerate("ddp", topology.processes), *train, *switch]),
    ]


def _gpus(first: int, end: int) -> str:
    return ",".join(map(str, range(first, end)))


def _slurm(train: Sequence[str], topology: Topology, lines: Sequence[str]) -> str:
    """An sbatch script: one launcher per node, which starts that node's processes. They meet at the first."""
    gpus = topology.processes // topology.nodes
    launch = shlex.join(_accelerate("ddp", topology.processes, topology.nodes))
    meet = f'--machine_rank "$SLURM_NODEID" --main_process_ip "$HEAD" --main_process_port {RENDEZVOUS_PORT}'
    # One task on each node: what a node runs is a script of its own, as its rank is known only there.
    inner = f"exec {launch} {meet} --rdzv_backend c10d {shlex.join(train)}"
    return "\n".join(
        [
            "#!/bin/bash",
            f"#SBATCH --job-name=rlvr-{re.sub(r'[^A-Za-z0-9._-]', '-', Path(train[2]).name)}",
            f"#SBATCH --nodes={topology.nodes}",
            "#SBATCH --ntasks-per-node=1",
            f"#SBATCH --gpus-per-node={gpus}",
            f"#SBATCH --cpus-per-task={CPUS_PER_GPU * gpus}",
            "#SBATCH --time=24:00:00",
            f"#SBATCH --signal=TERM@{NOTICE}",
            *lines,
            "set -euo pipefail",
            # torchrun gives its ranks half a minute after SIGTERM, which may be less than a step.
            f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={NOTICE - 60}",
            'read -r HEAD < <(scontrol show hostnames "$SLURM_JOB_NODELIST")',
            "export HEAD",
            f"srun --kill-on-bad-exit=1 bash -c {shlex.quote(inner)}",
        ]
    )
