"""`rlvr launch --print`: configurations that accelerate reads, and commands that shells and launchers take."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from trl.scripts.vllm_serve import ScriptArguments, build_command
from typer.testing import CliRunner

from rlvr.cli import app
from rlvr.training import launch
from rlvr.training.launch.commands import Topology, commands, config_file
from rlvr.types import Error

ODD = "verifiers={label: {weight: 1.0}, format: {weight: .2}}"  # must survive every shell on its way


def printed(topology: str, *overrides: str) -> str:
    return commands("qwen2.5-3b_80gb", overrides, Topology.parse(topology))


@pytest.mark.parametrize(
    ("name", "kind"), [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP"), ("zero2", "DEEPSPEED"), ("zero3", "DEEPSPEED")]
)
def test_accelerate_reads_the_configurations(name: str, kind: str) -> None:
    found = load_config_from_file(str(config_file(name)))
    assert str(found.distributed_type).rpartition(".")[2] == kind
    assert found.mixed_precision == "bf16" and not found.use_cpu
    if name == "fsdp2":
        assert found.fsdp_config["fsdp_version"] == 2
        assert found.fsdp_config["fsdp_state_dict_type"] == "SHARDED_STATE_DICT"
    if name.startswith("zero"):
        assert found.deepspeed_config["zero_stage"] == int(name[-1])


def test_every_configuration_is_used() -> None:
    assert {path.stem for path in Path(launch.__file__).parent.glob("*.yaml")} == {"ddp", "fsdp2", "zero2", "zero3"}


@pytest.mark.parametrize("topology", ["ddp:8", "fsdp2:4", "zero2:2", "zero3:8"])
def test_one_machine(topology: str) -> None:
    kind, number = topology.split(":")
    words = shlex.split(printed(topology, ODD).splitlines()[-1])
    assert words[:2] == ["accelerate", "launch"]
    parsed = launch_command_parser().parse_args(words[2:])
    assert (parsed.num_processes, parsed.num_machines) == (int(number), 1)
    assert parsed.config_file == str(config_file(kind))
    assert parsed.training_script == "train.py"
    assert parsed.training_script_args == ["--config", "qwen2.5-3b_80gb", ODD]


def test_a_server_beside_the_trainer() -> None:
    server, trainer = (line for line in printed("vllm-server:3+1").splitlines() if not line.startswith("#"))
    words = shlex.split(server)
    assert words[:4] == ["VLLM_SERVER_DEV_MODE=1", "CUDA_VISIBLE_DEVICES=0", "vllm", "serve"]
    assert words[words.index("--host") + 1] == "127.0.0.1"  # developer mode takes weights from whoever reaches it
    assert words[words.index("--max-model-len") + 1] == "1536"
    theirs = build_command(ScriptArguments(model="Qwen/Qwen2.5-3B-Instruct"))
    imposed = theirs[theirs.index("--weight-transfer-config") :]  # what TRL's trainers expect of a server
    assert words[-len(imposed) :] == imposed
    words = shlex.split(trainer)
    assert words[0] == "CUDA_VISIBLE_DEVICES=1,2,3"
    assert words[-3:] == [
        "vllm.enabled=true",
        "grpo.vllm_mode=server",
        "grpo.vllm_server_base_url=http://127.0.0.1:8000",
    ]
    alone = shlex.split(printed("vllm-server:1+2").splitlines()[-1])
    assert alone[0] == "CUDA_VISIBLE_DEVICES=2" and "--config_file" not in alone


def test_the_slurm_script_starts_one_launcher_per_node(tmp_path: Path) -> None:
    """Run by bash, with stand-ins for Slurm's commands: each node gets its rank and the first node's address."""
    script = printed("slurm:2x8", ODD)
    # A step has time to end and be saved: torchrun waits longer than its half minute, and less than Slurm.
    assert "#SBATCH --signal=TERM@300\n" in script and "\nexport TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240\n" in script
    assert "#SBATCH --nodes=2\n" in script and "#SBATCH --gpus-per-node=8\n" in script
    fakes = {
        "scontrol": "echo node17; echo node18",
        "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
        "accelerate": 'printf "%s\\0" "$@"; printf "\\n"',
    }
    for name, body in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[17-18]"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    calls = [line.rstrip("\0").split("\0") for line in done.stdout.splitlines()]
    assert len(calls) == 2
    for rank, words in enumerate(calls):
        parsed = launch_command_parser().parse_args(words[1:])
        assert (words[0], parsed.machine_rank, parsed.main_process_ip) == ("launch", rank, "node17")
        assert (parsed.num_processes, parsed.num_machines, parsed.rdzv_backend) == (16, 2, "c10d")
        assert parsed.training_script_args == ["--config", "qwen2.5-3b_80gb", ODD]


def test_ddp_on_two_cpu_ranks(tmp_path: Path) -> None:
    """The committed configuration, for real: two processes that know of each other (gloo, as there is no GPU)."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, torch\n"
        "from accelerate import PartialState\n"
        "state = PartialState(cpu=True)\n"
        "one = torch.ones(1)\n"
        "torch.distributed.all_reduce(one)\n"
        "said = f'rank {state.process_index} of {state.num_processes} sum {int(one)}'\n"
        "(pathlib.Path(__file__).parent / f'{state.process_index}.said').write_text(said)\n"
        "torch.distributed.destroy_process_group()\n"
    )
    words = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config_file("ddp"))]
    flags = ["--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words, *flags, str(script)], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Each in its own file: what two ranks print into one pipe may interleave.
    said = [(tmp_path / f"{rank}.said").read_text() for rank in (0, 1)]
    assert said == [f"rank {rank} of 2 sum 2" for rank in (0, 1)]


@pytest.mark.parametrize(
    ("topology", "told"),
    [
        ("ddp:1", "at least 2"),
        ("ddp:0", "at least 2"),
        ("ddp", "is none of"),
        ("slurm:2", "is none of"),
        ("slurm:0x8", "no 0"),
        ("vllm-server:2+0", "no 0"),
        ("ddp:8; rm -rf x", "is none of"),
        ("ray:4", "is none of"),
    ],
)
def test_other_topologies_are_refused(topology: str, told: str) -> None:
    with pytest.raises(Error, match=told):
        Topology.parse(topology)


def test_a_batch_that_does_not_divide_is_refused_before_the_queue() -> None:
    with pytest.raises(Error, match="groups of 8"):
        printed("ddp:3", "grpo.per_device_train_batch_size=1")


def test_the_command_prints_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["launch", "quickstart", "--print", "--topology", "ddp:2", "seed=1"])
    assert done.exit_code == 0
    assert done.stdout.rstrip().endswith("train.py --config quickstart seed=1")
    assert list(tmp_path.iterdir()) == []
    refused = CliRunner().invoke(app, ["launch", "quickstart", "--topology", "ddp:2"])
    assert isinstance(refused.exception, Error) and "--print" in str(refused.exception)
