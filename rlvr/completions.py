"""Text or messages -> Completion, by one strict grammar that training and evaluation share.

    <think> thought </think> <answer> word </answer>

White space may stand around the parts, nothing else may. Every tag occurs exactly once, so an answer
repeated, hedged, nested or hidden in the thought is no answer. No regular expressions: time is linear
in the text, whatever the text is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlvr.answers import Answers, Fields
from rlvr.types import Completion

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SLOT = "</think>\n<answer>"  # what is forced after a thought to read the answer's probability


def reference(thought: str, word: str) -> str:
    """The text of a well-formed completion."""
    return f"<think>{thought}{SLOT}{word}</answer>"


def parse(text: str, answers: Answers, fields: Fields, *, finished: bool = True) -> Completion:
    """Read a completion to a question with these fields.

    A thought is given only for text with the full structure; an answer only if, besides, the word is a
    well-formed answer of the task's type and generation was not cut off.
    """
    parts = _split(text.strip())
    if parts is None:
        return Completion(text, None, None, finished)
    thought, word = parts
    return Completion(text, thought.strip(), answers.read(word, fields) if finished else None, finished)


def _split(text: str) -> tuple[str, str] | None:
    """What stands inside the two pairs of tags, or None where the structure is not the one above."""
    # Four tags in order need four "<"; where there are no more, none can occur twice.
    if text.count("<") > len(TAGS) and any(text.count(tag) != 1 for tag in TAGS):
        return None
    parts, rest = [], text
    for tag in TAGS:
        part, found, rest = rest.partition(tag)
        if not found:  # the tags stand in another order
            return None
        parts.append(part)
    head, thought, gap, word = parts
    return None if head or gap.strip() or rest else (thought, word)


def lenient(text: str, answers: Answers, fields: Fields) -> str | None:
    """The answer after the last `<answer>` (of the whole text, where there is none), format ignored.
    Reported beside the strict reading, never instead of it, and never rewarded."""
    tail = text.rpartition("<answer>")[2].partition("<")[0]
    return answers.read(tail.strip().strip(".*'\"").strip(), fields)


def completion_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """The policy's own words in a TRL completion: a string, or messages (assistant turns joined).

    Lone surrogates, which no UTF-8 file can hold, become question marks.
    """
    if not isinstance(completion, str):
        turns = [str(turn.get("content") or "") for turn in completion if turn.get("role") == "assistant"]
        completion = "\n".join(turns)
    return completion if completion.isascii() else completion.encode("utf-8", "replace").decode("utf-8")
