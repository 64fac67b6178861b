"""The policy: load a base model with one LoRA, sample it, and read the probability of each answer.

Two samplers with one interface, `answer()`: transformers (any machine) and vLLM (LoRA requests, no
merge). Both decode greedily, then put the model's own thought before a forced answer slot and read the
probability of each allowed answer there, so that a model that never learned the format is still
measured by what it would answer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rlvr import models
from rlvr.completions import SLOT, TAGS
from rlvr.prompts import Messages
from rlvr.source import write_atomically
from rlvr.types import Error

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Answered:
    """One sampled completion; `probabilities` maps each label to its share at the forced slot, and is empty where
    the task has no closed set of labels."""

    text: str
    finished: bool
    probabilities: Mapping[str, float]


class Sampler(Protocol):
    """What evaluation needs of a policy."""

    def answer(
        self, prompts: Sequence[Messages], answers: Mapping[str, str], max_tokens: int, progress: Progress
    ) -> list[Answered]: ...


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


def fingerprint(model: PreTrainedModel) -> str:
    """sha256 over the names, shapes and leading values of all weights: tells one base from another."""
    digest = sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.flatten()[:1024].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def add_lora(model: PreTrainedModel, options: Mapping[str, Any]) -> PeftModel:
    """The base under one fresh LoRA. Options go to peft.LoraConfig."""
    try:
        config = LoraConfig(task_type="CAUSAL_LM", **options)
        return get_peft_model(model, config)
    except (TypeError, ValueError) as error:
        raise Error(f"recipe: lora: {' '.join(str(error).split())}") from error


def save_adapter(model: PeftModel, folder: Path, base_name: str, base_hash: str) -> None:
    """The adapter alone, and beside it the name and hash of the base it belongs to; whole or not there."""
    side = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(side, ignore_errors=True)
    try:
        model.save_pretrained(str(side), selected_adapters=["default"])
        write_atomically(side / "base.json", json.dumps({"name": base_name, "sha256": base_hash}).encode())
        side.replace(folder)
    except (OSError, SafetensorError) as error:  # a full disk is either, by the file that hits it
        raise Error(f"cannot write {folder}: {error}; free some space or choose another output_dir") from error
    finally:
        shutil.rmtree(side, ignore_errors=True)


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put a saved adapter on its base; on another base it is refused."""
    if not (folder / "adapter_config.json").is_file():
        raise Error(f"{folder} holds no adapter (adapter_config.json is missing)")
    note = folder / "base.json"
    if note.is_file():
        base = json.loads(note.read_text())
        if base["sha256"] != fingerprint(model):
            raise Error(f"adapter {folder} belongs to {base['name']} ({base['sha256'][:12]}); this is another base")
    return PeftModel.from_pretrained(model, str(folder))


class AnswerSlot:
    """Token ids of the forced slot and of the first token of each allowed answer word, if the set is closed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, answers: Mapping[str, str]) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = tokenizer.encode(SLOT, add_special_tokens=False)
        self.words: dict[int, str] = {}
        for word, label in answers.items():
            full = tokenizer.encode(SLOT + word, add_special_tokens=False)
            if full[: len(self.ids)] != self.ids or len(full) == len(self.ids):
                raise Error(f"answer word {word!r} merges with the tag before it in this tokenizer; choose another")
            if full[len(self.ids)] in self.words:
                raise Error(f"answer words share their first token at {word!r}; choose words that differ at the start")
            self.words[full[len(self.ids)]] = label

    def thought_length(self, completion: Sequence[int]) -> int:
        """How many leading tokens hold the thought: up to the first closing or answer tag, or all."""
        text = self.tokenizer.decode(completion, skip_special_tokens=True)
        ends = [place for tag in TAGS[1:] if (place := text.find(tag)) >= 0]
        if not ends:
            return len(completion)
        low, high = 0, len(completion)
        while low < high:  # the longest prefix that decodes to no more than the thought
            middle = (low + high + 1) // 2
            if len(self.tokenizer.decode(completion[:middle], skip_special_tokens=True)) <= min(ends):
                low = middle
            else:
                high = middle - 1
        return low

    def normalise(self, logits: torch.Tensor) -> list[dict[str, float]]:
        """(batch, vocabulary) logits at the slot -> each label's share among the allowed answers."""
        shares = torch.softmax(logits[:, list(self.words)].float(), dim=-1).tolist()
        return [dict(zip(self.words.values(), row, strict=True)) for row in shares]


class TransformersSampler:
    """Greedy decoding with transformers; prompts of like length share a batch."""

    def __init__(self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 32):
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size

    def answer(
        self, prompts: Sequence[Messages], answers: Mapping[str, str], max_tokens: int, progress: Progress
    ) -> list[Answered]:
        """Completions and slot probabilities, in the order of `prompts`."""
        slot = AnswerSlot(self.tokenizer, answers)
        encoded: list[list[int]] = [
            self.tokenizer.apply_chat_template(p, add_generation_prompt=True, return_dict=False) for p in prompts
        ]
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        found: dict[int, Answered] = {}
        was_training = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                found.update(zip(batch, self._batch([encoded[i] for i in batch], slot, max_tokens), strict=True))
                progress(len(batch))
        finally:
            self.model.train(was_training)
        return [found[i] for i in range(len(prompts))]

    @torch.no_grad()
    def _batch(self, prompts: list[list[int]], slot: AnswerSlot, max_tokens: int) -> list[Answered]:
        tokenizer, device = self.tokenizer, self.model.device
        padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(device)
        mask = padded["attention_mask"]
        out = self.model.generate(
            **padded,
            max_new_tokens=max_tokens,
            do_sample=False,
            return_dict_in_generate=True,
            pad_token_id=tokenizer.pad_token_id,
        )
        generated = out.sequences[:, mask.shape[1] :].tolist()
        # EOS may equal the padding token, and there may be several: what was written ends at the first.
        stops = _stops(self.model, tokenizer)
        ends = [next((i for i, token in enumerate(row) if token in stops), None) for row in generated]
        written = [row[:end] for row, end in zip(generated, ends, strict=True)]
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        if not slot.words:
            return [Answered(text, end is not None, {}) for text, end in zip(texts, ends, strict=True)]
        # The cache holds every token but the last, so the slot is read without a second pass over the
        # prompt: what follows each thought is masked out, and positions go on from the thought's end.
        cached = out.past_key_values.get_seq_length() - mask.shape[1]
        kept = torch.tensor([min(slot.thought_length(row), cached) for row in written], device=device)
        thought_mask = (torch.arange(cached, device=device)[None] < kept[:, None]).to(mask.dtype)
        slot_ids = torch.tensor([slot.ids], device=device).expand(len(prompts), -1)
        logits = self.model(
            input_ids=slot_ids,
            attention_mask=torch.cat([mask, thought_mask, torch.ones_like(slot_ids)], dim=1),
            position_ids=(mask.sum(1) + kept)[:, None] + torch.arange(len(slot.ids), device=device)[None],
            past_key_values=out.past_key_values,
            logits_to_keep=1,
        ).logits[:, -1]
        shares = slot.normalise(logits)
        return [Answered(t, e is not None, s) for t, e, s in zip(texts, ends, shares, strict=True)]


def _stops(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The token ids that end a generation: the tokenizer's and those of the generation config."""
    known = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])} - {None}


class VllmSampler:
    """Greedy decoding with vLLM; an adapter is applied as a LoRA request, so the base is not touched."""

    def __init__(
        self, base: str, adapter: Path | None, *, rank: int = 16, max_length: int = 2048, **engine: Any
    ) -> None:
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        self.llm = LLM(
            models.resolve(base),
            enable_lora=adapter is not None,
            max_lora_rank=rank,
            max_model_len=max_length,
            logprobs_mode="processed_logprobs",  # raw ones are taken before the allowed words are singled out
            **engine,
        )
        self.request = LoRARequest("policy", 1, str(adapter)) if adapter else None

    def answer(
        self, prompts: Sequence[Messages], answers: Mapping[str, str], max_tokens: int, progress: Progress
    ) -> list[Answered]:
        """Completions and slot probabilities, in the order of `prompts`."""
        from vllm import SamplingParams

        tokenizer = self.llm.get_tokenizer()
        slot = AnswerSlot(tokenizer, answers)
        encoded = [tokenizer.apply_chat_template(p, add_generation_prompt=True, return_dict=False) for p in prompts]
        options: dict[str, Any] = {"lora_request": self.request, "use_tqdm": False}
        greedy = SamplingParams(temperature=0, max_tokens=max_tokens)
        outs = [o.outputs[0] for o in self.llm.generate([{"prompt_token_ids": e} for e in encoded], greedy, **options)]
        if not slot.words:
            progress(len(outs))
            return [Answered(o.text, o.finish_reason == "stop", {}) for o in outs]
        # As in the other sampler, whose cache lacks it, the last token of a thought cut short is left out.
        limits = [len(o.token_ids) - (o.finish_reason != "stop") for o in outs]
        kept = [
            list(o.token_ids)[: min(slot.thought_length(o.token_ids), limit)]
            for o, limit in zip(outs, limits, strict=True)
        ]
        slots = [{"prompt_token_ids": e + k + slot.ids} for e, k in zip(encoded, kept, strict=True)]
        words = list(slot.words)
        one = SamplingParams(temperature=0, max_tokens=1, allowed_token_ids=words, logprobs=len(words))
        answered = []
        for out, at_slot in zip(outs, self.llm.generate(slots, one, **options), strict=True):
            logprobs = at_slot.outputs[0].logprobs[0]
            row = torch.full((1, max(words) + 1), -torch.inf)
            for token in words:
                row[0, token] = logprobs[token].logprob if token in logprobs else -torch.inf
            answered.append(Answered(out.text, out.finish_reason == "stop", slot.normalise(row)[0]))
            progress(1)
        return answered
