"""LoRA adapters: made, saved beside the name and hash of their base, and refused on another base."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from rlvr import models
from rlvr.files import folder_aside
from rlvr.policy.local import load_base
from rlvr.policy.weights import fingerprint, fingerprint_of, local_folder, shapes, tensors
from rlvr.types import Error

WEIGHTS = "adapter_model.safetensors"
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of vllm.config.lora.MaxLoRARanks


def add_lora(model: PreTrainedModel, options: Mapping[str, Any]) -> PeftModel:
    """The base under one fresh LoRA. Options go to peft.LoraConfig."""
    try:
        config = LoraConfig(task_type="CAUSAL_LM", **options)
        return get_peft_model(model, config)
    except (TypeError, ValueError) as error:
        raise Error(f"recipe: lora: {' '.join(str(error).split())}") from error


def save_adapter(model: PeftModel, folder: Path, base_name: str, base_hash: str) -> None:
    """The adapter alone, and beside it the name and hash of the base it belongs to; whole or not there."""
    with folder_aside(folder) as side:
        model.save_pretrained(str(side), selected_adapters=["default"])
        (side / "base.json").write_text(json.dumps({"name": base_name, "sha256": base_hash}), encoding="utf-8")


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put a saved adapter on its base; on another base it is refused."""
    _config(folder)
    base = _base(folder)
    if base and base["sha256"] != fingerprint(model):
        raise _another(folder, base)
    try:
        return PeftModel.from_pretrained(model, str(folder))
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise Error(f"adapter {folder} does not fit this base: {' '.join(str(error).split())[:300]}") from error


def adapter_digest(adapter: Path | PeftModel) -> str:
    """sha256 over the names and values of an adapter's tensors: the same for one in memory and saved."""
    if isinstance(adapter, Path):
        _config(adapter)
        try:
            weights = load_file(adapter / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise Error(f"{adapter / WEIGHTS} cannot be read: {error}; save the adapter as safetensors") from error
    else:
        weights = get_peft_model_state_dict(adapter)
    digest = sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_adapter(folder: Path, base_name: str) -> None:
    """Refuse an adapter of another base from the files of both, before either is loaded.

    By the hash of the base where it was saved here; else by the name of the base in its configuration, where both
    names are the hub's, and by the shapes of what it adapts.
    """
    config, base = _config(folder), _base(folder)
    if base:
        if base["sha256"] != fingerprint_of(base_name) and base["sha256"] != fingerprint(load_base(base_name)[0]):
            raise _another(folder, base)
        return
    named = str(config.get("base_model_name_or_path") or "")
    ours = models.KNOWN[base_name].upstream if base_name in models.KNOWN else base_name
    if not Path(ours).is_dir() and models.HUB_NAME.fullmatch(named) and named.lower() != ours.lower():
        raise Error(f"adapter {folder} belongs to {named}, the model is {base_name}; name its own base with --model")
    there = shapes(tensors(local_folder(base_name)))
    if not there:  # no safetensors: what does not fit shows when it is loaded
        return
    for name, shape in shapes(tensors(folder)).items():
        found = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name)
        if not found:
            continue
        target = there.get(f"{found[1]}.weight")
        side = 1 if found[2] == "A" else 0  # A: (rank, in), B: (out, rank), of a weight (out, in)
        if target is None or len(target) != 2 or target[side] != shape[side]:
            what = "lacks" if target is None else f"has with shape {target}"
            raise Error(f"adapter {folder} adapts {found[1]} by {shape}, which {base_name} {what}; another base")


def lora_rank(folder: Path) -> int:
    """The rank to give vLLM for an adapter: its largest, rounded up to one that vLLM takes. Errors: kinds of LoRA
    that vLLM has not."""
    config = _config(folder)
    beyond = [
        text
        for text, used in (
            ("DoRA", config.get("use_dora")),
            (f"bias={config.get('bias')}", config.get("bias", "none") != "none"),
            ("modules_to_save", config.get("modules_to_save")),
        )
        if used
    ]
    if beyond:
        raise Error(f"adapter {folder} uses {', '.join(beyond)}, which vLLM cannot apply; merge it (rlvr export)")
    rank = max([int(config.get("r", 8)), *map(int, (config.get("rank_pattern") or {}).values())])
    fitting = [allowed for allowed in VLLM_RANKS if allowed >= rank]
    if not fitting:
        raise Error(f"adapter {folder} has rank {rank}, vLLM takes at most {VLLM_RANKS[-1]}; merge it (rlvr export)")
    return fitting[0]


def _config(folder: Path) -> dict[str, Any]:
    return _read(folder / "adapter_config.json", f"{folder} holds no adapter (adapter_config.json is missing)")


def _base(folder: Path) -> dict[str, Any] | None:
    note = folder / "base.json"
    if not note.is_file():
        return None
    base = _read(note, "")
    if not isinstance(base.get("sha256"), str):
        raise Error(f"{note} names no base; take the adapter's folder as it was saved")
    return base


def _read(path: Path, absent: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Error(absent) from None
    except (OSError, ValueError) as error:
        raise Error(f"{path} cannot be read: {error}; take the adapter's folder as it was saved") from error
    if not isinstance(values, dict):
        raise Error(f"{path} holds no object; take the adapter's folder as it was saved")
    return values


def _another(folder: Path, base: Mapping[str, Any]) -> Error:
    return Error(f"adapter {folder} belongs to {base.get('name')} ({base['sha256'][:12]}); this is another base")
