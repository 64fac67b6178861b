"""What the batch arithmetic of `rlvr.training.trainer.batch` says against a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlvr.training import checks
from rlvr.training.doctor.findings import Severity, check, gathered

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup

NEGLIGIBLE = 0.1  # of the training questions


@check(Severity.REFUSE, "https://huggingface.co/docs/trl/grpo_trainer", needs=["batch"])
def a_group_has_rivals(setup: Setup) -> str | None:
    """An advantage is a comparison within the group."""
    return checks.lone_completions(setup.batch)


@check(Severity.REFUSE, "https://huggingface.co/docs/trl/grpo_trainer", needs=["batch", "pool"])
def questions_fill_a_batch(setup: Setup) -> str | None:
    """The sampler drops the remainder: fewer prompts than one generation batch are no data at all."""
    return checks.unfilled_batch(len(setup.pool), setup.batch)


@check(Severity.WARN, needs=["batch", "pool"])
def few_questions_are_dropped(setup: Setup) -> str | None:
    """Each epoch leaves out what does not fill a generation batch."""
    dropped = len(setup.pool) % setup.batch.prompts
    if NEGLIGIBLE * len(setup.pool) < dropped < len(setup.pool):
        return (
            f"each epoch drops {dropped} of {len(setup.pool)} training questions, which do not fill a "
            f"generation batch of {setup.batch.prompts} prompts; a smaller batch drops fewer"
        )
    return None


CHECKS = gathered(globals())
