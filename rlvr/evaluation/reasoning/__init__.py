"""Does the answer rest on the thought, and the thought on what the prompt shows? Measured by changing one at a time.

    rlvr evaluate RECIPE --adapter RUN/adapter --reasoning --out DIR
    measure(sampler, questions, by_task, max_tokens, seed=0)      # the same as data; `keep` puts it into the report

`faithfulness`: the share of answers at the slot that move when the thought before it is cut short, exchanged with
another question's, or turned round; the baseline is how often they move when the policy merely thinks again (sampled
at temperature 1). A policy that ignores its thought does not move. `invariance`: the share that moves when nothing
that matters has changed (order of the evidence, wording, names of genes), with the same baseline. `evidence`: what
accuracy loses when the evidence is removed, dealt anew, contradicted, or about another question; the baseline is what
the evidence's own vote loses. `facts`: see `rlvr.evaluation.reasoning.facts`.

Answers are those at the forced slot (`rlvr.policy`), so every task with a closed set of labels is measured, and
completions that do not parse are measured too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rlvr.evaluation.reasoning.facts import precision
from rlvr.evaluation.reasoning.measure import measure
from rlvr.evaluation.results import REASONING
from rlvr.files import write_atomically
from rlvr.knowledge.claims import Lexicon
from rlvr.loading import Templates
from rlvr.recipe import Recipe
from rlvr.types import Error, Question

__all__ = ["keep", "measure", "precision"]


def keep(
    policy: Any,
    asked: Sequence[Question],
    by_task: Templates,
    max_tokens: int,
    recipe: Recipe,
    stage: str,
    folder: Path,
) -> None:
    """Measure a policy whose answers `folder` holds, and put the tables beside them for the report.

    Errors: a policy that cannot be read after a thought that is given (a server, saved completions).
    """
    if not hasattr(policy, "read"):
        raise Error(
            "reasoning is measured on a model here, with transformers or vLLM; a server cannot be given a thought"
        )
    by_id = {question.id: question for question in asked}
    rows = pd.read_parquet(folder / "evaluations" / f"{stage}.parquet", columns=["question_id", "thought", "answer"])
    answered = [by_id[name] for name in dict.fromkeys(rows["question_id"])]
    measured = measure(policy, answered, by_task, max_tokens, recipe.seed)
    tables = {
        part if len(measured) == 1 else f"{task}: {part}": found
        for task, parts in measured.items()
        for part, found in parts.items()
    }
    named = [*recipe.sources, *recipe.to_dict()["verifiers"].values()]
    knowledge = next((str(part["knowledge"]) for part in named if part and "knowledge" in part), "upstream")
    tables["facts"] = precision([dict(row) for _, row in rows.iterrows()], by_id, Lexicon.open(knowledge), recipe.seed)
    text = json.dumps({name: found for name, found in tables.items() if found}, indent=2, allow_nan=False)
    write_atomically(folder / REASONING, text.encode())
