"""Batch arithmetic: how many completions and prompts one step takes, on so many processes.

trl.GRPOConfig does the same sums for the processes that it is started on; here they can be done for any number.

    generation batch = per_device_train_batch_size * processes * steps_per_generation    (completions)
    prompts per generation batch = generation batch / num_generations
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlvr.training.doctor.findings import Severity, check, gathered

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup

NEGLIGIBLE = 0.1  # of the training questions


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
