"""A group's prompt is computed once: one row for each prompt, and in it every completion as a block.

    prompt[:-1]  | prompt[-1] completion_1 | prompt[-1] completion_2 | ...

A block sees the prompt and itself (4-D mask), and counts its positions from the prompt's end. Repeating the prompt's
last token in each block gives every position one label, so TRL's head and loss stay as they are: only the step that
computes log-probabilities is another, and its numbers are those of the plain way up to rounding. Sampling with
transformers reads each prompt once too, and hands its cache to the whole group. GRPO repeats each prompt G times, and a
prompt is often longer than its completions: most of a plain batch is the same work done again.

The first batch is computed the plain way as well; where the two differ, or a model's layers cannot take the mask,
training goes on the plain way and says so. Shared prefixes elsewhere: verl's PrefixGrouper
(github.com/volcengine/verl/pull/4368); asked for in github.com/huggingface/trl/issues/3549.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import trl
import trl.trainer.grpo_trainer as grpo_trainer
from torch import Tensor
from transformers import DynamicCache
from trl import GRPOTrainer

log = logging.getLogger(__name__)

TOKENS = 4096  # of a row: attention grows with the square of its length, so a long group is parted
ATTENTION = ("sdpa", "eager")  # those that take any mask
LAYERS = {"full_attention", "sliding_attention"}  # what a block can be hidden from; recurrent layers cannot
ROUNDING = 1e-3  # largest difference of two log-probabilities in float32, relative to 1 + their size
ROUNDING_BF16 = 0.15  # under bfloat16 autocast, whose own rounding is of that size


@dataclass(frozen=True)
class Packed:
    """Rows of the model, one or more for each prompt, R of T tokens, for B completions of up to L tokens.

    seen: (R, T, T), whether a position sees another. row, place: (B,) and (B, L), where each completion's
    log-probabilities stand in the (R, T - 1) that come back; kept: (B, L), False beyond a completion's end.
    """

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    seen: Tensor
    row: Tensor
    place: Tensor
    kept: Tensor

    def unpacked(self, values: Tensor) -> Tensor:
        """(R, T - 1) values of the rows -> (B, L) of the completions, 0 beyond their ends."""
        return torch.where(self.kept, values[self.row[:, None], self.place], 0.0)


def pack(input_ids: Tensor, attention_mask: Tensor, completion: int) -> Packed | None:
    """Rows of (B, P + L) ids, prompts padded on the left and completions on the right, packed by prompt; None where no
    prompt stands twice. completion: L."""
    prompt_ids, ends = input_ids[:, :-completion], attention_mask[:, -completion:].sum(1).tolist()
    starts = (prompt_ids.size(1) - attention_mask[:, :-completion].sum(1)).tolist()
    prompts = [tuple(row[start:]) for row, start in zip(prompt_ids.tolist(), starts, strict=True)]
    if len(set(prompts)) == len(prompts) or not all(prompts):
        return None
    rows = list(_rows(prompts, ends))
    length = max(_length(prompts[members[0]], members, ends) for members in rows)
    ids, labels = input_ids.new_zeros(len(rows), length), input_ids.new_full((len(rows), length), -100)
    positions, block = torch.zeros_like(ids), torch.full_like(ids, -1)
    row, place = input_ids.new_zeros(len(prompts)), input_ids.new_zeros(len(prompts), completion)
    for r, members in enumerate(rows):
        prompt = input_ids.new_tensor(prompts[members[0]])
        head = len(prompt) - 1
        ids[r, :head], block[r, :head] = prompt[:-1], 0
        positions[r, :head] = torch.arange(head, device=ids.device)
        at = head
        for number, member in enumerate(members, 1):
            tokens = input_ids[member, -completion:][: ends[member]]
            stop = at + 1 + len(tokens)
            ids[r, at], ids[r, at + 1 : stop], labels[r, at + 1 : stop] = prompt[-1], tokens, tokens
            block[r, at:stop] = number
            positions[r, at:stop] = torch.arange(head, head + 1 + len(tokens), device=ids.device)
            row[member] = r
            place[member, : len(tokens)] = torch.arange(at, stop - 1, device=ids.device)
            at = stop
    order = torch.arange(length, device=ids.device)
    same = (block[:, None, :] == block[:, :, None]) | (block[:, None, :] == 0)
    kept = torch.arange(completion, device=ids.device)[None] < row.new_tensor(ends)[:, None]
    return Packed(ids, positions, labels, same & (order[None, None, :] <= order[None, :, None]), row, place, kept)


def _rows(prompts: Sequence[tuple[int, ...]], ends: Sequence[int]) -> Iterator[list[int]]:
    """The completions of each row: those of one prompt, as many as TOKENS allows."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for member, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(member)
    for prompt, members in groups.items():
        part: list[int] = []
        for member in members:
            if part and _length(prompt, [*part, member], ends) > TOKENS:
                yield part
                part = []
            part.append(member)
        yield part


def _length(prompt: tuple[int, ...], members: Sequence[int], ends: Sequence[int]) -> int:
    return len(prompt) - 1 + sum(1 + ends[member] for member in members)


def masks(packed: Packed, config: Any, dtype: torch.dtype, eager: bool) -> Any:
    """The mask as the model's layers take it: (R, 1, T, T), or one for each kind of layer where some see a window."""

    def shaped(seen: Tensor) -> Tensor:
        seen = seen[:, None]
        return (
            torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, -torch.inf) if eager else seen
        )

    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds == {"full_attention"}:
        return shaped(packed.seen)
    apart = packed.positions[:, :, None] - packed.positions[:, None, :]
    near = packed.seen & (apart < config.sliding_window)
    return {"full_attention": shaped(packed.seen), "sliding_attention": shaped(near)}


def refusal(config: Any) -> str | None:
    """Why a model cannot share prefixes; None where it can."""
    if config._attn_implementation not in ATTENTION:
        return f"its attention is {config._attn_implementation}, which takes no mask of blocks; sdpa does"
    if others := set(getattr(config, "layer_types", None) or []) - LAYERS:
        return f"it has layers of {', '.join(sorted(others))}, which carry one completion's state into the next"
    return None


class SharedPrefix(GRPOTrainer):  # type: ignore[misc]
    """trl.GRPOTrainer that computes each group's prompt once, in sampling and in the update."""

    shares_prefix = trl.__version__.startswith("1.16.")  # the version whose methods are overridden here
    _agrees = False  # with the plain way, in the first batch

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *rest: Any, **named: Any
    ) -> Any:
        plain = super()._get_per_token_logps_and_entropies
        packed = self._packed(model, input_ids, attention_mask, logits_to_keep, rest, named)
        if packed is not None and not self._agrees:
            with _certain(bare := self.accelerator.unwrap_model(model)):  # bare: ranks need not be here together
                reference, *_ = plain(bare, input_ids, attention_mask, logits_to_keep, *rest, **named)
                shared = packed.unpacked(self._computed(bare, packed).log_probs)
            self._compare(shared, torch.where(packed.kept, reference, 0.0))
        if packed is None or not self._agrees:
            return plain(model, input_ids, attention_mask, logits_to_keep, *rest, **named)
        out = self._computed(model, packed)
        entropy = packed.unpacked(out.entropy) if named.get("compute_entropy") else None
        return packed.unpacked(out.log_probs), entropy, None

    def _computed(self, model: Any, packed: Packed) -> Any:
        """The head's outputs at the rows of `packed`, (R, T - 1) each."""
        bare = self.accelerator.unwrap_model(model)
        config = bare.config.get_text_config()
        with self.accelerator.autocast():
            return model(
                input_ids=packed.input_ids,
                attention_mask=masks(packed, config, bare.dtype, config._attn_implementation == "eager"),
                position_ids=packed.positions,
                labels=packed.labels,
                fused_lm_head=True,
                use_cache=False,
            )

    def _packed(self, model: Any, ids: Tensor, mask: Tensor, keep: int, rest: Any, named: Any) -> Packed | None:
        """None where the plain way is to be taken: images, a loss of the experts, no prompt twice."""
        extra = {key for key, value in named.items() if value is not None and value is not False}
        if not self.shares_prefix or rest or extra - {"batch_size", "compute_entropy"}:
            return None
        if why := refusal(self.accelerator.unwrap_model(model).config.get_text_config()):
            self._fall_back(f"this model cannot share the prompt of a group: {why}")
            return None
        return pack(ids, mask, keep)

    def _compare(self, ours: Tensor, theirs: Tensor) -> None:
        """Whether the first batch agrees with the plain way. Each rank decides for itself: both ways are right."""
        exact = self.accelerator.mixed_precision == "no" and self.model.dtype == torch.float32
        worst = ((ours - theirs).abs() / (1 + theirs.abs())).max().item()
        self._agrees = worst <= (ROUNDING if exact else ROUNDING_BF16)
        if not self._agrees:
            self._fall_back(f"sharing the prompt of a group changes log-probabilities by up to {worst:.2g} here")

    def _fall_back(self, why: str) -> None:
        self.shares_prefix = False
        log.warning("%s; training goes on without it, slower", why)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        with groups_kept_whole(self.num_generations if self.shares_prefix else 1):
            return super()._prepare_inputs(generation_batch)

    def _generate_single_turn(self, *args: Any, **options: Any) -> Any:
        model = self.accelerator.unwrap_model(self.model_wrapped)
        if not self.shares_prefix or self.use_vllm or refusal(model.config.get_text_config()):
            return super()._generate_single_turn(*args, **options)
        with one_prefill(model):
            return super()._generate_single_turn(*args, **options)


@contextmanager
def _certain(model: Any) -> Iterator[None]:
    """Inside, nothing of the model is left to chance: a comparison that drew dropout would fail, and a resumed run,
    which compares once more, would go on with other random numbers."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


@contextmanager
def one_prefill(model: Any) -> Iterator[None]:
    """Inside, `model.generate` reads each distinct prompt once, and all that share it go on from its cache."""
    plain = model.generate

    def generate(input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Any:
        each, which = torch.unique(input_ids, dim=0, return_inverse=True)
        if input_ids.size(1) < 2 or len(each) == len(input_ids) or set(options) - {"generation_config"}:
            return plain(input_ids=input_ids, attention_mask=attention_mask, **options)
        first = torch.tensor([(which == row).nonzero()[0, 0] for row in range(len(each))], device=which.device)
        seen = attention_mask[first]
        cache = DynamicCache(config=model.config.get_text_config())
        positions = (seen.cumsum(1) - 1).clamp(min=0)
        model(
            input_ids=each[:, :-1],
            attention_mask=seen[:, :-1],
            position_ids=positions[:, :-1],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache.batch_select_indices(which)
        return plain(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, **options)

    model.generate = generate
    try:
        yield
    finally:
        del model.generate


@contextmanager
def groups_kept_whole(size: int) -> Iterator[None]:
    """Inside, trl 1.16 shuffles a generation batch by groups of `size` rows, so that a group is not torn over steps."""
    plain = grpo_trainer.shuffle_sequence_dict

    def by_groups(batch: dict[str, Any]) -> dict[str, Any]:
        rows = len(next(values for values in batch.values() if values is not None))
        if rows % size:
            return cast(dict[str, Any], plain(batch))
        order = [group * size + turn for group in torch.randperm(rows // size).tolist() for turn in range(size)]

        def taken(values: Any) -> Any:
            if values is None or (isinstance(values, Tensor) and values.ndim == 0):
                return values
            return values[order] if isinstance(values, Tensor) else [values[row] for row in order]

        return {key: taken(values) for key, values in batch.items()}

    grpo_trainer.shuffle_sequence_dict = plain if size == 1 else by_groups
    try:
        yield
    finally:
        grpo_trainer.shuffle_sequence_dict = plain
