"""Who is asked: a model on this machine, one behind a server, or completions that were saved.

Each is told apart by hashes, so that answers of one are never taken for those of another, and is opened only when
there is something left to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from rlvr import policy
from rlvr.evaluation.lengths import max_tokens, training_max_tokens
from rlvr.recipe import Recipe
from rlvr.types import Error

ENGINE = 2048  # completions that vLLM is given at once: enough to keep a GPU full
LENGTH = 2048  # tokens of prompt and completion, where grpo.vllm_max_model_length does not say


@dataclass(frozen=True)
class Subject:
    """facts: backend, model, base_sha256, adapter_sha256, and what else the answers depend on. chunk: questions between
    two saves. samples: completions of each question."""

    facts: Mapping[str, Any]
    open: Callable[[], policy.Sampler | policy.SavedCompletions]
    chunk: int
    samples: int


def chosen(
    recipe: Recipe,
    adapter: Path | None,
    server: policy.Server | None,
    completions: Callable[[], policy.SavedCompletions] | None,
) -> Subject:
    """What `rlvr evaluate` was told to ask. Errors: more than one, an adapter of another base."""
    if sum(given is not None for given in (adapter, server, completions)) > 1:
        raise Error("name one of --adapter, --server and --completions; a server is told which adapter by --model")
    if server:
        return _served(recipe, server)
    if completions:
        return _saved(recipe, completions())
    if adapter:
        policy.check_adapter(adapter, recipe.model)
    facts = {
        "model": recipe.model,
        "base_sha256": policy.fingerprint_of(recipe.model),
        "adapter": str(adapter) if adapter else None,
        "adapter_sha256": policy.adapter_digest(adapter) if adapter else None,
    }
    return _engine(recipe, adapter, facts) if recipe.vllm.enabled else _local(recipe, adapter, facts)


def trained(model: Any, tokenizer: Any, recipe: Recipe, base_sha256: str) -> Subject:
    """A model in training: the base of that hash under its LoRA, as it is now."""
    facts = {"model": recipe.model, "base_sha256": base_sha256, "adapter": None}
    return _transformers(recipe, {**facts, "adapter_sha256": policy.adapter_digest(model)}, lambda: (model, tokenizer))


def _local(recipe: Recipe, adapter: Path | None, facts: Mapping[str, Any]) -> Subject:
    def load() -> tuple[Any, Any]:
        model, tokenizer = policy.load_base(recipe.model)
        tuned = policy.load_adapter(model, adapter) if adapter else model
        return tuned.to(PartialState().device), tokenizer

    return _transformers(recipe, facts, load)


def _transformers(recipe: Recipe, facts: Mapping[str, Any], load: Callable[[], tuple[Any, Any]]) -> Subject:
    asked = recipe.evaluation

    def sampler() -> policy.Sampler:
        return policy.TransformersSampler(*load(), asked.batch_size)

    return Subject(
        {"backend": "transformers", **facts, "batch_size": asked.batch_size},
        sampler,
        asked.chunk or max(1, 4 * asked.batch_size // asked.samples),
        asked.samples,
    )


def _engine(recipe: Recipe, adapter: Path | None, facts: Mapping[str, Any]) -> Subject:
    asked, options = recipe.evaluation, recipe.vllm.options()
    more = max(0, max_tokens(recipe) - training_max_tokens(recipe))  # than the length for training has room for
    length = int(options.pop("max_model_len", (recipe.grpo.get("vllm_max_model_length") or LENGTH) + more))

    def sampler() -> policy.Sampler:
        return policy.VllmSampler(recipe.model, adapter, max_length=length, **options)

    chunk = asked.chunk or max(1, ENGINE // asked.samples)
    return Subject({"backend": "vllm", **facts, "engine": options}, sampler, chunk, asked.samples)


def _served(recipe: Recipe, server: policy.Server) -> Subject:
    asked = recipe.evaluation
    facts = {"model": server.model, "server": server.url, "base_sha256": None, "adapter_sha256": None}
    return Subject(
        {"backend": "server", **facts},
        lambda: policy.ServerSampler(server),
        asked.chunk or max(1, 4 * server.concurrency // asked.samples),
        asked.samples,
    )


def _saved(recipe: Recipe, found: policy.SavedCompletions) -> Subject:
    asked = recipe.evaluation
    if asked.samples not in (1, found.samples):
        raise Error(f"evaluation.samples is {asked.samples}, {found.file} holds {found.samples} of a question")
    facts = {"model": found.file.name, "completions_sha256": found.sha256(), "missing": found.missing}
    return Subject(
        {"backend": "completions", **facts, "base_sha256": None, "adapter_sha256": None},
        lambda: found,
        asked.chunk or ENGINE,
        found.samples,
    )
