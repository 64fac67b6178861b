"""How long a completion may be: one rule for training, evaluation, predictions and foreign harnesses.

max_tokens(recipe)            # of an evaluation: evaluation.max_tokens, else as in training
training_max_tokens(recipe)   # grpo.max_completion_length, else TRL's own default
"""

from __future__ import annotations

from rlvr.recipe import Recipe

MAX_TOKENS = 512  # as trl.GRPOConfig has it where a recipe does not say


def max_tokens(recipe: Recipe) -> int:
    """The most tokens of a completion in an evaluation."""
    own = recipe.evaluation.max_tokens
    return training_max_tokens(recipe) if own is None else own


def training_max_tokens(recipe: Recipe) -> int:
    """The most tokens of a completion in training."""
    return int(recipe.grpo.get("max_completion_length", MAX_TOKENS))
