"""An entropy bonus on the answer's word alone, so that GRPO leaves the policy unsure where the data are.

    learning: {answer_entropy: 0.3}        in a recipe; the trainer takes it from there

A label reward has its optimum where every answer is certain, and certain answers rank nothing. TRL's `entropy_coef`
averages over all tokens of a completion, most of which are its thought, and over the whole vocabulary, so that a strong
one takes the answer's tag apart. Here the one token that begins an allowed answer gets a second advantage, as if the
reward of answering `a` were smaller by c log p(a): with the group's reward r the optimum is p(a) ~ exp(E[r | a] / c).
It is compared with the mean of the prompt's other completions that have such a token, so that it moves nothing but
these words' shares among each other.
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


def surprises(logps: Tensor, places: Tensor, prompts: Tensor) -> Tensor:
    """(B, L) log-probabilities -> (B, L): at a completion's place, how much less likely than the mean of its prompt's
    completions its token is, in nats; 0 elsewhere. places: at most one in a row. prompts: (B, P) token ids."""
    _, group = torch.unique(prompts, dim=0, return_inverse=True)
    has = places.any(1).to(logps.dtype)
    own = -(logps * places).sum(1)
    count = torch.zeros_like(own).index_add_(0, group, has)
    mean = torch.zeros_like(own).index_add_(0, group, own * has) / count.clamp(min=1)
    return torch.where(places, (own - mean[group]).unsqueeze(1), 0.0)


class AnswerEntropy(GRPOTrainer):  # type: ignore[misc]
    """trl.GRPOTrainer with that bonus. Who inherits sets `learning` and `answer_words` before it is built."""

    learning: Learning
    answer_words: Collection[int] = ()  # first tokens of every task's allowed answers
    _inputs: dict[str, Any] | None = None  # of the loss that is being computed

    def __init__(self, *args: Any, **options: Any) -> None:
        if self.learning.answer_entropy:
            if not trl.__version__.startswith("1.16."):
                raise Error(f"learning.answer_entropy is written for trl 1.16; this is {trl.__version__}")
            if options["args"].importance_sampling_level != "token":
                raise Error("learning.answer_entropy is for one token; it needs grpo.importance_sampling_level=token")
            if not self.answer_words:
                raise Error("learning.answer_entropy needs a prompt whose answers are a closed set of words; remove it")
        super().__init__(*args, **options)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._inputs = dict(inputs)
        try:
            return cast(Tensor, super()._compute_loss(model, self._inputs))
        finally:
            self._inputs = None

    def _get_per_token_logps_and_entropies(self, *args: Any, **options: Any) -> Any:
        """trl 1.16 computes these first of a loss, and reads the advantages after, of each row or of each token."""
        found = super()._get_per_token_logps_and_entropies(*args, **options)
        if self.learning.answer_entropy and self._inputs is not None:
            ids, mask = self._inputs["completion_ids"], self._inputs["completion_mask"]
            places = answer_places(ids, self.answer_words, self._tokenizer) & mask.bool()
            surprise = surprises(found[0].detach(), places, self._inputs["prompt_ids"])
            bonus = self.learning.answer_entropy * surprise
            self._inputs["advantages"] = self._inputs["advantages"].unsqueeze(1) + bonus
        return found
