"""Groups that teach nothing are replaced before a batch trains: the dynamic sampling of DAPO (arXiv:2503.14476).

    learning: {rounds: 2}        in a recipe; the trainer takes it from there

A group whose completions all earn the same has no advantage, whatever was spent on it. trl 1.16 does nothing about that
(github.com/huggingface/trl/issues/3708). Here a batch is sampled and scored, other questions take the place of its flat
groups, and so on for at most `rounds` rounds; what is flat even then trains as it is. All this stands between TRL's
sampling and its tensors, where completions are still lists, so that nothing has to be padded again.

Every rank takes the same number of rounds and samples as many whole groups in each, because all decide on the same
gathered rewards. Which questions come in follows from the seed, the step and the round alone: there is no state to
keep in a checkpoint. Logged: `groups/flat` (share of the batch at first), `groups/replaced` and `groups/rounds`. What
was sampled and not used stays on the disk, under rollouts/discarded.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
import trl
from accelerate.utils import gather_object
from trl import GRPOTrainer

from rlvr.recipe import Learning
from rlvr.rewards.layer import RewardLayer, Row
from rlvr.tables import write_parquet
from rlvr.types import Error

NOISE = 1e-6  # of sums in float32
Input = dict[str, Any]  # a row of the training data; `opens`, where it is there, is the first step that may ask it


@dataclass(frozen=True)
class _Sample:
    """One completion before TRL makes tensors of it, and its verdicts."""

    prompt_ids: list[int]
    completion_ids: list[int]
    completion: Any
    logprobs: list[float] | None
    row: Row


@dataclass(frozen=True)
class _Batch:
    """What this rank holds of a batch, and the rewards of all ranks, one after the other: [rows, verifiers]."""

    inputs: list[Input]
    samples: list[_Sample]
    rewards: torch.Tensor


def flat_groups(rewards: torch.Tensor, weights: torch.Tensor, size: int, least: float, apart: bool) -> list[bool]:
    """Of each `size` rows, whether their weighted rewards lie no further apart than `least`.

    rewards: [rows, verifiers], NaN where one said nothing; a row of NaN alone does not count. apart: each verifier for
    itself, as `multi_objective_aggregation: normalize_then_sum` compares them, else their sum.
    """
    weighed = rewards * weights
    columns = weighed if apart else weighed.nansum(dim=1, keepdim=True)
    columns = columns.masked_fill(rewards.isnan().all(dim=1, keepdim=True), torch.nan)
    grouped = columns.view(-1, size, columns.shape[1])
    best, worst = grouped.nan_to_num(nan=-torch.inf).amax(dim=1), grouped.nan_to_num(nan=torch.inf).amin(dim=1)
    return cast(list[bool], (best - worst <= max(least, NOISE)).all(dim=1).tolist())


class DynamicSampling(GRPOTrainer):  # type: ignore[misc]
    """trl.GRPOTrainer that replaces flat groups. Who inherits sets the three attributes before it is built."""

    learning: Learning
    _layer: RewardLayer
    _rollouts: Path
    _filled: _Batch | None = None  # what TRL is given in the place of new completions
    _questions: dict[str, tuple[int, int]] | None = None  # question -> its first row, and the step that opens it

    def __init__(self, *args: Any, **options: Any) -> None:
        if self.learning.rounds and not trl.__version__.startswith("1.16."):
            raise Error(f"learning.rounds is written for trl 1.16; this is {trl.__version__}; install trl==1.16.*")
        super().__init__(*args, **options)

    def _generate_and_score_completions(self, inputs: list[Input]) -> dict[str, Any]:
        if self.model.training and self.learning.rounds:
            self._filled = self._fill(inputs)
            inputs[:] = self._filled.inputs  # in place: rollouts are written by what the caller holds
        try:
            return cast(dict[str, Any], super()._generate_and_score_completions(inputs))
        finally:
            self._filled = None

    def _generate(self, prompts: list[Any]) -> Any:
        if self._filled is None:
            return super()._generate(prompts)
        held = self._filled.samples
        logprobs = None if held[0].logprobs is None else [sample.logprobs for sample in held]
        ids = [sample.prompt_ids for sample in held], [sample.completion_ids for sample in held]
        return *ids, None, [sample.completion for sample in held], logprobs, {}, None, []

    def _calculate_rewards(self, *args: Any) -> Any:
        if self._filled is None:
            return super()._calculate_rewards(*args)
        self._layer.last_rows = [sample.row for sample in self._filled.samples]
        return self._filled.rewards

    def _fill(self, inputs: Sequence[Input]) -> _Batch:
        """The batch with other groups in the place of flat ones, as far as `rounds` goes."""
        batch = first = self._sampled(inputs)
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        asked = set(gather_object([row["question"] for row in inputs]))
        replaced: set[int] = set()
        left: list[Row] = []
        rounds = 0
        for number in range(1, self.learning.rounds + 1):
            places = [group for group, flat in enumerate(self._flat(batch)) if flat]
            chosen = self._other_questions(asked, ceil(len(places) / ranks) * ranks, number)
            if not chosen:
                break
            asked |= {row["question"] for row in chosen}
            each = len(chosen) // ranks  # whole groups that every rank samples
            own = chosen[rank * each : (rank + 1) * each]
            tried = self._sampled([row for row in own for _ in range(self.num_generations)])
            fresh = [group for group, flat in enumerate(self._flat(tried)) if not flat]
            swaps = dict(zip(places, fresh, strict=False))
            left += self._left_out(tried, set(range(len(chosen))) - set(swaps.values()), number)
            batch = self._swapped(batch, tried, chosen, swaps)
            replaced |= swaps.keys()
            rounds = number
        left += self._left_out(first, replaced, 0)
        if left:
            name = f"step_{self.state.global_step + 1:06d}_{self._step:07d}_rank{rank}.parquet"
            write_parquet(pd.DataFrame(left), self._rollouts / "discarded" / name)
        metrics, flat = self._metrics["train"], self._flat(first)
        metrics["groups/flat"].append(sum(flat) / len(flat))
        metrics["groups/replaced"].append(len(replaced))
        metrics["groups/rounds"].append(rounds)
        return batch

    def _sampled(self, inputs: Sequence[Input]) -> _Batch:
        """TRL's own sampling and the reward layer's verdicts; as many inputs on every rank."""
        prompts = [row["prompt"] for row in inputs]
        prompt_ids, completion_ids, mask, completions, logprobs, extra, images, _ = self._generate(prompts)
        if mask is not None or extra or images is not None:
            raise Error("learning.rounds samples single turns of text; leave it out with tools, rollouts or images")
        rewards = self._calculate_rewards(list(inputs), prompts, completions, completion_ids)
        held = zip(
            prompt_ids,
            completion_ids,
            completions,
            logprobs or [None] * len(prompts),
            self._layer.last_rows,
            strict=True,
        )
        return _Batch(list(inputs), [_Sample(*values) for values in held], rewards)

    def _flat(self, batch: _Batch) -> list[bool]:
        apart = self.multi_objective_aggregation == "normalize_then_sum"
        weights = self.reward_weights.to(batch.rewards.device)
        return flat_groups(batch.rewards, weights, self.num_generations, self.learning.spread, apart)

    def _other_questions(self, asked: Collection[str], count: int, number: int) -> list[Input]:
        """Open questions that this batch has not asked: `count`, or as many as there are for every rank alike."""
        if self._questions is None:
            data = self.train_dataset
            opens = data["opens"] if "opens" in data.column_names else [0] * len(data)
            self._questions = {}
            for row, (question, first) in enumerate(zip(data["question"], opens, strict=True)):
                self._questions.setdefault(question, (row, first))
        step, ranks = self.state.global_step, self.accelerator.num_processes
        left = [row for question, (row, opens) in self._questions.items() if opens <= step and question not in asked]
        rng = random.Random(f"{self.args.seed}:{step}:{self._step}:{number}")
        return [self.train_dataset[row] for row in rng.sample(left, min(count, len(left) // ranks * ranks))]

    def _swapped(self, batch: _Batch, tried: _Batch, chosen: Sequence[Input], swaps: Mapping[int, int]) -> _Batch:
        """`batch` with groups of `tried` in the place of its own: place -> group, numbered over all ranks."""
        everyone = gather_object(tried.samples)
        start, size = self.accelerator.process_index * len(batch.samples), self.num_generations
        inputs, samples, rewards = list(batch.inputs), list(batch.samples), batch.rewards.clone()
        for place, group in swaps.items():
            rewards[place * size : (place + 1) * size] = tried.rewards[group * size : (group + 1) * size]
            for turn in range(size):
                row = place * size + turn - start
                if 0 <= row < len(samples):  # a group may lie on two ranks
                    inputs[row], samples[row] = chosen[group], everyone[group * size + turn]
        return _Batch(inputs, samples, rewards)

    def _left_out(self, batch: _Batch, groups: Collection[int], number: int) -> list[Row]:
        """Rows for the rollouts that train nothing: this rank's of these groups, of round `number`."""
        start, flat = self.accelerator.process_index * len(batch.samples), self._flat(batch)
        return [
            {
                "step": self.state.global_step + 1,
                "phase": "discarded",
                "why": "flat" if flat[group] else "unneeded",
                "round": number,
                "group": group,
                "prompt": "\n\n".join(turn["content"] for turn in row["prompt"]),
                **sample.row,
            }
            for place, (row, sample) in enumerate(zip(batch.inputs, batch.samples, strict=True), start)
            if (group := place // self.num_generations) in groups
        ]
