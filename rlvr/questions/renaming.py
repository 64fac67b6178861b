"""The genes that a prompt names, and the same question with them under other names.

other = under(question, {"CD3E": "GENE1", "IL-2": "GENE2"})
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rlvr.types import Question


def genes(question: Question) -> list[str]:
    """Perturbation, readout and the perturbations of its evidence, each once."""
    fields = question.fields
    named = [fields.get("perturbation"), fields.get("readout")]
    named += [item.get("perturbation") for item in fields.get("evidence", ())]
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def under(question: Question, names: Mapping[str, str]) -> Question:
    """Every mention of a gene in the fields under its other name; truth and id stay as they were."""
    pattern = alternatives(names)

    def rewritten(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(lambda found: names[found.group()], value)
        if isinstance(value, Mapping):
            return {rewritten(key): rewritten(item) for key, item in value.items()}
        return [rewritten(item) for item in value] if isinstance(value, list | tuple) else value

    return dataclasses.replace(question, fields=rewritten(dict(question.fields))) if names else question


def dealt(questions: Sequence[Question], seed: int) -> list[Question]:
    """Each question under the names of other genes, drawn from all that these questions name; the same for a seed."""
    held = [genes(question) for question in questions]
    pool = sorted({name for named in held for name in named})
    generator = random.Random(seed)
    return [
        under(question, dict(zip(named, generator.sample(pool, len(named)), strict=True)))
        for question, named in zip(questions, held, strict=True)
    ]


def alternatives(words: Collection[str]) -> re.Pattern[str]:
    """Any of the words, whole. They are ours, never the policy's; linear in the text."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")
