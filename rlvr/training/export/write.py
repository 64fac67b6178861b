"""`rlvr export RUN --to DIR [--merged]`: a finished run as a folder that others can load, with its model card.

    export("runs/quickstart", "quickstart-adapter")                 # the adapter, for PEFT and vLLM's LoRA requests
    export("runs/quickstart", "quickstart-model", merged=True)      # a whole model, for anything that loads one

The base is loaded and never written. Merging adds the LoRA to float32 weights and casts the sum once, to the number
type that the base was published in; merging into bfloat16 weights would round twice.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, PreTrainedModel

from rlvr import models, policy
from rlvr.files import folder_aside, write_atomically
from rlvr.recipe import Recipe, load
from rlvr.training.export.card import write_card
from rlvr.types import Error

KEPT = ("adapter_config.json", "adapter_model.safetensors", "base.json")  # of a run's adapter folder


def export(run: Path, to: Path, merged: bool = False) -> Path:
    """Write `to`, whole or not at all, and return it.

    Errors: an unfinished run, a folder that exists, a base other than the adapter's, a full disk.
    """
    recipe = _finished(run)
    if to.exists():
        raise Error(f"{to} exists: name another folder, or move it away; nothing is overwritten")
    base, tokenizer = policy.load_base(recipe.model)
    tuned = policy.load_adapter(base, run / "adapter")  # refuses another base
    with folder_aside(to) as side:
        if merged:
            whole: PreTrainedModel = tuned.merge_and_unload(safe_merge=True)
            whole.to(_published(recipe.model)).save_pretrained(side)
        else:
            _copy_adapter(run / "adapter", side, recipe.model)
        tokenizer.save_pretrained(side)
        write_card(side, run, recipe, to.name, merged)
    return to


def base_name(model: str) -> str:
    """What others know the base by: a packaged model stands for its published original."""
    return models.KNOWN[model].upstream if model in models.KNOWN else model


def _finished(run: Path) -> Recipe:
    """The recipe of a run that went to its end."""
    if not (run / "recipe.yaml").is_file():
        raise Error(f"{run} is no run: recipe.yaml is missing; name a folder that training wrote")
    for needed in ("adapter/adapter_config.json", "adapter/base.json", "report.json"):
        if not (run / needed).is_file():
            raise Error(f"{run} is not finished: {needed} is missing; let the training end, then export")
    return load(str(run / "recipe.yaml"))


def _published(model: str) -> torch.dtype:
    """The number type of the base's own files."""
    found = getattr(AutoConfig.from_pretrained(models.resolve(model)), "dtype", None)
    return found if isinstance(found, torch.dtype) else torch.float32


def _copy_adapter(adapter: Path, to: Path, model: str) -> None:
    """The adapter's files; its configuration names the base by a name that means something elsewhere."""
    for name in KEPT:
        shutil.copyfile(adapter / name, to / name)
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name(model)
    write_atomically(to / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True).encode())
