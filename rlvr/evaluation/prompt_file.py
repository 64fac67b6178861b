"""The prompts of an evaluation as a file, so that another tool can answer them.

    rlvr data export RECIPE --to prompts.jsonl                      # {"question_id", "task", "messages"} on each line
    rlvr evaluate RECIPE --completions answers.jsonl --out DIR      # {"question_id", "completion"} on each line

A prompt holds nothing of the answer, so that the file may be given away; only the evaluation of the answers
counts as a use of the test split.
"""

from __future__ import annotations

import json
from pathlib import Path

from rlvr.files import aside
from rlvr.loading import gather, select, templates
from rlvr.recipe import Recipe
from rlvr.types import Error


def write_prompts(recipe: Recipe, file: Path, final: bool = False) -> int:
    """Write the questions that `rlvr evaluate` would ask (final: those of the test split), one JSON object a line, each
    with `messages`, the chat as roles and contents; returns how many. Errors: a file that is not called .jsonl."""
    if file.suffix != ".jsonl":
        raise Error(f"--to {file}: prompts are written as JSON lines; choose a name that ends in .jsonl")
    _, questions = gather(recipe)
    asked = select(questions, recipe.evaluation, "test" if final else None)
    by_task = templates(recipe, {question.task for question in asked})
    with aside(file) as side, side.open("w", encoding="utf-8") as lines:
        for question in asked:
            messages = [dict(message) for message in by_task[question.task].render(question)]
            row = {"question_id": question.id, "task": question.task, "messages": messages}
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(asked)
