"""What the checks of `rlvr doctor` look at: a recipe, opened, and the machine it would run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlvr.loading import Templates
from rlvr.recipe import Recipe
from rlvr.training.trainer.batch import Batch
from rlvr.types import Question


@dataclass(frozen=True)
class Machine:
    """What there is to run on. Bytes are of one GPU (0 without), and of main memory."""

    gpus: int
    gpu_bytes: int
    ram_bytes: int

    @property
    def cpu(self) -> bool:
        return self.gpus == 0


@dataclass(frozen=True)
class Size:
    """Parameters of the base, and of the LoRA that trains; `layers` is how many of the base's backward passes."""

    base: int
    trained: int
    layers: int


@dataclass(frozen=True)
class Texts:
    """Tokens by question id: of every prompt, and, of training questions, with the reference completion."""

    prompts: Mapping[str, int]
    rows: Mapping[str, int]

    @property
    def longest(self) -> int:
        return max(self.prompts.values())


@dataclass(frozen=True)
class Setup:
    """A recipe, opened. A field after `installed` is None where it could not be had: see `Check.needs`."""

    recipe: Recipe
    machine: Machine
    processes: int
    installed: Mapping[str, str]
    batch: Batch
    grpo: Any  # trl.GRPOConfig
    sft: Any  # trl.SFTConfig; None without a warm start, too
    config: Any  # transformers' configuration of the model
    tokenizer: Any
    stops: frozenset[int]  # the token ids that end a completion, for TRL
    size: Size
    train: Sequence[Question]
    pool: Sequence[Question]  # those of `train` that GRPO asks
    held_out: Sequence[Question]
    templates: Templates
    texts: Texts
