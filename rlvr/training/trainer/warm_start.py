"""The supervised phase before GRPO: trl.SFTTrainer, with a say for the answer.

    learning: {answer_weight: 20}        # in the recipe: an answer's word counts for twenty tokens of a thought

A thought has some sixty tokens and a closed answer one. By plain likelihood a policy learns to write the thought long
before it learns what follows from it, since that one token has a sixtieth of the loss.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from trl import SFTTrainer

from rlvr.training.trainer.resume import Resuming


class WarmStart(Resuming, SFTTrainer):  # type: ignore[misc]
    """trl.SFTTrainer, which goes on where it was, and may let an answer weigh more than one token of its thought."""

    _weight = 1.0

    def weigh(self, weight: float, words: Collection[int]) -> None:
        """Let an answer count for as many tokens. words: the ids of the tokens that answers begin with."""
        self._weight, self._words = weight, torch.tensor(sorted(words), dtype=torch.long)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self._weight == 1.0 or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs: list[Any] = []
        hook = model.register_forward_hook(lambda module, given, said: outputs.append(said))
        try:
            loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        finally:
            hook.remove()
        begins = torch.isin(inputs["labels"][:, 1:], self._words.to(loss.device))
        last = begins & (begins.flip(1).cumsum(dim=1).flip(1) == 1)  # a thought may hold such a word too
        found = outputs[0]
        extra = -(found.log_probs * last).sum() * (self._weight - 1.0)
        if num_items_in_batch is None:
            return loss + extra / found.label_mask.sum()
        ranks = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return loss + extra / num_items_in_batch * ranks  # as trl 1.16 scales its own
