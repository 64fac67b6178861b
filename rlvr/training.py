"""What train.py calls: a Run, from recipe to report, one step after the other.

    run = Run(recipe); run.evaluate("before"); run.warm_start(); run.grpo(); run.evaluate("after"); run.report()

Everything that can be refused is refused in `Run(...)`, before anything is spent.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from datasets import Dataset
from transformers import TrainerCallback, set_seed
from trl import GRPOConfig, SFTConfig, SFTTrainer

from rlvr import evaluate, policy, prompts
from rlvr.opening import gather, reward_layer, templates
from rlvr.provenance import versions
from rlvr.rationales import rows as rationale_rows
from rlvr.recipe import Recipe
from rlvr.report import terminal_summary, write_report
from rlvr.results import assemble
from rlvr.source import write_atomically
from rlvr.splits import refuse_leak
from rlvr.trainer import Trainer
from rlvr.trainer.config import checked_config
from rlvr.trainer.engine import masked_positions_skipped
from rlvr.types import Error, Question

log = logging.getLogger(__name__)


class Run:
    """One training run in one folder."""

    def __init__(self, recipe: Recipe) -> None:
        cpu = not torch.cuda.is_available()
        self.recipe = recipe
        self.state = PartialState(cpu=cpu)
        if cpu:  # accelerate launch hands each process one thread, whatever the machine has
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            torch.set_num_threads(max(1, cores // self.state.num_processes))
        self.folder = Path(recipe.output_dir)
        self.seconds: dict[str, float] = {}
        common = {"seed": recipe.seed, "report_to": recipe.report_to, "logging_nan_inf_filter": False}
        hardware = {"use_cpu": True, "bf16": False} if cpu else {}
        self.sft: SFTConfig | None = None
        if recipe.sft:
            self.sft = self._config(
                SFTConfig, "sft", hardware, {**common, "output_dir": str(self.folder / "warm_start")}
            )
        fixed = {**common, "output_dir": str(self.folder / "checkpoints"), "use_vllm": recipe.vllm.enabled}
        self.grpo_config: GRPOConfig = self._config(GRPOConfig, "grpo", hardware, fixed)

        with self._timed("data"):
            self.sources, self.questions = gather(recipe)
        self.train = [q for q in self.questions if q.split == "train"]
        self.held_out = evaluate.select(self.questions, recipe.evaluation)
        self.templates = templates(recipe, {question.task for question in self.questions})
        self.layer = reward_layer(recipe, self.templates)
        self.grpo_config.reward_weights = self.layer.weights()
        self._warn_of_overconfidence()
        test = [q for q in self.questions if q.split == "test"]  # will be measured, at the end
        refuse_leak(self.train, [*self.held_out, *test], recipe.allow_leak)

        with self._timed("model"):
            base, self.tokenizer = policy.load_base(recipe.model)
            self.base_hash = policy.fingerprint(base)
            set_seed(recipe.seed)
            self.model = policy.add_lora(base, recipe.lora)
        self._check_lengths()
        self._check_batch()
        if self.state.is_main_process:
            self._open_folder()
        self.state.wait_for_everyone()

    def evaluate(self, stage: str) -> None:
        """Ask the held-out questions; skipped when the recipe does not list the stage."""
        if stage not in self.recipe.evaluation.stages:
            return
        with self._timed(f"evaluate {stage}"):
            sampler = policy.TransformersSampler(self.model, self.tokenizer, self.recipe.evaluation.batch_size)
            table = evaluate.measure(
                sampler, self.held_out, self.templates, self.layer, self.grpo_config.max_completion_length, stage
            )
        if self.state.is_main_process:
            evaluate.keep(table, self.folder, stage)
        self.state.wait_for_everyone()

    def warm_start(self) -> None:
        """A short supervised phase on rationales written from training evidence, on the run's one LoRA."""
        if self.sft is None:
            return
        rows = [rationale_rows(question, self.templates[question.task]) for question in self.train]
        with self._timed("warm start"):
            trainer = SFTTrainer(
                model=self.model,
                args=self.sft,
                train_dataset=Dataset.from_list(rows),
                processing_class=self.tokenizer,
                callbacks=[JsonLines(self.folder / "metrics.jsonl", "warm_start")],
            )
            with masked_positions_skipped():
                trainer.train()
        self._save("warm_start/adapter")

    def grpo(self) -> None:
        """GRPO on the same LoRA: sample groups, verify, update."""
        rows = [{"prompt": self._render(q), "question": q.to_json()} for q in self.train]
        with self._timed("grpo"):
            trainer = Trainer(
                self.recipe,
                self.layer,
                self.folder / "rollouts",
                model=self.model,
                args=self.grpo_config,
                train_dataset=Dataset.from_list(rows),
                processing_class=self.tokenizer,
                callbacks=[JsonLines(self.folder / "metrics.jsonl", "grpo")],
            )
            with masked_positions_skipped():
                trainer.train()
        self._save("adapter")

    def report(self) -> None:
        """report.json, report.html, and the short of it in the terminal."""
        if not self.state.is_main_process:
            return
        document = assemble(self.folder, self.recipe, self.sources, self.templates, self.questions, self.seconds)
        page = write_report(self.folder)
        print(terminal_summary(document))
        print(f"report: {page}")

    def _render(self, question: Question) -> prompts.Messages:
        return self.templates[question.task].render(question)

    def _config(self, kind: type, section: str, hardware: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
        return checked_config(kind, section, {**hardware, **getattr(self.recipe, section)}, fixed)

    def _save(self, name: str) -> None:
        if self.state.is_main_process:
            policy.save_adapter(self.model, self.folder / name, self.recipe.model, self.base_hash)
        self.state.wait_for_everyone()

    def _warn_of_overconfidence(self) -> None:
        proper = [name for name, entry in self.layer.verifiers.items() if entry.verifier.proper]
        if proper and self.grpo_config.scale_rewards in (True, "group"):
            log.warning(
                "%s: scaling by the group's deviation makes stated probabilities over-confident "
                "(arXiv:2508.11800); set grpo.scale_rewards=none",
                ", ".join(proper),
            )

    def _check_lengths(self) -> None:
        """Refuse prompts that leave no room for the completion, and control tokens inside them."""
        limit = getattr(self.model.config, "max_position_embeddings", None) or 10**9
        if self.recipe.vllm.enabled and self.grpo_config.vllm_max_model_length:
            limit = min(limit, self.grpo_config.vllm_max_model_length)
        room = limit - self.grpo_config.max_completion_length
        special = set(self.tokenizer.all_special_tokens)
        for question in [*self.train, *self.held_out]:
            messages = self._render(question)
            text = "\n".join(message["content"] for message in messages)
            if found := next((token for token in special if token in text), None):
                raise Error(f"question {question.id}: its prompt contains the control token {found!r}; clean the data")
            length = len(text) if len(text) <= room else self._token_count(messages)
            if length > room:
                raise Error(
                    f"question {question.id}: prompt of {length} tokens, but only {room} fit beside "
                    f"{self.grpo_config.max_completion_length} of completion; shorten the evidence or the completion"
                )

    def _token_count(self, messages: prompts.Messages) -> int:
        ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return len(ids)

    def _check_batch(self) -> None:
        """TRL drops what does not fill a generation batch: too few questions would train on nothing."""
        needed = self.grpo_config.generation_batch_size // self.grpo_config.num_generations
        if len(self.train) < needed:
            raise Error(
                f"{len(self.train)} training questions do not fill one generation batch of {needed}; "
                "lower grpo.generation_batch_size or raise grpo.num_generations"
            )

    def _open_folder(self) -> None:
        """A fresh folder; a finished run of the same name is moved aside, never overwritten."""
        if self.folder.exists():
            number = next(n for n in range(1, 10**6) if not Path(f"{self.folder}-{n}").exists())
            self.folder.rename(f"{self.folder}-{number}")
            log.warning("%s exists: moved to %s-%d", self.folder, self.folder, number)
        self.folder.mkdir(parents=True)
        write_atomically(self.folder / "recipe.yaml", yaml.safe_dump(self.recipe.to_dict(), sort_keys=False).encode())
        write_atomically(
            self.folder / "versions.json",
            json.dumps({**versions(), "world_size": self.state.num_processes}, indent=2).encode(),
        )

    @contextmanager
    def _timed(self, name: str) -> Any:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 1)


class JsonLines(TrainerCallback):  # type: ignore[misc]
    """Appends every log of a trainer to metrics.jsonl, on the main process."""

    def __init__(self, path: Path, phase: str) -> None:
        self.path, self.phase = path, phase

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero and logs:
            line = json.dumps({"phase": self.phase, "step": state.global_step, "time": time.time(), **logs})
            with self.path.open("a", encoding="utf-8") as out:
                out.write(line + "\n")
                out.flush()
                os.fsync(out.fileno())
