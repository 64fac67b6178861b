"""What the warm start imitates: rationales written from the evidence or sampled from a teacher, judged by a critic.

    learning: {critic: preference}                       # in the recipe: one of its verifiers judges the written ones
    rlvr probe RECIPE model=TEACHER --out DIR            # or --server URL
    learning: {rationales: DIR/probe.parquet}            # in the recipe

As in SynthPert (arXiv:2509.25346) a teacher writes and a critic keeps the best. Here the critic is the verifiers of the
recipe that was probed: of each question the completion that earned the most, if it passed.

A written rationale ends in the measured answer, which its evidence may contradict: one measurement is noisy, and the
odd one out of a readout that else always answers alike sees only the usual answer around it, so that whoever imitates
all of them learns to distrust what is nearest. The critic keeps the questions whose measured answer also earns its best
score. A cross-fitted oracle gives that score without a look at the question's own measurement.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rlvr.completions import parse
from rlvr.prompts import Messages, Template
from rlvr.questions import rationales, renaming
from rlvr.recipe import Learning
from rlvr.training.learning.pool import read_probe
from rlvr.types import Error, Question
from rlvr.verifier import Verifier

log = logging.getLogger(__name__)


def warm_start_rows(
    questions: Sequence[Question],
    templates: Mapping[str, Template],
    learning: Learning,
    control: Collection[str],
    seed: int = 0,
    critic: Verifier | None = None,
) -> list[dict[str, Messages]]:
    """One row for trl.SFTTrainer for each training question that has a rationale.

    control: the tokenizer's control tokens; a sampled text that spells one out is left out. seed: of the names that
    are dealt anew. critic: of written rationales, the verifier that learning.critic names. Errors: no such file, no
    completion of these questions in it that passed, a critic that lets nothing pass.
    """
    if learning.rationales is None:
        asked = questions if critic is None else passed(questions, templates, critic)
        asked = renaming.dealt(asked, seed) if learning.rename else asked
        if not learning.format_only:
            return [rationales.rows(question, templates[question.task]) for question in asked]
        draw = random.Random(seed)
        return [
            rationales.rows(question, template, rationales.form_alone(question, template, draw))
            for question in asked
            for template in (templates[question.task],)
        ]
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


def passed(questions: Sequence[Question], templates: Mapping[str, Template], critic: Verifier) -> list[Question]:
    """Those whose measured answer earns the critic's best score. What it abstains on is left out, and what it does not
    judge stays. Errors: it lets none pass."""
    judged = [question for question in questions if critic.applies(question)]
    written = []
    for question in judged:
        template = templates[question.task]
        written.append(parse(rationales.rationale(question, template), template.answers, question.fields))
    pairs = list(zip(judged, written, strict=True))
    kept = {
        question.id
        for question, verdict in zip(judged, critic.verify_batch(pairs), strict=True)
        if verdict.score and critic.honest(question).answer == question.truth["answer"]
    }
    log.info("the critic %s let %d of %d written rationales pass", critic.name, len(kept), len(judged))
    if judged and not kept:
        raise Error(f"learning.critic {critic.name}: none of {len(judged)} training questions passes; name another")
    left_out = {question.id for question in judged} - kept
    return [question for question in questions if question.id not in left_out]
