"""The policy with vLLM, in this process."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rlvr import models
from rlvr.completions import is_finished
from rlvr.policy.adapter import lora_rank
from rlvr.policy.chat import encode
from rlvr.policy.slot import Answered, AnswerSlot, Progress, refuse_overlong, shares
from rlvr.prompts import Messages


class VllmSampler:
    """Decoding with vLLM; an adapter is applied as a LoRA request, so the base is not touched.

    max_length: tokens of prompt, completion and slot together. engine: further options of vllm.LLM.
    """

    def __init__(self, base: str, adapter: Path | None, *, max_length: int = 2048, **engine: Any) -> None:
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        lora = {"enable_lora": True, "max_lora_rank": lora_rank(adapter)} if adapter else {}
        fixed = {
            "max_model_len": max_length,
            "logprobs_mode": "processed_logprobs",  # raw ones are taken before the allowed words are singled out
            "enable_prefix_caching": True,  # a slot follows a prompt and a thought that have just been computed
        }
        self.max_length = max_length
        self.llm = LLM(models.resolve(base), **{**engine, **fixed, **lora})
        self.request = LoRARequest("policy", 1, str(adapter)) if adapter else None

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
        """See `Sampler`. All prompts are given to the engine at once, and then all slots."""
        from vllm import SamplingParams

        tokenizer = self.llm.get_tokenizer()
        slot = AnswerSlot(tokenizer, answers)
        encoded = encode(tokenizer, prompts)
        refuse_overlong([len(ids) for ids in encoded], len(slot.ids), max_tokens, self.max_length)
        drawn: Any = SamplingParams(temperature=0, max_tokens=max_tokens)
        if temperature:
            # A seed of its own for each prompt: what is drawn does not depend on which others share its steps.
            seeds = np.random.default_rng(seed).integers(2**31, size=len(prompts)).tolist()
            options = {"temperature": temperature, "max_tokens": max_tokens, "n": samples}
            drawn = [SamplingParams(seed=own, **options) for own in seeds]
        outs = [
            (ids, out)
            for ids, done in zip(encoded, self._generate(encoded, drawn, _counting(progress)), strict=True)
            for out in done.outputs
        ]
        # As in the other sampler, whose cache lacks it, the last token of a thought cut short is left out.
        thoughts = [
            out.token_ids[: min(slot.thought_length(out.token_ids, out.text), limit)] if slot.words else []
            for _, out in outs
            for limit in [len(out.token_ids) - (not is_finished(out.finish_reason))]
        ]
        read = self._at_slot([[*ids, *own] for (ids, _), own in zip(outs, thoughts, strict=True)], slot)
        return [
            Answered(out.text, is_finished(out.finish_reason), share, len(out.token_ids))
            for (_, out), share in zip(outs, read, strict=True)
        ]

    def read(
        self, prompts: Sequence[Messages], thoughts: Sequence[str], answers: Mapping[str, str]
    ) -> list[dict[str, float]]:
        """Each label's share at the answer slot after a thought that is given."""
        tokenizer = self.llm.get_tokenizer()
        slot = AnswerSlot(tokenizer, answers)
        encoded = encode(tokenizer, prompts)
        texts = [[*ids, *slot.encode(thought)] for ids, thought in zip(encoded, thoughts, strict=True)]
        refuse_overlong([len(ids) for ids in texts], len(slot.ids), 1, self.max_length)
        return self._at_slot(texts, slot)

    def _at_slot(self, before: Sequence[Sequence[int]], slot: AnswerSlot) -> list[dict[str, float]]:
        """Each label's share after these token ids and the slot; {} where there is no closed set of labels."""
        from vllm import SamplingParams

        if not slot.words:
            return [{} for _ in before]
        words = list(slot.words)
        one = SamplingParams(temperature=0, max_tokens=1, allowed_token_ids=words, logprobs=len(words))
        done = self._generate([[*ids, *slot.ids] for ids in before], one, False)
        found = [each.outputs[0].logprobs[0] for each in done]
        return [shares(slot.words, {token: at[token].logprob for token in words if token in at}) for at in found]

    def _generate(self, prompts: Sequence[Sequence[int]], drawn: Any, bar: Callable[..., Any] | bool) -> list[Any]:
        asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
        return list(self.llm.generate(asked, drawn, lora_request=self.request, use_tqdm=bar))


def _counting(progress: Progress) -> Callable[..., Any]:
    """A bar for vLLM that draws nothing and passes on its counts."""

    class Bar(tqdm):  # type: ignore[misc]
        def update(self, n: float = 1) -> bool | None:
            progress(int(n))
            return super().update(n)  # type: ignore[no-any-return]

    return partial(Bar, file=io.StringIO())
