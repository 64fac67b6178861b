"""The policy with transformers, on any machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rlvr import models
from rlvr.policy.chat import encode
from rlvr.policy.slot import Answered, AnswerSlot, Progress, refuse_overlong
from rlvr.prompts import Messages
from rlvr.types import Error


def load_base(name: str, dtype: str = "float32") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer, by short name, folder or hub name.

    float32 unless said otherwise: merging a LoRA into bfloat16 weights for vLLM drifts
    (github.com/huggingface/trl/issues/6688), and on CPUs float32 is faster.
    """
    path = models.resolve(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise models.load_error(name, error) from error
    if not tokenizer.chat_template:
        raise Error(f"model {name}: its tokenizer has no chat template; choose an instruction-tuned model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


class TransformersSampler:
    """Decoding with transformers; prompts of like length share a batch."""

    def __init__(self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 32):
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size

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
        """See `Sampler`. The generator that training draws from is left as it was."""
        slot = AnswerSlot(self.tokenizer, answers)
        encoded = encode(self.tokenizer, prompts)
        refuse_overlong([len(ids) for ids in encoded], len(slot.ids), max_tokens, self._limit())
        rows = [ids for ids in encoded for _ in range(samples)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: dict[int, Answered] = {}
        was_training = self.model.training
        self.model.eval()
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                torch.manual_seed(seed)
                for start in range(0, len(order), self.batch_size):
                    batch = order[start : start + self.batch_size]
                    answered = self._batch([rows[i] for i in batch], slot, max_tokens, temperature)
                    found.update(zip(batch, answered, strict=True))
                    progress(len(batch))
        finally:
            self.model.train(was_training)
        return [found[i] for i in range(len(rows))]

    @torch.no_grad()
    def read(
        self, prompts: Sequence[Messages], thoughts: Sequence[str], answers: Mapping[str, str]
    ) -> list[dict[str, float]]:
        """Each label's share at the answer slot after a thought that is given."""
        tokenizer, slot = self.tokenizer, AnswerSlot(self.tokenizer, answers)
        encoded = encode(tokenizer, prompts)
        texts = [[*ids, *slot.encode(t), *slot.ids] for ids, t in zip(encoded, thoughts, strict=True)]
        refuse_overlong([len(ids) for ids in texts], 0, 1, self._limit())
        was_training = self.model.training
        self.model.eval()
        found: list[dict[str, float]] = []
        try:
            for start in range(0, len(texts), self.batch_size):
                rows = {"input_ids": texts[start : start + self.batch_size]}
                padded = tokenizer.pad(rows, padding_side="left", return_tensors="pt").to(self.model.device)
                places = (padded["attention_mask"].cumsum(1) - 1).clamp(min=0)
                found += slot.normalise(self.model(**padded, position_ids=places, logits_to_keep=1).logits[:, -1])
        finally:
            self.model.train(was_training)
        return found

    def _limit(self) -> int:
        return getattr(self.model.config, "max_position_embeddings", None) or 10**9

    @torch.no_grad()
    def _batch(self, prompts: list[list[int]], slot: AnswerSlot, max_tokens: int, temperature: float) -> list[Answered]:
        tokenizer, device = self.tokenizer, self.model.device
        padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(device)
        mask = padded["attention_mask"]
        drawn: dict[str, Any] = {"do_sample": False}
        if temperature:
            drawn = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
        out = self.model.generate(
            **padded,
            **drawn,
            max_new_tokens=max_tokens,
            repetition_penalty=1.0,  # a model's own generation settings are not what was trained or asked for
            return_dict_in_generate=True,
            pad_token_id=tokenizer.pad_token_id,
        )
        generated = out.sequences[:, mask.shape[1] :].tolist()
        # EOS may equal the padding token, and there may be several: what was written ends at the first.
        stops = _stops(self.model, tokenizer)
        ends = [next((i for i, token in enumerate(row) if token in stops), None) for row in generated]
        written = [row[:end] for row, end in zip(generated, ends, strict=True)]
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        counts = [len(row) + (end is not None) for row, end in zip(written, ends, strict=True)]
        read: list[dict[str, float]] = [{} for _ in texts]
        if slot.words:
            # The cache holds every token but the last, so the slot is read without a second pass over the
            # prompt: what follows each thought is masked out, and positions go on from the thought's end.
            cached = out.past_key_values.get_seq_length() - mask.shape[1]
            lengths = [slot.thought_length(row, text) for row, text in zip(written, texts, strict=True)]
            kept = torch.tensor([min(length, cached) for length in lengths], device=device)
            thought_mask = (torch.arange(cached, device=device)[None] < kept[:, None]).to(mask.dtype)
            slot_ids = torch.tensor([slot.ids], device=device).expand(len(prompts), -1)
            logits = self.model(
                input_ids=slot_ids,
                attention_mask=torch.cat([mask, thought_mask, torch.ones_like(slot_ids)], dim=1),
                position_ids=(mask.sum(1) + kept)[:, None] + torch.arange(len(slot.ids), device=device)[None],
                past_key_values=out.past_key_values,
                logits_to_keep=1,
            ).logits[:, -1]
            read = slot.normalise(logits)
        ended = [end is not None for end in ends]
        return [Answered(*values) for values in zip(texts, ended, read, counts, strict=True)]


def _stops(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The token ids that end a generation: the tokenizer's and those of the generation config."""
    known = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])} - {None}
