"""Weights without a model: which base a folder holds, and the shapes of its tensors, read from safetensors files.

Reading the names and first values of a few hundred tensors takes a moment where loading the model takes minutes,
so that a wrong adapter is refused before vLLM starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedModel

from rlvr import models
from rlvr.types import Error

LEADING = 1024  # values of each tensor that tell one base from another
Tensor = tuple[tuple[int, ...], Callable[[], torch.Tensor]]  # shape, and how to read the leading values


def fingerprint(model: PreTrainedModel) -> str:
    """sha256 over the names, shapes and leading values of all weights: tells one base from another."""
    weights = model.state_dict().items()
    return _digest((name, tuple(w.shape), w.flatten()[:LEADING]) for name, w in sorted(weights))


def fingerprint_of(name: str) -> str | None:
    """`fingerprint` of the model that loads from a short name, folder or hub name; None where its files do not name
    their tensors as the loaded model does, or are no safetensors."""
    folder = local_folder(name)
    found = tensors(folder)
    if not found:
        return None
    config = AutoConfig.from_pretrained(folder)
    embedded = "model.embed_tokens.weight"
    if getattr(config, "tie_word_embeddings", False) and "lm_head.weight" not in found and embedded in found:
        found["lm_head.weight"] = found[embedded]
    return _digest((name, shape, read()) for name, (shape, read) in sorted(found.items()))


def _digest(weights: Iterable[tuple[str, tuple[int, ...], torch.Tensor]]) -> str:
    digest = sha256()
    for name, shape, leading in weights:
        digest.update(f"{name} {shape}".encode())
        digest.update(leading.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def local_folder(name: str) -> Path:
    """The folder of a model by any of its names; a hub name's files are fetched into the hub's cache."""
    resolved = models.resolve(name)
    if Path(resolved).is_dir():
        return Path(resolved)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(resolved, allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.txt"]))
    except (OSError, ValueError) as error:
        raise models.load_error(name, error) from error


def tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of all model*.safetensors in a folder, by name."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118  # no mapping
                    shape = tuple(opened.get_slice(name).get_shape())
                    found[name] = (shape, _reader(file, name, shape))
        except (OSError, SafetensorError) as error:
            raise Error(f"{file} cannot be read: {error}; fetch or save it again") from error
    return found


def _reader(file: Path, name: str, shape: tuple[int, ...]) -> Callable[[], torch.Tensor]:
    def leading() -> torch.Tensor:
        per_row = 1
        for size in shape[1:]:
            per_row *= size
        with safe_open(file, "pt") as opened:
            part = opened.get_slice(name)
            rows = part[: -(-LEADING // max(per_row, 1))] if shape else opened.get_tensor(name)
        return rows.flatten()[:LEADING]  # type: ignore[no-any-return]

    return leading


def shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Tensor name -> its shape."""
    return {name: shape for name, (shape, _) in weights.items()}
