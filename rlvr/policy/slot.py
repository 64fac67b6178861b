"""What a sampler gives, and the forced answer slot where the probability of each allowed answer is read."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedTokenizerBase

from rlvr.completions import SLOT, TAGS
from rlvr.prompts import Messages
from rlvr.types import Error

Progress = Callable[[int], None]  # told of so many more completions


@dataclass(frozen=True)
class Answered:
    """One completion. `probabilities` maps each label to its share at the forced slot, and is empty where the task
    has no closed set of labels or the shares cannot be had. `tokens`: how many were sampled, the one that ends the
    completion among them; None where nobody knows. `refused`: why there is no completion, where a server would not give
    one; it then counts as wrong."""

    text: str
    finished: bool
    probabilities: Mapping[str, float]
    tokens: int | None = None
    refused: str = ""


class Broken(Error):
    """A sampler that fails on the way. answered: the completions of the first prompts, which it has."""

    def __init__(self, message: str, answered: Sequence[Answered]) -> None:
        super().__init__(message)
        self.answered = list(answered)


class Sampler(Protocol):
    """What evaluation needs of a policy."""

    def answer(
        self,
        prompts: Sequence[Messages],
        answers: Mapping[str, str],
        max_tokens: int,
        progress: Progress,
        *,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[Answered]:
        """`samples` completions of each prompt, one prompt after the other; greedy at temperature 0."""
        ...


def slot_texts(answers: Mapping[str, str]) -> list[str]:
    """What `read_slot` wants as token ids: the slot, and the slot with each answer word after it."""
    return [SLOT, *(SLOT + word for word in answers)]


def read_slot(encoded: Sequence[list[int]], answers: Mapping[str, str]) -> tuple[list[int], dict[int, str]]:
    """Token ids of the slot, and the first token of each answer word -> its label. Errors: words that cannot be
    told apart by their first token."""
    ids, words = encoded[0], dict[int, str]()
    for (word, label), full in zip(answers.items(), encoded[1:], strict=True):
        if full[: len(ids)] != ids or len(full) == len(ids):
            raise Error(f"answer word {word!r} merges with the tag before it in this tokenizer; choose another")
        if full[len(ids)] in words:
            raise Error(f"answer words share their first token at {word!r}; choose words that differ at the start")
        words[full[len(ids)]] = label
    return ids, words


def thought_end(text: str) -> int | None:
    """Where the thought ends in a completion: at the first closing or answer tag; None where there is none."""
    return min((place for tag in TAGS[1:] if (place := text.find(tag)) >= 0), default=None)


class AnswerSlot:
    """Token ids of the forced slot and of the first token of each allowed answer word, if the set is closed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, answers: Mapping[str, str]) -> None:
        self.tokenizer = tokenizer
        self.ids, self.words = read_slot([self.encode(text) for text in slot_texts(answers)], answers)

    def encode(self, text: str) -> list[int]:
        """Token ids of text that stands within a conversation; a control token spelt out in it is only letters."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def thought_length(self, completion: Sequence[int], text: str | None = None) -> int:
        """How many leading tokens hold the thought: up to the first closing or answer tag, or all. text: what the
        completion decodes to, where that is known."""
        text = self._decode(completion) if text is None else text
        end = thought_end(text)
        if end is None:
            return len(completion)
        # The longest prefix that decodes to no more than the thought. What follows a thought is short, so it is
        # counted from the end, in short pieces; whole prefixes are decoded only to check, or where that fails.
        guess = self._counted_from_end(completion, len(text) - end)
        if self._length(completion[:guess]) <= end < self._length(completion[: guess + 1]):
            return guess
        return bisect_right(range(len(completion) + 1), end, key=lambda k: self._length(completion[:k])) - 1

    def _counted_from_end(self, completion: Sequence[int], after: int) -> int:
        """The last place from which the completion decodes to at least `after` characters."""
        count, window = len(completion), 16
        while window < count and self._length(completion[count - window :]) < after:
            window *= 2
        places = range(max(0, count - window), count + 1)
        found = bisect_right(places, -after, key=lambda k: -self._length(completion[k:]))
        return places[max(found - 1, 0)]

    def _length(self, ids: Sequence[int]) -> int:
        """Characters."""
        return len(self._decode(ids))

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def normalise(self, logits: torch.Tensor) -> list[dict[str, float]]:
        """(batch, vocabulary) logits at the slot -> each label's share among the allowed answers."""
        shares = torch.softmax(logits[:, list(self.words)].float(), dim=-1).tolist()
        return [dict(zip(self.words.values(), row, strict=True)) for row in shares]


def shares(words: Mapping[int, str], logprobs: Mapping[int, float]) -> dict[str, float]:
    """The same from log-probabilities by token id; a word that is not among them has none."""
    known = [logprobs.get(token, -math.inf) for token in words]
    weights = [math.exp(value - max(known)) for value in known]
    return {label: weight / sum(weights) for label, weight in zip(words.values(), weights, strict=True)}


def refuse_overlong(lengths: Sequence[int], slot: int, max_tokens: int, limit: int) -> None:
    """A prompt must leave room for the completion and the slot: nothing is cut off unsaid. All in tokens."""
    longest = max(lengths, default=0)
    if longest + max_tokens + slot > limit:
        raise Error(
            f"a prompt of {longest} tokens leaves no room for {max_tokens} of completion in a context of {limit}; "
            "shorten the evidence or the completion (grpo.max_completion_length), or raise the context "
            "(grpo.vllm_max_model_length with vLLM)"
        )
