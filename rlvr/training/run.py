"""What train.py calls: a Run, from recipe to report, one step after the other.

    run = Run(recipe); run.evaluate("before"); run.warm_start(); run.grpo(); run.evaluate("after"); run.report()

Everything that can be refused is refused in `Run(...)`, before anything is spent. A run that was killed goes on with
the same command: what a stage has finished is not done again, and training starts from its newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig, SFTConfig

from rlvr import policy, prompts
from rlvr.evaluation.measure import measure
from rlvr.evaluation.report import terminal_summary, write_report
from rlvr.evaluation.results import assemble
from rlvr.evaluation.subject import trained
from rlvr.loading import gather, reward_layer, select, templates
from rlvr.questions.splits import refuse_leak
from rlvr.recipe import Recipe
from rlvr.training.learning import grpo_options, grpo_rows, pooled, warm_start_rows
from rlvr.training.trainer import Trainer
from rlvr.training.trainer.config import checked_config
from rlvr.training.trainer.folder import open_folder
from rlvr.training.trainer.jsonlines import JsonLines
from rlvr.training.trainer.patches import masked_positions_skipped, refuse_engine
from rlvr.training.trainer.resume import load_weights
from rlvr.training.trainer.state import read_states, write_states
from rlvr.training.trainer.warm_start import WarmStart
from rlvr.training.watch.callbacks import Watcher, one_line_a_step
from rlvr.training.watch.trackers import refuse_tracker
from rlvr.types import Error, Question

log = logging.getLogger(__name__)

UNRESUMABLE = {"save_only_model", "ignore_data_skip", "enable_jit_checkpoint"}


class Run:
    """One training run in one folder."""

    def __init__(self, recipe: Recipe) -> None:
        cpu = not torch.cuda.is_available()
        self.recipe = recipe
        refuse_tracker(recipe.report_to)
        # TRL's own group of processes would come too late to set how long one rank waits for another.
        self.state = PartialState(cpu=cpu, timeout=timedelta(seconds=recipe.grpo.get("ddp_timeout", 1800)))
        if cpu:  # accelerate launch hands each process one thread, whatever the machine has
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            torch.set_num_threads(max(1, cores // self.state.num_processes))
        self.folder = Path(recipe.output_dir)
        self.stopwatch = Stopwatch()
        common = {"seed": recipe.seed, "report_to": recipe.report_to, "logging_nan_inf_filter": False}
        hardware = {"use_cpu": True, "bf16": False} if cpu else {}
        self.sft: SFTConfig | None = None
        if recipe.sft:
            self.sft = self._config(
                SFTConfig, "sft", hardware, {**common, "output_dir": str(self.folder / "warm_start")}
            )
        fixed = {**common, "output_dir": str(self.folder / "checkpoints"), "use_vllm": recipe.vllm.enabled}
        fixed |= grpo_options(recipe.learning)
        self.grpo_config: GRPOConfig = self._config(GRPOConfig, "grpo", hardware, fixed)
        refuse_engine(recipe.vllm, self.grpo_config)

        with self.stopwatch.timed("data"):
            self.sources, self.questions = gather(recipe)
        self.train = [q for q in self.questions if q.split == "train"]
        self.asked = pooled(self.train, recipe.learning)  # by GRPO
        self.held_out = select(self.questions, recipe.evaluation)
        self.templates = templates(recipe, {question.task for question in self.questions})
        self.layer = reward_layer(recipe, self.templates)
        critic = recipe.learning.critic
        if critic is not None and critic not in self.layer.verifiers:
            raise Error(f"learning.critic {critic!r} is none of the verifiers: {', '.join(self.layer.verifiers)}")
        self.grpo_config.reward_weights = self.layer.weights()
        self._warn_of_overconfidence()
        test = [q for q in self.questions if q.split == "test"]  # will be measured, at the end
        refuse_leak(self.train, [*self.held_out, *test], recipe.allow_leak)

        with self.stopwatch.timed("model"):
            base, self.tokenizer = policy.load_base(recipe.model)
            self.base_hash = policy.fingerprint(base)
            set_seed(recipe.seed)
            self.model = policy.add_lora(base, recipe.lora)
        self._check_lengths()
        self._check_batch()
        control = self.tokenizer.all_special_tokens
        judge = None if critic is None else self.layer.verifiers[critic].verifier
        self.imitated = (
            warm_start_rows(self.train, self.templates, recipe.learning, control, recipe.seed, judge)
            if self.sft
            else []
        )
        if self.state.is_main_process:
            self.lock = open_folder(self.folder, recipe.to_dict(), self._made_of())
        self.state.wait_for_everyone()
        self._kept = self.folder / f"stages_rank{self.state.process_index}.json"
        if self._kept.is_file():
            read_states(self._kept, {"rewards": self.layer, "seconds": self.stopwatch})

    def evaluate(self, stage: str) -> None:
        """Ask the held-out questions; skipped when the recipe does not list the stage."""
        if stage not in self.recipe.evaluation.stages:
            return
        if (self.folder / "evaluations" / f"{stage}.parquet").is_file():  # by a start before this one
            return
        with self.stopwatch.timed(f"evaluate {stage}"):
            who = trained(self.model, self.tokenizer, self.recipe, self.base_hash)
            measure(who, self.held_out, self.templates, self.layer, self.recipe, stage, self.folder)
        self._finished()

    def warm_start(self) -> None:
        """A short supervised phase on rationales written from training evidence, on the run's one LoRA."""
        if self.sft is None or self._resumed("warm_start/adapter"):
            return
        with self.stopwatch.timed("warm start"):
            trainer = WarmStart(
                model=self.model,
                args=self.sft,
                train_dataset=Dataset.from_list(self.imitated),
                processing_class=self.tokenizer,
                callbacks=[JsonLines(self.folder / "metrics.jsonl", "warm_start")],
            )
            if self.recipe.learning.answer_weight != 1.0:
                closed = [template.slot_words for template in self.templates.values() if template.slot_words]
                slots = [policy.AnswerSlot(self.tokenizer, words) for words in closed]
                trainer.weigh(self.recipe.learning.answer_weight, {token for slot in slots for token in slot.words})
            trainer.keep("seconds", self.stopwatch)
            one_line_a_step(trainer)
            with masked_positions_skipped():
                trainer.train()
        self._save("warm_start/adapter")

    def grpo(self) -> None:
        """GRPO on the same LoRA: sample groups, verify, update."""
        if self._resumed("adapter"):
            return
        if self.grpo_config.max_steps == 0:  # the warm start is all that was asked for
            return self._save("adapter")
        rows = grpo_rows(self.asked, self.recipe.learning, self.grpo_config, self._render)
        truths = {q.id: str(q.truth["answer"]) for q in self.train if self.templates[q.task].slot_words}
        watcher = Watcher(self.recipe, self.folder, truths)
        with self.stopwatch.timed("grpo"):
            trainer = Trainer(
                self.recipe,
                self.layer,
                self.folder / "rollouts",
                model=self.model,
                args=self.grpo_config,
                train_dataset=Dataset.from_list(rows),
                processing_class=self.tokenizer,
                callbacks=[JsonLines(self.folder / "metrics.jsonl", "grpo"), watcher],
            )
            trainer.keep("seconds", self.stopwatch)
            one_line_a_step(trainer)
            with masked_positions_skipped():
                trainer.train()
        watcher.refuse_to_go_on()
        self._save("adapter")

    def report(self) -> None:
        """report.json, report.html, and the short of it in the terminal."""
        if not self.state.is_main_process:
            return
        document = assemble(
            self.folder, self.recipe, self.sources, self.templates, self.questions, self.stopwatch.state()
        )
        page = write_report(self.folder)
        print(terminal_summary(document))
        print(f"report: {page}")

    def _render(self, question: Question) -> prompts.Messages:
        return self.templates[question.task].render(question)

    def _config(self, kind: type, section: str, hardware: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
        options = {"save_total_limit": 2, **hardware, **getattr(self.recipe, section)}
        for key in UNRESUMABLE & options.keys():
            if options[key]:
                raise Error(f"recipe: {section}.{key} makes checkpoints that no run can go on from; remove it")
        return checked_config(kind, section, options, fixed)

    def _save(self, name: str) -> None:
        self._finished()  # first: once the adapter is there, nothing else brings the counts back
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
        if len(self.asked) < needed:
            raise Error(
                f"{len(self.asked)} training questions do not fill one generation batch of {needed}; "
                "lower grpo.generation_batch_size or raise grpo.num_generations"
            )

    def _made_of(self) -> dict[str, Any]:
        """What a run that goes on must share with its beginning, beside the recipe."""
        asked = [*(template.digest for template in self.templates.values()), *(q.to_json() for q in self.questions)]
        return {
            "world_size": self.state.num_processes,
            "base_sha256": self.base_hash,
            "questions_sha256": sha256("\n".join(asked).encode()).hexdigest(),
        }

    def _finished(self) -> None:
        """After a stage, keep what outlives it: the counts of the verifiers, and the time that was spent."""
        write_states(self._kept, {"rewards": self.layer, "seconds": self.stopwatch})
        self.state.wait_for_everyone()

    def _resumed(self, name: str) -> bool:
        """Whether an earlier start has finished this adapter, which is then the model's."""
        if not (self.folder / name).is_dir():
            return False
        load_weights(self.model, self.folder / name)
        return True


class Stopwatch:
    """Seconds of each stage, over all starts of a run; what ran after the last checkpoint before a kill is lost."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}  # stages that are running
        self._spent: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        self._since[stage] = time.perf_counter() - self._spent.get(stage, 0.0)
        yield
        self._spent[stage] = round(time.perf_counter() - self._since.pop(stage), 1)

    def state(self) -> dict[str, float]:
        now = time.perf_counter()
        return self._spent | {stage: round(now - since, 1) for stage, since in self._since.items()}

    def restore(self, state: Mapping[str, float]) -> None:
        now = time.perf_counter()
        self._spent |= state
        self._since |= {stage: now - state[stage] for stage in self._since.keys() & state.keys()}
