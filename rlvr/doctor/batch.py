"""Batch arithmetic: how many completions and prompts one step takes, on so many processes.

trl.GRPOConfig does the same sums for the processes that it is started on; here they can be done for any number.

    generation batch = per_device_train_batch_size * processes * steps_per_generation    (completions)
    prompts per generation batch = generation batch / num_generations
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlvr.doctor.findings import Severity, check, gathered
from rlvr.types import Error

if TYPE_CHECKING:
    from rlvr.doctor.setup import Setup

KEYS = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "num_generations": 8}  # TRL's defaults
OPTIONAL = ("steps_per_generation", "generation_batch_size")
NEGLIGIBLE = 0.1  # of the training questions


@dataclass(frozen=True)
class Batch:
    """Completions and prompts of one generation batch, over all processes."""

    per_device: int
    processes: int
    accumulation: int
    num_generations: int
    completions: int

    @classmethod
    def of(cls, grpo: Mapping[str, Any], processes: int) -> Batch:
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

    def steps(self, questions: int, epochs: float, iterations: int) -> int:
        """Optimiser steps that so many training questions give; TRL drops what does not fill a generation batch."""
        passes = questions // self.prompts * self.steps_per_generation * iterations
        return int(epochs * passes / self.accumulation)


@check(Severity.REFUSE, "https://huggingface.co/docs/trl/grpo_trainer", needs=["batch"])
def a_group_has_rivals(setup: Setup) -> str | None:
    """An advantage is a comparison within the group."""
    if setup.batch.num_generations < 2:
        return "grpo.num_generations is 1: an advantage compares completions of one prompt; give at least 2, better 8"
    return None


@check(Severity.REFUSE, "https://huggingface.co/docs/trl/grpo_trainer", needs=["batch", "train"])
def questions_fill_a_batch(setup: Setup) -> str | None:
    """The sampler drops the remainder: fewer prompts than one generation batch are no data at all."""
    if len(setup.train) < setup.batch.prompts:
        return (
            f"{len(setup.train)} training questions do not fill one generation batch of {setup.batch.prompts} prompts; "
            "lower grpo.generation_batch_size or raise grpo.num_generations"
        )
    return None


@check(Severity.REFUSE, needs=["batch", "train", "grpo"])
def there_is_a_step(setup: Setup) -> str | None:
    """A run of no step trains nothing and says nothing."""
    epochs, iterations = setup.grpo.num_train_epochs, setup.grpo.num_iterations
    steps = setup.batch.steps(len(setup.train), epochs, iterations)
    if setup.grpo.max_steps < 1 and steps < 1 and len(setup.train) >= setup.batch.prompts:
        return f"grpo.num_train_epochs {epochs:g} of {len(setup.train)} questions is no step; set grpo.max_steps"
    return None


@check(Severity.WARN, needs=["batch", "train"])
def few_questions_are_dropped(setup: Setup) -> str | None:
    """Each epoch leaves out what does not fill a generation batch."""
    dropped = len(setup.train) % setup.batch.prompts
    if NEGLIGIBLE * len(setup.train) < dropped < len(setup.train):
        return (
            f"each epoch drops {dropped} of {len(setup.train)} training questions, which do not fill a "
            f"generation batch of {setup.batch.prompts} prompts; a smaller batch drops fewer"
        )
    return None


@check(Severity.WARN, needs=["batch", "grpo"])
def checkpoints_fall_between_generations(setup: Setup) -> str | None:
    """Buffered completions are not saved: a run resumed inside a generation batch samples it anew."""
    per_generation = setup.batch.steps_per_generation * setup.grpo.num_iterations
    apart = max(1, per_generation // setup.batch.accumulation)
    if setup.grpo.save_strategy == "steps" and setup.grpo.save_steps % apart:
        return f"grpo.save_steps {setup.grpo.save_steps:g} falls inside a generation batch; use a multiple of {apart}"
    return None


CHECKS = gathered(globals())
