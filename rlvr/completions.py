"""Text or messages -> Completion, by one strict grammar that training and evaluation share.

    <think> thought </think> <answer> word </answer>

White space may stand around the parts, nothing else may. Every tag occurs exactly once, so an answer
repeated, hedged, nested or hidden in the thought is no answer. The first tag alone may be missing: templates of Qwen3,
DeepSeek-R1 or QwQ write it into the prompt, and the completion begins inside the thought. No regular expressions over
what a model wrote: time is linear in the text, whatever the text is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlvr.answers import Answers, Fields
from rlvr.types import Completion

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
CUT_OFF = ("length", "max_tokens", "max_output_tokens", "model_length")  # finish reasons: a limit was reached
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
    text = _opened(text)
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


def _opened(text: str) -> str:
    """The text with the tag before its thought, where the prompt's template has written that."""
    return TAGS[0] + text if TAGS[1] in text and TAGS[0] not in text else text


def with_thought(thought: str | None, text: str) -> str:
    """The completion as the model wrote it, where a server has split its thought off; the text alone where there is no
    thought, or the text has one of its own (what was split off is then a draft before it)."""
    if not thought or TAGS[1] in text:
        return text
    return f"{TAGS[0]}{thought}{TAGS[1]}\n{text.lstrip()}"


def completion_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """The policy's own words in a TRL completion: a string, or messages (assistant turns joined).

    A turn's thought may be apart from its content, and its content a list of parts (see `turn_text`). Lone surrogates,
    which no UTF-8 file can hold, become question marks.
    """
    if not isinstance(completion, str):
        completion = "\n".join(turn_text(turn) for turn in completion if turn.get("role") == "assistant")
    return completion if completion.isascii() else completion.encode("utf-8", "replace").decode("utf-8")


def is_finished(reason: Any) -> bool:
    """Whether a completion came to its end, by the reason that a server or an engine gives: all do but those that ran
    into a limit of tokens. Servers write the others as they like: stop, eos_token, end_turn, null."""
    return not (isinstance(reason, str) and reason.casefold() in CUT_OFF)


def turn_text(turn: Mapping[str, Any]) -> str:
    """What a model wrote in one message of an OpenAI-compatible form: content as text, as a list of parts, or null,
    with the thought in front that stands in `reasoning_content` or `reasoning`, or in parts of its own."""
    content = turn.get("content")
    parts = content if isinstance(content, list | tuple) else [content]
    thoughts = [turn.get("reasoning_content") or turn.get("reasoning")]
    texts: list[Any] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            spoken = part.get("thinking") or part.get("reasoning")
            thoughts.append(spoken)
            texts.append("" if spoken else part.get("text"))
    return with_thought("".join(_strings(thoughts)), "".join(_strings(texts)))


def _strings(values: Sequence[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]
