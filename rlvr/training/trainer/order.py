"""The order of the questions, epoch after epoch, whenever a run starts.

trl 1.16 draws each epoch's permutation from one generator, which a resumed run starts anew: in every later epoch it
replays the order of the first (no upstream issue yet). Here an epoch's order follows from the seed and its number.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler


class Order(Sampler[int]):
    """trl's RepeatSampler, in the same order as in a run that was never stopped."""

    def __init__(self, plain: RepeatSampler) -> None:
        self._plain, self._epoch = plain, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self._plain.shuffle:
            self._plain.generator.manual_seed(self._plain.seed)
            for _ in range(self._epoch):
                torch.randperm(self._plain.num_samples, generator=self._plain.generator)
        return iter(self._plain)

    def __len__(self) -> int:
        return len(self._plain)
