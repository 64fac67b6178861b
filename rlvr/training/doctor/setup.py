"""Setup: everything that the checks look at, opened without loading a weight.

    setup, findings = open_setup(load("quickstart"), processes=1, machine=here())

What cannot be opened (a wrong key, a model out of reach, a source without its files) is a finding of its own, and
leaves its field None; checks that need the field are then not made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from trl import GRPOConfig, SFTConfig

from rlvr import models
from rlvr.loading import Templates, gather, select, templates
from rlvr.questions import rationales
from rlvr.recipe import Recipe
from rlvr.training import checks
from rlvr.training.doctor import versions
from rlvr.training.doctor.facts import Machine, Setup, Size, Texts
from rlvr.training.doctor.findings import Finding, Severity
from rlvr.training.learning.pool import pooled
from rlvr.training.trainer.batch import KEYS, OPTIONAL, Batch
from rlvr.training.trainer.config import checked_config
from rlvr.training.watch.trackers import refuse_tracker
from rlvr.types import Error, Question

T = TypeVar("T")
CGROUP = Path("/sys/fs/cgroup/memory.max")  # a container's share of the machine


def here() -> Machine:
    """This machine, or this container's share of it."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    ram = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    share = CGROUP.read_text().strip() if CGROUP.is_file() else "max"
    gpu_bytes = min(torch.cuda.get_device_properties(i).total_memory for i in range(gpus)) if gpus else 0
    return Machine(gpus, gpu_bytes, min(ram, int(share)) if share.isdigit() else ram)


def open_setup(recipe: Recipe, processes: int, machine: Machine) -> tuple[Setup, list[Finding]]:
    """The setup as far as it opens, and why the rest does not."""
    findings: list[Finding] = []

    def stage(name: str, open_it: Callable[..., T], *needed: Any) -> T:
        if not any(value is None for value in needed):
            try:
                return open_it(*needed)
            except Error as error:
                findings.append(Finding(name, Severity.REFUSE, str(error)))
        return None  # type: ignore[return-value]  # checks say what they need

    hardware = {"use_cpu": True, "bf16": False} if machine.cpu else {}
    stage("report_to", refuse_tracker, recipe.report_to)
    batch = stage("batch", Batch.from_recipe, recipe.grpo, processes)
    grpo = stage("grpo", lambda: _grpo(recipe, hardware))
    sft = stage("sft", lambda: _config(SFTConfig, "sft", recipe, hardware)) if recipe.sft else None
    path = stage("model", models.resolve, recipe.model)
    config = stage("model", lambda p: _loaded(recipe.model, AutoConfig, p), path)
    tokenizer = stage("model", lambda p, _: _loaded(recipe.model, AutoTokenizer, p), path, config)
    size = stage("lora", lambda c: _size(c, recipe), config)
    stage("verifiers", recipe.open_verifiers)
    questions = stage("data", lambda: gather(recipe)[1])
    train = stage("data", lambda q: [x for x in q if x.split == "train"], questions)
    held_out = stage("data", select, questions, recipe.evaluation)
    stage("split", lambda q, h: checks.refuse_leaking_split(q, h, recipe.allow_leak), questions, held_out)
    pool = stage("learning", pooled, train, recipe.learning)
    by_task = stage("prompt", lambda q: templates(recipe, {x.task for x in q}), questions)
    texts = stage("prompt", _texts, tokenizer, by_task, train, held_out)
    stops = stage("model", _stops, path, config, tokenizer)
    opened = (batch, grpo, sft, config, tokenizer, stops, size, train, pool, held_out, by_task, texts)
    return Setup(recipe, machine, processes, versions.installed(), *opened), findings


def _grpo(recipe: Recipe, hardware: Mapping[str, Any]) -> Any:
    """TRL's own configuration, less the batch, which it would divide by the processes that doctor runs on."""
    rest = {key: value for key, value in recipe.grpo.items() if key not in (*KEYS, *OPTIONAL)}
    options = {**hardware, **rest}
    return checked_config(GRPOConfig, "grpo", options, {"output_dir": recipe.output_dir, "seed": recipe.seed})


def _config(kind: type, section: str, recipe: Recipe, hardware: Mapping[str, Any]) -> Any:
    return checked_config(kind, section, {**hardware, **getattr(recipe, section)}, {"output_dir": recipe.output_dir})


def _loaded(name: str, kind: Any, path: str) -> Any:
    try:
        return kind.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise models.load_error(name, error) from error


def _size(config: Any, recipe: Recipe) -> Size:
    """Counted on a model without storage ("meta"), so that any size takes a moment."""
    with torch.device("meta"):
        try:
            bare = AutoModelForCausalLM.from_config(config)
        except (ValueError, ImportError) as error:
            raise models.load_error(recipe.model, error) from error
        base = bare.num_parameters()
        try:
            tuned = get_peft_model(bare, LoraConfig(task_type="CAUSAL_LM", **recipe.lora))
        except (TypeError, ValueError) as error:
            raise Error(f"recipe: lora: {' '.join(str(error).split())}") from error
    layers = config.get_text_config().num_hidden_layers
    adapted = recipe.lora.get("layers_to_transform")
    first = min(adapted) if isinstance(adapted, list | tuple) and adapted else 0
    return Size(base, tuned.get_nb_trainable_parameters()[0], layers - first)


def _stops(path: str, config: Any, tokenizer: Any) -> frozenset[int]:
    """TRL ends a completion at the tokenizer's EOS and at all of the generation configuration's."""
    try:
        known = GenerationConfig.from_pretrained(path).eos_token_id
    except OSError:  # a model may come without one
        known = config.eos_token_id
    return frozenset({tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])} - {None})


def _texts(tokenizer: Any, by_task: Templates, train: Sequence[Question], held_out: Sequence[Question]) -> Texts:
    if not tokenizer.chat_template:
        raise Error("the tokenizer has no chat template; choose an instruction-tuned model")
    rows = {q.id: rationales.rows(q, by_task[q.task]) for q in train}
    whole = {name: [*row["prompt"], *row["completion"]] for name, row in rows.items()}
    prompts = checks.rendered([*train, *held_out], by_task)
    return Texts(checks.token_counts(tokenizer, prompts), checks.token_counts(tokenizer, whole, answered=True))
