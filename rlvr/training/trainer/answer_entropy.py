"""An entropy bonus on the answer's word alone, so that GRPO leaves the policy unsure where the data are.

    learning: {answer_entropy: 0.3}        in a recipe; the trainer takes it from there

A label reward has its optimum where every answer is certain, and certain answers rank nothing. TRL's `entropy_coef`
averages over all tokens of a completion, most of which are its thought. Here the bonus stands beside the advantage, at
the one position where the answer's first token is drawn: it is averaged over tokens as the policy's own loss is, so
that a coefficient of 0.3 weighs as much as an advantage of 0.3 times the entropy in nats.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import torch
import trl
from torch import Tensor
from trl import GRPOTrainer

from rlvr.completions import TAGS
from rlvr.recipe import Learning
from rlvr.types import Error

LOSSES = ("dapo", "grpo", "bnpo", "dr_grpo")  # whose average over tokens is repeated here
BEFORE = 8  # tokens that hold the tag before the answer, however a policy spells it


def answer_places(completions: Tensor, words: Collection[int], tokenizer: Any) -> Tensor:
    """(B, L) token ids -> (B, L), True where a completion's answer begins. words: first tokens of the allowed answers;
    a completion without one of them right behind its last answer tag has no such place."""
    places = torch.zeros_like(completions, dtype=torch.bool)
    allowed = torch.isin(completions, completions.new_tensor(sorted(words)))
    for row, at in allowed.nonzero().tolist():
        before = tokenizer.decode(completions[row, max(0, at - BEFORE) : at].tolist())
        if before.endswith(TAGS[2]):
            places[row] = False
            places[row, at] = True
    return places


class AnswerEntropy(GRPOTrainer):  # type: ignore[misc]
    """trl.GRPOTrainer with that bonus. Who inherits sets `learning` and `answer_words` before it is built."""

    learning: Learning
    answer_words: Collection[int] = ()  # first tokens of every task's allowed answers
    _entropies: Tensor | None = None  # of the loss that is being computed

    def __init__(self, *args: Any, **options: Any) -> None:
        if self.learning.answer_entropy:
            loss = options["args"].loss_type
            if not trl.__version__.startswith("1.16."):
                raise Error(f"learning.answer_entropy is written for trl 1.16; this is {trl.__version__}")
            if loss not in LOSSES:
                raise Error(f"learning.answer_entropy goes with grpo.loss_type {', '.join(LOSSES)}, not {loss}")
        super().__init__(*args, **options)

    def _get_per_token_logps_and_entropies(self, *args: Any, **options: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **options)
        self._entropies = found[1]
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        loss = cast(Tensor, super()._compute_loss(model, inputs))
        if not self.learning.answer_entropy or self._entropies is None:
            return loss
        mask = inputs["completion_mask"]
        places = answer_places(inputs["completion_ids"], self.answer_words, self._tokenizer) & mask.bool()
        bonus = self._entropies * places
        mean = bonus.detach().sum() / places.sum().clamp(min=1)
        self._log_metric("answer_entropy", self.accelerator.gather(mean).mean().item())
        return loss - self.learning.answer_entropy * self._averaged(bonus, mask, inputs)

    def _averaged(self, per_token: Tensor, mask: Tensor, inputs: dict[str, Any]) -> Tensor:
        """As trl 1.16 averages the policy's loss over tokens, (B, L) -> a number."""
        accumulated = self.current_gradient_accumulation_steps if self.model.training else 1.0
        if self.loss_type == "dapo":
            tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
            if self.model.training:
                tokens = tokens * accumulated / self.args.steps_per_generation
            return per_token.sum() / tokens
        if self.loss_type == "grpo":
            return (per_token.sum(-1) / mask.sum(-1).clamp(min=1.0)).mean() / accumulated
        if self.loss_type == "bnpo":
            return per_token.sum() / mask.sum().clamp(min=1.0) / accumulated
        return per_token.sum() / (per_token.size(0) * self.max_completion_length) / accumulated
