"""What the warm start imitates: rationales written from the evidence, or sampled ones that a critic lets pass.

    rlvr probe RECIPE model=TEACHER --out DIR            # or --server URL
    learning: {rationales: DIR/probe.parquet}            # in the recipe

As in SynthPert (arXiv:2509.25346) a teacher writes and a critic keeps the best. Here the critic is the verifiers of the
recipe that was probed: of each question the completion that earned the most, if it passed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rlvr import rationales, renaming
from rlvr.learning.pool import read_probe
from rlvr.prompts import Messages, Template
from rlvr.recipe import Learning
from rlvr.types import Error, Question

log = logging.getLogger(__name__)


def warm_start_rows(
    questions: Sequence[Question],
    templates: Mapping[str, Template],
    learning: Learning,
    control: Collection[str],
    seed: int = 0,
) -> list[dict[str, Messages]]:
    """One row for trl.SFTTrainer for each training question that has a rationale.

    control: the tokenizer's control tokens; a sampled text that spells one out is left out. seed: of the names that
    are dealt anew. Errors: no such file, no
    completion of these questions in it that passed.
    """
    if learning.rationales is None:
        asked = renaming.dealt(questions, seed) if learning.rename else questions
        return [rationales.rows(question, templates[question.task]) for question in asked]
    path = Path(learning.rationales)
    sampled = read_probe(path, "best", "learning.rationales")
    best = {
        question.id: text
        for question in questions
        if isinstance(text := sampled.get(question.id), str) and not any(token in text for token in control)
    }
    log.info("%s: the critic kept a rationale for %d of %d training questions", path, len(best), len(questions))
    if not best:
        raise Error(
            f"learning.rationales {path}: none passed on this recipe's training questions; probe a better teacher"
        )
    return [
        {
            "prompt": templates[question.task].render(question),
            "completion": [{"role": "assistant", "content": best[question.id]}],
        }
        for question in questions
        if question.id in best
    ]
