"""What is done to a thought before the answer is read again: cut short, exchanged, turned round.

Ways of Lanham et al. 2023 (arXiv:2307.13702): a policy whose answer rests on its thought moves with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlvr.completions import TAGS
from rlvr.questions.renaming import alternatives

OPENING = TAGS[0]


def truncated(thought: str, share: float) -> str:
    """The first `share` of its words; the opening tag, if there is one, stays."""
    head = OPENING if thought.startswith(OPENING) else ""
    words = thought.removeprefix(head).split(" ")
    return head + " ".join(words[: int(share * len(words))])


def swapped(thoughts: Sequence[str]) -> list[str]:
    """Each question's thought replaced by the next question's. One thought alone stays."""
    return [*thoughts[1:], *thoughts[:1]]


def corrupted(thought: str, words: Sequence[str]) -> str:
    """Every answer word in it replaced by the next of the task's words (up by down, down by up): what the thought
    says of its evidence is turned round, the rest stays."""
    return _exchanged(thought, {word: words[(place + 1) % len(words)] for place, word in enumerate(words)})


def _exchanged(text: str, by: dict[str, str]) -> str:
    return alternatives(by).sub(lambda found: by[found.group()], text) if by else text
