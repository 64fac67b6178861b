"""Weight sync to vLLM that leaves the base alone, and proof that the weights arrived.

    with engine_options(recipe.vllm, config):  # rlvr.training.trainer.patches
        trainer = GRPOTrainer(...)             # its vllm_generation is then a Sync

trl 1.16 merges the LoRA into the base, pushes all weights, and subtracts the LoRA again. In bfloat16 that does not give
back what was there: the base drifts with every sync (github.com/huggingface/trl/issues/6688, measured in
benchmarks/sync.py). Here base + LoRA is computed beside the base, one weight at a time, bit for bit what a first merge
gives. Colocate and server mode push the same stream.

Two checks stop a run that would train on something else than it samples: after the first sync, log-probabilities of a
few greedy completions must agree between vLLM and the trainer; and the hash of a base weight, taken before that sync,
must be the same every `EVERY` syncs and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback
from trl.generation.vllm_generation import VLLMGeneration

from rlvr.types import Error

EVERY = 10  # syncs between two looks at the base
PROBES, TOKENS = 4, 16  # prompts per process, and greedy tokens of each, that vLLM and the trainer must agree on
# The mean gap per token in nats, by the coarser of the two dtypes; benchmarks/sync.py measures what to expect.
TOLERANCE = {torch.float32: 0.01, torch.float16: 0.05, torch.bfloat16: 0.08}
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Sync(VLLMGeneration):  # type: ignore[misc]
    """trl's VLLMGeneration, with a sync that yields base + LoRA without touching the base.

    `timed` is entered around each sync. Raises Error where the model's adapters are none that can be added to a weight.
    """

    timed: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)

    def __init__(self, model: Any, accelerator: Any, *args: Any, **options: Any) -> None:
        adapted_layers(model)  # refused before vLLM starts
        self._syncs, self._agreed, self._hash_at_start = 0, False, ""
        if getattr(getattr(accelerator.state, "fsdp_plugin", None), "fsdp_version", None) == 1:
            raise Error("vllm with FSDP 1: its flat parameters cannot be synced under a LoRA; set fsdp_version: 2")
        super().__init__(model, accelerator, *args, **options)

    def sync_weights(self) -> None:
        """Push base + LoRA to vLLM; look at the base before the first push and every `EVERY` pushes."""
        self._hash_at_start = self._hash_at_start or self._hash()
        with self.timed():
            super().sync_weights()
        self._syncs += 1
        if self._syncs % EVERY == 0:
            self.check_base()

    def check_base(self) -> None:
        """Raises Error if the base is no longer what it was before the first sync."""
        if self._hash_at_start and self._hash() != self._hash_at_start:
            raise Error(
                f"the base model's weight {self._first()[0]} changed within {self._syncs} weight syncs, so the "
                "adapter is none of the published base; something merged the LoRA into it: do not use this run"
            )

    def generate(
        self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any = None
    ) -> tuple[Any, ...]:
        """trl's own, after one check that both sides hold the same weights."""
        if self._syncs and not self._agreed:
            self._agreed = True
            self._check_agreement(prompts[:: max(1, len(prompts) // PROBES)][:PROBES])
        return super().generate(prompts, images, num_generations, profiler)  # type: ignore[no-any-return]

    def _iter_named_params(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight under the name vLLM knows it by. Gathering is collective: all processes iterate."""
        adapted = adapted_layers(self.model)
        for name, parameter in self.model.named_parameters():  # a tied weight once, as vLLM wants it
            if self.model.prefix in name or "original_module" in name:
                continue
            layer = adapted.get(name)
            with self._dist.gather_params([parameter, *(_adapters(layer) if layer else ())]):
                weight = merged(layer) if layer else parameter.data
                yield self._plain_name(name), _whole(weight, self.accelerator.device)

    def _plain_name(self, name: str) -> str:
        name = name.removeprefix("base_model.model.").replace(".base_layer", "")
        return str(self._fix_param_name_to_vllm(name, extra_prefixes=["modules_to_save.default."]))

    def _first(self) -> tuple[str, nn.Parameter]:
        """The base weight that is watched, with its name."""
        name, layer = next(iter(adapted_layers(self.model).items()))
        return self._plain_name(name), layer.get_base_layer().weight

    def _hash(self) -> str:
        weight = self._first()[1]
        with self._dist.gather_params([weight]):
            whole = _whole(weight.detach(), self.accelerator.device)
            return sha256(whole.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()

    def gap(self, prompts: Sequence[list[int]]) -> float:
        """Mean distance in nats between vLLM's log-probability of a token and the trainer's, over greedy completions of
        `prompts` (token ids); the largest of all processes. Collective: as many prompts on each."""
        with self._greedy():
            _, completions, logprobs, _ = super().generate(list(prompts), None, 1)
        theirs = [torch.tensor([float("nan") if top[0] is None else top[0] for top in row]) for row in logprobs]
        ours = [self._score(prompt, row) for prompt, row in zip(prompts, completions, strict=True)]
        gap = (torch.cat(ours).cpu() - torch.cat(theirs)).abs().mean()
        return float(self.accelerator.gather(gap.to(self.accelerator.device).reshape(1)).max())

    def _check_agreement(self, prompts: Sequence[list[int]]) -> None:
        gap = self.gap(prompts)
        trainer, engine = self._dtypes()
        allowed = max(TOLERANCE.get(trainer, 0.0), TOLERANCE.get(engine, 0.0))
        if not gap <= allowed:  # NaN is no agreement either
            raise Error(
                f"after the first weight sync vLLM ({_word(engine)}) and the trainer ({_word(trainer)}) differ by "
                f"{gap:.2g} in the log-probability of a token, {allowed:g} is allowed: they do not hold the same "
                "model; give both the same `model`, and vllm.dtype the trainer's"
            )

    @contextmanager
    def _greedy(self) -> Iterator[None]:
        """A few greedy tokens, scored as the model has them: no draw from a random state, nothing penalised."""
        plain = {"temperature": 0.0, "repetition_penalty": 1.0, "max_completion_length": TOKENS}
        plain |= {"generation_kwargs": {}, "structured_outputs_regex": None}  # type: ignore[dict-item]
        before = {key: getattr(self, key) for key in plain}
        self.__dict__.update(plain)
        try:
            yield
        finally:
            self.__dict__.update(before)

    @torch.no_grad()
    def _score(self, prompt: list[int], completion: Sequence[int]) -> torch.Tensor:
        """The trainer's log-probability of each token of a completion."""
        ids = torch.tensor([[*prompt, *completion]], device=self.accelerator.device)
        was_training = self.model.training
        self.model.eval()
        with self.accelerator.autocast():
            logits = self.model(input_ids=ids, logits_to_keep=len(completion) + 1).logits[0, :-1].float()
        self.model.train(was_training)
        scores: torch.Tensor = logits.log_softmax(-1).gather(1, ids[0, -len(completion) :, None])[:, 0]
        return scores

    def _dtypes(self) -> tuple[torch.dtype, torch.dtype]:
        """What the trainer computes in, and vLLM."""
        base = self._first()[1].dtype
        if self.mode == "colocate":
            engine = [str(self.llm.llm_engine.model_config.dtype)]
        else:
            main = self.accelerator.is_main_process
            engine = [str(self.vllm_client.get_server_info()["model_config"]["dtype"])] if main else [""]
            broadcast_object_list(engine)
        return AUTOCAST.get(self.accelerator.mixed_precision, base), getattr(torch, engine[0].removeprefix("torch."))


class BaseUnchanged(TrainerCallback):  # type: ignore[misc]
    """Looks at the base once more when training ends."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._sync.check_base()


def adapted_layers(model: nn.Module) -> dict[str, Linear]:
    """Name of each base weight that a LoRA is on -> its layer.

    Raises Error for adapters that are no plain sum with the weight (DoRA, quantised bases, LoRA on biases, embeddings,
    convolutions or experts), and where a LoRA is merged already.
    """
    found = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        if not isinstance(layer, Linear) or layer.lora_variant or any(layer.lora_bias.values()):
            kind = ", ".join(sorted({type(v).__name__ for v in getattr(layer, "lora_variant", {}).values()}))
            raise Error(
                f"vllm: the adapter on {name} ({kind or type(layer).__name__}) is more than a sum with its weight and "
                "cannot be synced; use plain LoRA on linear layers (no DoRA, no lora_bias, no quantised base), or "
                "vllm.enabled=false"
            )
        if layer.merged:
            raise Error(f"vllm: the LoRA on {name} is merged into its base; call unmerge_adapter() before training")
        found[f"{name}.base_layer.weight"] = layer
    if not found:
        raise Error("vllm: the model has no LoRA to sync; pass it through rlvr.policy.add_lora")
    return found


@torch.no_grad()
def merged(layer: LoraLayer) -> torch.Tensor:
    """Base + LoRA of one layer, (out, in), in the base's dtype: what `layer.merge()` would leave, beside the base."""
    weight: torch.Tensor = layer.get_base_layer().weight.detach().clone()
    for adapter in layer.active_adapters:
        if adapter in layer.lora_A:
            weight += layer.get_delta_weight(adapter)
    return weight


def _adapters(layer: LoraLayer) -> list[nn.Parameter]:
    parts = [(layer.lora_A[name].weight, layer.lora_B[name].weight) for name in layer.lora_A]
    return [weight for pair in parts for weight in pair]


def _whole(weight: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A sharded tensor (FSDP 2) put together on every process; any other as it is."""
    if isinstance(weight, DTensor):
        whole: torch.Tensor = weight.to(device).full_tensor()  # type: ignore[attr-defined]
        return whole
    return weight


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
