"""The answer that a person would read out of a completion, whatever its form. Reported beside the strict reading
(completions.py), never instead of it, and never rewarded.

    lenient("**Answer:** Up.", answers, fields)      # "up"

What counts is what follows the thought. There the last place that announces an answer decides: JSON with a key
`answer`, `<answer>up`, `\\boxed{up}`, `Answer: up`; where nothing does, the whole text or the end of its last line. Two
different answers in that place are none: nothing is guessed.
"""

from __future__ import annotations

import json
from typing import Any

from rlvr.answers import Answers, Fields

AROUND = ".,;:!*_`'\"$()[]{} \t\n"  # what may stand around an answer: markup, quotation marks, punctuation
MARKS = ("<answer>", "\\boxed{", "answer is", "answer:", "answer**:", "answer =")  # each announces an answer
LETTERS = {capital: capital + 32 for capital in range(ord("A"), ord("Z") + 1)}  # lower case, every place kept
MOST = 400  # characters of the place that are looked at


def lenient(text: str, answers: Answers, fields: Fields) -> str | None:
    """The answer, or None where none can be made out, or two could be."""
    spoken = text.rpartition("</think>")[2].strip()
    if (value := _of_json(spoken)) is not None:
        return _read(value, answers, fields)
    folded = spoken.translate(LETTERS)
    place, mark = max((folded.rfind(mark), mark) for mark in MARKS)
    if place >= 0:
        after = spoken[place + len(mark) :][:MOST].partition("</answer>")[0].strip()
        return _read(after.partition("\n")[0].partition("<")[0].removeprefix("\\text{"), answers, fields)
    whole = _read(spoken, answers, fields) if len(spoken) <= MOST else None
    return whole or _read(spoken.splitlines()[-1][-MOST:] if spoken else "", answers, fields)


def _of_json(spoken: str) -> str | None:
    """The value of `answer` in a JSON object, fenced or bare."""
    start, end = spoken.find("{"), spoken.rfind("}")
    if start < 0 or end < start or '"answer"' not in spoken[start:end].translate(LETTERS):
        return None
    try:
        value: Any = json.loads(spoken[start : end + 1])
    except (ValueError, RecursionError):
        return None
    given = [inner for key, inner in value.items() if key.casefold() == "answer"] if isinstance(value, dict) else []
    if len(given) != 1 or isinstance(given[0], dict | None):
        return None
    return given[0] if isinstance(given[0], str) else json.dumps(given[0])


def _read(piece: str, answers: Answers, fields: Fields) -> str | None:
    """The answer that a piece is, once what stands around it is gone; else that of its last word, if no other word of
    it is another answer."""
    for candidate in (piece.strip(), piece.strip(AROUND)):
        if candidate and (found := answers.read(candidate, fields)) is not None:
            return found
    words = [answers.read(word.strip(AROUND), fields) for word in piece.split() if word.strip(AROUND)]
    return words[-1] if words and len({word for word in words if word is not None}) == 1 else None
