"""Text or messages -> Completion, by one strict grammar that training and evaluation share.

    <think> thought </think> <answer> word </answer>

White space may stand around the parts, nothing else may. Every tag occurs exactly once, so an answer
repeated, hedged, nested or hidden in the thought is no answer. No regular expressions: time is linear
in the text, whatever the text is.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from rlvr.types import Completion

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SLOT = "</think>\n<answer>"  # what is forced after a thought to read the answer's probability
# Only ASCII letters lose their case: str.lower would also turn look-alikes (the Kelvin sign) into letters.
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def reference(thought: str, word: str) -> str:
    """The text of a well-formed completion."""
    return f"<think>{thought}{SLOT}{word}</answer>"


def parse(text: str, answers: Mapping[str, str], *, finished: bool = True) -> Completion:
    """Read a completion. `answers` maps each word that the task allows to its label.

    A thought is given only for text with the full structure; an answer only if, besides, the word is
    allowed and generation was not cut off.
    """
    parts = _split(text.strip())
    if parts is None:
        return Completion(text, None, None, finished)
    thought, word = parts
    label = answers.get(word.strip().translate(_LOWER)) if finished else None
    return Completion(text, thought.strip(), label, finished)


def _split(text: str) -> tuple[str, str] | None:
    """What stands inside the two pairs of tags, or None where the structure is not the one above."""
    if any(text.count(tag) != 1 for tag in TAGS):
        return None
    parts, rest = [], text
    for tag in TAGS:
        part, found, rest = rest.partition(tag)
        if not found:  # the tags stand in another order
            return None
        parts.append(part)
    head, thought, gap, word = parts
    return None if head or gap.strip() or rest else (thought, word)


def lenient(text: str, answers: Mapping[str, str]) -> str | None:
    """The label after the last `<answer>` (of the whole text, where there is none), format ignored.
    Reported beside the strict reading, never instead of it, and never rewarded."""
    tail = text.rpartition("<answer>")[2].partition("<")[0]
    return answers.get(tail.strip().strip(".*'\"").strip().translate(_LOWER))


def completion_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """The policy's own words in a TRL completion: a string, or messages (assistant turns joined).

    Lone surrogates, which no UTF-8 file can hold, become question marks.
    """
    if not isinstance(completion, str):
        turns = [str(turn.get("content") or "") for turn in completion if turn.get("role") == "assistant"]
        completion = "\n".join(turns)
    return completion.encode("utf-8", "replace").decode("utf-8")
