"""Batch arithmetic: how many completions and prompts one step takes, on so many processes.

trl.GRPOConfig does the same sums for the processes that it is started on; here they can be done for any number.

    generation batch = per_device_train_batch_size * processes * steps_per_generation    (completions)
    prompts per generation batch = generation batch / num_generations
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.types import Error

KEYS = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "num_generations": 8}  # TRL's defaults


OPTIONAL = ("steps_per_generation", "generation_batch_size")


@dataclass(frozen=True)
class Batch:
    """Completions and prompts of one generation batch, over all processes."""

    per_device: int
    processes: int
    accumulation: int
    num_generations: int
    completions: int

    @classmethod
    def from_recipe(cls, grpo: Mapping[str, Any], processes: int) -> Batch:
        """From a recipe's `grpo` section. Errors: not whole numbers, both sizes given, not divisible."""
        values = {key: grpo.get(key, default) for key, default in KEYS.items()}
        values |= {key: grpo[key] for key in OPTIONAL if grpo.get(key) is not None}
        for key, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise Error(f"recipe: grpo.{key} must be a whole number of at least 1, not {value!r}")
        per_device, accumulation, num_generations = (values[key] for key in KEYS)
        if all(key in values for key in OPTIONAL):
            raise Error("recipe: give grpo.steps_per_generation or grpo.generation_batch_size, not both")
        one_pass = per_device * processes
        completions = values.get("generation_batch_size") or one_pass * values.get("steps_per_generation", accumulation)
        if completions % one_pass:
            raise Error(
                f"recipe: grpo.generation_batch_size {completions} is no multiple of {one_pass} "
                f"(per_device_train_batch_size {per_device} x {processes} processes)"
            )
        if completions % num_generations:
            raise Error(
                f"recipe: {completions} completions per generation batch ({processes} processes) do not divide into "
                f"groups of {num_generations}; change grpo.per_device_train_batch_size or grpo.num_generations"
            )
        return cls(per_device, processes, accumulation, num_generations, completions)

    @property
    def steps_per_generation(self) -> int:
        return self.completions // (self.per_device * self.processes)

    @property
    def prompts(self) -> int:
        """Different prompts in one generation batch."""
        return self.completions // self.num_generations
