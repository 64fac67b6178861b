"""Difficulty pools and curricula: the training questions that GRPO asks, and their order.

    learning: {pool: runs/probe/probe.parquet, keep: [0.1, 0.9], curriculum: {0: 0.25, 100: 1.0}}

`keep` leaves out what the policy always or never passes: its groups would have no spread. `curriculum` opens the
easiest share of what is left first, and more of it as training goes on (a competence schedule, arXiv:1903.09848). The
whole order is laid out before the first step, so TRL's sampler only has to read it, and a resumed run reads on.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from heapq import nsmallest
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd
from trl import GRPOConfig

from rlvr import tables
from rlvr.prompts import Messages
from rlvr.recipe import Learning
from rlvr.types import Error, Question

log = logging.getLogger(__name__)


def read_probe(path: Path, column: str, where: str) -> dict[str, Any]:
    """Question id -> a column of what `rlvr probe` wrote. Errors name `where`: no such file, other columns."""
    if not path.is_file():
        raise Error(f"{where} {path}: no such file; make it: rlvr probe RECIPE --out {path.parent}")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise Error(f"{where} {path}: cannot be read: {' '.join(str(error).split())}; make it again") from error
    tables.require(table, ("question_id", column), f"{where} {path}")
    return dict(zip(table["question_id"].astype(str), table[column].tolist(), strict=True))


def pass_rates(path: Path) -> dict[str, float]:
    """Question id -> pass rate. Errors: what is no share."""
    rates = read_probe(path, "pass_rate", "learning.pool")
    if not all(isinstance(rate, float) and 0.0 <= rate <= 1.0 for rate in rates.values()):
        raise Error(f"learning.pool {path}: column 'pass_rate' holds what is no share from 0 to 1; make it again")
    return rates


def pooled(questions: Sequence[Question], learning: Learning) -> list[Question]:
    """The questions that GRPO asks: those whose pass rate `keep` allows, in their order; all of them without a pool.
    Errors: nothing is left."""
    if learning.pool is None:
        return list(questions)
    rates = pass_rates(Path(learning.pool))
    low, high = learning.keep
    known = [question for question in questions if question.id in rates]
    kept = [question for question in known if low <= rates[question.id] <= high]
    log.info(
        "%s: %d of %d training questions were probed, %d pass between %g and %g",
        *(learning.pool, len(known), len(questions), len(kept), low, high),
    )
    if not kept:
        raise Error(
            f"learning.pool {learning.pool}: none of {len(known)} probed training questions passes between {low:g} and "
            f"{high:g}; probe more of them, widen learning.keep, or use another model"
        )
    return kept


def grpo_options(learning: Learning) -> dict[str, Any]:
    """What a curriculum needs of trl.GRPOConfig: questions in the order of the rows."""
    return {"shuffle_dataset": False} if learning.curriculum else {}


def grpo_rows(
    questions: Sequence[Question], learning: Learning, config: GRPOConfig, render: Callable[[Question], Messages]
) -> list[dict[str, Any]]:
    """The rows of GRPO's training data: prompt and question; under a curriculum also `opens`, the first step that may
    ask it, and every question as often, and in the order, as the run will ask it."""

    def row(question: Question) -> dict[str, Any]:
        return {"prompt": render(question), "question": question.to_json()}

    if not learning.curriculum:
        return [row(question) for question in questions]
    lasts = config.steps_per_generation * config.num_iterations  # micro-steps that train on one batch
    micro = config.max_steps * config.gradient_accumulation_steps
    steps = [number * lasts // config.gradient_accumulation_steps for number in range(ceil(micro / lasts))]
    each = config.generation_batch_size // config.num_generations
    ranked = easiest_first(questions, pass_rates(Path(str(learning.pool))))
    opened = [max(each, ceil(learning.shares.at(step) * len(ranked))) for step in steps]
    opens: list[int] = []  # of the questions that are ever asked, the step that opens each
    for step, first in zip(steps, opened, strict=True):
        opens += [step] * (min(first, len(ranked)) - len(opens))
    made = [{**row(question), "opens": step} for question, step in zip(ranked, opens, strict=False)]
    return [made[place] for place in laid_out(len(made), opened, each, config.seed)]


def easiest_first(questions: Sequence[Question], rates: Mapping[str, float]) -> list[Question]:
    """By falling pass rate; a hash of the id among equals, so that one source's questions do not stand together."""
    return sorted(questions, key=lambda q: (-rates[q.id], sha256(q.id.encode()).hexdigest()))


def laid_out(count: int, opened: Sequence[int], each: int, seed: int) -> list[int]:
    """Places of `count` ranked questions, `each` for every batch, of which the first `opened[batch]` are open: those
    that were asked least, by lot among equals. No batch asks one twice."""
    rng = random.Random(seed)
    asked = [0] * count
    order: list[int] = []
    for first in opened:
        open_now = range(min(first, count))
        batch = nsmallest(each, open_now, key=lambda place: (asked[place], rng.random()))
        for place in batch:
            asked[place] += 1
        order += batch
    return order
